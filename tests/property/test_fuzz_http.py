"""Any bytes at all against the running main: never a 500, never a crash, every answer well-formed HTTP."""

import contextlib
import json
import random
import re
import select
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.n8n import ScriptedN8n
from tests.support.rawhttp import EndedError, RawClient
from tests.support.refused import AGENT, JSON, SOME_ID, left_as_it_was, new_bearer
from tests.support.server import ChatServer

SEED = 20260122
SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
HEADER = re.compile(r"[a-z0-9-]+")
STATUSES = {200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 431, 502, 503}

METHODS = ["GET", "POST", "HEAD", "DELETE", "OPTIONS", "PUT", "TRACE", "M-SEARCH", "get", "CONNECT", "PRI", "", "\x00"]
PATHS = [
    "/api/v1/session",
    "/api/v1/session/refresh",
    "/api/v1/chat",
    f"/api/v1/chat/{SOME_ID}",
    f"/api/v1/chat/{SOME_ID}/feedback",
    "/api/v1/history",
    "/health",
    "/metrics",
    "/openapi.json",
    "/widget/demo.js",
    "/",
    "*",
    "http://test/health",
    "/%00%0d%0a%ff",
]
NAMES = [
    "Authorization",
    "Content-Type",
    "Content-Length",
    "Transfer-Encoding",
    "Content-Encoding",
    "Connection",
    "Upgrade",
    "Expect",
    "Host",
    "Origin",
    "Accept",
    "Accept-Encoding",
    "Last-Event-ID",
    "X-Request-ID",
    "X-Forwarded-For",
    "Access-Control-Request-Method",
    "If-None-Match",
    "Range",
    "Cookie",
    "User-Agent",
    "Trailer",
    "TE",
]
VALUES = [
    "application/json",
    "text/event-stream",
    "multipart/form-data; boundary=x",
    "chunked",
    "gzip",
    "close",
    "keep-alive",
    "websocket",
    "h2c",
    "100-continue",
    "null",
    "http://test",
    "https://evil.test",
    "0",
    "-1",
    "5",
    "1e9",
    "999999999999999999999",
    "Bearer x",
    "*",
    "bytes=0-",
    "",
    "\x00",
    "\xff",
    "a" * 9000,
]
BODIES = [
    b"",
    b"{}",
    b'{"message": "Hi"}',
    b'{"rating": "up"}',
    b"[" * 2000,
    b'{"message": "\\ud800"}',
    b"5\r\nhello\r\n0\r\n\r\n",
    b"fffffffffffffffff\r\n",
    b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: test\r\n\r\n",
    b"\xff\x00" * 500,
]


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    """Give one server for all tests here, and see at their end that they left nothing behind."""
    with (
        ScriptedN8n() as n8n,
        ChatServer({"N8N_WEBHOOK_URL": n8n.url, "LOG_LEVEL": "WARNING"}) as started,
        left_as_it_was(started),
    ):
        yield started


@pytest.fixture(scope="module")
def bearer(server: ChatServer) -> str:
    """Give the header line of a session's token."""
    return new_bearer(server)


def answers(server: ChatServer, sent: bytes) -> list[int]:
    """Send bytes, let the server speak, hang up half, and read every answer whole; gives their statuses."""
    statuses: list[int] = []
    with RawClient(server.url, timeout=20) as client:
        with contextlib.suppress(OSError):  # the server may have said what it had to say and hung up
            client.send(sent)
            select.select([client.socket], [], [], 0.02)
            client.socket.shutdown(socket.SHUT_WR)
        # Between two answers an end is fine; whatever began must be whole, or it does not parse here.
        with contextlib.suppress(EndedError, ConnectionResetError):
            while True:
                statuses.append(one_answer(client, to_head=sent.startswith(b"HEAD ")))
    return statuses


def one_answer(client: RawClient, *, to_head: bool = False) -> int:
    """Read one answer and check its form; gives its status."""
    status, headers = client.head()
    check(status, headers)
    if to_head or status < 200 or status in {204, 304}:
        return status
    try:
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(client.chunks())
        else:
            body = client.read(int(headers["content-length"]))
    except EndedError:  # we had hung up, so a stream may end early; a document never
        assert headers["content-type"].startswith("text/event-stream")
        return status
    check_body(status, headers, body)
    return status


def check(status: int, headers: dict[str, str]) -> None:
    assert status in STATUSES | {100}, status
    assert all(HEADER.fullmatch(name) for name in headers), headers
    assert not [value for value in headers.values() if not value.isprintable()], headers
    assert "set-cookie" not in headers
    # An origin is echoed as it came; its host, as ours, may be in any case (RFC 6454, section 4).
    assert headers.get("access-control-allow-origin", "*").lower() in {"*", "http://test", "https://test"}
    if "content-type" in headers:
        assert headers["x-request-id"]
        assert headers["x-content-type-options"] == "nosniff"


def check_body(status: int, headers: dict[str, str], body: bytes) -> None:
    kind = headers.get("content-type", "")
    if kind == "application/problem+json":
        document = json.loads(body)
        assert document["status"] == status
        assert document["request_id"] == headers["x-request-id"]
        assert document["code"] != "internal_error"
    elif kind == "application/json":
        json.loads(body)
    elif status >= 400:
        assert body == b"", "an answer without the application is bare"


header_lines = st.lists(
    st.tuples(
        st.sampled_from(NAMES) | st.text(st.characters(codec="latin-1"), max_size=20),
        st.sampled_from(VALUES) | st.text(st.characters(codec="latin-1"), max_size=40),
    ),
    max_size=6,
)
bodies = st.sampled_from(BODIES) | st.binary(max_size=300)


@settings(suppress_health_check=SHARED)
@given(
    method=st.sampled_from(METHODS),
    path=st.sampled_from(PATHS) | st.text(st.characters(codec="latin-1"), max_size=40),
    lines=header_lines,
    body=bodies,
    usual=st.booleans(),
    length=st.booleans(),
)
def test_requests_of_odd_parts(
    server: ChatServer,
    bearer: str,
    method: str,
    path: str,
    lines: list[tuple[str, str]],
    body: bytes,
    *,
    usual: bool,
    length: bool,
) -> None:
    head = [f"{method} {path} HTTP/1.1", *(["Host: test", AGENT, bearer, JSON] if usual else [])]
    head += [f"{name}: {value}" for name, value in lines]
    head += [f"Content-Length: {len(body)}"] if length else []
    answers(server, "\r\n".join([*head, "", ""]).encode("latin-1") + body)


@settings(suppress_health_check=SHARED)
@given(data=st.binary(max_size=2000))
def test_any_bytes(server: ChatServer, data: bytes) -> None:
    assert set(answers(server, data)) <= {200, 400, 404, 408, 431}


json_like: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ["message", "message_id", "page_url", "metadata", "history", "rating", "comment", "bot", "identity_token"]


@settings(suppress_health_check=SHARED)
@given(
    path=st.sampled_from(["/api/v1/chat", "/api/v1/session", f"/api/v1/chat/{SOME_ID}/feedback"]),
    members=st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=8), json_like, max_size=5),
    message=st.text(max_size=50),
    stream=st.booleans(),
)
def test_any_json(
    server: ChatServer, bearer: str, path: str, members: dict[str, object], message: str, *, stream: bool
) -> None:
    body = json.dumps({"message": message, **members} if path.endswith("chat") else members).encode()
    accept = "Accept: text/event-stream" if stream else "Accept: */*"
    head = [f"POST {path} HTTP/1.1", "Host: test", AGENT, bearer, JSON, accept, f"Content-Length: {len(body)}", "", ""]
    with RawClient(server.url) as client:
        client.send("\r\n".join(head).encode() + body)
        assert one_answer(client) in {200, 201, 204, 400, 403}


def test_requests_with_bytes_changed_at_random(server: ChatServer, bearer: str, *, long: bool) -> None:
    chance = random.Random(SEED)  # noqa: S311 - repeatable, and guards nothing
    body = b'{"message": "Hi", "metadata": {"a": [1, {"b": null}]}}'
    good = [
        f"POST /api/v1/chat HTTP/1.1\r\nHost: test\r\n{AGENT}\r\n{bearer}\r\n{JSON}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body,
        f"POST /api/v1/session HTTP/1.1\r\nHost: test\r\n{AGENT}\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\n{}\r\n0\r\n\r\n".encode(),
        f"GET /api/v1/chat/{SOME_ID} HTTP/1.1\r\nHost: test\r\nLast-Event-ID: 3\r\n{bearer}\r\n\r\n".encode(),
        b"OPTIONS / HTTP/1.1\r\nHost: test\r\nOrigin: http://test\r\nAccess-Control-Request-Method: GET\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n" * 3,
    ]
    until = time.monotonic() + (240 if long else 4)
    answered = 0
    while time.monotonic() < until:
        changed = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(changed))
            match chance.randrange(4):
                case 0:
                    changed[at] = chance.randrange(256)
                case 1:
                    del changed[at : at + chance.randint(1, 30)]
                case 2:
                    changed[at:at] = chance.choice([b"\r\n", b"\n", b"\0", b":", b" ", b"\xff" * 9, b"0", b"%"])
                case _:
                    changed[at:at] = changed[at : at + chance.randint(1, 60)]
            if not changed:
                changed += b"\n"
        answered += len(answers(server, bytes(changed)))
    assert answered > 100
