"""What leaves for the client: server-sent events and the JSON document of the HTTP contract."""

import json

from chatcore.errors import UPSTREAM_ERROR, Refusal, problem
from chatcore.model import Delta
from chatcore.wire.encode_document import encode_document, join_text
from chatcore.wire.encode_sse import PING, encode_deltas, encode_done, encode_error, encode_start

DELTAS = [Delta('a "quoted"\r\n'), Delta("\u2028é😀"), Delta("b", opens_segment=True)]


def test_a_start_is_the_first_event() -> None:
    assert encode_start("m-1", 's"1') == b'id: 1\nevent: start\ndata: {"message_id":"m-1","session_id":"s\\"1"}\n\n'


def test_deltas_are_numbered_and_a_new_segment_begins_with_a_blank_line() -> None:
    assert encode_deltas(2, DELTAS) == (
        b'id: 2\nevent: delta\ndata: {"content":"a \\"quoted\\"\\r\\n"}\n\n'
        + 'id: 3\nevent: delta\ndata: {"content":"\u2028é😀"}\n\n'.encode()
        + b'id: 4\nevent: delta\ndata: {"content":"\\n\\nb"}\n\n'
    )
    assert encode_deltas(4, DELTAS[2:]) == b'id: 4\nevent: delta\ndata: {"content":"\\n\\nb"}\n\n'
    assert encode_deltas(2, []) == b""


def test_an_error_is_a_problem_and_the_end_says_why() -> None:
    fault = problem(Refusal(UPSTREAM_ERROR), "r-1")
    event = encode_error(5, fault)
    assert event.startswith(b"id: 5\nevent: error\ndata: {")
    assert event.endswith(b"}\n\n")
    assert json.loads(event.split(b"data: ")[1]) == fault
    assert encode_done(6, "m-1", "error", 1200) == (
        b'id: 6\nevent: done\ndata: {"message_id":"m-1","finish_reason":"error","duration_ms":1200}\n\n'
    )


def test_a_ping_is_a_comment() -> None:
    assert PING == b": ping\n\n"


def test_a_document_holds_the_joined_text() -> None:
    text = join_text(DELTAS)
    assert text == 'a "quoted"\r\n\u2028é😀\n\nb'
    assert json.loads(encode_document("m-1", "s_1", text, "complete", 7)) == {
        "message_id": "m-1",
        "session_id": "s_1",
        "content": text,
        "finish_reason": "complete",
        "duration_ms": 7,
    }


def test_a_document_of_a_late_failure_holds_the_problem() -> None:
    fault = problem(Refusal(UPSTREAM_ERROR), "r-1")
    document = json.loads(encode_document("m-1", "s_1", "so far", "error", 7, fault))
    assert document["error"] == fault
    assert document["finish_reason"] == "error"
