"""What PostgreSQL knows of a turn: asked in groups, so that many messages at once cost one statement."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import text

from chatcore.analytics import NOWHERE
from chatcore.model import Turn, TurnKey
from chatcore.ports import StoreUnavailableError
from chatcore.stores.postgres.database import Database
from chatcore.stores.postgres.entries import Opened, Released
from chatcore.stores.postgres.writer import Writer
from chatcore.stores.turn_facts import LONGEST_NAME, client_of, digest

MOST_ASKED = 20_000
_AT_ONCE = 500
KNOWN = text("""
SELECT k.session_id, k.message_id::text, k.state, encode(k.digest, 'hex'), k.error_code, k.duration_ms,
    chatcore.microseconds(k.accepted_at), r.content
FROM jsonb_to_recordset(CAST(:keys AS jsonb)) AS g(s text, m uuid)
JOIN chatcore.turns AS k ON k.session_id = g.s AND k.message_id = g.m
LEFT JOIN chatcore.messages AS r
    ON r.session_id = k.session_id AND r.accepted_at = k.accepted_at AND r.message_id = k.message_id AND r.role = 1
""")


class KnownTurn(msgspec.Struct, frozen=True):
    """One turn as it stands: `state` as in the table, `text` what the reply says where there is one."""

    state: str
    digest: str
    error_code: str | None
    duration_ms: int | None
    accepted_us: int
    text: str | None


class Turns:
    """Asks for turns, and claims them where nothing quicker can."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        digest_key: bytes,
        *,
        strict: bool = False,
        left: Mapping[TurnKey, str] | None = None,
    ) -> None:
        """`digest_key` is secret; `strict` as `PERSIST_STRICT`; `left` as `Journal.left`, which changes."""
        self._left = {} if left is None else left
        self._strict = strict
        self._claimed: set[TurnKey] = set()
        self._database = database
        self._writer = writer
        self._key = digest_key
        self._asked: dict[TurnKey, asyncio.Future[KnownTurn | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    def digest(self, said: str) -> str:
        """Give a keyed hash of a message's text, which tells a retry from another message and nothing else."""
        return digest(said, self._key).hex()

    async def known(self, key: TurnKey) -> KnownTurn | None:
        """Give the turn of `key`, None where there is none. Raises `StoreUnavailableError`, at once in an outage."""
        if self._writer.unreadable:
            if key in self._left:
                return self._cut(key)
            raise StoreUnavailableError
        asked = self._asked.get(key)
        if asked is None:
            if len(self._asked) >= MOST_ASKED:
                raise StoreUnavailableError
            asked = self._asked[key] = asyncio.get_running_loop().create_future()
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_task(self._ask_all())
        known = await asyncio.shield(asked)
        return self._cut(key) if known is None and key in self._left else known

    def _cut(self, key: TurnKey) -> KnownTurn:
        """Give a turn that only the journal knows: it is not run again, whatever came of it."""
        return KnownTurn("cut", self._left[key], "reply_gone", None, 0, None)

    def opening(self, turn: Turn) -> Opened | None:
        """Give the opening to write for a turn; None where `claim` has written it."""
        if turn.key in self._claimed:
            self._claimed.discard(turn.key)
            return None
        return self._opened(turn)

    async def claim(self, turn: Turn) -> bool:
        """Write the opening row now; false where somebody else has the key.

        While PostgreSQL is away the journal takes it, unless nothing may be answered unrecorded (`PERSIST_STRICT`).
        Raises `StoreUnavailableError`.
        """
        if self._strict and self._writer.journaling:
            raise StoreUnavailableError
        how = await self._writer.claim(self._opened(turn))
        if how == "taken":
            return False
        if how == "journaled" and self._strict:
            self._writer.put(Released(session_id=turn.session_id, message_id=turn.message_id))
            raise StoreUnavailableError
        if len(self._claimed) >= MOST_ASKED:
            self._claimed.clear()  # their openings are written again, which changes nothing
        self._claimed.add(turn.key)
        return True

    def _opened(self, turn: Turn) -> Opened:
        user = turn.user
        return Opened(
            session_id=turn.session_id,
            message_id=turn.message_id,
            bot=turn.bot,
            digest=self.digest(turn.text),
            at_us=round(turn.received_at * 1_000_000),
            text=storable(turn.text),
            origin=storable(turn.origin or NOWHERE)[:LONGEST_NAME],
            page=storable(turn.page_url or NOWHERE)[:LONGEST_NAME],
            client=client_of(turn.user_agent),
            user=None if user is None else storable(user.sub)[:LONGEST_NAME],
        )

    async def _ask_all(self) -> None:
        """Ask until nobody waits; what comes meanwhile shares the next statement."""
        await asyncio.sleep(0)
        while self._asked:
            keys = list(self._asked)[:_AT_ONCE]
            waiting = {key: self._asked.pop(key) for key in keys}
            try:
                found = await self._rows(keys)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told to those who wait
                for future in waiting.values():
                    future.set_exception(error)
                    future.exception()  # nobody may wait any more
                continue
            for key, future in waiting.items():
                future.set_result(found.get(key))
        self._asking = None  # in the step that found nobody waiting: else somebody might wait for a task that has ended

    async def _rows(self, keys: Sequence[TurnKey]) -> dict[TurnKey, KnownTurn]:
        listed = msgspec.json.encode([{"s": session, "m": message} for session, message in keys]).decode()
        rows: Sequence[Any] = await self._database.rows(KNOWN, {"keys": listed})
        return {(row[0], row[1]): KnownTurn(*row[2:]) for row in rows}


def storable(said: str) -> str:
    """Give a text as PostgreSQL can keep it: no NUL, no half of a surrogate pair."""
    if said.isascii() and "\0" not in said:
        return said
    return said.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
