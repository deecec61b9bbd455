"""One POST over aiohttp's pooled connections, and its answer as it comes; the only file with aiohttp.

Two ways to do the same, proven equal by one suite. The direct one takes a connection from aiohttp's connector and
speaks to its protocol: it spares the request and response objects, a third of the cost of a message. These calls are
aiohttp's own and undocumented, so where their form is not the one known here (aiohttp 3.14) the ordinary session
serves.
"""

import inspect
from collections.abc import Mapping
from typing import Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from yarl import URL

IDLE_CONNECTION_SECONDS = 4.0
"""n8n closes an idle connection after 6 s (2.41); one that we keep must be younger when it is used."""

READ_BYTES = 65_536

_CONTINUE = range(100, 200)
_SWITCHING = 101


class TransportError(Exception):
    """The exchange failed; the message names a class of failure, no host and no text."""


class NotConnectedError(TransportError):
    """No connection came about: nothing was sent."""


class HungUpError(TransportError):
    """The connection ended before the answer began; the request may have been taken."""


class NotHttpError(TransportError):
    """What came is no HTTP."""


class CutError(TransportError):
    """The body ended before its end, or cannot be decoded."""


class Answer(Protocol):
    """A response whose head has come. `read` gives what is there, b"" at the end; `release` ends its use."""

    status: int
    content_type: str | None

    @property
    def broken(self) -> bool:
        """Whether the body can no longer come to its end: aiohttp 3.14 lets `read` wait for ever after a bad chunk."""
        ...

    async def read(self) -> bytes:
        """Wait for more of the body. Raises `CutError`."""
        ...

    def release(self) -> None:
        """Give the connection back if the body was read to its end, close it otherwise. Idempotent."""
        ...


class Transport(Protocol):
    """Sends requests. `Target` is made once for each address."""

    def target(self, url: str, headers: Mapping[str, str]) -> "Target":
        """Prepare an address and the headers that every request to it has."""
        ...

    async def post(self, target: "Target", headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request, once. Raises `NotConnectedError`, `HungUpError`, `NotHttpError`."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Target:
    """An address with what does not change from request to request."""

    __slots__ = ("head", "headers", "request", "url")

    def __init__(self, url: URL, headers: Mapping[str, str], request: ClientRequest | None) -> None:
        self.url = url
        self.headers = dict(headers)
        self.request = request
        lines = [f"POST {url.raw_path_qs} HTTP/1.1", f"Host: {_host(url)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.head = "\r\n".join(lines).encode("latin-1")


class _DirectAnswer:
    """An answer read from the connection itself."""

    __slots__ = ("_connection", "_payload", "content_type", "status")

    def __init__(self, connection: Connection, status: int, content_type: str | None, payload: StreamReader) -> None:
        self._connection: Connection | None = connection
        self._payload = payload
        self.status = status
        self.content_type = content_type

    @property
    def broken(self) -> bool:
        protocol = None if self._connection is None else self._connection.protocol
        return protocol is not None and protocol.exception() is not None

    async def read(self) -> bytes:
        try:
            return await self._payload.readany()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CutError(type(error).__name__) from error

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._payload.is_eof() and not self._payload.exception():
            connection.release()
        else:
            connection.close()


class DirectTransport:
    """Requests written to aiohttp's connections by ourselves."""

    def __init__(self, max_connections: int, connect_seconds: float) -> None:
        """Open nothing yet; needs a running loop."""
        self._connector = _connector(max_connections)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds)

    def target(self, url: str, headers: Mapping[str, str]) -> Target:
        """Prepare an address."""
        parsed = URL(url, encoded=True)
        return Target(parsed, headers, ClientRequest("POST", parsed))

    async def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request, once."""
        assert target.request is not None, "a target of this transport"  # noqa: S101 - narrows the type
        try:
            connection = await self._connector.connect(target.request, [], self._timeout)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise NotConnectedError(type(error).__name__) from error
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            connection.close()
            raise NotConnectedError("closed")
        try:
            protocol.set_response_params(read_until_eof=True, auto_decompress=True, read_bufsize=READ_BYTES)
            more = "".join([f"\r\n{name}: {value}" for name, value in headers.items()])
            transport.write(b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (target.head, more.encode(), len(body), body))
            while True:
                message, payload = await protocol.read()
                if message.code not in _CONTINUE or message.code == _SWITCHING:
                    break
        except HttpProcessingError as error:
            connection.close()
            raise NotHttpError(type(error).__name__) from error
        except (aiohttp.ClientError, OSError) as error:
            connection.close()
            raise HungUpError(type(error).__name__) from error
        except BaseException:
            connection.close()
            raise
        return _DirectAnswer(connection, message.code, message.headers.get("Content-Type"), payload)

    async def close(self) -> None:
        """Close all connections."""
        await self._connector.close()


class _SessionAnswer:
    """An answer of aiohttp's session."""

    __slots__ = ("_response", "content_type", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("Content-Type")

    @property
    def broken(self) -> bool:
        connection = self._response.connection
        protocol = None if connection is None else connection.protocol
        return protocol is not None and protocol.exception() is not None

    async def read(self) -> bytes:
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CutError(type(error).__name__) from error

    def release(self) -> None:
        content = self._response.content
        if content.is_eof() and not content.exception():
            self._response.release()
        else:
            self._response.close()


class SessionTransport:
    """Requests by aiohttp's documented session."""

    def __init__(self, max_connections: int, connect_seconds: float) -> None:
        """Open nothing yet; needs a running loop."""
        self._session = aiohttp.ClientSession(
            connector=_connector(max_connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    def target(self, url: str, headers: Mapping[str, str]) -> Target:
        """Prepare an address."""
        return Target(URL(url, encoded=True), headers, None)

    async def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request, once."""
        try:
            response = await self._session.post(
                target.url, data=body, headers={**target.headers, **headers}, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotConnectedError(type(error).__name__) from error
        except aiohttp.ClientResponseError as error:
            raise NotHttpError(type(error).__name__) from error
        except (aiohttp.ClientError, OSError) as error:
            raise HungUpError(type(error).__name__) from error
        return _SessionAnswer(response)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def open_transport(max_connections: int, connect_seconds: float) -> Transport:
    """Give the direct transport where aiohttp has the form it needs, else the ordinary one."""
    chosen = DirectTransport if direct_works() else SessionTransport
    return chosen(max_connections, connect_seconds)


def direct_works() -> bool:
    """Tell whether the undocumented calls have the form that was tested."""
    try:
        connect = inspect.signature(aiohttp.BaseConnector.connect).parameters
        response = inspect.signature(ResponseHandler.set_response_params).parameters
    except (AttributeError, ValueError):
        return False
    wanted = {"read_until_eof", "auto_decompress", "read_bufsize"}
    return list(connect) == ["self", "req", "traces", "timeout"] and wanted <= set(response)


def _connector(max_connections: int) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=IDLE_CONNECTION_SECONDS)


def _host(url: URL) -> str:
    """Give the Host header: without the scheme's own port, IPv6 in brackets (RFC 9110, 7.2)."""
    host = url.raw_host or ""
    name = f"[{host}]" if ":" in host else host
    return name if url.is_default_port() or url.port is None else f"{name}:{url.port}"
