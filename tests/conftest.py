"""What every test may ask for: a scripted n8n, real servers, clients; how thorough property tests are."""

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.client import ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer

LONG = os.environ.get("CHATCORE_TESTS") == "long"

hypothesis.configuration.set_hypothesis_home_dir(Path(__file__).parent.parent / ".cache" / "hypothesis")
hypothesis.settings.register_profile("fast", max_examples=100, derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("long", max_examples=5000, deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("long" if LONG else "fast")

StartServer = Callable[..., ChatServer]
MakeClient = Callable[..., ChatClient]


def pytest_configure() -> None:
    """Let an end by SIGTERM run the fixtures' ends too, so that no server outlives the tests."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


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
