"""Server-sent events as hand-made webhooks send them: `data:` lines with text, JSON, n8n's lines or OpenAI chunks.

Lines end with LF, CRLF or CR (WHATWG HTML, section 9.2). Beyond that standard, a `data` line that is a whole JSON
object is an event of its own at once, since many a webhook forgets the blank line; and what is pending when the body
ends counts.
"""

import contextlib
from typing import Any

from chatcore.errors import UPSTREAM_INVALID
from chatcore.wire.assembly import STREAM_TYPES, Assembly
from chatcore.wire.jsontext import NotJsonError, loads
from chatcore.wire.lines import content_of
from chatcore.wire.shapes import STARTED, describe, only_started, read, text_of

_DONE = b"[DONE]"
_HEARTBEATS = (b"ping", b"keepalive", b"heartbeat")
_PLAIN_EVENTS = (b"", b"message")
_LINE_COST = 64
"""What a `data` line costs in memory beyond its bytes, about."""


class EventReader:
    """Reads SSE from any split of its bytes."""

    __slots__ = ("_after_cr", "_assembly", "_data", "_data_size", "_name", "_tail")

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._data_size = 0
        self._name = b""
        self._after_cr = False

    @property
    def held(self) -> int:
        """Bytes of an event that is not complete, and about what keeping its lines apart costs."""
        return len(self._tail) + self._data_size

    def feed(self, data: bytes, now: float) -> None:
        """Take what was read; `now` is in monotonic seconds."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        tail = self._tail
        end = data.rfind(b"\n")
        if end < 0:
            tail += data
            return
        tail += data[:end]
        block = bytes(tail)
        tail.clear()
        tail += data[end + 1 :]
        for raw in block.split(b"\n"):
            self._line(raw, now)
            if self._assembly.finished:
                return

    def close(self, now: float, *, complete: bool) -> None:
        """End the reply. An event without its blank line counts, a line that was cut does not."""
        if complete and self._tail:
            self._line(bytes(self._tail), now)
        self._tail.clear()
        self._dispatch(now)
        self._assembly.end(cut=None if complete else "the body was cut")

    def _line(self, raw: bytes, now: float) -> None:
        if not raw:
            self._dispatch(now)
            self._name = b""
        elif raw.startswith(b"data:") or raw == b"data":
            value = raw[6:] if raw[5:6] == b" " else raw[5:]
            alone = None if self._data else _object_in(value)
            if alone is not None or (not self._data and value.strip() == _DONE):
                self._event(value, alone, now)
            else:
                self._data.append(value)
                self._data_size += len(value) + _LINE_COST
        elif raw.startswith(b"event:"):
            self._name = raw[6:70].strip()

    def _dispatch(self, now: float) -> None:
        if self._data:
            data = b"\n".join(self._data)
            self._data.clear()
            self._data_size = 0
            self._event(data, None, now)
        elif self._name == b"error":
            self._assembly.error(now)

    def _event(self, data: bytes, value: Any, now: float) -> None:
        assembly = self._assembly
        if data.strip() == _DONE:
            assembly.end()
            return
        if self._name in _HEARTBEATS:
            return
        assembly.line("", None, now)
        if self._name == b"error":
            assembly.error(now)
            return
        if value is None and data.lstrip()[:1] in (b"{", b"[", b'"'):
            with contextlib.suppress(NotJsonError):
                value = loads(data)
        match value:
            case dict():
                self._object(value, data, now)
            case list():
                self._array(value, data, now)
            case str():
                self._text(value, now)
            case _:
                self._text(data.decode("utf-8", "replace"), now)

    def _object(self, value: dict[str, Any], data: bytes, now: float) -> None:
        kind = value.get("type")
        text = text_of(value)
        if isinstance(kind, str) and kind in STREAM_TYPES:
            self._assembly.line(kind, content_of(value), now)
        elif isinstance(value.get("choices"), list):
            self._text(_chunk_text(value["choices"]), now)
        elif only_started(value):
            self._assembly.fail(UPSTREAM_INVALID, STARTED.reason, STARTED.sentence)
        elif text is not None:
            self._text(text, now)
        elif value.get("error"):
            self._assembly.error(now)
        elif isinstance(kind, str) or self._name not in _PLAIN_EVENTS:
            self._assembly.note(f"an event was skipped: {describe(value)}")
        else:
            self._text(data.decode("utf-8", "replace"), now)

    def _array(self, value: list[Any], data: bytes, now: float) -> None:
        shape = read(value)
        if shape.withhold:
            self._assembly.fail(UPSTREAM_INVALID, shape.reason)
        elif shape.texts is None:
            self._text(data.decode("utf-8", "replace"), now)
        else:
            self._assembly.note(shape.note)
            for place, text in enumerate(shape.texts):
                if place:
                    self._assembly.end_segment()
                self._text(text, now)

    def _text(self, text: str, now: float) -> None:
        if text:
            self._assembly.item(text, now)


def _object_in(value: bytes) -> Any:
    """Give the JSON object that a `data` line holds whole, else None."""
    stripped = value.strip()
    if not stripped.startswith(b"{") or not stripped.endswith(b"}"):
        return None
    try:
        return loads(stripped)
    except NotJsonError:
        return None


def _chunk_text(choices: list[Any]) -> str:
    """Give the text of an OpenAI `chat.completion.chunk`; empty for those that carry a role, a tool call or usage."""
    first = choices[0] if choices else None
    delta = first.get("delta") if isinstance(first, dict) else None
    content = delta.get("content") if isinstance(delta, dict) else None
    return content if isinstance(content, str) else ""
