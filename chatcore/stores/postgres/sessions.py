"""Sessions and their turns in PostgreSQL: every message with its text; what is erased stays so."""

from collections.abc import Awaitable
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chatcore.analytics import bucket_of
from chatcore.archive import Deed
from chatcore.model import Actor, Outcome, Turn
from chatcore.ports import Clock, ReplyRecord
from chatcore.stores.postgres.certainty import certainly
from chatcore.stores.postgres.database import Database
from chatcore.stores.postgres.entries import Closed
from chatcore.stores.postgres.erased import Erased
from chatcore.stores.postgres.turns import Turns, storable
from chatcore.stores.postgres.writer import Writer

_ALL = 1 << 40

# The session's row is locked before anything else, made where there is none: whoever writes for it holds the same lock,
# and asks afterwards whether the session was erased (migrations/0001_record.sql).
LOCK = text("""
INSERT INTO chatcore.sessions AS x (id, bot, created_at, seen_at, origin, page, client)
VALUES (:id, '', now(), now(), '', '', '')
ON CONFLICT (id) DO UPDATE SET seen_at = x.seen_at
""")
# By the database's clock: every instance looks for what was buried since it looked last, and clocks differ.
BURY = text(
    "INSERT INTO chatcore.erased (session_id, erased_at) VALUES (:id, clock_timestamp()) ON CONFLICT DO NOTHING"
)
DELETE = tuple(
    text(f"DELETE FROM chatcore.{table} WHERE {column} = :id")  # noqa: S608 - names of ours
    for table, column in (("messages", "session_id"), ("turns", "session_id"), ("sessions", "id"))
)


class _Audit(Protocol):
    async def add(self, connection: AsyncConnection, deed: Deed) -> None: ...


class PostgresSessions:
    """Implements `ports.SessionStore`."""

    def __init__(
        self, database: Database, writer: Writer, turns: Turns, erased: Erased, audit: _Audit, clock: Clock
    ) -> None:
        self._database = database
        self._writer = writer
        self._turns = turns
        self._erased = erased
        self._audit = audit
        self._clock = clock

    def open_turn(self, turn: Turn) -> Awaitable[object] | None:
        """Record that a message was accepted; nobody waits for that, since the end of the turn is written after it."""
        opened = self._turns.opening(turn)
        if opened is not None:
            self._writer.put(opened)
        return None

    def close_turn(self, turn: Turn, outcome: Outcome, reply: ReplyRecord) -> Awaitable[object] | None:
        """Record how the turn ended and what the reply says; resolves when that is in PostgreSQL or the journal.

        Raises `StoreUnavailableError` where neither could be written; it is tried again, but nobody can be sure of it.
        """
        self._writer.put(
            Closed(
                session_id=turn.session_id,
                message_id=turn.message_id,
                finish_reason=outcome.finish_reason,
                error_code=None if outcome.refusal is None else outcome.refusal.kind.code,
                duration_ms=outcome.duration_ms,
                bucket=bucket_of(outcome.duration_ms),
                at_us=round(self._clock.now() * 1_000_000),
                text=_text_of(reply),
            )
        )
        return certainly(self._writer.saved())

    async def erase(self, session_id: str, by: Actor) -> None:
        """Delete all of the session but an entry of the audit log, and bury it. Raises `StoreUnavailableError`."""
        async with self._erased.erasing(session_id), self._database.transaction() as connection:
            for statement in (LOCK, BURY, *DELETE):
                await connection.execute(statement, {"id": session_id})
            deed = Deed(actor=by.name, action="session_erased", session_id=session_id, address=by.address)
            await self._audit.add(connection, deed)

    async def is_erased(self, session_id: str) -> bool:
        """Tell whether the session was erased; nearly always without asking the database."""
        return await self._erased.holds(session_id)


def _text_of(reply: ReplyRecord) -> str:
    """Give a reply's text; a new segment of it begins after a blank line."""
    pieces: list[str] = []
    for delta in reply.read(0, _ALL):
        if delta.opens_segment and pieces:
            pieces.append("\n\n")
        pieces.append(delta.content)
    return storable("".join(pieces))
