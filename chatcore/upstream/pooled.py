"""aiohttp's pooled connections, used in two ways that one suite proves equal; the only file with aiohttp.

The direct way takes a connection from aiohttp's connector and speaks to its protocol: it spares the request and
response objects, a third of the cost of a message. These calls are aiohttp's own and undocumented, so where their form
is not the one known here (aiohttp 3.14) the ordinary session serves. Bodies that come piece by piece go by the session
always.
"""

import inspect
from collections.abc import AsyncIterator, Mapping
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from yarl import URL

from chatcore.upstream.transport import (
    Answer,
    CutError,
    HungUpError,
    NotConnectedError,
    NotHttpError,
    Post,
    Transport,
)

IDLE_CONNECTION_SECONDS = 1.2
"""n8n closes an idle connection after 6 s (2.41), so one that is used must be younger. aiohttp looks only once in so
many seconds: an idle one is gone after twice the time, soon enough that nothing is left of a visitor who went."""

READ_BYTES = 65_536

_CONTINUE = range(100, 200)
_SWITCHING = 101


class _Target:
    """An address: the request by which the connector knows it, and the part of the head that never changes."""

    __slots__ = ("head", "request")

    def __init__(self, url: URL, headers: Mapping[str, str]) -> None:
        self.request = ClientRequest("POST", url)
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
        self._session = _session(self._connector, connect_seconds)

    def to(self, url: str, headers: Mapping[str, str]) -> Post:
        """Prepare an address."""
        address = URL(url, encoded=True)
        return partial(self._post, _Target(address, headers), partial(_post, self._session, address, dict(headers)))

    async def _post(
        self, target: _Target, streaming: Post, headers: Mapping[str, str], body: bytes | AsyncIterator[bytes]
    ) -> Answer:
        if not isinstance(body, bytes):
            return await streaming(headers, body)
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
        await self._session.close()


class _SessionAnswer:
    """An answer of aiohttp's session."""

    __slots__ = ("_body", "_response", "content_type", "status")

    def __init__(self, response: aiohttp.ClientResponse, body: "_Body | None") -> None:
        self._response = response
        self._body = body
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
        if content.is_eof() and not content.exception() and (self._body is None or self._body.ended):
            self._response.release()
        else:
            self._response.close()


class SessionTransport:
    """Requests by aiohttp's documented session."""

    def __init__(self, max_connections: int, connect_seconds: float) -> None:
        """Open nothing yet; needs a running loop."""
        self._session = _session(_connector(max_connections), connect_seconds)

    def to(self, url: str, headers: Mapping[str, str]) -> Post:
        """Prepare an address."""
        return partial(_post, self._session, URL(url, encoded=True), dict(headers))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


class _Body:
    """A body that is iterated once, and whether it was to its end."""

    __slots__ = ("_pieces", "ended")

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            self.ended = True
            raise


def _session(connector: aiohttp.TCPConnector, connect_seconds: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


async def _post(
    session: aiohttp.ClientSession,
    url: URL,
    fixed: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes | AsyncIterator[bytes],
) -> Answer:
    streamed = None if isinstance(body, bytes) else _Body(body)
    data = body if streamed is None else streamed
    try:
        response = await session.post(url, data=data, headers={**fixed, **headers}, allow_redirects=False)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise NotConnectedError(type(error).__name__) from error
    except aiohttp.ClientResponseError as error:
        raise NotHttpError(type(error).__name__) from error
    except (aiohttp.ClientError, OSError) as error:
        raise HungUpError(type(error).__name__) from error
    return _SessionAnswer(response, streamed)


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
