"""The servers that are compared: how each is started, stopped and spoken to."""

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import databases
from bench.process import ProcessTree

ROOT = Path(__file__).resolve().parent.parent
ORIGIN = "https://shop.example.com"
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


class BenchError(Exception):
    """The measurement cannot go on; the text is for a person."""


@dataclass(frozen=True)
class Peer:
    """One kind of server.

    `speaks_n8n`: it takes and gives n8n's own format. `leaves_out`: measurements that would take it too long.
    """

    name: str
    title: str
    speaks_n8n: bool
    command: "Command"
    leaves_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """Where things run: a processor core for the server, one for the load and the upstream, the upstream's port."""

    server_core: int
    load_core: int
    upstream_port: int
    python_options: Sequence[str] = ()


Command = Callable[[Setting, int, Path], tuple[list[str], dict[str, str]]]
"""Makes a server's command line and environment from the setting, a port and a directory of its own."""


@dataclass
class Server:
    """A running server; `start_seconds` is what passed until its first answer to GET /health."""

    peer: Peer
    port: int
    process: subprocess.Popen[bytes]
    tree: ProcessTree
    log: Path
    start_seconds: float
    start_cpu_seconds: float
    tokens: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise `BenchError` where the server has ended, or does less than it should: that would look quick."""
        if self.process.poll() is not None:
            raise BenchError(f"{self.peer.title} ended: {self.log.read_text('utf-8', 'replace')[-2000:]}")
        said = _health(self.port)
        if b'"degraded"' in said:
            raise BenchError(f"{self.peer.title} is not well: {said.decode('utf-8', 'replace')}")

    async def stop(self, *, gently: bool = True) -> None:
        """End it; not gently, its open streams with it."""
        if gently:
            self.process.terminate()
        deadline = time.perf_counter() + (_STOP_SECONDS if gently else 0.0)
        while self.process.poll() is None:
            if time.perf_counter() >= deadline:
                self.tree.refresh()
                self.tree.kill()
            await asyncio.sleep(0.01)


def find_peers(others: Sequence[Path] = ()) -> list[Peer]:
    """Give the servers that can be measured here; `others` are other copies of this repository."""
    peers = [
        # httpx looks through its whole pool for every request: at 256 connections it answers some ten a second.
        Peer("fastapi", "FastAPI + httpx", speaks_n8n=False, command=_fastapi, leaves_out=("json256",)),
        Peer("chatcore", "chatcore, stateless", speaks_n8n=False, command=_chatcore(ROOT)),
        Peer("sqlite", "chatcore, SQLite", speaks_n8n=False, command=_chatcore(ROOT, "main_sqlite.py")),
        *(Peer(other.name, other.name, speaks_n8n=False, command=_chatcore(other.resolve())) for other in others),
    ]
    if databases.available():
        peers.append(Peer("postgres", "chatcore, PostgreSQL", speaks_n8n=False, command=_postgres))
    if _nginx_path() is not None:
        peers.insert(0, Peer("nginx", "nginx, plain proxy", speaks_n8n=True, command=_nginx))
    return peers


def free_port() -> int:
    """Give a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def start(peer: Peer, setting: Setting, directory: Path) -> Server:
    """Start a server on its core and wait for its first answer."""
    port = free_port()
    own = open_directory(directory)
    command, variables = peer.command(setting, port, own)
    log = own / "log"
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), **variables}
    if "PYTHONPYCACHEPREFIX" in os.environ:
        environment["PYTHONPYCACHEPREFIX"] = os.environ["PYTHONPYCACHEPREFIX"]
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in the loop meanwhile
            command, cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    os.sched_setaffinity(process.pid, {setting.server_core})
    while not _healthy(port):
        if process.poll() is not None or time.perf_counter() > began + _START_SECONDS:
            process.kill()
            raise BenchError(f"{peer.title} did not start: {log.read_text('utf-8', 'replace')[-2000:]}")
        await asyncio.sleep(0.001)
    seconds = time.perf_counter() - began
    tree = ProcessTree(process.pid)
    return Server(peer, port, process, tree, log, seconds, tree.cpu_seconds())


def open_directory(inside: Path | None = None) -> Path:
    """Make a directory that nginx's worker, another user, can enter."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=inside))
    directory.chmod(0o755)
    return directory


async def start_upstream(core: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start the stand-in for n8n."""
    port = free_port()
    command = [sys.executable, "-m", "bench.upstream", str(port), str(core)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)  # noqa: ASYNC220 - as above
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise BenchError("the stand-in for n8n did not start")
    return process, port


def _healthy(port: int) -> bool:
    return _health(port).startswith(b"HTTP/1.1 200")


def _health(port: int) -> bytes:
    """Give what the server says of itself, nothing where it does not answer."""
    said = b""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while piece := connection.recv(4096):
                said += piece
    except OSError:
        pass
    return said


def _service(setting: Setting) -> dict[str, str]:
    """Give the settings that both whole servers share. The limits are on, and too high to bind."""
    return {
        "JWT_SECRET_KEY": secrets.token_urlsafe(32),
        "SESSION_SECRET_KEY": secrets.token_urlsafe(32),
        "N8N_WEBHOOK_URL": f"http://127.0.0.1:{setting.upstream_port}/webhook/checked",
        "ALLOWED_ORIGINS": ORIGIN,
        "RATE_LIMIT_PER_MINUTE": "1000000",
        "SESSION_RATE_LIMIT_PER_MINUTE": "1000000",
    }


def _chatcore(root: Path, main: str = "main_stateless.py") -> Command:
    def command(setting: Setting, port: int, directory: Path) -> tuple[list[str], dict[str, str]]:
        nothing = directory / "no.env"  # a .env beside the main must not change what is measured
        nothing.touch()
        words = [sys.executable, *setting.python_options, str(root / main), "--port", str(port)]
        words += ["--env-file", str(nothing)]
        return words, {"API_HOST": "127.0.0.1", "SQLITE_DB_PATH": str(directory / "chat.db"), **_service(setting)}

    return command


def _postgres(setting: Setting, port: int, directory: Path) -> tuple[list[str], dict[str, str]]:
    command, variables = _chatcore(ROOT, "main_postgres.py")(setting, port, directory)
    own = {"SPOOL_PATH": str(directory / "spool.db"), "AUDIT_KEY": secrets.token_urlsafe(32)}
    return command, {**variables, **own, **databases.settings_of(setting.load_core)}


def _fastapi(setting: Setting, port: int, directory: Path) -> tuple[list[str], dict[str, str]]:  # noqa: ARG001 - Peer's form
    command = [sys.executable, "-m", "uvicorn", "bench.peers.fastapi_app:app", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--no-access-log", "--log-level", "warning", "--backlog", "4096"]
    return command, _service(setting)


def _nginx(setting: Setting, port: int, directory: Path) -> tuple[list[str], dict[str, str]]:
    text = (ROOT / "bench" / "peers" / "nginx.conf").read_text("utf-8")
    upstream = f"127.0.0.1:{setting.upstream_port}"
    for name, value in {"DIRECTORY": str(directory), "PORT": str(port), "UPSTREAM": upstream}.items():
        text = text.replace(f"@{name}@", value)
    configuration = directory / "nginx.conf"
    configuration.write_text(text, "utf-8")
    return [_nginx_path() or "nginx", "-p", str(directory), "-c", str(configuration), "-e", "stderr"], {}


def _nginx_path() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
