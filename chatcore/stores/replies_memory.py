"""Replies in the memory of this process: in flight, and kept for a while so that they can be resumed.

Bounds: `reply_max_bytes` of UTF-8 text for one reply; `reply_memory_bytes` for all together, Python's own overhead
counted. When the latter is reached the oldest finished replies go first; when only running ones are left, a new reply
or a growing one is refused with `overloaded`.
"""

import array
import hashlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence

from chatcore.errors import MESSAGE_ID_REUSED, OVERLOADED, REPLY_GONE, REPLY_TOO_LARGE, Refusal
from chatcore.model import Delta, Outcome, Turn, TurnKey
from chatcore.ports import Clock
from chatcore.settings import ReplySettings

RECORD_BYTES = 900
"""What an empty record takes with its keys, its outcome and its places in the maps (measured, CPython 3.11)."""

DELTA_BYTES = 56
"""What a delta takes beside its text: the struct and its place in the list."""

_FIRST_DELTA = 2  # event 1 is the start


class MemoryRecord:
    """One reply. While it runs its deltas are a list; once finished they are one string of bytes and its cuts.

    A single delta stays as it is. Kept replies are many, so each is made of as few objects as possible that a garbage
    collection walks over.
    """

    __slots__ = (
        "_cuts",
        "_deltas",
        "_log",
        "_lost",
        "_packed",
        "_watchers",
        "created",
        "digest",
        "finished_at",
        "forgotten",
        "outcome",
        "size",
        "text_bytes",
        "turn_key",
    )

    def __init__(self, turn_key: TurnKey, digest: bytes, created: float, log: "MemoryReplies") -> None:
        self.turn_key = turn_key
        self.digest = digest
        self.created = created
        self.finished_at = 0.0
        self.outcome: Outcome | None = None
        self.size = RECORD_BYTES
        self.text_bytes = 0
        self.forgotten = False
        self._lost = False
        self._deltas: list[Delta] | tuple[Delta, ...] = []  # a tuple once nothing is added any more
        self._watchers: tuple[Callable[[], None], ...] = ()
        self._packed: bytes | None = None
        self._cuts: array.array[int] | None = None
        self._log = log

    def is_for(self, text: str) -> bool:
        """Tell whether the reply answers `text`."""
        return self.digest == _digest(text)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` after every change."""
        self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Call it no more."""
        self._watchers = tuple(other for other in self._watchers if other != watcher)

    def append(self, deltas: Sequence[Delta]) -> None:
        """Add text; all of `deltas` or, when a bound is reached, nothing."""
        if isinstance(self._deltas, tuple):
            raise Refusal(REPLY_GONE)
        added = text = 0
        for delta in deltas:
            content = delta.content
            added += sys.getsizeof(content) + DELTA_BYTES
            text += len(content) if content.isascii() else len(content.encode())
        if self.text_bytes + text > self._log.reply_max_bytes:
            raise Refusal(REPLY_TOO_LARGE)
        self._log.grow(added)
        self.size += added
        self.text_bytes += text
        self._deltas.extend(deltas)
        for watcher in self._watchers:
            watcher()

    def finish(self, outcome: Outcome) -> None:
        """End the reply and pack its text, which takes a third of the memory and is read rarely from now on."""
        if len(self._deltas) > 1:
            self._pack()
        else:
            self._deltas = tuple(self._deltas)
        self.outcome = outcome
        self._log.finished(self)
        for watcher in self._watchers:
            watcher()

    def read(self, after: int, max_chars: int) -> Sequence[Delta]:
        """Give the deltas behind event `after`."""
        if self._lost:
            raise Refusal(REPLY_GONE)
        start = max(after + 1 - _FIRST_DELTA, 0)
        count = self.count()
        if start >= count:
            return ()
        if self._packed is None and count - start == 1:
            return self._deltas[start:]
        chosen: list[Delta] = []
        length = 0
        while start < count and length < max_chars:
            delta = self._deltas[start] if self._packed is None else self._unpack(start)
            chosen.append(delta)
            length += len(delta.content)
            start += 1
        return chosen

    def count(self) -> int:
        """Tell how many deltas there are."""
        return len(self._deltas) if self._cuts is None else len(self._cuts)

    def discard(self) -> int:
        """Let go of the text; readers who are still here learn that it is gone. Gives the bytes that were freed."""
        self.forgotten = True
        self._lost = self.count() > 0
        self._deltas = ()
        self._packed = self._cuts = None
        freed, self.size = self.size, 0
        for watcher in self._watchers:
            watcher()
        return freed

    def _pack(self) -> None:
        # A number a delta: where its bytes end, and in the last bit whether it opens a segment.
        cuts = array.array("Q")
        pieces: list[bytes] = []
        end = 0
        for delta in self._deltas:
            piece = delta.content.encode()
            pieces.append(piece)
            end += len(piece)
            cuts.append(end << 1 | delta.opens_segment)
        self._packed = b"".join(pieces)
        self._cuts = cuts
        self._deltas = ()
        packed_size = RECORD_BYTES + sys.getsizeof(self._packed) + sys.getsizeof(cuts)
        self._log.shrink(self.size - packed_size)
        self.size = packed_size

    def _unpack(self, index: int) -> Delta:
        packed, cuts = self._packed, self._cuts
        if packed is None or cuts is None:
            return self._deltas[index]
        begin = cuts[index - 1] >> 1 if index else 0
        return Delta(packed[begin : cuts[index] >> 1].decode(), bool(cuts[index] & 1))


class MemoryReplies:
    """All replies of this process, found by session and message id."""

    def __init__(self, settings: ReplySettings, clock: Clock, evicted: Callable[[int], None]) -> None:
        """`evicted` is told how many kept replies had to go before their time."""
        self.reply_max_bytes = settings.reply_max_bytes
        self._memory_bytes = settings.reply_memory_bytes
        self._keep_seconds = settings.reply_keep_seconds
        self._clock = clock
        self._evicted = evicted
        self._sessions: dict[str, dict[str, MemoryRecord]] = {}
        self._finished: OrderedDict[MemoryRecord, None] = OrderedDict()  # oldest first
        self.bytes = 0

    async def claim(self, turn: Turn) -> MemoryRecord | None:
        """Make a record for `turn`, or None where its key is taken."""
        session_id, message_id = turn.key
        replies = self._sessions.get(session_id)
        if replies is not None and message_id in replies:
            return None
        record = MemoryRecord(turn.key, _digest(turn.text), self._clock.monotonic(), self)
        self.take_in(record)
        return record

    def take_in(self, record: MemoryRecord) -> None:
        """Keep an empty record whose key is free. Raises `Refusal` (`overloaded`) when full."""
        self.grow(RECORD_BYTES)
        session_id, message_id = record.turn_key
        self._sessions.setdefault(session_id, {})[message_id] = record

    def of_session(self, session_id: str) -> list[MemoryRecord]:
        """Give the records of a session."""
        return list(self._sessions.get(session_id, {}).values())

    async def find(self, key: TurnKey, text: str | None = None) -> MemoryRecord | None:
        """Give the record of `key`; with `text`, only if it was made for that text."""
        replies = self._sessions.get(key[0])
        record = None if replies is None else replies.get(key[1])
        if record is not None and text is not None and not record.is_for(text):
            raise Refusal(MESSAGE_ID_REUSED)
        return record

    async def drop(self, key: TurnKey | str) -> None:
        """Forget one reply, or all of a session."""
        if isinstance(key, str):
            doomed = self.of_session(key)
        else:
            record = self._sessions.get(key[0], {}).get(key[1])
            doomed = [] if record is None else [record]
        for record in doomed:
            self._forget(record)

    def sweep(self, now: float) -> None:
        """Forget finished replies older than `reply_keep_seconds`."""
        while self._finished:
            record = next(iter(self._finished))
            if record.finished_at > now - self._keep_seconds:
                return
            self._forget(record)

    def grow(self, added: int) -> None:
        """Account for `added` bytes, dropping the oldest finished replies where there is no room."""
        wanted = self.bytes + added
        if wanted > self._memory_bytes:
            count = 0
            while self._finished and self.bytes + added > self._memory_bytes:
                self._forget(next(iter(self._finished)))
                count += 1
            if count:
                self._evicted(count)
            if self.bytes + added > self._memory_bytes:
                raise Refusal(OVERLOADED, retry_after=5)
        self.bytes += added

    def shrink(self, removed: int) -> None:
        """Account for bytes that are free again."""
        self.bytes -= removed

    def finished(self, record: MemoryRecord) -> None:
        """Start the time that a finished reply is kept for."""
        if not record.forgotten:
            record.finished_at = self._clock.monotonic()
            self._finished[record] = None

    def let_go(self, record: MemoryRecord) -> None:
        """Find a finished record no more; those who read it already may read on."""
        if not record.forgotten:
            record.forgotten = True
            self.bytes -= record.size
            self._unlist(record)

    def _forget(self, record: MemoryRecord) -> None:
        if not record.forgotten:
            self.bytes -= record.discard()
            self._unlist(record)

    def _unlist(self, record: MemoryRecord) -> None:
        self._finished.pop(record, None)
        session_id, message_id = record.turn_key
        replies = self._sessions.get(session_id)
        if replies is not None and replies.get(message_id) is record:
            del replies[message_id]
            if not replies:
                del self._sessions[session_id]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
