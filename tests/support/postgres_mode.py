"""PostgreSQL mode in tests: its settings, several instances behind one address, and what the database must hold."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psycopg

from tests.support.background import BackgroundLoop
from tests.support.client import NO_TLS
from tests.support.n8n import ScriptedN8n
from tests.support.ports import free_port
from tests.support.postgres import Database
from tests.support.server import ChatServer

MAIN = "main_postgres.py"
OPS = "ops-may-look-at-all-the-figures-0001"
AS_OPS = {"Authorization": f"Bearer {OPS}"}
AUDIT_KEY = "tests-sign-the-audit-log-with-these!"
FOUND_OUT = 30.0
"""How long to wait for what servers do by themselves, on a busy machine."""

_SETTINGS = {"AUDIT_KEY": AUDIT_KEY, "ADMIN_TOKENS": f"ops:{OPS}", "LOG_LEVEL": "WARNING"}


class Mode:
    """Starts instances of PostgreSQL mode over one database and one Redis; all end with the `with`.

    `environment` adds to what every instance is told. Instances are numbered; each has a journal of its own, which a
    later one of the same number finds again.
    """

    def __init__(self, n8n: ScriptedN8n, database: Database, redis_url: str, folder: Path, **environment: str) -> None:
        self.database = database
        self.folder = folder
        self._environment = {
            "N8N_WEBHOOK_URL": n8n.url,
            "DATABASE_URL": database.url,
            "DATABASE_ADMIN_URL": database.admin_url,
            "REDIS_URL": redis_url,
            **_SETTINGS,
            **environment,
        }
        self._servers: list[ChatServer] = []

    def journal(self, number: int = 0) -> Path:
        """The journal of an instance."""
        return self.folder / f"spool-{number}.db"

    def start(
        self,
        number: int = 0,
        environment: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        wait: bool = True,
    ) -> ChatServer:
        """Start an instance and wait until it serves. Raises `ServerFailedError`."""
        settings = {**self._environment, "SPOOL_PATH": str(self.journal(number)), **(environment or {})}
        server = ChatServer(settings, main=MAIN, port=port, wait=wait)
        self._servers.append(server)
        return server

    def start_all(self, count: int, **environment: str) -> list[ChatServer]:
        """Start instances at the same moment and wait until all serve. Raises `ServerFailedError`."""
        servers = [self.start(number, environment, wait=False) for number in range(count)]
        for server in servers:
            server.wait_until_serving()
        return servers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.kill()


class Balancer:
    """One address before several instances: each connection goes to the next one that is ready.

    Readiness is asked for all the time, as load balancers do; an instance that does not let us in is passed over.
    """

    def __init__(self, servers: Iterable[ChatServer] = ()) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._ready: dict[int, bool] = {server.port: True for server in servers}
        self._turn = itertools.count()
        self._passing: set[asyncio.Task[Any]] = set()
        self._background = BackgroundLoop("balancer")
        self._background.call(self._begin())

    def add(self, server: ChatServer) -> None:
        """Send to one more, as soon as it is ready."""
        self._ready.setdefault(server.port, False)

    def remove(self, server: ChatServer) -> None:
        """Send nothing more to one."""
        self._ready.pop(server.port, None)

    @property
    def ready(self) -> int:
        """How many instances are ready."""
        return sum(self._ready.values())

    async def _begin(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port, backlog=4096)
        self._asking = asyncio.create_task(self._ask_for_ever())

    async def _end(self) -> None:
        self._server.close()
        self._asking.cancel()
        await asyncio.wait({self._asking, *self._passing})

    async def _ask_for_ever(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0, verify=NO_TLS) as client:
            while True:
                for port in tuple(self._ready):
                    ready = False
                    with contextlib.suppress(httpx.TransportError):
                        ready = (
                            await client.get(f"http://127.0.0.1:{port}/health/ready")
                        ).status_code == httpx.codes.OK
                    if port in self._ready:
                        self._ready[port] = ready
                await asyncio.sleep(0.1)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        far = await self._connect()
        try:
            if far is not None:
                await asyncio.gather(_pump(reader, far[1]), _pump(far[0], writer))
        except OSError:
            pass
        finally:
            for one in (writer, *(far or ())[1:]):
                assert isinstance(one, asyncio.StreamWriter)
                one.close()
                with contextlib.suppress(OSError):
                    await one.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in range(len(self._ready)):
            ports = [port for port, ready in self._ready.items() if ready]
            if not ports:
                return None
            port = ports[next(self._turn) % len(ports)]
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                self._ready[port] = False
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._background.call(self._end())
        self._background.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if not writer.is_closing():
        writer.write_eof()


def health(server: ChatServer) -> dict[str, Any]:
    """Give what `/health` says, with its HTTP status as `http`."""
    with httpx.Client(trust_env=False, timeout=10.0, verify=NO_TLS) as client:
        answer = client.get(f"{server.url}/health")
    return {"http": answer.status_code, **answer.json()}


def metric(server: ChatServer, name: str) -> float:
    """Give one sample of `/metrics`, such as `chatcore_redis_up`; 0 where it is not there yet."""
    with httpx.Client(trust_env=False, timeout=10.0, verify=NO_TLS) as client:
        lines = client.get(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name)


async def until(condition: Callable[[], object], within: float = FOUND_OUT) -> float:
    """Wait until `condition`, asked in a thread, holds; gives the seconds that took. Raises `TimeoutError`."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)
    return time.monotonic() - began


def is_well(server: ChatServer, part: str | None = None) -> bool:
    """Whether all checks of `/health`, or that of one part, are `ok`."""
    told = health(server)
    return bool(told["status"] == "ok" if part is None else told["checks"][part]["status"] == "ok")


def messages_of(database: Database, session_id: str) -> list[tuple[str, int, str]]:
    """Give id, role (0 the visitor's) and text of all messages of a session, in the order in which they are read."""
    rows = database.sql(
        "SELECT message_id::text, role, content FROM chatcore.messages WHERE session_id = %s "
        "ORDER BY accepted_at, message_id, role",
        session_id,
    )
    return [(str(message_id), int(role), str(content)) for message_id, role, content in rows]


def check_figures(database: Database) -> None:
    """Compare all sums with the rows that they count, and look for messages that are there twice."""
    (rows,) = database.sql(
        "SELECT count(*), count(*) FILTER (WHERE state IN ('complete', 'stopped')), "
        "count(*) FILTER (WHERE state IN ('error', 'cut')), "
        "coalesce(sum(duration_ms) FILTER (WHERE state IN ('complete', 'stopped')), 0) FROM chatcore.turns"
    )
    sums = "SELECT coalesce(sum(messages), 0), coalesce(sum(replies), 0), coalesce(sum(errors), 0)"
    assert database.sql(f"{sums}, coalesce(sum(reply_ms), 0) FROM chatcore.sessions") == [rows]
    assert database.sql(f"{sums} FROM chatcore.hours") == [rows[:3]]
    assert database.sql("SELECT coalesce(sum(count), 0) FROM chatcore.reply_times") == [(rows[1],)]
    both = "SELECT coalesce(sum(sessions), 0), coalesce(sum(messages), 0) FROM chatcore"
    for table in ("origins", "pages"):
        told = database.sql(f"{both}.{table}")
        assert told == database.sql(f"{both}.hours")
        assert told[0][1] == rows[0]
    doubled = "SELECT session_id, message_id, role FROM chatcore.messages GROUP BY 1, 2, 3 HAVING count(*) > 1"
    assert database.sql(doubled) == []
    assert database.sql("SELECT count(*) FROM chatcore.messages WHERE role = 0") == [(rows[0],)]
    homeless = (
        "SELECT count(*) FROM chatcore.messages LEFT JOIN chatcore.turns USING (session_id, message_id, accepted_at)"
    )
    assert database.sql(f"{homeless} WHERE state IS NULL") == [(0,)]


@contextlib.contextmanager
def taken_connections(database: Database, leave: int) -> Iterator[None]:
    """Take all connections that the serving role may have, but for so many."""
    with contextlib.ExitStack() as held:
        taken: list[psycopg.Connection[Any]] = []
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                taken.append(held.enter_context(psycopg.connect(database.url, autocommit=True)))
        for connection in taken[:leave]:
            connection.close()
        yield
