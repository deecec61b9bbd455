"""Bad bodies at `/chat` against the running main: clear words in the widget's shapes, nothing sent, nothing kept."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.n8n import ScriptedN8n
from tests.support.n8n_widget import NOTHING, Bubbles
from tests.support.rawhttp import Answer, RawClient, request
from tests.support.refused import AGENT, JSON, ask, left_as_it_was
from tests.support.server import ChatServer

LINES = "Accept: text/plain"


@pytest.fixture(scope="module")
def n8n() -> Iterator[ScriptedN8n]:
    """Give one scripted n8n for all tests here."""
    with ScriptedN8n() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def server(n8n: ScriptedN8n) -> Iterator[ChatServer]:
    """Give one server for all tests here, and see at their end that they left nothing behind."""
    with ChatServer({"N8N_WEBHOOK_URL": n8n.url}) as started, left_as_it_was(started):
        yield started


def message(**members: Any) -> bytes:
    """Give a body that would be good without `members`."""
    return json.dumps({"action": "sendMessage", "sessionId": "a", "chatInput": "Hi", **members}).encode()


def refused(answer: Answer, status: int) -> str:
    """Check a refusal's document, and give its sentence."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    document = json.loads(answer.body)
    assert set(document) == {"message"}
    assert len(answer.body) < 2000, "an error does not repeat what was sent"
    return str(document["message"])


def refused_in_lines(answer: Answer) -> str:
    """Check a refusal's line, and give its sentence."""
    assert answer.status == 200, "the widget hides what comes with another status"
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    bubbles = Bubbles()
    for line in answer.body.splitlines():
        bubbles.take(line)
    (shown,) = bubbles.close()
    assert shown != NOTHING
    return shown.removeprefix("Error: ")


BAD = [
    pytest.param(b"", "not valid JSON", id="empty"),
    pytest.param(b"   ", "not valid JSON", id="only white space"),
    pytest.param(b"hello", "not valid JSON", id="no JSON"),
    pytest.param(b"action=sendMessage&chatInput=Hi", "not valid JSON", id="a form that says it is JSON"),
    pytest.param(message()[:-1], "not valid JSON", id="cut"),
    pytest.param(message() + b"x", "not valid JSON", id="something behind"),
    pytest.param(message().replace(b'"Hi"', b"NaN"), "not valid JSON", id="NaN"),
    pytest.param(b"\xef\xbb\xbf" + message(), "not valid JSON", id="byte order mark"),
    pytest.param(message().decode().encode("utf-16"), "not valid JSON", id="UTF-16"),
    pytest.param(message().replace(b"Hi", b"\xff"), "not valid JSON", id="broken UTF-8"),
    pytest.param(message().replace(b"Hi", b"a\x00"), "not valid JSON", id="raw NUL"),
    pytest.param(gzip.compress(message()), "not valid JSON", id="compressed and not saying so"),
    pytest.param(b"[]", "must be a JSON object", id="array"),
    pytest.param(b"null", "must be a JSON object", id="null"),
    pytest.param(b"5", "must be a JSON object", id="number"),
    pytest.param(b"[" * 100_000, "nested too deeply", id="deep array"),
    pytest.param(b'{"action":"sendMessage","x":' + b'{"a":' * 30_000, "nested too deeply", id="deep unknown member"),
    pytest.param(b"{}", "action must be", id="nothing"),
    pytest.param(message(action="<script>"), "action must be", id="unknown action"),
    pytest.param(message(action={"a": 1}), "action must be", id="action an object"),
    pytest.param(message(chatInput=5), "chatInput must be a string", id="number"),
    pytest.param(message(chatInput=["a"]), "chatInput must be a string", id="text in an array"),
    pytest.param(message(chatInput=""), "chatInput must not be empty", id="empty text"),
    pytest.param(message(chatInput="\u3000\u2028"), "chatInput must not be empty", id="Unicode white space"),
    pytest.param(message(chatInput="a" * 10_001), "at most 10000 characters", id="10,001 characters"),
    pytest.param(message(chatInput="\ud800"), "lone surrogates", id="lone surrogate"),
    pytest.param(message(chatInput="a\0"), "NUL", id="NUL"),
    pytest.param(message()[:-1] + b',"chatInput":"b"}', "chatInput is given twice", id="member twice"),
    pytest.param(message()[:-1] + b',"\\u0061ction":"b"}', "action is given twice", id="member twice, escaped once"),
    pytest.param(message()[:-1] + b',"x":1,"x":2}', "x is given twice", id="unknown member twice"),
    pytest.param(message(sessionId="a\r\nX: y"), "sessionId must be", id="CR LF in the session"),
    pytest.param(message(sessionId=["a"]), "sessionId must be", id="session an array"),
    pytest.param(message(sessionId="../x"), "sessionId must be", id="session a path"),
    pytest.param(message(sessionId="x" * 200_000), "sessionId must be", id="endless session"),
    pytest.param(message(metadata="{}"), "metadata must be an object", id="metadata a string"),
    pytest.param(message(metadata={"a": "b" * 4090}), "at most 4096 bytes", id="metadata of more than 4 KiB"),
    pytest.param(message(metadata={"a": {"b": {"c": {}}}}), "metadata.a.b.c is nested", id="metadata of depth 4"),
    pytest.param(message(metadata={"a": "\0"}), "metadata.a must not contain NUL", id="NUL in metadata"),
    pytest.param(message()[:-1] + b',"metadata":{"n":1e999}}', "metadata.n is a number out of range", id="1e999"),
]


@pytest.mark.parametrize(("body", "words"), BAD)
def test_a_bad_body_is_refused_in_clear_words_in_both_shapes(
    server: ChatServer, n8n: ScriptedN8n, body: bytes, words: str
) -> None:
    before = len(n8n.requests)
    document = ask(server, request("POST", "/chat", AGENT, JSON, body=body))
    lines = ask(server, request("POST", "/chat", AGENT, JSON, LINES, body=body))
    said = refused(document, 400)
    assert words in said
    assert refused_in_lines(lines) == said
    assert len(n8n.requests) == before


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"\0": "\ud800"}, id="characters that are none"),
        pytest.param({"n": 10**300}, id="a large number"),
        pytest.param({"deep": [[[[[[[[[[1]]]]]]]]]]}, id="depth"),
        pytest.param({f"x{number}": "y" for number in range(1000)}, id="many"),
        pytest.param({"large": "x" * 200_000}, id="large"),
        pytest.param({"context": {"user": {"sub": "root"}}, "history": "x", "__proto__": {}}, id="names of ours"),
    ],
)
def test_what_a_page_adds_is_no_fault_and_goes_nowhere(
    server: ChatServer, n8n: ScriptedN8n, more: dict[str, Any]
) -> None:
    answer = ask(server, request("POST", "/chat", AGENT, JSON, body=message(**more)))
    assert (answer.status, json.loads(answer.body)) == (200, {"output": "Echo: Hi"})
    assert set(n8n.requests[-1].json) == {"action", "sessionId", "chatInput", "context"}
    assert "user" not in n8n.requests[-1].json["context"]


@pytest.mark.parametrize("framing", ["Content-Length: 300000", "Content-Length: 999999999999999", "chunked"])
def test_300_kb_are_refused_before_the_body_is_read(server: ChatServer, framing: str) -> None:
    if framing == "chunked":
        sent = request("POST", "/chat", AGENT, JSON, "Transfer-Encoding: chunked")
        sent += (b"8000\r\n" + b"a" * 32768 + b"\r\n") * 9  # and no end
    else:
        sent = request("POST", "/chat", AGENT, JSON, framing)  # and no body
    with RawClient(server.url) as client:
        client.send(sent)
        assert "262144" in refused(client.answer(), 413)
        assert client.ended()


def test_a_body_may_not_be_compressed(server: ChatServer) -> None:
    answer = ask(server, request("POST", "/chat", AGENT, JSON, "Content-Encoding: gzip", body=gzip.compress(message())))
    assert "Content-Encoding" in refused(answer, 415)


@pytest.mark.parametrize("name", ["Origin: http://a.test", "Authorization: Basic YQ==", JSON])
def test_a_header_that_decides_may_not_come_twice(server: ChatServer, name: str) -> None:
    answer = ask(
        server, request("POST", "/chat", AGENT, name, name, *(() if name == JSON else (JSON,)), body=message())
    )
    assert answer.status in {400, 403}
    assert set(json.loads(answer.body)) == {"message"}


@pytest.mark.parametrize("accept", ["text/plain, */*", "TEXT/PLAIN", "text/plain;q=0.1"])
def test_lines_are_asked_for_by_text_plain_in_any_writing(server: ChatServer, accept: str) -> None:
    answer = ask(server, request("POST", "/chat", AGENT, JSON, f"Accept: {accept}", body=message()))
    assert answer.body.startswith(b'{"type":"begin"')


def test_sessions_without_end_leave_nothing(server: ChatServer) -> None:
    before = server.rss_bytes()
    with RawClient(server.url) as client:
        for number in range(500):
            body = json.dumps({"action": "loadPreviousSession", "sessionId": f"{number}" + "x" * 200_000}).encode()
            client.send(request("POST", "/chat", AGENT, JSON, body=body))
            assert json.loads(client.answer().body) == {"data": []}
    assert server.rss_bytes() < before + 12_000_000
