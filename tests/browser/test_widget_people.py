"""Everybody can use the widget: by keyboard, with a screen reader, enlarged, in the dark, from right to left."""

from typing import Any

import pytest
from playwright.async_api import Browser, Page, Request, expect

from tests.support.answers import answer_json, answer_stream
from tests.support.axe import violations
from tests.support.background import Gate
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor, page_with_widget, visit

FIRST_LOAD_BYTES = 30_000
MARKDOWN = """## Prices
Some **bold** words, `code` and a [link](https://example.com/a).

| plan | price |
|---|---|
| small | 5 |

```js
const answer = 42;
```
1. one
2. two
> quoted"""


async def focused(page: Page) -> str:
    """Name what has the focus, inside the widget too."""
    return str(
        await page.evaluate("""() => {
            let at = document.activeElement;
            while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
            return at?.ariaLabel || at?.textContent?.trim() || at?.localName || "";
        }""")
    )


async def test_everything_is_reached_by_keyboard_alone(browser: Browser, server: ChatServer, site: Website) -> None:
    assert server.url != site.url
    visitor = await visit(await browser.new_context(), site.url)
    press = visitor.page.keyboard.press
    await press("Tab")
    assert await focused(visitor.page) == "Chat"
    await press("Enter")
    await expect(visitor.input).to_be_focused()
    await visitor.page.keyboard.type("Hello")
    await press("Enter")
    await visitor.reads("Echo: Hello")
    await visitor.rests()
    await expect(visitor.input).to_be_focused()
    await visitor.page.keyboard.type("two")
    await press("Shift+Enter")
    await visitor.page.keyboard.type("lines")
    await press("Enter")
    await visitor.reads("Echo: two\nlines")
    await visitor.rests()
    names = []
    for _ in range(14):
        await press("Shift+Tab")
        names.append(await focused(visitor.page))
        if names[-1] == "Conversations":
            break
    for name in ("Ask again", "Bad answer", "Good answer", "Copy", "Close chat", "New chat", "Conversations"):
        assert name in names, names
    await press("Enter")
    await expect(visitor.widget.get_by_label("Search messages")).to_be_visible()
    await press("Escape")
    await expect(visitor.input).to_be_visible()
    assert await focused(visitor.page) == "Conversations"
    await press("Escape")
    await expect(visitor.input).to_be_hidden()
    assert await focused(visitor.page) == "Chat"
    await press("Tab")
    assert await focused(visitor.page) != "Your message", "what is hidden has no focus"
    assert visitor.complaints == []


async def test_a_finished_reply_is_said_once_and_not_piece_by_piece(
    browser: Browser, server: ChatServer, n8n: ScriptedN8n, site: Website
) -> None:
    assert server.url != site.url
    visitor = await visit(await browser.new_context(), site.url)
    await visitor.open()
    await visitor.page.evaluate("""() => {
        window.said = [];
        const regions = document.querySelector("chat-widget").shadowRoot.querySelectorAll("[role=status]");
        for (const region of regions)
            new MutationObserver(() => region.textContent && said.push(region.textContent))
                .observe(region, {childList: true, characterData: true, subtree: true});
    }""")
    n8n.next(answer_stream([f"piece {number} " for number in range(50)], gap=0.005))
    await visitor.say("Go")
    await expect(visitor.replies.last).to_contain_text("piece 49")
    await visitor.rests()
    await visitor.page.wait_for_function("said.length > 0")
    n8n.next(answer_json({"message": "Error in workflow"}, 500))
    await visitor.say("again")
    await expect(visitor.failure).to_be_visible()
    await visitor.page.wait_for_timeout(500)  # whatever else would be said
    said = await visitor.page.evaluate("said")
    assert len(said) == 2, said
    assert said[0].startswith("piece 0 piece 1 ")
    assert said[1].startswith("The assistant could not answer.")


@pytest.mark.parametrize(
    ("options", "page"),
    [
        ({"color_scheme": "light"}, ""),
        ({"color_scheme": "dark"}, ""),
        ({"color_scheme": "light"}, 'lang="ar" theme="dark"'),
        ({"color_scheme": "light", "viewport": {"width": 640, "height": 360}}, ""),  # 1280 x 720 at 200 %
        ({"color_scheme": "dark", "viewport": {"width": 320, "height": 640}, "has_touch": True}, 'lang="de"'),
        ({"forced_colors": "active"}, ""),
    ],
    ids=["light", "dark", "arabic", "200 %", "phone", "forced colours"],
)
async def test_axe_finds_nothing(
    browser: Browser, server: ChatServer, n8n: ScriptedN8n, site: Website, options: dict[str, Any], page: str
) -> None:
    site.pages["/"] = page_with_widget(server.url, f'suggestions="Prices|Hours" heading="Chat" {page}')
    visitor = await visit(await browser.new_context(reduced_motion="reduce", **options), site.url)
    assert await violations(visitor.page) == [], "closed"
    await visitor.widget.locator(".bubble").click()
    box = visitor.widget.locator("textarea")
    stop = visitor.widget.locator("button.stop")  # has a name in each language
    await expect(box).to_be_visible()
    assert await violations(visitor.page) == [], "empty"
    gate = Gate()
    n8n.next(answer_stream(["half ", "whole"], gap=gate))
    await box.fill("Hello")
    await box.press("Enter")
    await visitor.reads("half")
    assert await violations(visitor.page) == [], "streaming"
    gate.open()
    await expect(visitor.replies.last).to_contain_text("whole")
    await expect(stop).to_have_count(0)
    n8n.next(answer_stream([MARKDOWN]), answer_json({"message": "Error in workflow"}, 500))
    await box.fill("Prices?")
    await box.press("Enter")
    await expect(visitor.replies.last).to_contain_text("quoted")
    await expect(stop).to_have_count(0)
    await box.fill("fails")
    await box.press("Enter")
    await expect(visitor.failure).to_be_visible()
    assert await violations(visitor.page) == [], "a conversation"
    width = visitor.page.viewport_size["width"] if visitor.page.viewport_size else 0
    assert await visitor.page.evaluate("document.documentElement.scrollWidth") <= width
    await visitor.widget.locator("header button:visible").first.click()
    await expect(visitor.widget.locator("[type=search]")).to_be_visible()
    await expect(visitor.widget.locator(".row")).to_have_count(1)
    assert await violations(visitor.page) == [], "the list"
    await visitor.widget.locator(".row .icon").click()
    assert await violations(visitor.page) == [], "a question"


async def test_arabic_and_a_page_from_right_to_left_are_mirrored(
    browser: Browser, server: ChatServer, site: Website
) -> None:
    site.pages["/"] = page_with_widget(server.url).replace('<html lang="en">', '<html lang="ar" dir="rtl">')
    visitor = await visit(await browser.new_context(viewport={"width": 1000, "height": 700}), site.url)
    bubble = visitor.widget.locator(".bubble")
    box = await bubble.bounding_box()
    assert box is not None
    assert box["x"] < 100
    await bubble.click()
    await expect(visitor.widget.get_by_label("رسالتك")).to_be_visible()
    assert await visitor.widget.locator(".panel").evaluate("(panel) => getComputedStyle(panel).direction") == "rtl"


@pytest.mark.parametrize(
    ("lang", "label"),
    [("de", "Ihre Nachricht"), ("fr-CA", "Votre message"), ("es", "Su mensaje"), ("xx", "Your message")],
)
async def test_the_language_is_that_of_the_page(
    browser: Browser, server: ChatServer, site: Website, lang: str, label: str
) -> None:
    site.pages["/"] = page_with_widget(server.url).replace('<html lang="en">', f'<html lang="{lang}">')
    visitor = await visit(await browser.new_context(), site.url)
    await visitor.widget.locator(".bubble").click()
    await expect(visitor.widget.locator("textarea")).to_have_attribute("aria-label", label)


async def test_every_text_can_be_replaced(browser: Browser, server: ChatServer, site: Website) -> None:
    assert server.url != site.url
    visitor = await visit(await browser.new_context(), site.url)
    await visitor.page.evaluate("document.querySelector('chat-widget').strings = {input: 'Say it', heading: 'Ask us'}")
    await visitor.widget.locator(".bubble").click()
    await expect(visitor.widget.get_by_label("Say it")).to_be_visible()
    assert await visitor.widget.get_by_role("dialog", name="Ask us").count() == 1


async def test_who_wants_no_motion_sees_none(
    browser: Browser, server: ChatServer, n8n: ScriptedN8n, site: Website
) -> None:
    assert server.url != site.url
    visitor = await visit(await browser.new_context(reduced_motion="reduce"), site.url)
    await visitor.open()
    n8n.next(answer_stream(["half ", "whole"], gap=Gate()))
    await visitor.say("Hello")
    await visitor.reads("half")
    moving = await visitor.page.evaluate("""() =>
        document.querySelector("chat-widget").shadowRoot.getAnimations()
            .filter((one) => one.playState === "running" && one.effect.getComputedTiming().activeDuration > 10)
            .map((one) => one.animationName ?? one.transitionProperty)""")
    assert moving == []


@pytest.mark.parametrize("size", [{"width": 360, "height": 640}, {"width": 320, "height": 480}], ids=["360", "320"])
async def test_on_a_phone_it_fills_the_screen_and_nothing_is_wider(
    browser: Browser, server: ChatServer, site: Website, size: Any
) -> None:
    assert server.url != site.url
    context = await browser.new_context(viewport=size, has_touch=True, is_mobile=True, reduced_motion="reduce")
    visitor = await visit(context, site.url)
    await visitor.widget.locator(".bubble").tap()
    await expect(visitor.input).to_be_visible()
    box = await visitor.widget.locator(".panel").bounding_box()
    assert box is not None
    assert (box["x"], box["y"], box["width"]) == (0, 0, size["width"])
    assert box["height"] == pytest.approx(size["height"], abs=1)
    await visitor.chats("w" * 300, "Echo: " + "w" * 300)
    assert await visitor.page.evaluate("document.documentElement.scrollWidth") == size["width"]
    assert await visitor.input.evaluate("(input) => parseFloat(getComputedStyle(input).fontSize)") >= 16
    await visitor.button("Close chat").click()
    await expect(visitor.input).to_be_hidden()


async def _loaded(visitor: Visitor, requests: list[Request]) -> tuple[int, int]:
    """Give how many bytes of code came over the network, and in how many files."""
    await visitor.page.wait_for_load_state("networkidle")
    modules = [request for request in requests if "/widget/" in request.url and not request.url.endswith("icon.svg")]
    total = 0
    for request in modules:
        response = await request.response()
        assert response is not None
        assert response.headers["content-encoding"] == "gzip"
        total += int(response.headers["content-length"])
    return total, len(modules)


async def test_the_first_load_is_small(browser: Browser, server: ChatServer, site: Website) -> None:
    assert server.url != site.url
    context = await browser.new_context()
    visitor = Visitor(await context.new_page())
    requests: list[Request] = []
    visitor.page.on("request", lambda request: requests.append(request))  # noqa: PLW0108 - a built-in is none to it
    await visitor.page.goto(site.url)
    await expect(visitor.widget.locator(".bubble")).to_be_visible()
    closed, _ = await _loaded(visitor, requests)
    await visitor.open()
    opened, files = await _loaded(visitor, requests)
    await visitor.chats("Hello", "Echo: Hello")
    used, _ = await _loaded(visitor, requests)
    print(f"closed {closed} bytes, opened {opened} in {files} files, with a reply {used}, gzip")  # noqa: T201 - figures
    assert closed < FIRST_LOAD_BYTES // 2
    assert opened < FIRST_LOAD_BYTES
    assert used < 35_000
    assert len({request.url for request in requests}) == len(requests), "something was loaded twice"
