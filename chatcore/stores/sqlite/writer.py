"""The one writer: what happens while a transaction is under way shares the next one.

While the file cannot be written (a full disk, say) chat goes on: entries wait in memory, at most `MOST_WAITING`, and
nobody waits for them. What does not fit is counted as lost. The tick tries again until it works.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence

from chatcore.happenings import Crashed, Observe, StoreChanged, StoreLost, StoreWrote
from chatcore.model import TurnKey
from chatcore.ports import Clock, StoreUnavailableError
from chatcore.stores.sqlite.connection import Connection
from chatcore.stores.sqlite.entries import Closed, Entry, LimitRow, Opened, Rated, Released
from chatcore.stores.sqlite.ledger import Ledger

MOST_WAITING = 20_000
"""Messages that wait in memory while the file cannot be written; some 15 MB."""

LAZY_SECONDS = 0.004
"""How long the beginning of a turn may wait for its end, so that a quick one is written once."""

SPACING_SECONDS = 0.008
"""The least time between the beginnings of two transactions, so that a busy server shares them."""

_RETRY_SECONDS = 1.0
_AT_ONCE = 2_000


class Writer:
    """Takes entries in their order; `saved` tells when all so far are in the file."""

    def __init__(
        self, limits: Callable[[], Sequence[LimitRow]], again: Callable[[], None], clock: Clock, observe: Observe
    ) -> None:
        """`limits` gives the limits that changed since it was last asked, `again` has it give them once more."""
        self.failing: str | None = None
        self._limits = limits
        self._limits_again = again
        self._clock = clock
        self._observe = observe
        self._ledger = Ledger(clock)
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # asking for it costs a system call each time
        self._entries: list[Entry] = []
        self._opened = 0
        self._fresh: dict[TurnKey, Opened] = {}
        self._dropped: set[TurnKey] = set()
        self._waiters: list[asyncio.Future[bool]] = []
        self._scheduled: asyncio.Handle | None = None
        self._timed = False
        self._writing: asyncio.Future[None] | None = None
        self._spaced = False
        self._begun_at = 0.0
        self._retry_at = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Whether no more can wait for a file that cannot be written."""
        return self.failing is not None and len(self._entries) >= 3 * MOST_WAITING

    def start(self, connection: Connection) -> None:
        """Begin to write; in the loop that serves."""
        self._connection = connection
        self._loop = asyncio.get_running_loop()

    def put(self, entry: Entry) -> None:
        """Add an entry; it is written soon."""
        if isinstance(entry, Opened):
            if self._opened >= MOST_WAITING:
                self._dropped.add(entry.key)
                self._observe(StoreLost(1))
                return
            self._opened += 1
            self._fresh[entry.key] = entry
            if not self._timed:
                self._timed = True
                self._running().call_later(LAZY_SECONDS, self._late)
            return
        if isinstance(entry, Closed | Released):
            fresh = self._fresh.pop(entry.key, None)
            if fresh is not None:
                self._entries.append(fresh)
            elif entry.key in self._dropped:
                if isinstance(entry, Closed):
                    self._dropped.discard(entry.key)
                return
        elif isinstance(entry, Rated) and self._opened >= MOST_WAITING:
            return
        self._entries.append(entry)
        if self.failing is None:  # else the tick tries again
            self._schedule()

    def saved(self) -> Awaitable[bool] | None:
        """Give what resolves when all entries so far are in the file; None while that is not to be expected.

        Resolves to false where they were not written after all.
        """
        if self.failing is not None or self._connection is None:
            return None
        waiter = self._running().create_future()
        self._waiters.append(waiter)
        self._schedule()
        return waiter

    async def certainly_saved(self) -> None:
        """Wait until all entries so far are in the file. Raises `StoreUnavailableError` where that fails."""
        saved = self.saved()
        if saved is None or not await saved:
            raise StoreUnavailableError

    def trouble(self) -> str | None:
        """Tell what is wrong, in a sentence for operators; None when all is well."""
        if self.failing is None:
            return None
        return f"the database file cannot be written ({self.failing}); {len(self._entries)} entries wait in memory"

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds): write limits that changed, try again what failed."""
        if self.failing is None or now >= self._retry_at:
            self._schedule()

    async def close(self) -> None:
        """Write what is left, and end; what cannot be written is lost, and said to be."""
        if self._connection is None:
            return
        self._settle()
        while True:
            if self._writing is None:
                self._begin()
            if self._writing is None:
                break
            await asyncio.wait({self._writing})
            await asyncio.sleep(0)  # lets `_ended` see it
            if self.failing is not None:
                break
        self._connection = None
        if self._entries:
            lost = sum(isinstance(entry, Opened) for entry in self._entries)
            self._observe(StoreLost(lost))
            self._observe(StoreChanged("not_writable", f"{lost} messages were never recorded ({self.failing})"))

    def _running(self) -> asyncio.AbstractEventLoop:
        return self._loop or asyncio.get_running_loop()

    def _schedule(self) -> None:
        """See to it that a transaction begins: at once where few come, a little later where many may share it."""
        if self._writing is not None or self._scheduled is not None or self._connection is None:
            return
        loop = self._running()
        early = self._begun_at + SPACING_SECONDS - self._clock.monotonic() if self._spaced else 0.0
        if early > 0:
            self._scheduled = loop.call_later(early, self._begin)
        else:
            self._scheduled = loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a transaction, of all entries where they are not very many."""
        self._scheduled = None
        if self._writing is not None or self._connection is None:
            return
        entries, self._entries = self._entries[:_AT_ONCE], self._entries[_AT_ONCE:]
        waiters: list[asyncio.Future[bool]] = []
        if not self._entries:
            waiters, self._waiters = self._waiters, []
        limits = self._limits()
        if not entries and not limits:
            _resolve(waiters, written=True)
            return
        self._spaced = len(waiters) > 1
        self._begun_at = self._clock.monotonic()
        self._writing = self._connection.run(self._ledger.write, entries, limits)
        self._writing.add_done_callback(lambda writing: self._ended(writing, entries, waiters))

    def _ended(self, writing: asyncio.Future[None], entries: list[Entry], waiters: list[asyncio.Future[bool]]) -> None:
        self._writing = None
        error = writing.exception()
        if isinstance(error, sqlite3.Error):
            self._failed(error, entries)
            waiters = waiters + self._waiters
            self._waiters = []
        else:
            opened = sum(type(entry) is Opened for entry in entries)
            self._opened -= opened
            if error is None:
                self._observe(StoreWrote(self._clock.monotonic() - self._begun_at))
            else:  # a bug, which would meet the same entries again and again
                self._observe(Crashed("store", error))
                self._observe(StoreLost(opened))
            if self.failing is not None:
                self.failing = None
                self._observe(StoreChanged("writable"))
        _resolve(waiters, written=error is None)
        if self._waiters or (self._entries and self.failing is None):
            self._schedule()

    def _failed(self, error: sqlite3.Error, entries: list[Entry]) -> None:
        """Keep the entries for another try."""
        self._entries[:0] = entries
        self._limits_again()
        self._retry_at = self._clock.monotonic() + _RETRY_SECONDS
        if self.failing is None:
            self._observe(StoreChanged("not_writable", str(error)))
        self.failing = str(error)

    def _late(self) -> None:
        # Not cancelled when the ends came first: making timers costs more than one in vain.
        self._timed = False
        self._settle()
        if self._entries and self.failing is None:
            self._schedule()

    def _settle(self) -> None:
        """Let go of beginnings that waited for their end long enough."""
        self._entries.extend(self._fresh.values())
        self._fresh.clear()


def _resolve(waiters: Sequence[asyncio.Future[bool]], *, written: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(written)
