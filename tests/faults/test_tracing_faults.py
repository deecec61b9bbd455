"""A collector in any trouble costs spans, never a message or a stop; without the package nothing starts."""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.support import documented, warm
from tests.support.answers import answer_empty
from tests.support.background import eventually
from tests.support.certificates import certificates
from tests.support.client import NO_TLS, ChatClient
from tests.support.collector import Collector
from tests.support.n8n import ScriptedN8n
from tests.support.ports import free_port
from tests.support.server import JWT_SECRET, N8N_SECRET, ROOT, ChatServer

SPANS_OF_A_CHAT = 3


async def chat(server: ChatServer) -> None:
    """Send a message as a visitor with a session does, and want its reply."""
    async with ChatClient(server.url) as client:
        await client.session()
        answer = await client.chat("Hi")
        assert (answer.status_code, answer.json()["content"]) == (200, "Echo: Hi")


def changes(server: ChatServer) -> list[tuple[str, str]]:
    """Give what the log said of the collector."""
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert not [line for line in lines if line["event"] == "Crashed"]
    return [(line["what"], line.get("detail", "")) for line in lines if line["event"] == "TracesChanged"]


def dropped(server: ChatServer, why: str) -> int:
    """Give the counter of dropped spans."""
    name = f'chatcore_spans_dropped_total{{why="{why}"}} '
    text = httpx.get(f"{server.url}/metrics", trust_env=False, verify=NO_TLS).text
    return next(int(float(line.removeprefix(name))) for line in text.splitlines() if line.startswith(name))


def reached(server: ChatServer, lost: int) -> bool:
    return dropped(server, "not_delivered") == lost


@contextlib.contextmanager
def closed() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@contextlib.contextmanager
def speechless() -> Iterator[str]:
    """Accept connections, and never say a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def no_http() -> Iterator[str]:
    """Answer what is no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listening.accept()
                    peer.sendall(b"220 mail.example.com\r\n")
                    peer.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def unknown_authority() -> Iterator[str]:
    """Present a certificate that nobody here trusts."""
    with Collector(_tls()) as collector:
        yield collector.url


@pytest.mark.parametrize("trouble", [closed, speechless, no_http, unknown_authority])
async def test_messages_and_stops_do_without_a_collector(
    n8n: ScriptedN8n, start_server: StartServer, trouble: Callable[[], contextlib.AbstractContextManager[str]]
) -> None:
    with trouble() as url:
        server = start_server(n8n, {"OTEL_EXPORTER_OTLP_ENDPOINT": url})
        for _ in range(3):
            await chat(server)
        assert server.stop() == 0
        assert {what for what, _ in changes(server)} <= {"not_delivered"}


async def test_what_is_refused_is_dropped_and_told_once(n8n: ScriptedN8n, start_server: StartServer) -> None:
    with Collector() as collector:
        collector.respond = lambda: 400
        server = start_server(n8n, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        for times in (1, 2):
            await chat(server)
            lost = times * (1 + SPANS_OF_A_CHAT)  # the session's request too
            await eventually(partial(reached, server, lost), within=20)
        assert changes(server) == [("not_delivered", "status 400")]
        collector.respond = lambda: 200
        await chat(server)
        collector.wait("reply")
        await eventually(lambda: changes(server)[1:] == [("delivered", "")])
        assert dropped(server, "queue_full") == 0


async def test_what_a_busy_collector_refuses_is_sent_again(n8n: ScriptedN8n, start_server: StartServer) -> None:
    with Collector() as collector:
        answers = iter([503, 429])
        collector.respond = lambda: next(answers, 200)
        server = start_server(n8n, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        await chat(server)
        collector.wait("reply")
        assert len({request.body for request in collector.requests[:3]}) == 1
        assert dropped(server, "not_delivered") == 0
        assert changes(server) == []


async def test_a_collector_with_tls_and_a_token(n8n: ScriptedN8n, start_server: StartServer, tmp_path: Path) -> None:
    token = tmp_path / "headers"
    token.write_text("Authorization=Basic%20YTpi, X-Tenant=chat\n", "utf-8")
    told = {"SSL_CERT_FILE": str(certificates().authority), "OTEL_EXPORTER_OTLP_HEADERS_FILE": str(token)}
    with Collector(_tls()) as collector:
        server = start_server(
            n8n, {**told, "OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/otlp", "OTEL_SERVICE_NAME": "shop"}
        )
        await chat(server)
        assert server.stop() == 0
        [reply] = collector.named("reply")
    assert reply.resource["service.name"] == "shop"
    [request] = collector.requests
    assert request.path == "/otlp/v1/traces"
    assert (request.headers["authorization"], request.headers["x-tenant"]) == ("Basic YTpi", "chat")
    assert "YTpi" not in server.log


def test_without_the_package_the_start_tells_what_to_do(tmp_path: Path) -> None:
    for package in Path(sys.prefix).glob("lib/python*/site-packages/*"):
        if package.name.partition(".")[0] not in {"opentelemetry", "google"}:
            (tmp_path / package.name).symlink_to(package)
    for command in ([], ["check"]):
        done = subprocess.run(
            [sys.executable, "-S", str(ROOT / "main_stateless.py"), *command],
            env={"PYTHONPATH": str(tmp_path), "N8N_WEBHOOK_URL": "http://n8n.test/x", **_ON, "API_PORT": "0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in done.stderr
        assert "pip install -r requirements-tracing.txt" in done.stderr
        assert "Traceback" not in done.stderr


_ON = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    "JWT_SECRET_KEY": JWT_SECRET,
    "SESSION_SECRET_KEY": N8N_SECRET,
}


@pytest.mark.parametrize("status", [200, 401, None])
def test_check_asks_the_collector(status: int | None) -> None:
    with Collector() as collector:
        collector.respond = lambda: status or 200
        url = collector.url if status else f"http://127.0.0.1:{free_port()}"
        told = {**_ON, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        done = warm.run("main_stateless.py", ["--demo", "check"], environment=told)
    [line] = [line for line in done.stdout.splitlines() if " traces: " in line]
    assert (line.startswith("ok"), done.returncode) == ((True, 0) if status == 200 else (False, 1))
    assert f"{url}/v1/traces" in line
    assert not collector.spans


def test_the_commands_of_the_document(tmp_path: Path, n8n: ScriptedN8n) -> None:
    n8n.answer(answer_empty(204))
    with Collector() as collector:
        place = documented.Place(tmp_path, {"N8N_WEBHOOK_URL": n8n.url})
        place.run(documented.commands("docs/tracing.md", "Set it up", 0))
        instead = {"http://localhost:4318": collector.url}
        said = place.run(documented.commands("docs/tracing.md", "Set it up", 1), instead)
    assert f"ok       traces: {collector.url}/v1/traces takes them." in said
    assert "OTEL_SERVICE_NAME=chat" in (tmp_path / ".env").read_text("utf-8")


def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates().certificate, certificates().key)
    return context
