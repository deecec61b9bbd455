"""Traces as a collector gets them: one from the request to n8n for every contract, and nothing private in it."""

import asyncio
import json
import re
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.support.answers import Answer, Stall, answer_json, answer_text, cut, drop_before_head, hold, stall
from tests.support.background import Gate, eventually
from tests.support.client import USER_AGENT, ChatClient
from tests.support.collector import Collector
from tests.support.n8n import PATH, Request, ScriptedN8n
from tests.support.openai_sdk import KEY, KEYS
from tests.support.server import ROOT, ChatServer
from tests.support.uploads import ON, PNG, file, message, send

TEXT = "what-nobody-but-n8n-may-read"
OF_STORES = {"chatcore.store.writing", "chatcore.store.written"}
TABLE = re.compile(r"^\| `([^`|]+)`[^|]*\| (server|internal|client) \|[^|]*\|([^|]*)\|([^|]*)\|$", re.MULTILINE)


@dataclass
class Traced:
    """A server with traces between a scripted n8n and a scripted collector."""

    n8n: ScriptedN8n
    server: ChatServer
    collector: Collector

    def asked(self, trace: str) -> list[Request]:
        """Give what n8n was asked in a trace."""
        return [one for one in self.n8n.requests if one.headers.get("traceparent", "").split("-")[1:2] == [trace]]


@pytest.fixture(name="traced", scope="module")
def _traced() -> Iterator[Traced]:
    with ScriptedN8n() as n8n, Collector() as collector:
        told = {"N8N_WEBHOOK_URL": n8n.url, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **KEYS, **ON}
        with ChatServer(told) as server:
            yield Traced(n8n, server, collector)


@pytest.fixture(name="client")
async def _client(traced: Traced) -> AsyncIterator[ChatClient]:
    async with ChatClient(traced.server.url) as client:
        assert (await client.session()).status_code == 201
        yield client


def parent(flags: str = "01") -> tuple[str, str, dict[str, str]]:
    """Give the id of a fresh trace and of a span in it, and the headers that tell them."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, {"traceparent": f"00-{trace}-{span}-{flags}", "tracestate": "other=1, more=x"}


def has_protobuf(server: ChatServer) -> bool:
    """Tell whether the process has loaded what traces need (Linux)."""
    return "/google/" in Path(f"/proc/{server.process.pid}/maps").read_text("ascii")


def authorized(client: ChatClient, headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "Authorization": f"Bearer {client.token}", "User-Agent": USER_AGENT}


def checked(response: httpx.Response) -> None:
    assert response.status_code == 200, response.text


async def by_stream(client: ChatClient, headers: Mapping[str, str]) -> None:
    reply = await client.reply(TEXT, headers)
    assert reply.finish_reason == "complete"


async def by_document(client: ChatClient, headers: Mapping[str, str]) -> None:
    checked(await client.chat(TEXT, headers))


async def by_upload(client: ChatClient, headers: Mapping[str, str]) -> None:
    checked(await send(client, message(TEXT), file(PNG, "a.png", "image/png"), headers=headers))


async def by_widget(client: ChatClient, headers: Mapping[str, str]) -> None:
    body = {"action": "sendMessage", "sessionId": secrets.token_hex(16), "chatInput": TEXT}
    checked(await client.http.post("/chat", json=body, headers=headers))


async def by_program(client: ChatClient, headers: Mapping[str, str], *, stream: bool = False) -> None:
    body = {"model": "default", "messages": [{"role": "user", "content": TEXT}], "stream": stream}
    asked = {**headers, "Authorization": f"Bearer {KEY}"}
    checked(await client.http.post("/v1/chat/completions", json=body, headers=asked))


async def by_program_in_pieces(client: ChatClient, headers: Mapping[str, str]) -> None:
    await by_program(client, headers, stream=True)


WAYS: Mapping[Callable[[ChatClient, Mapping[str, str]], Awaitable[None]], str] = {
    by_stream: "/api/v1/chat",
    by_document: "/api/v1/chat",
    by_upload: "/api/v1/chat",
    by_widget: "/chat",
    by_program: "/v1/chat/completions",
    by_program_in_pieces: "/v1/chat/completions",
}


async def test_one_trace_goes_from_the_request_to_n8n(traced: Traced, client: ChatClient) -> None:
    traced.n8n.answer(answer_text("Answer"))
    begun = [(way, route, parent()) for way, route in WAYS.items()]
    for way, _, (_, _, headers) in begun:
        await way(client, headers)
    for _, route, (trace, above, _) in begun:
        request, reply, call = await asyncio.to_thread(traced.collector.trace, trace, 3)
        assert [span.name for span in (request, reply, call)] == [f"POST {route}", "reply", "POST"]
        assert [span.kind for span in (request, reply, call)] == ["server", "internal", "client"]
        assert [span.parent for span in (request, reply, call)] == [above, request.id, reply.id]
        assert {span.state for span in (request, reply, call)} == {"other=1, more=x"}
        assert request.began <= reply.began <= call.began <= call.ended <= reply.ended
        assert not any(span.failed or span.links for span in (request, reply, call))
        assert request.attributes["http.response.status_code"] == 200
        assert reply.attributes == {"chatcore.bot": "default", "chatcore.finish_reason": "complete"}
        assert reply.began <= reply.events["chatcore.first_text"] <= reply.ended
        [asked] = traced.asked(trace)
        assert asked.headers["traceparent"] == f"00-{trace}-{call.id}-01"
        assert asked.headers["tracestate"] == "other=1, more=x"


async def test_a_request_without_a_trace_begins_one(traced: Traced, client: ChatClient) -> None:
    traced.n8n.answer(answer_text("Answer"))
    for headers in ({}, {"traceparent": "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "tracestate": "other=1"}):
        await by_document(client, headers)
    told = [one.headers["traceparent"].split("-")[1] for one in traced.n8n.requests[-2:]]
    assert len(set(told)) == 2
    for trace in told:
        request, *_ = await asyncio.to_thread(traced.collector.trace, trace, 3)
        assert (request.parent, request.state) == ("", "")
        assert set(trace) != {"0"}


async def test_a_reply_outlives_its_request(traced: Traced, client: ChatClient) -> None:
    gate = Gate()
    traced.n8n.next(hold(gate, answer_text("Answer")))
    trace, _, headers = parent()
    message_id = "5b7f0c0e-7b1c-4a52-9b6e-1d0a2f6e9a01"
    sending = asyncio.create_task(client.chat(TEXT, headers, message_id=message_id))
    await eventually(lambda: traced.asked(trace))
    sending.cancel()
    [request] = await asyncio.to_thread(traced.collector.wait, "POST /api/v1/chat", 1, trace)
    assert request.attributes["chatcore.code"] == "client_gone"
    assert not request.failed
    gate.open()
    request, reply, call = await asyncio.to_thread(traced.collector.trace, trace, 3)
    assert (reply.parent, call.parent) == (request.id, reply.id)
    assert request.ended < reply.ended
    assert reply.attributes["chatcore.finish_reason"] == "complete"


async def test_retries_and_resumptions_are_linked_to_the_reply(traced: Traced, client: ChatClient) -> None:
    traced.n8n.answer(answer_text("Answer"))
    first, retry, resume, document = (parent() for _ in range(4))
    message_id = "5b7f0c0e-7b1c-4a52-9b6e-1d0a2f6e9a02"
    checked(await client.chat(TEXT, first[2], message_id=message_id))
    checked(await client.chat(TEXT, retry[2], message_id=message_id))
    assert (await client.resume(message_id, 1, resume[2])).finish_reason == "complete"
    checked(await client.http.get(f"/api/v1/chat/{message_id}", headers=authorized(client, document[2])))
    assert len(traced.asked(first[0])) == 1
    _, reply, _ = await asyncio.to_thread(traced.collector.trace, first[0], 3)
    for trace, above, _ in (retry, resume, document):
        [request] = await asyncio.to_thread(traced.collector.trace, trace, 1)
        assert request.links == [(first[0], reply.id)]
        assert request.parent == above
        assert not traced.asked(trace)


async def test_a_stop_is_no_failure(traced: Traced, client: ChatClient) -> None:
    trace, _, headers = parent()
    stop, _, asking = parent()
    traced.n8n.next(stall("Begun"))
    async with client.stream(TEXT, headers) as stream:
        message_id = (await stream.next("start")).data["message_id"]
        await stream.next("delta")
        stopped = await client.http.delete(f"/api/v1/chat/{message_id}", headers=authorized(client, asking))
        assert stopped.status_code == 204
    _, reply, call = await asyncio.to_thread(traced.collector.trace, trace, 3)
    assert reply.attributes["chatcore.finish_reason"] == "stopped"
    assert call.attributes["http.response.status_code"] == 200
    assert [reply.failed, call.failed] == [False, False]
    [request] = await asyncio.to_thread(traced.collector.trace, stop, 1)
    assert request.name == "DELETE /api/v1/chat/{message_id}"
    assert request.links == [(trace, reply.id)]


async def test_a_stop_before_n8n_answers_is_seen(traced: Traced, client: ChatClient) -> None:
    trace, _, headers = parent()
    traced.n8n.next(Answer((Stall(),)))
    message_id = str(uuid.uuid4())
    sending = asyncio.create_task(client.reply(TEXT, headers, message_id=message_id))
    await eventually(lambda: traced.asked(trace))
    assert (await client.stop(message_id)).status_code == 204
    await sending
    _, reply, call = await asyncio.to_thread(traced.collector.trace, trace, 3)
    assert set(call.events) == {"chatcore.cancelled"}
    assert "http.response.status_code" not in call.attributes
    assert [reply.failed, call.failed] == [False, False]


async def test_a_failure_is_told_where_it_happened(traced: Traced, client: ChatClient) -> None:
    cases = [
        (answer_json({"message": "Error in workflow"}, 500), 502, "upstream_error", "500"),
        (answer_text("", 200), 502, "upstream_empty", None),
        (drop_before_head(), 503, "upstream_unavailable", "ServerDisconnectedError"),
        (cut("Begun"), 502, "upstream_invalid", "ClientPayloadError"),
    ]
    begun = [(parent(), *case) for case in cases]
    for (_, _, headers), answer, status, _, _ in begun:
        traced.n8n.next(answer)
        assert (await client.chat(TEXT, headers)).status_code == status
    for (trace, _, _), _, status, code, of_call in begun:
        request, reply, call = await asyncio.to_thread(traced.collector.trace, trace, 3)
        assert request.attributes["http.response.status_code"] == status
        assert request.attributes["chatcore.code"] == request.attributes["error.type"] == code
        assert reply.attributes["chatcore.finish_reason"] == "error"
        assert reply.attributes["error.type"] == code
        assert call.attributes.get("error.type") == of_call
        assert (request.failed, reply.failed, call.failed) == (True, True, of_call is not None)


async def test_a_refused_request_is_no_failure_of_the_server(traced: Traced, client: ChatClient) -> None:
    trace, _, headers = parent()
    assert (await client.http.post("/api/v1/chat", json={}, headers=headers)).status_code == 401
    nowhere, _, headers = parent()
    assert (await client.http.get(f"/{TEXT}", headers=headers)).status_code == 404
    [request] = await asyncio.to_thread(traced.collector.trace, trace, 1)
    assert request.attributes["chatcore.code"] == "token_missing"
    assert not request.failed
    [request] = await asyncio.to_thread(traced.collector.trace, nowhere, 1)
    assert request.name == "GET"
    assert "http.route" not in request.attributes


async def test_requests_of_one_connection_and_parallel_ones_do_not_mix(traced: Traced, client: ChatClient) -> None:
    traced.n8n.answer(answer_text("Answer"))
    one_connection = httpx.AsyncClient(
        base_url=traced.server.url, limits=httpx.Limits(max_connections=1), trust_env=False, timeout=30.0
    )
    traces = [parent() for _ in range(40)]
    async with one_connection as http:
        for number, (_, _, headers) in enumerate(traces[:8]):
            body = {"message": f"{TEXT} {number}"}
            checked(await http.post("/api/v1/chat", json=body, headers=authorized(client, headers)))
    parallel = [client.reply(f"{TEXT} {number}", traces[number][2]) for number in range(8, 40)]
    await asyncio.gather(*parallel)
    for number, (trace, above, _) in enumerate(traces):
        request, reply, call = await asyncio.to_thread(traced.collector.trace, trace, 3)
        assert [request.parent, reply.parent, call.parent] == [above, request.id, reply.id]
        [asked] = traced.asked(trace)
        assert asked.text == f"{TEXT} {number}"
        assert asked.headers["traceparent"].split("-")[2] == call.id


async def test_log_lines_tell_their_trace_and_those_of_probes_none(traced: Traced, client: ChatClient) -> None:
    traced.n8n.answer(answer_text("Answer"))
    trace, _, headers = parent()
    body = json.dumps({"message": TEXT})
    asked = {**authorized(client, headers), "Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in asked.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", traced.server.port)
    probe = "GET /health/live HTTP/1.1\r\nHost: x\r\nX-Request-ID: the-probe\r\nConnection: close\r\n\r\n"
    writer.write(f"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\n{head}\r\n{body}{probe}".encode())
    assert (await reader.read()).count(b"HTTP/1.1 200") == 2  # the probe came behind the message, at once
    writer.close()
    request, reply, _ = await asyncio.to_thread(traced.collector.trace, trace, 3)
    lines = [json.loads(line) for line in traced.server.log.splitlines()]
    ids = {line["event"]: (line["trace_id"], line["span_id"]) for line in lines if line.get("trace_id") == trace}
    assert ids == {"RequestEnded": (trace, request.id), "ReplyEnded": (trace, reply.id)}
    [of_probe] = [line for line in lines if line["request_id"] == "the-probe"]
    assert not {"trace_id", "span_id"} & set(of_probe)
    assert not [span for span in traced.collector.spans if "/health" in span.name]


async def test_everything_is_described_and_nothing_private_leaves(traced: Traced, client: ChatClient) -> None:
    headers = parent()[2]
    message_id = str(uuid.uuid4())
    private = {"Origin": traced.server.url, "User-Agent": USER_AGENT, "X-Forwarded-For": "198.51.100.77"}
    page = "https://shop.example/some-page"
    traced.n8n.next(answer_text("Answer-for-one-person-alone"))
    checked(await client.chat(TEXT, {**headers, **private}, message_id=message_id, page_url=page))
    checked(await client.document(message_id))
    await send(client, message(TEXT), file(PNG, "private.png", "image/png"))
    traced.n8n.next(answer_json({"message": "Error-for-nobody"}, 500), Answer((Stall(),)))
    assert (await client.chat(TEXT)).status_code == 502
    stopped, asked = str(uuid.uuid4()), len(traced.n8n.requests)
    sending = asyncio.create_task(client.reply(TEXT, message_id=stopped))
    await eventually(lambda: len(traced.n8n.requests) > asked)
    await client.stop(stopped)
    await sending
    trace, _, headers = parent()
    await client.http.get("/nothing", headers=headers)
    await asyncio.to_thread(traced.collector.trace, trace, 1)  # all that ended before has come too
    body = b"".join(request.body for request in traced.collector.requests)
    assert client.token is not None
    assert client.session_id is not None
    names = [
        TEXT,
        "Answer-for",
        "Error-for",
        message_id,
        client.token,
        client.session_id,
        KEY,
        PATH,
        page,
        "private.png",
    ]
    assert not [name for name in [*names, *private.values()] if name.encode() in body]
    told = {
        name: (kind, set(re.findall(r"`([^`]+)`", attributes)), set(re.findall(r"`([^`]+)`", events)))
        for name, kind, attributes, events in TABLE.findall((ROOT / "docs" / "tracing.md").read_text("utf-8"))
    }
    assert {kind for kind, _, _ in told.values()} == {"server", "internal", "client"}
    for kind, attributes, events in told.values():
        spans = [span for span in traced.collector.spans if span.kind == kind]
        assert {name for span in spans for name in span.attributes} == attributes
        assert {name for span in spans for name in span.events} == events - OF_STORES
    resources = [span.resource for span in traced.collector.spans]
    assert all(resource == resources[0] for resource in resources)
    assert set(resources[0]) == {"service.name", "service.version", "service.instance.id"}
    assert {request.path for request in traced.collector.requests} == {"/v1/traces"}


async def test_a_store_tells_how_long_it_took(n8n: ScriptedN8n, start_server: StartServer) -> None:
    with Collector() as collector:
        server = start_server(n8n, {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/"}, main="main_sqlite.py")
        async with ChatClient(server.url) as client:
            await client.session()
            await by_document(client, {})
        assert server.stop() == 0
        [reply] = collector.named("reply")
    assert set(reply.events) == {"chatcore.first_text", *OF_STORES}
    assert reply.events["chatcore.store.writing"] <= reply.events["chatcore.store.written"] <= reply.ended


async def test_each_worker_tells_its_own(n8n: ScriptedN8n, start_server: StartServer) -> None:
    told = {
        "PYTHONPATH": str(ROOT),
        "PYTHONSAFEPATH": "1",
        "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d",
        "REDIS_URL": "redis://127.0.0.1:1",
    }
    with Collector() as collector:
        told["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        server = start_server(n8n, told, main="tests/support/serve_workers.py", options=["--workers", "2"])

        async def instances() -> set[str]:
            async with ChatClient(server.url) as client:
                await client.http.post("/api/v1/session")
            return {span.resource["service.instance.id"] for span in tuple(collector.spans)}

        async with asyncio.timeout(30):
            while len(await instances()) < 2:
                pass
        assert server.stop() == 0


async def test_without_a_collector_nothing_is_loaded_and_nothing_handed_on(
    n8n: ScriptedN8n, start_server: StartServer, traced: Traced
) -> None:
    off = start_server(n8n)
    async with ChatClient(off.url) as client:
        await client.session()
        await by_document(client, parent()[2])
    assert not {"traceparent", "tracestate"} & set(n8n.requests[0].headers)
    assert "trace_id" not in off.log
    assert [has_protobuf(server) for server in (off, traced.server)] == [False, True]


async def test_what_is_not_recorded_is_handed_on_as_that(n8n: ScriptedN8n, start_server: StartServer) -> None:
    trace, _, headers = parent("01")
    with Collector() as collector:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER_ARG": "0"}
        server = start_server(n8n, told)
        async with ChatClient(server.url) as client:
            await client.session()
            await by_document(client, headers)
        assert server.stop() == 0
        assert not collector.requests
    given = n8n.requests[0].headers["traceparent"].split("-")
    assert (given[1], given[3]) == (trace, "00")


async def test_n8n_is_told_and_nobody_else(n8n: ScriptedN8n, start_server: StartServer) -> None:
    (trace, _, headers), (earlier, above, earlier_headers) = parent(), parent()
    with Collector() as collector, ScriptedN8n() as verifier:
        verifier.answer(answer_json({"success": True}))
        told = {"CHALLENGE_VERIFY_URL": verifier.url, "CHALLENGE_SECRET": "secret-of-the-provider"}
        on = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "N8N_LOAD_PREVIOUS": "true"}
        server = start_server(n8n, {**told, **on})
        async with ChatClient(server.url) as client:
            assert (await client.session({"challenge_token": "good"}, headers)).status_code == 201
            n8n.next(answer_json({"data": []}))
            asked = {"action": "loadPreviousSession", "sessionId": client.session_id}
            checked(await client.http.post("/chat", json=asked, headers=authorized(client, earlier_headers)))
        assert server.stop() == 0
        assert not {"traceparent", "tracestate"} & set(verifier.requests[0].headers)
        assert [span.name for span in collector.spans if span.trace == trace] == ["POST /api/v1/session"]
        request, call = collector.trace(earlier, 2)
    assert (request.parent, call.parent, call.kind) == (above, request.id, "client")
    assert n8n.requests[0].headers["traceparent"] == f"00-{earlier}-{call.id}-01"
