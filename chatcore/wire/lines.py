"""n8n's stream: one JSON object a line (`begin`, `item`, `end`, `error`, `keepalive`), split at the byte LF alone."""

from typing import Any

import msgspec

from chatcore.wire.assembly import Assembly
from chatcore.wire.jsontext import NotJsonError, dumps, loads
from chatcore.wire.shapes import describe


class _Line(msgspec.Struct, gc=False):
    """What matters of a line; msgspec skips the rest without building it."""

    type: str = ""
    content: str | None = None


class LineReader:
    """Reads JSON lines from any split of their bytes."""

    __slots__ = ("_assembly", "_tail")

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._tail = bytearray()

    @property
    def held(self) -> int:
        """Bytes of a line that is not complete."""
        return len(self._tail)

    def feed(self, data: bytes, now: float) -> None:
        """Take what was read; `now` is in monotonic seconds."""
        tail = self._tail
        end = data.rfind(b"\n")
        if end < 0:
            tail += data
            return
        if tail:
            tail += data[:end]
            block = bytes(tail)
            tail.clear()
        else:
            block = data[:end]
        if end + 1 < len(data):
            tail += data[end + 1 :]
        assembly = self._assembly
        append = assembly.parts.append
        for raw in block.split(b"\n"):
            try:
                line = _DECODE(raw)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                if not self._odd(raw, now):
                    return
                continue
            if assembly.flowing and line.type == "item":
                if line.content:
                    append(line.content)
            else:
                assembly.line(line.type, line.content, now)

    def close(self, now: float, *, complete: bool) -> None:
        """End the reply. A last line without LF counts if it is whole; one that is not shows that the body was cut."""
        tail = bytes(self._tail).strip()
        self._tail.clear()
        cut = None if complete else "the body was cut"
        if tail:
            try:
                self._line_of(loads(tail), now)
            except NotJsonError:
                cut = "the last line of the stream is not complete"
        self._assembly.end(cut=cut)

    def _odd(self, raw: bytes, now: float) -> bool:
        """Read a line that the fast way refused; tells whether to go on."""
        if not raw.strip():
            return True
        try:
            value = loads(raw)
        except NotJsonError:
            self._assembly.end(cut="a line of the stream is not JSON")
            return False
        self._line_of(value, now)
        return not self._assembly.finished

    def _line_of(self, value: Any, now: float) -> None:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str):
            self._assembly.line(kind, content_of(value), now)
        else:
            self._assembly.note(f"a line of the stream was skipped: {describe(value)}")
            self._assembly.line("", None, now)


def content_of(line: dict[str, Any]) -> str | None:
    """Give a line's content as text: n8n makes text of objects itself, hand-made streams may leave that to us."""
    content = line.get("content")
    if content is None or isinstance(content, str):
        return content
    try:
        return dumps(content)
    except NotJsonError:
        return None


_DECODE = msgspec.json.Decoder(_Line).decode
