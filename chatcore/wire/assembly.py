"""A reply put together from n8n's items: segments, repeats held back, errors that wait, halves of characters.

The rules and their numbers are those of n8n 2.41: an agent followed by a Respond node says its text twice, an `error`
line may be followed by the text of another branch, and a workflow that timed out never closes its stream.
"""

from collections.abc import Sequence

from chatcore.errors import UPSTREAM_EMPTY, UPSTREAM_ERROR, UPSTREAM_INVALID, Kind, Refusal
from chatcore.model import Delta, Failed, ReplyEvent
from chatcore.wire.characters import REPLACEMENT, clean, ends_in_first_half, has_surrogate
from chatcore.wire.shapes import Shape, read_item

STREAM_TYPES = frozenset(("begin", "item", "end", "error", "keepalive"))
REPEAT_CHARS = 20
REPEAT_SECONDS = 5.0
REPEAT_BYTES = 65_536
ERROR_SECONDS = 15.0
DELTA_CHARS = 16_384

_MAX_NOTES = 8


# Where a segment stands: without text, one JSON item held, compared with the segment before, or flowing. Plain numbers,
# since the members of an Enum are slow to reach in Python 3.11.
_FRESH, _JSON, _COMPARING, _FLOWING = range(4)


class Assembly:
    """Turns lines and texts into events; `take` gives what is ready.

    While `flowing` is true an item is just text, and a reader may append it to `parts` itself. `waiting` tells that
    `tick` has something to decide. `held` counts about the bytes that came and are not text yet. `notes` says what
    was left out, for the log.
    """

    __slots__ = (
        "_blank",
        "_blank_size",
        "_current",
        "_current_size",
        "_error_at",
        "_half",
        "_json",
        "_json_size",
        "_offset",
        "_opens",
        "_out",
        "_previous",
        "_said",
        "_shape",
        "_since",
        "_state",
        "finished",
        "flowing",
        "held",
        "notes",
        "parts",
        "waiting",
    )

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.flowing = False
        self.waiting = False
        self.finished = False
        self.held = 0
        self.notes: list[str] = []
        self._out: list[ReplyEvent] = []
        self._state: int = _FRESH
        self._said = False
        self._opens = False
        self._half = ""
        self._error_at: float | None = None
        self._blank: list[str] = []  # white space before the first text: alone it is no reply
        self._blank_size = 0
        self._json = ""
        self._json_size = 0
        self._shape: Shape | None = None
        self._previous = ""  # the segment before, where this one may be a repeat of it
        self._offset = 0  # how much of `_previous` this segment has repeated; that much is held back
        self._since = 0.0
        self._current: list[str] = []
        self._current_size = 0

    def take(self) -> Sequence[ReplyEvent]:
        """Give the events that are ready, adjacent texts of a segment as one."""
        if self.parts:
            self._flush()
        out = self._out
        if not out:
            return ()
        self._out = []
        return out

    def line(self, kind: str, content: str | None, now: float) -> None:
        """Take one line of n8n's stream; an unknown type is skipped."""
        if kind == "keepalive" or self.finished:
            return
        if self._error_at is not None:
            self._error_at = now
        if kind == "item":
            if content:
                self.item(content, now)
        elif kind in ("begin", "end"):
            self.end_segment()
        elif kind == "error":
            self.error(now)

    def item(self, content: str, now: float) -> None:
        """Take a piece of the segment's text, or an item that is a JSON document."""
        self._error_at = None
        if "\0" in content or self._half or has_surrogate(content):
            content = self._half + content
            self._half = ""
            if ends_in_first_half(content):
                self._half = content[-1]
                content = content[:-1]
            content = clean(content)
        if content:
            self._put(content, now)
        self._settle()

    def say(self, text: str) -> None:
        """Take text that is text whatever it looks like. It must hold no surrogates."""
        self._state = _FLOWING
        if text:
            self.parts.append(text)

    def error(self, now: float) -> None:
        """Take an `error` line: it decides nothing until the body ends or no other line comes for a while."""
        self._error_at = now
        self._settle()

    def end_segment(self) -> None:
        """Close the segment: decide on what was held back, remember the text, begin anew."""
        if self._half:
            self._half = ""
            self._put(REPLACEMENT, self._since)
        if self._state == _JSON:
            self._end_json()
        elif self._state == _COMPARING and self._offset < len(self._previous):
            self._release()
        if self.parts:
            self._flush()
        if self._current_size:
            text = "".join(self._current) if self._current_size <= REPEAT_BYTES else ""
            self._previous = text if len(text.encode()) <= REPEAT_BYTES else ""
            self._current.clear()
            self._current_size = 0
        if not self._said:
            self._blank.clear()
            self._blank_size = 0
        self._state = _FRESH
        self._offset = 0
        self._opens = self._said
        self._settle()

    def tick(self, now: float) -> None:
        """Let time pass: show a repeat that was held back long enough, let an error decide."""
        if self._state == _COMPARING and self._offset and now - self._since >= REPEAT_SECONDS:
            self._release()
            self._settle()
        if self._error_at is not None and now - self._error_at >= ERROR_SECONDS:
            self.end_segment()
            self.fail(UPSTREAM_ERROR, f"an error line, and {ERROR_SECONDS:.0f} s without another line")

    def end(self, *, cut: str | None = None) -> None:
        """End the reply; `cut` says what was missing of it, in words for the log."""
        if self.finished:
            return
        self.end_segment()
        if self._error_at is not None:
            self.fail(UPSTREAM_ERROR, "an error line was the last word of the workflow")
        elif cut is not None:
            self.fail(UPSTREAM_INVALID, cut)
        elif not self._said:
            self.fail(UPSTREAM_EMPTY, "the answer holds no text")
        self.finished = True

    def fail(self, kind: Kind, reason: str, sentence: str | None = None) -> None:
        """End the reply with an error, after the text so far. Only the first failure counts."""
        if self.finished:
            return
        if self.parts:
            self._flush()
        self._out.append(Failed(Refusal(kind, sentence), reason))
        self.finished = True
        self.waiting = self.flowing = False
        self.held = 0

    def note(self, text: str) -> None:
        """Remember for the log what was left out."""
        if text and len(self.notes) < _MAX_NOTES:
            self.notes.append(text)

    def _put(self, content: str, now: float) -> None:
        if self._state == _FRESH:
            self._shape = read_item(content)
            self._since = now
            if self._shape is not None:
                self._state = _JSON
                self._json = content
                self._json_size = len(content.encode())
                return
            self._start()
        elif self._state == _JSON:
            held = self._json  # not the only item: it is a piece of text that looks like JSON
            self._drop_json()
            self._start()
            self._compare(held)
        self._compare(content)

    def _start(self) -> None:
        self._state = _COMPARING if len(self._previous) >= REPEAT_CHARS else _FLOWING

    def _compare(self, content: str) -> None:
        if self._state == _COMPARING:
            if self._previous.startswith(content, self._offset):
                self._offset += len(content)
                return
            self._release()
        self.parts.append(content)

    def _release(self) -> None:
        if self._offset:
            self.parts.append(self._previous[: self._offset])
            self._offset = 0
        self._state = _FLOWING

    def _drop_json(self) -> None:
        self._json = ""
        self._json_size = 0
        self._shape = None

    def _end_json(self) -> None:
        content, shape = self._json, self._shape
        self._drop_json()
        if shape is None or shape.texts is None:
            if shape is not None and shape.withhold:
                self.fail(UPSTREAM_INVALID, shape.reason, shape.sentence)
                return
            texts: Sequence[str] = (content,)
        else:
            texts = [text for text in shape.texts if text]
            self.note(shape.note)
        whole = "\n\n".join(texts)
        if not whole or whole == self._previous:
            return
        for text in texts:
            self.parts.append(text)
            self._flush()
            self._opens = self._said
        self._current = [whole]
        self._current_size = len(whole)

    def _flush(self) -> None:
        parts = self.parts
        text = parts[0] if len(parts) == 1 else "".join(parts)
        parts.clear()
        if "\0" in text:
            text = text.replace("\0", REPLACEMENT)
        if not self._said:
            if not text or text.isspace():
                self._blank.append(text)
                self._blank_size += len(text)
                self._settle()
                return
            text = "".join(self._blank) + text
            self._blank.clear()
            self._blank_size = 0
            self._said = True
            self._settle()
        elif not text:
            return
        if self._current_size <= REPEAT_BYTES:
            self._current.append(text)
            self._current_size += len(text)
        if len(text) <= DELTA_CHARS:
            self._out.append(Delta(text, self._opens))
        else:
            pieces = [text[at : at + DELTA_CHARS] for at in range(0, len(text), DELTA_CHARS)]
            self._out.append(Delta(pieces[0], self._opens))
            self._out.extend(map(Delta, pieces[1:]))
        self._opens = False

    def _settle(self) -> None:
        if self.finished:
            return
        error = self._error_at is not None
        self.flowing = self._state == _FLOWING and not error and not self._half
        self.waiting = error or self._offset > 0
        self.held = self._offset + self._json_size + self._blank_size
