"""Bodies without inner structure of their own: text that flows as it comes, and JSON documents that are read whole."""

import codecs

from chatcore.errors import UPSTREAM_INVALID
from chatcore.wire.assembly import Assembly
from chatcore.wire.jsontext import NotJsonError, TooDeepError, loads
from chatcore.wire.shapes import STARTED, WORKFLOW_STARTED, fenced, read


class TextReader:
    """Reads UTF-8 text as it comes; tags stay text, bad bytes become U+FFFD."""

    __slots__ = ("_assembly", "_decoder")

    held = 0

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes, now: float) -> None:  # noqa: ARG002 - all readers are fed alike
        """Take what was read."""
        self._assembly.say(self._decoder.decode(data))

    def close(self, now: float, *, complete: bool) -> None:  # noqa: ARG002 - all readers are closed alike
        """End the reply; a character that was cut is broken only where the body was not."""
        if complete:
            self._assembly.say(self._decoder.decode(b"", final=True))
        self._assembly.end(cut=None if complete else "the body was cut")


class DocumentReader:
    """Collects a JSON document. With `or_text` a body that turns out to be no JSON is text, else it is broken."""

    __slots__ = ("_assembly", "_body", "_or_text", "_show_raw")

    def __init__(self, assembly: Assembly, *, or_text: bool, show_raw: bool) -> None:
        self._assembly = assembly
        self._body = bytearray()
        self._or_text = or_text
        self._show_raw = show_raw

    @property
    def held(self) -> int:
        """Bytes collected."""
        return len(self._body)

    def feed(self, data: bytes, now: float) -> None:  # noqa: ARG002 - all readers are fed alike
        """Take what was read."""
        self._body += data

    def close(self, now: float, *, complete: bool) -> None:  # noqa: ARG002 - all readers are closed alike
        """Read the document and end the reply."""
        body = bytes(self._body)
        self._body.clear()
        assembly = self._assembly
        if not complete:
            assembly.end(cut="the body was cut")
        elif body.strip() == WORKFLOW_STARTED.encode():
            assembly.fail(UPSTREAM_INVALID, STARTED.reason, STARTED.sentence)
        elif body.strip():
            self._read(body)
        assembly.end()

    def _read(self, body: bytes) -> None:
        assembly = self._assembly
        try:
            value = loads(body)
        except TooDeepError:
            assembly.fail(UPSTREAM_INVALID, "a JSON document that is nested too deeply")
            return
        except NotJsonError:
            if self._or_text:
                assembly.say(body.decode("utf-8", "replace"))
            else:
                assembly.fail(UPSTREAM_INVALID, "the type is JSON, the body is not")
            return
        shape = read(value)
        if shape.texts is not None:
            assembly.note(shape.note)
            for place, text in enumerate(shape.texts):
                if place:
                    assembly.end_segment()
                assembly.say(text)
        elif self._show_raw and not shape.withhold:
            assembly.say(fenced(value, body))
        else:
            assembly.fail(UPSTREAM_INVALID, shape.reason, shape.sentence)
