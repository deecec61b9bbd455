"""How workers tell each other what they counted, so that whichever is asked for the metrics answers for all.

The first process makes, before it starts any worker, a mailbox for each and one piece of memory that all share. Who is
asked for the metrics puts a socket into the mailbox of each other one; that one writes its values into its place of the
shared memory and says so on the socket. Nothing of it has a name in the file system, so nothing is left behind.

What a worker wrote last outlives it: its successor begins with those counts, and they stand in for one that is silent.
So no sum ever goes down; counted twice is nothing, lost is what a killed worker counted after it was last asked.
"""

import asyncio
import contextlib
import mmap
import socket
import struct
import zlib

import msgspec

from chatcore import metrics_of_workers as several
from chatcore.metrics import Metrics
from chatcore.metrics_of_workers import Family

ANSWER_SECONDS = 0.5
"""How long the others have to tell their values; they have them at hand, so one that takes longer is in trouble."""

KEPT_BYTES = 1 << 20
"""Room for one worker's values (100 bots need a third of it). What does not fit is not told: that worker is silent."""

_ASKED, _WRITTEN, _TOO_LARGE = b"?", b"+", b"-"
_QUESTIONS_AT_ONCE = 64


class SharedValues:
    """The last values of each worker, in memory that all processes see; pages are taken when they are written.

    Each worker has two halves and fills the one that is not read, so that an end in the middle spoils nothing.
    """

    _HEAD = struct.Struct("<II")  # length and checksum of what follows
    _REPLACED = struct.Struct("<Q")
    _FIRST = 4096

    def __init__(self, workers: int) -> None:
        self._half = self._HEAD.size + KEPT_BYTES
        self._room = 1 + 2 * self._half  # which half is the newer one, and the halves
        self._memory = mmap.mmap(-1, self._FIRST + workers * self._room)

    def write(self, number: int, data: bytes) -> bool:
        """Keep the values of worker `number`; false where they are too large."""
        if len(data) > KEPT_BYTES:
            return False
        place = self._FIRST + (number - 1) * self._room
        half = 1 - self._memory[place]
        at = place + 1 + half * self._half
        self._memory[at : at + self._HEAD.size + len(data)] = self._HEAD.pack(len(data), zlib.crc32(data)) + data
        self._memory[place] = half
        return True

    def read(self, number: int) -> bytes | None:
        """Give what worker `number` wrote last; nothing where it never did, or writes faster than it can be read."""
        place = self._FIRST + (number - 1) * self._room
        at = place + 1 + self._memory[place] * self._half
        length, checksum = self._HEAD.unpack_from(self._memory, at)
        data = self._memory[at + self._HEAD.size : at + self._HEAD.size + min(length, KEPT_BYTES)]
        return data if data and zlib.crc32(data) == checksum else None

    def count_replaced(self) -> None:
        """Count a worker that is started again; the first process alone does."""
        self._REPLACED.pack_into(self._memory, 0, self.replaced + 1)

    @property
    def replaced(self) -> int:
        """How many workers were started again."""
        return int(self._REPLACED.unpack_from(self._memory, 0)[0])


class SharedMetrics:
    """All workers, as one of them sees them; made by the first process, which shares it with each by forking."""

    def __init__(self, workers: int) -> None:
        self.values = SharedValues(workers)
        pairs = {number: socket.socketpair() for number in range(1, workers + 1)}
        self._mailboxes = {number: pair[0] for number, pair in pairs.items()}  # each emptied by its owner alone
        self._slots = {number: pair[1] for number, pair in pairs.items()}
        for end in (*self._mailboxes.values(), *self._slots.values()):
            end.settimeout(0)
        self._number = 0
        self._before: list[Family] = []

    def close(self) -> None:
        """Give up the mailboxes, once there are no workers any more."""
        for end in (*self._mailboxes.values(), *self._slots.values()):
            end.close()

    async def join(self, number: int, metrics: Metrics) -> None:
        """Be worker `number` from now on: answer the others, and let `metrics` tell the values of all."""
        self._number = number
        self._metrics = metrics
        self._before = several.lasting(self._values_of(number) or [])
        self._one_at_a_time = asyncio.Lock()
        mailbox = self._mailboxes[number]
        asyncio.get_running_loop().add_reader(mailbox.fileno(), self._answer, mailbox)
        metrics.exposition = self._exposition

    def _own(self) -> list[Family]:
        """Give what this worker and those that had its number before it counted."""
        now = several.families_of(self._metrics.registry)
        return several.summed([now, self._before]) if self._before else now

    def _values_of(self, number: int) -> list[Family] | None:
        data = self.values.read(number)
        try:
            return None if data is None else several.decode(data)
        except msgspec.DecodeError:
            return None

    def _answer(self, mailbox: socket.socket) -> None:
        """Answer all who asked meanwhile, with values that are newer than any of their questions."""
        asking: list[socket.socket] = []
        with contextlib.suppress(BlockingIOError):
            while len(asking) < _QUESTIONS_AT_ONCE:
                _, descriptors, _, _ = socket.recv_fds(mailbox, len(_ASKED), 1)
                asking += [socket.socket(fileno=descriptor) for descriptor in descriptors]
        said = _WRITTEN if self.values.write(self._number, several.encode(self._own())) else _TOO_LARGE
        for one in asking:
            with one, contextlib.suppress(OSError):  # who asked may have gone
                one.send(said, socket.MSG_DONTWAIT)

    async def _exposition(self) -> bytes:
        """Give the values of all workers in Prometheus' text format."""
        async with self._one_at_a_time:
            others = [number for number in self._slots if number != self._number]
            answered = await asyncio.gather(*(self._ask(number) for number in others))
            own = self._own()
            self.values.write(self._number, several.encode(own))  # what was told once is not taken back
        parts = [own]
        silent = 0
        for number, told in zip(others, answered, strict=True):
            values = self._values_of(number)
            silent += not told or values is None
            if values is not None:
                parts.append(values if told else several.lasting(values))
        about = several.about_workers(len(self._slots) - silent, silent, self.values.replaced)
        return several.exposition([*several.summed(parts), *about])

    async def _ask(self, number: int) -> bool:
        """Let worker `number` write its values; tell whether it did, in time."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(0)
            try:
                socket.send_fds(self._slots[number], [_ASKED], [theirs.fileno()])
                theirs.close()
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await asyncio.get_running_loop().sock_recv(ours, len(_WRITTEN)) == _WRITTEN
            except OSError:  # it took too long (TimeoutError is one), or its mailbox is full
                return False
