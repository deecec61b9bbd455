"""Starts the real server with the tiny application of `serve_app` in a process of its own, and hears what it tells."""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


class Served:
    """The server in a process; `what` gives what it told so far, `wait_for` waits until it tells something."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.serve_app", json.dumps(options)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.told: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def wait_for(self, what: str, seconds: float = 10.0) -> dict[str, Any]:
        """Wait until the server tells `what`, unless it has since the last wait for it; gives the telling."""
        while True:
            try:
                told = self._lines.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(f"no {what!r} but {self.told}") from None
            self.told.append(told)
            if told["what"] == what:
                return told

    def all_told(self) -> list[str]:
        """Give what was told, in order, once the process has ended."""
        self._reader.join(10)
        while not self._lines.empty():
            self.told.append(self._lines.get())
        return [told["what"] for told in self.told]

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = 10.0) -> int:
        """Wait for the end; gives the exit status."""
        return self.process.wait(seconds)

    def errors(self) -> str:
        """Give what the ended process wrote on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def close(self) -> None:
        """Kill the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def started(*, wait: bool = True, **options: Any) -> Iterator[Served]:
    """Start the server. Options: `limits`, `settings` (members of the structs), `startup`, `settle`, `before`."""
    served = Served(options)
    try:
        if wait:
            served.url = served.wait_for("listening")["detail"]
        yield served
    finally:
        served.close()
