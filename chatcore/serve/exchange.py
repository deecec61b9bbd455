"""One request and its response: ASGI's `receive` and `send` on one side, bytes of HTTP/1.1 on the other."""

import asyncio
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from chatcore.observe import Crashed
from chatcore.serve.service import BARE

if TYPE_CHECKING:
    from chatcore.serve.connection import Connection

_BODY_HIGH_WATER = 65536
_NO_CONTENT = frozenset({204, 304})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}


class Exchange:
    """A request on its way through the application; also the `ports.ClientConnection` of its scope.

    `lost` turns true, and `on_lost` is called once, when the connection ends before the response is complete. Who sets
    `on_lost` looks at `lost` first. It belongs to this request alone, also where the connection is kept for the next.
    """

    __slots__ = (
        "_body",
        "_body_given",
        "_chunked",
        "_expects_continue",
        "_head",
        "_head_only",
        "_line",
        "_news",
        "_remaining",
        "_task",
        "_version_1_0",
        "complete",
        "keep_alive",
        "lost",
        "more_body",
        "on_lost",
        "scope",
        "started",
    )

    def __init__(self, line: "Connection", *, head_only: bool, version_1_0: bool, expects_continue: bool) -> None:
        """Belong to `line`; `head_only` for HEAD, `version_1_0` for a client of HTTP/1.0."""
        self._line = line
        self._head_only = head_only
        self._version_1_0 = version_1_0
        self._expects_continue = expects_continue
        self._task: asyncio.Task[None] | None = None
        self.scope: Scope | None = None  # set while the request waits in the pipeline
        self.lost = False
        self.on_lost: Callable[[], None] | None = None
        # The request
        self.keep_alive = not version_1_0
        self.more_body = True
        self._body: bytes | bytearray = b""
        self._body_given = False
        self._news: asyncio.Event | None = None  # made only when somebody waits: most bodies come with their head
        # The response
        self.started = False
        self.complete = False
        self._head: bytes | None = None  # waits for the first of the body, so that both leave as one
        self._chunked = False
        self._remaining: int | None = None  # of the Content-Length, where there is one

    # What the connection tells

    def start(self, scope: Scope) -> None:
        """Hand the request to the application."""
        service = self._line.service
        self._task = task = service.loop.create_task(self._run(scope))
        service.tasks.add(task)

    def feed(self, data: bytes) -> bool:
        """Take more of the request's body; false asks for a pause until it is read."""
        if not self._body:
            self._body = data
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body + data)
        self._wake()
        return len(self._body) <= _BODY_HIGH_WATER

    def feed_end(self) -> None:
        """The request's body is complete."""
        self.more_body = False
        self._wake()

    def lose(self) -> None:
        """The connection cannot carry the response any more."""
        if self.lost or self.complete:
            return
        self.lost = True
        self._wake()
        callback, self.on_lost = self.on_lost, None
        if callback is not None:
            callback()

    @property
    def unsent(self) -> bool:
        """Whether nothing of the response has left."""
        return not self.started or self._head is not None

    # What the application may do

    def abort(self) -> None:
        """Drop the connection at once, unsent bytes included."""
        self._line.abort()

    @property
    def stalled_since(self) -> float | None:
        """When the client stopped reading what waits for it (the loop's seconds), or None."""
        return self._line.stalled_since

    def push(self, make: Callable[[], bytes]) -> bool:
        """Write more of a body that has begun, at once; false where that is not possible now, and nothing was made."""
        line = self._line
        if self.lost or self.complete or not self.started or self._head is not None or line.writable is not None:
            return False
        line.transport.write(self._frame(make(), more=True))
        return True

    async def receive(self) -> MutableMapping[str, Any]:
        """Give the next of the request's body; after its end wait for the response's end or the client's."""
        if self._expects_continue:
            self._expects_continue = False
            if self.more_body and not self._body and not self.started and not self.lost:
                self._line.transport.write(_CONTINUE)
        while not (self.lost or self.complete or self._body or (not self.more_body and not self._body_given)):
            if self.more_body:
                self._line.resume_reading()
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()
        if self.lost or self.complete:
            return {"type": "http.disconnect"}
        body, self._body = self._body, b""
        self._body_given = not self.more_body
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Send the response's head or more of its body; waits while the client does not read."""
        line = self._line
        if line.writable is not None and not self.lost:
            await line.writable.wait()
        if self.lost:
            return
        kind = message["type"]
        if self.complete or kind != ("http.response.body" if self.started else "http.response.start"):
            raise RuntimeError(f"{kind} is out of place here")
        if not self.started:
            self._head = self._render_head(message)
            self.started = True
            return
        body: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        data = self._frame(body, more=more)
        if self._head is not None:
            data = self._head + data
            self._head = None
        if data:
            line.transport.write(data)
        if not more:
            self.complete = True
            self._wake()
            line.answered(self)

    def _render_head(self, message: MutableMapping[str, Any]) -> bytes:
        status: int = message["status"]
        service = self._line.service
        # A response that does not wait for the request's end (a refusal, mostly) ends the connection: what follows
        # would have to be read to its end to find the next request.
        if service.draining or self.more_body:
            self.keep_alive = False
        parts: list[bytes] = []
        for name, value in message.get("headers", ()):
            lowered = name.lower()
            if lowered == b"content-length":
                self._remaining = int(value)
            elif lowered == b"connection" or lowered == b"transfer-encoding":  # noqa: PLR1714 - the form for speed
                self.keep_alive = self.keep_alive and b"close" not in value.lower()
                continue  # connection and framing are decided here
            parts += (name, b": ", value, b"\r\n")
        fields = b"".join(parts)
        lines = len(parts) // 4
        if fields.count(b"\r") != lines or fields.count(b"\n") != lines or b"\0" in fields:
            raise ValueError("a response header holds a line break or NUL")
        end = self._framing(status)
        return b"".join((_STATUS_LINES[status], service.date, fields, end))

    def _framing(self, status: int) -> bytes:
        """Decide how the response's end is told; gives the rest of the head."""
        framing = b""
        if self._head_only or status in _NO_CONTENT:
            self._head_only = True
        elif self._remaining is None:
            if self._version_1_0:
                self.keep_alive = False  # the end of the connection is the end of the body
            else:
                self._chunked = True
                framing = b"transfer-encoding: chunked\r\n"
        return framing + (b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")

    def _frame(self, body: bytes, *, more: bool) -> bytes:
        if self._head_only:
            return b""
        if self._chunked:
            if not body:
                return b"" if more else _LAST_CHUNK
            return b"%x\r\n%b\r\n%b" % (len(body), body, b"" if more else _LAST_CHUNK)
        if self._remaining is not None:
            self._remaining -= len(body)
            if self._remaining < 0 or (self._remaining and not more):
                raise RuntimeError("the response's body does not have the length its Content-Length says")
        return body

    async def _run(self, scope: Scope) -> None:
        service = self._line.service
        try:
            await service.app(scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - whatever escapes the application must not end the server
            service.observe(Crashed("application", error))
        else:
            if not self.complete and not self.lost:
                service.observe(Crashed("application", RuntimeError("it left a response incomplete")))
        finally:
            if self._task is not None:
                service.tasks.discard(self._task)
            self._abandon()

    def _abandon(self) -> None:
        """End the exchange where the application did not: a bare 500, or the connection's end."""
        if self.complete or self.lost:
            return
        unsent = self.unsent
        self.started = self.complete = True
        self.keep_alive = False
        if unsent:
            self._line.transport.write(BARE[500])
        self._wake()
        self._line.answered(self)

    def _wake(self) -> None:
        news = self._news
        if news is not None:
            self._news = None
            news.set()
