"""Three instances of stateless mode and one n8n behind them, for tests of what stands before several instances."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.support.n8n import ScriptedN8n, Taking
from tests.support.postgres_mode import metric
from tests.support.server import ChatServer

Proxy = TypeVar("Proxy")


@dataclass
class Site(Generic[Proxy]):
    """The instances, what stands before them, and the n8n behind."""

    n8n: ScriptedN8n
    servers: list[ChatServer]
    proxy: Proxy

    def readers(self) -> float:
        """How many clients wait for replies, in all instances."""
        return sum(metric(server, "chatcore_readers") for server in self.servers)


@contextlib.contextmanager
def three_instances(**settings: str) -> Iterator[tuple[ScriptedN8n, list[ChatServer]]]:
    """Start them; none may crash until the end."""
    with ScriptedN8n() as n8n:
        servers = [ChatServer({"N8N_WEBHOOK_URL": n8n.url, **settings}, wait=False) for _ in range(3)]
        for server in servers:
            server.wait_until_serving()
        yield n8n, servers
        for server in servers:
            assert not server.crashes
            server.kill()
    assert not n8n.faults


@contextlib.contextmanager
def in_two_halves(
    n8n: ScriptedN8n, whole: bytes, midway: Callable[[], None]
) -> Iterator[tuple[AsyncIterator[bytes], list[bytes]]]:
    """Give a body whose second half waits until n8n has some of the first, and what n8n took; `midway` runs between."""
    loop = asyncio.get_running_loop()
    begun, taken = asyncio.Event(), list[bytes]()

    def take(piece: bytes) -> None:
        taken.append(piece)
        loop.call_soon_threadsafe(begun.set)

    async def body() -> AsyncIterator[bytes]:
        half = len(whole) // 2
        yield whole[:half]
        await begun.wait()
        midway()
        yield whole[half:]

    n8n.taking = Taking(each=take)
    try:
        yield body(), taken
    finally:
        n8n.taking = None
