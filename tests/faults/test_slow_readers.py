"""Clients that read slowly, not at all, or vanish: others are undisturbed, memory is bounded, nothing is lost."""

import asyncio
import json
import socket
import uuid

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import Answer, answer_bytes, answer_stream, line
from tests.support.background import eventually
from tests.support.client import SSE, USER_AGENT, ChatClient, Reply
from tests.support.faultproxy import FaultProxy
from tests.support.n8n import Request, ScriptedN8n
from tests.support.rawhttp import RawClient
from tests.support.server import ChatServer

PIECE = "".join(f"{number:04d}." for number in range(200))
PIECES = 4000
LARGE = PIECE * PIECES
SMALL_PIECES = 20
GAP = 0.05


def large_or_small(request: Request) -> Answer:
    """Answer `large` with 4 MB at once, anything else with twenty words, one each 50 ms."""
    if request.text == "large":
        lines = [line("item", PIECE) for _ in range(PIECES)]
        parts = [b"".join(lines[start : start + 50]) for start in range(0, PIECES, 50)]
        return answer_bytes(line("begin"), *parts, line("end"))
    return answer_stream(["word "] * SMALL_PIECES, gap=GAP)


def metric(server: ChatServer, name: str) -> float:
    """Give the value of a metric without labels."""
    with RawClient(server.url) as client:
        lines = client.get("/metrics").body.decode().splitlines()
    return next(float(line.split(" ")[1]) for line in lines if line.startswith(f"{name} "))


def ask_and_read_nothing(server: ChatServer, client: ChatClient, message_id: str) -> RawClient:
    """Ask for the large reply on a connection whose bytes nobody takes."""
    silent = RawClient(server.url, timeout=30)
    silent.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or the kernel takes it all
    body = json.dumps({"message": "large", "message_id": message_id})
    head = (
        f"POST /api/v1/chat HTTP/1.1\r\nHost: test\r\nUser-Agent: {USER_AGENT}\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {client.token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    silent.send((head + body).encode())
    return silent


def check_large(reply: Reply) -> None:
    assert reply.status == 200
    assert [event.id for event in reply.events] == list(range(1, len(reply.events) + 1))
    assert reply.text == LARGE
    assert reply.finish_reason == "complete"


def late(reply: Reply) -> float:
    """Give the seconds by which a small reply's last words came too late."""
    deltas = reply.named("delta")
    return deltas[-1].at - deltas[0].at - GAP * (SMALL_PIECES - 1)


@pytest.mark.alone
async def test_others_are_undisturbed_by_clients_that_read_nothing(
    server: ChatServer, visitor: ChatClient, n8n: ScriptedN8n
) -> None:
    n8n.answer(large_or_small)
    await asyncio.gather(*(visitor.reply("small") for _ in range(20)))
    before = server.rss_bytes()
    ids = [str(uuid.uuid4()) for _ in range(3)]
    silent = [ask_and_read_nothing(server, visitor, one) for one in ids]
    replies = await asyncio.gather(*(visitor.reply("small") for _ in range(20)))
    for reply in replies:
        assert reply.text == "word " * SMALL_PIECES
        assert max(len(event.data["content"]) for event in reply.named("delta")) < 50, "words come one by one"
    assert max(map(late, replies)) < 1.0
    grown = server.rss_bytes() - before
    assert grown < 3 * 4 * len(LARGE), "each reply once, whoever reads it"
    await eventually(lambda: metric(server, "chatcore_replies_in_flight") == 0)
    assert metric(server, "chatcore_readers") == 3
    for client, message_id in zip(silent, ids, strict=True):
        client.close()
        check_large(await visitor.resume(message_id))
    await eventually(lambda: metric(server, "chatcore_readers") == 0)


async def test_a_reader_that_was_slow_gets_every_byte_in_order(
    server: ChatServer, make_client: MakeClient, visitor: ChatClient, n8n: ScriptedN8n
) -> None:
    n8n.answer(large_or_small)
    with FaultProxy(server.port) as slow:
        slow.bytes_per_second = 4_000_000
        client = ChatClient(slow.url)
        client.token = visitor.token
        check_large(await client.reply("large"))
        await client.close()
        frozen = ChatClient(slow.url)
        frozen.token = visitor.token
        slow.bytes_per_second = 0
        async with frozen.stream("large") as stream:
            first = await stream.next("delta")
            slow.frozen = True
            await asyncio.sleep(0.5)
            quick = await make_and_reply(server, make_client, visitor)
            slow.frozen = False
            reply = Reply(stream.status, stream.headers, [event async for event in stream])
        assert first.data["content"] + reply.text == LARGE
        await frozen.close()
    assert quick.finish_reason == "complete"


async def make_and_reply(server: ChatServer, make_client: MakeClient, visitor: ChatClient) -> Reply:
    """Read a small reply with a client of its own."""
    client = make_client(server)
    client.token = visitor.token
    return await client.reply("small")


async def test_a_reader_that_stalls_is_cut_after_a_minute_and_may_resume(
    server: ChatServer, visitor: ChatClient, n8n: ScriptedN8n, *, long: bool
) -> None:
    n8n.answer(large_or_small)
    message_id = str(uuid.uuid4())
    silent = ask_and_read_nothing(server, visitor, message_id)
    await eventually(lambda: metric(server, "chatcore_replies_in_flight") == 0 and len(n8n.requests) == 1)
    await asyncio.sleep(55 if long else 1)
    assert metric(server, "chatcore_readers") == 1
    assert metric(server, "chatcore_readers_stalled_total") == 0
    if long:
        await eventually(lambda: metric(server, "chatcore_readers_stalled_total") == 1, within=15)
        await eventually(lambda: metric(server, "chatcore_readers") == 0)
    silent.close()
    check_large(await visitor.resume(message_id))


@pytest.mark.parametrize("after_bytes", [1, 1000, 100_000, 1_000_000])
async def test_a_reset_in_the_middle_loses_nothing_that_can_be_resumed(
    server: ChatServer, visitor: ChatClient, n8n: ScriptedN8n, after_bytes: int
) -> None:
    n8n.answer(large_or_small)
    message_id = str(uuid.uuid4())
    body = {"message": "large", "message_id": message_id}
    events: list[str] = []
    with FaultProxy(server.port) as proxy:
        proxy.cut_after = after_bytes
        with RawClient(proxy.url) as client:
            data = json.dumps(body).encode()
            head = "\r\n".join(
                [
                    "POST /api/v1/chat HTTP/1.1",
                    "Host: test",
                    f"User-Agent: {USER_AGENT}",
                    f"Authorization: Bearer {visitor.token}",
                    "Content-Type: application/json",
                    f"Accept: {SSE['Accept']}",
                    f"Content-Length: {len(data)}",
                    "",
                    "",
                ]
            )
            client.send(head.encode() + data)
            received = client.rest()
    assert len(received) <= after_bytes
    # What a browser would have: whole events alone. Chunk sizes fall between lines, so ids can be counted.
    events = [part for part in received.decode("utf-8", "replace").split("\n") if part.startswith("id: ")]
    last = max(len(events) - 1, 0)
    rest = await visitor.resume(message_id, after=last or None)
    assert rest.events[0].id == last + 1
    assert [event.id for event in rest.events] == list(range(last + 1, last + 1 + len(rest.events)))
    assert LARGE.endswith(rest.text)
    assert rest.finish_reason == "complete"
    check_large(await visitor.resume(message_id))


async def test_replies_of_clients_that_vanish_are_read_to_their_end_and_nothing_is_left(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n)
    client = make_client(server)
    await client.session()
    n8n.answer(answer_stream(["one ", "two"], gap=1.0))
    descriptors = server.descriptors()
    ids = [str(uuid.uuid4()) for _ in range(200)]

    documents = [asyncio.create_task(client.chat("Hi", message_id=one)) for one in ids[:50]]
    await eventually(lambda: len(n8n.requests) == 50)
    for document in documents:
        document.cancel()
    await asyncio.gather(*documents, return_exceptions=True)

    async def vanish(message_id: str) -> None:
        async with client.stream("Hi", message_id=message_id) as stream:
            await stream.next("delta")

    await asyncio.gather(*map(vanish, ids[50:]))
    await eventually(lambda: metric(server, "chatcore_readers") == 0)
    await eventually(lambda: metric(server, "chatcore_replies_in_flight") == 0)
    assert (len(n8n.requests), n8n.hangups) == (200, 0)
    for message_id in ids:
        assert (await client.document(message_id)).json()["content"] == "one two"
    await eventually(lambda: n8n.open_connections == 0, within=2.5)
    await client.close()
    await eventually(lambda: server.descriptors() <= descriptors + 4, within=5)
