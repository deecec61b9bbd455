"""Paths of the description that carry a chat: send, resume, stop, rate, history."""

from typing import Any

from chatcore import errors as kinds
from chatcore.openapi.archive_paths import history
from chatcore.openapi.responses import CHECKED_ORIGIN, LIMITS, OF_A_REPLY, answer, errors, json, schema
from chatcore.openapi.schemas import MESSAGE_ID, SESSION_ID, UUID
from chatcore.settings import Settings, UploadSettings

_BEARER: list[dict[str, list[str]]] = [{"session": []}]
_TOKEN = (*CHECKED_ORIGIN, kinds.TOKEN_MISSING, kinds.TOKEN_INVALID, kinds.TOKEN_EXPIRED, kinds.STORE_UNAVAILABLE)
_BODY = (kinds.INVALID_JSON, kinds.BODY_TOO_LARGE, kinds.UNSUPPORTED_MEDIA_TYPE)
_REFUSED = (
    kinds.MESSAGE_ID_REUSED,
    kinds.RATE_LIMITED,
    kinds.DAILY_LIMIT_REACHED,
    *OF_A_REPLY,
)
_OF_REPLY = (kinds.REPLY_GONE, kinds.NOT_FOUND)
_REPLY = {
    "message_id": MESSAGE_ID,
    "session_id": SESSION_ID,
    "content": "Hello! How can I help?",
    "finish_reason": "complete",
    "duration_ms": 812,
}
_STREAM = f"""\
id: 1
event: start
data: {{"message_id":"{MESSAGE_ID}","session_id":"{SESSION_ID}"}}

id: 2
event: delta
data: {{"content":"Hello! How can I help?"}}

id: 3
event: done
data: {{"message_id":"{MESSAGE_ID}","finish_reason":"complete","duration_ms":812}}

"""
_ABOUT_STREAM = (
    "Events `start`, `delta` (any number), `error` (at most one), `done` (exactly one, the last), each with an `id` "
    "that counts from 1; `: ping` after 15 s of silence."
)
_EVENTS = {"start": schema("StartEvent"), "delta": schema("DeltaEvent"), "error": schema("Problem")}
_EVENTS["done"] = schema("DoneEvent")

_CHAT_SESSION = {
    "name": "X-Chat-Session",
    "in": "header",
    "description": "The session's id, for load balancers; the server does not look at it.",
    "schema": {"type": "string"},
    "example": SESSION_ID,
}
_MESSAGE_ID = {
    "name": "message_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": UUID},
    "example": MESSAGE_ID,
}
_LINKS = {
    operation: {"operationId": operation, "parameters": {"message_id": "$response.body#/message_id"}}
    for operation in ("resumeReply", "stopReply", "rateReply")
}


def chat_paths(settings: Settings) -> dict[str, Any]:
    """Give the paths of the native chat."""
    send = {
        "operationId": "sendMessage",
        "tags": ["chat"],
        "summary": "Send a message and get its reply",
        "description": "`Accept: text/event-stream` gives a stream, anything else one document. The status is decided "
        "at the first text, at the end, or after 15 s; a failure after that is in the stream or the document. "
        "The same `message_id` joins the running reply or gives the kept one.",
        "security": _BEARER,
        "parameters": [_CHAT_SESSION],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema("ChatRequest"), "example": {"message": "Hello"}},
                **_with_files(settings.uploads),
            },
        },
        "responses": {
            "200": {**answer("The reply.", _reply(), "Cache-Control", *LIMITS), "links": _LINKS},
            **errors((*_TOKEN, *_BODY, *_REFUSED, *((kinds.REQUEST_TIMEOUT,) if settings.uploads.max_bytes else ()))),
        },
    }
    return {
        "/api/v1/chat": {"post": send},
        "/api/v1/chat/{message_id}": {"get": _resume(), "delete": _stop()},
        "/api/v1/chat/{message_id}/feedback": {"post": _feedback()},
        "/api/v1/history": {"get": history(settings, _BEARER, _TOKEN)},
    }


def _with_files(uploads: UploadSettings) -> dict[str, Any]:
    """Describe a message with files, where they are accepted."""
    if not uploads.max_bytes:
        return {}
    types, size = ", ".join(uploads.types), uploads.max_bytes
    files = {
        "type": "array",
        "maxItems": uploads.max_files,
        "items": {"type": "string", "contentMediaType": "application/octet-stream"},
        "description": f"Each of at most {size} bytes and of one of these types, by its content too: {types}.",
    }
    form = {
        "type": "object",
        "properties": {"request": schema("ChatRequest"), "files": files},
        "required": ["request"],
        "additionalProperties": False,
        "description": "The part `request` comes first, then the files, each a part named `files`.",
    }
    return {"multipart/form-data": {"schema": form, "encoding": {"request": {"contentType": "application/json"}}}}


def _resume() -> dict[str, Any]:
    last = {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The number of the last event that was read; the stream goes on behind it.",
        "schema": {"type": "string", "pattern": "^[0-9]{0,12}$"},
        "example": "2",
    }
    return {
        "operationId": "resumeReply",
        "tags": ["chat"],
        "summary": "Go on reading a reply, or tell how it stands",
        "security": _BEARER,
        "parameters": [_MESSAGE_ID, last, _CHAT_SESSION],
        "responses": {
            "200": answer("The rest of the stream, or the whole document.", _reply(), "Cache-Control"),
            "202": answer("It is still running.", json("Running"), "Cache-Control", "Retry-After"),
            "204": answer("All of the stream was read already.", None, "Cache-Control"),
            **errors((*_TOKEN, *_OF_REPLY)),
        },
    }


def _stop() -> dict[str, Any]:
    return {
        "operationId": "stopReply",
        "tags": ["chat"],
        "summary": "Stop a reply",
        "description": "Its stream ends with `done` `stopped`. n8n itself works on: it offers no way to be stopped.",
        "security": _BEARER,
        "parameters": [_MESSAGE_ID, _CHAT_SESSION],
        "responses": {
            "204": answer("It has ended.", None, "Cache-Control"),
            **errors((*_TOKEN, *_OF_REPLY)),
        },
    }


def _feedback() -> dict[str, Any]:
    return {
        "operationId": "rateReply",
        "tags": ["chat"],
        "summary": "Rate a reply",
        "security": _BEARER,
        "parameters": [_MESSAGE_ID, _CHAT_SESSION],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema("Feedback"), "example": {"rating": "up"}}},
        },
        "responses": {
            "204": answer("It counts.", None, "Cache-Control"),
            **errors((*_TOKEN, *_BODY, *_OF_REPLY)),
        },
    }


def _reply() -> dict[str, Any]:
    stream = {"schema": {"type": "string", "description": _ABOUT_STREAM}, "example": _STREAM, "x-events": _EVENTS}
    return {"text/event-stream": stream, **json("Reply", _REPLY)}
