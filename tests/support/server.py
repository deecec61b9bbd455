"""The real main in a process of its own, on a loopback port, with nothing of the developer's environment."""

import atexit
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.support import warm
from tests.support.client import NO_TLS
from tests.support.ports import free_port

ROOT = Path(__file__).parent.parent.parent
JWT_SECRET = "tests-sign-sessions-with-these-bytes"
N8N_SECRET = "tests-sign-for-n8n-with-these-bytes!"
KEPT_FROM_OUTSIDE = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE")


class ServerFailedError(Exception):
    """The main ended or stayed silent where it should have served; the message holds its log."""


class ChatServer:
    """Starts `main` with `environment` and waits until it serves. `url` is its address without a slash at the end.

    `environment` adds to working defaults (secrets, loopback address, JSON logs at INFO); a value of None removes one.
    `wait=False` leaves the waiting to `wait_until_serving`, for tests that want to see a start fail.
    """

    def __init__(
        self,
        environment: Mapping[str, str | None] | None = None,
        *,
        main: str = "main_stateless.py",
        options: Sequence[str] = (),
        port: int | None = None,
        wait: bool = True,
    ) -> None:
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="chatcore-test-")
        self.folder = Path(self._folder.name)
        (self.folder / "empty.env").touch()
        self._log = (self.folder / "log").open("wb")
        self.process = warm.start(
            main,
            ["--env-file", str(self.folder / "empty.env"), *options],
            environment=self._environment(environment or {}),
            folder=self.folder,
            log=self._log.fileno(),
        )
        atexit.register(self.kill)
        if wait:
            self.wait_until_serving()

    def _environment(self, wanted: Mapping[str, str | None]) -> dict[str, str]:
        values: dict[str, str | None] = {name: os.environ.get(name) for name in KEPT_FROM_OUTSIDE}
        values |= {
            "API_HOST": "127.0.0.1",
            "API_PORT": str(self.port),
            "JWT_SECRET_KEY": JWT_SECRET,
            "SESSION_SECRET_KEY": N8N_SECRET,
            "LOG_LEVEL": "INFO",
            "LOG_FORMAT": "json",
            "RATE_LIMIT_PER_MINUTE": "100000",
            "SESSION_RATE_LIMIT_PER_MINUTE": "100000",
            "PYTHONUNBUFFERED": "1",
        }
        values |= wanted
        return {name: value for name, value in values.items() if value is not None}

    def wait_until_serving(self, seconds: float = 60.0) -> float:
        """Wait for the first `/health/live`; gives the seconds since this call. Raises `ServerFailedError`."""
        began = time.monotonic()
        with httpx.Client(trust_env=False, timeout=5.0, verify=NO_TLS) as client:
            while time.monotonic() - began < seconds:
                if self.process.poll() is not None:
                    status = self.process.returncode
                    self.kill()
                    raise ServerFailedError(f"the main ended with status {status}:\n{self.log}")
                try:
                    if client.get(f"{self.url}/health/live").status_code == httpx.codes.OK:
                        return time.monotonic() - began
                except httpx.TransportError:
                    time.sleep(0.01)
        self.kill()
        raise ServerFailedError(f"the main did not serve within {seconds} s:\n{self.log}")

    @property
    def log(self) -> str:
        """All that was printed so far, stdout and stderr."""
        if self.folder.exists():
            self._last_log = (self.folder / "log").read_text("utf-8", "replace")
        return self._last_log

    @property
    def crashes(self) -> str:
        """The lines of the log that hold a trace: faults of our own, which no outage excuses."""
        return "\n".join(line for line in self.log.splitlines() if "Traceback" in line)

    def rss_bytes(self) -> int:
        """The memory the process holds now (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """How many files and sockets the process has open (Linux)."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal and return at once."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 15.0) -> int:
        """Wait for the end of the process and give its status; killed by signal n, it is -n.

        Raises `ServerFailedError` where it does not end; it is killed then.
        """
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired as expired:
            self.kill()
            raise ServerFailedError(f"the main did not stop within {seconds} s:\n{self.log}") from expired
        self._clean_up()
        return status

    def stop(self, seconds: float = 15.0) -> int:
        """Ask the process to end (SIGTERM), wait, give its status."""
        if self.process.poll() is None:
            self.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """End the process at once; idempotent."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._clean_up()

    def _clean_up(self) -> None:
        if not self._log.closed:
            self._log.close()
            self._last_log = self.log
            self._folder.cleanup()
            atexit.unregister(self.kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
