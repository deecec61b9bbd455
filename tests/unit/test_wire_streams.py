"""n8n's streams and SSE: segments, repeats, errors, and the time rules, with a clock moved by hand."""

import pytest

from chatcore.model import Delta
from tests.support.wire import (
    BEGIN,
    END,
    ERROR,
    JSON,
    KEEPALIVE,
    SSE,
    TEXT,
    Outcome,
    decode,
    decoder,
    each_byte,
    failure_of,
    item,
    outcome,
    run,
    texts_of,
)

INVALID = "upstream_invalid"
EMPTY = Outcome((), "upstream_empty")
FAILED = Outcome((), "upstream_error")
LONG = "A text of more than twenty characters."


def says(*segments: str) -> Outcome:
    return Outcome(segments)


STREAMS = [
    ([BEGIN, item("a"), item("b"), END], says("ab")),
    ([item("a"), item("b")], says("ab")),
    ([BEGIN, END, BEGIN, item("a"), END], says("a")),
    ([BEGIN, item("a"), END, BEGIN, item("b"), END], says("a", "b")),
    ([BEGIN, item("a"), BEGIN, item("b"), END], says("a", "b")),
    ([BEGIN, item("a"), END, item("b")], says("a", "b")),
    ([BEGIN, item(""), item("a"), item(""), END], says("a")),
    ([BEGIN, END], EMPTY),
    ([BEGIN, item(" "), END], EMPTY),
    ([BEGIN, item(" "), item("a"), END], says(" a")),
    ([BEGIN, item("\\n\\n"), END, BEGIN, item("a"), END], says("a")),
    ([KEEPALIVE, BEGIN, KEEPALIVE, item("a"), b"\n", b" \r\n", KEEPALIVE, END], says("a")),
    ([b"\n", BEGIN, item("a"), END], says("a")),
    ([BEGIN, b'{"type":"tool-call","content":"x"}\n', item("a"), END], says("a")),
    ([b'{"type":"tool-call","content":"x"}\n', BEGIN, item("a"), END], says("a")),
    ([BEGIN, b"null\n", b"[]\n", b'{"content":"x"}\n', b'{"type":5}\n', item("a"), END], says("a")),
    ([BEGIN, item("a"), b"<html>gateway</html>\n", item("b")], Outcome(("a",), INVALID)),
    ([BEGIN, item("a"), b'{"type":"item","content":"cu\n', item("b")], Outcome(("a",), INVALID)),
    ([BEGIN, item("a"), b'{"type":"item","content":"b"}'], says("ab")),
    ([BEGIN, item("a"), b'{"type":"item","content":"b'], Outcome(("a",), INVALID)),
    ([BEGIN, b'{"type":"item","content":null}\n', b'{"type":"item"}\n', END], EMPTY),
    ([BEGIN, b'{"type":"item","content":{"output":"a"}}\n', END], says("a")),
    ([BEGIN, b'{"type":"item","content":5}\n', END], says("5")),
    ([BEGIN, item("a\u0085\u2028\u2029\\u2028"), END], says("a\u0085\u2028\u2029\u2028")),
    ([BEGIN, b'{"type":"item","content":"a\xff"}\n', END], says("a\ufffd")),
    ([b"\xef\xbb\xbf", BEGIN, item("a"), END], says("a")),
    ([b'{"type":"item","content":"a"}'], says("a")),
    ([b'{"type":"end"}'], EMPTY),
    ([b'{"metadata":{},"content":"a","type":"item"}\n'], says("a")),
    ([b'{"type":"item","content":"a","m":' + b"[" * 100_000 + b"}\n"], Outcome((), INVALID)),
]


@pytest.mark.parametrize(("lines", "expected"), STREAMS)
def test_a_stream_gives_its_segments(lines: list[bytes], expected: Outcome) -> None:
    body = b"".join(lines)
    assert decode(body) == expected
    assert decode(*lines, content_type=TEXT) == expected
    if len(body) < 10_000:
        assert decode(*each_byte(body)) == expected


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (["a\\ud83d", "\\ude00b"], says("a😀b")),
        (["a\\ud83d", "b"], says("a\ufffdb")),
        (["a\\ud83d", "", "\\ude00"], says("a😀")),
        (["\\ud83d"], says("\ufffd")),
        (["a\\ude00", "\\ud83d"], says("a\ufffd\ufffd")),
        (["\\ud83d", "\\ud83d", "\\ude00"], says("\ufffd😀")),
        (["a\\u0000"], says("a\ufffd")),
    ],
)
def test_halves_of_a_character_join_across_items(contents: list[str], expected: Outcome) -> None:
    body = BEGIN + b"".join(map(item, contents)) + END
    assert decode(body) == expected
    assert decode(*each_byte(body)) == expected


def test_halves_do_not_join_across_segments() -> None:
    assert decode(BEGIN, item("\\ud83d"), END, BEGIN, item("\\ude00"), END) == says("\ufffd", "\ufffd")


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (['{\\"output\\":\\"a\\"}'], says("a")),
        ([' {\\"text\\":\\"a\\"} '], says("a")),
        (['[{\\"output\\":\\"a\\"},{\\"output\\":\\"b\\"}]'], says("a", "b")),
        (['{\\"rows\\":1}'], says('{"rows":1}')),
        (["[1]"], says("[1]")),
        (["[]"], says("[]")),
        (['{\\"output\\":\\"\\"}'], EMPTY),
        (['{\\"output\\":\\"a\\"}', "b"], says('{"output":"a"}b')),
        (['{\\"output\\":\\"a\\"}', ""], says("a")),
        (["a", '{\\"output\\":\\"b\\"}'], says('a{"output":"b"}')),
        (["{", "}"], says("{}")),
        (['\\"a\\"'], says('"a"')),
        (["{not json}"], says("{not json}")),
        (['{\\"executionStarted\\":true,\\"resumeToken\\":\\"t\\"}'], Outcome((), INVALID)),
    ],
)
def test_an_item_that_is_a_document_alone_in_its_segment_is_read(contents: list[str], expected: Outcome) -> None:
    body = BEGIN + b"".join(map(item, contents)) + END
    assert decode(body) == expected
    assert decode(*each_byte(body)) == expected


JSON_ITEM = '{\\"output\\":\\"%s\\"}'


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ([LONG], says(LONG)),
        ([LONG[:5], LONG[5:]], says(LONG)),
        ([LONG + "!"], says(LONG, LONG + "!")),
        ([LONG, "!"], says(LONG, LONG + "!")),
        ([LONG[:-1]], says(LONG, LONG[:-1])),
        ([LONG[:9], "X"], says(LONG, LONG[:9] + "X")),
        ([JSON_ITEM % LONG], says(LONG)),
        ([JSON_ITEM % "other"], says(LONG, "other")),
    ],
)
def test_a_segment_that_only_repeats_the_one_before_is_dropped(second: list[str], expected: Outcome) -> None:
    body = BEGIN + item(LONG) + END + BEGIN + b"".join(map(item, second)) + END
    assert decode(body) == expected
    assert decode(*each_byte(body)) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([item("short"), END, BEGIN, item("short")], says("short", "short")),
        ([item("short"), END, BEGIN, item(JSON_ITEM % "short")], says("short")),
        ([item("a" * 20), END, BEGIN, item("a" * 20)], says("a" * 20)),
        ([item("a" * 19), END, BEGIN, item("a" * 19)], says("a" * 19, "a" * 19)),
        ([item(LONG), END, BEGIN, item(LONG), END, BEGIN, item(LONG)], says(LONG)),
        ([item(LONG), END, BEGIN, END, BEGIN, item(LONG)], says(LONG)),
        ([item(LONG), END, BEGIN, item("other"), END, BEGIN, item(LONG)], says(LONG, "other", LONG)),
        ([item("[1]"), END, BEGIN, item("[1]")], says("[1]")),
    ],
)
def test_short_repeats_are_shown_unless_they_come_as_a_document(lines: list[bytes], expected: Outcome) -> None:
    assert decode(BEGIN, *lines, END) == expected
    assert decode(BEGIN, *lines) == expected


def test_a_repeat_of_more_than_64_kib_is_shown() -> None:
    long = "x" * 65_537
    assert decode(BEGIN, item(long), END, BEGIN, item(long), END) == says(long, long)
    long = "x" * 65_536
    assert decode(BEGIN, item(long), END, BEGIN, item(long), END) == says(long)


def test_a_repeat_is_held_for_five_seconds_at_most() -> None:
    it = decoder()
    it.feed(BEGIN + item(LONG) + END + BEGIN, 0.0)
    assert not it.waiting
    assert it.feed(item(LONG[:10]), 1.0) == ()
    assert it.waiting
    assert it.buffered == 10
    assert it.feed(item(LONG[10:15]), 4.0) == ()
    assert it.tick(5.9) == ()
    held = it.tick(6.0)
    assert texts_of(held) == [LONG[:15]]
    assert outcome([Delta("before"), *held]) == says("before", LONG[:15])
    assert not it.waiting
    assert texts_of(it.feed(item(LONG[15:]) + END, 7.0)) == [LONG[15:]]
    assert it.close(7.0, complete=True) == ()


def test_a_read_after_five_seconds_needs_no_tick() -> None:
    it = decoder()
    it.feed(BEGIN + item(LONG) + END + BEGIN + item(LONG[:10]), 0.0)
    assert texts_of(it.feed(item("!"), 5.0)) == [LONG[:10] + "!"]


def test_a_repeat_that_is_cut_or_stops_short_is_shown() -> None:
    body = BEGIN + item(LONG) + END + BEGIN + item(LONG[:25])
    assert decode(body) == says(LONG, LONG[:25])
    assert decode(body, complete=False) == Outcome((LONG, LONG[:25]), INVALID)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([BEGIN, ERROR], FAILED),
        ([b'{"type":"error"}\n'], FAILED),
        ([b'{"type":"error","content":null}\n'], FAILED),
        ([b'{"type":"error","content":{"message":"x"}}\n'], FAILED),
        ([BEGIN, item("a"), ERROR], Outcome(("a",), "upstream_error")),
        ([BEGIN, item("a"), ERROR, END], Outcome(("a",), "upstream_error")),
        ([ERROR, BEGIN, item("a"), END], says("a")),
        ([BEGIN, item("a"), ERROR, item("b"), END], says("ab")),
        ([BEGIN, item("a"), ERROR, BEGIN, item("b"), END], says("a", "b")),
        ([ERROR, item("a"), ERROR], Outcome(("a",), "upstream_error")),
        ([ERROR, item("")], FAILED),
    ],
)
def test_an_error_line_counts_only_where_no_text_follows(lines: list[bytes], expected: Outcome) -> None:
    body = b"".join(lines)
    assert decode(body) == expected
    assert decode(*each_byte(body)) == expected
    if expected.code is not None:
        assert decode(body, complete=False) == expected


def test_an_error_line_decides_after_fifteen_seconds_without_another() -> None:
    it = decoder()
    it.feed(BEGIN + item("a"), 0.0)
    assert it.feed(ERROR, 10.0) == ()
    assert it.waiting
    assert it.feed(KEEPALIVE + b"\n", 20.0) == ()
    assert it.tick(24.9) == ()
    assert not it.finished
    events = it.tick(25.0)
    assert outcome(events) == FAILED
    assert it.finished
    assert not it.waiting
    assert it.close(26.0, complete=True) == ()
    assert "secret" not in failure_of(events).reason


def test_another_line_renews_the_wait_of_an_error() -> None:
    it = decoder()
    it.feed(ERROR, 0.0)
    it.feed(BEGIN, 10.0)
    assert it.tick(24.9) == ()
    assert outcome(it.tick(25.0)) == FAILED


def test_a_read_after_fifteen_seconds_comes_too_late() -> None:
    it = decoder()
    it.feed(ERROR, 0.0)
    assert outcome(it.feed(item("late"), 15.0)) == FAILED


def test_an_error_that_decides_shows_what_was_held_first() -> None:
    it = decoder()
    it.feed(BEGIN + item(LONG) + END + BEGIN + item(LONG[:22]) + ERROR, 0.0)
    assert texts_of(it.tick(5.0)) == [LONG[:22]]
    assert outcome(it.tick(15.0)) == FAILED


def test_text_of_one_read_is_one_delta() -> None:
    lines = [BEGIN, item("a"), item("b"), item("c"), END, BEGIN, item("d"), item("e"), END]
    events, counts = run(decoder(), [b"".join(lines)])
    assert texts_of(events) == ["abc", "de"]
    assert counts == [2]


def test_every_line_is_told_at_once() -> None:
    _, counts = run(decoder(), [BEGIN, item("a"), item("b"), END, BEGIN, item("c")])
    assert counts == [0, 1, 1, 0, 0, 1]


def chunk(content: str) -> str:
    return f'data: {{"object":"chat.completion.chunk","choices":[{{"delta":{{"content":{content}}}}}]}}\n\n'


EVENTS = [
    ("data: a\n\ndata: b\n\n", says("ab")),
    ("data: a\n\ndata:  b\n\n", says("a b")),
    ("data:a\n\n", says("a")),
    ("data: a\ndata: b\n\n", says("a\nb")),
    ("data: a\r\n\r\ndata: b\r\n\r\n", says("ab")),
    ("data: a\n\n: a comment\n\nid: 7\nevent: message\ndata: b\nretry: 5\n\n", says("ab")),
    (": hello\n\ndata: a\n\n", says("a")),
    ("event: message\nid: 1\ndata: a\n\n", says("a")),
    ("data: a\n\ndata\ndata\n\ndata: b\n\n", says("a\nb")),
    ("data: a\n\nunknown: x\nnonsense\ndata: b\n\n", says("ab")),
    ("data: a\n\ndata: b", says("ab")),
    ("data: 5\n\ndata: null\n\n", says("5null")),
    ('data: "a"\n\ndata: "\\n"\n\ndata: "b"\n\n', says("a\nb")),
    ('data: {"output":"a"}\n\n', says("a")),
    ('data: {"content":"a"}\n\ndata: {"content":"b"}\n\n', says("ab")),
    ('data: {"content":"a"}\ndata: {"content":"b"}\n', says("ab")),
    ('data: {\ndata: "content":"a"}\n\n', says("a")),
    ('data: {"content":"a\\ud83d"}\n\ndata: {"content":"\\ude00"}\n\n', says("a😀")),
    ('data: ["a","b"]\n\n', says("a", "b")),
    ("data: [1] is a source\n\n", says("[1] is a source")),
    ("data: [1]\n\n", says("[1]")),
    ('data: {"rows":1}\n\n', says('{"rows":1}')),
    ('event: meta\ndata: {"rows":1}\n\ndata: a\n\n', says("a")),
    ('data: {"type":"status","rows":1}\n\ndata: a\n\n', says("a")),
    ("event: ping\ndata: 12:00\n\ndata: a\n\n", says("a")),
    (chunk('"a"') + chunk('"b"') + "data: [DONE]\n\n", says("ab")),
    ('data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n' + chunk("null") + chunk('"a"'), says("a")),
    (chunk('"a"') + 'data: {"choices":[],"usage":{"total_tokens":5}}\n\n', says("a")),
    ("data: [DONE]\n\n", EMPTY),
    ("data: a\n\ndata: [DONE]\n\ndata: b\n\n", says("a")),
    ("data: a\n\ndata:[DONE] \n", says("a")),
    ('data: {"type":"begin"}\n\ndata: {"type":"item","content":"a"}\n\ndata: {"type":"end"}\n\n', says("a")),
    ('data: {"type":"error","content":"secret"}\n\n', FAILED),
    ('data: a\n\ndata: {"error":{"message":"secret"}}\n\n', Outcome(("a",), "upstream_error")),
    ("data: a\n\nevent: error\ndata: secret\n\n", Outcome(("a",), "upstream_error")),
    ("data: a\n\nevent: error\n\n", Outcome(("a",), "upstream_error")),
    ('data: {"error":"secret"}\n\ndata: {"content":"a"}\n\n', says("a")),
    ('data: {"executionStarted":true,"resumeToken":"t"}\n\n', Outcome((), INVALID)),
    (": only a comment\n\n", EMPTY),
    ("data:\n\n", EMPTY),
]


@pytest.mark.parametrize(("body", "expected"), EVENTS)
@pytest.mark.parametrize("content_type", [SSE, JSON])
def test_events_give_their_texts(body: str, expected: Outcome, content_type: str) -> None:
    raw = body.encode()
    assert decode(raw, content_type=content_type) == expected
    assert decode(*each_byte(raw), content_type=content_type) == expected


def test_events_are_known_by_their_content_too() -> None:
    for body, expected in EVENTS:
        if body.startswith("data: ") and "\n\n" in body:
            assert decode(body.encode(), content_type=TEXT) == expected


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_lines_of_events_end_in_three_ways(newline: bytes) -> None:
    body = b"event: message\ndata: a\ndata: b\n\ndata: c\n\n".replace(b"\n", newline)
    assert decode(body, content_type=SSE) == says("a\nbc")
    assert decode(*each_byte(body), content_type=SSE) == says("a\nbc")


def test_done_ends_the_reply_before_the_body_does() -> None:
    it = decoder(SSE)
    assert texts_of(it.feed(b"data: a\n\n", 0.0)) == ["a"]
    assert not it.finished
    assert it.feed(b"data: [DONE]\n", 0.0) == ()
    assert it.finished
    assert it.close(1.0, complete=False) == ()


def test_an_object_on_a_data_line_does_not_wait_for_the_blank_line() -> None:
    it = decoder(SSE)
    assert texts_of(it.feed(b'data: {"content":"a"}\n', 0.0)) == ["a"]
