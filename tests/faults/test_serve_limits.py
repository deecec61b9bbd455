"""Clients that send too much, too slowly, or what is not HTTP: each limit, and that the rest is served on."""

from collections.abc import Iterator

import pytest

from tests.support.rawhttp import RawClient, request, took
from tests.support.served import Served, started

LIMITS = {"head_seconds": 0.5, "body_seconds": 0.5, "keep_alive_seconds": 1.0, "linger_seconds": 0.5}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with started(limits=LIMITS) as server:
        yield server


@pytest.fixture
def raw(served: Served) -> Iterator[RawClient]:
    with RawClient(served.url) as client:
        yield client
    with RawClient(served.url) as other:
        assert other.get("/").status == 200


def test_head_of_32_kib_is_served_and_one_more_byte_is_not(served: Served) -> None:
    def head(size: int) -> bytes:
        return request("GET", "/", "X: " + "a" * (size - len(request("GET", "/", "X: "))))

    assert len(head(32768)) == 32768
    for size, status in ((32768, 200), (32769, 431), (200_000, 431), (2_000_000, 431)):
        with RawClient(served.url) as client:
            client.send(head(size))
            assert client.answer().status == status
    served.wait_for("head_too_large")


def test_huge_head_is_refused_before_it_ends(raw: RawClient) -> None:
    raw.send(b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"a" * 33_000)
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"], answer.body) == (431, "close", b"")
    assert raw.ended()


def test_huge_request_line(raw: RawClient) -> None:
    raw.send(request("GET", "/" + "a" * 33_000))
    assert raw.answer().status == 431


def test_second_head_of_a_read_has_the_same_limits(raw: RawClient) -> None:
    raw.send(request("GET", "/") + request("GET", "/", "X: " + "a" * 33_000))
    assert [raw.answer().status, raw.answer().status] == [200, 431]


@pytest.mark.parametrize(("count", "status"), [(100, 200), (101, 431), (5000, 431)])
def test_100_headers(raw: RawClient, count: int, status: int) -> None:
    raw.send(request("GET", "/", *(f"a{n}:" for n in range(1, count))))
    assert raw.answer().status == status


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_head_that_does_not_end(served: Served, raw: RawClient, start: bytes) -> None:
    with took(0.4, 1.5):
        raw.send(start)
        answer = raw.answer()
    assert (answer.status, answer.headers["connection"], answer.body) == (408, "close", b"")
    with took(0.0, 1.5):
        assert raw.ended()
    served.wait_for("head_timeout")


def test_head_a_byte_at_a_time_gains_no_time(raw: RawClient) -> None:
    with took(0.4, 2.0):
        raw.send_slowly(request("GET", "/" + "a" * 1000), pause=0.05)
        assert raw.answer().status == 408


@pytest.mark.alone
def test_second_head_has_its_own_time(raw: RawClient) -> None:
    raw.get("/")
    raw.send(b"GET")
    with took(0.4, 0.95):
        assert raw.answer().status == 408


def test_idle_connection_is_closed_without_a_word(raw: RawClient) -> None:
    raw.get("/")
    with took(0.8, 2.5):
        assert raw.ended()


def test_line_breaks_do_not_keep_a_connection(raw: RawClient) -> None:
    raw.get("/")
    with took(0.8, 2.5):
        raw.send_slowly(b"\r\n" * 200, pause=0.05, size=2)
        assert raw.ended()


@pytest.mark.parametrize("head", [["Content-Length: 100"], ["Transfer-Encoding: chunked"]])
def test_body_without_progress(served: Served, raw: RawClient, head: list[str]) -> None:
    raw.send(request("POST", "/echo", *head) + b"5\r\n")
    with took(0.4, 1.5):
        answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert raw.ended()
    served.wait_for("body_timeout")
    served.wait_for("disconnected")


def test_slow_body_with_progress_is_served(raw: RawClient) -> None:
    message = request("POST", "/echo", body=b"0123456789")
    with took(1.0, 4.0):
        raw.send(message[:-10])
        raw.send_slowly(message[-10:], pause=0.15)
        assert raw.answer().body == b"0123456789"


def test_chunk_extensions_are_no_progress(raw: RawClient) -> None:
    raw.send(request("POST", "/echo", "Transfer-Encoding: chunked") + b"1;")
    with took(0.3, 2.0):
        raw.send_slowly(b"a" * 1000, pause=0.05)
        assert raw.answer().status == 408


@pytest.mark.parametrize("endless", [b"1;" + b"a" * 400_000, b"0\r\nX: " + b"a" * 400_000])
def test_endless_extension_and_trailer(raw: RawClient, endless: bytes) -> None:
    raw.send(request("POST", "/echo", "Transfer-Encoding: chunked") + endless)
    assert raw.answer().status == 400
    assert raw.ended()


def test_time_of_the_application_is_not_the_clients(raw: RawClient) -> None:
    raw.send(request("GET", "/slow?1") + b"GET / HTTP/1.1\r\n")
    assert raw.answer().body == b"1"
    raw.send(b"Host: a\r\n\r\n")
    assert raw.answer().status == 200


def test_too_many_pipelined_requests_end_the_connection_after_those_that_fit(raw: RawClient) -> None:
    raw.send(request("GET", "/slow?1") + request("GET", "/") * 3000)
    answers = [raw.answer() for _ in range(17)]
    assert {answer.status for answer in answers} == {200}
    assert [answer.headers.get("connection") for answer in answers] == [None] * 16 + ["close"]
    assert raw.ended()


POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
NOT_HTTP = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "noise": bytes(range(256)) * 10,
    "http 0.9": b"GET / HTTP/0.9\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http 2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "lower-case method": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "connect": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "raw utf-8": "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "obs-fold": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "bare cr": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare lf": b"GET / HTTP/1.1\nHost: a\n\n",
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "list of lengths": POST + b"Content-Length: 5, 5\r\n\r\nabcde",
    "negative length": POST + b"Content-Length: -5\r\n\r\nabcde",
    "signed length": POST + b"Content-Length: +5\r\n\r\nabcde",
    "giant length": POST + b"Content-Length: 99999999999999999999999\r\n\r\nabcde",
    "not quite chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "coding we do not know": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunk size": CHUNKED + b"zz\r\n",
    "hexadecimal chunk size": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "negative chunk size": CHUNKED + b"-1\r\na\r\n0\r\n\r\n",
    "giant chunk size": CHUNKED + b"fffffffffffffffff\r\n",
    "chunk longer than said": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("sent", NOT_HTTP.values(), ids=NOT_HTTP.keys())
def test_what_is_not_http_gets_a_bare_400_and_nothing_behind_it_is_served(raw: RawClient, sent: bytes) -> None:
    raw.send(sent + request("GET", "/"))
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"], answer.body) == (400, "close", b"")
    assert raw.ended()


def test_nonsense_does_not_cut_into_the_answers_before_it(raw: RawClient) -> None:
    raw.send(request("GET", "/slow?1") + request("GET", "/slow?2") + b"nonsense\r\n\r\n")
    assert [raw.answer().body for _ in range(2)] == [b"1", b"2"]
    assert raw.answer().status == 400


def test_nonsense_in_a_pipelined_body_keeps_that_request_from_running(raw: RawClient) -> None:
    raw.send(request("GET", "/slow?1") + request("POST", "/slow?2", "Transfer-Encoding: chunked") + b"zz\r\n")
    assert raw.answer().body == b"1"
    assert raw.answer().status == 400
