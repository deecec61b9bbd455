"""The description is valid OpenAPI 3.1, knows every code, and means by its schemas what the server means."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types
from openapi_spec_validator import OpenAPIV31SpecValidator

from chatcore import __version__, openapi
from chatcore.errors import KINDS, Refusal
from chatcore.intake import parse_chat, parse_feedback, parse_session
from chatcore.model import Delta, Outcome
from chatcore.openai_request import parse_completion
from chatcore.settings import BotSettings, Settings
from chatcore.wire.encode_openai import Chunks, Completion, encode_completion
from tests.support.settings import settings_with

BOTS = {name: BotSettings(name=name, url="http://n8n.test/webhook/secret") for name in ("default", "shop")}


def settings(
    *, history: bool = True, metrics_token: str | None = None, demo_page: bool = True, public_url: str | None = None
) -> Settings:
    return settings_with(
        upstream={"bots": BOTS},
        cors={"public_url": public_url},
        intake={"max_message_chars": 50, "accept_history": history},
        operations={"metrics_token": metrics_token, "demo_page": demo_page, "openai_api_keys": {"program": "o" * 32}},
    )


def described(**changes: Any) -> Any:
    """Give the description as clients read it."""
    return json.loads(msgspec.json.encode(openapi.document(settings(**changes))))


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Give path, method and description of every operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def validator(document: Any, name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


@pytest.mark.parametrize("changes", [{}, {"history": False}, {"metrics_token": "m" * 32}, {"demo_page": False}])
def test_it_is_valid(changes: dict[str, Any]) -> None:
    assert not list(OpenAPIV31SpecValidator(described(**changes)).iter_errors())


def test_it_says_which_server_it_describes() -> None:
    assert described()["info"]["version"] == __version__
    assert described()["servers"] == [{"url": "/"}]
    assert described(public_url="https://chat.example.com")["servers"] == [{"url": "https://chat.example.com"}]
    assert "/" in described()["paths"]
    assert "/" not in described(demo_page=False)["paths"]
    assert "/admin" not in described()["paths"]
    with_figures = settings_with(mode="sqlite", operations={"admin_tokens": {"anna": "a" * 32}})
    assert "/admin" in openapi.document(with_figures)["paths"]
    assert "security" not in described()["paths"]["/metrics"]["get"]
    assert described(metrics_token="m" * 32)["paths"]["/metrics"]["get"]["security"] == [{"metrics": []}]


def test_it_tells_no_secret_and_nothing_of_n8n() -> None:
    text = json.dumps(described(metrics_token="m" * 32))
    assert not re.search(r"m{32}|j{32}|s{32}|o{32}|n8n\.test|webhook/", text)


def test_every_error_code_is_described_and_no_other() -> None:
    document = described()
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == list(KINDS)
    used: dict[str, int] = {}
    for _, _, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) < 400 or "Health" in json.dumps(answer) or "Readiness" in json.dumps(answer):
                continue
            for code in re.findall(r"(?m)^- `([a-z_]+)`: ", answer["description"]):
                used[code] = int(status)
    # 405 is for methods that no operation has: only the introduction can name it.
    assert set(KINDS) - set(used) == {"method_not_allowed"}
    assert "`method_not_allowed`" in document["info"]["description"]
    assert used == {code: kind.status for code, kind in KINDS.items() if code in used}


def test_every_problem_is_described_as_it_is_rendered() -> None:
    document = described()
    for _, _, operation in operations(document):
        for status, answer in operation["responses"].items():
            media = answer.get("content", {}).get("application/problem+json")
            if media is None:
                continue
            check = Draft202012Validator({**media["schema"], "components": document["components"]})
            assert {example["value"]["code"] for example in media["examples"].values()} == set(media["examples"])
            for example in media["examples"].values():
                check.validate(example["value"])
                assert example["value"]["status"] == int(status)


def test_every_operation_has_a_name_a_sentence_and_a_group() -> None:
    document = described()
    groups = {tag["name"] for tag in document["tags"]}
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for _, _, operation in operations(document):
        assert operation["summary"]
        assert set(operation["tags"]) <= groups


def test_examples_are_what_their_schemas_say() -> None:
    document = described()
    checked = 0
    for _, _, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [answer.get("content", {}) for answer in operation["responses"].values()]
        for content in contents:
            for media in content.values():
                if "example" in media:
                    Draft202012Validator({**media["schema"], "components": document["components"]}).validate(
                        media["example"]
                    )
                    checked += 1
    assert checked >= 8


def test_the_example_of_a_stream_holds_the_events_of_its_schemas() -> None:
    document = described()
    media = document["paths"]["/api/v1/chat"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    events = re.findall(r"id: (\d+)\nevent: ([a-z]+)\ndata: (.+)\n\n", media["example"])
    assert [number for number, _, _ in events] == ["1", "2", "3"]
    for _, name, data in events:
        validator(document, media["x-events"][name]["$ref"].rpartition("/")[2]).validate(json.loads(data))


CHATS: list[Any] = [
    {"message": "Hello"},
    {"message": ""},
    {"message": " \t\n\u3000\x1c\x85"},
    {"message": " a\n"},
    {"message": "\ufeff"},
    {"message": "\u200b"},
    {"message": "a\0"},
    {"message": "a" * 50},
    {"message": "a" * 51},
    {"message": "😀" * 50},
    {"message": 1},
    {"message": None},
    {},
    [],
    "Hello",
    {"message": "a", "unknown": 1},
    {"message": "a", "message_id": "0b7f9c3e-9d2a-4c1e-8f0b-3a5d7e9c1b2f"},
    {"message": "a", "message_id": "0B7F9C3E9D2A4C1E8F0B3A5D7E9C1B2F"},
    {"message": "a", "message_id": "0b7f9c3e"},
    {"message": "a", "message_id": None},
    {"message": "a", "page_url": "https://www.example.com:8080/a/b?c=d#e"},
    {"message": "a", "page_url": "HTTP://example.com"},
    {"message": "a", "page_url": "ftp://example.com/"},
    {"message": "a", "page_url": "/relative"},
    {"message": "a", "page_url": ""},
    {"message": "a", "page_url": "https://e.com/" + "a" * 2048},
    {"message": "a", "metadata": {}},
    {"message": "a", "metadata": {"a": [1, 2.5, True, None, "x", {}]}},
    {"message": "a", "metadata": {"a": {"b": {"c": 1}}}},
    {"message": "a", "metadata": {"a": {"b": [{}]}}},
    {"message": "a", "metadata": {"a": {"b": {"c": []}}}},
    {"message": "a", "metadata": {"a\0": 1}},
    {"message": "a", "metadata": {"a": "\0"}},
    {"message": "a", "metadata": {str(n): n for n in range(20)}},
    {"message": "a", "metadata": {str(n): n for n in range(21)}},
    {"message": "a", "metadata": []},
    {"message": "a", "metadata": None},
    {"message": "a", "history": []},
    {"message": "a", "history": [{"role": "user", "content": ""}]},
    {"message": "a", "history": [{"role": "system", "content": "x"}]},
    {"message": "a", "history": [{"role": "user"}]},
    {"message": "a", "history": [{"role": "user", "content": "x", "more": 1}]},
    {"message": "a", "history": [{"role": "user", "content": "\0"}]},
    {"message": "a", "history": [{"role": "user", "content": "x"}] * 50},
    {"message": "a", "history": [{"role": "user", "content": "x"}] * 51},
]
SESSIONS: list[Any] = [
    {},
    [],
    {"bot": "shop"},
    {"page_url": "https://example.com/"},
    {"page_url": 1},
    {"identity_token": "a.b.c"},
    {"identity_token": ""},
    {"identity_token": "ä"},
    {"challenge_token": "x" * 8192},
    {"challenge_token": "x" * 8193},
    {"challenge_token": None},
    {"other": 1},
]
RATINGS: list[Any] = [
    {"rating": "up"},
    {"rating": "down", "comment": ""},
    {"rating": "sideways"},
    {"comment": "x"},
    {"rating": "up", "comment": "x" * 2000},
    {"rating": "up", "comment": "x" * 2001},
    {"rating": "up", "comment": "\0"},
    {"rating": "up", "comment": None},
    {"rating": "up", "more": 1},
]


def _read(schema: str, body: bytes, *, history: bool) -> None:
    match schema:
        case "ChatRequest":
            parse_chat(body, settings(history=history).intake)
        case "SessionRequest":
            parse_session(body)
        case _:
            parse_feedback(body)


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        *(("ChatRequest", body) for body in CHATS),
        *(("SessionRequest", body) for body in SESSIONS),
        *(("Feedback", body) for body in RATINGS),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
@pytest.mark.parametrize("history", [True, False])
def test_a_body_fits_its_schema_where_the_server_accepts_it(schema: str, body: Any, history: bool) -> None:
    fits = validator(described(history=history), schema).is_valid(body)
    said = None
    try:
        _read(schema, json.dumps(body).encode(), history=history)
    except Refusal as refusal:
        said = refusal.detail
    assert fits is (said is None), f"the server says: {said}"


COMPLETIONS: list[Any] = [
    {"model": "default", "messages": [{"role": "user", "content": "Hi"}]},
    {"model": "shop", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "stream": True},
    {"model": "nobody", "messages": [{"role": "user", "content": "Hi"}]},
    {"model": "default", "messages": []},
    {"model": "default", "messages": [{"role": "system", "content": "Hi"}]},
    {"model": "default", "messages": [{"role": "pirate", "content": "Hi"}]},
    {"model": "default", "messages": [{"role": "user", "content": " "}]},
    {"model": "default", "messages": [{"role": "user", "content": "x" * 51}]},
    {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "n": 2},
    {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "n": None, "user": None, "stop": None},
    {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "stop": ["a"] * 5},
    {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "stop": [""]},
    {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "user": 5},
    {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "temperature": 1, "tools": []},
    {"messages": [{"role": "user", "content": "Hi"}]},
    [],
]


@pytest.mark.parametrize("body", COMPLETIONS, ids=lambda value: json.dumps(value)[:60])
def test_a_completion_fits_its_schema_where_the_server_accepts_it(body: Any) -> None:
    fits = validator(described(), "CompletionRequest").is_valid(body)
    try:
        accepted = parse_completion(json.dumps(body).encode(), 50).model in BOTS
    except Refusal:
        accepted = False
    assert fits is accepted


def test_what_programs_get_fits_its_schema() -> None:
    about = Completion("chatcmpl-1", "default", 1, 2, include_usage=True)
    done = Outcome(finish_reason="complete", duration_ms=1)
    failed = Outcome(finish_reason="error", duration_ms=1, refusal=Refusal(KINDS["upstream_empty"]))
    for outcome in (done, failed):
        validator(described(), "Completion").validate(json.loads(encode_completion(about, "", outcome)))
    chunks = Chunks(about)
    stream = chunks.begin() + chunks.deltas(2, [Delta("Hi")]) + chunks.end(3, done)
    *data, last = [one.removeprefix("data: ") for one in stream.decode().split("\n\n") if one]
    assert last == "[DONE]"
    for one in data:
        validator(described(), "CompletionChunk").validate(json.loads(one))
    error, _ = Chunks(about).end(3, failed).decode().split("\n\n")[:2]
    validator(described(), "OpenAiError").validate(json.loads(error.removeprefix("data: ")))
