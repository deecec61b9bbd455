"""The body of a chat completion: what is read, what is ignored, and what each fault is called."""

import json
from typing import Any

import pytest

from chatcore.errors import Refusal
from chatcore.model import HistoryEntry
from chatcore.openai_request import CompletionRequest, estimate_tokens, parse_completion


def read(*messages: Any, **members: Any) -> CompletionRequest:
    body = {"model": "default", "messages": list(messages), **members}
    return parse_completion(json.dumps(body).encode(), 50)


def refused(body: bytes) -> tuple[str, str, str]:
    """Give code, field and sentence of a refusal."""
    with pytest.raises(Refusal) as refusal:
        parse_completion(body, 50)
    told = refusal.value
    assert told.kind.status == 400
    return told.kind.code, told.errors[0].field if told.errors else "", told.detail


HI = {"role": "user", "content": "Hi"}


def test_the_least_that_can_be_asked() -> None:
    assert read(HI) == CompletionRequest("default", "Hi", None, False, False, (), None, 1)  # noqa: FBT003 - all fields in a row


def test_null_is_as_good_as_nothing() -> None:
    asked = read(HI, stream=None, stream_options=None, stop=None, n=None, user=None)
    assert asked == read(HI)


def test_what_a_workflow_cannot_use_is_ignored() -> None:
    assert read(HI, temperature="hot", tools=[{}], max_tokens=-1, made_up={"a": [1]}, functions=None) == read(HI)
    assert read({**HI, "name": 5, "weight": 1}) == read(HI)


def test_what_can_be_asked_of_the_answer() -> None:
    asked = read(HI, stream=True, stream_options={"include_usage": True}, stop=["a", "b"], user="anna", n=1)
    assert (asked.stream, asked.include_usage, asked.stop, asked.user) == (True, True, ("a", "b"), "anna")
    assert read(HI, stop="x").stop == ("x",)
    assert read(HI, stop=[]).stop == ()


def test_the_last_message_of_a_user_is_what_is_asked() -> None:
    first, answer, system = (
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "system", "content": "late rule"},
    )
    asked = read(first, answer, HI, {"role": "assistant", "content": "begun"}, system)
    assert asked.message == "Hi"
    assert asked.history == [
        HistoryEntry("user", "first"),
        HistoryEntry("assistant", "answer"),
        HistoryEntry("system", "late rule"),
    ]


def test_empty_messages_and_those_of_tools_are_left_out() -> None:
    asked = read(
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "tool", "content": [{"type": "image_url"}], "tool_call_id": "c"},
        {"role": "function", "content": "2"},
        HI,
    )
    assert asked.history is None


def test_of_a_long_conversation_the_rules_and_the_latest_messages_are_kept() -> None:
    rule = {"role": "system", "content": "rule"}
    turns = [{"role": "user", "content": str(number)} for number in range(80)]
    history = read(rule, *turns, HI).history
    assert history is not None
    assert [entry.content for entry in history] == ["rule", *(str(number) for number in range(31, 80))]
    turns = [{"role": "user", "content": f"{number:02}" + "ü" * 9999} for number in range(5)]
    history = read(rule, *turns, HI).history
    assert history is not None
    assert [entry.content[:2] for entry in history] == ["ru", "02", "03", "04"]
    hidden = {"role": "user", "content": "x" * 70000}
    history = read({"role": "user", "content": "before"}, hidden, {"role": "user", "content": "behind"}, HI).history
    assert history == [HistoryEntry("user", "behind")], "no hole in the middle"


@pytest.mark.parametrize(
    ("members", "field", "said"),
    [
        ({"model": None}, "model", "must be a string"),
        ({"model": ""}, "model", "must not be empty"),
        ({"model": "m" * 513}, "model", "at most 512"),
        ({"messages": None}, "messages", "must be an array"),
        ({"messages": []}, "messages", "role user"),
        ({"messages": [HI] * 10_001}, "messages", "at most 10000"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "role user"),
        ({"messages": ["Hi"]}, "messages[0]", "must be an object, not a string"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role", "is required"),
        ({"messages": [{"role": "pirate", "content": "Hi"}]}, "messages[0].role", "must be one of system"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "must not be empty"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages[0].content", "must not be empty"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "messages[0].content", "must be a string or an array"),
        ({"messages": [{"role": "user", "content": "x" * 51}]}, "messages[0].content", "at most 50 characters"),
        ({"messages": [{"role": "user", "content": "a\0"}]}, "messages[0].content", "must not contain NUL"),
        ({"messages": [{"role": "user", "content": "a\0"}, HI]}, "messages[0].content", "must not contain NUL"),
        ({"messages": [{"role": "system", "content": "x" * 65537}, HI]}, "messages[0].content", "at most 65536"),
        ({"messages": [{"role": "system", "content": "ü" * 32769}, HI]}, "messages", "of the role system"),
        ({"messages": [{"role": "system", "content": "x"}] * 51 + [HI]}, "messages", "of the role system"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "is required"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type", "is required"),
        ({"stream": "yes"}, "stream", "must be true or false"),
        ({"stream_options": []}, "stream_options", "must be an object"),
        ({"n": 2}, "n", "must be 1"),
        ({"n": 0}, "n", "must be 1"),
        ({"n": 1.5}, "n", "not a fraction"),
        ({"user": 7}, "user", "must be a string"),
        ({"user": "u" * 513}, "user", "at most 512"),
        ({"user": "\0"}, "user", "must not contain NUL"),
        ({"stop": ["a"] * 5}, "stop", "at most 4"),
        ({"stop": ""}, "stop", "must not be empty"),
        ({"stop": ["a", ""]}, "stop", "must not be empty"),
        ({"stop": "s" * 257}, "stop", "at most 256"),
        ({"stop": [1]}, "stop[0]", "must be a string"),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_a_fault_has_its_field_and_its_reason(members: dict[str, Any], field: str, said: str) -> None:
    code, named, detail = refused(json.dumps({"model": "default", "messages": [HI], **members}).encode())
    assert (code, named) == ("invalid_request", field)
    assert said in detail


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "made_up"])
def test_files_are_not_accepted_here(kind: str) -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": kind, kind: {"url": "data:secret"}}]
    _, named, detail = refused(json.dumps({"model": "m", "messages": [{"role": "user", "content": parts}]}).encode())
    assert named == "messages[0].content[1]"
    assert "files, images and audio are not accepted here" in detail
    assert "secret" not in detail


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"nope", "invalid_json"),
        (b'{"model":"a"', "invalid_json"),
        (b'{"model":"a\xff"}', "invalid_json"),
        (b'{"model":NaN}', "invalid_json"),
        (b'{"model":"\\ud83d"}', "invalid_json"),
        (b"[]", "invalid_request"),
        (b"{}", "invalid_request"),
        (b'"model"', "invalid_request"),
        (b'{"x":' + b"[" * 100_000, "invalid_request"),
        (b'{"n":' + b"9" * 400 + b',"model":"a","messages":[]}', "invalid_request"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_body_at_all(body: bytes, code: str) -> None:
    assert refused(body)[0] == code


def test_half_a_character_is_named() -> None:
    assert "lone surrogate" in refused(b'{"model":"\\ud83d"}')[2]
    assert read({"role": "user", "content": "😀"}).message == "😀"


def test_tokens_are_estimated_from_bytes() -> None:
    assert [estimate_tokens(texts) for texts in ([], [""], ["a"], ["abcd"], ["ab", "cd", "e"], ["üüü"])] == [
        *(0, 0, 1, 1, 2, 2)
    ]
    assert read({"role": "system", "content": "abcd"}, HI).prompt_tokens == 2
