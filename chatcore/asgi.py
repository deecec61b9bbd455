"""What middleware and routes share of ASGI: the visit of one request, reading its body, writing answers and errors."""

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from chatcore.error_shapes import DROP_IN_METHOD, NO_TRANSFORM, is_drop_in, render
from chatcore.errors import (
    BODY_TOO_LARGE,
    INVALID_REQUEST,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    UNSUPPORTED_MEDIA_TYPE,
    FieldFault,
    Refusal,
)
from chatcore.live import ClientGoneError
from chatcore.ports import ClientConnection

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
NO_STORE: Header = (b"cache-control", b"no-store")
_ALWAYS: tuple[Header, ...] = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
_SINGLE = (b"authorization", b"content-type", b"content-length", b"origin", b"host", b"last-event-id")
_NOT_CACHED = ("/api/", "/chat", "/v1/")


class Visit:
    """One request while it is answered. `headers` go out with the answer whoever writes it."""

    __slots__ = ("accept", "code", "given", "headers", "path", "request_id", "route", "started", "status")

    def __init__(self, scope: Scope, fresh_id: Callable[[], str], started: float) -> None:
        self.given: dict[bytes, bytes] = dict(scope["headers"])
        asked = self.given.get(b"x-request-id")
        self.request_id = asked.decode() if asked is not None and _REQUEST_ID.match(asked) else fresh_id()
        self.headers: list[Header] = [(b"x-request-id", self.request_id.encode()), *_ALWAYS]
        self.path: str = scope["path"]
        self.accept = self.given.get(b"accept")
        if self.path.startswith(_NOT_CACHED):
            self.headers.append(NO_STORE)
        self.started = started
        self.route = "(none)"
        self.status = 0
        self.code: str | None = None

    @property
    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer <token>` (RFC 6750), None without such a header."""
        value = self.given.get(b"authorization")
        if value is None or value[:7].lower() != b"bearer ":
            return None
        return value[7:].strip().decode("latin-1")

    @property
    def user_agent(self) -> str:
        """The User-Agent header, empty without one."""
        return self.given.get(b"user-agent", b"").decode("latin-1")


def visit_of(scope: Scope) -> Visit:
    """Give the visit that `Observed` made for this request."""
    visit: Visit = scope["chatcore.visit"]
    return visit


def connection_of(scope: Scope) -> ClientConnection | None:
    """Give what the server tells of the client's connection, where it tells."""
    connection: ClientConnection | None = scope.get("extensions", {}).get("chatcore.connection")
    return connection


def check_single(scope: Scope, visit: Visit) -> None:
    """Refuse a request that has one of the headers twice that decide who is asking for what."""
    if len(visit.given) != len(scope["headers"]):
        names = [name for name, _ in scope["headers"]]
        for name in _SINGLE:
            if names.count(name) > 1:
                said = f"The header {name.decode()} was sent more than once."
                raise Refusal(INVALID_REQUEST, said, errors=[FieldFault(name.decode(), "sent more than once")])


def check_coding(visit: Visit) -> None:
    """Refuse a compressed body (RFC 9110, 15.5.16): `unsupported_media_type`."""
    coding = visit.given.get(b"content-encoding")
    if coding is not None and coding.lower() != b"identity":
        said = "Send the body as it is, without Content-Encoding."
        raise Refusal(UNSUPPORTED_MEDIA_TYPE, said, headers={"Accept-Encoding": "identity"})


async def read_body(visit: Visit, receive: Receive, max_bytes: int) -> bytes:
    """Read the request's body.

    Raises `Refusal`: `body_too_large` (before reading, where Content-Length tells), and `unsupported_media_type` for a
    compressed one (RFC 9110, 15.5.16).
    """
    check_coding(visit)
    length = visit.given.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= max_bytes:
        return body
    pieces = [body]
    total = len(body)
    while total <= max_bytes:
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        pieces.append(message.get("body", b""))
        total += len(pieces[-1])
    raise _too_large(max_bytes)


async def respond(send: Send, status: int, body: bytes, *headers: Header) -> None:
    """Write a whole answer. A 204 has no body and no length (RFC 9110, 8.6)."""
    length = () if status == 204 else ((b"content-length", b"%d" % len(body)),)  # noqa: PLR2004 - No Content
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


async def respond_json(send: Send, status: int, document: Any, *headers: Header) -> None:
    """Write a JSON answer."""
    await respond(send, status, msgspec.json.encode(document), JSON, *headers)


async def respond_refusal(send: Send, visit: Visit, refusal: Refusal) -> None:
    """Write a refusal in the shape that the client understands."""
    visit.code = refusal.kind.code
    shown = render(refusal, visit.path, visit.accept, visit.request_id)
    if NO_TRANSFORM in shown.headers:
        visit.headers = without_cache_control(visit.headers)
    await respond(send, shown.status, shown.body, *shown.headers)


def without_cache_control(headers: Sequence[Header]) -> list[Header]:
    """Give the headers but for what they say of caches."""
    return [header for header in headers if header[0] != b"cache-control"]


class Methods:
    """One path's handlers by method; the others are refused with what is allowed (RFC 9110, 15.5.6)."""

    __slots__ = ("_allow", "_handlers", "_route")

    def __init__(self, route: str, handlers: Mapping[str, App]) -> None:
        self._route = route
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers.setdefault("HEAD", handlers["GET"])
        self._allow = ", ".join(sorted(self._handlers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request to its handler."""
        visit = visit_of(scope)
        if scope["path"].endswith("\n"):
            # The router's patterns end with `$`, which lets one line feed pass; a proxy's exact rules do not.
            raise Refusal(NOT_FOUND)
        visit.route = self._route
        handler = self._handlers.get(scope["method"])
        if handler is None:
            said = DROP_IN_METHOD if is_drop_in(scope["path"]) else None
            raise Refusal(METHOD_NOT_ALLOWED, said, headers={"Allow": self._allow})
        check_single(scope, visit)
        await handler(scope, receive, send)


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(BODY_TOO_LARGE, f"The request body is larger than {max_bytes} bytes.")
