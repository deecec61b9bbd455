"""A session's earlier messages as n8n's widget gets them: langchain's form, written, and read from n8n's answer."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from chatcore.wire.characters import clean
from chatcore.wire.jsontext import NotJsonError, loads

MAX_MESSAGES = 100
"""The most messages that a widget is given, the last ones."""

_CLASSES = {"user": "HumanMessage", "assistant": "AIMessage"}
_ROLES: dict[str, Literal["user", "assistant"]] = {"HumanMessage": "user", "AIMessage": "assistant"}


class Said(msgspec.Struct, frozen=True):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: str


def encode_previous(messages: Sequence[Said]) -> bytes:
    """Give the document that the widget expects (`@n8n/chat` 1.37); messages without words are left out."""
    return msgspec.json.encode(
        {
            "data": [
                {
                    "lc": 1,
                    "type": "constructor",
                    "id": ["langchain_core", "messages", _CLASSES[message.role]],
                    "kwargs": {"content": message.content},
                }
                for message in messages
                if message.content
            ]
        }
    )


def read_previous(body: bytes) -> Sequence[Said] | None:
    """Read n8n's answer (2.41), None where it is none. What neither a visitor nor the assistant said is left out."""
    try:
        document = loads(body)
    except NotJsonError:
        return None
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return None
    found = [said for said in map(_said, data) if said is not None]
    return found[-MAX_MESSAGES:]


def _said(entry: Any) -> Said | None:
    match entry:
        case {"id": [*_, str(name)], "kwargs": {"content": str(content)}} if name in _ROLES:
            return Said(_ROLES[name], clean(content))
    return None
