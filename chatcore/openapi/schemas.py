"""Schemas of the description: what clients send and what they get."""

from collections.abc import Mapping
from typing import Any, get_args

from chatcore import fields
from chatcore.errors import KINDS
from chatcore.model import FinishReason
from chatcore.openapi.responses import schema
from chatcore.settings import Mode, Settings, UploadSettings

MESSAGE_ID = "0b7f9c3e-9d2a-4c1e-8f0b-3a5d7e9c1b2f"
SESSION_ID = "s_Jb2hQmZ4T8yVn0Rk1XwPLg"
TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJjaGF0Y29yZSJ9.…"  # noqa: S105 - an example that is cut short

# White space as Python's `str.strip` has it, in an escape that ECMA-262, Python and Rust read alike.
_BLANK = r"\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_BLANK = rf"^[^\u0000]*[^\u0000{_BLANK}][^\u0000]*$"
WITHOUT_NUL = r"^[^\u0000]*$"
UUID = r"^[0-9A-Fa-f]{8}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{4}-?[0-9A-Fa-f]{12}$"
_PAGE = (
    r"^[Hh][Tt][Tt][Pp][Ss]?://[A-Za-z0-9._-]{1,253}(:[0-9]{1,4})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"([?#][A-Za-z0-9._~!$&'()*+,;=:@%/?#-]*)?$"
)


def schemas(settings: Settings) -> Mapping[str, Any]:
    """Give all schemas by name."""
    return {**_sent(settings), **_given(settings), **_events()}


def _sent(settings: Settings) -> dict[str, Any]:
    """What clients send. Unknown members are refused, and so are NUL and lone surrogates."""
    text = {"type": "string", "minLength": 1, "maxLength": settings.intake.max_message_chars, "pattern": NOT_BLANK}
    chat = {
        "message": {**text, "description": "What the visitor says; not only white space."},
        "message_id": {
            "type": "string",
            "pattern": UUID,
            "description": "Makes a retry safe: the same id with the same text joins its reply. Made up if absent.",
            "examples": [MESSAGE_ID],
        },
        "page_url": _page_url(),
        "metadata": {
            "type": "object",
            "maxProperties": fields.MAX_METADATA_MEMBERS,
            "propertyNames": {"pattern": WITHOUT_NUL},
            "additionalProperties": _level(fields.MAX_METADATA_DEPTH - 1),
            "description": f"The page's own data, forwarded as it is: at most {fields.MAX_METADATA_BYTES} bytes and "
            f"{fields.MAX_METADATA_DEPTH} levels.",
        },
    }
    if settings.intake.accept_history:
        chat["history"] = {
            "type": "array",
            "maxItems": fields.MAX_HISTORY_ENTRIES,
            "items": _object(
                {
                    "role": {"enum": ["user", "assistant"]},
                    "content": {"type": "string", "maxLength": fields.MAX_HISTORY_BYTES, "pattern": WITHOUT_NUL},
                },
                closed=True,
            ),
            "description": f"Earlier messages, at most {fields.MAX_HISTORY_BYTES} bytes.",
        }
    token = {"type": "string", "minLength": 1, "maxLength": fields.MAX_TOKEN_CHARS, "pattern": "^[ -~]+$"}
    session = {
        "bot": {"enum": sorted(settings.upstream.bots), "description": "Which bot, where there are several."},
        "page_url": _page_url(),
        "identity_token": {**token, "description": "A JWT by which the site vouches for its user."},
        "challenge_token": {**token, "description": "What the check for humans gave to the page."},
    }
    feedback = {
        "rating": {"enum": ["up", "down"]},
        "comment": {"type": "string", "maxLength": fields.MAX_COMMENT_CHARS, "pattern": WITHOUT_NUL},
    }
    return {
        "ChatRequest": _object(chat, "message", closed=True),
        "SessionRequest": _object(session, optional=True, closed=True),
        "Feedback": _object(feedback, "rating", closed=True),
    }


def _given(settings: Settings) -> dict[str, Any]:
    """What clients get as documents."""
    time = {"type": "string", "format": "date-time"}
    session_id = {"type": "string", "pattern": "^s_[A-Za-z0-9_-]{22}$"}
    text = {"type": "string"}
    problem = {
        "type": {"const": "about:blank"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "enum": sorted({kind.status for kind in KINDS.values()})},
        "code": {"type": "string", "enum": list(KINDS), "description": "The stable name of the error."},
        "detail": {"type": "string", "description": "A sentence a visitor may read."},
        "request_id": text,
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": _object({"field": text, "message": text}),
            "description": "What is wrong with a body, member by member.",
        },
        "retry_after": {"type": "integer", "minimum": 1, "description": "Seconds after which trying again may help."},
        "content": {"type": "string", "description": "What was said of a reply before it failed."},
    }
    document = {
        "message_id": text,
        "session_id": session_id,
        "content": text,
        "finish_reason": _finish_reason(),
        "duration_ms": _duration(),
        "error": {**schema("Problem"), "description": "With `finish_reason` `error` alone."},
    }
    features = {"history": {"type": "boolean"}, "resume": {"type": "boolean"}, "uploads": _uploads(settings.uploads)}
    shown = {"session_id": session_id, "issued_at": time, "expires_at": time}
    status = {"enum": ["ok", "degraded", "unavailable"]}
    check = _object({"status": status, "detail": text}, "status")
    health = {
        "status": status,
        "mode": {"const": settings.mode, "description": f"One of {', '.join(get_args(Mode))}."},
        "version": text,
        "uptime_seconds": {"type": "number", "minimum": 0},
        "checks": {"type": "object", "additionalProperties": check},
    }
    return {
        "Problem": _object(problem, "type", "title", "status", "code", "detail", "request_id"),
        "Session": _object(
            {
                **shown,
                "token": text,
                "expires_in_seconds": {"type": "integer", "minimum": 1},
                "features": _object(features),
            }
        ),
        "SessionShown": _object(shown),
        "Reply": _object(document, "message_id", "session_id", "content", "finish_reason", "duration_ms"),
        "Running": _object({"status": {"const": "running"}}),
        "Health": _object(health),
        "Alive": _object({"status": {"const": "ok"}}),
        "Readiness": _object({"status": {"enum": ["ok", "degraded", "unavailable", "draining"]}}),
    }


def _events() -> dict[str, Any]:
    """What the `data:` lines of a stream hold, by the event's name; an `error` event holds a `Problem`."""
    text = {"type": "string"}
    done = {"message_id": text, "finish_reason": _finish_reason(), "duration_ms": _duration()}
    return {
        "StartEvent": _object({"message_id": text, "session_id": text}),
        "DeltaEvent": _object({"content": text}),
        "DoneEvent": _object(done),
    }


def _object(
    properties: Mapping[str, Any], *required: str, optional: bool = False, closed: bool = False
) -> dict[str, Any]:
    """Describe an object. All members are required unless some are named; none with `optional`."""
    described: dict[str, Any] = {"type": "object", "properties": properties}
    if not optional:
        described["required"] = list(required or properties)
    if closed:
        described["additionalProperties"] = False
    return described


def _level(left: int) -> dict[str, Any]:
    """Describe a value of metadata with `left` levels of objects and arrays below."""
    text = {"type": "string", "pattern": WITHOUT_NUL}
    kinds: list[dict[str, Any]] = [text, {"type": ["number", "boolean", "null"]}]
    if left:
        inner = _level(left - 1)
        kinds.append({"type": "array", "items": inner})
        names = {"pattern": WITHOUT_NUL}
        kinds.append({"type": "object", "propertyNames": names, "additionalProperties": inner})
    return {"anyOf": kinds}


def _page_url() -> dict[str, Any]:
    said = "The http(s) address of the page the visitor is on; only origin and path are kept."
    example = "https://www.example.com/prices"
    most = fields.MAX_PAGE_URL_CHARS
    return {"type": "string", "maxLength": most, "pattern": _PAGE, "description": said, "examples": [example]}


def _uploads(settings: UploadSettings) -> dict[str, Any]:
    if not settings.max_bytes:
        return {"const": False, "description": "Files are not accepted."}
    types = {
        "type": "array",
        "items": {"type": "string"},
        "description": "Media types, or `image/*` for all of a kind.",
    }
    size = {"type": "integer", "minimum": 1, "description": "Of one file."}
    limits = {"max_bytes": size, "max_files": {"type": "integer", "minimum": 1}, "types": types}
    return {**_object(limits), "description": "What files a message may bring."}


def _finish_reason() -> dict[str, Any]:
    return {"enum": list(get_args(FinishReason))}


def _duration() -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "description": "From the message's acceptance to the reply's end."}
