"""Replies in memory, and in the file for a day which message ids were used: no restart answers a message twice."""

import sqlite3
from collections import OrderedDict

from chatcore.errors import MESSAGE_ID_REUSED, REPLY_GONE, Refusal
from chatcore.model import Turn, TurnKey
from chatcore.ports import Clock, StoreUnavailableError
from chatcore.stores.replies_memory import MemoryRecord, MemoryReplies
from chatcore.stores.seen import Seen
from chatcore.stores.sqlite.connection import Connection
from chatcore.stores.sqlite.entries import KEPT_TURN_SECONDS, Released
from chatcore.stores.sqlite.questions import digest_of
from chatcore.stores.sqlite.writer import Writer
from chatcore.stores.turn_facts import digest

MOST_FREED = 10_000
"""Released ids of which memory knows that they are free; the file learns it a moment later."""


class SqliteReplies:
    """Implements `ports.ReplyLog` over the replies in memory."""

    def __init__(self, memory: MemoryReplies, writer: Writer, used: Seen, digest_key: bytes, clock: Clock) -> None:
        """`used` remembers the keys of all messages of a day."""
        self.reader: Connection | None = None
        self._memory = memory
        self._writer = writer
        self._used = used
        self._key = digest_key
        self._clock = clock
        self._freed: OrderedDict[TurnKey, None] = OrderedDict()

    @property
    def freed(self) -> int:
        """How many released ids are free for certain, whatever the file still says."""
        return len(self._freed)

    async def claim(self, turn: Turn) -> MemoryRecord | None:
        """Make a record for `turn`, or None where its key is taken. Raises `Refusal` where it was, and is gone."""
        if self._used.perhaps(turn.key) and await self._memory.find(turn.key) is None:
            await self._refuse_used(turn.key, turn.text)
        record = await self._memory.claim(turn)
        if record is not None:
            self._used.add(turn.key)
            self._freed.pop(turn.key, None)
        return record

    async def find(self, key: TurnKey, text: str | None = None) -> MemoryRecord | None:
        """Give the record of `key`. Raises `Refusal` for a message (`text`) that was answered and is not kept."""
        record = await self._memory.find(key, text)
        if record is None and text is not None and self._used.perhaps(key):
            await self._refuse_used(key, text)
        return record

    async def drop(self, key: TurnKey | str) -> None:
        """Forget a reply, and that its message came; or all replies of a session."""
        await self._memory.drop(key)
        if not isinstance(key, str):
            self._writer.put(Released(key))
            self._freed[key] = None
            if len(self._freed) > MOST_FREED:
                self._freed.popitem(last=False)

    def sweep(self, now: float) -> None:
        """Forget what was kept long enough."""
        self._memory.sweep(now)

    async def _refuse_used(self, key: TurnKey, text: str) -> None:
        if self.reader is None or key in self._freed:
            return
        try:
            known = await self.reader.run(digest_of, key, self._clock.now() - KEPT_TURN_SECONDS)
        except sqlite3.Error as error:
            raise StoreUnavailableError from error
        if known is not None and await self._memory.find(key) is None:
            raise Refusal(REPLY_GONE if known == digest(text, self._key) else MESSAGE_ID_REUSED)
