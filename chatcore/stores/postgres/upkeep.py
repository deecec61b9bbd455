"""What a server does beside serving: marks turns whose instance died, and has the database cleaned, one at a time."""

import asyncio
import contextlib
import threading

import psycopg
from sqlalchemy import text

from chatcore.happenings import Crashed, Observe, StoreChanged
from chatcore.ports import Clock, StoreFaultError, StoreUnavailableError
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres.database import Database
from chatcore.stores.postgres.retention import Cleaned, clean_up

_CUT_EVERY_SECONDS = 60.0
_CUT_SLACK_SECONDS = 300.0
_LOOK_BACK_SECONDS = 7 * 86400.0
_LOOK_BACK_SHORT_SECONDS = 7200.0
_MOST_CUT = 5_000
_FIRST_SECONDS = 30.0
_AGAIN_SECONDS = 600.0
_HOUR_SECONDS = 3600.0
# Turns that nobody can be running any more. What the journal of their instance still says of them counts when it comes.
# Sessions are locked first, as everybody who writes for them does (migrations/0001_record.sql).
CUT = text("""
WITH old AS MATERIALIZED (
    SELECT session_id, message_id FROM chatcore.turns
    WHERE accepted_at < chatcore.moment(:before) AND accepted_at > chatcore.moment(:after) AND state = 'open'
    ORDER BY accepted_at LIMIT :most
), locked AS MATERIALIZED (
    SELECT id FROM chatcore.sessions WHERE id = ANY (ARRAY(SELECT session_id FROM old)) ORDER BY id FOR NO KEY UPDATE
), cut AS (
    UPDATE chatcore.turns AS k SET state = 'cut', error_code = 'reply_gone'
    FROM old JOIN locked ON locked.id = old.session_id
    WHERE k.session_id = old.session_id AND k.message_id = old.message_id AND k.state = 'open'
    RETURNING k.session_id, k.bot, k.accepted_at
), counted AS (
    UPDATE chatcore.sessions AS x SET errors = x.errors + n.count
    FROM (SELECT session_id, count(*) FROM cut GROUP BY 1) AS n WHERE x.id = n.session_id
), in_hours AS (
    INSERT INTO chatcore.hours AS h (hour, bot, shard, errors)
    SELECT chatcore.hour_of(accepted_at), bot, -1, count(*) FROM cut GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (hour, bot, shard) DO UPDATE SET errors = h.errors + excluded.errors
)
SELECT count(*) FROM old
""")


class Upkeep:
    """Chores on a timer; whatever fails is tried again."""

    def __init__(
        self, settings: PostgresSettings, database: Database, longest_reply: float, clock: Clock, observe: Observe
    ) -> None:
        """`longest_reply`: how many seconds a reply may take at most."""
        self._settings = settings
        self._database = database
        self._longest_reply = longest_reply
        self._clock = clock
        self._observe = observe
        self._cut_at = 0.0
        self._looked_far_at: float | None = None
        self._clean_at: float | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._stop = threading.Event()
        self._cleaning = False

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds)."""
        loop = asyncio.get_running_loop()
        if now >= self._cut_at and (self._cutting is None or self._cutting.done()):
            self._cut_at = now + _CUT_EVERY_SECONDS
            self._cutting = loop.create_task(self._cut())
        if self._clean_at is None:
            self._clean_at = now + _FIRST_SECONDS
        if now >= self._clean_at and not self._cleaning:
            self._cleaning = True
            self._clean_at = now + _AGAIN_SECONDS
            # A thread that nobody waits for: a database that hangs must not keep the process from ending.
            threading.Thread(target=self._clean, args=(loop, self._clock.now()), daemon=True).start()

    async def close(self) -> None:
        """Stop."""
        self._stop.set()
        if self._cutting is not None:
            self._cutting.cancel()
            await asyncio.wait({self._cutting})

    async def _cut(self) -> None:
        """Mark them; at first and once an hour far back, for what journals brought late."""
        now = self._clock.monotonic()
        far = self._looked_far_at is None or now >= self._looked_far_at + _HOUR_SECONDS
        before = self._clock.now() - self._longest_reply - _CUT_SLACK_SECONDS
        after = before - (_LOOK_BACK_SECONDS if far else _LOOK_BACK_SHORT_SECONDS)
        times = {"before": int(before * 1e6), "after": int(after * 1e6), "most": _MOST_CUT}
        try:
            ((count,),) = await self._database.rows(CUT, times)
            if far and count < _MOST_CUT:
                self._looked_far_at = now
        except StoreUnavailableError:
            return  # the writer tells of it
        except Exception as error:  # noqa: BLE001 - a bug here must not go unseen in a task
            self._observe(Crashed("upkeep", error))

    def _clean(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        result: Cleaned | Exception | None
        try:
            since = now - self._settings.cleanup_interval_hours * _HOUR_SECONDS
            result = clean_up(self._settings, now, unless_since=since, stop=self._stop.is_set)
        except Exception as error:  # noqa: BLE001 - told by the loop, see below
            result = error
        if not self._stop.is_set():
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._cleaned, result)

    def _cleaned(self, result: Cleaned | Exception | None) -> None:
        self._cleaning = False
        if isinstance(result, psycopg.Error | StoreFaultError):
            self._observe(StoreChanged("cleanup_failed", " ".join(str(result).split())[:300]))
        elif isinstance(result, Exception):
            self._observe(Crashed("cleanup", result))
        elif result is not None:
            self._observe(StoreChanged("cleaned", str(result)))
