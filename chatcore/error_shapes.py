"""How a refusal looks to each kind of client; its address tells which kind asks.

Our own API gives problem documents (RFC 9457). n8n's widget, at `/chat`, ignores the status, shows `message` of a
document and, where it streams, hides whatever comes with a status other than 200 (`@n8n/chat` 1.37). Clients of
OpenAI's API, at `/v1/`, read `error.message` and decide by `error.type`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from chatcore.errors import (
    DAILY_LIMIT_REACHED,
    OVERLOADED,
    SHUTTING_DOWN,
    STORE_UNAVAILABLE,
    UPSTREAM_UNAVAILABLE,
    Refusal,
    problem,
)

DROP_IN = "/chat"
DROP_IN_METHOD = "This address takes POST alone: leave out 'method' in the webhookConfig of createChat, or say 'POST'."
OPENAI = "/v1/"

_UNAUTHORIZED = 401
_SERVER_ERROR = 500
_NOTHING_SENT = frozenset({UPSTREAM_UNAVAILABLE, OVERLOADED, STORE_UNAVAILABLE, SHUTTING_DOWN})
"""Failures of the server after which the same message may be sent again: n8n did not get it."""
_PROBLEM = (b"content-type", b"application/problem+json")
_JSON = (b"content-type", b"application/json")
LINES = (b"content-type", b"application/json; charset=utf-8")
"""The media type of n8n's own streams (2.41)."""
NO_TRANSFORM = (b"cache-control", b"no-cache, no-transform")
"""Of every stream, in the place of what other answers say of caches."""

_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Rendered(msgspec.Struct, frozen=True):
    """A refusal as an answer: status, body, and the headers that belong to them."""

    status: int
    body: bytes
    headers: Sequence[tuple[bytes, bytes]]


def is_drop_in(path: str) -> bool:
    """Tell whether n8n's own widget asks at this path."""
    return path == DROP_IN or path.startswith(DROP_IN + "/")


def is_openai(path: str) -> bool:
    """Tell whether clients of OpenAI's API ask at this path."""
    return path.startswith(OPENAI)


def wants_lines(accept: bytes | None) -> bool:
    """Tell whether n8n's widget asks for a stream: `Accept: text/plain` (`@n8n/chat` 1.37, `enableStreaming`)."""
    return accept is not None and b"text/plain" in accept.lower()


def render(refusal: Refusal, path: str, accept: bytes | None, request_id: str) -> Rendered:
    """Give the answer that the client at `path` understands."""
    status = refusal.kind.status
    headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after))
    if is_drop_in(path):
        if wants_lines(accept):
            return Rendered(200, error_line(refusal.detail), [LINES, NO_TRANSFORM, *headers])
        said = f"{refusal.content}\n\n{refusal.detail}" if refusal.content else refusal.detail
        return Rendered(status, msgspec.json.encode({"message": said}), [_JSON, *headers])
    if status == _UNAUTHORIZED:  # RFC 9110, 15.5.2 wants the challenge with it
        headers.append((b"www-authenticate", b"Bearer"))
    if is_openai(path):
        if (status >= _SERVER_ERROR and refusal.kind not in _NOTHING_SENT) or refusal.kind is DAILY_LIMIT_REACHED:
            # OpenAI's SDKs try again by themselves: n8n would run the workflow again, and a day is too long to wait.
            headers.append((b"x-should-retry", b"false"))
        return Rendered(status, msgspec.json.encode(openai_error(refusal)), [_JSON, *headers])
    return Rendered(status, msgspec.json.encode(problem(refusal, request_id)), [_PROBLEM, *headers])


def error_line(sentence: str) -> bytes:
    """Give the line by which n8n tells its widget that a reply failed."""
    return msgspec.json.encode({"type": "error", "content": sentence}) + b"\n"


def openai_error(refusal: Refusal) -> dict[str, Any]:
    """Give OpenAI's document of an error; `param` names the first member that is wrong.

    `content`, which is not OpenAI's, has the text of the reply that was said before it failed.
    """
    status = refusal.kind.status
    usual = "server_error" if status >= _SERVER_ERROR else "invalid_request_error"
    error = {
        "message": refusal.detail,
        "type": _OPENAI_TYPES.get(status, usual),
        "param": refusal.errors[0].field if refusal.errors else None,
        "code": refusal.kind.code,
    }
    return {"error": {**error, "content": refusal.content} if refusal.content else error}
