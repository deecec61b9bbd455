"""What the widget keeps: long histories, export and import by its buttons, and browsers that give no storage."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from tests.browser.conftest import launch
from tests.conftest import StartServer
from tests.support.answers import answer_stream
from tests.support.background import Gate
from tests.support.history_tab import FULL
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor, page_with_widget, visit

MANY = 10_000
OPENS_WITHIN_SECONDS = 4.0
MOST_IN_THE_PAGE = 200
REFUSES = "{ get() { throw new DOMException('', 'SecurityError') } }"
DENIED = {
    "no IndexedDB": "Object.defineProperty(window, 'indexedDB', { value: undefined })",
    "IndexedDB denied": f"Object.defineProperty(window, 'indexedDB', {REFUSES})",
    "IndexedDB broken": """IDBFactory.prototype.open = function () {
        const request = new EventTarget();
        setTimeout(() => {
            Object.defineProperty(request, 'error', { value: new DOMException('', 'UnknownError') });
            request.onerror?.(new Event('error'));
        });
        return request;
    }""",
}
NO_LOCAL_STORAGE = (
    "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('', 'SecurityError') } })"
)
NOT_SAVED = "This chat is not saved"


def history(count: int) -> dict[str, Any]:
    """Make a document with one conversation of so many messages."""
    began = "2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z"
    messages = []
    for at in range(count):
        turn = at // 2
        moment = began.format(day=1 + at // 86400, hour=at // 3600 % 24, minute=at // 60 % 60, second=at % 60)
        messages.append(
            {
                "message_id": f"00000000-0000-4000-8000-{turn:012}",
                "role": "user" if at % 2 == 0 else "assistant",
                "content": f"message {at} needle" if at == count // 2 else f"message {at} with **some** words",
                "created_at": moment,
                "status": "complete",
            }
        )
    times = {"created_at": messages[0]["created_at"], "updated_at": messages[-1]["created_at"]}
    session = {"session_id": "c_long", "bot": "", "title": "A long conversation", **times, "messages": messages}
    return {
        "format": "chatcore-history",
        "version": 1,
        "exported_at": "2026-02-01T00:00:00.000Z",
        "sessions": [session],
    }


async def export(visitor: Visitor, tmp_path: Path) -> str:
    """Press the button and give the file's text."""
    await visitor.conversations()
    async with visitor.page.expect_download() as begun:
        await visitor.button("Export as JSON").click()
    path = tmp_path / "export.json"
    await (await begun.value).save_as(path)
    return path.read_text("utf-8")


def without_time(data: str) -> str:
    """Take the time of the export out of a document."""
    head, _, rest = data.partition('"exported_at"')
    return head + rest.partition("\n")[2]


@pytest.mark.alone
async def test_ten_thousand_messages_open_at_once_and_scroll_to_the_first(visitor: Visitor) -> None:
    await visitor.page.evaluate("(document) => chatPersistence.importData(document)", history(MANY))
    entries = await visitor.conversations()
    began = time.monotonic()
    await entries.first.get_by_role("button").first.click()
    await expect(visitor.replies.last).to_have_text(f"message {MANY - 1} with some words")
    seconds = time.monotonic() - began
    print(f"{MANY} messages opened in {seconds:.2f} s")  # noqa: T201 - the figure
    assert seconds < OPENS_WITHIN_SECONDS
    items = visitor.widget.locator(".items > li")
    assert await items.count() <= MOST_IN_THE_PAGE
    scroller = visitor.widget.locator(".scroll")
    for _ in range(12):
        before = await visitor.questions.first.inner_text()
        await scroller.evaluate("(scroller) => { scroller.scrollTop = 0 }")
        await expect(visitor.questions.first).not_to_have_text(before)
        assert await items.count() <= MOST_IN_THE_PAGE
    await visitor.button("Jump to latest").click()
    await expect(visitor.replies.last).to_have_text(f"message {MANY - 1} with some words")
    await visitor.conversations()
    await visitor.widget.get_by_label("Search messages").fill("NEEDLE")
    await expect(visitor.widget.locator("mark")).to_have_text("needle")
    await entries.first.get_by_role("button").first.click()
    await expect(visitor.widget.get_by_text("needle")).to_be_in_viewport()
    await visitor.say("and on")
    await visitor.reads("Echo: and on")


async def test_the_first_of_some_hundred_messages_is_reached_by_scrolling_and_back(visitor: Visitor) -> None:
    await visitor.page.evaluate("(document) => chatPersistence.importData(document)", history(500))
    await (await visitor.conversations()).first.get_by_role("button").first.click()
    await expect(visitor.replies.last).to_have_text("message 499 with some words")
    scroller = visitor.widget.locator(".scroll")
    first = visitor.widget.get_by_text("message 0 with", exact=False)
    for _ in range(40):
        await scroller.evaluate("(scroller) => { scroller.scrollTop = 0 }")
        if await first.count():
            break
        await visitor.page.wait_for_timeout(50)
    await expect(first).to_be_attached()
    assert await visitor.widget.locator(".items > li").count() <= MOST_IN_THE_PAGE
    for _ in range(40):
        await scroller.evaluate("(scroller) => { scroller.scrollTop = scroller.scrollHeight }")
        if await visitor.widget.get_by_text("message 499 with", exact=False).count():
            break
        await visitor.page.wait_for_timeout(50)
    await expect(visitor.replies.last).to_have_text("message 499 with some words")


async def test_an_export_imported_in_a_fresh_profile_is_exported_the_same(
    visitor: Visitor, browser: Browser, site: Website, tmp_path: Path, n8n: ScriptedN8n
) -> None:
    await visitor.chats("Hello *there* <b>", "Echo: Hello there <b>")
    await visitor.button("Good answer").click()
    await visitor.button("New chat").click()
    await visitor.chats("مرحبا 😀\n\ttwo", "Echo: مرحبا 😀\ntwo")
    data = await export(visitor, tmp_path)
    fresh = await visit(await browser.new_context(), site.url)
    await fresh.open()
    entries = await fresh.conversations()
    await fresh.widget.locator("input[type=file]").set_input_files(
        {"name": "chat.json", "mimeType": "application/json", "buffer": data.encode()}
    )
    await expect(entries).to_have_count(2)
    await expect(fresh.widget.get_by_text("Imported: 2 conversations, 4 messages. Skipped: 0.").first).to_be_visible()
    await fresh.page.keyboard.press("Escape")
    again = await export(fresh, tmp_path)
    assert without_time(again) == without_time(data)
    assert json.loads(data)["sessions"][0]["messages"][0]["content"] == "Hello *there* <b>"
    await entries.filter(has_text="Hello").get_by_role("button").first.click()
    await fresh.chats("and on", "Echo: and on")
    assert len({request.json["sessionId"] for request in n8n.requests}) == 3
    assert fresh.complaints == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("{", "Nothing was imported"),
        ("[]", "Nothing was imported"),
        ('{"format": "other"}', "Nothing was imported"),
        ('{"format": "chatcore-history", "version": 99, "exported_at": "x", "sessions": []}', "version"),
        ('{"__proto__": {"polluted": 1}, "format": "chatcore-history", "version": 1}', "Nothing was imported"),
        ("[" * 100_000, "Nothing was imported"),
        ("x" * 1_000_000, "Nothing was imported"),
    ],
    ids=["truncated", "array", "format", "version", "proto", "deep", "long"],
)
async def test_a_hostile_file_changes_nothing_and_says_why(visitor: Visitor, data: str, why: str) -> None:
    await visitor.chats("Hello", "Echo: Hello")
    before = await visitor.stored()
    await visitor.conversations()
    await visitor.widget.locator("input[type=file]").set_input_files(
        {"name": "chat.json", "mimeType": "application/json", "buffer": data.encode()}
    )
    await expect(visitor.widget.locator(".result")).to_contain_text(why)
    await expect(visitor.widget.locator(".result")).to_contain_text("Nothing was imported")
    assert await visitor.stored() == before
    assert await visitor.page.evaluate("({}).polluted") is None


@pytest.mark.parametrize("denied", DENIED, ids=list(DENIED))
@pytest.mark.parametrize("local", [True, False], ids=["localStorage", "no localStorage"])
async def test_without_storage_the_chat_works_and_says_that_it_is_not_saved(
    context: BrowserContext, server: ChatServer, site: Website, denied: str, *, local: bool
) -> None:
    assert server.url != site.url
    await context.add_init_script(DENIED[denied] + ("" if local else ";" + NO_LOCAL_STORAGE))
    visitor = await visit(context, site.url)
    await visitor.open()
    await expect(visitor.widget.get_by_text(NOT_SAVED)).to_be_visible()
    await visitor.chats("one", "Echo: one")
    await visitor.chats("two", "Echo: two")
    await visitor.shows(["one", "two"], ["Echo: one", "Echo: two"])
    await visitor.button("New chat").click()
    await visitor.chats("three", "Echo: three")
    await expect(await visitor.conversations()).to_have_count(2)
    assert visitor.complaints == []


async def test_without_local_storage_alone_conversations_are_kept(
    context: BrowserContext, server: ChatServer, site: Website
) -> None:
    assert server.url != site.url
    await context.add_init_script(NO_LOCAL_STORAGE)
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.chats("one", "Echo: one")
    await visitor.page.reload()
    await visitor.open()
    await (await visitor.conversations()).first.get_by_role("button").first.click()
    await visitor.shows(["one"], ["Echo: one"])
    await visitor.chats("two", "Echo: two")
    assert visitor.complaints == []


async def test_a_full_disk_is_told_and_loses_nothing_that_is_seen(
    context: BrowserContext, server: ChatServer, site: Website
) -> None:
    assert server.url != site.url
    await context.add_init_script(FULL)
    visitor = await visit(context, site.url)
    await visitor.page.evaluate("full = false")
    await visitor.open()
    await visitor.chats("one", "Echo: one")
    await visitor.page.evaluate("full = true")
    await visitor.chats("two", "Echo: two")
    await expect(visitor.widget.get_by_text(NOT_SAVED)).to_be_visible()
    await visitor.shows(["one", "two"], ["Echo: one", "Echo: two"])
    await visitor.page.evaluate("full = false")
    await visitor.chats("three", "Echo: three")
    await expect(visitor.widget.get_by_text(NOT_SAVED)).to_be_hidden()
    await visitor.page.reload()
    await visitor.open()
    await visitor.shows(["one", "two", "three"], ["Echo: one", "Echo: two", "Echo: three"])


async def test_a_draft_survives_a_reload_and_is_gone_once_it_is_sent(visitor: Visitor) -> None:
    await visitor.input.fill("half a thou")
    await visitor.page.reload()
    await visitor.open()
    await expect(visitor.input).to_have_value("half a thou")
    await visitor.input.press("End")
    await visitor.page.keyboard.type("ght")
    await visitor.page.keyboard.press("Enter")
    await visitor.reads("Echo: half a thought")
    await visitor.page.reload()
    await visitor.open()
    await expect(visitor.input).to_have_value("")


async def test_a_conversation_that_another_tab_deletes_is_gone_here_too(
    visitor: Visitor, context: BrowserContext, site: Website, n8n: ScriptedN8n
) -> None:
    gate = Gate()
    n8n.next(answer_stream(["half ", "whole"], gap=gate))
    await visitor.say("Hello")
    await visitor.reads("half")
    other = await visit(context, site.url)
    await other.open()
    await other.conversations()
    await other.button("Delete all").click()
    await other.button("Delete", exact=True).click()
    for one in (visitor, other):
        await expect(one.questions).to_have_count(0)
    gate.open()
    await visitor.chats("anew", "Echo: anew")
    assert {one["content"] for one in await visitor.stored()} == {"anew", "Echo: anew"}
    assert n8n.requests[0].json["sessionId"] != n8n.requests[1].json["sessionId"]


@pytest_asyncio.fixture(loop_scope="session")
async def plain_http() -> AsyncIterator[Browser]:
    """Give a browser that finds shop.test here: a website by plain http, which is no secure context."""
    async with async_playwright() as playwright:
        launched = await launch(playwright, "--host-resolver-rules=MAP shop.test 127.0.0.1")
        yield launched
        await launched.close()


async def test_a_website_by_plain_http_lacks_nothing(
    plain_http: Browser, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    url = site.url.replace("127.0.0.1", "shop.test")
    server = start_server(n8n, {"ALLOWED_ORIGINS": url})
    site.pages["/"] = page_with_widget(server.url.replace("127.0.0.1", "shop.test"))
    context = await plain_http.new_context()
    visitor = await visit(context, url)
    assert await visitor.page.evaluate("[isSecureContext, 'locks' in navigator, 'randomUUID' in crypto]") == [False] * 3
    await visitor.open()
    await visitor.chats("one", "Echo: one")
    gate = Gate()
    n8n.next(answer_stream(["half ", "whole"], gap=gate))
    await visitor.say("two")
    await visitor.reads("half")
    other = await visit(context, url)
    await other.open()
    await other.shows(["one", "two"], ["Echo: one", "half"])
    await visitor.page.reload()
    await visitor.open()
    gate.open()
    for tab in (visitor, other):
        await tab.rests()
        await tab.shows(["one", "two"], ["Echo: one", "half whole"])
    await visitor.button("Copy").click()
    await expect(visitor.widget.get_by_role("status").filter(has_text="Copied")).to_be_attached()
    await visitor.chats("three", "Echo: three")
    assert [request.text for request in n8n.requests] == ["one", "two", "three"]
    assert len(await visitor.stored()) == 6
    assert visitor.complaints == []
