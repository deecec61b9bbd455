"""Kept messages in the description: a visitor's history, and what operators may read, search, erase and audit."""

from collections.abc import Iterable
from typing import Any, get_args

from chatcore import errors as kinds
from chatcore.archive import MATCHES_A_PARTITION, MAX_MESSAGES, MAX_SESSIONS, Action
from chatcore.archive_query import DEFAULT_MESSAGES, DEFAULT_SESSIONS, MAX_ORIGIN_CHARS, MAX_WORDS_CHARS
from chatcore.errors import Kind
from chatcore.model import FinishReason
from chatcore.openapi.responses import CHECKED_ORIGIN, answer, errors, json
from chatcore.openapi.schemas import MESSAGE_ID, SESSION_ID
from chatcore.settings import Settings

_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_ADMIN: list[dict[str, list[str]]] = [{"admin": []}]
_REFUSED = (kinds.TOKEN_MISSING, kinds.TOKEN_INVALID, kinds.NOT_FOUND, kinds.RATE_LIMITED, kinds.STORE_UNAVAILABLE)
_NONE = "This mode stores no messages, and asks for no token to say so."
_AT = "2026-01-31T09:30:00.120Z"
_MARK = "WzE3Njk4NTE4MDAxMjAwMDAsInNfSmIyaFFtWjRUOHlWbjBSazFYd1BMZyJd"


def history(settings: Settings, security: Any, refused: Iterable[Kind]) -> dict[str, Any]:
    """Describe `GET /api/v1/history`, whose answers besides are those of the chat's other routes."""
    described: dict[str, Any] = {
        "operationId": "history",
        "tags": ["chat"],
        "summary": "The session's earlier messages",
        "security": security,
        "parameters": _page(DEFAULT_MESSAGES, MAX_MESSAGES),
    }
    if settings.mode == "postgres":
        described["description"] = "In the order in which they were said; the last page first."
        described["responses"] = {
            "200": answer("One page.", json("History", _history_example()), "Cache-Control"),
            **errors(refused),
        }
    else:
        described["description"] = "This mode stores none."
        described["responses"] = errors((*refused, kinds.NOT_STORED))
    return described


def archive_paths(settings: Settings) -> dict[str, Any]:
    """Give the paths for operators that kept messages make possible."""
    session = {"name": "session_id", "in": "path", "required": True, "schema": _TEXT, "example": SESSION_ID}
    bot = {"enum": sorted(settings.upstream.bots)}
    filters = [
        _asked(
            "q",
            {"type": "string", "maxLength": MAX_WORDS_CHARS},
            'Words that a message has, whatever their case and accents: `red shoes`, `"red shoes"`, `red or blue`, '
            "`red -shoes`.",
        ),
        _asked(
            "origin", {"type": "string", "maxLength": MAX_ORIGIN_CHARS}, "Only sessions that began on this website."
        ),
        _asked("bot", bot, "Only this bot; all of them if absent."),
        _asked("from", _TIME, "Seen from then on; with `q`, said from then on."),
        _asked("to", _TIME, "Seen before; with `q`, said before."),
    ]
    listed = _operation(
        settings,
        "listSessions",
        "Sessions, or a search in their messages",
        ("The latest first.", "SessionList", _sessions_example()),
        f"At most {MATCHES_A_PARTITION} sessions, or matches of a month, are looked at. Where there are more, "
        "`truncated` says so, and `next_before` goes on where that ended.",
    )
    listed["parameters"] = [*filters, *_page(DEFAULT_SESSIONS, MAX_SESSIONS)]
    transcript = _operation(
        settings,
        "readSession",
        "What was said in a session",
        ("One page, in the order in which it was said; the last page first.", "Transcript", _transcript_example()),
        "How a turn went stands with both of its messages. 404 `not_found` where no message is kept.",
    )
    transcript["parameters"] = [session, *_page(DEFAULT_MESSAGES, MAX_MESSAGES)]
    erase = _operation(
        settings,
        "eraseSessionOf",
        "Erase a session as its visitor may",
        None,
        "Also 204 where nothing is known of it: its tokens are no good any more.",
    )
    erase["parameters"] = [session]
    audit = _operation(
        settings,
        "readAudit",
        "Who read, searched, exported or erased what",
        ("Entries, the latest first.", "AuditList", _audit_example()),
        "Reading it is an entry too.",
    )
    audit["parameters"] = [
        _asked("before", {"type": "integer", "minimum": 0}, "The `next_before` of an answer."),
        _limit(DEFAULT_MESSAGES, MAX_SESSIONS),
    ]
    return {
        "/api/v1/admin/sessions": {"get": listed},
        "/api/v1/admin/sessions/{session_id}": {"delete": erase},
        "/api/v1/admin/sessions/{session_id}/messages": {"get": transcript},
        "/api/v1/admin/audit": {"get": audit},
    }


def archive_schemas(settings: Settings) -> dict[str, Any]:
    """Give the schemas of their answers, in the mode that has them."""
    if settings.mode != "postgres":
        return {}
    mark = {"type": ["string", "null"], "description": "Where the next page goes on; null where there is none."}
    maybe = {"type": ["string", "null"]}
    said = {"message_id": _TEXT, "role": {"enum": ["user", "assistant"]}, "content": _TEXT, "created_at": _TIME}
    told = {
        "finish_reason": {"enum": [*get_args(FinishReason), None], "description": "null while the reply runs."},
        "error_code": maybe,
        "duration_ms": {"type": ["integer", "null"], "minimum": 0},
        "rating": {"enum": ["up", "down", None]},
        "comment": maybe,
    }
    session = {
        "session_id": _TEXT,
        "bot": _TEXT,
        **dict.fromkeys(("origin", "page", "client"), _TEXT),
        "user": {**maybe, "description": "The `sub` of a verified user."},
        "created_at": _TIME,
        "seen_at": _TIME,
        **dict.fromkeys(("messages", "replies", "errors", "feedback_up", "feedback_down"), _COUNT),
        "excerpt": {**maybe, "description": "Of the latest message that matches, plain text; null without a search."},
    }
    entry = {
        "number": {"type": "integer", "minimum": 1},
        "at": _TIME,
        "actor": {"type": "string", "description": "`visitor`, `admin:<name>`, `cli:<user>`."},
        "action": {"enum": list(get_args(Action))},
        "session_id": maybe,
        "address": {"type": "string", "description": "A keyed hash; empty at a terminal."},
        "detail": {"type": "object", "description": "What was asked for; never a message's text."},
    }
    return {
        "History": _object({"messages": _array(_object(said), MAX_MESSAGES), "next_before": mark}),
        "SessionList": _object(
            {
                "sessions": _array(_object(session), MAX_SESSIONS),
                "next_before": mark,
                "truncated": {"type": "boolean"},
            }
        ),
        "Transcript": _object(
            {
                "session_id": _TEXT,
                "messages": _array(_object({**said, **told}), MAX_MESSAGES),
                "next_before": mark,
            }
        ),
        "AuditList": _object(
            {
                "entries": _array(_object(entry), MAX_SESSIONS),
                "next_before": {"type": ["integer", "null"], "minimum": 1},
            }
        ),
    }


def _operation(
    settings: Settings, name: str, summary: str, given: tuple[str, str, Any] | None, about: str
) -> dict[str, Any]:
    """Describe an operation; `given` is what a good answer is, its schema and an example, None for an empty one."""
    described: dict[str, Any] = {"operationId": name, "tags": ["operations"], "summary": summary}
    if settings.mode != "postgres":
        return {**described, "description": _NONE, "responses": errors((*CHECKED_ORIGIN, kinds.NOT_STORED))}
    if given is None:
        good = {"204": answer("Nothing is kept of it any more.", None, "Cache-Control")}
    else:
        said, of_schema, example = given
        good = {"200": answer(said, json(of_schema, example), "Cache-Control")}
    return {
        **described,
        "description": f"{about} An entry of the audit log is written before.",
        "security": _ADMIN,
        "responses": {**good, **errors((*CHECKED_ORIGIN, *_REFUSED))},
    }


def _page(default: int, most: int) -> list[dict[str, Any]]:
    return [_asked("before", _TEXT, "The `next_before` of an answer: what comes before it."), _limit(default, most)]


def _limit(default: int, most: int) -> dict[str, Any]:
    return _asked(
        "limit", {"type": "integer", "minimum": 1, "maximum": most, "default": default}, "The most of one page."
    )


def _asked(name: str, described: dict[str, Any], said: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": said, "schema": described}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _array(items: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "maxItems": most, "items": items}


def _said(role: str, content: str) -> dict[str, Any]:
    return {"message_id": MESSAGE_ID, "role": role, "content": content, "created_at": _AT}


def _history_example() -> dict[str, Any]:
    return {"messages": [_said("user", "Hello"), _said("assistant", "Hello! How can I help?")], "next_before": None}


def _transcript_example() -> dict[str, Any]:
    told = {"finish_reason": "complete", "error_code": None, "duration_ms": 812, "rating": "up", "comment": "Quick!"}
    messages = [{**_said("user", "Hello"), **told}, {**_said("assistant", "Hello! How can I help?"), **told}]
    return {"session_id": SESSION_ID, "messages": messages, "next_before": None}


def _sessions_example() -> dict[str, Any]:
    page = {"origin": "https://www.example.com", "page": "https://www.example.com/prices", "client": "firefox desktop"}
    counts = {"messages": 4, "replies": 3, "errors": 1, "feedback_up": 1, "feedback_down": 0}
    times = {"user": None, "created_at": _AT, "seen_at": _AT}
    session = {"session_id": SESSION_ID, "bot": "default", **page, **times, **counts, "excerpt": "…of the red shoes?"}
    return {"sessions": [session], "next_before": _MARK, "truncated": False}


def _audit_example() -> dict[str, Any]:
    entry = {
        "number": 17,
        "at": _AT,
        "actor": "admin:anna",
        "action": "sessions_searched",
        "session_id": None,
        "address": "26dc346562f2711180815f530d20ed39",
        "detail": {"q": "red shoes", "limit": 20},
    }
    return {"entries": [entry], "next_before": 17}
