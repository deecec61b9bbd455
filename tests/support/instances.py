"""Three instances of stateless mode and one n8n behind them, for tests of what stands before several instances."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.support.n8n import ScriptedN8n
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
