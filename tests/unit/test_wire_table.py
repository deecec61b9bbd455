"""What the proxy makes of each kind of answer: status lines, documents, texts, and what tells them apart."""

import pytest

from chatcore.wire.decode import Decoder, status_failure
from tests.support.wire import JSON, MIB, SSE, TEXT, Outcome, decode, decoder, each_byte, failure_of, run

HTML = "text/html; charset=utf-8"
INVALID = Outcome((), "upstream_invalid")
EMPTY = Outcome((), "upstream_empty")


def says(*segments: str) -> Outcome:
    return Outcome(segments)


@pytest.mark.parametrize(
    ("status", "content_type", "code", "public_status"),
    [
        (401, None, "upstream_refused", 502),
        (403, None, "upstream_refused", 502),
        (404, JSON, "upstream_not_found", 502),
        (404, None, "upstream_not_found", 502),
        (404, HTML, "upstream_unavailable", 503),
        (404, "Text/HTML", "upstream_unavailable", 503),
        (502, HTML, "upstream_unavailable", 503),
        (503, None, "upstream_unavailable", 503),
        (504, JSON, "upstream_unavailable", 503),
        (500, JSON, "upstream_error", 502),
        (422, JSON, "upstream_error", 502),
        (429, None, "upstream_error", 502),
        (301, HTML, "upstream_error", 502),
        (302, None, "upstream_error", 502),
        (307, None, "upstream_error", 502),
        (304, None, "upstream_error", 502),
        (101, None, "upstream_error", 502),
        (599, None, "upstream_error", 502),
        (200, "image/png", "upstream_invalid", 502),
    ],
)
def test_a_status_decides_as_soon_as_the_head_is_known(
    status: int, content_type: str | None, code: str, public_status: int
) -> None:
    failed = status_failure(status, content_type)
    assert failed is not None
    assert (failed.refusal.kind.code, failed.refusal.kind.status) == (code, public_status)
    assert failed.sent
    assert decode(b'{"output":"never shown"}', status=status, content_type=content_type) == Outcome((), code)
    assert decode(status=status, content_type=content_type) == Outcome((), code)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206])
def test_a_status_of_success_leaves_it_to_the_body(status: int) -> None:
    assert status_failure(status, JSON) is None
    assert decode(b'{"output":"x"}', status=status) == says("x")


DOCUMENTS = [
    (b'{"output":"a"}', says("a")),
    (b'{"text":"a"}', says("a")),
    (b'{"message":"a"}', says("a")),
    (b'{"response":"a"}', says("a")),
    (b'{"content":"a"}', says("a")),
    (b'{"answer":"a"}', says("a")),
    (b'{"answer":"g","content":"f","response":"e","message":"d","text":"c","output":"b"}', says("b")),
    (b'{"answer":"g","content":"f","response":"e","message":"d","text":"c"}', says("c")),
    (b'{"output":5,"text":"a"}', says("a")),
    (b'{"output":null,"message":"a"}', says("a")),
    (b'{"output":{"type":"text","text":"a"}}', says("a")),
    (b'{"content":{"type":"text","text":"a"}}', says("a")),
    (b'{"type":"text","text":"a"}', says("a")),
    (b'{"output":{"type":"image","text":"a"}}', INVALID),
    (b'{"output":"","text":"not this"}', EMPTY),
    (b'{"output":""}', EMPTY),
    (b'{"output":" \\n"}', EMPTY),
    (b'[{"output":"a"},{"text":"b"},"c"]', says("a", "b", "c")),
    (b'[{"output":"a"},{"rows":1},null,{"text":"b"}]', says("a", "b")),
    (b'[{"output":"a"},{"output":"a"}]', says("a", "a")),
    (b'[{"output":""},{"output":"a"}]', says("a")),
    (b'[{"output":""}]', EMPTY),
    (b'[{"rows":1}]', INVALID),
    (b"[]", INVALID),
    (b"[1,2]", INVALID),
    (b'"a"', says("a")),
    (b'""', EMPTY),
    (b"5", INVALID),
    (b"true", INVALID),
    (b"null", INVALID),
    (b"{}", INVALID),
    (b'{"output":5}', INVALID),
    (b'{"error":"x"}', INVALID),
    (b'{"executionStarted":true,"executionId":"1","resumeToken":"secret"}', INVALID),
    (b'{"executionStarted":true,"output":"a"}', INVALID),
    (b'[{"executionStarted":true}]', INVALID),
    (b'{"message":"Workflow was started"}', INVALID),
    (b'"Workflow was started"', INVALID),
    (b"Workflow was started", INVALID),
    (b'{"message":"Workflow was started."}', says("Workflow was started.")),
    (b'{\n  "output": "a"\n}\n', says("a")),
    (b'{\n"type":"item",\n"content":"a"}', says("a")),
    (b' \r\n\t {"output":"a"} \n', says("a")),
    (b'\xef\xbb\xbf{"output":"a"}', says("a")),
    (b'{"output":"a"', INVALID),
    (b'{"output":"a"}x', INVALID),
    (b'{"output":"a"}\n{"output":"b"}', INVALID),
    (b'{"output":"a"}\nand more', INVALID),
    (b"Hello", INVALID),
    (b"<html>a gateway</html>", INVALID),
    (b'{"output":NaN}', INVALID),
    (b'{"output":"a","n":NaN}', INVALID),
    (b'{"output":"a","n":1e999}', says("a")),
    (b'{"output":"a\nb"}', says("a\nb")),
    (b"", EMPTY),
    (b"\n\n", EMPTY),
    (b"[" * 100_000, INVALID),
    (b"[" * 100_000 + b"]" * 100_000, INVALID),
    (b'{"output":' * 100_000, INVALID),
    (b'{"output":"a","m":' + b"[" * 100_000 + b"]" * 100_000 + b"}", INVALID),
]


@pytest.mark.parametrize(("body", "expected"), DOCUMENTS)
def test_a_document_gives_its_text(body: bytes, expected: Outcome) -> None:
    assert decode(body) == expected
    if len(body) < 1000:
        assert decode(*each_byte(body)) == expected


@pytest.mark.parametrize("content_type", [JSON, "application/problem+json", "application/x-ndjson", "text/json"])
def test_every_json_type_makes_a_broken_document_invalid(content_type: str) -> None:
    assert decode(b'{"output":"a"', content_type=content_type) == INVALID


@pytest.mark.parametrize("content_type", [TEXT, HTML, None, "application/octet-stream", ""])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Hello", says("Hello")),
        (" Hello\r\n", says(" Hello\r\n")),
        ("\ufeffHello", says("Hello")),
        ("<p>Hello <b>you</b></p>", says("<p>Hello <b>you</b></p>")),
        ("null", says("null")),
        ("42", says("42")),
        ('"quoted," she said', says('"quoted," she said')),
        ("[link](https://x)", says("[link](https://x)")),
        ("[1] a source", says("[1] a source")),
        ("[", says("[")),
        ("{", says("{")),
        ("{name}, hello", says("{name}, hello")),
        ('{"a":1}\nis an object', says('{"a":1}\nis an object')),
        ('{"output": "a"\nnot quite', says('{"output": "a"\nnot quite')),
        ("data", says("data")),
        ("database: x", says("database: x")),
        ("event: Party on Friday", says("event: Party on Friday")),
        ("event: Party\n\nCome all", says("event: Party\n\nCome all")),
        (":) hi", says(":) hi")),
        ("data: the table\nbelow", says("data: the table\nbelow")),
        ("Workflow was started by you", says("Workflow was started by you")),
        ("Workflow was started", INVALID),
        ("Workflow was started\n", INVALID),
        ("Work", says("Work")),
        ("\u0085\u2028\u2029 a", says("\u0085\u2028\u2029 a")),
        ('{"output":"a"}', says("a")),
        ('{\n "output": "a"\n}', says("a")),
        ('["a","b"]', says("a", "b")),
        ('{"rows":[]}', INVALID),
        ('{"type":"begin"}\n{"type":"item","content":"a"}\n{"type":"end"}\n', says("a")),
        ("data: a\n\ndata:  b\n\n", says("a b")),
        ("", EMPTY),
        (" \n", EMPTY),
    ],
)
def test_a_body_of_another_type_is_text_unless_its_content_says_otherwise(
    content_type: str | None, body: str, expected: Outcome
) -> None:
    raw = body.encode()
    assert decode(raw, content_type=content_type) == expected
    assert decode(*each_byte(raw), content_type=content_type) == expected


def test_text_flows_as_it_arrives() -> None:
    _, counts = run(decoder(TEXT), [b"Dear ", b"you,", b" \xe2\x82", b"\xac"])
    assert counts == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"a\xe2\x82", "a\ufffd"),
        (b"a\0b", "a\ufffdb"),
        (b"a\xed\xa0\xbdb", "a\ufffd\ufffd\ufffdb"),
    ],
)
def test_what_no_text_may_hold_is_replaced(body: bytes, expected: str) -> None:
    assert decode(body, content_type=TEXT) == says(expected)
    assert decode(*each_byte(body), content_type=TEXT) == says(expected)
    assert decode(b'{"output":"' + body + b'"}') == says(expected)


@pytest.mark.parametrize(
    ("escaped", "expected"),
    [
        (rb"\ud83d\ude00", "😀"),
        (rb"a\ud83d", "a\ufffd"),
        (rb"\ude00a", "\ufffda"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd😀"),
        (rb"a\u0000b", "a\ufffdb"),
    ],
)
def test_lone_surrogates_and_nul_in_escapes_are_replaced(escaped: bytes, expected: str) -> None:
    assert decode(b'{"output":"' + escaped + b'"}') == says(expected)
    assert decode(b'["' + escaped + b'"]') == says(expected)


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (JSON, b'{"output":"a"', INVALID),
        (JSON, b'{"output":"a"}', INVALID),
        (JSON, b"", INVALID),
        (TEXT, b"so far", Outcome(("so far",), "upstream_invalid")),
        (TEXT, b"so far\xe2\x82", Outcome(("so far",), "upstream_invalid")),
        (SSE, b"data: so far\n\ndata: not th", Outcome(("so far",), "upstream_invalid")),
    ],
)
def test_a_cut_body_is_invalid_after_the_text_so_far(content_type: str, body: bytes, expected: Outcome) -> None:
    assert decode(body, content_type=content_type, complete=False) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"rows":[1]}', '```json\n{\n  "rows": [\n    1\n  ]\n}\n```'),
        (b"5", "```json\n5\n```"),
        (b'[{"a":"```"}]', '```json\n[\n  {\n    "a": "```"\n  }\n]\n```'),
        (b'{"a":"\\ud83d\\u0000"}', '```json\n{\n  "a": "\ufffd\\u0000"\n}\n```'),
    ],
)
def test_raw_json_is_shown_as_a_fenced_block_on_request(body: bytes, expected: str) -> None:
    assert decode(body, raw=True) == says(expected)
    assert decode(body) == INVALID


def test_a_large_raw_document_is_shown_as_it_came() -> None:
    body = b'{"rows":[' + b"[[[[]]]]," * 2000 + b"1]}"
    assert decode(body, raw=True) == says("```json\n" + body.decode() + "\n```")


@pytest.mark.parametrize(
    "body", [b'{"executionStarted":true,"resumeToken":"t"}', b'{"message":"Workflow was started"}']
)
def test_a_started_workflow_is_never_shown_and_the_reason_names_the_option_to_change(body: bytes) -> None:
    events, _ = run(decoder(raw=True), [body])
    reason = failure_of(events).reason
    for word in ("Respond", "Using Respond to Webhook node", "When Last Node Finishes", "Streaming"):
        assert word in reason


def test_reasons_and_notes_name_members_and_never_values() -> None:
    it = decoder()
    events, _ = run(it, [b'{"rows":"Jane Doe","Jane Doe <jane@example.com>":1,"output":5}'])
    assert failure_of(events).reason == (
        "an object with the members rows, ?, output without a text in output, text, message, response, content, answer"
    )
    assert not it.notes
    it = decoder()
    run(it, [b'["a",{"name":"Jane"}]'])
    assert it.notes == ["1 of 2 items of an array were dropped, the first is an object with the members name"]


def test_a_reason_is_short_whatever_the_document() -> None:
    members = ",".join(f'"m{number}":1' for number in range(10_000))
    events, _ = run(decoder(), [b"{" + members.encode() + b"}"])
    assert len(failure_of(events).reason) < 400


@pytest.mark.parametrize("content_type", [JSON, TEXT, SSE])
@pytest.mark.parametrize(
    "body", [b'{"output":"' + b"x" * 300_000, b" " * 300_000, b'data: {"a":\n' + b"data: x\n" * 30_000]
)
def test_more_held_than_a_reply_may_have_is_too_large(content_type: str, body: bytes) -> None:
    it = Decoder(200, content_type, show_raw_json=False, max_bytes=100_000, now=0.0)
    code = ""
    for at in range(0, len(body), 10_000):
        events = it.feed(body[at : at + 10_000], 0.0)
        assert it.buffered <= 100_000 + 65_536
        if it.finished:
            code = failure_of(events).refusal.kind.code
            break
    assert code == "reply_too_large"
    assert it.buffered == 0


def test_long_text_comes_in_bounded_pieces() -> None:
    text = "😀" * 50_000
    assert decode(b'{"output":"' + text.encode() + b'"}', limit=MIB) == says(text)
    assert decode(text.encode(), content_type=TEXT) == says(text)
