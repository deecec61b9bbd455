"""Writes what happened to PostgreSQL, in groups; to the journal while that cannot be, and from there back.

Every entry has a position among those of this run, and each transaction records how far it came. So a transaction of
which nobody heard whether it was committed is tried again without harm: what was written is skipped.

The order of entries is kept: while anything waits in the journal, new entries go there too.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Sequence

from chatcore.happenings import Crashed, Observe, StoreChanged, StoreLost, StoreWrote
from chatcore.model import TurnKey
from chatcore.ports import Clock, Trouble
from chatcore.stores.postgres.certainty import certainly
from chatcore.stores.postgres.claims import Claim, Claims
from chatcore.stores.postgres.database import READ_ONLY, OutageError
from chatcore.stores.postgres.entries import Closed, Entry, Opened, key_of
from chatcore.stores.postgres.journal import Journal, Numbered
from chatcore.stores.postgres.recorder import AT_ONCE, Recorder, first_batch

LAZY_SECONDS = 0.004
"""How long an opening waits for its end, so that a quick turn is one transaction."""

SPACING_SECONDS = 0.008
"""How long after the last one a transaction of a busy server begins."""

MOST_WAITING = 20_000
_RETRY_SECONDS = 1.0
_CLOSING_SECONDS = 10.0


class Writer:
    """One queue of entries, written by one task."""

    def __init__(self, recorder: Recorder, journal: Journal, clock: Clock, observe: Observe, *, away: bool) -> None:
        """`away`: the database did not answer at start."""
        self._recorder = recorder
        self._journal = journal
        self._clock = clock
        self._observe = observe
        self._position = 0
        self._fresh: dict[TurnKey, Opened] = {}
        self._timed = False
        self._claims = Claims()
        self._queue: list[Numbered] = []
        self._waiters: deque[tuple[int, asyncio.Future[bool]]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._replaying: asyncio.Task[None] | None = None
        self._closing = False
        self._closed = False
        self._handing_over = False
        self._retry_at = 0.0
        self._begun_at = 0.0
        self._busy = False
        self.outage: str | None = "PostgreSQL could not be reached at start" if away else None
        self.journal_fault: str | None = None
        self.journaling = away or journal.waiting > 0
        """Whether entries go to the journal."""

    @property
    def full(self) -> bool:
        """Whether no new message can be taken: its entries would have no place."""
        return len(self._queue) + len(self._fresh) >= MOST_WAITING or (
            self.journaling and (self._journal.full or self.journal_fault is not None)
        )

    @property
    def unreadable(self) -> bool:
        """Whether PostgreSQL would not answer questions either."""
        return self.outage is not None and self.outage != READ_ONLY

    @property
    def writing_back(self) -> bool:
        """Whether the journal's entries are being written to PostgreSQL, or tried to be."""
        return self._replaying is not None and not self._replaying.done()

    async def open(self) -> None:
        """Begin to write. Raises `sqlite3.Error`."""
        await self._journal.open()
        self._task = asyncio.get_running_loop().create_task(self._write_for_ever())

    async def close(self) -> None:
        """Write what is left, to the journal where PostgreSQL does not take it, and end."""
        self._settle()
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSING_SECONDS)
        for task in (self._task, self._replaying):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        self._closed = True
        self._lose(self._queue)
        self._queue = []
        self._resolve(self._position, saved=False)
        await self._journal.close()

    def put(self, entry: Entry) -> None:
        """Take an entry; it is written soon."""
        if isinstance(entry, Opened):
            self._fresh[key_of(entry)] = entry
            if not self._timed:
                self._timed = True
                asyncio.get_running_loop().call_later(LAZY_SECONDS, self._late)
            return
        if self._fresh:
            opened = self._fresh.pop(key_of(entry), None)
            if opened is not None:
                self._add(opened)
        self._add(entry)
        self._wake.set()

    async def claim(self, opened: Opened) -> Claim:
        """Write an opening now: whether its turn is ours, somebody else's, or only the journal could be asked.

        Raises `StoreUnavailableError` where not even that was possible.
        """
        claim = self._claims.expect(key_of(opened))
        self._add(opened)
        try:
            await certainly(self.saved())
            return claim.result() if claim.done() else "journaled"
        finally:
            self._claims.forget(key_of(opened))

    def saved(self) -> Awaitable[bool]:
        """Give what resolves when all entries so far are in PostgreSQL or the journal; to false where they are not.

        An opening that still waits for its end (`LAZY_SECONDS`) is not among them.
        """
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._closed:
            waiter.set_result(False)
        else:
            self._waiters.append((self._position, waiter))
            self._wake.set()
        return waiter

    def trouble(self) -> Trouble | None:
        """Tell what is wrong, None when all is well."""
        waiting = self._journal.waiting
        state = self.outage or "PostgreSQL is back"
        if self.journal_fault is not None:
            return Trouble(f"{state}, and the journal cannot be written: {self.journal_fault}", refuses=True)
        if self.journaling and self._journal.full:
            return Trouble(f"{state}, and the journal is full", refuses=True)
        if self.outage is not None:
            return Trouble(f"{self.outage}; {waiting} entries wait in the journal")
        if self.journaling:
            return Trouble(f"{waiting} entries of an outage are being written back")
        return None

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds): try what failed again."""
        if self.journaling and now >= self._retry_at and not self.writing_back:
            self._retry_at = now + _RETRY_SECONDS
            self._replaying = asyncio.get_running_loop().create_task(self._replay())
        if self.journal_fault is not None:
            self._wake.set()

    def _add(self, entry: Entry) -> None:
        self._position += 1
        self._queue.append((self._position, entry))

    def _late(self) -> None:
        self._timed = False
        self._settle()
        self._wake.set()

    def _settle(self) -> None:
        for entry in self._fresh.values():
            self._add(entry)
        self._fresh.clear()

    async def _write_for_ever(self) -> None:
        while not (self._closing and not self._queue and not self._waiters):
            await self._wake.wait()
            self._wake.clear()
            while (self._queue or self._waiters) and not self._handing_over:  # who hands over wakes us
                early = self._begun_at + SPACING_SECONDS - self._clock.monotonic() if self._busy else 0.0
                if early > 0:
                    await asyncio.sleep(early)
                self._begun_at = self._clock.monotonic()
                if not await self._write_some():
                    break  # the tick wakes us
            if self._closing and self.journal_fault is not None:
                break

    async def _write_some(self) -> bool:
        """Write some of the queue; false where that has to wait."""
        batch, self._queue = first_batch(self._queue)
        last = batch[-1][0] if batch else self._position
        asked = len(self._waiters)
        saved = True
        try:
            if batch and not self.journaling:
                await self._write_or_fail(batch)
            if batch and self.journaling:  # it may have begun just now
                await self._journal.append(self._recorder.run, batch)
                self.journal_fault = None
                self._claims.settle(batch, None)
        except sqlite3.Error as error:
            self._queue[:0] = batch
            self._journal_failed(error)
            self._resolve(self._position, saved=False)
            return False
        except asyncio.CancelledError:
            self._queue[:0] = batch
            raise
        except Exception as error:  # noqa: BLE001 - a bug of ours must not end all writing
            self._observe(Crashed("store", error))
            self._lose(batch)
            saved = False
        self._resolve(last, saved=saved)
        self._busy = asked - len(self._waiters) > 1
        return True

    async def _write_or_fail(self, batch: list[Numbered]) -> None:
        """Write to PostgreSQL; an outage makes the journal take it."""
        begun = self._clock.monotonic()
        try:
            recorded = await self._recorder.record(self._recorder.run, batch)
        except OutageError as error:
            self._away(error)
            return
        self._observe(StoreWrote(self._clock.monotonic() - begun))
        self._lose(recorded.lost)
        self._claims.settle(batch, recorded.taken)

    def _away(self, error: OutageError) -> None:
        if self.outage is None:
            self._observe(StoreChanged("not_writable", f"{error} {error.detail}".rstrip()))
        self.outage = str(error)
        self.journaling = True
        self._retry_at = self._clock.monotonic() + _RETRY_SECONDS

    def _journal_failed(self, error: sqlite3.Error) -> None:
        if self.journal_fault is None:
            self._observe(StoreChanged("journal_failed", str(error)))
        self.journal_fault = str(error)

    async def _replay(self) -> None:
        """Write the journal to PostgreSQL, oldest first, until it is empty or that fails."""
        try:
            await self._write_back()
        except OutageError as error:
            self._away(error)
        except sqlite3.Error as error:
            self._journal_failed(error)
        except Exception as error:  # noqa: BLE001 - a bug of ours; it is tried again
            self._observe(Crashed("store", error))
        else:
            self.journaling = False
            self.outage = None
            self.journal_fault = None
            self._observe(StoreChanged("writable"))
        finally:
            self._handing_over = False
            self._wake.set()

    async def _write_back(self) -> None:
        """Empty the journal. New entries go there meanwhile, but for the last moment, when they wait in the queue."""
        written = False
        if self.outage is not None:
            await self._recorder.probe()  # new entries must not wait for a server that hangs still
            written = True
        while True:
            chunk = await self._journal.oldest(AT_ONCE)
            self._handing_over = chunk is None or len(chunk.entries) < AT_ONCE
            if chunk is not None:
                if chunk.entries:
                    self._lose((await self._recorder.record(chunk.run, chunk.entries)).lost)
                    written, self.outage = True, None
                if chunk.unreadable:
                    self._observe(StoreLost(chunk.unreadable))
                await self._journal.forget(chunk)
            elif self._journal.waiting:
                await asyncio.sleep(0)  # a last append is under way
            elif written:
                return
            else:
                await self._recorder.probe()
                written = True

    def _resolve(self, position: int, *, saved: bool) -> None:
        """Tell those who wait for entries up to a position."""
        while self._waiters and self._waiters[0][0] <= position:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(saved)

    def _lose(self, entries: Sequence[Numbered]) -> None:
        count = sum(isinstance(entry, Opened | Closed) for _, entry in entries)
        if count:
            self._observe(StoreLost(count))
