"""The running main is asked to stop while it serves: what still works, what is refused, how open replies end."""

import asyncio
import signal
import time
import uuid

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_stream, hold, stall
from tests.support.background import Gate, eventually
from tests.support.client import ChatClient, Reply
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer


async def ended(server: ChatServer, within: float = 10.0) -> int:
    """Wait for the end of the process and give its status."""
    return await asyncio.to_thread(server.wait, within)


async def path_status(client: ChatClient, path: str) -> int:
    return (await client.http.get(path)).status_code


async def until_status_is(client: ChatClient, path: str, status: int) -> None:
    async with asyncio.timeout(5):
        while await path_status(client, path) != status:
            await asyncio.sleep(0.01)


@pytest.mark.alone
async def test_the_delay_serves_all_and_tells_the_load_balancer(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"SHUTDOWN_DELAY_SECONDS": "1"})
    client = make_client(server)
    await client.session()
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    await until_status_is(client, "/health/ready", 503)
    assert await path_status(client, "/health/live") == 200
    assert await path_status(client, "/health") == 200, "new messages are served still"
    newcomer = make_client(server)
    assert (await newcomer.session()).status_code == 201
    answer = await newcomer.chat("Hi")
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close", "so that the next request goes elsewhere"
    assert (await newcomer.reply("Hi")).finish_reason == "complete"
    assert time.monotonic() - began < 1
    assert await ended(server) == 0
    assert 0.9 < time.monotonic() - began < 3


async def test_open_replies_go_on_while_new_ones_are_refused(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    gate = Gate()
    server = start_server(n8n)
    client = make_client(server)
    await client.session()
    n8n.answer(answer_stream(["first ", "second"], gap=gate))
    ids = [str(uuid.uuid4()) for _ in range(4)]
    streams = [asyncio.create_task(client.reply("Hi", message_id=one)) for one in ids[:2]]
    document = asyncio.create_task(client.chat("Hi", message_id=ids[2]))
    stopped = asyncio.create_task(client.reply("Hi", message_id=ids[3]))
    await eventually(lambda: len(n8n.requests) == 4)

    server.send_signal(signal.SIGTERM)
    await until_status_is(client, "/health", 503)
    refused = await client.chat("Hi")
    assert refused.status_code == 503
    problem = refused.json()
    assert problem["code"] == "shutting_down"
    assert int(refused.headers["retry-after"]) == problem["retry_after"] >= 1
    streamed = await client.reply("Hi")
    assert (streamed.status, streamed.problem["code"]) == (503, "shutting_down")
    asked = len(n8n.requests)

    newcomer = make_client(server)
    newcomer.token = client.token
    assert await path_status(newcomer, "/health/live") == 200
    assert await path_status(newcomer, "/health/ready") == 503
    health = await newcomer.http.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "unavailable")
    assert "chatcore_replies_in_flight 4.0" in (await newcomer.http.get("/metrics")).text
    resumed = asyncio.create_task(newcomer.resume(ids[0], after=1))
    joined = asyncio.create_task(newcomer.reply("Hi", message_id=ids[1]))
    assert (await newcomer.document(ids[2])).status_code == 202
    assert (await newcomer.stop(ids[3])).status_code == 204
    assert (await stopped).finish_reason == "stopped"
    assert server.process.poll() is None

    gate.open()
    for task in (*streams, resumed, joined):
        reply: Reply = await task
        assert (reply.status, reply.text, reply.finish_reason) == (200, "first second", "complete")
    whole = await document
    assert (whole.status_code, whole.json()["content"]) == (200, "first second")
    assert await ended(server) == 0
    assert len(n8n.requests) == asked


async def test_what_does_not_end_within_the_grace_ends_cleanly(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"SHUTDOWN_GRACE_SECONDS": "1"})
    client = make_client(server)
    await client.session()
    n8n.next(stall("some text"), stall(), stall(), stall("some text"))
    spoken = asyncio.create_task(client.reply("Hi"))
    await eventually(lambda: len(n8n.requests) == 1)
    silent = asyncio.create_task(client.reply("Hi"))
    await eventually(lambda: len(n8n.requests) == 2)
    document = asyncio.create_task(client.chat("Hi"))
    await eventually(lambda: len(n8n.requests) == 3)
    half = asyncio.create_task(client.chat("Hi"))
    await eventually(lambda: len(n8n.requests) == 4)
    await asyncio.sleep(0.2)
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    reply = await spoken
    assert 0.9 < time.monotonic() - began < 3
    assert (reply.status, reply.text) == (200, "some text")
    assert [event.name for event in reply.events[-2:]] == ["error", "done"]
    assert reply.events[-2].data["code"] == "shutting_down"
    assert reply.events[-2].data["status"] == 503
    assert reply.finish_reason == "error"
    refused = await silent
    assert (refused.status, refused.problem["code"]) == (503, "shutting_down")
    answer = await document
    assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
    answer = await half
    assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
    assert answer.json()["content"] == "some text"
    assert await ended(server) == 0
    assert n8n.open_connections == 0
    assert "Traceback" not in server.log


async def test_a_second_signal_hurries(n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient) -> None:
    server = start_server(n8n, {"SHUTDOWN_DELAY_SECONDS": "60", "SHUTDOWN_GRACE_SECONDS": "60"})
    client = make_client(server)
    await client.session()
    n8n.answer(stall("some text"))
    async with client.stream("Hi") as stream:
        await stream.next("delta")
        server.send_signal(signal.SIGTERM)
        await until_status_is(make_client(server), "/health/ready", 503)
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        names = [event.name async for event in stream]
    assert names == ["error", "done"]
    assert await ended(server) == 0
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.alone
async def test_without_open_replies_it_ends_at_once(
    server: ChatServer, visitor: ChatClient, number: signal.Signals
) -> None:
    assert (await visitor.chat("Hi")).status_code == 200
    began = time.monotonic()
    server.send_signal(number)
    assert await ended(server) == 0
    assert time.monotonic() - began < 2


async def test_a_reply_whose_client_has_gone_is_given_the_grace_too(
    server: ChatServer, visitor: ChatClient, n8n: ScriptedN8n
) -> None:
    gate = Gate()
    n8n.answer(hold(gate))
    message_id = str(uuid.uuid4())
    asking = asyncio.create_task(visitor.reply("Hi", message_id=message_id))
    await eventually(lambda: len(n8n.requests) == 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    server.send_signal(signal.SIGTERM)
    await until_status_is(visitor, "/health", 503)
    reading = asyncio.create_task(visitor.resume(message_id))
    await asyncio.sleep(0.1)
    gate.open()
    assert (await reading).finish_reason == "complete"
    assert n8n.hangups == 0
    assert await ended(server) == 0


async def test_many_open_streams_all_get_their_end(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient, *, long: bool
) -> None:
    count = 1000 if long else 100
    server = start_server(n8n, {"SHUTDOWN_GRACE_SECONDS": "1"})
    client = make_client(server)
    await client.session()
    n8n.answer(stall("some text"))
    replies = [asyncio.create_task(client.reply("Hi")) for _ in range(count)]
    await eventually(lambda: len(n8n.requests) == count, within=60)
    await asyncio.sleep(0.3)
    server.send_signal(signal.SIGTERM)
    for reply in await asyncio.gather(*replies):
        assert reply.text == "some text"
        assert [event.name for event in reply.events[-2:]] == ["error", "done"]
        assert [event.id for event in reply.events] == list(range(1, len(reply.events) + 1))
    assert await ended(server) == 0
