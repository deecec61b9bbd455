"""A whole reply as one JSON document, and its text as one string."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from chatcore.model import Delta, FinishReason

SEGMENT_BREAK = "\n\n"
"""Stands between segments where a reply is one text."""


def join_text(deltas: Iterable[Delta]) -> str:
    """Give the text of all deltas, a blank line between segments."""
    return "".join([SEGMENT_BREAK + delta.content if delta.opens_segment else delta.content for delta in deltas])


def encode_document(
    message_id: str,
    session_id: str,
    content: str,
    finish_reason: FinishReason,
    duration_ms: int,
    error: Mapping[str, Any] | None = None,
) -> bytes:
    """Give the document; `error` is the problem of a reply that failed after its status was sent."""
    document: dict[str, Any] = {
        "message_id": message_id,
        "session_id": session_id,
        "content": content,
        "finish_reason": finish_reason,
        "duration_ms": duration_ms,
    }
    if error is not None:
        document["error"] = error
    return _ENCODE(document)


_ENCODE = msgspec.json.Encoder().encode
