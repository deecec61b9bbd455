"""What all connections of the server share: the limits, the watch over time, the answers without an application."""

import asyncio
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.types import ASGIApp

from chatcore.observe import Observe, ServerHappened

if TYPE_CHECKING:
    from chatcore.serve.connection import Connection

NEVER = float("inf")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a client may send and how long it may take; sizes in bytes, times in seconds.

    `head_bytes` and `head_count` bound a request's line and headers, `head_seconds` the time they take (from the first
    byte, or from connecting), `body_seconds` the time in which a body brings nothing new. `keep_alive_seconds` is
    longer than the 60 s for which nginx and common load balancers keep a connection: who closes first must be the one
    that sends, or a request meets a closed door. `linger_seconds` bounds reading on, only to throw it away, after a
    refusal (closing with unread bytes would make the kernel take back the answer). `stall_seconds` is how long a
    reader may take nothing of what waits for it. `pipelined` is how many further requests may wait on a connection.
    `flush_seconds` is what responses get to leave when the server stops.
    """

    head_bytes: int = 32768
    head_count: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    keep_alive_seconds: float = 75.0
    linger_seconds: float = 5.0
    stall_seconds: float = 60.0
    pipelined: int = 16
    flush_seconds: int = 5


def _bare(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()


BARE = {status: _bare(status) for status in (400, 408, 431, 500, 503)}

_HAPPENED = {
    400: ServerHappened("not_http"),
    431: ServerHappened("head_too_large"),
}
_CONNECTION_LIMIT = ServerHappened("connection_limit")


class Service:
    """The application with the connections that lead to it."""

    __slots__ = (
        "_timer",
        "app",
        "connections",
        "date",
        "draining",
        "limits",
        "loop",
        "max_connections",
        "observe",
        "tasks",
    )

    def __init__(self, app: ASGIApp, max_connections: int, limits: Limits, observe: Observe) -> None:
        """Serve `app`; needs a running loop."""
        self.app = app
        self.max_connections = max_connections
        self.limits = limits
        self.observe = observe
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        self.date = b""
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Look once a second (more often where limits are shorter) for connections whose time is up."""
        # One walk over plain attributes costs less than a timer per request, and a second's delay harms no limit.
        limits = self.limits
        shortest = min(limits.head_seconds, limits.body_seconds, limits.keep_alive_seconds, limits.stall_seconds)
        interval = min(1.0, shortest / 4, limits.linger_seconds / 4)
        now = self.loop.time()
        for connection in tuple(self.connections):
            if connection.deadline <= now:
                connection.expire()
            if connection.stall_deadline <= now:
                connection.check_stall()
        self.date = b"date: " + formatdate(usegmt=True).encode() + b"\r\n"  # RFC 9110, section 6.6.1
        self._timer = self.loop.call_later(interval, self.watch)

    def stop_watching(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()

    def admits(self) -> bool:
        """Tell whether one more connection may be kept; count it where not."""
        if len(self.connections) < self.max_connections:
            return True
        self.observe(_CONNECTION_LIMIT)
        return False

    def refused(self, status: int) -> None:
        """Tell that a request was refused before the application saw all of it."""
        happened = _HAPPENED.get(status)
        if happened is not None:
            self.observe(happened)
