"""Whatever n8n answers, its own widget shows it as a person would want it: every row, for both of its shapes."""

import asyncio
import json
from collections.abc import Iterator, Sequence

import httpx
import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import (
    Answer,
    Close,
    Send,
    Until,
    answer_bytes,
    answer_error,
    answer_json,
    answer_segments,
    answer_sse,
    answer_stream,
    answer_text,
    cut,
    drop_before_head,
    head,
    hold,
    line,
    recording,
    recordings,
    replay,
    stall,
)
from tests.support.background import Gate
from tests.support.n8n import ScriptedN8n
from tests.support.n8n_widget import STREAMING, Bubbles, N8nWidget, Shown, shown_of
from tests.support.server import ChatServer

ERROR = "The assistant could not answer. Please try again."
REFUSED = "The assistant is not set up correctly."
NOT_FOUND = "The assistant is not switched on."
INVALID = "The assistant's answer could not be read."
STARTED = "The assistant has begun to work, but it is not set up to answer here."
EMPTY = "The assistant gave no answer."
UNAVAILABLE = "The assistant cannot be reached right now."
TIMEOUT = "The assistant took too long to answer."
MEMBERS = ("output", "text", "message", "response", "content", "answer")
TOKENS = "tok0 tok1 tok2 tok3 tok4 "

SAID: list[tuple[str, Answer | str, Sequence[str]]] = [
    ("output before all others", answer_json({name: name for name in reversed(MEMBERS)}), ["output"]),
    *((f"only {name}", answer_json({name: "yes"}), ["yes"]) for name in MEMBERS),
    ("object, Respond node", "01-webhook-respond-json", ["echo: hello"]),
    ("object, last node", "05-webhook-lastnode", ["echo: hello"]),
    ("object, Chat Trigger", "70-chat-lastnode", ["Echo: hello"]),
    ("typed text", answer_json({"output": {"type": "text", "text": "yes"}}), ["yes"]),
    ("array", answer_json([{"output": "one"}, {"x": 1}, {"text": "two"}]), ["one", "two"]),
    ("string", answer_json("just text"), ["just text"]),
    ("text as HTML", "02-webhook-respond-text", ["echo: hello"]),
    ("tags stay text", answer_text("<b>bold</b> & <!DOCTYPE html>"), ["<b>bold</b> & <!DOCTYPE html>"]),
    ("text", answer_text("plain", content_type="text/plain"), ["plain"]),
    ("looks like a list", answer_text("[1] first\n\n[2] second"), ["[1] first\n\n[2] second"]),
    ("stream", "50-stream-agent", ["Echo: hello streaming world"]),
    ("stream of a Chat Trigger", "71-chat-streaming", ["Echo: hello chat"]),
    ("stream in gzip", "83-chat-gzip-streaming", ["Echo: hello"]),
    ("a node that begins twice, first without text", "52-stream-agent-tool", ['The result is [{"response":"42"}].']),
    ("segments", answer_segments(["one"], ["two ", "three"]), ["one", "two three"]),
    ("segments of several texts", answer_segments(["a"], ["b"], ["c"]), ["a", "b", "c"]),
    ("an item that is JSON", "58-stream-respond-json", ["echo: hello"]),
    (
        "the same text again by another node",
        answer_bytes(
            *(line(kind, text, node) for node in "ab" for kind, text in (("begin", None), ("item", "x" * 30)))
        ),
        ["x" * 30],
    ),
    ("error line, then text", "69a-stream-continue", ["after the error"]),
    ("keepalive in the middle", "A1-stream-keepalive-mid", ["Echo: [[hang]] abcdefghijkl"]),
    ("events", answer_sse('{"output":"a"}', '{"output":"b"}', "[DONE]"), ["ab"]),
    ("events of text", answer_sse("hello", " you", "[DONE]"), ["hello you"]),
    ("events of OpenAI", answer_sse('{"choices":[{"delta":{"content":"Hello"}}]}'), ["Hello"]),
    ("lone surrogate", answer_bytes(b'{"type":"item","content":"a\\ud800b"}\n'), ["a\ufffdb"]),
    ("separators that are no line ends", answer_stream(["a\u2028b\x85c"]), ["a\u2028b\x85c"]),
]

FAILED: list[tuple[str, Answer | str, Sequence[str], str]] = [
    ("other object", answer_json({"resumeUrl": "http://secret-host/x"}), [], INVALID),
    ("null", answer_json(None), [], INVALID),
    ("number", answer_json(5), [], INVALID),
    ("output a number", answer_json({"output": 5}), [], INVALID),
    ("array of nothing readable", answer_json([{"x": 1}, 2]), [], INVALID),
    ("Workflow was started", "07-webhook-onreceived", [], STARTED),
    ("executionStarted", "77-chat-responsenodes", [], STARTED),
    (
        "executionStarted in an item",
        answer_segments(['{"executionStarted":true,"resumeToken":"secret-host"}']),
        [],
        STARTED,
    ),
    ("executionStarted in an event", answer_sse('{"executionStarted":true}'), [], STARTED),
    ("no data", "03-webhook-respond-nodata", [], EMPTY),
    ("no Respond node", "22-err-norespond", [], EMPTY),
    ("streaming is off at the agent", "47-stream-agent-off", [], EMPTY),
    ("nothing streams", "60-stream-nothing", [], EMPTY),
    ("begin and end alone", "55-stream-agent-empty", [], EMPTY),
    ("empty output", answer_json({"output": ""}), [], EMPTY),
    ("error line", "61-stream-error", [], ERROR),
    ("error line of the provider", "56-stream-agent-llm500", [], ERROR),
    ("error line without content", "69b-stream-code-error", [], ERROR),
    ("error line after text", answer_error("some ", "text"), ["some text"], ERROR),
    ("a node throws", "20-err-lastnode", [], ERROR),
    ("a node throws before the Respond node", "21-err-respond", [], ERROR),
    ("body cut", cut("some text"), ["some text"], INVALID),
    (
        "body cut after segments",
        answer_bytes(line("item", "a"), line("end"), line("item", "b"), Close()),
        ["a", "b"],
        INVALID,
    ),
    ("reset in the body", cut(reset=True), [], INVALID),
    ("bad chunk", Answer((head(200, {}, "Transfer-Encoding: chunked"), Send(b"zz\r\nx"), Close())), [], INVALID),
    ("bad gzip", answer_bytes(b"no gzip", headers={"Content-Encoding": "gzip"}), [], INVALID),
    ("broken JSON", answer_bytes(b'{"output": "cut of', framing="length"), [], INVALID),
    ("401", "40-auth-header-none", [], REFUSED),
    ("401 Basic", "80-chat-basic-none", [], REFUSED),
    ("403", "40-auth-header-wrong", [], REFUSED),
    ("404 JSON", "26-err-inactive", [], NOT_FOUND),
    ("404 empty", "81-chat-private", [], NOT_FOUND),
    ("404 HTML", "33-err-path-root", [], UNAVAILABLE),
    ("502", answer_text("<html>secret-host", 502), [], UNAVAILABLE),
    ("503", answer_text("<html>secret-host", 503), [], UNAVAILABLE),
    ("504", answer_text("<html>secret-host", 504), [], UNAVAILABLE),
    ("reset before the head", drop_before_head(reset=True), [], UNAVAILABLE),
    ("other status", "04-webhook-respond-422", [], ERROR),
    ("redirect", answer_text("", 302), [], ERROR),
    ("silence in the middle", stall("some text"), ["some text"], TIMEOUT),
    ("an error, and never the end", "64-stream-timeout", [TOKENS], TIMEOUT),
]


@pytest.fixture(scope="module")
def n8n() -> Iterator[ScriptedN8n]:
    """Give one scripted n8n for all tests here."""
    with ScriptedN8n() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def server(n8n: ScriptedN8n) -> Iterator[ChatServer]:
    """Give one server for all tests here; what n8n never closes ends by a short time of silence."""
    with ChatServer({"N8N_WEBHOOK_URL": n8n.url, "N8N_IDLE_TIMEOUT_SECONDS": "1"}) as started:
        yield started


async def asked(server: ChatServer, n8n: ScriptedN8n, answer: Answer | str, *, streaming: bool) -> Shown:
    """Let the widget ask, and check what holds of every answer."""
    n8n.answer(replay(answer) if isinstance(answer, str) else answer)
    async with N8nWidget(server.url) as widget:
        shown = await widget.send("Hi", streaming=streaming)
    for hidden in ("secret-host", str(n8n.port), "Error in workflow", "WorkflowOperationError", "sk-secret"):
        assert hidden not in shown.answer.text
    assert "www-authenticate" not in shown.answer.headers, "a browser would ask for a password"
    if streaming:
        assert shown.status == 200, "the widget hides what comes with another status"
        assert shown.answer.headers["content-type"] == "application/json; charset=utf-8"
        assert shown.answer.headers["cache-control"] == "no-cache, no-transform"
    else:
        assert shown.answer.headers["content-type"] == "application/json"
        assert shown.answer.headers["cache-control"] == "no-store"
    return shown


@pytest.mark.parametrize(("answer", "segments"), [row[1:] for row in SAID], ids=[row[0] for row in SAID])
async def test_what_n8n_says_is_shown_in_both_shapes(
    server: ChatServer, n8n: ScriptedN8n, answer: Answer | str, segments: Sequence[str]
) -> None:
    document = await asked(server, n8n, answer, streaming=False)
    assert (document.status, document.answer.json()) == (200, {"output": "\n\n".join(segments)})
    assert (await asked(server, n8n, answer, streaming=True)).bubbles == list(segments)


@pytest.mark.parametrize(
    ("answer", "segments", "sentence"), [row[1:] for row in FAILED], ids=[row[0] for row in FAILED]
)
async def test_a_failure_is_a_sentence_in_both_shapes(
    server: ChatServer, n8n: ScriptedN8n, answer: Answer | str, segments: Sequence[str], sentence: str
) -> None:
    document = await asked(server, n8n, answer, streaming=False)
    assert document.status in {502, 503, 504}
    assert document.answer.json() == {"message": "\n\n".join([*segments, sentence])}
    stream = await asked(server, n8n, answer, streaming=True)
    assert stream.bubbles == [*segments, f"Error: {sentence}"], "a bubble of its own"


@pytest.mark.parametrize("name", recordings())
async def test_no_recording_shows_anything_but_text(server: ChatServer, n8n: ScriptedN8n, name: str) -> None:
    document = await asked(server, n8n, name, streaming=False)
    stream = await asked(server, n8n, name, streaming=True)
    assert all(bubble.strip() for bubble in (*document.bubbles, *stream.bubbles))
    assert document.bubbles == ["\n\n".join(bubble.removeprefix("Error: ") for bubble in stream.bubbles)]


async def test_n8n_that_cannot_be_reached(server: ChatServer, n8n: ScriptedN8n) -> None:
    n8n.disconnect()
    n8n.refuse()
    try:
        document = await asked(server, n8n, answer_json({}), streaming=False)
        stream = await asked(server, n8n, answer_json({}), streaming=True)
    finally:
        n8n.listen()
    assert (document.status, document.bubbles) == (503, [UNAVAILABLE])
    assert stream.bubbles == [f"Error: {UNAVAILABLE}"]


async def test_the_log_names_what_to_change_where_a_workflow_only_starts(server: ChatServer, n8n: ScriptedN8n) -> None:
    await asked(server, n8n, "77-chat-responsenodes", streaming=True)
    assert "set the option 'Respond' of the Webhook or Chat Trigger node" in server.log
    assert "resumeToken" not in server.log


async def test_a_json_object_that_nobody_can_read_is_shown_where_that_is_wished(
    n8n: ScriptedN8n, start_server: StartServer
) -> None:
    server = start_server(n8n, {"SHOW_RAW_JSON": "true"})
    document = await asked(server, n8n, answer_json({"rows": [1]}), streaming=False)
    assert document.bubbles[0].startswith("```json\n{")
    assert (await asked(server, n8n, answer_json({"rows": [1]}), streaming=True)).bubbles == document.bubbles


async def test_every_segment_is_a_node_of_its_own_that_begins_and_ends(server: ChatServer, n8n: ScriptedN8n) -> None:
    shown = await asked(server, n8n, answer_segments(["one"], ["two"]), streaming=True)
    lines = [json.loads(line) for line in shown.answer.content.splitlines()]
    assert [line["type"] for line in lines] == ["begin", "item", "end"] * 2
    nodes = [line["metadata"]["nodeId"] for line in lines]
    assert nodes[0] == nodes[1] == nodes[2] != nodes[3] == nodes[4] == nodes[5]
    told = json.loads(recording("71-chat-streaming").data.partition(b"\r\n\r\n")[2].splitlines()[1])
    assert set(lines[0]) == set(told)
    assert set(lines[0]["metadata"]) == set(told["metadata"]), "the members that n8n's lines have"


async def test_an_error_after_text_ends_its_node_and_has_another(server: ChatServer, n8n: ScriptedN8n) -> None:
    shown = await asked(server, n8n, answer_error("some"), streaming=True)
    lines = [json.loads(line) for line in shown.answer.content.splitlines()]
    assert [line["type"] for line in lines] == ["begin", "item", "end", "begin", "error"]
    assert len({line["metadata"]["nodeId"] for line in lines}) == 2


async def test_white_space_makes_no_bubble_of_its_own(server: ChatServer, n8n: ScriptedN8n) -> None:
    gate = Gate()
    segments = (["one"], [" ", "\n"], [" two", " ", "three"], [" "])
    shown = await asked(server, n8n, answer_segments(*segments), streaming=True)
    assert shown.bubbles == ["one", " two three"]
    pieces = [line(kind, text) for kind, text in (("begin", None), ("item", "one"), ("end", None), ("begin", None))]
    n8n.answer(answer_bytes(*pieces, line("item", "  "), Until(gate), line("item", "two"), line("end")))
    async with N8nWidget(server.url) as widget, asyncio.timeout(20), widget.stream("Hi") as response:
        bubbles = Bubbles()
        async for text in response.aiter_lines():
            bubbles.take(text.encode())
            if bubbles.shown == ["one"]:
                gate.open()
    assert bubbles.close() == ["one", "  two"]


async def test_text_is_shown_as_it_comes(server: ChatServer, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.answer(answer_stream(["first ", "second"], gap=gate))
    bubbles = Bubbles()
    async with N8nWidget(server.url) as widget, asyncio.timeout(20), widget.stream("Hi") as response:
        async for text in response.aiter_lines():
            bubbles.take(text.encode())
            if bubbles.shown == ["first "]:
                gate.open()
    assert bubbles.close() == ["first second"]


async def test_silence_is_filled_in_both_shapes_and_a_failure_is_told_after_it(
    server: ChatServer, n8n: ScriptedN8n
) -> None:
    async with N8nWidget(server.url) as widget, asyncio.timeout(60):
        tasks = []
        for answer in (answer_stream(["at last"]), answer_json({}, 500)):
            for streaming in (False, True):
                gate = Gate()
                n8n.next(hold(gate, answer))
                came = len(n8n.requests)
                tasks.append(asyncio.create_task(_first_byte(widget, gate, streaming=streaming)))
                while len(n8n.requests) == came:
                    await asyncio.sleep(0.01)
        answers = await asyncio.gather(*tasks)
    assert all(answer.status_code == 200 for answer in answers)
    assert [answer.content.strip() != answer.content.rstrip() for answer in answers] == [True] * 4
    document, stream, failed_document, failed_stream = answers
    assert document.headers["x-accel-buffering"] == stream.headers["x-accel-buffering"] == "no"
    assert document.json() == {"output": "at last"}
    assert shown_of(stream, streaming=True) == ["at last"]
    assert failed_document.json() == {"message": ERROR}
    assert shown_of(failed_stream, streaming=True) == [f"Error: {ERROR}"]


async def _first_byte(widget: N8nWidget, gate: Gate, *, streaming: bool) -> httpx.Response:
    """Send a message, and let n8n answer once a first byte has come without it."""
    headers = STREAMING if streaming else {}
    async with widget.http.stream("POST", widget.path, json=widget.message("Hi"), headers=headers) as response:
        content = b""
        async for data in response.aiter_raw():
            content += data
            gate.open()
    return httpx.Response(response.status_code, headers=response.headers, content=content)


async def test_a_visitor_who_leaves_does_not_stop_the_reply(server: ChatServer, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.answer(answer_stream(["before ", "after"], gap=gate))
    ended, hangups = server.log.count("reply of bot default complete"), n8n.hangups
    async with N8nWidget(server.url) as widget, asyncio.timeout(20):
        async with widget.stream("Hi") as response:
            await anext(response.aiter_lines())
        gate.open()
        while server.log.count("reply of bot default complete") == ended:
            await asyncio.sleep(0.02)
    assert n8n.hangups == hangups


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("said", [[], ["some text"]])
async def test_a_reply_that_is_stopped_elsewhere_ends_in_words(
    server: ChatServer, n8n: ScriptedN8n, make_client: MakeClient, said: list[str], streaming: bool
) -> None:
    client = make_client(server)
    await client.session()
    n8n.answer(stall(*said))
    came = len(n8n.requests)
    async with N8nWidget(server.url) as widget, asyncio.timeout(20):
        widget.headers["Authorization"] = f"Bearer {client.token}"
        sending = asyncio.create_task(widget.send("Hi", streaming=streaming))
        while len(n8n.requests) == came:
            await asyncio.sleep(0.01)
        message_id = n8n.requests[-1].json["context"]["message_id"]
        if said:
            async with client.follow(message_id) as stream:
                await stream.next("delta")
        assert (await client.stop(message_id)).status_code == 204
        shown = await sending
    assert shown.status == 200
    stopped = f"{'Error: ' if streaming else ''}The reply was stopped."
    assert shown.bubbles == (said or [stopped]), "what was said is enough"
