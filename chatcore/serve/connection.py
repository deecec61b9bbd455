"""One client's connection: bytes -> requests within the limits, in order, and an end that the client can read.

uvicorn lets us bring our own protocol; this one parses with the same httptools (llhttp in its strict mode), and adds
what uvicorn leaves out: limits on the size and the time of heads and bodies, on pipelining and on readers that do not
read, refusals that do not cut into a running response, and reading on for a moment after a refusal. Trailers are
dropped (RFC 9110, section 6.5.1) and `Upgrade` is ignored (section 7.8), body and all that follows still in order.
"""

import asyncio
from collections import deque
from typing import Any, cast
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from chatcore.serve.exchange import Exchange
from chatcore.serve.line import BETWEEN, BODY, CLOSE_QUIETLY, HEAD, Line
from chatcore.serve.service import BARE, NEVER, Service


class _RefusedError(Exception):
    """Stops the parser; the status is in the connection."""


class Connection(Line):
    """A client's connection: parses, checks, starts requests."""

    __slots__ = (
        "_app_state",
        "_client",
        "_headers",
        "_parser",
        "_progress",
        "_server",
        "_unaccounted",
        "_url",
    )

    def __init__(self, service: Service, app_state: dict[str, Any]) -> None:
        """Belong to `service`; `app_state` is what the application's lifespan left for its requests."""
        super().__init__(service)
        self._app_state = app_state
        self._parser: Any = None
        self._client: tuple[str, int] = ("", 0)
        self._server: tuple[str, int] = ("", 0)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._unaccounted = 0  # bytes since the last that was a body or ended a message
        self._progress = False

    # What the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a head, or turn the client away."""
        service = self.service
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if peer is None or not service.admits():
            self._deaf = True
            self.transport.write(BARE[503])
            self.transport.close()
            return
        service.connections.add(self)
        self._client = (peer[0], peer[1])
        here = transport.get_extra_info("sockname")
        if here is not None:
            self._server = (here[0], here[1])
        self._parser = self._new_parser()
        self.deadline = service.loop.time() + service.limits.head_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the parser, which refers to us: no rubbish for the collector."""
        self._parser = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, then see what is incomplete."""
        if self._deaf:
            return
        self._unaccounted += len(data)
        self._progress = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(400 if self._fault is None else self._fault)
            return
        if self._stage or self._unaccounted:
            self._look_at_the_rest()

    def _look_at_the_rest(self) -> None:
        """A message is incomplete: bound what it may hold back, and the time until more must come."""
        service = self.service
        if self._unaccounted > service.limits.head_bytes:
            # Nothing of a head, a chunk's extensions or a trailer is given out until it is whole.
            self._refuse(431 if self._stage == HEAD else 400)
        elif not self._progress or self._reading_paused:
            return
        elif self._stage == BODY:
            self.deadline = service.loop.time() + service.limits.body_seconds
        elif self._active is None:
            self.deadline = service.loop.time() + service.limits.head_seconds

    # What the parser tells

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # Bytes after a request that asked for the connection's end are ignored, not an error of that request.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._stage = HEAD
        self._progress = True
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """Take the request's target, or a part of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is dropped."""
        if self._stage == HEAD:
            if len(self._headers) >= self.service.limits.head_count:
                self._fault = 431
                raise _RefusedError
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head and start the request, or let it wait for its turn."""
        parser = self._parser
        if parser.should_upgrade() and parser.get_method() != b"CONNECT":
            return  # feed_data stops behind the head
        headers = self._headers
        limits = self.service.limits
        method = parser.get_method().decode("ascii")
        if not 0 < self._unaccounted <= limits.head_bytes:  # not all of it need be this head
            line = len(method) + len(self._url) + len("  HTTP/1.1\r\n\r\n")
            if line + sum(len(name) + len(value) + len(": \r\n") for name, value in headers) > limits.head_bytes:
                self._fault = 431
                raise _RefusedError
        version = parser.get_http_version()
        names = [name for name, _ in headers]
        hosts = names.count(b"host")
        if self._queue is not None and len(self._queue) >= limits.pipelined:
            self._fault = CLOSE_QUIETLY
            raise _RefusedError
        if hosts > 1 or (version != "1.1" and version != "1.0") or (version == "1.1" and not hosts):  # noqa: PLR1714 - the form for speed
            raise _RefusedError
        if b"transfer-encoding" in names and (b"transfer-encoding", b"chunked") not in headers:
            raise _RefusedError  # a coding we would hand on undecoded
        exchange = Exchange(
            self,
            head_only=method == "HEAD",
            version_1_0=version == "1.0",
            expects_continue=b"expect" in names and version == "1.1" and _expects_continue(headers),
        )
        exchange.keep_alive = exchange.keep_alive and parser.should_keep_alive()
        raw_path, query = _split_target(self._url)
        path = raw_path.decode("ascii")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "state": self._app_state.copy(),
            "extensions": {"chatcore.connection": exchange},
        }
        self._stage = BODY
        self._progress = True
        self._fresh = False
        self._incoming = exchange
        self.deadline = NEVER
        if self._active is None:
            self._active = exchange
            exchange.start(scope)
        else:
            self._enqueue(exchange, scope)

    def _enqueue(self, exchange: Exchange, scope: Scope) -> None:
        """Let a pipelined request wait; reading pauses until the ones before it are answered."""
        if self._queue is None:
            self._queue = deque()
        exchange.scope = scope
        self._queue.append(exchange)
        self._pause_reading()

    def on_body(self, body: bytes) -> None:
        """Hand on more of a body, and stop reading where the application does not keep up."""
        self._unaccounted = 0
        self._progress = True
        if self._incoming is not None and not self._incoming.feed(body):
            self._pause_reading()

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._stage != BODY or self._incoming is None:
            return  # the head of a request with Upgrade
        self._unaccounted = 0
        self._stage = BETWEEN
        self.deadline = NEVER
        self._headers = []
        self._incoming.feed_end()
        self._incoming = None

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the request again as if it had not asked for another protocol: llhttp would skip its body."""
        parser = self._parser
        head = [parser.get_method(), b" ", self._url, b" HTTP/", parser.get_http_version().encode(), b"\r\n"]
        for name, value in self._headers:
            if name != b"upgrade":
                head += (name, b": ", value, b"\r\n")
        self._parser = self._new_parser()
        self._stage = BETWEEN
        self._unaccounted = 0
        self.data_received(b"".join(head) + b"\r\n" + rest)


def _split_target(url: bytes) -> tuple[bytes, bytes]:
    """Give the path and the query of a request's target (RFC 9112, section 3.2)."""
    if url.startswith(b"/"):
        if b"#" in url:
            raise _RefusedError
        path, _, query = url.partition(b"?")
        return path, query
    if url == b"*":
        return url, b""
    parsed = httptools.parse_url(url)
    return parsed.path or b"/", parsed.query or b""


def _expects_continue(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
