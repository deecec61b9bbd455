"""The stateless main as a process: help, faults, and `check` before real servers that answer in every way."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.support.server import KEPT_FROM_OUTSIDE

ROOT = Path(__file__).parent.parent.parent
MAIN = ROOT / "main_stateless.py"
KEYS = {
    "JWT_SECRET_KEY": "one-key-of-these-tests-that-is-long-enough",
    "SESSION_SECRET_KEY": "another-key-of-these-tests-long-enough",
}
PREFLIGHT = "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Methods: OPTIONS, GET, POST\r\n"


class Once:
    """A TCP server that gives one fixed answer to each connection, and keeps what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.port: int = self._socket.getsockname()[1]
        self.asked: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                asked = connection.recv(65536)
                if asked == b"end":
                    return
                self.asked.append(asked)
                connection.sendall(self._answer)

    def end(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"end")
        self._thread.join(5)
        self._socket.close()


@contextmanager
def answering(head: str, body: str = "", seconds_ahead: float = 0) -> Iterator[Once]:
    date = f"Date: {formatdate(time.time() + seconds_ahead, usegmt=True)}\r\n"
    server = Once(f"{head}{date}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    try:
        yield server
    finally:
        server.end()


def run(*argv: str, environ: Mapping[str, str] | None = None, folder: Path) -> "subprocess.CompletedProcess[str]":
    empty = folder / "empty.env"
    empty.touch()
    given = [] if "--env-file" in argv else ["--env-file", str(empty)]
    return subprocess.run(
        [sys.executable, str(MAIN), *argv, *given],
        env={name: os.environ[name] for name in KEPT_FROM_OUTSIDE if name in os.environ} | dict(environ or {}),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def check(url: str, folder: Path, *argv: str, **more: str) -> tuple[int, list[str]]:
    done = run("check", *argv, environ={**KEYS, "N8N_WEBHOOK_URL": url, **more}, folder=folder)
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def states(lines: list[str]) -> list[tuple[str, str]]:
    return [(line.split()[0], line.split(maxsplit=1)[1].partition(":")[0]) for line in lines]


def test_help_and_version_are_quick_to_load(tmp_path: Path) -> None:
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    assert all(
        option in done.stdout
        for option in ("--host", "--port", "--workers", "--env-file", "--log-level", "--demo", "check")
    )
    assert run("--version", folder=tmp_path).stdout.startswith("chatcore ")
    heavy = "{'aiohttp', 'uvicorn', 'starlette', 'jose', 'prometheus_client', 'asyncio', 'ssl', 'dotenv'}"
    code = f"import sys, main_stateless; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_faults_are_all_told_on_standard_error_with_status_2(tmp_path: Path) -> None:
    environ = {"JWT_SECRET_KEY": "short-secret", "N8N_API_KEY": "sch\u00fcssel", "LOG_LEVEL": "loud"}
    done = run("--port", "eighty", environ=environ, folder=tmp_path)
    assert done.returncode == 2
    assert not done.stdout
    for name in ("N8N_WEBHOOK_URL", "API_PORT", "JWT_SECRET_KEY", "N8N_API_KEY", "LOG_LEVEL"):
        assert f"FAULT {name}" in done.stderr
    assert "(from --port)" in done.stderr
    assert "short-secret" not in done.stderr
    assert "Traceback" not in done.stderr
    assert run("check", environ=environ, folder=tmp_path).returncode == 2


def test_bytes_that_are_no_text_are_a_fault(tmp_path: Path) -> None:
    done = run(environ={"N8N_WEBHOOK_URL": os.fsdecode(b"http://\xff/")}, folder=tmp_path)
    assert done.returncode == 2
    assert "FAULT N8N_WEBHOOK_URL" in done.stderr


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    done = run("--env-file", str(tmp_path / "none"), environ={"N8N_WEBHOOK_URL": "http://a/b"}, folder=tmp_path)
    assert done.returncode == 2
    assert "FAULT --env-file" in done.stderr


def test_several_processes_are_refused(tmp_path: Path) -> None:
    done = run("--workers", "2", "--demo", folder=tmp_path)
    assert done.returncode == 2
    assert "route by the header X-Chat-Session" in done.stderr


def test_check_finds_everything_right(tmp_path: Path) -> None:
    with answering(PREFLIGHT) as n8n:
        url = f"http://us%40er:pass@127.0.0.1:{n8n.port}/webhook/chat?a=b"
        status, lines = check(url, tmp_path, N8N_API_KEY="the-key")
    assert status == 0
    assert states(lines) == [
        ("ok", "settings"),
        ("ok", "clock, bot default"),
        ("ok", "n8n, bot default"),
        ("ok", "descriptors"),
    ]
    assert "pass" not in "".join(lines)
    (asked,) = n8n.asked
    assert asked.startswith(b"OPTIONS /webhook/chat?a=b HTTP/1.1\r\n")
    assert b"Authorization: Basic dXNAZXI6cGFzcw==\r\n" in asked
    assert b"X-N8N-API-KEY: the-key\r\n" in asked


def test_check_asks_every_bot(tmp_path: Path) -> None:
    with (
        answering(PREFLIGHT) as one,
        answering("HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Methods: OPTIONS\r\n") as two,
    ):
        urls = [f"http://127.0.0.1:{n8n.port}/webhook/a" for n8n in (one, two)]
        status, lines = check(urls[0], tmp_path, N8N_WEBHOOK_URL_SALES=urls[1])
    assert status == 1
    assert ("ok", "n8n, bot default") in states(lines)
    assert ("FAULT", "n8n, bot sales") in states(lines)


@pytest.mark.parametrize(
    ("head", "body", "said"),
    [
        ("HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n", "<!DOCTYPE html>", "still starting"),
        ("HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n", '{"message":"webhook"}', "not active"),
        (
            "HTTP/1.1 500 Server Error\r\nContent-Type: text/html\r\nAccess-Control-Allow-Methods: OPTIONS\r\n",
            "<!DOCTYPE html>",
            "not active",
        ),
        ("HTTP/1.1 301 Moved\r\nLocation: https://elsewhere/\r\n", "", "redirect"),
        ("HTTP/1.1 502 Bad Gateway\r\n", "", "Start n8n"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "", "does not answer in HTTP"),
    ],
)
def test_check_tells_what_is_wrong_with_n8n(head: str, body: str, said: str, tmp_path: Path) -> None:
    with answering(head, body) as n8n:
        status, lines = check(f"http://127.0.0.1:{n8n.port}/webhook/chat", tmp_path)
    assert status == 1
    (fault,) = [line for line in lines if line.startswith("FAULT")]
    assert said in fault


@pytest.mark.parametrize(("ahead", "status"), [(20, 0), (-45, 1), (45, 1)])
def test_check_compares_the_clocks(ahead: float, status: int, tmp_path: Path) -> None:
    with answering(PREFLIGHT, seconds_ahead=ahead) as n8n:
        found, lines = check(f"http://127.0.0.1:{n8n.port}/webhook/chat", tmp_path)
    assert found == status
    assert (("FAULT", "clock, bot default") in states(lines)) is bool(status)


def test_check_tells_why_nobody_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        closed = socket.create_server(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        closed.close()
        status, lines = check(
            f"http://127.0.0.1:{port}/webhook/chat",
            tmp_path,
            N8N_CONNECT_TIMEOUT_SECONDS="0.3",
            N8N_WEBHOOK_URL_SILENT=f"http://127.0.0.1:{silent.getsockname()[1]}/webhook/chat",
        )
    assert status == 1
    said = {line.split(":")[0].split()[-1]: line for line in lines if line.startswith("FAULT")}
    assert "refuses the connection" in said["default"]
    assert "does not answer in time" in said["silent"]


def test_check_tells_tls_from_http(tmp_path: Path) -> None:
    with answering(PREFLIGHT) as plain:
        status, lines = check(f"https://127.0.0.1:{plain.port}/webhook/chat", tmp_path)
    assert status == 1
    assert any("does not speak TLS" in line for line in lines)


def test_check_warns_of_random_keys_and_asks_nobody_for_a_demo(tmp_path: Path) -> None:
    done = run("check", environ={"N8N_WEBHOOK_URL": "http://127.0.0.1:1/webhook/a"}, folder=tmp_path)
    assert sum(line.startswith("warning") for line in done.stdout.splitlines()) == 2
    done = run("--demo", "check", folder=tmp_path)
    assert done.returncode == 0
    assert "stand-in" in done.stdout


def test_check_counts_descriptors(tmp_path: Path) -> None:
    done = run(
        "check", "--demo", environ={"MAX_CONNECTIONS": "1000000", "MAX_REPLIES_IN_FLIGHT": "1000000"}, folder=tmp_path
    )
    hard = subprocess.run(["sh", "-c", "ulimit -Hn"], capture_output=True, text=True, check=True).stdout.strip()
    enough = hard == "unlimited" or int(hard) >= 2_000_128
    assert done.returncode == (0 if enough else 1)
    assert ("FAULT    descriptors" in done.stdout) is not enough
