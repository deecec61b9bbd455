"""One client's line: answers in the order of their requests, time limits, flow control, an end the client can read."""

import asyncio
from collections import deque
from typing import cast

from chatcore.observe import ReaderStalled, ServerHappened
from chatcore.serve.exchange import Exchange
from chatcore.serve.service import BARE, NEVER, Service

BETWEEN, HEAD, BODY = range(3)  # what is being read: nothing yet, a request's head, its body
CLOSE_QUIETLY = 0

_HEAD_TIMEOUT = ServerHappened("head_timeout")
_BODY_TIMEOUT = ServerHappened("body_timeout")


class Line(asyncio.Protocol):
    """A client's connection but for the parsing. `Service` watches `deadline` and `stall_deadline` (loop's seconds)."""

    __slots__ = (
        "_active",
        "_deaf",
        "_fault",
        "_fresh",
        "_incoming",
        "_lingering",
        "_queue",
        "_reading_paused",
        "_stage",
        "_unsent",
        "deadline",
        "service",
        "stall_deadline",
        "stalled_since",
        "transport",
        "writable",
    )

    def __init__(self, service: Service) -> None:
        """Belong to `service`."""
        self.service = service
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)  # until connection_made
        self._stage = BETWEEN
        self._incoming: Exchange | None = None  # whose body is being read
        self._active: Exchange | None = None  # who is being answered
        self._queue: deque[Exchange] | None = None  # who waits for that
        self._fault: int | None = None  # the status that ends the connection after all of them
        self._fresh = True  # no request yet
        self._deaf = False  # what still comes is thrown away
        self._lingering = False
        self._reading_paused = False
        self._unsent = 0
        self.deadline = NEVER
        self.stall_deadline = NEVER
        self.stalled_since: float | None = None
        self.writable: asyncio.Event | None = None  # where writing is paused: wait for it

    # What the loop tells

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the request that is being answered; those that wait are never started."""
        self.service.connections.discard(self)
        self.deadline = self.stall_deadline = NEVER
        self._deaf = True
        self._queue = self._incoming = None
        active, self._active = self._active, None
        self._resume_writers()
        if active is not None:
            active.lose()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        now = self.service.loop.time()
        self.writable = asyncio.Event()
        self.stalled_since = now
        self._watch_writing(now)

    def resume_writing(self) -> None:
        """The client has read most of it."""
        self.stall_deadline = NEVER
        self._resume_writers()

    # Order and end

    def answered(self, exchange: Exchange) -> None:
        """The response of `exchange` is complete: go on with what comes next."""
        if exchange is not self._active or self.transport.is_closing():
            return
        self._active = None
        if not exchange.keep_alive:
            if self._stage == BETWEEN and not self._queue and not self._deaf:
                self._close()
            else:
                self._linger()
        elif self._queue:
            self._active = following = self._queue.popleft()
            scope, following.scope = following.scope, None
            if scope is not None:
                following.start(scope)
        elif self._fault is not None:
            self._linger(self._fault)
        else:
            limits = self.service.limits
            wait = limits.keep_alive_seconds if self._stage == BETWEEN else limits.head_seconds
            self.deadline = self.service.loop.time() + wait
            self.resume_reading()

    def _refuse(self, status: int) -> None:
        """End the connection for what it sent or did not send, after the answers that come before that."""
        self._deaf = True
        self._fault = status
        self.service.refused(status)
        active = self._active
        if self._stage == BODY:
            if self._incoming is active and active is not None:
                self._active = None
                unsent = active.unsent
                active.lose()
                self._linger(status if unsent else CLOSE_QUIETLY)
                return
            if self._queue:
                self._queue.pop()  # its body will never be whole
        if active is None:
            self._linger(status)
        else:
            if status == CLOSE_QUIETLY:
                (self._queue[-1] if self._queue else active).keep_alive = False
            self._pause_reading()

    def _linger(self, status: int = CLOSE_QUIETLY) -> None:
        """Say our last, then read on for a moment so that the client can read it."""
        if self.transport.is_closing():
            return
        if status:
            self.transport.write(BARE[status])
        self.transport.write_eof()
        self._deaf = self._lingering = True
        self.deadline = self.service.loop.time() + self.service.limits.linger_seconds
        self.resume_reading()

    def _close(self) -> None:
        """Close once all is sent, or the client has stopped to read it."""
        self._deaf = True
        self.deadline = NEVER
        self.transport.close()
        self._watch_writing(self.service.loop.time())

    def shutdown(self) -> None:
        """End with the response that is under way; uvicorn calls it when the server stops."""
        if self._active is not None:
            self._active.keep_alive = False
        elif not self._lingering:
            self._close()

    def abort(self) -> None:
        """Drop the connection at once, unsent bytes included."""
        self.transport.abort()

    # Time and flow

    def expire(self) -> None:
        """The deadline is over."""
        self.deadline = NEVER
        if self._lingering:
            self._close()
        elif self._stage == BODY:
            self.service.observe(_BODY_TIMEOUT)
            self._refuse(408)
        elif self._stage == HEAD or self._fresh:
            self.service.observe(_HEAD_TIMEOUT)
            self._refuse(408)
        else:
            self._close()

    def check_stall(self) -> None:
        """Drop a client that took nothing of what waits for it."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent >= self._unsent:
            self.service.observe(ReaderStalled())
            self.transport.abort()
        else:
            self._watch_writing(self.service.loop.time())

    def _watch_writing(self, now: float) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self.stall_deadline = now + self.service.limits.stall_seconds if self._unsent else NEVER

    def _resume_writers(self) -> None:
        self.stalled_since = None
        if self.writable is not None:
            self.writable.set()
            self.writable = None

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self.deadline = NEVER  # it is us who wait, not the client
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, and expect more of a body that is incomplete."""
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
            if self._stage == BODY and not self._deaf:
                self.deadline = self.service.loop.time() + self.service.limits.body_seconds
