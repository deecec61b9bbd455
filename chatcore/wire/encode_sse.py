"""Events of a reply as server-sent events, exactly as our HTTP contract names them.

Texts must hold no lone surrogates; the decoding half lets none through.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from chatcore.model import Delta, FinishReason
from chatcore.wire.encode_document import SEGMENT_BREAK

PING = b": ping\n\n"
"""A comment, which clients skip: it keeps the connection and the gateways between awake."""


def encode_start(message_id: str, session_id: str) -> bytes:
    """Give the first event; its number is 1."""
    return _START % (_ENCODE(message_id), _ENCODE(session_id))


def encode_deltas(first_id: int, deltas: Sequence[Delta]) -> bytes:
    """Give a batch in one piece, the first numbered `first_id`; where a segment opens, a blank line comes first."""
    if len(deltas) == 1:
        delta = deltas[0]
        content = SEGMENT_BREAK + delta.content if delta.opens_segment else delta.content
        return _DELTA % (first_id, _ENCODE(content))
    return b"".join(
        [
            _DELTA % (number, _ENCODE(SEGMENT_BREAK + delta.content if delta.opens_segment else delta.content))
            for number, delta in enumerate(deltas, first_id)
        ]
    )


def encode_error(event_id: int, problem: Mapping[str, Any]) -> bytes:
    """Give the event of a failure; `problem` is the document of `errors.problem`."""
    return b"id: %d\nevent: error\ndata: %b\n\n" % (event_id, _ENCODE(problem))


def encode_done(event_id: int, message_id: str, finish_reason: FinishReason, duration_ms: int) -> bytes:
    """Give the last event; `duration_ms` counts from the acceptance of the message."""
    return _DONE % (event_id, _ENCODE(message_id), _ENCODE(finish_reason), duration_ms)


_ENCODE = msgspec.json.Encoder().encode
_START = b'id: 1\nevent: start\ndata: {"message_id":%b,"session_id":%b}\n\n'
_DELTA = b'id: %d\nevent: delta\ndata: {"content":%b}\n\n'
_DONE = b'id: %d\nevent: done\ndata: {"message_id":%b,"finish_reason":%b,"duration_ms":%d}\n\n'
