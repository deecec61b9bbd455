"""n8n's own widget from npm where messages are kept: it shows the session's earlier ones, and nobody else's."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.support.answers import (
    Answer,
    answer_empty,
    answer_json,
    answer_segments,
    answer_stream,
    answer_text,
    drop_before_head,
    hold,
    replay,
)
from tests.support.background import Gate, eventually
from tests.support.databases import Database, RedisDatabase
from tests.support.n8n import echo
from tests.support.n8n_chat_page import Shop, open_shop, page_with_n8n_chat

STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])


@pytest.fixture(scope="module")
def shop(database_of_module: Database, redis_server: RedisDatabase) -> Iterator[Shop]:
    """Give a shop whose server keeps messages."""
    environment = {
        "DATABASE_URL": database_of_module.url,
        "DATABASE_ADMIN_URL": database_of_module.admin_url,
        "REDIS_URL": redis_server.url,
    }
    with open_shop(environment, main="main_postgres.py") as opened:
        yield opened


@pytest.fixture(scope="module")
def forwarding() -> Iterator[Shop]:
    """Give a shop whose server keeps nothing and asks n8n for earlier messages."""
    with open_shop({"N8N_LOAD_PREVIOUS": "true"}) as opened:
        yield opened


@STREAMING
async def test_a_reload_shows_what_was_said_and_goes_on(browser: Browser, shop: Shop, *, streaming: bool) -> None:
    shop.n8n.requests.clear()
    shop.n8n.answer(echo)
    chat = await shop.visit(browser, enableStreaming=streaming)
    await chat.chats("Is it **open**?", "Echo: Is it open?")
    shop.n8n.next(answer_segments(["one"], ["two"]))
    await chat.say("two bubbles")
    await expect(chat.replies.last).to_contain_text("two")
    await expect(chat.typing).to_have_count(0)
    earlier = ["Is it open?", "Echo: Is it open?", "two bubbles", "one\n\ntwo"]
    await chat.page.reload()
    await chat.ready()
    await chat.shows(earlier)
    await chat.say("<b>more</b>")
    await chat.shows([*earlier, "<b>more</b>", "Echo: <b>more</b>"])
    await chat.page.reload()
    await chat.ready()
    await chat.shows([*earlier, "<b>more</b>", "Echo: <b>more</b>"])
    assert [request.json["action"] for request in shop.n8n.requests] == ["sendMessage"] * 3
    assert len({request.json["sessionId"] for request in shop.n8n.requests}) == 1
    assert chat.complaints == []


async def test_nobody_elses_messages_are_shown(browser: Browser, shop: Shop) -> None:
    shop.n8n.answer(answer_stream(["a secret"]))
    chat = await shop.visit(browser)
    await chat.chats("mine", "a secret")
    stranger = await shop.visit(browser)
    await stranger.shows([])
    for _ in range(2):  # an id that can be guessed has no history, not even of its own
        customer = await shop.visit(browser, sessionId="customer-42")
        await customer.shows([])
        await customer.chats("Hello", "a secret")


async def test_with_a_token_the_tokens_session_is_shown_in_any_browser(browser: Browser, shop: Shop) -> None:
    shop.n8n.answer(echo)
    chat = await shop.visit(browser)
    token: str = await chat.page.evaluate(
        f"fetch('{shop.server.url}/api/v1/session', {{method: 'POST'}}).then(async (is) => (await is.json()).token)"
    )
    known = {"headers": {"Authorization": f"Bearer {token}"}}
    chat = await shop.visit(browser, webhookConfig=known)
    await chat.chats("Hello", "Echo: Hello")
    again = await shop.visit(browser, webhookConfig=known, enableStreaming=True)
    await again.shows(["Hello", "Echo: Hello"])
    wrong = await shop.visit(browser, webhookConfig={"headers": {"Authorization": "Bearer nonsense"}})
    await wrong.shows([])


async def test_earlier_messages_of_n8n_are_shown_where_it_is_asked(browser: Browser, forwarding: Shop) -> None:
    gate = Gate()
    forwarding.n8n.requests.clear()
    forwarding.n8n.next(hold(gate, replay("73-chat-loadprevious-memory")))
    chat = await forwarding.load(await browser.new_context(), page_with_n8n_chat(forwarding.cdn, forwarding.options()))
    await eventually(lambda: forwarding.n8n.requests)
    await expect(chat.input).to_have_count(0)
    gate.open()
    await chat.ready()
    await chat.shows(["hello chat", "Echo: hello chat", "[[nmsgs]] again", "I saw 3 messages"])
    await chat.say("Hello")
    await expect(chat.replies.last).to_have_text("Echo: Hello")
    first, then = (request.json for request in forwarding.n8n.requests)
    assert (first["action"], then["action"]) == ("loadPreviousSession", "sendMessage")
    assert first["sessionId"] == then["sessionId"]
    assert chat.complaints == []


@pytest.mark.parametrize(
    "answer",
    [
        answer_text("<html>n8n is starting</html>", 404),
        answer_json({"code": 0, "message": "secret of n8n"}, 500),
        answer_json({"data": [{"id": ["HumanMessage"], "kwargs": None}, 5, {"kwargs": {"content": {"a": 1}}}]}),
        answer_json([[]]),
        answer_json(None),
        answer_empty(),
        drop_before_head(),
    ],
    ids=["starting", "failed", "odd messages", "array", "null", "nothing", "gone"],
)
async def test_one_can_type_whatever_n8n_says_of_earlier_messages(
    browser: Browser, forwarding: Shop, answer: Answer
) -> None:
    forwarding.n8n.next(answer)
    chat = await forwarding.visit(browser)
    await chat.shows([])
    await chat.chats("Hello", "Echo: Hello")
