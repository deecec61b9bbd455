"""Sessions and their turns in the file: counted, never what was said."""

import sqlite3
from collections.abc import Awaitable

from chatcore.analytics import NOWHERE
from chatcore.model import Actor, Outcome, Turn
from chatcore.ports import Clock, ReplyRecord, StoreUnavailableError
from chatcore.stores.seen import Seen
from chatcore.stores.sqlite.connection import Connection
from chatcore.stores.sqlite.entries import Closed, Erased, Opened
from chatcore.stores.sqlite.questions import is_erased
from chatcore.stores.sqlite.writer import Writer
from chatcore.stores.turn_facts import LONGEST_NAME, client_of, digest


class SqliteSessions:
    """Implements `ports.SessionStore`."""

    def __init__(self, writer: Writer, erased: Seen, digest_key: bytes, clock: Clock) -> None:
        """`erased` remembers all sessions that ever were erased; `digest_key` is secret."""
        self.reader: Connection | None = None
        self._writer = writer
        self._erased = erased
        self._erasing: set[str] = set()
        self._key = digest_key
        self._clock = clock

    def open_turn(self, turn: Turn) -> Awaitable[None] | None:
        """Record that a message was accepted; nobody waits for that, since the end of the turn is written after it."""
        self._writer.put(
            Opened(
                key=turn.key,
                bot=turn.bot,
                at=turn.received_at,
                digest=digest(turn.text, self._key),
                origin=(turn.origin or NOWHERE)[:LONGEST_NAME],
                page=(turn.page_url or NOWHERE)[:LONGEST_NAME],
                client=client_of(turn.user_agent),
            )
        )
        return None

    def close_turn(self, turn: Turn, outcome: Outcome, reply: ReplyRecord) -> Awaitable[object] | None:  # noqa: ARG002 - the port's signature
        """Record how the turn ended; resolves when that is in the file."""
        self._writer.put(Closed(turn.key, turn.bot, turn.received_at, outcome.finish_reason, outcome.duration_ms))
        return self._writer.saved()

    async def erase(self, session_id: str, by: Actor) -> None:  # noqa: ARG002 - the port's signature
        """Delete what is kept of the session and bury it. Raises `StoreUnavailableError` while that has to wait."""
        if self._writer.full:
            raise StoreUnavailableError
        self._erasing.add(session_id)
        self._erased.add(session_id)
        self._writer.put(Erased(session_id, self._clock.now()))
        await self._writer.certainly_saved()
        self._erasing.discard(session_id)

    async def is_erased(self, session_id: str) -> bool:
        """Tell whether the session was erased; nearly always without asking the file."""
        if session_id in self._erasing:
            return True
        if not self._erased.perhaps(session_id) or self.reader is None:
            return False
        try:
            return await self.reader.run(is_erased, session_id)
        except sqlite3.Error as error:
            raise StoreUnavailableError from error
