"""Request bodies: what is accepted, and what exactly is said about the rest."""

import json
from typing import Any

import pytest

from chatcore import intake
from chatcore.errors import Refusal
from chatcore.intake import ChatRequest
from chatcore.model import HistoryEntry
from chatcore.settings import IntakeSettings

SETTINGS = IntakeSettings()
WITH_HISTORY = IntakeSettings(accept_history=True)
ID = "0b9f4ac2-1111-4111-8111-abcdefabcdef"


def body(**members: Any) -> bytes:
    return json.dumps(members).encode()


def said(raw: bytes, settings: IntakeSettings = SETTINGS) -> list[tuple[str, str]]:
    """What is said about a body that is refused as `invalid_request`."""
    with pytest.raises(Refusal) as refused:
        intake.parse_chat(raw, settings)
    assert refused.value.kind.code == "invalid_request"
    faults = [(fault.field, fault.message) for fault in refused.value.errors]
    assert refused.value.detail == "The request is not valid: {} {}.".format(*faults[0])
    return faults


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"message":"Hello"}', ChatRequest("Hello")),
        (b' {\n "message" : "a\\tb\\n\\"c\\"\\/" } \r\n', ChatRequest('a\tb\n"c"/')),
        (b'{"message":"\\\\"}', ChatRequest("\\")),
        (b'{"message":"\\\\\\""}', ChatRequest('\\"')),
        (b'{"message":"\\u00e4 \\ud83d\\ude00"}', ChatRequest("ä 😀")),
        ('{"message":" ä😀\u2028\u200b "}'.encode(), ChatRequest(" ä😀\u2028\u200b ")),
        (b'{"me\\u0073sage":"x"}', ChatRequest("x")),
        (body(message="x", message_id=ID), ChatRequest("x", ID)),
        (body(message="x", message_id=ID.upper()), ChatRequest("x", ID)),
        (body(message="x", message_id=ID.replace("-", "")), ChatRequest("x", ID)),
        (body(message="\\", message_id=ID.upper(), page_url="http://A.b"), ChatRequest("\\", ID, "http://a.b/")),
        (body(message="x", metadata={}), ChatRequest("x", metadata={})),
        (
            body(message="x", metadata={"a": {"b": [1, 2.5, None, True, "ü"]}}),
            ChatRequest("x", metadata={"a": {"b": [1, 2.5, None, True, "ü"]}}),
        ),
        (b'{"message":"x","metadata":{"n":%s}}' % (b"9" * 300), ChatRequest("x", metadata={"n": int("9" * 300)})),
        (body(message="x" * 10_000), ChatRequest("x" * 10_000)),
        (body(message="😀" * 10_000), ChatRequest("😀" * 10_000)),
    ],
)
def test_what_is_accepted(raw: bytes, expected: ChatRequest) -> None:
    assert intake.parse_chat(raw, SETTINGS) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"hello",
        b'{"message":"x"',
        b'{"message":"x"}}',
        b'{"message":"x"}{"message":"y"}',
        b"{'message':'x'}",
        b'{"message":"x",}',
        b'{"message":"a\nb"}',
        b'{"message":"a\0b"}',
        b'{"message":"\\x41"}',
        b'{"message":"\\u12"}',
        b'{"message":NaN}',
        b'{"message":"x","metadata":{"a":Infinity}}',
        b'{"message":"x","metadata":{"a":-Infinity}}',
        b'{"message":"x","metadata":{"a":01}}',
        b'\xef\xbb\xbf{"message":"x"}',
        '{"message":"x"}'.encode("utf-16"),
        b'{"message":"\xff"}',
        b'{"message":"\xed\xa0\x80"}',
        b'{"message":"\xc0\x80"}',
        b"multipart?",
    ],
)
def test_what_is_no_json(raw: bytes) -> None:
    for parse in (lambda: intake.parse_chat(raw, SETTINGS), lambda: intake.parse_feedback(raw)):
        with pytest.raises(Refusal) as refused:
            parse()
        assert refused.value.kind.code == "invalid_json"


CHARACTERS = "must have at most 10000 characters"
BLANK = "must not be empty or only white space"
SURROGATES = "must not contain lone surrogates"
NUL = "must not contain NUL"


@pytest.mark.parametrize(
    ("raw", "faults"),
    [
        (b"[]", [("body", "must be a JSON object")]),
        (b"null", [("body", "must be a JSON object")]),
        (b'"x"', [("body", "must be a JSON object")]),
        (b"1e999", [("body", "must be a JSON object")]),
        (b"[" * 200_000, [("body", "is nested too deeply")]),
        (b'{"a":' * 40_000, [("body", "is nested too deeply")]),
        (b"{}", [("message", "is required and must be a string")]),
        (b'{"message":null}', [("message", "is required and must be a string")]),
        (b'{"message":5}', [("message", "must be a string")]),
        (b'{"message":["x"]}', [("message", "must be a string")]),
        (b'{"message":""}', [("message", BLANK)]),
        (b'{"message":" \\n\\t"}', [("message", BLANK)]),
        (body(message="\u2003\u00a0\u3000\u2028\x85"), [("message", BLANK)]),
        (json.dumps({"message": "\u2003\u3000"}, ensure_ascii=False).encode(), [("message", BLANK)]),
        (body(message="x" * 10_001), [("message", CHARACTERS)]),
        (('{"message":"' + "😀" * 10_001 + '"}').encode(), [("message", CHARACTERS)]),
        (b'{"message":"a\\u0000b"}', [("message", NUL)]),
        (b'{"message":"a\\ud800b"}', [("message", SURROGATES)]),
        (b'{"message":"\\udc00\\ud800"}', [("message", SURROGATES)]),
        (b'{"message":"\\ud83d"}', [("message", SURROGATES)]),
        (b'{"message":"a","message":"b"}', [("message", "is given twice")]),
        (b'{"message":"a","m\\u0065ssage":"b"}', [("message", "is given twice")]),
        (b'{"message":"a","metadata":{"k":1,"k":1}}', [("k", "is given twice")]),
        (b'{"message":"a","text":"b"}', [("text", "is not a known member")]),
        (b'{"message":"a","\\ud800":1}', [("\\ud800", "is not a known member")]),
        (b'{"message":"a","%s":1}' % (b"k" * 99), [("k" * 64, "is not a known member")]),
        (body(message="a", message_id="1"), [("message_id", "must be a UUID")]),
        (body(message="a", message_id=None), [("message_id", "must be a UUID")]),
        (body(message="a", message_id="{" + ID + "}"), [("message_id", "must be a UUID")]),
        (body(message="a", message_id=ID + "\n"), [("message_id", "must be a UUID")]),
        (body(message="a", message_id="\u0660" + ID[1:]), [("message_id", "must be a UUID")]),
        (body(message="a", page_url=7), [("page_url", "must be a string")]),
        (body(message="a", metadata=[]), [("metadata", "must be an object")]),
        (body(message="a", metadata=None), [("metadata", "must be an object")]),
        (
            body(message="a", metadata={str(n): n for n in range(21)}),
            [("metadata", "must have at most 20 members")],
        ),
        (body(message="a", metadata={"k": "x" * 4090}), [("metadata", "must have at most 4096 bytes")]),
        (
            b'{"message":"a","metadata":{"k":1%s}}' % (b" " * 4096),
            [("metadata", "must have at most 4096 bytes")],
        ),
        (
            body(message="a", metadata={"a": {"b": {"c": {}}}, "d": [[[1]]]}),
            [
                ("metadata.a.b.c", "is nested more than 3 levels deep"),
                ("metadata.d[0][0]", "is nested more than 3 levels deep"),
            ],
        ),
        (b'{"message":"a","metadata":{"a":[1e999]}}', [("metadata.a[0]", "is a number out of range")]),
        (b'{"message":"a","metadata":{"a":-%s}}' % (b"9" * 5000), [("metadata.a", "is a number out of range")]),
        (b'{"message":"a","metadata":{"a":"\\u0000"}}', [("metadata.a", NUL)]),
        (b'{"message":"a","metadata":{"a":{"\\udfff":1}}}', [("metadata.a.\\udfff", SURROGATES)]),
        (b'{"message":"a","metadata":{"\\u0000":1}}', [("metadata.\\x00", NUL)]),
        (body(message="a", history=[]), [("history", "is not accepted by this server")]),
        (
            body(message="", message_id=1, page_url="x", other=1),
            [
                ("message", BLANK),
                ("message_id", "must be a UUID"),
                ("page_url", "must be an http or https address"),
                ("other", "is not a known member"),
            ],
        ),
        (
            body(message="a", **{f"m{n}": n for n in range(50)}),
            [(f"m{n}", "is not a known member") for n in range(10)],
        ),
    ],
)
def test_what_is_said_about_the_rest(raw: bytes, faults: list[tuple[str, str]]) -> None:
    assert said(raw) == faults


def test_metadata_is_measured_as_sent() -> None:
    fits = b'{"a":"%s"}' % (b"x" * 4088)
    assert intake.parse_chat(b'{"message":"a","metadata": %s }' % fits, SETTINGS).metadata == {"a": "x" * 4088}
    assert said(b'{"message":"a","metadata": %s }' % fits.replace(b":", b": "))


def test_history_is_read_where_it_is_accepted() -> None:
    entries = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]
    read = intake.parse_chat(body(message="a", history=entries), WITH_HISTORY)
    assert read.history == [HistoryEntry("user", "Hi"), HistoryEntry("assistant", "")]
    assert intake.parse_chat(body(message="a", history=entries * 25), WITH_HISTORY).history is not None


@pytest.mark.parametrize(
    ("history", "faults"),
    [
        ({}, [("history", "must be an array")]),
        ([{"role": "user", "content": ""}] * 51, [("history", "must have at most 50 entries")]),
        (
            [1, {"role": "user"}, {"role": "user", "content": "", "x": 1}],
            [(f"history[{n}]", 'must be an object with "role" and "content" alone') for n in range(3)],
        ),
        (
            [{"role": "system", "content": 5}, {"role": {}, "content": "\0"}],
            [
                ("history[0].role", 'must be "user" or "assistant"'),
                ("history[0].content", "must be a string"),
                ("history[1].role", 'must be "user" or "assistant"'),
                ("history[1].content", NUL),
            ],
        ),
        ([{"role": "user", "content": "x" * 40_000}] * 2, [("history", "must have at most 65536 bytes")]),
    ],
)
def test_what_is_said_about_a_history(history: Any, faults: list[tuple[str, str]]) -> None:
    assert said(body(message="a", history=history), WITH_HISTORY) == faults
