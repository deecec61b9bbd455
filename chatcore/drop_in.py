"""What n8n's own widget sends, read: its JSON or its form fields become one checked value (`@n8n/chat` 1.37).

Pages put members of their own into a request (n8n passes them to the workflow), so an unknown one is no fault here: it
is dropped.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from chatcore import fields, keyed, strictjson
from chatcore.intake import json_object
from chatcore.settings import IntakeSettings

SEND: Final = "sendMessage"
LOAD_PREVIOUS: Final = "loadPreviousSession"
MAX_SESSION_CHARS = 128

_KNOWN = frozenset({"action", "sessionId", "chatInput", "metadata", "files"})
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


class WidgetRequest(msgspec.Struct, frozen=True, gc=False):
    """One request of the widget. `session` is the id that it made up, None where it sent none that can be one.

    `text` and `metadata` are those of a message; a request for earlier messages has neither.
    """

    action: Literal["sendMessage", "loadPreviousSession"]
    session: str | None
    text: str = ""
    metadata: dict[str, Any] | None = None


def parse_document(body: bytes, settings: IntakeSettings, *, named: bool) -> WidgetRequest:
    """Read a JSON body. With `named` a message must name its session. Raises `Refusal` as `intake.parse_chat`."""
    faults = fields.Faults()
    return _read(json_object(body, faults), settings, faults, named=named)


def parse_form(texts: Mapping[str, str], settings: IntakeSettings, *, named: bool) -> WidgetRequest:
    """Read the text parts of a form, of which `metadata` is JSON (capture 84 of n8n 2.41). As `parse_document`."""
    faults = fields.Faults()
    members: dict[str, Any] = dict(texts)
    if "metadata" in texts:
        try:
            members["metadata"] = strictjson.decode(texts["metadata"].encode("utf-8", "surrogatepass"))
        except strictjson.DuplicateNameError as fault:
            faults.add(f"metadata.{fields.shown(fault.name)}", "is given twice")
            faults.refuse()
        except ValueError:
            faults.add("metadata", "must be a JSON object")
            faults.refuse()
    return _read(members, settings, faults, named=named)


def session_name(origin: bytes | None, bot: str, session: str) -> str:
    """Give the id of the session that a page names without a token.

    It begins with `w_`, so it is none that was issued by token, and differs by origin and bot.
    """
    spoken = b"\n".join((origin or b"", bot.encode(), session.encode()))
    return "w_" + keyed.base64url(hashlib.sha256(spoken).digest())


def is_unguessable(session: str) -> bool:
    """Tell whether a session's id is a version 4 UUID (RFC 9562, 5.4), which the widget makes where a page does not."""
    return _UUID4.fullmatch(session) is not None


def _read(members: Mapping[str, Any], settings: IntakeSettings, faults: fields.Faults, *, named: bool) -> WidgetRequest:
    action, session, text = members.get("action"), members.get("sessionId"), members.get("chatInput")
    named_well = isinstance(session, str) and _SESSION.fullmatch(session) is not None
    if action == LOAD_PREVIOUS:
        return WidgetRequest(LOAD_PREVIOUS, session if named_well else None)
    if action != SEND:
        faults.add("action", f'must be "{SEND}" or "{LOAD_PREVIOUS}"')
    if text is None:
        faults.add("chatInput", _missing(members, "chatInputKey"))
    elif fields.is_text("chatInput", text, settings.max_message_chars, faults) and not text.strip():
        faults.add("chatInput", "must not be empty or only white space")
    if session is None and named:
        faults.add("sessionId", _missing(members, "chatSessionKey"))
    elif session is not None and not named_well:
        faults.add("sessionId", f"must be 1 to {MAX_SESSION_CHARS} of A-Z a-z 0-9 _ -")
    metadata = None
    if "metadata" in members:
        metadata = fields.metadata("metadata", members["metadata"], faults)
    if not faults and metadata is not None and _bytes_of(metadata) > fields.MAX_METADATA_BYTES:
        faults.add("metadata", f"must have at most {fields.MAX_METADATA_BYTES} bytes")
    if faults:
        faults.refuse()
    return WidgetRequest(SEND, session, text or "", metadata)


def _bytes_of(metadata: dict[str, Any]) -> int:
    """Count what it takes as JSON without white space, which is how the widget writes it."""
    return len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())


def _missing(members: Mapping[str, Any], option: str) -> str:
    """Say that a member is missing; where the page seems to have renamed it, which option of the widget does that."""
    others = [name for name, value in members.items() if name not in _KNOWN and isinstance(value, str)]
    if not others:
        return "is required and must be a string"
    return f"is missing, but there is '{fields.shown(others[0])}': leave out {option} of createChat"
