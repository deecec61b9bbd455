"""Starts mains in processes that have loaded already what they need (`warm_process.py`), one for each main."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class WarmProcess:
    """One process, as `subprocess.Popen` would give it. `args` is what it was started as."""

    def __init__(self, args: Sequence[str], line: socket.socket) -> None:
        self.args = args
        self._line = line
        self.pid = int(line.recv(32))
        self.returncode: int | None = None
        self._handle = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """Give the status where the process has ended; killed by signal n, it is -n."""
        if self.returncode is None:
            self._line.settimeout(0)
            try:
                self._hear()
            except BlockingIOError:
                return None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and give the status. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                self._hear()
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _hear(self) -> None:
        said = self._line.recv(32)
        self.returncode = int(said or -signal.SIGKILL)
        self._line.close()
        os.close(self._handle)


class _Starter:
    """The process that becomes one main as often as it is asked."""

    def __init__(self, main: str) -> None:
        self._main = str(ROOT / main)
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-u", str(HERE / "warm_process.py"), main, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self._end)

    def start(
        self, options: Sequence[str], environment: Mapping[str, str], folder: Path, output: int, errors: int
    ) -> WarmProcess:
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asked = {"main": self._main, "options": options, "environment": environment, "folder": str(folder)}
        with theirs:
            socket.send_fds(self._line, [json.dumps(asked).encode()], [output, errors, theirs.fileno()])
        return WarmProcess([self._main, *options], line)

    def _end(self) -> None:
        self._line.close()
        self._process.wait(10)


@cache
def _starter(main: str) -> _Starter:
    return _Starter(main)


def start(main: str, options: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: int) -> WarmProcess:
    """Start `main` in `folder` with nothing but `environment`; `log` is the descriptor for all that it prints."""
    return _starter(main).start(list(options), environment, folder, log, log)


def run(
    main: str, argv: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path = Path("/")
) -> subprocess.CompletedProcess[str]:
    """Run a command of `main` to its end, two minutes at most; gives its status and what it printed."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as output,
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
    ):
        args = [str(arg) for arg in argv]
        process = _starter(main).start(args, environment, folder, output.fileno(), errors.fileno())
        try:
            status = process.wait(120)
        finally:
            process.kill()
        for told in (output, errors):
            told.seek(0)
        return subprocess.CompletedProcess(process.args, status, output.read(), errors.read())
