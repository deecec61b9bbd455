"""Any bytes at the address of n8n's widget give a value or a refusal, and any deltas give lines that it can read."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from chatcore.drop_in import WidgetRequest, parse_document, parse_form
from chatcore.errors import Refusal, problem
from chatcore.settings import IntakeSettings
from chatcore.wire.previous_session import encode_previous, read_previous

SETTINGS = IntakeSettings(max_message_chars=20)
TEXT = st.text(st.characters(), max_size=25)  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "action": st.sampled_from(["sendMessage", "loadPreviousSession"]) | JSON,
    "sessionId": st.uuids().map(str) | TEXT | JSON,
    "chatInput": TEXT | JSON,
    "metadata": st.dictionaries(TEXT, JSON, max_size=4) | JSON,
    "files": JSON,
    "context": JSON,
}
FORM = st.dictionaries(st.sampled_from(list(LIKELY)) | TEXT, TEXT | JSON.map(json.dumps) | st.just("sendMessage"))
SAID = st.fixed_dictionaries(
    {"id": st.lists(TEXT | st.just("AIMessage")) | JSON, "kwargs": JSON | st.fixed_dictionaries({"content": TEXT})}
)


def read(raw: bytes, *, named: bool) -> WidgetRequest | None:
    """Read a body; what is told of a refused one can be sent."""
    try:
        found = parse_document(raw, SETTINGS, named=named)
    except Refusal as refusal:
        assert refusal.kind.code in {"invalid_json", "invalid_request"}  # noqa: PT017 - a refusal is one of two good ends
        msgspec.json.encode(problem(refusal, "id"))
        return None
    msgspec.json.encode(found)
    return found


@given(st.binary(), st.booleans())
def test_any_bytes(raw: bytes, named: bool) -> None:
    read(raw, named=named)


@given(st.fixed_dictionaries({}, optional=LIKELY) | JSON, st.booleans(), st.booleans())
def test_any_json(value: Any, ascii_only: bool, named: bool) -> None:
    found = read(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"), named=named)
    if found is not None and found.action == "sendMessage":
        assert found.text == value["chatInput"]
        assert 0 < len(found.text.strip()) <= len(found.text) <= 20
        assert found.session == value.get("sessionId")
        assert found.session is not None or not named
        assert found.metadata == value.get("metadata")


@given(FORM, st.booleans())
def test_any_form(texts: dict[str, str], named: bool) -> None:
    try:
        found = parse_form(texts, SETTINGS, named=named)
    except Refusal as refusal:
        assert refusal.kind.code == "invalid_request"  # noqa: PT017 - as above
        msgspec.json.encode(problem(refusal, "id"))
    else:
        msgspec.json.encode(found)


@given(st.binary() | st.lists(SAID | JSON).map(lambda data: json.dumps({"data": data}).encode()))
def test_any_answer_of_n8n_about_earlier_messages(body: bytes) -> None:
    found = read_previous(body)
    if found is not None:
        assert len(json.loads(encode_previous(found))["data"]) <= 100
