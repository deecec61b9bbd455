"""Clients that vanish, do not read, do not stop, or come in crowds: declared ends, bounded memory."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.rawhttp import RawClient, request, took
from tests.support.served import Served, started

MEBIBYTE = 1024 * 1024


@pytest.fixture
def served() -> Iterator[Served]:
    with started(limits={"head_seconds": 2.0, "linger_seconds": 0.5, "stall_seconds": 0.5}) as server:
        yield server


def memory(served: Served) -> int:
    with RawClient(served.url) as client:
        return int(client.get("/memory").body)


@pytest.mark.parametrize("reset", [False, True])
def test_client_that_vanishes_is_told_to_the_application_once_for_each_request(served: Served, *, reset: bool) -> None:
    with RawClient(served.url) as client:
        client.get("/")
        client.send(request("POST", "/unread", body=b"x"))
        client.send(b"")
        if reset:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    served.wait_for("client gone")


def test_stream_learns_that_its_reader_is_gone(served: Served) -> None:
    with RawClient(served.url) as client:
        client.send(request("GET", "/stream"))
        client.head()
        assert next(client.chunks()) == b"hello"
    assert served.wait_for("stream ends")["detail"] is True


def test_abort_drops_the_connection_and_what_is_unsent(served: Served) -> None:
    with RawClient(served.url) as client:
        client.send(request("GET", "/aborted"))
        served.wait_for("aborted")
        assert len(client.rest()) < 20_000_000


def test_reader_that_stops_reading_is_dropped(served: Served) -> None:
    before = memory(served)
    with RawClient(served.url) as client:
        client.send(request("GET", "/flood"))
        with took(0.4, 3.0):
            served.wait_for("ReaderStalled")
        served.wait_for("flood ends")
    assert memory(served) - before < 8 * MEBIBYTE


def test_slow_reader_is_not_dropped(served: Served) -> None:
    with RawClient(served.url) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(request("GET", "/bulk", "Connection: close"))
        client.head()
        seen = 0
        began = time.monotonic()
        while seen < 20_000_000:
            seen += len(client.read(min(1_000_000, 20_000_000 - seen)))
            time.sleep(0.08)
        assert time.monotonic() - began > 1.5
        assert client.ended()


def test_closed_response_that_is_not_read_does_not_stay(served: Served) -> None:
    with RawClient(served.url) as client:
        client.send(request("GET", "/bulk", "Connection: close"))
        client.head()
        served.wait_for("ReaderStalled")


def test_refusal_reaches_a_client_that_sends_on_for_ever(served: Served) -> None:
    with RawClient(served.url) as client:
        client.send(request("POST", "/too_large", "Content-Length: 10000000000"))
        ended = threading.Event()

        def send_on() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client.send(b"x" * 65536)
            ended.set()

        sender = threading.Thread(target=send_on)
        sender.start()
        answer = client.answer()
        assert (answer.status, answer.headers["connection"], answer.body) == (413, "close", b"too large")
        with took(0.0, 3.0):
            assert ended.wait(5)
        sender.join()


def test_body_that_is_not_read_is_not_taken_in(served: Served) -> None:
    before = memory(served)
    with RawClient(served.url, timeout=0.5) as client:
        client.send(request("POST", "/unread", "Content-Length: 10000000000"))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200 * MEBIBYTE:
                sent += client.socket.send(b"x" * 65536)
        assert sent < 32 * MEBIBYTE  # what the kernel's buffers hold
        assert memory(served) - before < 4 * MEBIBYTE


def test_half_open_heads_in_crowds(served: Served) -> None:
    before = memory(served)
    crowd = [RawClient(served.url) for _ in range(500)]
    for client in crowd:
        client.send(b"GET / HTTP/1.1\r\nX: " + b"a" * 1000)
    assert memory(served) - before < 500 * 24 * 1024
    with took(0.5, 6.0):
        assert {client.answer().status for client in crowd} == {408}
    for client in crowd:
        client.close()
    with RawClient(served.url) as client:
        assert client.get("/").status == 200


def test_connections_beyond_the_limit_are_turned_away_and_others_served_on() -> None:
    with started(settings={"max_connections": 5}) as server:
        kept = [RawClient(server.url) for _ in range(5)]
        for client in kept:
            assert client.get("/").status == 200
        with RawClient(server.url) as surplus:
            assert surplus.rest().startswith(b"HTTP/1.1 503 ")
        server.wait_for("connection_limit")
        for client in kept:
            assert client.get("/").status == 200
        kept[0].close()
        time.sleep(0.1)
        with RawClient(server.url) as client:
            assert client.get("/").status == 200
        for client in kept[1:]:
            client.close()
