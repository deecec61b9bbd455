"""Runs other people's servers for the tests, each in a folder of its own, and ends them however the tests end.

Run as a program, this is the watcher: it waits for the end of the tests, kills every process that lives in their folder
(its working directory tells), and removes the folder. So nothing is left over when the tests are killed hard.
"""

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self


class ProgramFailedError(Exception):
    """A program ended or stayed silent where it should have served; the message holds its log."""


def processes_in(folder: Path) -> list[int]:
    """The ids of the processes whose working directory is `folder` or below it (Linux). Ended ones do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                where = (entry / "cwd").readlink()
            except OSError:  # it has ended, or belongs to somebody else
                continue
            if where.is_relative_to(folder):
                found.append(int(entry.name))
    return found


def signal_all(processes: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def poll(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition` holds; gives whether it did within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class _Home:
    """The folder of all servers that this process of the tests starts, and the watcher that clears it away."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chatcore-servers-")).resolve()
        self.folder.chmod(0o755)  # servers run as somebody else where we are root
        self._count = 0
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self.folder)],
            stdin=subprocess.PIPE,
            cwd="/",
            start_new_session=True,  # what ends the tests, an interrupt say, must not end it
        )
        atexit.register(self._close)

    def _close(self) -> None:
        self._watcher.communicate()

    def subfolder(self, name: str) -> Path:
        """Make an empty folder that belongs to the servers' user."""
        self._count += 1
        folder = self.folder / f"{name}-{self._count}"
        folder.mkdir(mode=0o700)
        give_to_servers(folder)
        return folder


_home: _Home | None = None


def new_folder(name: str) -> Path:
    """Give an empty folder that only the servers' user can enter; it is removed when the tests end."""
    global _home  # noqa: PLW0603 - the folder is made by the first test that starts a server
    if _home is None:
        _home = _Home()
    return _home.subfolder(name)


def _unprivileged() -> pwd.struct_passwd | None:
    # PostgreSQL and PgBouncer refuse to run as root.
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def give_to_servers(path: Path) -> None:
    """Make the servers' user the owner of a file or folder; nothing to do where that is ourselves."""
    nobody = _unprivileged()
    if nobody is not None:
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def write_for_servers(path: Path, text: str) -> Path:
    """Write a file that only the servers' user can read; gives its path."""
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    give_to_servers(path)
    return path


def popen(
    command: Sequence[str | Path], folder: Path, log: Path, reads: BinaryIO | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in `folder` as the servers' user, in a session of its own; what it prints goes to `log`."""
    nobody = _unprivileged()
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"},
            stdin=reads or subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=None if nobody is None else nobody.pw_uid,
            group=None if nobody is None else nobody.pw_gid,
            extra_groups=None if nobody is None else [],
        )


def run(command: Sequence[str | Path], folder: Path, reads: BinaryIO | None = None) -> None:
    """Run a program to its end in `folder` as the servers' user. Raises `ProgramFailedError`."""
    log = folder / "log"
    if popen(command, folder, log, reads).wait(60) != 0:
        raise ProgramFailedError(f"{command[0]} failed:\n{log.read_text('utf-8', 'replace')}")


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), 5.0).close()
    except OSError:
        return False
    return True


def find_program(name: str) -> str:
    """Give the path of a program. Raises `ProgramFailedError` with a hint where it is missing."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise ProgramFailedError(f"no {name} here; `bash tests/run` installs it, or says what to install")
    return path


class ServerProcess:
    """A server program in a folder, started and ended any number of times."""

    def __init__(self, name: str) -> None:
        self.folder = new_folder(name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that was printed so far, stdout and stderr."""
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def launch(self, command: Sequence[str | Path], ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Start the program and wait until it is `ready`. Raises `ProgramFailedError`."""
        assert not self.running, "it runs already"
        self._process = popen(command, self.folder, self.folder / "log")
        poll(lambda: not self.running or ready(), seconds)
        if not self.running or not ready():
            self.kill()
            raise ProgramFailedError(f"{command[0]} does not serve:\n{self.log}")

    def end(self, number: signal.Signals, seconds: float = 30.0) -> None:
        """Ask for the end by a signal and wait for it, children included. Raises `ProgramFailedError`."""
        if self._process is None:
            return
        if self.running:
            self.resume()
            self._process.send_signal(number)
            poll(lambda: not self.running, seconds)
        if self.running or not poll(lambda: not processes_in(self.folder), seconds):
            self.kill()
            raise ProgramFailedError(f"it did not stop within {seconds} s:\n{self.log}")

    def kill(self) -> None:
        """End the program and its children at once (SIGKILL), as a crash does; idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        # The parent first, or it would see its children die and act on it.
        signal_all(processes_in(self.folder), signal.SIGKILL)
        assert poll(lambda: not processes_in(self.folder), 10.0), "processes outlive SIGKILL"

    def pause(self) -> None:
        """Let the program and its children hang (SIGSTOP): connections stay open, nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # the parent first, so that it makes no more children
        signal_all(processes_in(self.folder), signal.SIGSTOP)

    def resume(self) -> None:
        """Let a program that hangs go on (SIGCONT)."""
        signal_all(processes_in(self.folder), signal.SIGCONT)

    def close(self) -> None:
        """Kill what runs and remove the folder; the server cannot be started again."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _watch(folder: Path) -> None:
    """Wait until the tests end (their end of the pipe closes), then end what lives in `folder`, and remove it."""
    sys.stdin.buffer.read()
    # PostgreSQL gives its shared memory back at SIGQUIT, and not at SIGKILL.
    for number, seconds in ((signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        processes = processes_in(folder)
        signal_all(processes, number)
        signal_all(processes, signal.SIGCONT)
        poll(lambda: not processes_in(folder), seconds)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
