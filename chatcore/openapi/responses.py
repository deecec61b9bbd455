"""Answers of the description: headers that go with them, and errors by status with exactly the codes they may have."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from chatcore.errors import (
    CHALLENGE_FAILED,
    HEADERS_TOO_LARGE,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    ORIGIN_NOT_ALLOWED,
    OVERLOADED,
    REPLY_TOO_LARGE,
    REQUEST_TIMEOUT,
    SHUTTING_DOWN,
    UPSTREAM_EMPTY,
    UPSTREAM_ERROR,
    UPSTREAM_INVALID,
    UPSTREAM_NOT_FOUND,
    UPSTREAM_REFUSED,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE,
    Kind,
)

EVERYWHERE = (INVALID_REQUEST, REQUEST_TIMEOUT, HEADERS_TOO_LARGE, INTERNAL_ERROR)
"""What may become of any request."""
CHECKED_ORIGIN = (*EVERYWHERE, ORIGIN_NOT_ALLOWED)
"""What may become of a request whose `Origin` is looked at."""
OF_A_REPLY = (
    UPSTREAM_ERROR,
    UPSTREAM_REFUSED,
    UPSTREAM_NOT_FOUND,
    UPSTREAM_INVALID,
    UPSTREAM_EMPTY,
    REPLY_TOO_LARGE,
    UPSTREAM_UNAVAILABLE,
    OVERLOADED,
    SHUTTING_DOWN,
    UPSTREAM_TIMEOUT,
)
"""What may become of a message on its way to n8n and back."""
LIMITS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")

_BARE = frozenset({REQUEST_TIMEOUT.status, HEADERS_TOO_LARGE.status})
_WAITING = frozenset({429, 502, 503, 504})


def _header(said: str, schema: Mapping[str, Any], *, always: bool = False) -> dict[str, Any]:
    return {"description": said, "schema": schema, **({"required": True} if always else {})}


_COUNT = {"type": "integer", "minimum": 0}
HEADERS: Mapping[str, Any] = {
    "X-Request-ID": _header(
        "The caller's id of this request, or a fresh one; the server's log lines have it too.",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        always=True,
    ),
    "X-Content-Type-Options": _header("Keeps browsers from guessing.", {"const": "nosniff"}, always=True),
    "Referrer-Policy": _header("Keeps addresses here.", {"const": "no-referrer"}, always=True),
    "Cache-Control": _header("How long it may be kept.", {"type": "string"}, always=True),
    "RateLimit-Limit": _header("How many the tightest limit allows.", _COUNT),
    "RateLimit-Remaining": _header("How many of them are left.", _COUNT),
    "RateLimit-Reset": _header("Seconds until all of them are back.", _COUNT),
    "Retry-After": _header("Seconds after which to try again.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": _header("What to send (RFC 6750).", {"const": "Bearer"}, always=True),
    "X-Accel-Buffering": _header("Tells nginx to pass each event on.", {"const": "no"}, always=True),
    "ETag": _header("The content's name, to ask with `If-None-Match`.", {"type": "string"}, always=True),
    "Vary": _header("What the answer depends on.", {"type": "string"}, always=True),
    "Access-Control-Allow-Origin": _header("Any page may read it.", {"const": "*"}, always=True),
    "Content-Security-Policy": _header("What the page may load.", {"type": "string"}, always=True),
}
_ALWAYS = ("X-Request-ID", "X-Content-Type-Options", "Referrer-Policy")


def schema(name: str) -> dict[str, str]:
    """Refer to a schema of the description."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(said: str, content: Mapping[str, Any] | None, *headers: str) -> dict[str, Any]:
    """Describe one answer: its content by media type, and headers beyond those that every answer has."""
    described: dict[str, Any] = {"description": said, "headers": _headers(*_ALWAYS, *headers)}
    if content:
        described["content"] = content
    return described


def json(name: str, example: Any = None) -> dict[str, Any]:
    """Describe a JSON content by the name of its schema."""
    media: dict[str, Any] = {"schema": schema(name)}
    if example is not None:
        media["example"] = example
    return {"application/json": media}


def errors(kinds: Iterable[Kind]) -> dict[str, Any]:
    """Describe refusals: one answer for each status, with the codes it may have."""
    by_status: dict[int, dict[str, Kind]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, {})[kind.code] = kind
    return {str(status): _problem(status, list(found.values())) for status, found in sorted(by_status.items())}


def _problem(status: int, kinds: list[Kind]) -> dict[str, Any]:
    said = "\n".join(f"- `{kind.code}`: {kind.sentence}" for kind in kinds)
    if status in _BARE:
        # The connection answers before there is a request to speak of: nothing goes with the status.
        return {"description": f"{said}\n\nMay come without a body and without the usual headers."}
    names = list(_ALWAYS)
    names += ["WWW-Authenticate"] if status == HTTPStatus.UNAUTHORIZED else []
    names += ["Retry-After"] if status in _WAITING or CHALLENGE_FAILED in kinds else []
    names += LIMITS if status == HTTPStatus.TOO_MANY_REQUESTS else []
    members = {"status": {"const": status}, "code": {"enum": [kind.code for kind in kinds]}}
    media = {
        "schema": {"allOf": [schema("Problem"), {"type": "object", "properties": members}]},
        "examples": {kind.code: {"value": _example(kind)} for kind in kinds},
    }
    return {"description": said, "headers": _headers(*names), "content": {"application/problem+json": media}}


def _example(kind: Kind) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "code": kind.code,
        "detail": kind.sentence,
        "request_id": "9f86d081884c7d65",
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
