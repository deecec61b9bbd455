"""Connections to PostgreSQL: a bounded pool that gives up in time, and what its errors mean.

Everything works behind a pooler of transactions (PgBouncer): no state outlives a transaction, no statement has a name
unless `DATABASE_PREPARE` says that it may.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import TextClause, text
from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from chatcore.ports import StoreFaultError, StoreUnavailableError

T = TypeVar("T")

CONNECT_SECONDS = 3
_POOL_SECONDS = 2.0
_MOST_ABANDONED = 50
_RECYCLE_SECONDS = 1800
_SLACK_SECONDS = 0.5
_DRIVER = "postgresql+psycopg://"

_LACKS = "the database lacks tables or functions of this version of chatcore"
# What servers say (PostgreSQL, appendix A) when it is not the statement's fault.
_OUTAGES: Mapping[str, str] = {
    "08": "PostgreSQL does not keep the connection",
    "26000": "PostgreSQL forgets prepared statements: behind a pooler DATABASE_PREPARE must be false",
    "28": "PostgreSQL does not let the serving role in",
    "3D000": "the database does not exist",
    "25006": "PostgreSQL takes no writes: it is read-only, as a replica is",
    "3F000": _LACKS,
    "40": "PostgreSQL gave up a transaction that met others",
    "42P05": "PostgreSQL mixes up prepared statements: behind a pooler DATABASE_PREPARE must be false",
    "42P01": _LACKS,
    "42883": _LACKS,
    "42501": "the serving role is not allowed to do its work",
    "53100": "PostgreSQL has no room left on its disk",
    "53200": "PostgreSQL is out of memory",
    "53300": "PostgreSQL has no connection left",
    "53": "PostgreSQL has not enough resources",
    "55P03": "PostgreSQL does not answer in time: something holds a lock",
    "57014": "PostgreSQL does not answer in time",
    "57P03": "PostgreSQL is starting up or shutting down",
    "57": "PostgreSQL is shutting down",
    "58": "PostgreSQL's machine has a fault",
}
READ_ONLY = _OUTAGES["25006"]
_LOCKS = ("40P01", "40001")
_BEGIN = text("SELECT set_config('statement_timeout', :limit, true), set_config('lock_timeout', :limit, true)")
# The other way round is not ours to set: a server that takes no writes must be able to say so.
_BEGIN_READING = text(f"{_BEGIN.text}, set_config('transaction_read_only', 'on', true)")
_NOT_REACHED = "PostgreSQL cannot be reached"
_SLOW = "PostgreSQL does not answer in time"


class OutageError(StoreUnavailableError):
    """PostgreSQL cannot do its work right now. The text holds no address; `detail` is for the log."""

    def __init__(self, said: str, detail: str = "", *, again: bool = False) -> None:
        """`again`: the same may work at once."""
        super().__init__(said)
        self.detail = detail
        self.again = again


def outage(error: BaseException) -> OutageError | None:
    """Give what an error means where the database cannot do its work; None where the statement or we are wrong."""
    if isinstance(error, OutageError):
        return error
    if isinstance(error, PoolTimeoutError):
        return OutageError("all connections of the pool wait for PostgreSQL")
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, OSError):  # a TimeoutError is one
        return OutageError(_SLOW if isinstance(cause, TimeoutError) else _NOT_REACHED, str(cause))
    return _meant(cause) if isinstance(cause, psycopg.Error) else None


def _meant(cause: psycopg.Error) -> OutageError | None:
    state = cause.sqlstate or ""
    detail = " ".join(str(cause).split())[:300]
    for known in (state, state[:2]):
        if known and known in _OUTAGES:
            return OutageError(_OUTAGES[known], detail, again=state in _LOCKS)
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        return OutageError(_said_while_connecting(detail), detail)
    return None


def _said_while_connecting(detail: str) -> str:
    """Tell what kept a connection from being made: libpq has no code for it, only words."""
    if "too many clients" in detail or "remaining connection slots" in detail or "too many connections" in detail:
        return _OUTAGES["53300"]
    if "authentication failed" in detail:
        return _OUTAGES["28"]
    if "timeout" in detail:
        return _SLOW
    return _NOT_REACHED


def parameters(url: str, *, seconds: int = CONNECT_SECONDS) -> str:
    """Give libpq's parameters: those of `url`, and ours where it says nothing."""
    told = psycopg.conninfo.conninfo_to_dict(url)
    ours: dict[str, Any] = {
        "connect_timeout": seconds,
        "application_name": "chatcore",
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "gssencmode": "disable",
    }
    return make_conninfo(url, **{name: value for name, value in ours.items() if name not in told})


def connect(url: str, *, seconds: int = CONNECT_SECONDS) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect for start-up and commands: synchronous, each statement by itself unless a transaction is begun.

    Raises `StoreFaultError` with what to do.
    """
    try:
        return psycopg.connect(parameters(url, seconds=seconds), autocommit=True, prepare_threshold=None)
    except (psycopg.Error, OSError) as error:
        raise fault(error) from None


def fault(error: BaseException) -> StoreFaultError:
    """Give an error as operators are told of it at start or in a terminal."""
    meant = outage(error)
    if meant is None:
        return StoreFaultError(f"PostgreSQL refuses: {' '.join(str(error).split())[:300]}", "See what it says.")
    said = f"{meant} ({meant.detail})" if meant.detail else str(meant)
    if str(meant) == _LACKS:
        return StoreFaultError(
            said, "Run `python main_postgres.py migrate` where there are none yet, or restore a backup."
        )
    return StoreFaultError(
        said, "Check DATABASE_URL and DATABASE_ADMIN_URL, and whether the server runs and lets us in."
    )


class Database:
    """A bounded pool of connections. Every wait ends: for a connection, for the server, for the network."""

    def __init__(self, url: str, *, pool_size: int, prepare: bool = False, read_only: bool = False) -> None:
        """Nothing is connected before it is needed. `read_only`: its transactions may not write."""
        self._told = parameters(url)
        self._prepare = 5 if prepare else None
        self._read_only = read_only
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._engine = create_async_engine(
            _DRIVER,
            async_creator=self._connect,
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
            pool_recycle=_RECYCLE_SECONDS,
            pool_use_lifo=True,
            skip_autocommit_rollback=True,
            hide_parameters=True,  # an error must not carry a message's text into the log
        )

    async def rows(
        self, statement: TextClause, parameters: Mapping[str, Any] | None = None, *, seconds: float = 5.0
    ) -> Sequence[Row[Any]]:
        """Run one statement by itself, and give its rows. Raises `StoreUnavailableError`."""
        used: list[psycopg.AsyncConnection[Any]] = []

        async def run() -> Sequence[Row[Any]]:
            async with self._engine.connect() as connection:
                used.append(_driver_of(connection))
                try:
                    result = await connection.execute(statement, parameters)
                    return result.all() if result.returns_rows else ()
                finally:
                    used.clear()  # it is about to be somebody else's

        return await self._in_time(run(), seconds, used)

    @contextlib.asynccontextmanager
    async def transaction(self, *, seconds: float = 10.0) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction: committed at the end, rolled back on an error.

        Each of its statements may take `seconds`, all together twice as long. Raises `StoreUnavailableError`.
        """
        used: list[psycopg.AsyncConnection[Any]] = []
        connection = await self._in_time(self._begin(seconds, used), _POOL_SECONDS + CONNECT_SECONDS + seconds, used)
        # The server keeps to the time for each statement, as long as it can do anything at all.
        late = asyncio.get_running_loop().call_later(2 * seconds + _SLACK_SECONDS, _sever, used)
        try:
            yield connection
            await self._in_time(connection.commit(), seconds, used)
        except Exception as error:
            meant = outage(error)
            if meant is None or meant is error:
                raise
            raise meant from error
        finally:
            late.cancel()
            # Closing rolls back what was not committed. A server that hangs must not hold us here.
            with contextlib.suppress(StoreUnavailableError):
                await self._in_time(connection.close(), seconds, used)

    async def close(self) -> None:
        """Close all connections."""
        with contextlib.suppress(StoreUnavailableError):
            await self._in_time(self._engine.dispose(), CONNECT_SECONDS, ())

    async def _begin(self, seconds: float, used: list[psycopg.AsyncConnection[Any]]) -> AsyncConnection:
        connection = await self._engine.connect()
        used.append(_driver_of(connection))
        try:
            connection = await connection.execution_options(isolation_level="READ COMMITTED")
            begin = _BEGIN_READING if self._read_only else _BEGIN
            await connection.execute(begin, {"limit": f"{seconds * 1000:.0f}ms"})
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self._told, prepare_threshold=self._prepare)

    async def _in_time(self, work: Awaitable[T], seconds: float, used: Sequence[psycopg.AsyncConnection[Any]]) -> T:
        """Wait for `work` so long. What does not end then is cancelled, but not waited for: that may take long too.

        The connections that it `used` are cut off: a server that hangs, or is gone without a word, keeps none.
        """
        if len(self._abandoned) >= _MOST_ABANDONED:
            asyncio.ensure_future(work).cancel()
            raise OutageError(_SLOW)
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds + _SLACK_SECONDS)
        except asyncio.CancelledError:
            self._abandon(task, used)
            raise
        if not done:
            self._abandon(task, used)
            raise OutageError(_SLOW)
        error = task.exception()
        if error is None:
            return task.result()
        meant = outage(error)
        if meant is None or meant is error:
            raise error
        raise meant from error

    def _abandon(self, task: "asyncio.Future[Any]", used: Sequence[psycopg.AsyncConnection[Any]]) -> None:
        task.cancel()
        _sever(used)
        self._abandoned.add(task)  # type: ignore[arg-type]  # a coroutine's future is a task
        task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Future[Any]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # so that nobody misses it


def _driver_of(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    opened: Any = connection.sync_connection
    driver: psycopg.AsyncConnection[Any] = opened.connection.driver_connection
    return driver


def _sever(connections: Sequence[psycopg.AsyncConnection[Any]]) -> None:
    """End connections from below, so that whoever waits for them is told, and their places in the pool are free."""
    for connection in connections:
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
