"""What every test may ask for: a scripted n8n, real servers, clients; how thorough property tests are."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import databases
from tests.support.client import ChatClient
from tests.support.databases import Database, PostgresServer, RedisDatabase, RedisServer
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer

LONG = os.environ.get("CHATCORE_TESTS") == "long"

hypothesis.configuration.set_hypothesis_home_dir(Path(__file__).parent.parent / ".cache" / "hypothesis")
hypothesis.settings.register_profile("fast", max_examples=100, derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("long", max_examples=5000, deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("long" if LONG else "fast")

SLOW_FILES = (
    "test_openapi_schemathesis.py",
    "test_moving.py",
    "test_postgres_outages.py",
    "test_admin_page.py",
    "test_moving_back.py",
    "test_redis_outages.py",
    "test_postgres_kill.py",
    "test_admin_archive.py",
    "test_postgres_instances.py",
    "test_widget_hostile.py",
    "test_postgres_writer.py",
    "test_postgres_commands.py",
    "test_nginx_postgres.py",
    "test_widget_chat.py",
    "test_replies_postgres_outages.py",
    "test_n8n_chat.py",
    "test_drop_in_answers.py",
    "test_widget_files_faults.py",
    "test_workers.py",
    "test_widget_storage.py",
    "test_databases_of_tests.py",
    "test_documented_backup.py",
    "test_chat_stream.py",
    "test_documented_postgres.py",
    "test_openai.py",
    "test_readme.py",
    "test_upstream_answers.py",
    "test_n8n_chat_access.py",
    "test_drop_in_previous.py",
    "test_widget_history.py",
    "test_nginx.py",
    "test_sqlite_kill.py",
    "test_prometheus.py",
    "test_tracing.py",
    "test_widget_behind_nginx.py",
    "test_uploads.py",
    "test_widget_people.py",
    "test_pages.py",
    "test_demo_page.py",
    "test_widget_pages.py",
)
"""Files that mostly wait stand between those that compute, so that the processors always have something to do."""

StartServer = Callable[..., ChatServer]
MakeClient = Callable[..., ChatClient]
StartPostgres = Callable[..., PostgresServer]
StartRedis = Callable[..., RedisServer]


def pytest_configure() -> None:
    """Let an end by SIGTERM run the fixtures' ends too, so that no server outlives the tests."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the tests, begin with the files that take long, or one would run on after all others."""
    if hasattr(config, "workerinput"):
        place = {name: number for number, name in enumerate(SLOW_FILES)}
        items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the full counts are wanted (`tests/run --long`)."""
    return LONG


@pytest.fixture
def n8n() -> Iterator[ScriptedN8n]:
    """Give a scripted n8n of one's own, which repeats what is said until told otherwise."""
    with ScriptedN8n() as scripted:
        yield scripted
    assert not scripted.faults, f"a script of the test failed: {scripted.faults}"


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Give `start(n8n or webhook's address or None, environment, **options of ChatServer)`; all end with the test."""
    servers: list[ChatServer] = []

    def start(
        n8n: ScriptedN8n | str | None = None, environment: Mapping[str, str | None] | None = None, **options: Any
    ) -> ChatServer:
        webhook = n8n.url if isinstance(n8n, ScriptedN8n) else n8n
        server = ChatServer({"N8N_WEBHOOK_URL": webhook, **(environment or {})}, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def server(start_server: StartServer, n8n: ScriptedN8n) -> ChatServer:
    """Give a stateless server before the scripted n8n, with nothing but defaults."""
    return start_server(n8n)


@pytest.fixture(scope="module")
def n8n_of_module() -> Iterator[ScriptedN8n]:
    """Give a scripted n8n that the tests of a file share: each says first what it answers."""
    with ScriptedN8n() as scripted:
        yield scripted
    assert not scripted.faults, f"a script of a test failed: {scripted.faults}"


@pytest.fixture(scope="module")
def server_of_module(n8n_of_module: ScriptedN8n) -> Iterator[ChatServer]:
    """Give a stateless server before `n8n_of_module`: most tests cost less than a start."""
    with ChatServer({"N8N_WEBHOOK_URL": n8n_of_module.url}) as server:
        yield server


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    """Give `make(server, **options of ChatClient)`; all are closed with the test."""
    clients: list[ChatClient] = []

    def make(server: ChatServer, **options: Any) -> ChatClient:
        client = ChatClient(server.url, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def visitor(server: ChatServer, make_client: MakeClient) -> ChatClient:
    """Give a client of `server` with a session."""
    client = make_client(server)
    await client.session()
    return client


@pytest.fixture
def database() -> Iterator[Database]:
    """Give an empty PostgreSQL database of one's own, in a server that tests share and must leave alone."""
    empty = databases.shared_postgres().new_database()
    yield empty
    empty.drop()


@pytest.fixture(scope="module")
def database_of_module() -> Iterator[Database]:
    """Give a PostgreSQL database that the tests of a file share, in a server that they must leave alone."""
    empty = databases.shared_postgres().new_database()
    yield empty
    empty.drop()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisDatabase]:
    """Give an empty Redis that the tests of a file share (`url`, `flush`); they must not stop it."""
    given = databases.given_redis()
    if given is not None:
        given.flush()
        yield given
        return
    with RedisServer() as server:
        server.start()
        yield RedisDatabase(server.url)


@pytest.fixture
def start_postgres() -> Iterator[StartPostgres]:
    """Give `start(**options of PostgresServer)`, for tests that stop, kill or pause theirs; all end with the test."""
    with contextlib.ExitStack() as servers:

        def start(**options: Any) -> PostgresServer:
            server = servers.enter_context(PostgresServer(**options))
            server.start()
            return server

        yield start


@pytest.fixture
def start_redis() -> Iterator[StartRedis]:
    """Give `start(**options of RedisServer)`, for tests that stop, kill or pause theirs; all end with the test."""
    with contextlib.ExitStack() as servers:

        def start(**options: Any) -> RedisServer:
            server = servers.enter_context(RedisServer(**options))
            server.start()
            return server

        yield start
