"""Spans, the pieces of a trace, as values, and how HTTP carries their context (W3C Trace Context); pure.

`tracing` begins and ends them, `span_export` sends them to a collector.
"""

import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Literal

import msgspec

Kind = Literal["server", "internal", "client"]

MAX_STATE_CHARS = 512
"""A longer `tracestate` is dropped: n8n takes 16 KiB of headers, and so much is all that has to be handed on."""

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY = r"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_MEMBER = re.compile(rf"({_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MAX_MEMBERS = 32
_SAMPLED = 1


class Context(msgspec.Struct, frozen=True):
    """What names a span everywhere, and whether its trace is recorded. `state` belongs to other tracing systems."""

    trace_id: bytes
    span_id: bytes
    sampled: bool
    state: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that carry it to whoever is asked next."""
        parent = f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{'01' if self.sampled else '00'}"
        return {"traceparent": parent, "tracestate": self.state} if self.state else {"traceparent": parent}


class Event(msgspec.Struct, frozen=True):
    """What happened in a span, and when: nanoseconds since the Unix epoch."""

    name: str
    at: int


class Span(msgspec.Struct):
    """One piece of work. Times are nanoseconds since the Unix epoch; `error` says why it failed, None where it did not.

    `links` are spans that it has to do with, besides its parent.
    """

    name: str
    kind: Kind
    context: Context
    parent_id: bytes
    began: int
    attributes: dict[str, str | int]
    events: list[Event] = []
    links: list[Context] = []
    ended: int = 0
    error: str | None = None


current: ContextVar[Span | None] = ContextVar("span", default=None)
"""The span that the running code belongs to, where there are traces."""


def ids() -> Mapping[str, str]:
    """Give what a line of the log tells of the current span."""
    span = current.get()
    if span is None:
        return {}
    return {"trace_id": span.context.trace_id.hex(), "span_id": span.context.span_id.hex()}


def read_context(headers: Iterable[tuple[bytes, bytes]]) -> Context | None:
    """Give the context that a request brings; nothing where it brings none, several, or what is none."""
    parents, states = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value)
        elif name == b"tracestate":
            states.append(value)
    match = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if match is None:
        return None
    version, trace_id, span_id = match[1], bytes.fromhex(match[2].decode()), bytes.fromhex(match[3].decode())
    if version == b"ff" or (version == b"00" and match[5] is not None) or not any(trace_id) or not any(span_id):
        return None
    return Context(trace_id, span_id, bool(int(match[4], 16) & _SAMPLED), _state(b",".join(states)))


def _state(value: bytes) -> str:
    """Give a `tracestate` as it may be handed on: as it came, or empty where anything about it is wrong."""
    text = value.decode("latin-1")
    matches = [_MEMBER.fullmatch(member.strip(" \t")) for member in text.split(",") if member.strip(" \t")]
    keys = [match[1] for match in matches if match is not None]
    sound = len(keys) == len(matches) == len(set(keys)) and len(keys) <= _MAX_MEMBERS
    return text if sound and len(text) <= MAX_STATE_CHARS else ""
