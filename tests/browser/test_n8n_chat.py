"""n8n's own widget from npm, unmodified, with chatcore's address in place of n8n's: all that n8n can answer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from chatcore.errors import (
    UPSTREAM_EMPTY,
    UPSTREAM_ERROR,
    UPSTREAM_INVALID,
    UPSTREAM_NOT_FOUND,
    UPSTREAM_REFUSED,
    UPSTREAM_UNAVAILABLE,
)
from chatcore.wire.shapes import STARTED_SENTENCE
from tests.support.answers import (
    Answer,
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
    hold,
    line,
    replay,
    stream_parts,
)
from tests.support.background import Gate
from tests.support.n8n import echo
from tests.support.n8n_chat_page import N8nChat, Shop, open_shop, page_with_n8n_chat

STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
SECRET = "provider said no: key sk-secret at 10.0.0.7"
BUTTONS: dict[str, Any] = {
    "type": "with-buttons",
    "text": "Are you sure?",
    "buttons": [{"text": "Yes", "link": "http://127.0.0.1:9/yes", "type": "primary"}],
}

ANSWERS: list[tuple[str, Answer, list[str]]] = [
    ("object", answer_json({"output": "Hi **there**"}), ["Hi there"]),
    ("text", answer_json({"text": "a text"}), ["a text"]),
    ("message", answer_json({"message": "a message"}), ["a message"]),
    ("response", answer_json({"response": "a response"}), ["a response"]),
    ("content", answer_json({"content": "a content", "usage": {"tokens": 3}}), ["a content"]),
    ("answer", answer_json({"answer": {"type": "text", "text": "an answer"}}), ["an answer"]),
    ("array", answer_json([{"output": "one"}, {"rows": 3}, {"output": "two"}]), ["one", "two"]),
    ("strings", answer_json(["one", "two"]), ["one", "two"]),
    ("string", answer_json("just a string"), ["just a string"]),
    ("no JSON", answer_text("null"), ["null"]),
    ("plain text", answer_text("4 < 5 & <b>bold</b>"), ["4 < 5 & <b>bold</b>"]),
    (
        "a page",
        answer_text("<!DOCTYPE html><html>Hi</html>"),
        ["<!DOCTYPE html><html>Hi</html>"],
    ),
    ("stream", answer_stream(["Hi ", "**there", "** 👋"]), ["Hi there 👋"]),
    ("segments", answer_segments(["o", "ne"], ["two"], ["three"]), ["one", "two", "three"]),
    ("an empty segment", answer_segments(["one"], [], [" "], ["two"]), ["one", "two"]),
    ("white space first", answer_stream(["\n\n", " one"]), ["one"]),
    ("pages in items", answer_stream(["<html>", "Hi</html>\n\n", "<!DOCTYPE"]), ["<html>Hi</html>\n\n<!DOCTYPE"]),
    ("server-sent events", answer_sse('{"output":"an event"}', "[DONE]"), ["an event"]),
    ("JSON in an item", answer_stream(['{"output":"inside"}']), ["inside"]),
    (
        "an error passes",
        answer_bytes(*stream_parts(["a"]), line("error", SECRET), *stream_parts(["b"])),
        ["a", "b"],
    ),
    ("a long one", answer_stream(["ä😀 " * 1000] * 3), [("ä😀 " * 3000).strip()]),
]
"""What n8n answers and what is said: each text a bubble where the widget streams, else a paragraph."""

FAILURES: list[tuple[str, Answer, list[str], str]] = [
    ("nothing", answer_empty(), [], UPSTREAM_EMPTY.sentence),
    ("an empty output", answer_json({"output": ""}), [], UPSTREAM_EMPTY.sentence),
    ("white space", answer_json({"output": " \n"}), [], UPSTREAM_EMPTY.sentence),
    ("a stream without text", answer_bytes(line("begin"), line("end")), [], UPSTREAM_EMPTY.sentence),
    ("null", answer_json(None), [], UPSTREAM_INVALID.sentence),
    ("rows", answer_json([{"id": 1, "password": SECRET}]), [], UPSTREAM_INVALID.sentence),
    ("a number", answer_json({"output": 5}), [], UPSTREAM_INVALID.sentence),
    ("a socket", answer_json({"executionStarted": True, "executionId": "7"}), [], STARTED_SENTENCE),
    ("only started", answer_json({"message": "Workflow was started"}), [], STARTED_SENTENCE),
    (
        "a broken document",
        answer_bytes(b'{"output":"Hi'),
        [],
        UPSTREAM_INVALID.sentence,
    ),
    ("workflow failed", answer_json({"message": "Error in workflow"}, 500), [], UPSTREAM_ERROR.sentence),
    ("provider failed", answer_json({"error": {"message": SECRET}}, 500), [], UPSTREAM_ERROR.sentence),
    ("an error alone", answer_error(), [], UPSTREAM_ERROR.sentence),
    ("an error after text", answer_error("half an ", "answer"), ["half an answer"], UPSTREAM_ERROR.sentence),
    ("cut off", cut("half an ", "answer"), ["half an answer"], UPSTREAM_INVALID.sentence),
    ("wrong key", answer_text("Authorization data is wrong!", 403, None), [], UPSTREAM_REFUSED.sentence),
    (
        "not active",
        answer_json({"code": 404, "hint": "Click"}, 404),
        [],
        UPSTREAM_NOT_FOUND.sentence,
    ),
    ("starting", answer_text("<html>n8n is starting</html>", 404), [], UPSTREAM_UNAVAILABLE.sentence),
    ("gateway", answer_text("<html>nginx</html>", 502), [], UPSTREAM_UNAVAILABLE.sentence),
    ("moved", answer_bytes(status=302, headers={"Location": "http://127.0.0.1:9/"}), [], UPSTREAM_ERROR.sentence),
    ("gone", drop_before_head(), [], UPSTREAM_UNAVAILABLE.sentence),
]
"""What n8n answers, what of it is said, and the sentence for the visitor."""


@pytest.fixture(scope="module")
def opened() -> Iterator[Shop]:
    """Give the shop that the tests of this file share."""
    with open_shop({"CIRCUIT_FAILURES": "1000"}) as shop:
        yield shop


@pytest.fixture
def shop(opened: Shop) -> Shop:
    """Give the shop, whose n8n echoes."""
    opened.n8n.requests.clear()
    opened.n8n.answer(echo)
    return opened


class Conversation:
    """Says one thing after the other and expects all that was answered since the first."""

    def __init__(self, chat: N8nChat, shop: Shop, *, streaming: bool) -> None:
        self._chat = chat
        self._shop = shop
        self._streaming = streaming
        self._heard: list[str] = []

    async def goes_on(self, question: str, answer: Answer, texts: list[str], sentence: str = "") -> None:
        """Let n8n give an answer; its `texts` and the `sentence` about its failure are shown."""
        self._shop.n8n.next(answer)
        if self._streaming:
            self._heard += [*texts, *([f"Error: {sentence}"] if sentence else [])]
        else:
            self._heard.append("\n\n".join([*texts, *([sentence] if sentence else [])]))
        await self._chat.say(question)
        await self._chat.hears(*self._heard)


@STREAMING
async def test_whatever_n8n_answers_is_shown_as_text(browser: Browser, shop: Shop, *, streaming: bool) -> None:
    chat = await shop.visit(browser, enableStreaming=streaming)
    conversation = Conversation(chat, shop, streaming=streaming)
    for name, answer, texts in ANSWERS:
        await conversation.goes_on(name, answer, texts)
    assert [request.text for request in shop.n8n.requests] == [name for name, _, _ in ANSWERS]
    assert chat.complaints == []


@STREAMING
async def test_whatever_fails_is_a_sentence_and_the_chat_goes_on(
    browser: Browser, shop: Shop, *, streaming: bool
) -> None:
    chat = await shop.visit(browser, enableStreaming=streaming)
    sockets: list[str] = []
    chat.page.on("websocket", lambda socket: sockets.append(socket.url))
    conversation = Conversation(chat, shop, streaming=streaming)
    for name, answer, texts, sentence in FAILURES:
        await conversation.goes_on(name, answer, texts, sentence)
    await conversation.goes_on("again", answer_json({"output": "all is well"}), ["all is well"])
    assert len(shop.n8n.requests) == len(FAILURES) + 1
    seen = await chat.page.locator("body").inner_text()
    for never in (SECRET, "Empty response", "No response received", "Error in workflow", "{", "10.0.0.7"):
        assert never not in seen
    assert sockets == []


@STREAMING
async def test_recordings_of_a_real_n8n_are_shown(browser: Browser, shop: Shop, *, streaming: bool) -> None:
    chat = await shop.visit(browser, enableStreaming=streaming)
    shop.n8n.next(*(replay(name) for name in ("01-webhook-respond-json", "52-stream-agent-tool", "71-chat-streaming")))
    for count in range(1, 4):
        await chat.say("Hello")
        await expect(chat.typing).to_have_count(0)
        await expect(chat.replies.nth(count - 1)).not_to_be_empty()
    for text in await chat.replies.all_inner_texts():
        assert text.strip()
        assert not text.startswith(("{", "Error", "<"))
    assert chat.complaints == []


async def test_text_is_shown_as_it_comes(browser: Browser, shop: Shop) -> None:
    gate, rest = Gate(), Gate()
    parts = stream_parts(["one ", "two"], gap=gate)
    shop.n8n.next(answer_bytes(*parts, *stream_parts(["three ", "four"], gap=rest)))
    chat = await shop.visit(browser, enableStreaming=True)
    await chat.say("Count")
    await expect(chat.replies).to_have_text(["one"])
    gate.open()
    await expect(chat.replies).to_have_text(["one two", "three"])
    rest.open()
    await chat.hears("one two", "three four")


async def test_the_window_of_the_two_lines_chats_and_finds_its_session_after_a_reload(
    browser: Browser, shop: Shop
) -> None:
    greetings = ["Hi there! 👋", "My name is Nathan. How can I assist you today?"]
    page = await (await browser.new_context()).new_page()
    chat = N8nChat(page)
    asked: set[str] = set()
    page.on("request", lambda request: asked.add("/".join(request.url.split("/")[:3])))
    shop.site.pages["/"] = page_with_n8n_chat(shop.cdn, json.dumps({"webhookUrl": f"{shop.server.url}/chat"}))
    for question in ("Hello", "Again"):
        await page.goto(shop.site.url)
        await page.locator(".chat-window-toggle").click()
        await chat.ready()
        await chat.chats(question, *greetings, f"Echo: {question}")
    assert [request.json["sessionId"][:2] for request in shop.n8n.requests] == ["w_", "w_"]
    assert len({request.json["sessionId"] for request in shop.n8n.requests}) == 1
    assert asked == {shop.site.url, shop.cdn.url, shop.server.url}
    assert chat.complaints == []


async def test_n8n_gets_the_pages_metadata_and_nothing_that_the_page_made_up(browser: Browser, shop: Shop) -> None:
    chat = await shop.visit(browser, sessionId="customer-42", metadata={"plan": "pro", "n": [1]})
    await chat.chats("Hello", "Echo: Hello")
    (request,) = shop.n8n.requests
    assert request.json["metadata"] == {"plan": "pro", "n": [1]}
    assert set(request.json) == {"action", "sessionId", "chatInput", "metadata", "context"}
    assert request.json["context"]["origin"] == shop.site.url
    assert "customer-42" not in request.raw_head.decode("latin-1") + request.body.decode()


@pytest.mark.parametrize(
    "options",
    [{}, {"showWelcomeScreen": True, "enableStreaming": True}, {"loadPreviousSession": False, "enableStreaming": True}],
    ids=["plain", "welcome", "no history"],
)
async def test_one_can_type_whatever_n8n_does(browser: Browser, shop: Shop, options: dict[str, Any]) -> None:
    gate = Gate()
    shop.n8n.answer(hold(gate))
    chat = await shop.visit(browser, **options)
    assert shop.n8n.requests == []
    await chat.say("Hello")
    await expect(chat.typing).to_be_visible()
    gate.open()
    await chat.hears("at last")


async def test_buttons_show_their_text(browser: Browser, shop: Shop) -> None:
    chat = await shop.visit(browser, enableStreaming=True)
    conversation = Conversation(chat, shop, streaming=True)
    await conversation.goes_on("Buttons?", answer_stream([json.dumps(BUTTONS)]), [BUTTONS["text"]])


@STREAMING
async def test_what_is_too_long_or_odd_is_a_sentence(browser: Browser, shop: Shop, *, streaming: bool) -> None:
    chat = await shop.visit(browser, enableStreaming=streaming)
    await chat.say("a" * 10_001)
    await expect(chat.replies).to_contain_text(["at most 10000 characters"])
    await chat.say("   ")
    await expect(chat.replies).to_have_count(2)
    for text in await chat.replies.all_inner_texts():
        assert "{" not in text
    assert shop.n8n.requests == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"chatInputKey": "question"}, "leave out chatInputKey of createChat"),
        ({"chatSessionKey": "sid"}, "leave out chatSessionKey of createChat"),
        ({"sessionId": "ada@example.com"}, "sessionId must be"),
        ({"metadata": {"page": "x" * 5000}}, "metadata.page must have at most"),
        ({"webhookConfig": {"method": "GET"}}, "POST"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_options_that_cannot_work_are_told(
    browser: Browser, shop: Shop, options: dict[str, Any], told: str
) -> None:
    chat = await shop.visit(browser, **options)
    await chat.say("Hello")
    await expect(chat.replies).to_contain_text([told])
    assert shop.n8n.requests == []


async def test_long_silence_is_outlived_by_both_kinds_of_widget(browser: Browser, shop: Shop) -> None:
    gate = Gate()
    answers = {"good": answer_json({"output": "at last"}), "bad": answer_json({"message": SECRET}, 500)}
    shop.n8n.answer(lambda request: hold(gate, answers[request.text]))
    chats = []
    for streaming in (False, True):
        for question in answers:
            chat = await shop.visit(browser, enableStreaming=streaming)
            await chat.page.evaluate("""() => {
                const given = window.fetch;
                window.fetch = async (...asked) => {
                    const answer = await given(...asked);
                    window.began = true;
                    return answer;
                };
            }""")
            await chat.say(question)
            chats.append(chat)
    for chat in chats:
        await chat.page.wait_for_function("window.began")  # the head came before n8n said anything
    gate.open()
    await chats[0].hears("at last")
    await chats[1].hears(UPSTREAM_ERROR.sentence)
    await chats[2].hears("at last")
    await chats[3].hears(f"Error: {UPSTREAM_ERROR.sentence}")
    assert [chat.complaints for chat in chats] == [[]] * 4
