"""Many chats at once: every answer is right, memory is flat after warm-up, the memory for replies has its bound."""

import asyncio
import contextlib
import json
import uuid
from typing import Self

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import Answer, answer_json, answer_stream, hold
from tests.support.background import Gate, eventually
from tests.support.client import SSE, USER_AGENT, ChatClient
from tests.support.n8n import Request, ScriptedN8n
from tests.support.rawhttp import RawClient
from tests.support.server import ChatServer


def metric(server: ChatServer, name: str) -> float:
    """Give the sum of a family's samples."""
    with RawClient(server.url) as client:
        lines = client.get("/metrics").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def varied(request: Request) -> Answer:
    """Answer as different workflows do; what was said comes back in every case."""
    said = request.text
    match len(said) % 3:
        case 0:
            return answer_stream(["Echo: ", said, " ", "🙂"], gap=0.01)
        case 1:
            return answer_json({"output": f"Echo: {said} 🙂"})
        case _:
            return answer_stream([*f"Echo: {said} 🙂"])


class Lane:
    """One connection that asks again and again: sparse enough that the tests measure the server and not a client."""

    def __init__(self, server: ChatServer, token: str | None) -> None:
        self._port = server.port
        self._head = (
            f"POST /api/v1/chat HTTP/1.1\r\nHost: test\r\nUser-Agent: {USER_AGENT}\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        )

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, message: str, *, stream: bool, **members: str) -> tuple[int, bytes]:
        """Send one message; gives the status and the whole body."""
        body = json.dumps({"message": message, **members}).encode()
        accept = f"Accept: {SSE['Accept']}\r\n" if stream else ""
        self._writer.write(f"{self._head}{accept}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split(" ", 2)[1])
        if "content-length: " in head:
            return status, await self._reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        whole = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            whole += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return status, whole


def text_of(body: bytes) -> str:
    """Give the text of a stream and check its form."""
    blocks = body.decode().removesuffix("\n\n").split("\n\n")
    events = [dict(part.split(": ", 1) for part in block.split("\n")) for block in blocks]
    assert [event["id"] for event in events] == [str(number) for number in range(1, len(events) + 1)]
    assert (events[0]["event"], events[-1]["event"]) == ("start", "done")
    assert json.loads(events[-1]["data"])["finish_reason"] == "complete"
    return "".join(json.loads(event["data"])["content"] for event in events[1:-1])


async def churn(server: ChatServer, client: ChatClient, lanes: int, rounds: int) -> None:
    """Let `lanes` clients chat `rounds` times each, streams and documents by turns, and check every answer."""

    async def chat(number: int) -> None:
        async with Lane(server, client.token) as lane:
            for turn in range(rounds):
                said = f"{number}-{turn}-" + "x" * ((number + turn) % 50)
                stream = (number + turn) % 2 == 0
                status, body = await lane.ask(said, stream=stream, message_id=str(uuid.uuid4()))
                assert status == 200, body
                text = text_of(body) if stream else json.loads(body)["content"]
                assert text == f"Echo: {said} 🙂"

    await asyncio.gather(*map(chat, range(lanes)))


@pytest.mark.alone
async def test_hundreds_of_chats_at_once_are_answered_right_and_leave_memory_flat(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient, *, long: bool
) -> None:
    # Kept replies are to fill their share in the warm-up, so that what grows afterwards is a leak.
    server = start_server(n8n, {"REPLY_MEMORY_BYTES": "1000000", "REPLY_MAX_BYTES": "100000", "LOG_LEVEL": "ERROR"})
    client = make_client(server)
    await client.session()
    n8n.answer(varied)
    await churn(server, client, lanes=200, rounds=5)
    await churn(server, client, lanes=200, rounds=1)
    n8n.requests.clear()
    memory = server.rss_bytes()
    rounds = 300 if long else 4
    await churn(server, client, lanes=200, rounds=rounds)
    assert len(n8n.requests) == 200 * rounds, "each workflow ran once"
    assert server.rss_bytes() < memory + 6_000_000
    await eventually(lambda: metric(server, "chatcore_readers") + metric(server, "chatcore_replies_in_flight") == 0)
    assert metric(server, "chatcore_crashes_total") == 0


@pytest.mark.alone
async def test_many_open_streams_cost_little_and_all_end(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient, *, long: bool
) -> None:
    count = 2000 if long else 300
    server = start_server(n8n, {"LOG_LEVEL": "ERROR"})
    client = make_client(server)
    await client.session()
    n8n.answer(varied)
    await churn(server, client, lanes=50, rounds=1)
    gate = Gate()
    n8n.answer(answer_stream(["first ", "second"], gap=gate))
    before = server.rss_bytes()
    async with contextlib.AsyncExitStack() as stack:
        lanes = [await stack.enter_async_context(Lane(server, client.token)) for _ in range(count)]
        asking = [asyncio.create_task(lane.ask("Hi", stream=True)) for lane in lanes]
        await eventually(lambda: metric(server, "chatcore_readers") == count, within=60)
        await eventually(lambda: len(n8n.requests) == 50 + count, within=60)
        each = (server.rss_bytes() - before) / count
        assert each < 40 * 1024, f"{each:.0f} bytes for each open stream"
        async with asyncio.timeout(2):
            assert (await client.http.get("/health/live")).status_code == 200
        gate.open()
        for status, body in await asyncio.gather(*asking):
            assert (status, text_of(body)) == (200, "first second")
    await eventually(lambda: metric(server, "chatcore_readers") == 0)


async def test_the_oldest_finished_replies_go_when_memory_is_short(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"REPLY_MEMORY_BYTES": "200000", "REPLY_MAX_BYTES": "50000"})
    client = make_client(server)
    await client.session()
    n8n.answer(answer_json({"output": "x" * 30_000}))
    ids = [str(uuid.uuid4()) for _ in range(12)]
    for message_id in ids:
        assert (await client.chat("Hi", message_id=message_id)).status_code == 200
    kept = [(await client.document(message_id)).status_code == 200 for message_id in ids]
    assert kept == sorted(kept), "the oldest went first"
    assert 3 <= sum(kept) <= 6
    assert metric(server, "chatcore_replies_evicted_total") == 12 - sum(kept)
    gone = await client.document(ids[0])
    assert (gone.status_code, gone.json()["code"]) == (404, "reply_gone")


async def test_when_running_replies_alone_fill_memory_it_is_overloaded_until_they_end(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"REPLY_MEMORY_BYTES": "200000", "REPLY_MAX_BYTES": "50000"})
    client = make_client(server)
    await client.session()
    gate = Gate()
    n8n.answer(answer_stream(["x" * 40_000, "end"], gap=gate))
    running = [asyncio.create_task(client.reply("Hi")) for _ in range(4)]
    await eventually(lambda: len(n8n.requests) == 4)
    await asyncio.sleep(0.3)
    late = await client.reply("Hi")
    if late.status == 200:  # there was room for its first words, and none for the rest
        assert [event.data["code"] for event in late.named("error")] == ["overloaded"]
    else:
        assert (late.status, late.problem["code"]) == (503, "overloaded")
        assert late.problem["retry_after"] >= 1
    gate.open()
    for task in running:
        reply = await task
        assert (reply.text, reply.finish_reason) == ("x" * 40_000 + "end", "complete")
    assert (await client.reply("Hi")).finish_reason == "complete"
    await eventually(lambda: metric(server, "chatcore_replies_in_flight") == 0)


async def test_too_many_replies_in_flight_are_refused_and_those_in_flight_unharmed(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"MAX_REPLIES_IN_FLIGHT": "50"})
    client = make_client(server)
    await client.session()
    gate = Gate()
    n8n.answer(hold(gate))
    async with contextlib.AsyncExitStack() as stack:
        lanes = [await stack.enter_async_context(Lane(server, client.token)) for _ in range(150)]
        asking = [asyncio.create_task(lane.ask("Hi", stream=number % 2 == 0)) for number, lane in enumerate(lanes)]
        await eventually(lambda: sum(task.done() for task in asking) == 100)
        assert (await client.http.get("/health")).status_code == 503
        assert (await client.http.get("/health/live")).status_code == 200
        gate.open()
        answers = await asyncio.gather(*asking)
    assert sorted(status for status, _ in answers) == [200] * 50 + [503] * 100
    assert {json.loads(body)["code"] for status, body in answers if status == 503} == {"overloaded"}
    assert len(n8n.requests) == 50
    assert (await client.http.get("/health")).status_code == 200
