"""Which format a body has, told by its first bytes: n8n gives a stream and a document the same Content-Type.

A body whose type is JSON is a document, a stream of JSON lines, or SSE. Any other is text unless it begins as one of
these three, and is held only as long as that is open.
"""

from typing import Literal

from chatcore.wire.assembly import STREAM_TYPES
from chatcore.wire.jsontext import NotJsonError, loads
from chatcore.wire.shapes import WORKFLOW_STARTED
from chatcore.wire.status import is_json_type

Format = Literal["document", "lines", "events", "text"]

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_LONGEST_FIELD = 6
_EVENT_DATA = (b"{", b"[", b'"')
_AFTER_BRACE = b'"}'
_AFTER_BRACKET = b'[]{"-0123456789tfn'
_STARTED = WORKFLOW_STARTED.encode()
_STARTED_BYTES = 64


class Recogniser:
    """Collects bytes in `body` until the format is clear. What is left of `body` then, is what a reader is to read."""

    __slots__ = ("_begun", "_line_at", "_open", "_scanned", "_seen", "_start", "_strict", "_typed_events", "body")

    def __init__(self, media_type: str) -> None:
        self.body = bytearray()
        self._strict = is_json_type(media_type)
        self._typed_events = media_type == "text/event-stream"
        self._begun: Literal["no", "mark", "yes"] = "no"  # the byte order mark is over; the white space is, too
        self._start = 0  # the first byte that is no white space
        self._open: Literal["", "object", "fields", "started"] = ""
        self._line_at = 0
        self._scanned = 0
        self._seen = False  # of an object: one was complete; of fields: a `data` was among them

    def feed(self, data: bytes) -> Format | None:
        """Take more of the body; gives the format once it is clear."""
        self.body += data
        if not self._begins():
            return None
        if not self._open:
            known = self._first()
            if known is not None or not self._open:
                return known
        match self._open:
            case "object":
                return self._object_lines()
            case "fields":
                return self._field_lines()
            case _:
                rest = self.body[self._start :]
                return None if len(rest) <= _STARTED_BYTES and _STARTED.startswith(rest.rstrip()) else "text"

    def close(self) -> Format:
        """Decide now: nothing more will come."""
        rest = bytes(self.body[self._line_at :]).strip()
        if self._open == "object":
            return "lines" if _is_stream_line(rest) else "document"
        if self._open == "fields":
            return "events" if self._seen or rest.startswith(b"data:") else "text"
        return "document" if self._open == "started" or self._strict else "text"

    def _begins(self) -> bool:
        """Pass over a byte order mark and white space; tells whether anything else has come."""
        body = self.body
        if self._begun == "yes":
            return True
        if self._begun == "no":
            if len(body) < len(_BOM) and _BOM.startswith(body):
                return False
            if body.startswith(_BOM):
                del body[: len(_BOM)]
            self._begun = "mark"
        self._start = len(body) - len(body[self._start :].lstrip())
        if self._start == len(body):
            return False
        self._begun = "yes"
        self._line_at = self._start
        self._scanned = self._start + 1
        return True

    def _first(self) -> Format | None:
        """Decide by the first bytes, or set `_open` to what they may become; neither where a byte more is needed."""
        first = self.body[self._start]
        if first in b"{[":
            return self._bracket(first)
        head = bytes(self.body[self._start : self._start + _LONGEST_FIELD])
        field = head.startswith(_FIELDS)
        if self._typed_events or (field and self._strict):
            return "events"
        if field:
            self._open = "fields"
        elif not self._strict and first == _STARTED[0]:
            self._open = "started"
        elif not any(name.startswith(head) for name in _FIELDS):
            return "document" if self._strict else "text"
        return None

    def _bracket(self, first: int) -> Format | None:
        if not self._strict:
            # Text may begin with a bracket as well: `[link](…)`, `{name}`.
            rest = self.body[self._scanned :].lstrip()
            self._scanned = len(self.body) - len(rest)
            if not rest:
                return None
            if rest[0] not in (_AFTER_BRACE if first in b"{" else _AFTER_BRACKET):
                return "text"
        if first in b"[":
            return "document"
        self._open = "object"
        self._scanned = self._start
        return None

    def _object_lines(self) -> Format | None:
        for line in self._complete_lines():
            if not line:
                continue
            try:
                value = loads(line)
            except NotJsonError:
                # One document over several lines; or something else behind a whole object.
                return "document" if self._strict or not self._seen else "text"
            if _is_stream_value(value):
                return "lines"
            self._seen = True
        return None

    def _field_lines(self) -> Format | None:
        for line in self._complete_lines():
            if not line:
                if self._seen:
                    return "events"
            elif line.startswith(b"data:"):
                if line[5:].lstrip().startswith(_EVENT_DATA):
                    return "events"
                self._seen = True
            elif not line.startswith(_FIELDS):
                return "text"
        rest = bytes(self.body[self._line_at : self._line_at + _LONGEST_FIELD]).rstrip(b"\r")
        if rest.startswith(_FIELDS) or any(field.startswith(rest) for field in _FIELDS):
            return None
        return "text"

    def _complete_lines(self) -> list[bytes]:
        body = self.body
        end = body.rfind(b"\n", self._scanned)
        self._scanned = len(body)
        if end < 0:
            return []
        block = bytes(body[self._line_at : end])
        self._line_at = end + 1
        return [line.rstrip() for line in block.split(b"\n")]


def _is_stream_line(line: bytes) -> bool:
    try:
        return _is_stream_value(loads(line))
    except NotJsonError:
        return False


def _is_stream_value(value: object) -> bool:
    kind = value.get("type") if isinstance(value, dict) else None
    return isinstance(kind, str) and kind in STREAM_TYPES
