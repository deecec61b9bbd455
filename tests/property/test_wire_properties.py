"""Laws of decoding that hold for every body: any split gives the same, nothing raises, nothing is lost."""

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore.model import Delta, ReplyEvent
from chatcore.wire.encode_document import join_text
from chatcore.wire.encode_sse import encode_deltas
from tests.support.wire import (
    BEGIN,
    END,
    ERROR,
    JSON,
    KEEPALIVE,
    SSE,
    TEXT,
    Outcome,
    cut,
    decode,
    decoder,
    each_byte,
    outcome,
    run,
)

CONTENT_TYPES = st.sampled_from([JSON, SSE, TEXT, "text/html", None, "application/octet-stream"])
PLACES = st.lists(st.integers(0, 5000), max_size=12)

_BITS = [b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"\r", b"\r\n", b" ", b"data:", b"event: error", b"id: 1"]
_BITS += [b"[DONE]", b'{"type":"item","content":"a"}', b'{"output":"b"}', b"\xef\xbb\xbf", b"\xe2\x82\xac", b"\xff"]
_BITS += [b'"\\ud83d"', b'{"type":"item","content":"\\ud83d"}\n', b'{"type":"item","content":"\\ude00"}\n', b"null"]
_BITS += [b'{"content":"c"}', b"\0", b"Workflow was started", b": ", b"retry:", b"text", b'{"type":"x"}', BEGIN, END]
_BITS += [ERROR, KEEPALIVE, b'{"type":"item","content":"{\\"output\\":\\"d\\"}"}\n', b"\xed\xa0\xbd", b"\x0b"]
BODIES = st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(_BITS), max_size=14).map(b"".join))

ASCII_JSON = json.JSONEncoder(ensure_ascii=True).encode
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
TEXTS = st.text(CHARACTERS, max_size=12)
SEGMENTS = st.lists(st.lists(TEXTS, max_size=4), max_size=5)


def stream(segments: list[list[str]]) -> bytes:
    """Write items as n8n writes them, half of them escaped."""
    body = b""
    for place, texts in enumerate(segments):
        body += BEGIN
        for text in texts:
            content = ASCII_JSON(text) if place % 2 else json.dumps(text, ensure_ascii=False)
            body += b'{"type":"item","content":' + content.encode() + b"}\n" + KEEPALIVE * (place % 2)
        body += END
    return body


@settings(max_examples=400, deadline=None)
@given(body=BODIES, content_type=CONTENT_TYPES, places=PLACES, complete=st.booleans(), raw=st.booleans())
def test_arbitrary_bytes_never_raise_and_any_split_gives_the_same(
    *, body: bytes, content_type: str | None, places: list[int], complete: bool, raw: bool
) -> None:
    whole = decode(body, content_type=content_type, complete=complete, raw=raw)
    assert decode(*cut(body, places), content_type=content_type, complete=complete, raw=raw) == whole
    assert decode(*each_byte(body), content_type=content_type, complete=complete, raw=raw) == whole
    for text in whole.segments:
        assert "\0" not in text
        text.encode()
    assert whole.segments or whole.code


@settings(max_examples=200, deadline=None)
@given(segments=SEGMENTS, places=PLACES)
def test_a_stream_says_all_its_items_in_order_for_any_split(segments: list[list[str]], places: list[int]) -> None:
    body = stream(segments)
    whole = decode(body)
    assert decode(*cut(body, places)) == whole
    assert decode(*each_byte(body)) == whole
    said = ["".join(texts) for texts in segments]
    if not any("{" in text or "[" in text for text in said):  # an item that is a document is read as one
        assert whole == expected_of(said)


def expected_of(said: list[str]) -> Outcome:
    """Say by the rules which segments are shown."""
    shown: list[str] = []
    for text in said:
        repeats = bool(shown) and len(text) >= 20 and text == shown[-1]
        if text and not repeats and (shown or not text.isspace()):
            shown.append(text)
    return Outcome(tuple(shown), None if shown else "upstream_empty")


@settings(max_examples=100, deadline=None)
@given(text=st.text(CHARACTERS, min_size=20, max_size=40), parts=PLACES, places=PLACES)
def test_a_repeat_in_any_pieces_is_dropped(text: str, parts: list[int], places: list[int]) -> None:
    edges = sorted({0, len(text), *(place % len(text) for place in parts)})
    pieces = [text[begin:end] for begin, end in pairwise(edges)]
    body = stream([["Begin: ", text], ["Begin: ", *pieces]])
    assert decode(*cut(body, places)) == Outcome(("Begin: " + text,))


@settings(max_examples=100, deadline=None)
@given(text=st.text(CHARACTERS, max_size=40_000))
def test_a_document_and_a_text_say_every_character(text: str) -> None:
    document = decode(json.dumps({"output": text}).encode())
    assert "".join(document.segments) == ("" if text.isspace() else text)
    written = decode(b"x" + text.encode(), content_type=TEXT)
    assert "".join(written.segments) == "x" + text


@settings(max_examples=100, deadline=None)
@given(units=st.lists(st.sampled_from(["\ud83d", "\ude00", "a", "😀", "\0"]), max_size=12), places=PLACES)
def test_halves_of_characters_join_as_if_all_items_were_one(units: list[str], places: list[int]) -> None:
    lines = [b'{"type":"item","content":' + ASCII_JSON(unit).encode() + b"}\n" for unit in units]
    body = BEGIN + b"".join(lines) + END
    joined = "".join(units).replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert "".join(decode(*cut(body, places)).segments) == joined


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([BEGIN, END, ERROR, KEEPALIVE, b"\n", b'{"type":"item","content":"aaaaaaaaaaaa"}\n']),
            st.floats(0, 20),
        ),
        max_size=15,
    )
)
def test_time_decides_the_same_with_ticks_and_without(steps: list[tuple[bytes, float]]) -> None:
    ticked, plain = decoder(), decoder()
    now = 0.0
    events: list[ReplyEvent] = []
    others: list[ReplyEvent] = []
    for data, pause in steps:
        for part in range(1, 5):
            events += ticked.tick(now + pause * part / 4)
        now += pause
        events += ticked.feed(data, now)
        others += plain.feed(data, now)
    events += ticked.close(now, complete=True)
    others += plain.close(now, complete=True)
    assert outcome(events) == outcome(others)


@settings(max_examples=100, deadline=None)
@given(segments=SEGMENTS, first=st.integers(1, 10**6))
def test_what_a_client_joins_is_what_the_document_says(segments: list[list[str]], first: int) -> None:
    events, _ = run(decoder(), [stream(segments)])
    deltas = [event for event in events if isinstance(event, Delta)]
    records = encode_deltas(first, deltas).split(b"\n\n")[:-1]
    joined = ""
    for number, record in enumerate(records, first):
        head, kind, data = record.split(b"\n")
        assert (head, kind) == (b"id: %d" % number, b"event: delta")
        joined += json.loads(data.removeprefix(b"data: "))["content"]
    assert joined == join_text(deltas)
