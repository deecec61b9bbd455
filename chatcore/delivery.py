"""A reply on its way to one client: as a stream, or as one document, with heartbeats while there is silence.

The status is decided at the first text, at the end or after 15 s, whichever is first: a failure before that is raised,
one after it is said in the form of the stream or the document.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from chatcore.asgi import Header, Scope, Send, connection_of, respond, visit_of, without_cache_control
from chatcore.error_shapes import NO_TRANSFORM
from chatcore.errors import Refusal
from chatcore.live import Live, Reader
from chatcore.model import Delta, Outcome
from chatcore.ports import Clock, ReplyText
from chatcore.wire.encode_document import join_text

WHITE_SPACE = b" \n"
"""A heartbeat before a JSON document, which may have white space around it (RFC 8259, section 2)."""

FIRST = 1
"""The number of the event that begins a reply."""

_ALL = 1 << 40


class StreamForm(Protocol):
    """How one client is told of a reply's events, as bytes. One object each stream: it may remember what it said."""

    @property
    def headers(self) -> Sequence[Header]:
        """The answer's own headers."""
        ...

    @property
    def heartbeat(self) -> bytes:
        """What is said after silence."""
        ...

    def begin(self) -> bytes:
        """Give what comes before all else."""
        ...

    def deltas(self, first: int, deltas: Sequence[Delta]) -> bytes:
        """Give a batch of text, whose first event has the number `first`."""
        ...

    def end(self, last: int, outcome: Outcome) -> bytes:
        """Give the end, whose last event has the number `last`; an error is told before it."""
        ...


class Delivery:
    """Writes replies to clients."""

    def __init__(self, live: Live, clock: Clock) -> None:
        self._live = live
        self._clock = clock

    async def stream(
        self, scope: Scope, send: Send, record: ReplyText, form: StreamForm, *, after: int = 0, decide: bool = True
    ) -> None:
        """Write the reply as a stream, behind event `after`. With `decide` a failure before any text is raised."""
        after = min(after, FIRST + record.count())  # nobody can have read what was never said
        visit = visit_of(scope)
        begun = b"" if after >= FIRST else form.begin()
        connection = connection_of(scope)

        def push(first: int, deltas: Sequence[Delta]) -> bool:
            # Made only where it can leave: a form that remembers what it said must not say it twice.
            return connection is not None and connection.push(lambda: form.deltas(first, deltas))

        with self._live.follow(record, after, connection) as reader:
            what = await reader.next() if decide else ()
            if isinstance(what, Outcome) and what.refusal is not None:
                raise with_content(what.refusal, record)
            # A stream may stay open for minutes: what the client sent is no longer needed.
            scope["headers"] = ()
            visit.given.clear()
            visit.headers = [*without_cache_control(visit.headers), NO_TRANSFORM]
            await send({"type": "http.response.start", "status": 200, "headers": list(form.headers)})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
                return
            if begun and not isinstance(what, Outcome) and not what:
                await _write(reader, send, begun)
                begun = b""
            while not isinstance(what, Outcome):
                if what is None:
                    await _write(reader, send, form.heartbeat)
                elif what:
                    first = reader.position - len(what) + 1
                    await _write(reader, send, begun + form.deltas(first, what))
                    begun = b""
                if connection is not None and not begun:
                    reader.push = push
                what = await self._next(reader, record)
            # A reply dropped for lack of memory no longer knows how long it was; its reader does.
            last = max(last_event(record, what), reader.position + 1 + (what.refusal is not None))
            await send({"type": "http.response.body", "body": begun + form.end(last, what)})

    async def document(
        self, scope: Scope, send: Send, record: ReplyText, header: Header, encode: Callable[[str, Outcome], bytes]
    ) -> None:
        """Write the reply as one JSON document, white space before it where it takes long.

        `header` is its content type; `encode` makes it of the text and the outcome.
        """
        begun = False
        with self._live.follow(record, 0, connection_of(scope), whole=True) as reader:
            while True:
                outcome = await reader.next()
                if isinstance(outcome, Outcome):
                    break
                if not begun:
                    await send({"type": "http.response.start", "status": 200, "headers": [header]})
                    begun = True
                await _write(reader, send, WHITE_SPACE)
        if outcome.refusal is not None and not begun:
            raise with_content(outcome.refusal, record)
        try:
            body = encode(text_of(record), outcome)
        except Refusal as gone:  # dropped in this moment, as by erasing its session
            if not begun:
                raise
            body = encode("", self._lost(record, gone))
        if begun:
            await send({"type": "http.response.body", "body": body})
        else:
            await respond(send, 200, body, header)

    async def _next(self, reader: Reader, record: ReplyText) -> Sequence[Delta] | Outcome | None:
        """Wait for what follows; a reply that was dropped meanwhile ends here with an error."""
        try:
            return await reader.next()
        except Refusal as gone:
            return self._lost(record, gone)

    def _lost(self, record: ReplyText, gone: Refusal) -> Outcome:
        duration_ms = round((self._clock.monotonic() - record.created) * 1000)
        return Outcome(finish_reason="error", duration_ms=duration_ms, refusal=gone)


async def _write(reader: Reader, send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
    reader.sent()


def last_event(record: ReplyText, outcome: Outcome) -> int:
    """Give the number of a reply's last event."""
    return FIRST + record.count() + (outcome.refusal is not None) + 1


def text_of(record: ReplyText) -> str:
    """Give all that was said."""
    return join_text(record.read(0, _ALL))


def with_content(refusal: Refusal, record: ReplyText) -> Refusal:
    """Give the refusal with the text that was said before it."""
    return refusal.anew(text_of(record))
