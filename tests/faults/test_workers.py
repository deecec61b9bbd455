"""Several workers behind one address, as processes: they share the work, are replaced, stop as one, count as one."""

import asyncio
import contextlib
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_stream, stall
from tests.support.background import Gate, eventually
from tests.support.client import NO_TLS, ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.server import ROOT, ChatServer, ServerFailedError

START = Callable[..., ChatServer]
CHAT = 'chatcore_requests_total{method="POST",route="/api/v1/chat",status="200"}'


@pytest.fixture
def start(start_server: StartServer, n8n: ScriptedN8n) -> START:
    """Give `start(number of workers, environment, **options)`: PostgreSQL mode with stores that keep nothing."""

    def started(count: int, environment: Mapping[str, str] | None = None, **options: Any) -> ChatServer:
        told = {
            "PYTHONPATH": str(ROOT),
            "PYTHONSAFEPATH": "1",
            "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d",
            "REDIS_URL": "redis://127.0.0.1:1",
            **(environment or {}),
        }
        return start_server(
            n8n, told, main="tests/support/serve_workers.py", options=["--workers", str(count)], **options
        )

    return started


def children(server: ChatServer) -> list[int]:
    """Give the workers, in the order in which they were started (Linux)."""
    pid = server.process.pid
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return sorted(int(child) for child in found.split())


def replaced(server: ChatServer, victim: int, count: int) -> bool:
    """Tell whether there are as many workers as before, without `victim`."""
    now = children(server)
    return victim not in now and len(now) == count


def lives(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] != "Z"
    return False


def get(server: ChatServer, path: str) -> httpx.Response:
    """Ask on a connection of its own, so that any worker may answer."""
    with httpx.Client(trust_env=False, timeout=10.0, verify=NO_TLS) as client:
        return client.get(f"{server.url}{path}")


def who_answers(server: ChatServer) -> int:
    return int(get(server, "/health").json()["checks"]["process"]["detail"])


def samples(server: ChatServer) -> dict[str, float]:
    lines = get(server, "/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


async def all_serve(server: ChatServer, count: int) -> list[int]:
    """Wait until all workers can be reached; give them."""
    await eventually(lambda: samples(server)["chatcore_workers"] == count, within=30)
    return children(server)


async def worker_of(client: ChatClient) -> int:
    """Give the worker at the other end of a client's kept connection."""
    return int((await client.http.get("/health")).json()["checks"]["process"]["detail"])


async def client_of_each(server: ChatServer, make_client: MakeClient, count: int) -> dict[int, ChatClient]:
    """Make a client of each worker, with a session and a connection that stays open."""
    clients: dict[int, ChatClient] = {}
    async with asyncio.timeout(30):
        while len(clients) < count:
            client = make_client(server)
            await client.session()
            clients.setdefault(await worker_of(client), client)
    return clients


@pytest.mark.parametrize("count", [2, 3])
async def test_requests_reach_all_workers(start: START, count: int) -> None:
    server = start(count)
    workers = await all_serve(server, count)
    assert len(workers) == count
    answered: set[int] = set()
    async with asyncio.timeout(30):
        while answered != set(workers):
            answered.add(await asyncio.to_thread(who_answers, server))
            await asyncio.sleep(0)
    assert server.stop() == 0
    assert not [pid for pid in workers if lives(pid)]
    assert server.log.count('"message":"stopped"') == count
    assert "Traceback" not in server.log


async def test_metrics_of_all_are_summed_exactly_whoever_answers(start: START, make_client: MakeClient) -> None:
    server = start(3)
    await all_serve(server, 3)
    clients = await client_of_each(server, make_client, 3)
    before = samples(server).get(CHAT, 0)
    for number, client in enumerate(clients.values(), 1):
        for _ in range(number):
            assert (await client.chat("Hi")).status_code == 200
    for client in clients.values():
        text = (await client.http.get("/metrics")).text
        assert f"{CHAT} {before + 6}" in text
        assert 'chatcore_messages_total{bot="default"} 6.0' in text
        assert 'chatcore_reply_seconds_count{bot="default"} 6.0' in text
        assert 'chatcore_reply_seconds_bucket{bot="default",le="+Inf"} 6.0' in text
        assert "chatcore_workers 3.0" in text
        assert "chatcore_workers_silent 0.0" in text
    found = samples(server)
    assert found["chatcore_process_resident_memory_bytes"] > 3 * 20_000_000
    assert found['chatcore_server_events_total{what="listening"}'] == 3


async def test_many_who_ask_at_once_all_get_the_values_of_all(start: START) -> None:
    server = start(3)
    await all_serve(server, 3)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(trust_env=False, timeout=30.0, limits=limits, verify=NO_TLS) as client:
        answers = await asyncio.gather(*(client.get(f"{server.url}/metrics") for _ in range(100)))
    assert ["chatcore_workers 3.0" in answer.text for answer in answers] == [True] * 100


async def test_a_worker_that_hangs_is_left_out_but_for_what_it_told_last(start: START, make_client: MakeClient) -> None:
    server = start(2)
    await all_serve(server, 2)
    clients = await client_of_each(server, make_client, 2)
    for client in clients.values():
        assert (await client.chat("Hi")).status_code == 200
    hanging, other = clients
    counted = samples(server)
    os.kill(hanging, signal.SIGSTOP)
    try:
        began = time.monotonic()
        text = (await clients[other].http.get("/metrics")).text
        assert time.monotonic() - began < 3
    finally:
        os.kill(hanging, signal.SIGCONT)
    assert "chatcore_workers 1.0" in text
    assert "chatcore_workers_silent 1.0" in text
    assert f"{CHAT} {counted[CHAT]}" in text, "a sum does not go down"
    await eventually(lambda: samples(server)["chatcore_workers"] == 2, within=10)


async def test_a_killed_worker_is_replaced_while_others_serve(
    start: START, make_client: MakeClient, *, long: bool
) -> None:
    server = start(3)
    await all_serve(server, 3)
    clients = await client_of_each(server, make_client, 3)
    stop = asyncio.Event()
    failed: dict[int, int] = dict.fromkeys(clients, 0)
    served: dict[int, int] = dict.fromkeys(clients, 0)

    async def load(worker: int, client: ChatClient) -> None:
        while not stop.is_set():
            try:
                served[worker] += (await client.chat("Hi")).status_code == 200
            except httpx.TransportError:
                failed[worker] += 1

    loads = [asyncio.create_task(load(worker, client)) for worker, client in clients.items()]
    kills = 10 if long else 3
    await eventually(lambda: min(served.values()) > 0)
    counted = 0.0
    for _ in range(kills):
        counted = max(counted, (await asyncio.to_thread(samples, server)).get(CHAT, 0))
        victim = children(server)[0]
        os.kill(victim, signal.SIGKILL)
        await eventually(partial(replaced, server, victim, 3), within=20)
        assert (await asyncio.to_thread(samples, server))[CHAT] >= counted, "a sum does not go down"
        await all_serve(server, 3)
    stop.set()
    await asyncio.gather(*loads)
    assert min(served.values()) > 0
    assert max(failed.values()) <= kills, "only what was under way in a killed worker fails"
    found = samples(server)
    assert found["chatcore_workers_replaced_total"] == kills
    assert server.log.count("was killed by SIGKILL; it is started again") == kills
    assert server.stop() == 0


async def test_sigterm_drains_the_streams_of_all(start: START, make_client: MakeClient, n8n: ScriptedN8n) -> None:
    gate = Gate()
    server = start(2)
    await all_serve(server, 2)
    clients = await client_of_each(server, make_client, 2)
    n8n.answer(answer_stream(["first ", "second"], gap=gate))
    streams = [asyncio.create_task(client.reply("Hi")) for client in clients.values()]
    await eventually(lambda: len(n8n.requests) == 2)
    server.send_signal(signal.SIGTERM)
    for client in clients.values():
        async with asyncio.timeout(5):
            while (await client.http.get("/health")).status_code != 503:
                await asyncio.sleep(0.01)
        assert (await client.chat("Hi")).json()["code"] == "shutting_down"
    assert server.process.poll() is None
    gate.open()
    assert [(await stream).text for stream in streams] == ["first second"] * 2
    assert await asyncio.to_thread(server.wait) == 0


@pytest.mark.parametrize("everybody", [False, True], ids=["the first alone", "every process"])
async def test_signals_that_a_service_manager_sends_to_every_process_count_once(
    start: START, make_client: MakeClient, n8n: ScriptedN8n, *, everybody: bool
) -> None:
    gate = Gate()
    server = start(2)
    workers = await all_serve(server, 2)
    clients = await client_of_each(server, make_client, 2)
    n8n.answer(answer_stream(["first ", "second"], gap=gate))
    streams = [asyncio.create_task(client.reply("Hi")) for client in clients.values()]
    await eventually(lambda: len(n8n.requests) == 2)
    for pid in (*(workers if everybody else ()), server.process.pid):
        os.kill(pid, signal.SIGINT)
    await eventually(lambda: get(server, "/health").status_code == 503)
    gate.open()
    assert [(await stream).finish_reason for stream in streams] == ["complete"] * 2
    assert await asyncio.to_thread(server.wait) == 0


async def test_a_second_signal_hurries_all(start: START, make_client: MakeClient, n8n: ScriptedN8n) -> None:
    server = start(2, {"SHUTDOWN_GRACE_SECONDS": "60"})
    await all_serve(server, 2)
    clients = await client_of_each(server, make_client, 2)
    n8n.answer(stall("some text"))
    streams = [asyncio.create_task(client.reply("Hi")) for client in clients.values()]
    await eventually(lambda: len(n8n.requests) == 2)
    await asyncio.sleep(0.2)
    server.send_signal(signal.SIGTERM)
    await eventually(lambda: server.log.count("new refused") == 2)
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    for stream in streams:
        assert [event.name for event in (await stream).events[-2:]] == ["error", "done"]
    assert await asyncio.to_thread(server.wait) == 0
    assert time.monotonic() - began < 5


async def test_a_third_signal_kills_all(start: START) -> None:
    server = start(2, {"SHUTDOWN_DELAY_SECONDS": "60"})
    workers = await all_serve(server, 2)
    os.kill(workers[0], signal.SIGSTOP)
    server.send_signal(signal.SIGTERM)
    await eventually(lambda: "drain begun" in server.log)
    server.send_signal(signal.SIGTERM)
    await eventually(lambda: "stopped" in server.log)
    assert server.process.poll() is None, "one worker does not end"
    server.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(server.wait) == -signal.SIGTERM
    assert not [pid for pid in workers if lives(pid)]


async def test_workers_end_with_the_first_process(start: START, make_client: MakeClient, n8n: ScriptedN8n) -> None:
    server = start(3)
    workers = await all_serve(server, 3)
    client = make_client(server)
    await client.session()
    n8n.answer(stall("some text"))
    message_id = str(uuid.uuid4())
    stream = asyncio.create_task(client.reply("Hi", message_id=message_id))
    await eventually(lambda: len(n8n.requests) == 1)
    os.kill(server.process.pid, signal.SIGKILL)
    await eventually(lambda: not [pid for pid in workers if lives(pid)])
    assert [event.name for event in (await stream).events[-1:]] in (["done"], []), "it ended, and in order"
    with socket.create_server(("127.0.0.1", server.port)):
        pass


def test_a_port_that_is_taken_is_told_once_and_is_status_2(start: START) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = start(3, port=taken.getsockname()[1], wait=False)
        assert server.wait() == 2
    assert server.log == f"Cannot listen on host '127.0.0.1', port {server.port}: Address already in use.\n"


def test_a_start_that_is_refused_is_told_once_and_ends_all_with_its_status(start: START) -> None:
    server = start(3, {"TEST_TROUBLE": "refuse"}, wait=False)
    assert server.wait() == 2
    assert server.log.count("main_postgres.py cannot start: the store is in trouble.\n  what to do: Help it") == 1
    assert "worker 1 ended with status 2; all workers stop" in server.log


async def test_a_worker_that_always_dies_at_once_ends_all(start: START) -> None:
    server = start(2, {"TEST_TROUBLE": "die"}, wait=False)
    assert await asyncio.to_thread(server.wait, 30) == 128 + signal.SIGKILL
    assert server.log.count("it is started again") == 4
    assert "5 times in a row soon after its start; all workers stop" in server.log


async def test_one_that_cannot_be_replaced_for_a_moment_is_tried_again(start: START, tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    server = start(2, {"TEST_TROUBLE": f"refuse {trouble}"})
    await eventually(lambda: server.log.count("listening http") == 2, within=20)
    workers = await all_serve(server, 2)
    trouble.touch()
    os.kill(workers[1], signal.SIGKILL)
    await eventually(lambda: "worker 2 ended with status 2; it is started again" in server.log, within=10)
    assert get(server, "/health").status_code == 200, "the other one serves meanwhile"
    trouble.unlink()
    await all_serve(server, 2)
    assert server.stop() == 0


async def test_one_that_can_never_be_replaced_ends_all_in_order(
    start: START, tmp_path: Path, make_client: MakeClient, n8n: ScriptedN8n
) -> None:
    gate = Gate()
    trouble = tmp_path / "trouble"
    server = start(2, {"TEST_TROUBLE": f"refuse {trouble}"})
    await all_serve(server, 2)
    clients = await client_of_each(server, make_client, 2)
    victim, other = clients
    n8n.answer(answer_stream(["first ", "second"], gap=gate))
    stream = asyncio.create_task(clients[other].reply("Hi"))
    await eventually(lambda: len(n8n.requests) == 1)
    trouble.touch()
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: "all workers stop" in server.log, within=20)
    gate.open()
    assert (await stream).finish_reason == "complete"
    assert await asyncio.to_thread(server.wait) == 2


async def test_a_stop_during_the_start_leaves_nothing(start: START) -> None:
    server = start(3, wait=False)
    await eventually(lambda: bool(children(server)), within=20)
    server.send_signal(signal.SIGTERM)
    with contextlib.suppress(ServerFailedError):
        assert await asyncio.to_thread(server.wait) == 0
    assert "Traceback" not in server.log
    assert server.log.count('"message":"stopped"') <= 1
