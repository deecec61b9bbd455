"""What the server makes of requests that are in order, and of applications that are not."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.rawhttp import RawClient, request
from tests.support.served import Served, started


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with started() as server:
        yield server


@pytest.fixture
def raw(served: Served) -> Iterator[RawClient]:
    with RawClient(served.url) as client:
        yield client


def told(raw: RawClient, data: bytes) -> dict[str, Any]:
    raw.send(data)
    answer = raw.answer()
    assert answer.status == 200
    members: dict[str, Any] = json.loads(answer.body)
    return members


def test_answer_has_date_and_no_server_header(raw: RawClient) -> None:
    answer = raw.get("/")
    assert answer.status == 200
    assert set(answer.headers) == {"date", "content-type", "content-length"}


def test_scope_says_what_was_asked(raw: RawClient) -> None:
    scope = told(raw, request("POST", "/told?a=b?c", "X-Name: value", body=b"hello"))
    assert (scope["method"], scope["path"], scope["query_string"]) == ("'POST'", "'/told'", "b'a=b?c'")
    assert scope["body"] == "b'hello'"
    assert "(b'x-name', b'value')" in scope["headers"]
    assert "127.0.0.1" in scope["client"]


@pytest.mark.parametrize(
    ("target", "path", "raw_path"),
    [
        ("/%74old", "'/told'", "b'/%74old'"),
        ("http://elsewhere/told?x", "'/told'", "b'/told'"),
    ],
)
def test_targets(raw: RawClient, target: str, path: str, raw_path: str) -> None:
    scope = told(raw, request("GET", target))
    assert (scope["path"], scope["raw_path"]) == (path, raw_path)


def test_keep_alive_serves_many_requests_split_anywhere(raw: RawClient) -> None:
    message = request("POST", "/echo", body=b"0123456789")
    for cut in range(1, len(message), 7):
        raw.send(message[:cut])
        raw.send(message[cut:])
        assert raw.answer().body == b"0123456789"


def test_pipelined_requests_are_answered_in_order(raw: RawClient) -> None:
    raw.send(b"".join(request("POST", "/slow?1" if n == 1 else "/echo", body=b"%d" % n) for n in range(1, 12)))
    assert [raw.answer().body for _ in range(11)] == [b"%d" % n for n in range(1, 12)]
    assert raw.get("/").status == 200


def test_body_of_pipelined_request_may_come_later(raw: RawClient) -> None:
    second = request("POST", "/echo", body=b"x" * 300_000)
    raw.send(request("GET", "/slow?1") + second[:100])
    assert raw.answer().body == b"1"
    raw.send(second[100:])
    assert raw.answer().body == b"x" * 300_000


def test_connection_close_is_honoured(raw: RawClient) -> None:
    raw.send(request("GET", "/", "Connection: close") + request("GET", "/"))
    assert raw.answer().headers["connection"] == "close"
    assert raw.ended()


def test_http_1_0_gets_no_chunks(raw: RawClient) -> None:
    raw.send(b"POST /two_way HTTP/1.0\r\nContent-Length: 4\r\n\r\nabcd")
    answer = raw.answer()
    assert answer.headers["connection"] == "close"
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b"abcd"


def test_chunked_body_with_extensions_and_trailers(raw: RawClient) -> None:
    head = request("POST", "/told", "Transfer-Encoding: chunked", "Trailer: Authorization")
    scope = told(raw, head + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nAuthorization: forged\r\n\r\n")
    assert scope["body"] == "b'abcde'"
    assert "forged" not in scope["headers"]
    assert raw.get("/").status == 200


def test_large_body_arrives_whole(raw: RawClient) -> None:
    body = bytes(range(256)) * 8000
    raw.send(request("POST", "/echo", body=body))
    assert raw.answer().body == body


def test_expect_continue_is_asked_for_when_the_body_is_read(raw: RawClient) -> None:
    message = request("POST", "/echo", "Expect: 100-continue", body=b"hello")
    raw.send(message[:-5])
    assert raw.answer().status == 100
    raw.send(b"hello")
    assert raw.answer().body == b"hello"


def test_expect_continue_gets_the_final_answer_where_the_body_is_unwanted(raw: RawClient) -> None:
    raw.send(request("POST", "/too_large", "Expect: 100-continue", "Content-Length: 1000000"))
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert raw.ended()


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_upgrade_is_ignored_and_the_body_stays_a_body(raw: RawClient, upgrade: str) -> None:
    inner = request("GET", "/crash")
    message = request("POST", "/echo", "Connection: Upgrade", f"Upgrade: {upgrade}", body=inner)
    raw.send(message[:-10])
    raw.send(message[-10:] + request("GET", "/"))
    assert raw.answer().body == inner
    assert raw.answer().body == b'{"refusing":0}'


def test_head_and_204_have_no_body(raw: RawClient) -> None:
    raw.send(request("HEAD", "/"))
    assert raw.answer(to_head=True).headers["content-length"] == "14"
    answer = raw.get("/empty")
    assert answer.status == 204
    assert not {"transfer-encoding", "content-length"} & set(answer.headers)
    assert raw.get("/").status == 200


def test_request_and_response_may_run_side_by_side(raw: RawClient) -> None:
    raw.send(request("POST", "/two_way", "Transfer-Encoding: chunked"))
    chunks = None
    for word in (b"one", b"two"):
        raw.send(b"3\r\n" + word + b"\r\n")
        if chunks is None:
            raw.head()
            chunks = raw.chunks()
        assert next(chunks) == word
    raw.send(b"0\r\n\r\n")
    assert raw.rest() == b"0\r\n\r\n"


def test_exception_gives_a_bare_500(served: Served, raw: RawClient) -> None:
    answer = raw.get("/crash")
    assert (answer.status, answer.body) == (500, b"")
    assert served.wait_for("crashed")["detail"] == "application: a secret"
    assert raw.ended()


@pytest.mark.parametrize(("path", "seen"), [("/crash_later", b"4\r\nhalf\r\n"), ("/incomplete", b"12345")])
def test_exception_after_the_head_is_seen_as_an_early_end(
    served: Served, raw: RawClient, path: str, seen: bytes
) -> None:
    raw.send(request("GET", path))
    assert raw.head()[0] == 200
    assert raw.rest() == seen
    served.wait_for("crashed")


@pytest.mark.parametrize("path", ["/injected", "/overlong"])
def test_response_that_would_split_is_a_500(served: Served, raw: RawClient, path: str) -> None:
    answer = raw.get(path)
    assert answer.status == 500
    assert "set-cookie" not in answer.headers
    served.wait_for("crashed")


def test_ipv6() -> None:
    if not socket.has_ipv6:  # the machine cannot
        return
    with started(settings={"host": "::1"}) as server, RawClient(server.url) as client:
        assert server.url.startswith("http://[::1]:")
        assert "'::1'" in json.loads(client.get("/told").body)["client"]
