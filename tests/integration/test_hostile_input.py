"""Bad bodies of every kind against the running main: the exact error, nothing sent to n8n, a server that stays flat."""

import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.n8n import LINGER_RESET, ScriptedN8n
from tests.support.rawhttp import Answer, RawClient, request
from tests.support.refused import AGENT, JSON, SOME_ID, ask, left_as_it_was, new_bearer, problem
from tests.support.server import ChatServer


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


@pytest.fixture(scope="module")
def bearer(server: ChatServer) -> str:
    """Give the header line of a session's token."""
    return new_bearer(server)


def message(text: str = "a", **members: Any) -> bytes:
    return json.dumps({"message": text, **members}).encode()


INVALID_JSON = [
    pytest.param(b"", id="empty"),
    pytest.param(b"   ", id="only white space"),
    pytest.param(b"hello", id="no JSON"),
    pytest.param(b"{", id="cut"),
    pytest.param(b'{"message": "a"} x', id="something behind"),
    pytest.param(b'{"message": "a",}', id="a comma too much"),
    pytest.param(b"{'message': 'a'}", id="single quotes"),
    pytest.param(b'{"message": NaN}', id="NaN"),
    pytest.param(b'{"message": -Infinity}', id="infinity"),
    pytest.param(b'\xef\xbb\xbf{"message": "a"}', id="byte order mark"),
    pytest.param('{"message": "a"}'.encode("utf-16"), id="UTF-16"),
    pytest.param(b'{"message": "\xff"}', id="broken UTF-8"),
    pytest.param(b'{"message": "\xed\xa0\x80"}', id="surrogate in UTF-8"),
    pytest.param(b'{"message": "\xc0\xaf"}', id="overlong UTF-8"),
    pytest.param(b'{"message": "a\x00"}', id="raw NUL"),
    pytest.param(b'{"message": "a\nb"}', id="raw line feed"),
    pytest.param(b'{"message": "\\x41"}', id="unknown escape"),
    pytest.param(gzip.compress(b'{"message": "a"}'), id="compressed and not saying so"),
]


@pytest.mark.parametrize("body", INVALID_JSON)
def test_what_is_no_json(server: ChatServer, n8n: ScriptedN8n, bearer: str, body: bytes) -> None:
    before = len(n8n.requests)
    answer = ask(server, request("POST", "/api/v1/chat", AGENT, bearer, JSON, body=body))
    problem(answer, 400, "invalid_json")
    assert len(n8n.requests) == before


INVALID_REQUEST = [
    pytest.param(b"[]", "body", id="array"),
    pytest.param(b'"a"', "body", id="string"),
    pytest.param(b"5", "body", id="number"),
    pytest.param(b"null", "body", id="null"),
    pytest.param(b"[" * 100_000, "body", id="deep array"),
    pytest.param(b'{"message":"a","metadata":' + b'{"a":' * 30_000, "body", id="deep object"),
    pytest.param(b"{}", "message", id="no message"),
    pytest.param(b'{"message": null}', "message", id="null message"),
    pytest.param(b'{"message": 5}', "message", id="message a number"),
    pytest.param(b'{"message": true}', "message", id="message true"),
    pytest.param(b'{"message": ["a"]}', "message", id="message an array"),
    pytest.param(b'{"message": {"a": "b"}}', "message", id="message an object"),
    pytest.param(message(""), "message", id="empty message"),
    pytest.param(message(" \t\r\n"), "message", id="white space"),
    pytest.param(message("\u00a0\u2003\u3000\u2028\u2029\u0085\u202f"), "message", id="Unicode white space"),
    pytest.param('{"message":"\u3000"}'.encode(), "message", id="Unicode white space, not escaped"),
    pytest.param(message("a" * 10_001), "message", id="10,001 characters"),
    pytest.param(('{"message":"' + "🙂" * 10_001 + '"}').encode(), "message", id="10,001 of four bytes"),
    pytest.param(b'{"message": "\\ud800"}', "message", id="lone high surrogate"),
    pytest.param(b'{"message": "\\udc00\\ud800"}', "message", id="surrogates the wrong way round"),
    pytest.param(b'{"message": "a\\u0000"}', "message", id="NUL"),
    pytest.param(b'{"message": "a", "message": "b"}', "message", id="member twice"),
    pytest.param(b'{"message": "a", "\\u006dessage": "b"}', "message", id="member twice, escaped once"),
    pytest.param(message(sessionId="x"), "sessionId", id="unknown member"),
    pytest.param(message(context={}), "context", id="what the server alone says"),
    pytest.param(b'{"message": "a", "x\\r\\nSet-Cookie: a=b": 1}', "x\\r\\nSet-Cookie: a=b", id="CR LF in a name"),
    pytest.param(b'{"message": "a", "\\ud800": 1}', "\\ud800", id="lone surrogate in a name"),
    pytest.param(b'{"message":"a","' + b"x" * 9000 + b'":1}', "x" * 64, id="long unknown name"),
    pytest.param(message(message_id="1"), "message_id", id="message_id no UUID"),
    pytest.param(message(message_id=None), "message_id", id="message_id null"),
    pytest.param(message(message_id=f"{SOME_ID}\r\nX: y"), "message_id", id="message_id with CR LF"),
    pytest.param(message(message_id=SOME_ID.replace("0", "\u0660")), "message_id", id="message_id in other digits"),
    pytest.param(message(page_url="javascript:alert(1)"), "page_url", id="page_url a script"),
    pytest.param(message(page_url="https://"), "page_url", id="page_url without host"),
    pytest.param(message(page_url="https://a.test/\r\nX: y"), "page_url", id="page_url with CR LF"),
    pytest.param(message(page_url="https://a.test/" + "a" * 2048), "page_url", id="page_url too long"),
    pytest.param(message(page_url=7), "page_url", id="page_url a number"),
    pytest.param(message(metadata=[]), "metadata", id="metadata an array"),
    pytest.param(message(metadata=None), "metadata", id="metadata null"),
    pytest.param(message(metadata={str(n): n for n in range(21)}), "metadata", id="21 members"),
    pytest.param(message(metadata={"a": "b" * 4090}), "metadata", id="more than 4 KiB"),
    pytest.param(message(metadata={"a": {"b": {"c": {}}}}), "metadata.a.b.c", id="depth 4"),
    pytest.param(message(metadata={"a": [[[1]]]}), "metadata.a[0][0]", id="depth 4 in arrays"),
    pytest.param(b'{"message": "a", "metadata": {"n": 1e999}}', "metadata.n", id="1e999"),
    pytest.param(b'{"message": "a", "metadata": {"n": -1e999}}', "metadata.n", id="-1e999"),
    pytest.param(b'{"message": "a", "metadata": {"n": ' + b"9" * 5000 + b"}}", "metadata.n", id="5,000 digits"),
    pytest.param(b'{"message": "a", "metadata": {"n": "\\u0000"}}', "metadata.n", id="NUL in metadata"),
    pytest.param(b'{"message": "a", "metadata": {"a": 1, "a": 2}}', "a", id="member of metadata twice"),
    pytest.param(message(history=[]), "history", id="history, which is off"),
]


@pytest.mark.parametrize(("body", "field"), INVALID_REQUEST)
def test_what_does_not_validate_names_its_field(
    server: ChatServer, n8n: ScriptedN8n, bearer: str, body: bytes, field: str
) -> None:
    before = len(n8n.requests)
    answer = ask(server, request("POST", "/api/v1/chat", AGENT, bearer, JSON, body=body))
    document = problem(answer, 400, "invalid_request", "errors")
    assert [fault["field"] for fault in document["errors"]] == [field]
    assert all(set(fault) == {"field", "message"} and fault["message"] for fault in document["errors"])
    assert len(answer.body) < 2000, "an error does not repeat what was sent"
    assert len(n8n.requests) == before


def test_faults_are_told_together_and_not_without_end(server: ChatServer, bearer: str) -> None:
    body = message("", page_url=1, metadata=2, message_id=3, **{f"x{number}": 1 for number in range(100)})
    answer = ask(server, request("POST", "/api/v1/chat", AGENT, bearer, JSON, body=body))
    fields = [fault["field"] for fault in problem(answer, 400, "invalid_request", "errors")["errors"]]
    assert {"message", "page_url", "metadata", "message_id"} <= set(fields)
    assert len(fields) == 10


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(('{"message":"' + "🙂" * 10_000 + '"}').encode(), "🙂" * 10_000, id="10,000 of four bytes"),
        pytest.param(b'{"message":"' + b"\\ud83d\\ude00" * 10_000 + b'"}', "😀" * 10_000, id="10,000 escaped pairs"),
        pytest.param(b' {"message" :\t"a"}\r\n ', "a", id="white space around"),
        pytest.param(message("\u200b"), "\u200b", id="zero width is no white space"),
        pytest.param(message("\ufeff\u202e\x1b[31m\x7f"), "\ufeff\u202e\x1b[31m\x7f", id="odd but text"),
        pytest.param(b'{"message":"a", "metadata":{"n":' + b"9" * 300 + b"}}", "a", id="a number of 300 digits"),
        pytest.param(message(metadata={str(n): n for n in range(20)}), "a", id="20 members"),
        pytest.param(message(metadata={"a": {"b": {"c": 1}}}), "a", id="depth 3"),
        pytest.param(message(metadata={"a": "b" * (4096 - len('{"a": ""}'))}), "a", id="4 KiB of metadata"),
    ],
)
def test_what_is_odd_but_allowed_reaches_n8n_whole(
    server: ChatServer, n8n: ScriptedN8n, bearer: str, body: bytes, text: str
) -> None:
    answer = ask(server, request("POST", "/api/v1/chat", AGENT, bearer, JSON, body=body))
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["content"] == f"Echo: {text}"
    assert n8n.requests[-1].text == text
    assert n8n.requests[-1].json.get("metadata") == json.loads(body).get("metadata")


def test_page_url_is_forwarded_as_origin_and_path(server: ChatServer, n8n: ScriptedN8n, bearer: str) -> None:
    body = message(page_url="HTTPS://u:p@Shop.Test:443/a/b?token=x#y")
    assert ask(server, request("POST", "/api/v1/chat", AGENT, bearer, JSON, body=body)).status == 200
    assert n8n.requests[-1].json["context"]["page_url"] == "https://shop.test/a/b"


def test_history_has_its_limits_where_it_is_on(n8n: ScriptedN8n, start_server: StartServer, bearer: str) -> None:
    server = start_server(n8n, {"ACCEPT_HISTORY": "true"})

    def send(history: object) -> Answer:
        body = message(history=history)
        return ask(server, request("POST", "/api/v1/chat", AGENT, bearer, JSON, body=body))

    entry = {"role": "user", "content": "b"}
    assert send([entry] * 50).status == 200
    assert n8n.requests[-1].json["history"] == [entry] * 50
    refused: list[tuple[object, str]] = [
        ([entry] * 51, "history"),
        ([{"role": "user", "content": "b" * 40_000}] * 2, "history"),
        ([entry, {"role": "system", "content": "b"}], "history[1].role"),
        ([{"role": "user"}], "history[0]"),
        ([{**entry, "name": "x"}], "history[0]"),
        ([{"role": "user", "content": 5}], "history[0].content"),
        ([{"role": "user", "content": "\x00"}], "history[0].content"),
        (["x"], "history[0]"),
        ({}, "history"),
        (None, "history"),
    ]
    for history, field in refused:
        document = problem(send(history), 400, "invalid_request", "errors")
        assert [fault["field"] for fault in document["errors"]] == [field]


@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/v1/session", f"/api/v1/chat/{SOME_ID}/feedback"])
@pytest.mark.parametrize("framing", ["Content-Length: 300000", "Content-Length: 999999999999999", "chunked"])
def test_300_kb_are_refused_before_the_body_is_read(server: ChatServer, bearer: str, path: str, framing: str) -> None:
    if framing == "chunked":
        sent = request("POST", path, AGENT, bearer, JSON, "Transfer-Encoding: chunked")
        sent += (b"8000\r\n" + b"a" * 32768 + b"\r\n") * 9  # and no end
    else:
        sent = request("POST", path, AGENT, bearer, JSON, framing)  # and no body
    with RawClient(server.url) as client:
        client.send(sent)
        answer = client.answer()
        assert answer.status == 413
        assert json.loads(answer.body)["code"] == "body_too_large"
        assert "262144" in json.loads(answer.body)["detail"]
        assert answer.headers["connection"] == "close"
        assert client.ended()


def test_a_body_that_is_too_large_is_not_asked_for(server: ChatServer, bearer: str) -> None:
    line = ("Content-Length: 300000", "Expect: 100-continue")
    answer = ask(server, request("POST", "/api/v1/chat", AGENT, bearer, JSON, *line))
    problem(answer, 413, "body_too_large")


def test_refused_values_are_not_kept(server: ChatServer, bearer: str) -> None:
    """However long and however many: no cache may have them for keys."""
    lines = ("POST", "/api/v1/chat", AGENT, bearer, JSON)
    before = server.rss_bytes()
    with RawClient(server.url) as client:
        for number in range(250):
            unique = f"{number}" + "a" * 200_000
            for members in ({"page_url": f"https://a.test/{unique}"}, {"message_id": unique}, {unique: 1}):
                client.send(request(*lines, body=json.dumps({"message": "a", **members}).encode()))
                assert client.answer().status == 400
    assert server.rss_bytes() < before + 12_000_000


def test_bodies_that_end_half_way_leave_nothing(server: ChatServer, n8n: ScriptedN8n, bearer: str) -> None:
    before, descriptors = len(n8n.requests), server.descriptors()
    half = request("POST", "/api/v1/chat", AGENT, bearer, JSON, body=message())[:-3]
    clients = [RawClient(server.url) for _ in range(100)]
    for number, client in enumerate(clients):
        client.send(half)
        if number % 2:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    for client in clients:
        client.close()
    assert ask(server, request("GET", "/health")).status == 200
    assert server.descriptors() <= descriptors + 4
    assert len(n8n.requests) == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "rating"),
        (b'{"rating": "sideways"}', "rating"),
        (b'{"rating": ["up"]}', "rating"),
        (b'{"rating": {}}', "rating"),
        (b'{"rating": "up", "comment": "' + b"a" * 2001 + b'"}', "comment"),
        (b'{"rating": "up", "comment": "\\u0000"}', "comment"),
        (b'{"rating": "up", "stars": 5}', "stars"),
    ],
)
def test_feedback_that_does_not_validate(server: ChatServer, bearer: str, body: bytes, field: str) -> None:
    answer = ask(server, request("POST", f"/api/v1/chat/{SOME_ID}/feedback", AGENT, bearer, JSON, body=body))
    assert problem(answer, 400, "invalid_request", "errors")["errors"][0]["field"] == field


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"bot": "\\ud800"}', b"[" * 100_000, b'{"challenge_token": "\\n"}'])
def test_session_bodies_that_do_not_validate(server: ChatServer, body: bytes) -> None:
    answer = ask(server, request("POST", "/api/v1/session", AGENT, JSON, body=body))
    assert answer.status == 400
    assert json.loads(answer.body)["code"] in {"invalid_json", "invalid_request"}
