"""n8n's answer to reply events: the door of the decoding half of `wire`."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from chatcore.errors import REPLY_TOO_LARGE
from chatcore.model import Delta, Failed, ReplyEvent
from chatcore.wire.assembly import DELTA_CHARS, Assembly
from chatcore.wire.bodies import DocumentReader, TextReader
from chatcore.wire.events import EventReader
from chatcore.wire.lines import LineReader
from chatcore.wire.recognise import Format, Recogniser
from chatcore.wire.shapes import WORKFLOW_STARTED
from chatcore.wire.status import is_json_type, media_type_of, status_failure

__all__ = ["HELD_BYTES", "Decoder", "status_failure"]

HELD_BYTES = 65_536
"""What may be held beyond the size of a reply: a line's metadata, JSON's escapes, a repeat."""


class _Reader(Protocol):
    """What knows one format."""

    @property
    def held(self) -> int: ...
    def feed(self, data: bytes, now: float) -> None: ...
    def close(self, now: float, *, complete: bool) -> None: ...


class _Usual(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The document that nearly every workflow answers with."""

    output: str


class Decoder:
    """Turns the bytes of one answer into events, for any split of them. Times are monotonic seconds.

    `finished`: a failure was given, or the stream said `[DONE]`; nothing more is to be read. `notes`: what was left
    out, in words for the log that hold no values.
    """

    __slots__ = ("_assembly", "_failure", "_limit", "_media_type", "_reader", "_recogniser", "_show_raw", "finished")

    def __init__(
        self, status: int, content_type: str | None, *, show_raw_json: bool, max_bytes: int, now: float
    ) -> None:
        """Begin an answer at `now`; more than `max_bytes` + 64 KiB are never held without becoming text."""
        del now  # every rule counts from a line, none from the head
        self._assembly = Assembly()
        self._media_type = media_type_of(content_type)
        self._recogniser: Recogniser | None = Recogniser(self._media_type)
        self._reader: _Reader | None = None
        self._show_raw = show_raw_json
        self._limit = max_bytes + HELD_BYTES
        self._failure: Failed | None = status_failure(status, content_type)
        self.finished = False

    @property
    def buffered(self) -> int:
        """About how many bytes are held, undecoded or held back."""
        if self._reader is not None:
            return self._reader.held + self._assembly.held
        return 0 if self._recogniser is None else len(self._recogniser.body)

    @property
    def waiting(self) -> bool:
        """Tell whether `tick` has something to decide sooner or later."""
        return self._assembly.waiting

    @property
    def notes(self) -> Sequence[str]:
        """Tell what was left out, in words for the log."""
        return self._assembly.notes

    def feed(self, data: bytes, now: float) -> Sequence[ReplyEvent]:
        """Take what was read; gives the events it completes."""
        if self.finished or not data:
            return ()
        if self._failure is not None:
            return self._fail()
        assembly = self._assembly
        if assembly.waiting:
            assembly.tick(now)
        reader = self._reader
        if assembly.finished:
            pass
        elif reader is None:
            self._recognise(data, now)
        else:
            reader.feed(data, now)
            if reader.held + assembly.held > self._limit:
                self._too_large()
        if assembly.finished:
            self._finish()
        return assembly.take()

    def tick(self, now: float) -> Sequence[ReplyEvent]:
        """Let time pass: repeats held back for 5 s are shown, an error that nothing followed for 15 s decides."""
        assembly = self._assembly
        if not assembly.waiting or self.finished:
            return ()
        assembly.tick(now)
        if assembly.finished:
            self._finish()
        return assembly.take()

    def close(self, now: float, *, complete: bool) -> Sequence[ReplyEvent]:
        """End the answer: the body ended as HTTP says it should (`complete`), or it was cut or badly coded.

        Gives the text that was held and, unless all went well, the failure. Empty where the answer had ended before.
        """
        if self.finished:
            return ()
        if self._failure is not None:
            return self._fail()
        assembly = self._assembly
        if assembly.waiting:
            assembly.tick(now)
        if not assembly.finished:
            recogniser = self._recogniser
            if recogniser is not None:
                usual = self._usual(recogniser) if complete else None
                if usual is not None:
                    self._finish()
                    return (usual,)
                self._read_as(recogniser.close(), now)
            if self._reader is not None:
                self._reader.close(now, complete=complete)
        self._finish()
        return assembly.take()

    def _usual(self, recogniser: Recogniser) -> Delta | None:
        """Read the usual document at once, or give None. Whatever this gives, the long way gives as well."""
        if not is_json_type(self._media_type):
            return None
        try:
            text = _decode_usual(recogniser.body).output
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        if not text or len(text) > DELTA_CHARS or text == WORKFLOW_STARTED or "\0" in text or text.isspace():
            return None
        return Delta(text)

    def _recognise(self, data: bytes, now: float) -> None:
        recogniser = self._recogniser
        if recogniser is None:
            return
        found = recogniser.feed(data)
        if found is not None:
            self._read_as(found, now)
        if self.buffered > self._limit:
            self._too_large()

    def _read_as(self, found: Format, now: float) -> None:
        recogniser, assembly = self._recogniser, self._assembly
        if recogniser is None:
            return
        body = bytes(recogniser.body)
        self._recogniser = None
        match found:
            case "lines":
                self._reader = LineReader(assembly)
            case "events":
                self._reader = EventReader(assembly)
            case "text":
                self._reader = TextReader(assembly)
            case "document":
                or_text = not is_json_type(self._media_type)
                self._reader = DocumentReader(assembly, or_text=or_text, show_raw=self._show_raw)
        self._reader.feed(body, now)

    def _too_large(self) -> None:
        self._assembly.fail(REPLY_TOO_LARGE, "more bytes without text than a reply may have")

    def _finish(self) -> None:
        """Let go of what is held."""
        self.finished = True
        self._reader = self._recogniser = None

    def _fail(self) -> Sequence[ReplyEvent]:
        failure, self._failure = self._failure, None
        self._finish()
        return () if failure is None else (failure,)


_decode_usual = msgspec.json.Decoder(_Usual).decode
