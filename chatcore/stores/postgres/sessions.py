"""Sessions and their turns in PostgreSQL: every message with its text; what is erased stays so."""

from collections.abc import Awaitable
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from chatcore.analytics import bucket_of
from chatcore.archive import Deed
from chatcore.model import Actor, Outcome, Turn
from chatcore.ports import Clock, ReplyRecord
from chatcore.stores.postgres.certainty import certainly
from chatcore.stores.postgres.database import Database
from chatcore.stores.postgres.entries import Closed
from chatcore.stores.postgres.erased import Erased
from chatcore.stores.postgres.statements import statement
from chatcore.stores.postgres.turns import Turns, storable
from chatcore.stores.postgres.writer import Writer
from chatcore.wire.encode_document import join_text

_ALL = 1 << 40

ERASE = ("erase_lock", "erase_bury", "erase_messages", "erase_turns", "erase_session")
"""The statements that erase a session, in this order, in one transaction."""


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
                text=storable(join_text(reply.read(0, _ALL))),
            )
        )
        return certainly(self._writer.saved())

    async def erase(self, session_id: str, by: Actor) -> None:
        """Delete all of the session but an entry of the audit log, and bury it. Raises `StoreUnavailableError`."""
        async with self._erased.erasing(session_id), self._database.transaction() as connection:
            for name in ERASE:
                await connection.execute(statement(name), {"id": session_id})
            deed = Deed(actor=by.name, action="session_erased", session_id=session_id, address=by.address)
            await self._audit.add(connection, deed)

    async def is_erased(self, session_id: str) -> bool:
        """Tell whether the session was erased; nearly always without asking the database."""
        return await self._erased.holds(session_id)
