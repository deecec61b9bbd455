"""Who may ask the server to stop, and how: signals to a process of its own, orders to one worker of several."""

import asyncio
import signal
import socket
from typing import Protocol

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

DRAIN, HURRY, SERVING = b"d", b"h", b"s"
"""What is said on a worker's line: two orders, and the worker's word that it serves."""

ORPHAN_SECONDS = 30
"""How long a worker may take to end once the process that started it is gone."""


class Stop(Protocol):
    """The requests to stop that came: the first drains, the second hurries."""

    first: asyncio.Event
    second: asyncio.Event

    def serving(self) -> None:
        """Tell whoever waits for it that the server serves now."""
        ...


class Signals:
    """A process of its own is stopped by signals; the third is the kernel's to answer."""

    def __init__(self) -> None:
        """Take the signals; needs a running loop, in the main thread."""
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, self._received)

    def serving(self) -> None:
        """Nobody waits for it."""

    def _received(self) -> None:
        if not self.first.is_set():
            self.first.set()
            return
        self.second.set()
        for number in STOP_SIGNALS:
            self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)


class Orders:
    """A worker is stopped by the first process alone, over its line; where that process is gone, it ends at once.

    Signals would come twice, or not in order: service managers and terminals send them to all processes.
    """

    def __init__(self, line: socket.socket) -> None:
        """Listen to `line`; needs a running loop."""
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._line = line
        self._loop = asyncio.get_running_loop()
        line.settimeout(0)
        self._loop.add_reader(line.fileno(), self._told)

    def serving(self) -> None:
        """Tell the first process that this worker serves."""
        try:
            self._line.send(SERVING)
        except OSError:
            self._orphaned()

    def _told(self) -> None:
        try:
            orders = self._line.recv(16)
        except BlockingIOError:
            return
        except OSError:
            orders = b""
        if not orders:
            self._orphaned()
            return
        self.first.set()
        if HURRY in orders:
            self.second.set()

    def _orphaned(self) -> None:
        """Nobody is left who would kill a worker that does not end: an alarm of the kernel does."""
        self._loop.remove_reader(self._line.fileno())
        signal.alarm(ORPHAN_SECONDS)
        self.first.set()
        self.second.set()
