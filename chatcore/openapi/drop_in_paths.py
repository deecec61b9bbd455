"""The address of n8n's own widget in the description: what `@n8n/chat` sends there, and what it gets."""

from collections.abc import Iterable
from typing import Any

import msgspec

from chatcore import errors as kinds
from chatcore.drop_in import LOAD_PREVIOUS, MAX_SESSION_CHARS, SEND
from chatcore.error_shapes import error_line
from chatcore.errors import Kind
from chatcore.openapi.responses import CHECKED_ORIGIN, LIMITS, OF_A_REPLY, answer, errors, json, schema
from chatcore.openapi.schemas import schemas
from chatcore.settings import Settings
from chatcore.wire.previous_session import MAX_MESSAGES, Said, encode_previous

_SESSION = "6f0a3c52-6d1e-4f0b-9a57-0c2b7d9e8f13"
_EITHER: list[dict[str, list[str]]] = [{}, {"session": []}]
_REFUSED = (
    *CHECKED_ORIGIN,
    kinds.INVALID_JSON,
    kinds.TOKEN_MISSING,
    kinds.TOKEN_INVALID,
    kinds.TOKEN_EXPIRED,
    kinds.NOT_FOUND,
    kinds.BODY_TOO_LARGE,
    kinds.UNSUPPORTED_MEDIA_TYPE,
    kinds.RATE_LIMITED,
    kinds.DAILY_LIMIT_REACHED,
    kinds.STORE_UNAVAILABLE,
    *OF_A_REPLY,
)
_ABOUT = (
    "For the unchanged widget of n8n (`@n8n/chat`). Unknown members are dropped. Without a token `sessionId` names the "
    "session, within the website and the bot. `Accept: text/plain` asks for the JSON lines of n8n's stream: 200 "
    "whatever happens, and a failure is an `error` line; else one document comes, with white space before it where it "
    "takes more than 15 s."
)


def drop_in_paths(settings: Settings) -> dict[str, Any]:
    """Give both paths."""
    bot = {
        "name": "bot",
        "in": "path",
        "required": True,
        "schema": {"enum": sorted(settings.upstream.bots)},
        "description": "The name of a bot.",
    }
    return {
        "/chat": {"post": _post(settings, "widgetRequest", "Serve n8n's own widget", [])},
        "/chat/{bot}": {"post": _post(settings, "widgetRequestToBot", "Serve n8n's own widget for one bot", [bot])},
    }


def drop_in_schemas(settings: Settings) -> dict[str, Any]:
    """Give the schemas of what the widget sends and gets."""
    native = schemas(settings)["ChatRequest"]["properties"]
    text = {"type": "string"}
    named = {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_SESSION_CHARS, "pattern": "^[A-Za-z0-9_-]+$"}
    message = {
        "action": {"const": SEND},
        "sessionId": {**named, "description": "Needed without a token, and not looked at with one."},
        "chatInput": native["message"],
        "metadata": native["metadata"],
    }
    one = {
        "lc": {"const": 1},
        "type": {"const": "constructor"},
        "id": {"type": "array", "items": text},
        "kwargs": _object({"content": text}, "content"),
    }
    previous = {"data": {"type": "array", "maxItems": MAX_MESSAGES, "items": _object(one, *one)}}
    return {
        "WidgetRequest": {
            "anyOf": [
                _object(message, "action", "chatInput"),
                _object({"action": {"const": LOAD_PREVIOUS}}, "action"),
            ]
        },
        "WidgetAnswer": {
            "anyOf": [
                _object({"output": text}, "output"),
                _object({"message": text}, "message"),
                _object(previous, "data"),
            ]
        },
        "WidgetError": _object({"message": text}, "message"),
    }


def _post(settings: Settings, operation: str, summary: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    example = {"action": SEND, "sessionId": _SESSION, "chatInput": "Hello"}
    content = {"application/json": {"schema": schema("WidgetRequest"), "example": example}}
    if settings.uploads.max_bytes:
        files = {"type": "array", "maxItems": settings.uploads.max_files, "items": {"type": "string"}}
        form = {
            "action": {"const": SEND},
            "sessionId": {"type": "string"},
            "chatInput": {"type": "string"},
            "metadata": {"type": "string", "description": "The object as JSON."},
            "files": {**files, "description": "After all others."},
        }
        content["multipart/form-data"] = {"schema": _object(form, "action", "chatInput")}
    said = [Said("user", "Hello"), Said("assistant", "Hello! How can I help?")]
    given = json("WidgetAnswer")
    given["application/json"]["examples"] = {
        "reply": {"value": {"output": "Hello! How can I help?"}},
        "earlier messages": {"value": msgspec.json.decode(encode_previous(said))},
        "failure after 15 s": {"value": {"message": kinds.UPSTREAM_TIMEOUT.sentence}},
    }
    return {
        "operationId": operation,
        "tags": ["chat"],
        "summary": summary,
        "description": f"{_ABOUT}\n\nThe line of a failure: `{error_line('…').decode().strip()}`",
        "security": _EITHER,
        "parameters": parameters,
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": answer("A reply, or the session's earlier messages.", given, "Cache-Control", *LIMITS),
            **_errors(_REFUSED),
        },
    }


def _errors(refused: Iterable[Kind]) -> dict[str, Any]:
    """Describe refusals as everywhere, but for the shape of their documents and the challenge."""
    described = errors(refused)
    for said in described.values():
        said.get("headers", {}).pop("WWW-Authenticate", None)
        media = said.get("content", {}).pop("application/problem+json", None)
        if media is not None:
            examples = {code: {"value": {"message": kinds.KINDS[code].sentence}} for code in media["examples"]}
            said["content"]["application/json"] = {"schema": schema("WidgetError"), "examples": examples}
    return described


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}
