"""Hostile heads against the running main: injection, request ids, doubles, targets, methods, tokens that are none."""

import gzip
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.client import NO_TLS
from tests.support.n8n import ScriptedN8n
from tests.support.rawhttp import RawClient, request
from tests.support.refused import AGENT, JSON, SOME_ID, ask, left_as_it_was, new_bearer, problem
from tests.support.server import ChatServer

MESSAGE = b'{"message": "a"}'


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


@pytest.mark.parametrize(
    "lines",
    [
        "X-Request-ID: a\r\n b",
        "X-Request-ID: a\rSet-Cookie: x=y",
        "X-Request-ID: a\nSet-Cookie: x=y",
        "X-Request-ID: a\x00b",
        "Origin: http://test\rSet-Cookie: x=y",
        "Origin: http://test\n x",
        "Last-Event-ID: 1\r2",
        "Authorization: Bearer a\nb",
        "Authorization : Bearer a",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length: +2",
        "Content-Length: 2, 2",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: xchunked",
        "Host: other",
        ": x",
        "X\xe4: y",
    ],
)
def test_header_injection_and_smuggling_get_a_bare_400(server: ChatServer, n8n: ScriptedN8n, lines: str) -> None:
    before = len(n8n.requests)
    with RawClient(server.url) as client:
        head = f"POST /api/v1/session HTTP/1.1\r\nHost: test\r\n{lines}\r\n\r\n"
        client.send(head.encode("latin-1") + b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.body) == (400, b"")
        assert set(answer.headers) == {"content-length", "connection"}
        assert client.ended(), "nothing behind it is served"
    assert len(n8n.requests) == before


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-16",
        "application/json; charset=",
        "application/json, text/plain",
        "application/jsonp",
        "application/problem+json",
        "\xff",
        "",
        None,
    ],
)
def test_other_content_types_are_415(
    server: ChatServer, n8n: ScriptedN8n, bearer: str, content_type: str | None
) -> None:
    before = len(n8n.requests)
    lines = [] if content_type is None else [f"Content-Type: {content_type}"]
    answer = ask(server, request("POST", "/api/v1/chat", AGENT, bearer, *lines, body=MESSAGE))
    problem(answer, 415, "unsupported_media_type")
    feedback = request("POST", f"/api/v1/chat/{SOME_ID}/feedback", AGENT, bearer, *lines, body=b'{"rating": "up"}')
    problem(ask(server, feedback), 415, "unsupported_media_type")
    session = request("POST", "/api/v1/session", AGENT, *lines, body=b"{}")
    refused = ask(server, session)
    assert refused.status == 415
    assert len(n8n.requests) == before


@pytest.mark.parametrize("content_type", ["APPLICATION/JSON", 'application/json;charset="UTF-8"', "application/json ;"])
def test_other_spellings_of_the_content_type_are_served(server: ChatServer, bearer: str, content_type: str) -> None:
    line = f"Content-Type: {content_type}"
    assert ask(server, request("POST", "/api/v1/chat", AGENT, bearer, line, body=MESSAGE)).status == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, gzip", "x"])
def test_compressed_bodies_are_415(server: ChatServer, n8n: ScriptedN8n, bearer: str, coding: str) -> None:
    before = len(n8n.requests)
    for body in (gzip.compress(MESSAGE), MESSAGE, gzip.compress(b" " * 10_000_000)):
        line = f"Content-Encoding: {coding}"
        answer = ask(server, request("POST", "/api/v1/chat", AGENT, bearer, JSON, line, body=body))
        problem(answer, 415, "unsupported_media_type")
        assert answer.headers["accept-encoding"] == "identity"
    assert len(n8n.requests) == before


@pytest.mark.parametrize("request_id", ["a", "A-b_c.9", "a" * 64])
def test_a_request_id_of_the_caller_is_kept(server: ChatServer, request_id: str) -> None:
    for path in ("/health", "/api/v1/session", "/nothing", "/widget/demo.js", "/"):
        answer = ask(server, request("GET", path, f"X-Request-ID: {request_id}"))
        assert answer.headers["x-request-id"] == request_id


@pytest.mark.parametrize(
    "request_id",
    ["", "a" * 65, "a b", "a\tb", "ä", "a;b", "<script>", "%0d%0aSet-Cookie:x", "a/b", "${jndi:ldap://x}", "\xff"],
)
def test_any_other_request_id_is_replaced(server: ChatServer, request_id: str) -> None:
    with RawClient(server.url) as client:
        client.send(b"GET /api/v1/session HTTP/1.1\r\nHost: test\r\nX-Request-ID: " + request_id.encode() + b"\r\n\r\n")
        answer = client.answer()
    document = problem(answer, 401, "token_missing")
    assert document["request_id"] not in {request_id, ""}
    assert len(document["request_id"]) == 16
    assert document["request_id"].isalnum()


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Last-Event-ID"])
def test_headers_that_decide_come_once(server: ChatServer, n8n: ScriptedN8n, bearer: str, name: str) -> None:
    before = len(n8n.requests)
    given = {"Authorization": bearer, "Content-Type": JSON, "Last-Event-ID": "Last-Event-ID: 1"}
    lines = [*given.values(), given[name]]
    for method, path in (("POST", "/api/v1/chat"), ("GET", f"/api/v1/chat/{SOME_ID}")):
        answer = ask(server, request(method, path, AGENT, *lines, body=MESSAGE))
        document = problem(answer, 400, "invalid_request", "errors")
        assert document["errors"][0]["field"].lower() == name.lower()
    assert len(n8n.requests) == before


@pytest.mark.parametrize(
    "name",
    [
        "User-Agent",
        "Authorization",
        "Accept",
        "Accept-Encoding",
        "Last-Event-ID",
        "X-Chat-Session",
        "X-Forwarded-For",
        "X-Real-IP",
        "X-Forwarded-Proto",
        "If-None-Match",
        "Cookie",
        "Referer",
        "Host",
    ],
)
def test_bytes_beyond_ascii_in_any_header_do_no_harm(server: ChatServer, bearer: str, name: str) -> None:
    for value in (b"\xff\xfe", "ä🙂".encode(), b"\x80", b"a\xe4, b", b"Bearer \xff.\xff.\xff", b'"' * 3000):
        for path in ("/", "/health", "/api/v1/session", f"/api/v1/chat/{SOME_ID}", "/metrics", "/widget/demo.js"):
            head = f"GET {path} HTTP/1.1\r\n".encode()
            if name != "Host":
                head += b"Host: test\r\n"
            if name != "Authorization":
                head += bearer.encode() + b"\r\n"
            answer = ask(server, head + name.encode() + b": " + value + b"\r\n\r\n")
            assert answer.status in {200, 304, 400, 401, 404}
            assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "token", ["", "a", "a.b.c", "..", "." * 5000, "a" * 30_000, "eyJhbGciOiJub25lIn0.e30.", "ä.ö.ü", "a b c"]
)
def test_what_is_no_token_is_401(server: ChatServer, n8n: ScriptedN8n, token: str) -> None:
    before = len(n8n.requests)
    line = f"Authorization: Bearer {token}"
    for data in (
        request("POST", "/api/v1/chat", AGENT, JSON, line, body=MESSAGE),
        request("POST", "/api/v1/session/refresh", AGENT, line),
        request("GET", "/api/v1/session", AGENT, line),
        request("DELETE", "/api/v1/session", AGENT, line),
        request("GET", f"/api/v1/chat/{SOME_ID}", AGENT, line),
        request("GET", "/api/v1/history", AGENT, line),
    ):
        answer = ask(server, data)
        document = problem(answer, 401, json.loads(answer.body)["code"])
        assert document["code"] in {"token_invalid", "token_missing"}
        assert answer.headers["www-authenticate"] == "Bearer"
    assert len(n8n.requests) == before


@pytest.mark.parametrize("scheme", ["Basic", "Token", "Bearer:", "bearer\t"])
def test_another_scheme_is_no_token(server: ChatServer, bearer: str, scheme: str) -> None:
    line = bearer.replace("Bearer", scheme, 1)
    problem(ask(server, request("GET", "/api/v1/session", AGENT, line)), 401, "token_missing")


def test_huge_heads_are_431_and_the_next_client_is_served(server: ChatServer) -> None:
    memory = server.rss_bytes()
    for data in (
        request("GET", "/health", "X: " + "a" * 33_000),
        request("GET", "/health", *(f"X-{number}: y" for number in range(101))),
        request("GET", "/" + "a" * 40_000),
        b"GET /health HTTP/1.1\r\nHost: test\r\nX: " + b"a" * 1_000_000,
    ):
        with RawClient(server.url) as client:
            try:
                client.send(data)
            except ConnectionError:
                continue  # refused before all of it was sent
            assert client.answer().status == 431
    assert ask(server, request("GET", "/health")).status == 200
    assert server.rss_bytes() < memory + 8_000_000


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://test/api/v1/session", 401),
        ("http://elsewhere.test/api/v1/session", 401),
        ("/%61pi/v1/session", 401),
        ("/api/v1/session?x=/../../etc/passwd", 401),
        ("/api/v1/session/", 404),
        ("//api/v1/session", 404),
        ("/api/v1//session", 404),
        ("/api/v1/./session", 404),
        ("/api/v1/x/../session", 404),
        ("/API/v1/session", 404),
        ("/api/v1/session%0a", 404),
        ("/api/v1/session%0d%0aSet-Cookie:%20x=y", 404),
        ("/api/v1/session%00", 404),
        ("/api/v1/session%", 404),
        ("/api/v1/%zz%ff", 404),
        ("/api/v1/chat/", 404),
        ("/api/v1/" + "a/" * 15_000, 404),
        ("/api/v1/" + "%2e%2e%2f" * 3_000, 404),
    ],
)
def test_targets(server: ChatServer, target: str, status: int) -> None:
    answer = ask(server, request("GET", target, AGENT))
    assert answer.status == status
    assert answer.headers["x-request-id"]
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert json.loads(answer.body)["code"] == {401: "token_missing", 404: "not_found"}[status]


@pytest.mark.parametrize("path", ["/health%0a", "/metrics%0A", "/openapi.json%0a", "/%0a", "/widget/demo.js%0a"])
def test_no_path_is_served_under_a_second_spelling(server: ChatServer, path: str) -> None:
    assert ask(server, request("GET", path)).status == 404


@pytest.mark.parametrize(
    "message_id", ["x", "0" * 36, SOME_ID + "0", "%0d%0aX:%20y", "..", "%00", "%ff", "'--", SOME_ID[:-1] + "%0a"]
)
def test_hostile_ids_in_the_path(server: ChatServer, bearer: str, message_id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = ask(server, request(method, f"/api/v1/chat/{message_id}", AGENT, bearer))
        assert answer.status in {400, 404}
        assert json.loads(answer.body)["code"] in {"invalid_request", "reply_gone", "not_found"}
        assert "x" not in answer.headers


METHODS = {
    "/api/v1/chat": "POST",
    "/api/v1/session": "DELETE, GET, HEAD, POST",
    "/api/v1/session/refresh": "POST",
    f"/api/v1/chat/{SOME_ID}": "DELETE, GET, HEAD",
    f"/api/v1/chat/{SOME_ID}/feedback": "POST",
    "/api/v1/history": "GET, HEAD",
    "/api/v1/admin/analytics": "GET, HEAD",
    "/health": "GET, HEAD",
    "/health/live": "GET, HEAD",
    "/health/ready": "GET, HEAD",
    "/metrics": "GET, HEAD",
    "/openapi.json": "GET, HEAD",
    "/widget/demo.js": "GET, HEAD",
    "/": "GET, HEAD",
}


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize(
    "method", ["HEAD", "GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "M-SEARCH"]
)
def test_methods_that_a_route_does_not_have_are_405_with_allow(server: ChatServer, path: str, method: str) -> None:
    answer = ask(server, request(method, path))
    if method in METHODS[path].split(", "):
        assert answer.status in {200, 201, 401, 404}
        assert "allow" not in answer.headers
        return
    assert answer.status == 405
    assert answer.headers["allow"] == METHODS[path]
    assert answer.headers["x-request-id"]
    if method != "HEAD":
        assert json.loads(answer.body)["code"] == "method_not_allowed"


def test_trace_repeats_nothing(server: ChatServer) -> None:
    answer = ask(server, request("TRACE", "/api/v1/session", "Authorization: Bearer secret-token"))
    assert b"secret-token" not in answer.body


def test_each_header_of_every_answer_comes_once(server: ChatServer) -> None:
    for path in ("/", "/health", "/api/v1/session", "/nothing", "/widget/demo.js", "/metrics"):
        answer = httpx.get(f"{server.url}{path}", headers={"Origin": server.url}, trust_env=False, verify=NO_TLS)
        names = [name.lower() for name, _ in answer.headers.raw if name.lower() != b"vary"]
        assert sorted(names) == sorted(set(names)), path
