"""Request bytes -> checked values: JSON, grammar, limits; every fault with its field and reason.

Two readers of one grammar. A usual message (strings alone, nothing odd escaped) is read by msgspec in a few
microseconds; whatever that does not accept at once is read again, strictly and slowly, and accepted or explained.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from chatcore import fields, strictjson
from chatcore.errors import INVALID_JSON, UNSUPPORTED_MEDIA_TYPE, Refusal
from chatcore.model import HistoryEntry
from chatcore.settings import IntakeSettings


class ChatRequest(msgspec.Struct, frozen=True, gc=False):
    """One message as a client may send it. `message_id` and `page_url` are in canonical form."""

    message: str
    message_id: str | None = None
    page_url: str | None = None
    metadata: dict[str, Any] | None = None
    history: list[HistoryEntry] | None = None


class SessionRequest(msgspec.Struct, frozen=True):
    """What a client tells when it asks for a session. `bot` is a name by its grammar, configured or not."""

    bot: str | None = None
    page_url: str | None = None
    identity_token: str | None = None
    challenge_token: str | None = None


class Feedback(msgspec.Struct, frozen=True):
    """What a visitor thinks of a reply."""

    rating: Literal["up", "down"]
    comment: str | None = None


class _UsualChat(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    message: str
    message_id: str | msgspec.UnsetType = msgspec.UNSET
    page_url: str | msgspec.UnsetType = msgspec.UNSET


class _AsSent(msgspec.Struct):
    metadata: msgspec.Raw = msgspec.Raw()
    history: msgspec.Raw = msgspec.Raw()


_decode_usual = msgspec.json.Decoder(_UsualChat).decode
_decode_as_sent = msgspec.json.Decoder(_AsSent).decode

_CHAT: Mapping[str, fields.Reader] = {
    "message_id": fields.message_id,
    "page_url": fields.page_url,
    "metadata": fields.metadata,
    "history": fields.history,
}
_SESSION: Mapping[str, fields.Reader] = {
    "bot": fields.bot,
    "page_url": fields.page_url,
    "identity_token": fields.token,
    "challenge_token": fields.token,
}
_FEEDBACK: Mapping[str, fields.Reader] = {"comment": fields.comment}


def parse_chat(body: bytes, settings: IntakeSettings) -> ChatRequest:
    """Read the body of `POST /api/v1/chat`. Raises `Refusal` `invalid_json` or `invalid_request`."""
    return _usual_chat(body, settings.max_message_chars) or _any_chat(body, settings)


def parse_session(body: bytes) -> SessionRequest:
    """Read the body of `POST /api/v1/session`, which may be empty. Raises as `parse_chat`."""
    if not body:
        return SessionRequest()
    faults = fields.Faults()
    read = _read(json_object(body, faults), _SESSION, faults)
    if faults:
        faults.refuse()
    return SessionRequest(**read)


def parse_feedback(body: bytes) -> Feedback:
    """Read the body of `POST /api/v1/chat/{message_id}/feedback`. Raises as `parse_chat`."""
    faults = fields.Faults()
    members = json_object(body, faults)
    rating = members.pop("rating", None)
    if rating not in ("up", "down"):
        faults.add("rating", 'must be "up" or "down"')
    read = _read(members, _FEEDBACK, faults)
    if faults:
        faults.refuse()
    return Feedback(rating, **read)


def check_message_id(text: str) -> str:
    """Give a UUID of any version in canonical form. Raises `Refusal` `invalid_request`."""
    faults = fields.Faults()
    canonical = fields.message_id("message_id", text, faults)
    if canonical is None:
        faults.refuse()
    return canonical


def is_form(content_type: bytes | None) -> bool:
    """Tell whether a body may bring files: `multipart/form-data`, or what is meant for it."""
    return content_type is not None and content_type.lower().startswith(b"multipart/")


def media_type(content_type: bytes | None) -> None:
    """Accept `application/json`, in UTF-8 if it says so; raises `Refusal` `unsupported_media_type` for others."""
    if content_type == b"application/json":
        return
    kind, *parameters = (content_type or b"").decode("latin-1").lower().split(";")
    if kind.strip() != "application/json":
        raise Refusal(UNSUPPORTED_MEDIA_TYPE)
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in {"utf-8", "utf8"}:
            raise Refusal(UNSUPPORTED_MEDIA_TYPE, "The body must be JSON in UTF-8.")


def _usual_chat(body: bytes, max_chars: int) -> ChatRequest | None:
    """Read a usual message, or give `None`. Whatever this accepts, `_any_chat` reads as the same value."""
    if b"\\" in body and (b"\\\\" in body or b"\\u" in body):
        return None
    try:
        usual = _decode_usual(body)
    except (ValueError, RecursionError):
        return None
    message, quotes = usual.message, 4
    message_id = page_url = None
    if usual.message_id is not msgspec.UNSET:
        quotes += 4
        message_id = fields.canonical_uuid(usual.message_id)
    if usual.page_url is not msgspec.UNSET:
        quotes += 4
        page_url = fields.canonical_page(usual.page_url)
    if (
        not 0 < len(message) <= max_chars
        or message.isspace()
        or (message_id is None) != (usual.message_id is msgspec.UNSET)
        or (page_url is None) != (usual.page_url is msgspec.UNSET)
        # Each member is two strings. More quotes mean that one came twice, of which msgspec says nothing.
        or body.count(b'"') - body.count(b'\\"') != quotes
    ):
        return None
    return ChatRequest(message, message_id, page_url)


def _any_chat(body: bytes, settings: IntakeSettings) -> ChatRequest:
    faults = fields.Faults()
    members = json_object(body, faults)
    message = members.pop("message", None)
    if message is None:
        faults.add("message", "is required and must be a string")
    elif fields.is_text("message", message, settings.max_message_chars, faults) and not message.strip():
        faults.add("message", "must not be empty or only white space")
    if "history" in members and not settings.accept_history:
        del members["history"]
        faults.add("history", "is not accepted by this server")
    read = _read(members, _CHAT, faults)
    if not faults and len(body) > fields.MAX_METADATA_BYTES and ("metadata" in read or "history" in read):
        as_sent = _decode_as_sent(body)
        if len(memoryview(as_sent.metadata)) > fields.MAX_METADATA_BYTES:
            faults.add("metadata", f"must have at most {fields.MAX_METADATA_BYTES} bytes")
        if len(memoryview(as_sent.history)) > fields.MAX_HISTORY_BYTES:
            faults.add("history", f"must have at most {fields.MAX_HISTORY_BYTES} bytes")
    if faults:
        faults.refuse()
    return ChatRequest(message, **read)


def json_object(body: bytes, faults: fields.Faults) -> dict[str, Any]:
    """Decode a body that must be one JSON object. Raises `Refusal` `invalid_json` or `invalid_request`."""
    try:
        members = strictjson.decode(body)
    except strictjson.NotJsonError as fault:
        raise Refusal(INVALID_JSON, f"The request body is not valid JSON: {fault}.") from None
    except strictjson.DuplicateNameError as fault:
        faults.add(fields.shown(fault.name), "is given twice")
        faults.refuse()
    except strictjson.NestedTooDeepError:
        faults.add("body", "is nested too deeply")
        faults.refuse()
    if not isinstance(members, dict):
        faults.add("body", "must be a JSON object")
        faults.refuse()
    return members


def _read(members: dict[str, Any], readers: Mapping[str, fields.Reader], faults: fields.Faults) -> dict[str, Any]:
    """Read each member by its reader, and complain of those that nobody knows."""
    read = {}
    for name, value in members.items():
        reader = readers.get(name)
        if reader is None:
            faults.add(fields.shown(name), "is not a known member")
        else:
            read[name] = reader(name, value, faults)
    return read
