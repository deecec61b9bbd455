"""n8n's own widget from npm: whose session it is, with a token and without, limits, origins, bots, a server away."""

import re
import signal
import time
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Request, expect

from chatcore.errors import ORIGIN_NOT_ALLOWED, RATE_LIMITED, TOKEN_EXPIRED, TOKEN_INVALID
from chatcore.routes.n8n_chat import NO_SESSION
from tests.support import jwts, sources
from tests.support.answers import answer_stream
from tests.support.background import Gate, eventually
from tests.support.n8n import echo
from tests.support.n8n_chat_page import N8nChat, Shop, open_shop, page_with_n8n_chat
from tests.support.server import JWT_SECRET
from tests.support.site import Website

STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
CDN = "https://cdn.jsdelivr.net/npm/@n8n/chat@1.37.0/dist"
SNIPPETS = re.findall(r"```html\n(.*?)```", (sources.ROOT / "docs/n8n-chat.md").read_text("utf-8"), re.DOTALL)
DAY = 86_400
HOUR = 3600
STOPPED = "The server was restarted before the reply was complete."


@pytest.fixture(scope="module")
def opened() -> Iterator[Shop]:
    """Give the shop that the tests of this file share; of its server's bots one is slow to talk, one is another's."""
    limits = {"RATE_LIMIT_PER_MINUTE_SHY": "1", "ALLOWED_ORIGINS_OTHERS": "https://elsewhere.example"}
    with open_shop(limits, "sales", "shy", "others") as shop:
        yield shop


@pytest.fixture
def shop(opened: Shop) -> Shop:
    """Give the shop, whose n8n echoes."""
    opened.n8n.requests.clear()
    opened.n8n.answer(echo)
    return opened


@pytest.fixture(scope="module")
def strict() -> Iterator[Shop]:
    """Give a shop whose server takes nobody without a token."""
    with open_shop({"REQUIRE_TOKEN": "true"}) as shop:
        yield shop


def sessions(shop: Shop) -> list[str]:
    """Give the sessions of all messages that n8n got."""
    return [request.json["sessionId"] for request in shop.n8n.requests]


def snippet(shop: Shop, number: int) -> str:
    """Give a page with a snippet of the documentation, as it is but for the addresses."""
    code = SNIPPETS[number].replace(CDN, shop.cdn.url).replace("https://chat.example.com", shop.server.url)
    assert "https://" not in code
    return f"<!doctype html><title>A shop</title>{code}"


def expired(token: str) -> str:
    """Give the same token as it would be had it expired a minute ago."""
    now = int(time.time())
    return jwts.forge(jwts.read(token) | {"iat": now - HOUR, "sst": now - HOUR, "exp": now - 60}, JWT_SECRET)


async def open_window(chat: N8nChat) -> None:
    """Open the widget's window."""
    await chat.page.locator(".chat-window-toggle").click()
    await chat.ready()


async def test_the_documents_snippet_works_on_another_website(browser: Browser, shop: Shop) -> None:
    chat = await shop.load(await browser.new_context(), snippet(shop, 0))
    await open_window(chat)
    await chat.say("Hello")
    await expect(chat.replies.last).to_have_text("Echo: Hello")
    assert chat.complaints == []


async def test_the_documents_snippet_with_a_token_keeps_its_session_and_renews_it(
    browser: Browser, strict: Shop
) -> None:
    asked: list[str] = []
    strict.n8n.requests.clear()
    context = await browser.new_context()

    def remember(request: Request) -> None:
        if request.method == "POST" and "/api/" in request.url:
            asked.append(request.url.removeprefix(strict.server.url))

    context.on("request", remember)

    async def says(text: str) -> None:
        await chat.say(text)
        await expect(chat.replies.last).to_have_text(f"Echo: {text}")

    chat = await strict.load(context, snippet(strict, 1))
    await open_window(chat)
    await says("one")
    await says("two")
    assert asked == ["/api/v1/session"]
    await chat.page.clock.set_fixed_time((time.time() + DAY) * 1000)  # the page thinks that a day went by
    await says("three")
    assert asked[1:] == ["/api/v1/session/refresh"]

    token = await chat.page.evaluate("localStorage.getItem('chat-token')")
    await chat.page.evaluate("(token) => localStorage.setItem('chat-token', token)", expired(token))
    await chat.page.reload()
    await open_window(chat)
    await says("four")
    assert asked[2:] == ["/api/v1/session/refresh"]
    assert len(set(sessions(strict))) == 1
    assert sessions(strict)[0].startswith("s_")

    await chat.page.evaluate("localStorage.setItem('chat-token', 'nonsense')")
    await chat.page.reload()
    await open_window(chat)
    await says("five")
    assert asked[3:] == ["/api/v1/session/refresh", "/api/v1/session"]
    assert sessions(strict)[4].startswith("s_")
    assert sessions(strict)[4] != sessions(strict)[3]


@STREAMING
async def test_a_page_may_change_the_token_at_any_time(browser: Browser, shop: Shop, *, streaming: bool) -> None:
    options = shop.options(enableStreaming=streaming)
    mutable = f"{options[:-1]}, webhookConfig: {{headers: window.headers = {{}}}}}}"
    chat = await shop.visit_as(await browser.new_context(), mutable)
    error = "Error: " if streaming else ""
    heard: list[str] = []

    async def says(text: str, reply: str) -> None:
        heard.append(reply)
        await chat.chats(text, *heard)

    async def use(token: str) -> None:
        await chat.page.evaluate("(token) => { headers.Authorization = `Bearer ${token}` }", token)

    await says("without", "Echo: without")
    token: str = await chat.page.evaluate(
        f"fetch('{shop.server.url}/api/v1/session', {{method: 'POST'}}).then(async (is) => (await is.json()).token)"
    )
    await use(token)
    await says("with", "Echo: with")
    await use(expired(token))
    await says("expired", error + TOKEN_EXPIRED.sentence)
    await use("nonsense")
    await says("nonsense", error + TOKEN_INVALID.sentence)
    await use(token)
    await says("with again", "Echo: with again")
    named, issued, again = sessions(shop)
    assert named.startswith("w_")
    assert issued == again == jwts.read(token)["sub"]


@STREAMING
async def test_without_the_token_that_is_required_there_is_a_sentence(
    browser: Browser, strict: Shop, *, streaming: bool
) -> None:
    strict.n8n.requests.clear()
    chat = await strict.visit(browser, enableStreaming=streaming)
    await chat.chats("Hello", ("Error: " if streaming else "") + NO_SESSION)
    assert strict.n8n.requests == []


async def test_who_writes_too_much_is_told_so(browser: Browser, shop: Shop) -> None:
    plain = await shop.visit(browser, "shy")
    streaming = await shop.visit(browser, "shy", enableStreaming=True)
    await plain.chats("one", "Echo: one")
    await plain.chats("two", "Echo: one", RATE_LIMITED.sentence)
    await streaming.chats("three", f"Error: {RATE_LIMITED.sentence}")
    assert [request.text for request in shop.n8n.requests] == ["one"]


@STREAMING
async def test_a_bot_of_other_websites_says_so(browser: Browser, shop: Shop, *, streaming: bool) -> None:
    chat = await shop.visit(browser, "others", enableStreaming=streaming)
    await chat.chats("Hello", ("Error: " if streaming else "") + ORIGIN_NOT_ALLOWED.sentence)
    assert shop.n8n.requests == []


async def test_a_website_that_is_not_allowed_gets_nothing(browser: Browser, shop: Shop) -> None:
    with Website({"/": page_with_n8n_chat(shop.cdn, shop.options())}) as stranger:
        page = await (await browser.new_context()).new_page()
        async with page.expect_event("requestfailed"):
            await page.goto(stranger.url)
        await expect(page.get_by_text("Powered by n8n")).to_be_visible()
        await expect(N8nChat(page).input).to_have_count(0)
    assert shop.n8n.requests == []


async def test_bots_have_their_own_webhooks_and_sessions(browser: Browser, shop: Shop) -> None:
    context = await browser.new_context()
    for bot in ("", "sales"):
        chat = await shop.visit_as(context, shop.options(bot))
        await chat.chats(f"Hello {bot}", f"Echo: Hello {bot}".strip())
    assert [request.target for request in shop.n8n.requests] == ["/webhook/chat", "/webhook/chat-sales"]
    assert len(set(sessions(shop))) == 2


@STREAMING
async def test_a_bot_that_does_not_exist_and_another_bots_token_are_told(
    browser: Browser, shop: Shop, *, streaming: bool
) -> None:
    error = "Error: " if streaming else ""
    chat = await shop.visit(browser, "nobody", enableStreaming=streaming)
    await chat.chats("Hello", f"{error}There is no bot of this name.")
    token: str = await chat.page.evaluate(
        f"fetch('{shop.server.url}/api/v1/session', {{method: 'POST'}}).then(async (is) => (await is.json()).token)"
    )
    headers = {"Authorization": f"Bearer {token}"}
    chat = await shop.visit(browser, "sales", enableStreaming=streaming, webhookConfig={"headers": headers})
    await chat.chats("Hello", f"{error}This session belongs to another bot. Start a new session.")
    assert shop.n8n.requests == []


async def test_a_server_that_is_away_is_told_and_the_chat_goes_on_when_it_is_back(browser: Browser) -> None:
    lost = "Error: Failed to receive response"
    with open_shop() as shop:
        chats = [await shop.visit(browser, enableStreaming=streaming) for streaming in (False, True)]
        for chat in chats:
            await chat.chats("one", "Echo: one")
        shop.server.stop()
        for chat in chats:
            await chat.chats("two", "Echo: one", lost)
        shop.restart()
        for chat in chats:
            await chat.chats("three", "Echo: one", lost, "Echo: three")
        shop.server.stop()
        for chat in chats:
            await chat.page.reload()
            await expect(chat.page.get_by_text("Powered by n8n")).to_be_visible()
        shop.restart()
        for chat in chats:
            await chat.page.reload()
            await chat.ready()
            await chat.chats("four", "Echo: four")
        assert len(set(sessions(shop))) == len(chats)


async def test_a_server_that_stops_in_the_middle_says_so(browser: Browser) -> None:
    gate = Gate()
    with open_shop({"SHUTDOWN_GRACE_SECONDS": "0"}) as shop:
        shop.n8n.answer(answer_stream(["half ", "never"], gap=gate))
        plain, streaming = [await shop.visit(browser, enableStreaming=streaming) for streaming in (False, True)]
        await plain.say("Hello")
        await eventually(lambda: shop.n8n.requests)
        await streaming.say("Hello")
        await expect(streaming.replies).to_have_text(["half"])
        shop.server.send_signal(signal.SIGTERM)
        await plain.hears(f"half\n\n{STOPPED}")
        await streaming.hears("half", f"Error: {STOPPED}")
        gate.open()
