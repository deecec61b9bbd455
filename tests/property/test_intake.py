"""Any bytes give a value or a refusal, and the quick reader agrees with the thorough one."""

import contextlib
import json
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatcore import intake
from chatcore.errors import Refusal, problem
from chatcore.settings import IntakeSettings

SETTINGS = IntakeSettings(max_message_chars=20, accept_history=True)
TEXT = st.text(st.characters(), max_size=25)  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]), "content": TEXT})
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "message": TEXT | JSON,
    "message_id": st.uuids().map(str) | TEXT,
    "page_url": TEXT.map(lambda text: "https://a.example/" + text) | TEXT,
    "metadata": st.dictionaries(TEXT, JSON, max_size=4) | JSON,
    "history": st.lists(ENTRY | JSON, max_size=3) | JSON,
}
BODIES = st.fixed_dictionaries({}, optional=LIKELY) | JSON
PIECES = st.sampled_from(
    [
        b'"',
        b"\\",
        b"\\u",
        b"d800",
        b"0000",
        b"{",
        b"}",
        b":",
        b",",
        b'"message"',
        b"message",
        b" ",
        b"\n",
        b"[",
        b"1e999",
    ]
)


def parse_all(raw: bytes) -> None:
    for parse in (
        lambda: intake.parse_chat(raw, SETTINGS),
        lambda: intake.parse_session(raw),
        lambda: intake.parse_feedback(raw),
    ):
        try:
            value = parse()
        except Refusal as refusal:
            # What is told of it can be sent, whatever the body held.
            assert refusal.kind.code in {"invalid_json", "invalid_request"}  # noqa: PT017 - a refusal is one of two good ends
            msgspec.json.encode(problem(refusal, "id"))
        else:
            msgspec.json.encode(value)


@given(st.binary())
def test_any_bytes(raw: bytes) -> None:
    parse_all(raw)


@given(st.lists(PIECES | st.binary(max_size=3), max_size=20).map(b"".join))
def test_almost_json(inner: bytes) -> None:
    parse_all(b'{"message":"' + inner + b'"}')
    parse_all(b'{"message":"a"' + inner + b"}")


@settings(deadline=None)
@given(BODIES, st.booleans())
def test_any_json(value: Any, ascii_only: bool) -> None:
    parse_all(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))


USUAL = st.fixed_dictionaries(
    {"message": TEXT}, optional={"message_id": LIKELY["message_id"], "page_url": LIKELY["page_url"]}
)


@settings(deadline=None)
@given(USUAL, st.booleans(), st.lists(PIECES, max_size=3).map(b"".join), st.integers(0, 200))
@example({"message": "a"}, False, b',"message":"b"', 15)  # noqa: FBT003 - as above
def test_both_readers_agree(value: Any, ascii_only: bool, put: bytes, at: int) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    raw = raw[:at] + put + raw[at:]
    quick = intake._usual_chat(raw, SETTINGS.max_message_chars)  # noqa: SLF001 - the two readers are the promise
    if quick is not None:
        assert intake._any_chat(raw, SETTINGS) == quick  # noqa: SLF001 - as above


@given(st.lists(st.sampled_from(['"message":"a"', '"message":"\\\\"', '"message":"\\""', '"page_url":"http://a.b"'])))
def test_a_name_twice_is_always_refused(members: list[str]) -> None:
    raw = ("{" + ",".join(members) + "}").encode()
    names = [member.split(":")[0] for member in members]
    if len(set(names)) != len(names):
        with pytest.raises(Refusal):
            intake.parse_chat(raw, SETTINGS)
    elif '"message"' in names:
        intake.parse_chat(raw, SETTINGS)


@settings(deadline=None)
@example({"message": "0", "page_url": "https://a.example/@someone"})
@given(BODIES)
def test_what_is_accepted_keeps_its_limits(value: Any) -> None:
    with contextlib.suppress(Refusal):
        read = intake.parse_chat(json.dumps(value).encode(), SETTINGS)
        assert 0 < len(read.message) <= 20
        assert read.message.strip()
        assert read.message == value["message"]
        assert read.metadata is None or (len(read.metadata) <= 20 and read.metadata == value["metadata"])
        text = repr(msgspec.to_builtins(read))
        assert "\\x00" not in text
        assert "\\ud8" not in text
        if read.page_url is not None:
            assert not set(read.page_url) & set("?# \r\n\\")
            assert "@" not in urlsplit(read.page_url).netloc, "a path may hold one, but no credentials"
