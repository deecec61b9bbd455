"""A process that has loaded what a main needs, and becomes that main as often as it is asked: `warm.py` asks.

Importing does nothing in this project (tests/architecture/test_mains.py), so a main that runs here behaves as one that
has just loaded the same, and as `--workers` forks it. That saves the larger part of a start. Its end is short too: it
does all that a main leaves to its end, and then does not tidy up memory that it never used.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
ALL = ("chatcore.app", "chatcore.serve.workers", "chatcore.upstream.pooled")
MORE = {"main_postgres.py": ("alembic.runtime.environment", "alembic.script")}
"""What the mains load late: while they start, or when it is first needed."""

LONGEST = 65536


def become(asked: Any, output: int, errors: int) -> None:
    """Turn this process into one that was started with what was asked."""
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    os.chdir(asked["folder"])
    sys.argv = [asked["main"], *asked["options"]]
    gc.unfreeze()


class Waiting:
    """Forks for each request, and tells on the request's own line the status with which the process ended."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._children: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._woken.settimeout(0)
        self._waker.settimeout(0)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked decides
        for source in (line, self._woken):
            self._selector.register(source, selectors.EVENT_READ)

    def until_asked(self) -> Any:
        """Give a request, in the process that is to be what was asked; ends with whoever might ask."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._woken.recv(4096)
                    self._reap()
                    continue
                said, descriptors, _, _ = socket.recv_fds(self._line, LONGEST, 3)
                if not said:
                    self._end()
                asked = json.loads(said)
                output, errors, status = descriptors
                pid = os.fork()
                if not pid:
                    os.close(status)
                    self._close()
                    become(asked, output, errors)
                    return asked
                os.close(output)
                os.close(errors)
                told = self._children[pid] = socket.socket(fileno=status)
                told.send(str(pid).encode())

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self._children.pop(pid) as told:
                told.send(str(os.waitstatus_to_exitcode(status)).encode())

    def _close(self) -> None:
        self._selector.close()
        for ours in (self._line, self._woken, self._waker, *self._children.values()):
            ours.close()

    def _end(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


class QuickEnd:
    """Ends the process after everything else that is done at exit, where `status` is known and can be given."""

    def __init__(self) -> None:
        self.status: int | None = None
        atexit.register(self._end)  # registered first, so called last

    def _end(self) -> None:
        if self.status is None:
            return
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                return  # Python has a status of its own for that
        os._exit(self.status)

    def run(self, main: str) -> None:
        """Run the file as Python itself does."""
        try:
            runpy.run_path(main, run_name="__main__")
            self.status = 0
        except SystemExit as end:
            self.status = 0 if end.code is None else end.code if isinstance(end.code, int) else None
            raise


def load(main: str) -> None:
    """Load all that `main` will."""
    sys.path.insert(0, str(ROOT))
    importlib.import_module(Path(main).stem)
    for name in (*ALL, *MORE.get(main, ())):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    quick_end = QuickEnd()
    load(sys.argv[1])
    asked = Waiting(socket.socket(fileno=int(sys.argv[2]))).until_asked()
    quick_end.run(asked["main"])
