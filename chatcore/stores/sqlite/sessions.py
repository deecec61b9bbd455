"""Sessions and their turns in the file: counted, never what was said."""

import hashlib
import sqlite3
from collections.abc import Awaitable
from functools import lru_cache

from chatcore import keyed
from chatcore.analytics import NOWHERE
from chatcore.model import Actor, Outcome, Turn
from chatcore.ports import Clock, ReplyRecord, StoreUnavailableError
from chatcore.stores.seen import Seen
from chatcore.stores.sqlite.connection import Connection
from chatcore.stores.sqlite.entries import Closed, Erased, Opened
from chatcore.stores.sqlite.questions import is_erased
from chatcore.stores.sqlite.writer import Writer

DIGEST_BYTES = 16
_READ_OF_USER_AGENT = 512
_CACHED_BROWSERS = 256
_LONGEST_NAME = 512


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
        self._client = lru_cache(_CACHED_BROWSERS)(_client_of)

    def open_turn(self, turn: Turn) -> Awaitable[None] | None:
        """Record that a message was accepted; nobody waits for that, since the end of the turn is written after it."""
        self._writer.put(
            Opened(
                key=turn.key,
                bot=turn.bot,
                at=turn.received_at,
                digest=digest(turn.text, self._key),
                origin=(turn.origin or NOWHERE)[:_LONGEST_NAME],
                page=(turn.page_url or NOWHERE)[:_LONGEST_NAME],
                client=self._client(turn.user_agent[:_READ_OF_USER_AGENT]),
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


def digest(text: str, key: bytes) -> bytes:
    """Give a keyed hash of a message's text, which tells a retry from another message and nothing else."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=DIGEST_BYTES).digest()


def _client_of(user_agent: str) -> str:
    return " ".join(keyed.browser(user_agent))
