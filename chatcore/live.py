"""Replies in flight: started once, followed by any number of readers, resumable, stoppable.

A reply runs in a task of its own, so that it outlives the request that asked for it. Its events go into a record of
the reply log; every reader pulls from there at its own pace, so a slow one holds nothing but its place (the server
disconnects those that stop reading at all). One tick a quarter of a second gives all heartbeats.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Self

from chatcore.errors import INTERNAL_ERROR, OVERLOADED, SHUTTING_DOWN, Refusal
from chatcore.model import Delta, Outcome, Turn, TurnKey
from chatcore.ports import ClientConnection, Clock, Peers, ReplyLog, ReplyRecord, ReplyText, StoreUnavailableError

SILENCE_SECONDS = 15.0
"""After so long without a byte a reader is due a heartbeat; also when the status is decided at the latest."""

READ_CHARS = 32_768
"""About how much text a reader is given at once, so that a slow one has little of it in the socket's buffer."""

FOLLOWING_SECONDS = 2.0  # how far a reply that runs in another process may be behind here


class ClientGoneError(Exception):
    """The client closed its connection; nobody is there to answer."""


class Running:
    """A reply in flight. `ending` is why it is to end early; `closing` that it has ended and is being saved.

    Its task looks at `ending` when it begins: a task that is cancelled before its first step would never take one.
    """

    __slots__ = ("begun", "closing", "ending", "record", "task")

    def __init__(self, record: ReplyRecord) -> None:
        self.record = record
        self.task: asyncio.Task[None] | None = None
        self.ending: Literal["stopped"] | Refusal | None = None
        self.begun = False
        self.closing = False

    def end(self, why: Literal["stopped"] | Refusal) -> None:
        """End the exchange with n8n now, unless it is over already."""
        if self.ending is None and not self.closing and self.task is not None:
            self.ending = why
            if self.begun:
                self.task.cancel()


Converse = Callable[[Turn, Running], Awaitable[None]]


class Reader:
    """One reader of one reply; `position` is the number of the last event it was given."""

    __slots__ = ("_connection", "_live", "_pulse", "_waiter", "_whole", "position", "push", "quiet_since", "record")

    def __init__(
        self, live: "Live", record: ReplyText, after: int, connection: ClientConnection | None, *, whole: bool
    ) -> None:
        self._live = live
        self.record = record
        self.position = after
        self._connection = connection
        self._whole = whole
        self._waiter: asyncio.Future[None] | None = None
        self._pulse = False
        self.push: Callable[[int, Sequence[Delta]], bool] | None = None
        self.quiet_since = live.clock.monotonic()

    def __enter__(self) -> Self:
        """Begin to be told of changes."""
        self.record.watch(self._changed)
        self._live.joined(self)
        if self._connection is not None:
            self._connection.on_lost = self.wake
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop being told."""
        self.record.unwatch(self._changed)
        self._live.left(self)
        if self._connection is not None:
            self._connection.on_lost = None

    async def next(self) -> Sequence[Delta] | Outcome | None:
        """Wait for what follows: deltas, the outcome (last), or None after `SILENCE_SECONDS` without either.

        A reader of the whole is given no deltas, only the outcome. Raises `ClientGoneError`, and `Refusal`
        (`reply_gone`) when the reply was dropped for lack of memory.
        """
        record = self.record
        while True:
            if self._connection is not None and self._connection.lost:
                raise ClientGoneError
            if not self._whole:
                deltas = record.read(self.position, READ_CHARS)
                if deltas:
                    self.position = max(self.position, 1) + len(deltas)
                    return deltas
            if record.outcome is not None:
                return record.outcome
            if self._pulse:
                self._pulse = False
                return None
            self._waiter = self._live.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def wake(self) -> None:
        """Look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def sent(self) -> None:
        """Note that the client took something."""
        self.quiet_since = self._live.clock.monotonic()

    def tick(self, now: float) -> None:
        """Let time pass: a heartbeat after silence."""
        if now - self.quiet_since >= SILENCE_SECONDS:
            self.quiet_since = now
            self._pulse = True
            self.wake()

    def _changed(self) -> None:
        if self._whole:
            if self.record.outcome is not None:
                self.wake()
        elif not self._pushed():
            self.wake()

    def _pushed(self) -> bool:
        """Hand on at once what came, where the reader waits for it and can take it; false leaves it to `next`."""
        waiter, record = self._waiter, self.record
        if self.push is None or waiter is None or waiter.done() or record.outcome is not None:
            return False
        try:
            deltas = record.read(self.position, READ_CHARS)
        except Refusal:
            return False
        begun = max(self.position, 1)
        if not deltas or not self.push(begun + 1, deltas):
            return False
        self.position = begun + len(deltas)
        self.sent()
        return self.position > record.count()


class Live:
    """All replies in flight in this process; those of other processes (`peers`) can be read and stopped as well."""

    def __init__(self, log: ReplyLog, max_in_flight: int, clock: Clock, peers: Peers | None = None) -> None:
        self.log = log
        self._peers = peers
        if peers is not None:
            peers.listen(self._stop_here)
        self.clock = clock
        self.running: dict[TurnKey, Running] = {}
        self.readers: set[Reader] = set()
        self.refusing = False
        self._nobody_reads = asyncio.Event()
        self._max_in_flight = max_in_flight
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that serves; asked for once."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def full(self) -> bool:
        """Whether another reply would be refused."""
        return len(self.running) >= self._max_in_flight

    def admit(self) -> None:
        """Refuse a new reply while stopping or when too many are in flight."""
        if self.refusing:
            raise Refusal(SHUTTING_DOWN, retry_after=5)
        if self.full:
            raise Refusal(OVERLOADED, retry_after=5)

    async def start(self, turn: Turn, converse: Converse) -> tuple[ReplyText, bool]:
        """Claim the turn's key and let `converse` run for it; or give the record of who was faster, and false."""
        self.admit()
        record = await self.log.claim(turn)
        if record is None:
            found = await self.log.find(turn.key, turn.text)
            if found is None:  # dropped between the two questions: as busy as it gets
                raise Refusal(OVERLOADED, retry_after=1)
            return found, False
        running = Running(record)
        self.running[turn.key] = running
        running.task = self.loop.create_task(self._run(turn, running, converse))
        return record, True

    def follow(
        self, record: ReplyText, after: int, connection: ClientConnection | None, *, whole: bool = False
    ) -> Reader:
        """Give a reader that continues behind event `after`; `whole` for one that wants the end alone."""
        return Reader(self, record, after, connection, whole=whole)

    async def stop(self, key: TurnKey) -> None:
        """End a running reply as the visitor wishes; returns when it has ended. Raises `StoreUnavailableError`."""
        if await self._stop_here(key) or self._peers is None:
            return
        record = await self.log.find(key)
        if record is not None and record.outcome is None:
            await self._peers.stop(key)

    async def erase(self, session_id: str) -> None:
        """Stop and drop all replies of a session. Raises `StoreUnavailableError` where another process does not."""
        await self._stop_here(session_id)
        if self._peers is not None:
            await self._peers.stop_all(session_id)

    async def catch_up(self, record: ReplyText, after: int) -> None:
        """Wait until a reply that runs elsewhere has come as far as its reader has read.

        Raises `StoreUnavailableError` where that does not happen.
        """
        if self._peers is None or record.turn_key in self.running:
            return
        changed = asyncio.Event()
        record.watch(changed.set)
        try:
            async with asyncio.timeout(FOLLOWING_SECONDS):
                while record.outcome is None and 1 + record.count() < after:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            raise StoreUnavailableError from None
        finally:
            record.unwatch(changed.set)

    def tick(self, now: float) -> None:
        """Let time pass: heartbeats, replies that were kept long enough."""
        for reader in tuple(self.readers):
            reader.tick(now)
        self.log.sweep(now)

    async def settle(self, grace_seconds: float) -> None:
        """Give running replies the grace, then end them with `shutting_down`; wait until that is saved, and is read.

        May be cancelled and called again with less patience.
        """
        until = self.clock.monotonic() + max(grace_seconds, 0)
        tasks = [running.task for running in self.running.values() if running.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=max(grace_seconds, 0))
            if late:
                for running in tuple(self.running.values()):
                    running.end(Refusal(SHUTTING_DOWN, "The server was restarted before the reply was complete."))
                await asyncio.wait(late)
        if self.readers:
            # What was said is still on its way to slow clients.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nobody_reads.wait(), until - self.clock.monotonic())

    def left(self, reader: Reader) -> None:
        """Note that a reader has all it wanted, or is gone."""
        self.readers.discard(reader)
        if not self.readers:
            self._nobody_reads.set()

    def joined(self, reader: Reader) -> None:
        """Note that somebody reads."""
        self.readers.add(reader)
        self._nobody_reads.clear()

    async def _stop_here(self, what: TurnKey | str) -> bool:
        """Stop one reply, or all of a session and drop them; tells whether any ran here."""
        running = [one for key, one in self.running.items() if what in (key, key[0])]
        for one in running:
            one.end("stopped")
        tasks = [one.task for one in running if one.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        if isinstance(what, str):
            await self.log.drop(what)
        return bool(tasks)

    async def _run(self, turn: Turn, running: Running, converse: Converse) -> None:
        running.begun = True
        try:
            await converse(turn, running)
        finally:
            del self.running[turn.key]
            record = running.record
            if record.outcome is None:  # nobody may wait for ever, whatever happened to the task
                duration_ms = round((self.clock.monotonic() - record.created) * 1000)
                record.finish(Outcome(finish_reason="error", duration_ms=duration_ms, refusal=Refusal(INTERNAL_ERROR)))
