"""n8n as it really is: every row of the table of answers, and every limit, through the running server."""

import asyncio
import time

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import (
    Answer,
    Close,
    Send,
    Stall,
    Wait,
    answer_bytes,
    answer_empty,
    answer_error,
    answer_json,
    answer_segments,
    answer_sse,
    answer_stream,
    answer_text,
    cut,
    drop_before_head,
    head,
    line,
    replay,
    stall,
)
from tests.support.client import ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer

TEXTS: list[tuple[str, Answer, str]] = [
    ("output", answer_json({"output": "yes", "text": "no"}), "yes"),
    ("text", answer_json({"text": "yes", "message": "no"}), "yes"),
    ("message", answer_json({"message": "yes"}), "yes"),
    ("response", answer_json({"response": "yes"}), "yes"),
    ("content", answer_json({"content": "yes"}), "yes"),
    ("answer", answer_json({"answer": "yes"}), "yes"),
    ("typed text", answer_json({"output": {"type": "text", "text": "yes"}}), "yes"),
    ("array", answer_json([{"output": "one"}, {"x": 1}, {"text": "two"}]), "one\n\ntwo"),
    ("string", answer_json("just text"), "just text"),
    ("text/html", answer_text("<b>bold</b> & more"), "<b>bold</b> & more"),
    ("text/plain", answer_text("plain", content_type="text/plain"), "plain"),
    ("no content type", answer_text("plain", content_type=None), "plain"),
    ("stream", answer_stream(["a", "b"]), "ab"),
    ("segments", answer_segments(["a"], ["b"]), "a\n\nb"),
    ("json in an item", answer_segments(['{"output":"read"}']), "read"),
    ("keepalives", answer_bytes(line("keepalive"), line("begin"), line("item", "x"), b"\n", line("end")), "x"),
    ("error, then text", answer_bytes(line("error", "secret-host failed"), line("item", "fine")), "fine"),
    ("sse json", answer_sse('{"output":"a"}', '{"output":"b"}', "[DONE]"), "ab"),
    ("sse text", answer_sse("hello", " you", "[DONE]"), "hello you"),
    (
        "sse openai",
        answer_sse('{"choices":[{"delta":{"content":"Hel"}}]}', '{"choices":[{"delta":{"content":"lo"}}]}', "[DONE]"),
        "Hello",
    ),
    ("close-delimited", answer_bytes(line("item", "x"), framing="close"), "x"),
    ("gzip although not asked for", answer_bytes(line("item", "zip"), line("end"), zipped=True), "zip"),
]

FAILURES: list[tuple[str, Answer, int, str]] = [
    ("unreadable object", answer_json({"resumeUrl": "http://secret-host/x"}), 502, "upstream_invalid"),
    ("null", answer_json(None), 502, "upstream_invalid"),
    ("number", answer_json(5), 502, "upstream_invalid"),
    ("array of nothing readable", answer_json([{"x": 1}, 2]), 502, "upstream_invalid"),
    ("executionStarted", answer_json({"executionStarted": True, "executionId": "1"}), 502, "upstream_invalid"),
    ("Workflow was started", answer_json({"message": "Workflow was started"}), 502, "upstream_invalid"),
    ("empty body", answer_empty(), 502, "upstream_empty"),
    ("empty output", answer_json({"output": ""}), 502, "upstream_empty"),
    ("begin and end alone", answer_bytes(line("begin"), line("end")), 502, "upstream_empty"),
    ("error line", answer_error(), 502, "upstream_error"),
    ("broken json", answer_bytes(b'{"output": "cut of', framing="length"), 502, "upstream_invalid"),
    ("body cut", cut(), 502, "upstream_invalid"),
    ("reset in the body", cut(reset=True), 502, "upstream_invalid"),
    (
        "bad chunk",
        Answer((head(200, {"Content-Type": "text/plain"}, "Transfer-Encoding: chunked"), Send(b"zz\r\nx"), Close())),
        502,
        "upstream_invalid",
    ),
    (
        "bad chunk later",
        Answer(
            (
                head(200, {"Content-Type": "text/plain"}, "Transfer-Encoding: chunked"),
                Wait(0.1),
                Send(b"zz\r\nx"),
                Stall(),
            )
        ),
        502,
        "upstream_invalid",
    ),
    (
        "bad gzip",
        answer_bytes(b"not gzip at all", headers={"Content-Encoding": "gzip"}),
        502,
        "upstream_invalid",
    ),
    ("401", answer_text("Authorization data is wrong!", 401, None), 502, "upstream_refused"),
    ("403", answer_text("Authorization data is wrong!", 403, None), 502, "upstream_refused"),
    ("404 json", answer_json({"code": 404, "hint": "secret-host"}, 404), 502, "upstream_not_found"),
    ("404 empty", answer_empty(404), 502, "upstream_not_found"),
    ("404 html", answer_text("<html>", 404), 503, "upstream_unavailable"),
    ("502", answer_text("<html>", 502), 503, "upstream_unavailable"),
    ("503", answer_text("<html>", 503), 503, "upstream_unavailable"),
    ("504", answer_text("<html>", 504), 503, "upstream_unavailable"),
    ("closed before the head", drop_before_head(), 503, "upstream_unavailable"),
    ("reset before the head", drop_before_head(reset=True), 503, "upstream_unavailable"),
    ("500", answer_json({"message": "Error in workflow"}, 500), 502, "upstream_error"),
    ("422", answer_json({"message": "secret-host"}, 422), 502, "upstream_error"),
    ("301", answer_text("", 301), 502, "upstream_error"),
]


@pytest.fixture(name="one_of_many")
async def _one_of_many(server_of_module: ChatServer, make_client: MakeClient) -> ChatClient:
    """Give a client with a session at a server that other tests ask as well."""
    client = make_client(server_of_module)
    await client.session()
    return client


@pytest.mark.parametrize(("answer", "text"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
async def test_what_n8n_says_arrives(
    one_of_many: ChatClient, n8n_of_module: ScriptedN8n, answer: Answer, text: str
) -> None:
    n8n_of_module.answer(answer)
    document = await one_of_many.chat("Hi")
    assert document.json().get("content") == text
    assert document.json()["finish_reason"] == "complete"
    reply = await one_of_many.reply("Hi")
    assert (reply.text, reply.finish_reason) == (text, "complete")


@pytest.mark.parametrize(("answer", "status", "code"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
async def test_each_failure_has_its_code_and_leaks_nothing(
    one_of_many: ChatClient, n8n_of_module: ScriptedN8n, answer: Answer, status: int, code: str
) -> None:
    n8n_of_module.answer(answer)
    for got in (
        await one_of_many.chat("Hi"),
        await one_of_many.http.post(
            "/api/v1/chat",
            json={"message": "Hi"},
            headers={"Authorization": f"Bearer {one_of_many.token}", "Accept": "text/event-stream"},
        ),
    ):
        assert (got.status_code, got.json()["code"]) == (status, code)
        assert "secret-host" not in got.text
        assert str(n8n_of_module.port) not in got.text
        assert "www-authenticate" not in got.headers


async def test_a_stream_that_never_closes_after_its_error_ends_by_itself(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.answer(replay("64-stream-timeout"))
    began = time.monotonic()
    reply = await visitor.reply("Hi")
    assert reply.text == "tok0 tok1 tok2 tok3 tok4 "
    assert reply.events[-2].data["code"] == "upstream_error"
    assert 14 < time.monotonic() - began < 19


async def test_n8n_s_time_limits(n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient) -> None:
    server = start_server(
        n8n,
        {
            "N8N_FIRST_BYTE_TIMEOUT_SECONDS": "1",
            "N8N_IDLE_TIMEOUT_SECONDS": "1",
            "N8N_TOTAL_TIMEOUT_SECONDS": "3",
        },
    )
    client = make_client(server)
    await client.session()
    n8n.answer(Answer((Stall(),)))
    first = await client.chat("Hi")
    assert (first.status_code, first.json()["code"]) == (504, "upstream_timeout")
    n8n.answer(stall("some", " text"))
    idle = await client.reply("Hi")
    assert idle.text == "some text"
    assert idle.events[-2].data["code"] == "upstream_timeout"
    n8n.answer(answer_stream(["x"] * 40, gap=0.2))
    began = time.monotonic()
    total = await client.reply("Hi")
    assert total.events[-2].data["code"] == "upstream_timeout"
    assert 2.5 < time.monotonic() - began < 5
    async with asyncio.timeout(3):
        while n8n.open_connections:
            await asyncio.sleep(0.02)


async def test_the_circuit_opens_and_closes_by_itself(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.refuse()
    for _ in range(6):
        answer = await visitor.chat("Hi")
        assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")
    health = await visitor.http.get("/health")
    assert health.status_code == 503
    assert health.json()["checks"]["n8n"]["status"] == "unavailable"
    assert str(n8n.port) not in health.text
    n8n.listen()
    async with asyncio.timeout(10):
        while (await visitor.http.get("/health")).status_code != 200:
            await asyncio.sleep(0.1)
    assert n8n.requests == [], "a probe connects and asks nothing"
    assert (await visitor.chat("Hi")).status_code == 200


async def test_show_raw_json(n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient) -> None:
    client = make_client(start_server(n8n, {"SHOW_RAW_JSON": "true"}))
    await client.session()
    n8n.answer(answer_json({"rows": [1, 2]}))
    content = (await client.chat("Hi")).json()["content"]
    assert content.startswith("```json\n")
    assert '"rows"' in content


async def test_the_log_says_what_to_change_and_never_what_was_said(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"LOG_LEVEL": "DEBUG"})
    client = make_client(server)
    await client.session()
    n8n.answer(answer_json({"executionStarted": True, "executionId": "e-17-secret"}))
    await client.chat("a very private question")
    n8n.answer(answer_json({"rows": ["private-row"]}))
    await client.chat("a very private question")
    async with asyncio.timeout(5):
        while "rows" not in server.log:  # names of members help
            await asyncio.sleep(0.05)
    for secret in ("private question", "private-row", "e-17-secret", str(client.token), "127.0.0.1:" + str(n8n.port)):
        assert secret not in server.log
