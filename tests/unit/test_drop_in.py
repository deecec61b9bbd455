"""What n8n's own widget sends, read as a table; and what it gets, byte for byte."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types

from chatcore import openapi
from chatcore.drop_in import WidgetRequest, is_unguessable, parse_document, parse_form, session_name
from chatcore.errors import Refusal
from chatcore.settings import IntakeSettings
from chatcore.wire.encode_lines import encode_line, encode_output
from chatcore.wire.previous_session import Said, encode_previous, read_previous
from tests.support.settings import settings_with
from tests.support.told import NEEDED, NEEDED_BY
from tests.support.told import read as settings_of

SETTINGS = IntakeSettings(max_message_chars=20)
UUID4 = "6f0a3c52-6d1e-4f0b-9a57-0c2b7d9e8f13"
SEND: dict[str, Any] = {"action": "sendMessage", "sessionId": "a-1_B", "chatInput": "Hi"}
METADATA = {"a": {"b": [1, None, "x"]}}


def read(members: Any, *, named: bool = True, form: bool = False) -> WidgetRequest:
    if form:
        return parse_form(members, SETTINGS, named=named)
    return parse_document(json.dumps(members).encode(), SETTINGS, named=named)


def test_a_message_is_read_alike_from_json_and_from_a_form() -> None:
    expected = WidgetRequest("sendMessage", "a-1_B", "Hi", METADATA)
    assert read({**SEND, "metadata": METADATA}) == expected
    assert read({**SEND, "metadata": json.dumps(METADATA)}, form=True) == expected
    assert read(SEND) == read(SEND, form=True) == WidgetRequest("sendMessage", "a-1_B", "Hi")


@pytest.mark.parametrize(
    "more",
    [
        {"context": {"user": "root"}},
        {"history": []},
        {"message_id": "x"},
        {"files": "x"},
        {"\0": "\ud800"},
        {"deep": [[[[[[[[1]]]]]]]]},
        {"n": 10**400},
    ],
)
def test_what_a_page_adds_is_dropped_whatever_it_is(more: dict[str, Any]) -> None:
    assert read({**SEND, **more}) == read(SEND)


def test_earlier_messages_are_asked_for_with_no_more_than_an_id() -> None:
    asked = {"action": "loadPreviousSession", "sessionId": UUID4}
    for form in (False, True):
        assert read(asked, form=form) == WidgetRequest("loadPreviousSession", UUID4)
    for odd in ({"sessionId": 5}, {"sessionId": "a b"}, {"sessionId": None}, {"chatInput": "", "metadata": 5}):
        found = read({**asked, **odd})
        assert found.action == "loadPreviousSession"
        assert found.session == (UUID4 if "sessionId" not in odd else None)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"action": None}, "action", "sendMessage"),
        ({"action": "resetMemory"}, "action", "loadPreviousSession"),
        ({"action": ["sendMessage"]}, "action", "must be"),
        ({"chatInput": None}, "chatInput", "is required"),
        ({"chatInput": 5}, "chatInput", "must be a string"),
        ({"chatInput": " \n"}, "chatInput", "white space"),
        ({"chatInput": "x" * 21}, "chatInput", "at most 20"),
        ({"chatInput": "a\0"}, "chatInput", "NUL"),
        ({"chatInput": "\ud800"}, "chatInput", "surrogates"),
        ({"chatInput": None, "question": "Hi"}, "chatInput", "'question': leave out chatInputKey of createChat"),
        ({"sessionId": None}, "sessionId", "is required"),
        ({"sessionId": None, "session": "x"}, "sessionId", "'session': leave out chatSessionKey of createChat"),
        ({"sessionId": 5}, "sessionId", "1 to 128"),
        ({"sessionId": ""}, "sessionId", "1 to 128"),
        ({"sessionId": "x" * 129}, "sessionId", "1 to 128"),
        ({"sessionId": "a\n"}, "sessionId", "1 to 128"),
        ({"sessionId": "a/b"}, "sessionId", "1 to 128"),
        ({"sessionId": "ä"}, "sessionId", "1 to 128"),
        ({"metadata": None}, "metadata", "must be an object"),
        ({"metadata": []}, "metadata", "must be an object"),
        ({"metadata": {"a": {"b": {"c": {}}}}}, "metadata.a.b.c", "nested more than 3"),
        ({"metadata": {"a": "x" * 4096}}, "metadata", "4096 bytes"),
        ({"metadata": {"a": "é" * 2048}}, "metadata", "4096 bytes"),
        ({"metadata": {str(n): 1 for n in range(21)}}, "metadata", "20 members"),
        ({"metadata": {"a": "\0"}}, "metadata.a", "NUL"),
    ],
)
def test_each_fault_names_its_field_and_reason(change: dict[str, Any], field: str, words: str) -> None:
    members = {name: value for name, value in {**SEND, **change}.items() if value is not None or name == "metadata"}
    with pytest.raises(Refusal) as refused:
        read(members)
    assert refused.value.kind.code == "invalid_request"
    assert [fault.field for fault in refused.value.errors] == [field]
    assert words in refused.value.detail


@pytest.mark.parametrize(
    "metadata", ["", "{", "[1]", "5", "null", "{'a': 1}", '{"a": NaN}', "[" * 100_000, '{"a":1,"a":2}']
)
def test_metadata_of_a_form_must_be_an_object_in_json(metadata: str) -> None:
    with pytest.raises(Refusal) as refused:
        read({**SEND, "metadata": metadata}, form=True)
    assert refused.value.errors[0].field.startswith("metadata")


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'"a"', b"null", b'{"action":', b"\xff", b"[" * 100_000])
def test_a_body_must_be_a_json_object(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse_document(body, SETTINGS, named=True)
    assert refused.value.kind.code in {"invalid_json", "invalid_request"}


def test_with_a_token_no_session_is_named() -> None:
    without = {name: value for name, value in SEND.items() if name != "sessionId"}
    assert read(without, named=False) == WidgetRequest("sendMessage", None, "Hi")
    with pytest.raises(Refusal):
        read({**SEND, "sessionId": "a b"}, named=False)


BODIES: list[Any] = [
    SEND,
    {**SEND, "metadata": METADATA, "context": [], "x": "\0"},
    {**SEND, "chatInput": " "},
    {**SEND, "chatInput": 5},
    {**SEND, "chatInput": "x" * 21},
    {**SEND, "sessionId": None},
    {**SEND, "sessionId": "a b"},
    {**SEND, "sessionId": "x" * 129},
    {**SEND, "metadata": []},
    {**SEND, "metadata": {"a": {"b": {"c": []}}}},
    {**SEND, "action": "resetMemory"},
    {"action": "sendMessage", "chatInput": "Hi"},
    {"action": "sendMessage"},
    {"action": "loadPreviousSession"},
    {"action": "loadPreviousSession", "sessionId": "a b", "chatInput": 5},
    {},
    [],
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: json.dumps(body)[:60])
def test_a_body_fits_its_schema_where_it_is_read(body: Any) -> None:
    described = openapi.document(settings_with(intake={"max_message_chars": 20}))
    check = {"$ref": "#/components/schemas/WidgetRequest", "components": described["components"]}
    said = None
    try:
        read(body, named=False)
    except Refusal as refusal:
        said = refusal.detail
    assert Draft202012Validator(check).is_valid(body) is (said is None), f"the server says: {said}"


def test_a_mode_that_keeps_messages_does_not_ask_n8n_for_them_and_says_so() -> None:
    asked = {"N8N_LOAD_PREVIOUS": "true", "REQUIRE_TOKEN": "true"}
    plain = settings_of({**NEEDED, **asked})
    assert (plain.upstream.load_previous, plain.intake.require_token) == (True, True)
    assert "N8N_LOAD_PREVIOUS" not in " ".join(plain.warnings)
    keeping = settings_of({**NEEDED_BY["postgres"], **asked}, mode="postgres")
    assert "N8N_LOAD_PREVIOUS has no effect in PostgreSQL mode" in " ".join(keeping.warnings)
    assert not settings_of(NEEDED).upstream.load_previous
    assert not settings_of(NEEDED).intake.require_token


def test_several_faults_are_told_together() -> None:
    with pytest.raises(Refusal) as refused:
        read({"action": "x", "metadata": 5})
    assert [fault.field for fault in refused.value.errors] == ["action", "chatInput", "sessionId", "metadata"]


def test_a_session_s_name_depends_on_website_bot_and_id() -> None:
    # SHA-256 of "https://a.example\ndefault\nx" as another program gives it.
    assert session_name(b"https://a.example", "default", "x") == "w_XTTiNk-WAJb-SbOezUXOBF5Uq8929FfHjBxrrTId_V4"
    names = {
        session_name(origin, bot, session)
        for origin in (None, b"https://a.example", b"https://b.example")
        for bot in ("default", "sales")
        for session in ("x", "y", "s_Jb2hQmZ4T8yVn0Rk1XwPLg")
    }
    assert len(names) == 18
    assert all(re.fullmatch(r"w_[A-Za-z0-9_-]{43}", name) for name in names)


@pytest.mark.parametrize(
    ("session", "is_one"),
    [
        (UUID4, True),
        (UUID4.upper(), True),
        (UUID4.replace("-4f", "-1f"), False),
        (UUID4.replace("-9a", "-ca"), False),
        (UUID4.replace("-", ""), False),
        (UUID4 + "\n", False),
        ("", False),
        (UUID4.replace("6", "٦"), False),
    ],
)
def test_only_a_version_4_uuid_cannot_be_guessed(session: str, is_one: bool) -> None:
    assert is_unguessable(session) is is_one


def test_a_line_has_the_members_of_n8n_s_in_its_order() -> None:
    assert encode_line("item", "n-1", 1795374901.3429, "a\u2028\n") == (
        b'{"type":"item","content":"a\xe2\x80\xa8\\n","metadata":{"nodeId":"n-1","nodeName":"chatcore","itemIndex":0,'
        b'"runIndex":0,"timestamp":1795374901342}}\n'
    )
    assert b"content" not in encode_line("begin", "n-1", 1.0)


def test_a_document_never_has_an_empty_output() -> None:
    assert encode_output("a", None) == b'{"output":"a"}'
    assert encode_output("a", "It failed.") == b'{"output":"a\\n\\nIt failed."}'
    assert encode_output("", "It failed.") == b'{"message":"It failed."}'


def test_earlier_messages_are_written_as_they_are_read() -> None:
    said = [Said("user", "a \u2028 <b>"), Said("assistant", "b"), Said("assistant", "")]
    assert read_previous(encode_previous(said)) == said[:2]
    assert encode_previous([]) == b'{"data":[]}'


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"data":5}', b'{"data":null}', b"\xff", b"[" * 100_000])
def test_what_is_no_list_of_messages_is_none(body: bytes) -> None:
    assert read_previous(body) is None


def test_halves_and_nul_of_n8n_s_messages_are_replaced() -> None:
    body = b'{"data":[{"id":["x","AIMessage"],"kwargs":{"content":"\\ud83d\\ude00 \\ud800 \\u0000"}}]}'
    assert read_previous(body) == [Said("assistant", "😀 \ufffd \ufffd")]
