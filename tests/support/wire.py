"""Runs bodies through the decoder, cut anywhere, and says what came of them in values that compare."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chatcore.model import Delta, Failed, ReplyEvent
from chatcore.wire.decode import Decoder

JSON = "application/json; charset=utf-8"
SSE = "text/event-stream"
TEXT = "text/plain; charset=utf-8"
MIB = 1_048_576


@dataclass(frozen=True)
class Outcome:
    """What a client would have been told: texts of the segments, and the failure's code."""

    segments: tuple[str, ...]
    code: str | None = None


def decoder(content_type: str | None = JSON, *, status: int = 200, raw: bool = False, limit: int = MIB) -> Decoder:
    """Make a decoder whose answer began at second 0."""
    return Decoder(status, content_type, show_raw_json=raw, max_bytes=limit, now=0.0)


def outcome(events: Iterable[ReplyEvent]) -> Outcome:
    """Put events together and check what holds for all of them."""
    segments: list[str] = []
    failure: Failed | None = None
    for event in events:
        assert failure is None, "nothing follows a failure"
        if isinstance(event, Failed):
            failure = event
            continue
        assert 0 < len(event.content) <= 16_384
        if event.opens_segment or not segments:
            assert bool(segments) == event.opens_segment, "the first text opens nothing"
            segments.append("")
        segments[-1] += event.content
    return Outcome(tuple(segments), None if failure is None else failure.refusal.kind.code)


def decode(
    *pieces: bytes,
    content_type: str | None = JSON,
    status: int = 200,
    complete: bool = True,
    raw: bool = False,
    limit: int = MIB,
) -> Outcome:
    """Decode a body that came in these pieces at one moment."""
    events, _ = run(decoder(content_type, status=status, raw=raw, limit=limit), pieces, complete=complete)
    return outcome(events)


def run(it: Decoder, pieces: Iterable[bytes], *, complete: bool = True) -> tuple[list[ReplyEvent], list[int]]:
    """Feed all pieces at second 0 and close; gives the events and how many each feed gave."""
    events: list[ReplyEvent] = []
    counts = []
    for piece in pieces:
        got = it.feed(piece, 0.0)
        counts.append(len(got))
        events += got
        assert it.finished or not any(isinstance(event, Failed) for event in got)
    events += it.close(0.0, complete=complete)
    assert it.finished
    assert it.buffered == 0
    assert not it.feed(b"more", 0.0)
    assert not it.close(0.0, complete=True)
    return events, counts


def failure_of(events: Sequence[ReplyEvent]) -> Failed:
    """Give the failure that ends `events`."""
    assert events
    last = events[-1]
    assert isinstance(last, Failed)
    return last


def texts_of(events: Iterable[ReplyEvent]) -> list[str]:
    """Give the contents of the deltas."""
    return [event.content for event in events if isinstance(event, Delta)]


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a body at these places."""
    edges = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[begin:end] for begin, end in pairwise(edges)]


def each_byte(body: bytes) -> list[bytes]:
    """Cut a body into its bytes."""
    return [body[at : at + 1] for at in range(len(body))]


def item(content: str) -> bytes:
    """Give an `item` line whose content is JSON text already, without its quotes."""
    return b'{"type":"item","content":"' + content.encode() + b'","metadata":{"nodeId":"n"}}\n'


BEGIN = b'{"type":"begin","metadata":{"nodeId":"n","nodeName":"AI Agent","itemIndex":0,"runIndex":0}}\n'
END = b'{"type":"end","metadata":{"nodeId":"n","nodeName":"AI Agent","itemIndex":0,"runIndex":0}}\n'
ERROR = b'{"type":"error","content":"secret provider text","metadata":{"nodeId":"n"}}\n'
KEEPALIVE = b'{"type":"keepalive"}\n'
