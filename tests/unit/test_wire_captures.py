"""Every recorded answer of a real n8n decodes to the outcome that its kind has, for any split of its bytes."""

import random

import pytest

from tests.support import captures
from tests.support.wire import JSON, Outcome, cut, decode, each_byte

REFUSED = Outcome((), "upstream_refused")
NOT_FOUND = Outcome((), "upstream_not_found")
UNAVAILABLE = Outcome((), "upstream_unavailable")
ERROR = Outcome((), "upstream_error")
INVALID = Outcome((), "upstream_invalid")
EMPTY = Outcome((), "upstream_empty")


def says(*segments: str) -> Outcome:
    return Outcome(segments)


MARKDOWN = (
    "# Title\n\n- item **bold**\n- `code`\n\n```python\nprint('hi')\n```\n<b>html</b> [link](https://example.com)\n"
)
UNICODE = 'Héllo 👨\u200d👩\u200d👧 日本語\n\n"quoted" back\\slash tab\t</script> \u2028 end'
TOKENS = " ".join(f"tok{number}" for number in range(40)) + " "

OUTCOMES = {
    "01-webhook-respond-json": says("echo: hello"),
    "02-webhook-respond-text": says("echo: hello"),
    "03-webhook-respond-nodata": EMPTY,
    "04-webhook-respond-422": ERROR,
    "05-webhook-lastnode": says("echo: hello"),
    "07-webhook-onreceived": INVALID,
    "08-webhook-reflect": INVALID,
    "09-webhook-agent-lastnode": says("Echo: hello"),
    "11-webhook-http10": says("echo: hello"),
    "12-webhook-expect-100": says("echo: hello"),
    "13-webhook-text-plain-body": INVALID,
    "14-webhook-form-body": INVALID,
    "15-webhook-empty-body": INVALID,
    "16-webhook-trailing-slash": says("echo: hello"),
    "20-err-lastnode": ERROR,
    "21-err-respond": ERROR,
    "22-err-norespond": EMPTY,
    "23-err-noitem": ERROR,
    "24-err-misconfig": ERROR,
    "25-err-unknown-path": NOT_FOUND,
    "26-err-inactive": NOT_FOUND,
    "27-err-wrong-method": NOT_FOUND,
    "28-err-test-url": NOT_FOUND,
    "29-err-bad-json": ERROR,
    "30-err-too-large": ERROR,
    "31-err-agent-llm500": ERROR,
    "33-err-path-root": UNAVAILABLE,
    "40-auth-header-none": REFUSED,
    "40-auth-header-ok": INVALID,
    "40-auth-header-wrong": REFUSED,
    "41-auth-basic-none": REFUSED,
    "41-auth-basic-ok": INVALID,
    "41-auth-basic-wrong": REFUSED,
    "43-auth-jwt-algnone": REFUSED,
    "43-auth-jwt-badsig": REFUSED,
    "43-auth-jwt-expfloat": INVALID,
    "43-auth-jwt-expired": REFUSED,
    "43-auth-jwt-expstr": REFUSED,
    "43-auth-jwt-hs512": REFUSED,
    "43-auth-jwt-iatfuture": INVALID,
    "43-auth-jwt-malformed": REFUSED,
    "43-auth-jwt-none": REFUSED,
    "43-auth-jwt-noscheme": REFUSED,
    "43-auth-jwt-notyp": INVALID,
    "43-auth-jwt-ok": INVALID,
    "43-auth-jwt-ok-noexp": INVALID,
    "43-auth-jwt-ok-scheme": INVALID,
    "44-auth-jwt-stream-bad": REFUSED,
    "44-auth-jwt-stream-ok": says("Echo: hello"),
    "47-stream-agent-off": EMPTY,
    "48-stream-respond-off": EMPTY,
    "49-stream-respond-all": says('{"chatInput":"first"}', '{"chatInput":"second"}'),
    "50-stream-agent": says("Echo: hello streaming world"),
    "51-stream-agent-unicode": says(UNICODE),
    "52-stream-agent-tool": says('The result is [{"response":"42"}].'),
    "55-stream-agent-empty": EMPTY,
    "56-stream-agent-llm500": ERROR,
    "58-stream-respond-json": says("echo: hello"),
    "60-stream-nothing": EMPTY,
    "61-stream-error": ERROR,
    "64-stream-timeout": Outcome(("tok0 tok1 tok2 tok3 tok4 ",), "upstream_error"),
    "65-stream-gzip": says("Echo: hello gzip"),
    "66-stream-http10": says("Echo: hello"),
    "67-stream-connection-close": says("Echo: hello"),
    "68-stream-markdown": says(MARKDOWN),
    "69a-stream-continue": says("after the error"),
    "69b-stream-code-error": ERROR,
    "70-chat-lastnode": says("Echo: hello"),
    "71-chat-streaming": says("Echo: hello chat"),
    "73-chat-loadprevious-memory": INVALID,
    "74-chat-loadprevious-empty": INVALID,
    "75-chat-loadprevious-off": INVALID,
    "76-chat-respondnode": says("echo: hello"),
    "77-chat-responsenodes": INVALID,
    "78-chat-err-lastnode": ERROR,
    "79-chat-err-streaming": ERROR,
    "80-chat-basic-none": REFUSED,
    "80-chat-basic-ok": says("Echo: hello"),
    "80-chat-basic-wrong": REFUSED,
    "81-chat-private": NOT_FOUND,
    "83-chat-gzip-streaming": says("Echo: hello"),
    "84-chat-upload": INVALID,
    "85-chat-multipart-nofiles": INVALID,
    "86-chat-reflect-json": INVALID,
    "87-chat-upload-streaming": says("Echo: File: a.txt\nContent:\nabc"),
    "88-webhook-upload": INVALID,
    "90-chat-get-webhookmode": says("firstEntryJson"),
    "91-chat-nochatinput": ERROR,
    "92-chat-nochatinput-stream": ERROR,
    "94-chat-noaction": says("Echo: hello"),
    "96-cors-limited-other": says("hi hello"),
    "97-cors-limited-ok": says("hi hello"),
    "99-header-too-large": ERROR,
    "99b-keepalive-reuse-1": says("Echo: one"),
    "99c-keepalive-reuse-2": says("echo: two"),
    "A1-stream-keepalive-mid": says("Echo: [[hang]] abcdefghijkl"),
    "A3-stream-timeout-longer": Outcome(("tok0 tok1 tok2 tok3 tok4 ",), "upstream_error"),
    "A4-lastnode-long-wait": says(TOKENS),
    "B1-disconnect-stream": Outcome(("tok0 tok1 tok2 ",), "upstream_invalid"),
    "B2-disconnect-chat": Outcome(("tok0 tok1 tok2 ",), "upstream_invalid"),
    "C1-sigterm-stream": says(TOKENS),
}
ELSEWHERE = {
    "10-webhook-gzip-lastnode",  # Brotli, which we never ask for
    "89-chat-hosted-page",  # a page of HTML, checked below
}
SPLITS = 3


def test_every_recording_has_an_outcome() -> None:
    assert set(captures.names()) == OUTCOMES.keys() | ELSEWHERE


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_recording_decodes_to_its_outcome_for_any_split(name: str) -> None:
    capture = captures.load(name)
    body = capture.body
    randomness = random.Random(name)  # noqa: S311 - cuts need no secrecy
    splits = [[data for _, data in capture.pieces], [body], each_byte(body)]
    splits += [cut(body, [randomness.randrange(len(body) + 1) for _ in range(6)]) for _ in range(SPLITS)]
    for pieces in splits:
        found = decode(*pieces, content_type=capture.content_type, status=capture.status, complete=capture.complete)
        assert found == OUTCOMES[name]


def test_a_page_of_html_is_text_with_its_tags() -> None:
    capture = captures.load("89-chat-hosted-page")
    assert decode(capture.body, content_type=capture.content_type) == says(capture.body.decode())


def test_a_burst_like_the_longest_recorded_one_loses_nothing() -> None:
    """3600 items of 56 characters came within 20 ms, in reads of 64 KiB."""
    meta = b'"metadata":{"nodeId":"ee7ca520-9f50-55db-9fc4-2f6e576e98d1","itemIndex":0,"timestamp":1795374909670}}\n'
    texts = [f"{number:06d} " * 8 for number in range(3600)]
    lines = [b'{"type":"item","content":"' + text.encode() + b'",' + meta for text in texts]
    body = b"".join([b'{"type":"begin",' + meta, *lines, b'{"type":"end",' + meta])
    pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    assert decode(*pieces) == says("".join(texts))


def test_one_line_of_300_kilobytes_is_text() -> None:
    body = b'{"type":"begin"}\n{"type":"item","content":"' + "€".encode() * 100_000 + b'"}\n{"type":"end"}\n'
    pieces = [body[at : at + 16_381] for at in range(0, len(body), 16_381)]
    assert decode(*pieces, content_type=JSON) == says("€" * 100_000)
