"""The server's life: start, refusals to start, the drain with the door open, second thoughts, exit statuses."""

import json
import signal
import socket
import time

import pytest

from tests.support.rawhttp import RawClient, request, took
from tests.support.served import started


def test_sigterm_lets_streams_end_while_new_connections_are_served() -> None:
    with started(settings={"shutdown_delay_seconds": 0.3, "shutdown_grace_seconds": 0.6}) as server:
        with RawClient(server.url) as stream, RawClient(server.url) as idle:
            stream.send(request("GET", "/stream"))
            stream.head()
            chunks = stream.chunks()
            assert next(chunks) == b"hello"
            idle.get("/")
            server.signal()
            server.wait_for("drain_begun")
            with RawClient(server.url) as late:
                answer = late.get("/")
                assert (answer.body, answer.headers["connection"]) == (b'{"refusing":0}', "close")
            assert idle.get("/").headers["connection"] == "close"
            server.wait_for("asked to settle")
            with RawClient(server.url) as late:
                assert late.get("/").body == b'{"refusing":1}'
            assert list(chunks) == [b"bye"]
        assert server.end() == 0
        told = [what for what in server.all_told() if what != "stream ends"]
        assert told == [
            *("before", "started up", "listening", "asked to drain", "drain_begun"),
            *("asked to refuse", "new_refused", "asked to settle", "shut down", "stopped"),
        ]
        assert server.errors() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_without_work_ends_at_once(number: signal.Signals) -> None:
    with started() as server:
        server.signal(number)
        with took(0.0, 3.0):
            assert server.end() == 0


def test_second_signal_ends_the_grace_cleanly() -> None:
    with started() as server, RawClient(server.url) as stream:
        stream.send(request("GET", "/stream"))
        stream.head()
        server.signal()
        assert server.wait_for("asked to settle")["detail"] == 30.0
        server.signal()
        assert server.wait_for("asked to settle")["detail"] == 0.0
        assert list(stream.chunks()) == [b"hello", b"bye"]
        assert server.end() == 0


def test_second_signal_ends_the_delay() -> None:
    with started(settings={"shutdown_delay_seconds": 60.0}) as server:
        server.signal()
        server.wait_for("drain_begun")
        server.signal(signal.SIGINT)
        assert server.wait_for("asked to settle")["detail"] == 0.0
        assert server.end() == 0


def test_third_signal_kills() -> None:
    with started(settle="hangs") as server:
        for _ in range(2):
            server.signal()
            server.wait_for("asked to settle")
        server.signal()
        assert server.end() == -signal.SIGTERM


def test_failure_to_settle_still_ends_with_a_status_that_says_so() -> None:
    with started(settle="fails") as server:
        server.signal()
        assert server.end() == 1
        assert "crashed" in server.all_told()


def test_response_that_no_one_reads_does_not_keep_the_server() -> None:
    with started(limits={"flush_seconds": 1}) as server, RawClient(server.url) as client:
        client.send(request("GET", "/bulk"))
        client.head()
        server.signal()
        with took(0.5, 5.0):
            assert server.end() == 0


def test_idle_and_half_open_connections_do_not_delay_the_end() -> None:
    with started() as server:
        clients = [RawClient(server.url) for _ in range(20)]
        for client in clients[:10]:
            client.send(b"GET / HT")
        clients[-1].get("/")
        server.signal()
        with took(0.0, 2.0):
            assert server.end() == 0
        for client in clients:
            client.close()


def test_port_in_use_is_one_line_and_status_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started(wait=False, settings={"port": port}) as server:
            assert server.end() == 2
            assert server.errors() == f"Cannot listen on host '127.0.0.1', port {port}: Address already in use.\n"
            assert "started up" not in server.all_told()


@pytest.mark.parametrize("host", ["203.0.113.1", "not a host", "256.1.1.1"])
def test_bad_host_is_one_line_and_status_2(host: str) -> None:
    with started(wait=False, settings={"host": host}) as server:
        assert server.end() == 2
        message = server.errors()
        assert message.startswith(f"Cannot listen on host '{host}', port 0: ")
        assert message.count("\n") == 1


def test_application_that_does_not_start_is_status_1() -> None:
    with started(wait=False, startup="fails") as server:
        assert server.end() == 1
        assert "listening" not in server.all_told()


def test_port_can_be_taken_again_at_once() -> None:
    with started() as first, RawClient(first.url) as client:
        client.get("/")
        first.signal()
        first.end()
        port = int(first.url.rpartition(":")[2])
    with started(settings={"port": port}) as second:
        assert second.url == first.url


@pytest.mark.parametrize(("wanted", "reached", "low"), [(300, 300, False), (5000, 400, True), (0, 128, False)])
def test_descriptor_limit(wanted: int, reached: int, *, low: bool) -> None:
    with started(settings={"descriptors_wanted": wanted}, hard_limit=400) as server, RawClient(server.url) as client:
        assert json.loads(client.get("/descriptors").body) == reached
        told = [told for told in server.told if told["what"] == "descriptor_limit_low"]
        assert bool(told) == low


def test_start_is_quick() -> None:
    began = time.monotonic()
    with started():
        assert time.monotonic() - began < 5.0
