"""The link to Redis: sends what many callers want as one script call, knows whether Redis is there, and finds it again.

What is asked while a script call is under way shares the next one, in the order of asking. Redis being down, slow,
full, or a replica is a declared state: callers get `StoreUnavailableError` at once, until a probe succeeds. Not for
Redis Cluster, whose keys live on several servers: one server, a managed one with replicas, or Sentinels.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, RedisError

from chatcore.happenings import Crashed, Observe, RedisChanged
from chatcore.ports import Clock, StoreUnavailableError, Trouble
from chatcore.stores.postgres.redis_address import ANSWER_SECONDS, RedisAddress, publicly
from chatcore.stores.postgres.redis_script import Argument, Operation, Script, lua_source, pack

MOST_WAITING = 20_000
MOST_WAITING_BYTES = 64 * 1024 * 1024
AT_ONCE = 500
AT_ONCE_BYTES = 1024 * 1024
PROBE_SECONDS = 1.0

_MARK_KEY = "chatcore:mark"
_MARK_MS = 7 * 86_400_000
_BEGIN_SECONDS = 4.0  # for three Sentinels that hang, a connection and its first answers
_OPEN_SECONDS = 1.2
_STATES = (
    *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM", "NOREPLICAS", "OOM", "READONLY"),
    *("MOVED", "TRYAGAIN", "UNBLOCKED", "WRONGPASS"),
)
"""Errors that tell of Redis' state, and not of what it was asked."""

_Call = tuple[Operation, asyncio.Future[Any]]


class RedisLink:
    """One connection for script calls, and `client` for what else is wanted of Redis (publish, subscribe, streams)."""

    def __init__(self, url: str, clock: Clock, observe: Observe, source: str | None = None) -> None:
        """`source` is another script than ours. Raises `StoreFaultError` where `url` is not usable."""
        self.up = False
        self._address = RedisAddress(url)
        self.client: Redis = self._address.client
        self._clock = clock
        self._observe = observe
        self._script = Script(lua_source() if source is None else source)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Call] = deque()
        self._waiting_bytes = 0
        self._idle: asyncio.Future[None] | None = None
        self._session: asyncio.Task[None] | None = None
        self._next_probe = 0.0
        self._probing: asyncio.Future[Any] | None = None
        self._mark: bytes | None = None
        self._lost: str | None = None
        self._callbacks: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Try to reach Redis, for about a second; that it is down is no error."""
        self._loop = asyncio.get_running_loop()
        began = asyncio.Event()
        self._begin_session(began)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(began.wait(), _OPEN_SECONDS)
        if not self.up and self._lost is None:
            self._tell_lost("it does not answer")

    async def close(self) -> None:
        """End; whoever still waits gets `StoreUnavailableError`."""
        session, self._session, self._loop = self._session, None, None
        if session is not None:
            session.cancel()
            await asyncio.wait({session})
        with contextlib.suppress(RedisError, OSError):
            await self._address.close()

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds): each second, ask a Redis that is up, look for one that is lost."""
        if self._loop is None or now < self._next_probe:
            return
        self._next_probe = now + PROBE_SECONDS
        if self._session is None or self._session.done():
            self._begin_session()
        elif self.up and self._probing is None:
            self._probing = self._put(self._mark_operation())
            self._probing.add_done_callback(self._probed)

    def trouble(self) -> Trouble | None:
        """Tell what is wrong, for operators; None when all is well."""
        if self.up:
            return None
        return Trouble(f"{publicly(self._lost or '')}; limits are counted by each process alone")

    def on_return(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when Redis is back after an outage, or has lost its data meanwhile."""
        self._callbacks.append(callback)

    async def call(self, operation: str, key: str, *arguments: Argument) -> Any:
        """Run one operation of `lua/*.lua`.

        Raises `StoreUnavailableError` where Redis is down or cannot do it now; it may have been done all the same.
        """
        if not self.up:
            raise StoreUnavailableError
        if len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES:
            raise StoreUnavailableError
        return await self._put(pack(operation, key, arguments))

    def _put(self, operation: Operation) -> asyncio.Future[Any]:
        answer = (self._loop or asyncio.get_running_loop()).create_future()
        self._waiting.append((operation, answer))
        self._waiting_bytes += len(operation.rest)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        return answer

    def _begin_session(self, began: asyncio.Event | None = None) -> None:
        self._next_probe = self._clock.monotonic() + PROBE_SECONDS
        self._session = asyncio.create_task(self._live(began))

    async def _live(self, began: asyncio.Event | None) -> None:
        """The life of one connection: made, told the script, used until something is wrong with it."""
        pool = self.client.connection_pool
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # the library's
        reason: str | None = None
        up_since: float | None = None
        try:
            async with asyncio.timeout(_BEGIN_SECONDS):
                same = await self._prepare(connection)
            up_since = self._clock.monotonic()
            self._returned("" if same else "without its data")
            if began is not None:
                began.set()
            await self._serve(connection)
        except TimeoutError:
            reason = "no answer in time"
        except (RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001 - a bug of ours must not leave callers waiting for ever
            reason = "unexpected exception"
            self._observe(Crashed("redis", error))
        finally:
            self.up = False
            if reason is not None:
                self._tell_lost(reason)
            self._fail_waiting()
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
        if began is not None:
            began.set()
        if up_since is not None and self._clock.monotonic() - up_since >= PROBE_SECONDS:
            self._next_probe = 0.0  # a connection that was good until now: try at once

    async def _prepare(self, connection: AbstractConnection) -> bool:
        """Connect; have Redis know the script, and see that it can run it and may write.

        Tells whether it has the data that it had.
        """
        connection.socket_timeout = ANSWER_SECONDS
        await connection.connect()  # type: ignore[no-untyped-call]  # the library's
        await _ask(connection, self._script.load)
        answers = await _ask(connection, self._script.run([self._mark_operation()]))
        if isinstance(answers[0], RedisError):
            raise answers[0]
        # From here on one timer for each exchange does; the library would make two and a task.
        connection.socket_timeout = None
        return self._is_known(answers[0])

    async def _serve(self, connection: AbstractConnection) -> None:
        """Run what is asked for; returns never, raises what is wrong with Redis or the connection."""
        while True:
            if not self._waiting:
                self._idle = asyncio.get_running_loop().create_future()
                await self._idle
                self._idle = None
            calls = self._take()
            if not calls:
                continue
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    if await connection.can_read():  # closed while it was idle, so nothing is lost with it
                        await self._reconnect(connection)
                    answers = await self._exchange(connection, self._script.run([operation for operation, _ in calls]))
                wrong = _resolve(calls, answers)
            finally:
                _fail(calls)  # those that got their answer are done
            if wrong is not None:
                raise wrong

    async def _reconnect(self, connection: AbstractConnection) -> None:
        await connection.disconnect(nowait=True)
        if not await self._prepare(connection):
            self._observe(RedisChanged("emptied"))
        self._call_back()  # it may be another server by now, which has not quite everything

    def _take(self) -> list[_Call]:
        """Take what one script call may do; leave out what nobody waits for any more."""
        calls: list[_Call] = []
        size = 0
        while self._waiting and len(calls) < AT_ONCE and size < AT_ONCE_BYTES:
            operation, answer = self._waiting.popleft()
            self._waiting_bytes -= len(operation.rest)
            if not answer.done():
                size += len(operation.rest)
                calls.append((operation, answer))
        return calls

    async def _exchange(self, connection: AbstractConnection, command: bytes) -> Any:
        try:
            return await _ask(connection, command)
        except NoScriptError:  # somebody flushed the scripts, so nothing of this was done
            await _ask(connection, self._script.load)
            return await _ask(connection, command)

    def _mark_operation(self) -> Operation:
        return pack("mark", _MARK_KEY, (self._clock.token_bytes(12).hex(), _MARK_MS))

    def _probed(self, answer: asyncio.Future[Any]) -> None:
        self._probing = None
        if not answer.cancelled() and answer.exception() is None and not self._is_known(answer.result()):
            self._observe(RedisChanged("emptied"))
            self._call_back()

    def _is_known(self, mark: bytes) -> bool:
        """Compare the mark with the last one; another one means that Redis lost its data."""
        known, self._mark = self._mark, mark
        return known is None or known == mark

    def _returned(self, detail: str) -> None:
        self.up, lost = True, self._lost
        self._lost = None
        self._observe(RedisChanged("connected" if lost is None else "returned", detail))
        if lost is not None:
            self._call_back()

    def _call_back(self) -> None:
        for callback in self._callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - a bug there must not end the link
                self._observe(Crashed("redis", error))

    def _tell_lost(self, reason: str) -> None:
        if self._lost is None:
            self._observe(RedisChanged("lost", reason))
        self._lost = reason

    def _fail_waiting(self) -> None:
        _fail(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0


async def _ask(connection: AbstractConnection, command: bytes) -> Any:
    await connection.send_packed_command(command, check_health=False)
    return await connection.read_response()


def _resolve(calls: Sequence[_Call], answers: Sequence[Any]) -> RedisError | None:
    """Give each caller its answer, but for those that met a state of Redis; gives that state."""
    state: RedisError | None = None
    for (_, waiter), answer in zip(calls, answers, strict=True):
        if isinstance(answer, RedisError) and _is_state(answer):
            state = answer
        elif waiter.done():  # its caller was cancelled
            continue
        elif isinstance(answer, RedisError):
            waiter.set_exception(answer)
        else:
            waiter.set_result(answer)
    return state


def _is_state(error: RedisError) -> bool:
    # The library takes the code out of the message where it has a class for it.
    return str(error).partition(" ")[0] in _STATES or getattr(error, "status_code", None) in _STATES


def _fail(calls: Iterable[_Call]) -> None:
    for _, waiter in calls:
        if not waiter.done():
            waiter.set_exception(StoreUnavailableError())
