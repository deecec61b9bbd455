"""How replies are written in Redis: the names of keys, who holds a claim, and the entries of a reply's stream."""

from collections.abc import Sequence
from typing import Any

import msgspec

from chatcore.errors import INTERNAL_ERROR, KINDS, Refusal
from chatcore.model import Delta, FinishReason, Outcome, TurnKey

START = 1
"""The number of the event that every reply begins with; deltas follow."""

LEASE_MS = 10_000
ROOM_BYTES = 256 * 1024
"""About how much text is read from streams at once."""


class Holder(msgspec.Struct, frozen=True, gc=False):
    """Who runs a reply: the instance, and a keyed hash of the message's text (`Turns.digest`)."""

    instance: str
    digest: str

    def __str__(self) -> str:
        return f"{self.instance} {self.digest}"


class Look(msgspec.Struct, frozen=True):
    """What Redis knows of a reply: who has its claim, whether that instance lives, what the stream has."""

    holder: Holder | None
    alive: bool
    entries: Sequence[Any]


class End(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reply's outcome, as its last entry says it."""

    finish_reason: FinishReason
    duration_ms: int
    code: str | None = None
    detail: str | None = None
    retry_after: int | None = None
    sent: bool = True


def name_of(key: TurnKey) -> str:
    """Give a reply's name in Redis."""
    return f"{key[0]}:{key[1]}"


def key_of(name: str) -> TurnKey:
    """Give the key of a reply's name."""
    session_id, _, message_id = name.rpartition(":")
    return (session_id, message_id)


def claim_key(name: str) -> str:
    """Give the key that the claim of a reply is at."""
    return f"chatcore:c:{name}"


def lease_key(instance: str) -> str:
    """Give the key that is there while an instance lives."""
    return f"chatcore:i:{instance}"


def holder_of(value: bytes) -> Holder:
    """Read who holds a claim."""
    instance, _, digest = value.decode().partition(" ")
    return Holder(instance, digest)


def encode_deltas(deltas: Sequence[Delta]) -> bytes:
    """Make an entry of text: a string for each delta, in a list of its own where it opens a segment."""
    return _ENCODE([[delta.content] if delta.opens_segment else delta.content for delta in deltas])


def encode_end(outcome: Outcome) -> bytes:
    """Make the last entry."""
    refusal = outcome.refusal
    if refusal is None:
        return _ENCODE(End(outcome.finish_reason, outcome.duration_ms))
    return _ENCODE(
        End(
            outcome.finish_reason,
            outcome.duration_ms,
            refusal.kind.code,
            refusal.detail,
            refusal.retry_after,
            outcome.sent,
        )
    )


def decode(entry: bytes) -> list[Delta] | Outcome:
    """Read an entry: text, or the end. Raises `msgspec.DecodeError` where it is none."""
    if entry.startswith(b"["):
        return [Delta(one[0], opens_segment=True) if isinstance(one, list) else Delta(one) for one in _TEXTS(entry)]
    end = _END(entry)
    refusal = None
    if end.code is not None:
        refusal = Refusal(KINDS.get(end.code, INTERNAL_ERROR), end.detail, retry_after=end.retry_after)
    return Outcome(finish_reason=end.finish_reason, duration_ms=end.duration_ms, refusal=refusal, sent=end.sent)


def pairs(entries: Sequence[Any]) -> list[tuple[int, bytes]]:
    """Give the numbers and texts that a script gave one after the other."""
    return [(int(entries[place]), entries[place + 1]) for place in range(0, len(entries), 2)]


def end_number(count: int, outcome: Outcome) -> int:
    """Give the number of the last event of a reply of so many deltas."""
    return START + count + (outcome.refusal is not None) + 1


_ENCODE = msgspec.json.Encoder().encode
_TEXTS = msgspec.json.Decoder(list[str | list[str]]).decode
_END = msgspec.json.Decoder(End).decode
