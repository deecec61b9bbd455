"""Streaming that holds: the events, resume, retry, stop, readers that vanish."""

import asyncio
import uuid

import httpx
import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_json, answer_segments, answer_stream, cut, drop_before_head, hold
from tests.support.background import Gate
from tests.support.client import SSE, ChatClient, Reply
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer


def fresh_id() -> str:
    return str(uuid.uuid4())


async def test_a_stream_tells_start_text_and_end_in_numbered_events(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.answer(answer_stream(["Hello ", "wörld ", "🙂"], gap=0.05))
    message_id = fresh_id()
    reply = await visitor.reply("Hi", message_id=message_id)
    assert reply.status == 200
    assert [event.name for event in reply.events][:1] == ["start"]
    assert reply.events[0].data == {"message_id": message_id, "session_id": visitor.session_id}
    assert reply.text == "Hello wörld 🙂"
    assert [event.id for event in reply.events] == list(range(1, len(reply.events) + 1))
    done = reply.events[-1]
    assert done.name == "done"
    assert done.data["message_id"] == message_id
    assert done.data["finish_reason"] == "complete"
    assert 100 <= done.data["duration_ms"] < 5000
    assert len(reply.named("delta")) >= 2, "text flows as it comes"


async def test_a_stream_has_the_headers_that_proxies_need(visitor: ChatClient) -> None:
    reply = await visitor.reply("Hi")
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache, no-transform"
    assert reply.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in reply.headers
    assert "content-length" not in reply.headers


async def test_segments_are_joined_by_a_blank_line(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.answer(answer_segments(["one"], ["two ", "three"]))
    assert (await visitor.reply("Hi")).text == "one\n\ntwo three"
    assert (await visitor.chat("Hi")).json()["content"] == "one\n\ntwo three"


async def test_a_json_answer_of_n8n_streams_to_a_client_that_asked_for_it(
    visitor: ChatClient, n8n: ScriptedN8n
) -> None:
    n8n.answer(answer_json({"output": "whole"}))
    reply = await visitor.reply("Hi")
    assert (reply.text, reply.finish_reason) == ("whole", "complete")


async def test_a_stream_of_n8n_is_one_document_for_a_client_that_asked_for_json(visitor: ChatClient) -> None:
    message_id = fresh_id()
    answer = await visitor.chat("Hi", message_id=message_id)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    duration_ms = document.pop("duration_ms")
    assert isinstance(duration_ms, int)
    assert document == {
        "message_id": message_id,
        "session_id": visitor.session_id,
        "content": "Echo: Hi",
        "finish_reason": "complete",
    }


async def test_a_message_without_an_id_is_given_one(visitor: ChatClient) -> None:
    document = (await visitor.chat("Hi")).json()
    assert uuid.UUID(document["message_id"]).version == 4
    again = await visitor.document(document["message_id"])
    assert again.json()["content"] == "Echo: Hi"


async def test_an_error_before_any_text_has_its_real_status(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.answer(answer_json({"message": "Error in workflow"}, status=500))
    reply = await visitor.reply("Hi")
    assert reply.status == 502
    assert reply.problem["code"] == "upstream_error"
    assert "content" not in reply.problem


async def test_an_error_after_text_is_an_event_and_a_clean_end(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.answer(cut("some text"))
    reply = await visitor.reply("Hi")
    assert reply.status == 200
    assert reply.text == "some text"
    assert [event.name for event in reply.events[-2:]] == ["error", "done"]
    assert reply.events[-2].data["code"] == "upstream_invalid"
    assert reply.finish_reason == "error"
    assert [event.id for event in reply.events] == list(range(1, len(reply.events) + 1))


async def test_a_document_that_failed_after_text_holds_it(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.answer(cut("some text"))
    answer = await visitor.chat("Hi")
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "upstream_invalid"
    assert answer.json()["content"] == "some text"


async def test_a_reply_is_resumed_behind_the_last_event_without_loss_or_repetition(
    visitor: ChatClient, n8n: ScriptedN8n
) -> None:
    gate = Gate()
    n8n.answer(hold(gate, answer_stream(["c", "d"])))
    message_id = fresh_id()
    whole = await asyncio.gather(
        visitor.reply("Hi", message_id=message_id), _resume_soon(visitor, message_id, gate, after=1)
    )
    first, resumed = whole
    assert first.text == "cd"
    assert resumed.text == "cd"
    for after in range(first.last_id):
        part = await visitor.resume(message_id, after or None)
        assert [event.id for event in part.events] == list(range(after + 1, first.last_id + 1))
    assert (await visitor.resume(message_id, first.last_id)).status == 204
    assert (await visitor.resume(message_id, first.last_id + 7)).status == 204
    assert len(n8n.requests) == 1


async def _resume_soon(visitor: ChatClient, message_id: str, gate: Gate, after: int) -> Reply:
    while (await visitor.document(message_id)).status_code == 404:
        await asyncio.sleep(0.01)
    assert (await visitor.document(message_id)).json() == {"status": "running"}
    assert (await visitor.document(message_id)).status_code == 202
    assert (await visitor.document(message_id)).headers["retry-after"] == "1"
    task = asyncio.create_task(visitor.resume(message_id, after))
    await asyncio.sleep(0.05)
    gate.open()
    return await task


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "٣", "9" * 30])
async def test_a_last_event_id_that_is_no_number_is_refused(visitor: ChatClient, last: str) -> None:
    message_id = (await visitor.chat("Hi")).json()["message_id"]
    answer = await visitor.http.get(
        f"/api/v1/chat/{message_id}",
        headers=[
            (b"authorization", f"Bearer {visitor.token}".encode()),
            (b"accept", SSE["Accept"].encode()),
            (b"last-event-id", last.encode()),
        ],
    )
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "Last-Event-ID"


async def test_a_retry_joins_the_running_reply_and_the_workflow_runs_once(
    visitor: ChatClient, n8n: ScriptedN8n
) -> None:
    gate = Gate()
    n8n.answer(hold(gate, answer_stream(["once"])))
    message_id = fresh_id()
    tasks = [asyncio.create_task(visitor.reply("Hi", message_id=message_id)) for _ in range(10)]
    tasks += [asyncio.create_task(visitor.reply("Hi", message_id=message_id.upper()))]
    await asyncio.sleep(0.3)
    gate.open()
    replies = await asyncio.gather(*tasks)
    assert {reply.text for reply in replies} == {"once"}
    assert len(n8n.requests) == 1
    kept = await visitor.chat("Hi", message_id=message_id)
    assert kept.json()["content"] == "once"
    assert len(n8n.requests) == 1


async def test_the_same_id_with_another_text_is_refused(visitor: ChatClient) -> None:
    message_id = fresh_id()
    await visitor.chat("Hi", message_id=message_id)
    answer = await visitor.chat("Ho", message_id=message_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "message_id_reused")


async def test_a_failed_reply_is_kept_too(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.answer(answer_json({"message": "Error in workflow"}, status=500))
    message_id = fresh_id()
    for _ in range(3):
        assert (await visitor.chat("Hi", message_id=message_id)).json()["code"] == "upstream_error"
    assert len(n8n.requests) == 1
    document = (await visitor.document(message_id)).json()
    assert document["finish_reason"] == "error"
    assert document["error"]["code"] == "upstream_error"
    resumed = await visitor.resume(message_id)
    assert [event.name for event in resumed.events] == ["start", "error", "done"]


async def test_a_request_that_n8n_may_have_taken_is_not_repeated(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.answer(drop_before_head())
    message_id = fresh_id()
    first = await visitor.chat("Hi", message_id=message_id)
    assert (first.status_code, first.json()["code"]) == (503, "upstream_unavailable")
    assert (await visitor.chat("Hi", message_id=message_id)).json()["code"] == "upstream_unavailable"
    assert len(n8n.requests) == 1


async def test_a_refused_connection_is_not_kept_so_the_same_id_runs(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.refuse()
    message_id = fresh_id()
    first = await visitor.chat("Hi", message_id=message_id)
    assert (first.status_code, first.json()["code"]) == (503, "upstream_unavailable")
    assert (await visitor.document(message_id)).status_code == 404
    n8n.listen()
    assert (await visitor.chat("Hi", message_id=message_id)).json()["content"] == "Echo: Hi"


async def test_head_tells_of_a_running_reply_without_waiting_for_it(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.answer(answer_stream(["a", "b"], gap=gate))
    message_id = fresh_id()
    async with visitor.stream("Hi", message_id=message_id) as stream:
        await stream.next("delta")
        asked = {"Authorization": f"Bearer {visitor.token}", **SSE}
        answer = await asyncio.wait_for(visitor.http.head(f"/api/v1/chat/{message_id}", headers=asked), 5)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        gate.open()
        await stream.next("done")


async def test_stop_ends_the_stream_and_hangs_up_on_n8n(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.answer(answer_stream(["said", "never said"], gap=gate))
    message_id = fresh_id()
    async with visitor.stream("Hi", message_id=message_id) as stream:
        await stream.next("delta")
        assert (await visitor.stop(message_id)).status_code == 204
        done = await stream.next("done")
        assert done.data["finish_reason"] == "stopped"
    assert (await visitor.stop(message_id)).status_code == 204
    document = (await visitor.document(message_id)).json()
    assert (document["content"], document["finish_reason"]) == ("said", "stopped")
    async with asyncio.timeout(3):
        while not n8n.hangups:
            await asyncio.sleep(0.01)


async def test_nobody_reads_or_stops_a_strangers_reply(
    server: ChatServer, n8n: ScriptedN8n, visitor: ChatClient, make_client: MakeClient
) -> None:
    stranger = make_client(server)
    await stranger.session()
    gate = Gate()
    n8n.answer(hold(gate, answer_stream(["mine"])))
    message_id = fresh_id()
    task = asyncio.create_task(visitor.reply("Hi", message_id=message_id))
    await asyncio.sleep(0.2)
    for answer in (
        await stranger.document(message_id),
        await stranger.stop(message_id),
        await stranger.document(fresh_id()),
        await visitor.stop(fresh_id()),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "reply_gone")
    gate.open()
    assert (await task).finish_reason == "complete"


async def test_a_client_that_vanishes_does_not_stop_its_reply(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.answer(answer_stream(["before ", "after"], gap=gate))
    message_id = fresh_id()
    async with visitor.stream("Hi", message_id=message_id) as stream:
        await stream.next("delta")
    await asyncio.sleep(0.1)
    gate.open()
    async with asyncio.timeout(5):
        while (answer := await visitor.document(message_id)).status_code == 202:
            await asyncio.sleep(0.02)
    assert answer.json()["content"] == "before after"
    assert answer.json()["finish_reason"] == "complete"
    assert n8n.hangups == 0


async def test_too_many_replies_in_flight_are_refused_and_not_kept(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"MAX_REPLIES_IN_FLIGHT": "2"})
    client = make_client(server)
    await client.session()
    gate = Gate()
    n8n.answer(hold(gate, answer_stream(["late"])))
    tasks = [asyncio.create_task(client.reply("Hi")) for _ in range(2)]
    await asyncio.sleep(0.2)
    message_id = fresh_id()
    refused = await client.chat("Hi", message_id=message_id)
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) == refused.json()["retry_after"]
    health = await client.http.get("/health")
    assert health.status_code == 503
    gate.open()
    assert all(reply.text == "late" for reply in await asyncio.gather(*tasks))
    assert (await client.chat("Hi", message_id=message_id)).json()["content"] == "late"


async def test_a_reply_over_its_limit_ends_with_its_own_error(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"REPLY_MAX_BYTES": "20000"})
    client = make_client(server)
    await client.session()
    n8n.answer(answer_stream(["x" * 1000] * 30, gap=0.002))
    reply = await client.reply("Hi")
    assert reply.events[-2].data["code"] == "reply_too_large"
    assert 0 < len(reply.text) <= 20000
    n8n.answer(answer_json({"output": "x" * 500_000}))
    refused = await client.chat("Hi")
    assert (refused.status_code, refused.json()["code"]) == (502, "reply_too_large")


async def test_kept_replies_go_after_their_time(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"REPLY_KEEP_SECONDS": "1"})
    client = make_client(server)
    await client.session()
    message_id = (await client.chat("Hi")).json()["message_id"]
    assert (await client.document(message_id)).status_code == 200
    async with asyncio.timeout(5):
        while (answer := await client.document(message_id)).status_code == 200:
            await asyncio.sleep(0.1)
    assert (answer.status_code, answer.json()["code"]) == (404, "reply_gone")


async def test_erasing_a_session_stops_and_drops_its_replies(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    message_id = (await visitor.chat("Hi")).json()["message_id"]
    n8n.answer(answer_stream(["a", "b"], gap=Gate()))
    async with visitor.stream("Hi") as stream:
        await stream.next("delta")
        answer = await visitor.http.delete("/api/v1/session", headers={"Authorization": f"Bearer {visitor.token}"})
        assert answer.status_code == 204
        assert (await stream.next("done")).data["finish_reason"] == "stopped"
    assert (await visitor.document(message_id)).status_code == 404


async def test_a_long_silence_is_filled_with_heartbeats(
    visitor: ChatClient, n8n: ScriptedN8n, server: ChatServer, make_client: MakeClient
) -> None:
    gate = Gate()
    n8n.answer(hold(gate, answer_stream(["at last"])))
    streaming = asyncio.create_task(visitor.reply("Hi"))
    document = asyncio.create_task(_raw_document(visitor))
    other = make_client(server)
    await other.session()
    erased = asyncio.create_task(_raw_document(other))
    await asyncio.sleep(16.5)
    await other.http.delete("/api/v1/session", headers={"Authorization": f"Bearer {other.token}"})
    gone = await erased
    assert gone.status_code == 200, "decided by the silence"
    assert (gone.json()["content"], gone.json()["finish_reason"]) in {("", "stopped"), ("", "error")}
    assert not server.crashes, server.crashes
    gate.open()
    reply = await streaming
    assert reply.status == 200
    assert reply.events[0].name == "start"
    assert reply.named(":"), "a ping after 15 s"
    assert reply.named(":")[0].data == "ping"
    assert (reply.text, reply.finish_reason) == ("at last", "complete")
    answer = await document
    assert answer.status_code == 200
    assert answer.content.startswith(b" ")
    assert answer.json()["content"] == "at last"


async def _raw_document(visitor: ChatClient) -> httpx.Response:
    return await visitor.chat("Hi there")
