"""Which sessions were erased, known to every instance within moments: by word of the others, and by looking."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from chatcore.ports import Clock, StoreUnavailableError
from chatcore.stores.postgres.database import Database
from chatcore.stores.seen import Seen

_BITS = 1 << 20
_AT_ONCE = 5_000
_MOST_BURIED = 20_000
_LOOK_SECONDS = 1.0
_OVERLAP_SECONDS = 30.0
"""Transactions become visible in another order than their times say; so far back is looked again."""

SINCE = text(
    "SELECT session_id, erased_at FROM chatcore.erased WHERE (erased_at, session_id) > (:at, :id) "
    "ORDER BY erased_at, session_id LIMIT :most"
)
IS_ERASED = text("SELECT EXISTS (SELECT FROM chatcore.erased WHERE session_id = :id)")


async def _nobody_asked(session_id: str) -> None:
    """Do nothing."""


class Erased:
    """A filter says "no" for nearly every session; who may have been erased is looked up.

    `drop` is called with a session that was erased elsewhere, while replies of it may be kept.
    """

    def __init__(
        self, database: Database, clock: Clock, is_away: Callable[[], bool], kept_seconds: float = 0.0
    ) -> None:
        """`is_away`: whether the database is known not to answer, so that nobody waits to learn it again.

        `kept_seconds`: how long replies are kept.
        """
        self.drop: Callable[[str], Awaitable[None]] = _nobody_asked
        self._database = database
        self._clock = clock
        self._is_away = is_away
        self._kept_seconds = kept_seconds
        self._seen = Seen(_BITS, float("inf"))
        self._look_at = 0.0
        self._since = datetime.fromtimestamp(0, UTC)
        self._looking: asyncio.Task[None] | None = None
        self._dying: dict[str, int] = {}
        self._buried: OrderedDict[str, None] = OrderedDict()

    @contextlib.asynccontextmanager
    async def erasing(self, session_id: str) -> AsyncIterator[None]:
        """Hold a session for dead while it is being erased here; afterwards it is, unless that failed."""
        self._dying[session_id] = self._dying.get(session_id, 0) + 1
        try:
            yield
            self._bury(session_id)
        finally:
            self._dying[session_id] -= 1
            if not self._dying[session_id]:
                del self._dying[session_id]

    @property
    def looking(self) -> bool:
        """Whether it looks right now."""
        return self._looking is not None and not self._looking.done()

    def add(self, session_id: str) -> None:
        """Hear that a session may have been erased."""
        self._seen.add(session_id)

    async def holds(self, session_id: str) -> bool:
        """Tell whether the session was erased, as far as that can be told."""
        if session_id in self._dying:
            return True
        if not self._seen.perhaps(session_id):
            return False
        if not self._is_away():
            with contextlib.suppress(StoreUnavailableError):
                ((known,),) = await self._database.rows(IS_ERASED, {"id": session_id})
                return bool(known)
        # Chat goes on while the database is away; what is written for a dead session is dropped later.
        return session_id in self._buried

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds): look for what other instances and commands erased."""
        if now >= self._look_at and not self.looking:
            self._look_at = now + _LOOK_SECONDS
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    def _bury(self, session_id: str) -> None:
        """Remember for certain what the database has said; the latest ones, for when it is away."""
        self._seen.add(session_id)
        self._buried[session_id] = None
        if len(self._buried) > _MOST_BURIED:
            self._buried.popitem(last=False)

    async def _look(self) -> None:
        at, last = self._since, ""
        news: list[str] = []
        kept_since = self._clock.now() - self._kept_seconds - _OVERLAP_SECONDS
        try:
            while True:
                rows: Sequence[Any] = await self._database.rows(SINCE, {"at": at, "id": last, "most": _AT_ONCE})
                for session_id, erased_at in rows:
                    if session_id not in self._buried and erased_at.timestamp() > kept_since:
                        news.append(session_id)
                    self._bury(session_id)
                    at, last = erased_at, session_id
                if len(rows) < _AT_ONCE:
                    break
        except StoreUnavailableError:
            pass  # the writer tells of it
        else:
            newest = at.timestamp() - _OVERLAP_SECONDS
            self._since = max(self._since, datetime.fromtimestamp(max(newest, 0.0), UTC))
            self._seen.complete = True
        for session_id in news:
            await self.drop(session_id)
