"""The demo page in a real browser: the widget in it chats, its snippet works as it is, and its policy is content."""

import re
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.conftest import StartServer
from tests.support import sources
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor, visit


async def open_page(browser: Browser, server: ChatServer, **options: Any) -> Visitor:
    """Open the page in a fresh profile."""
    return await visit(await browser.new_context(**options), f"{server.url}/")


async def test_a_visitor_chats_on_the_page(browser: Browser, server: ChatServer) -> None:
    visitor = await open_page(browser, server)
    await visitor.chats("Is it *open*?", "Echo: Is it open?")
    await visitor.page.reload()
    await visitor.shows(["Is it *open*?"], ["Echo: Is it open?"])
    assert visitor.complaints == []


async def test_the_page_says_how_the_server_is(browser: Browser, server: ChatServer, n8n: ScriptedN8n) -> None:
    visitor = await open_page(browser, server)
    await expect(visitor.page.locator("#health")).to_have_text("All is well")
    n8n.refuse()
    for refused in range(1, 11):
        await visitor.say("Hello")
        await expect(visitor.failure).to_have_count(refused)
        await expect(visitor.failure.last).to_contain_text("The assistant cannot be reached right now.")
    await visitor.page.reload()
    await expect(visitor.page.locator("#health")).to_have_text("It takes no messages at the moment")


async def test_the_stand_in_offers_what_it_can_do(browser: Browser, start_server: StartServer) -> None:
    server = start_server(None, options=["--demo"])
    visitor = await open_page(browser, server)
    await visitor.button("/help").click()
    await expect(visitor.replies.last).to_contain_text("/slow pauses for 24 seconds", use_inner_text=True)
    assert visitor.complaints == []


async def test_the_snippet_works_as_it_is_on_another_website(
    browser: Browser, start_server: StartServer, n8n: ScriptedN8n
) -> None:
    with Website() as site:
        server = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
        demo = await open_page(browser, server)
        snippet = await demo.page.locator("#snippet").inner_text()
        site.pages["/"] = f"<!doctype html><title>Plain</title>{snippet}"
        visitor = await visit(await browser.new_context(), site.url)
        await visitor.open()
        await visitor.chats("Hello", "Echo: Hello")
        assert visitor.complaints == []


async def test_the_snippet_of_the_readme_works_in_a_plain_file_of_another_website(
    browser: Browser, start_server: StartServer, n8n: ScriptedN8n
) -> None:
    found = re.search(r"```html\n(.*?)```", (sources.ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert found is not None
    with Website() as site:
        server = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
        site.pages["/"] = found[1].replace("https://chat.example.com", server.url)
        visitor = await visit(await browser.new_context(), site.url)
        await visitor.open("Ask us")
        await visitor.chats("Hello", "Echo: Hello")
        await visitor.page.reload()
        await visitor.open("Ask us")
        await visitor.shows(["Hello"], ["Echo: Hello"])
        assert visitor.complaints == []


async def test_the_snippet_is_copied(browser: Browser, server: ChatServer) -> None:
    visitor = await open_page(browser, server, permissions=["clipboard-read", "clipboard-write"])
    await visitor.page.locator("#copy").click()
    await expect(visitor.page.locator("#copy")).to_have_text("Copied")
    copied = await visitor.page.evaluate("navigator.clipboard.readText()")
    assert copied == (
        f'<script type="module" src="{server.url}/widget/chat-widget-define.js"></script>\n<chat-widget></chat-widget>'
    )


async def test_export_and_import_from_the_console_of_the_page(browser: Browser, server: ChatServer) -> None:
    visitor = await open_page(browser, server)
    await visitor.chats("Hello", "Echo: Hello")
    data = await visitor.page.evaluate("""async () => {
        const data = await chatPersistence.exportChatHistory('json'); await chatPersistence.importData(data);
        return data;
    }""")
    fresh = await open_page(browser, server)
    report = await fresh.page.evaluate("(data) => chatPersistence.importData(data)", data)
    assert report == {"sessions": 1, "messages": 2, "skipped": 0}
    again = await fresh.page.evaluate("chatPersistence.exportChatHistory('json')")
    assert _without_time(again) == _without_time(data)
    await (await fresh.conversations()).first.get_by_role("button").first.click()
    await fresh.shows(["Hello"], ["Echo: Hello"])
    await fresh.chats("and on", "Echo: and on")


def _without_time(data: str) -> str:
    head, _, rest = data.partition('"exported_at"')
    return head + rest.partition("\n")[2]


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
async def test_nothing_is_wider_than_the_screen(browser: Browser, server: ChatServer, width: int) -> None:
    visitor = await open_page(browser, server, viewport={"width": width, "height": 640})
    await visitor.chats("w" * 300, "Echo: " + "w" * 300)
    assert await visitor.page.evaluate("document.documentElement.scrollWidth") == width
