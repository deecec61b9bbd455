"""The demo page in a real browser: it chats, stops, shows errors, works by keyboard, and its policy is content."""

from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from tests.conftest import StartServer
from tests.support.answers import Answer, answer_error, answer_json, answer_stream, cut
from tests.support.background import Gate
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer

MESSAGE = "Your message"


class Visit:
    """One visit to the page. `complaints` holds what the browser's console and its policy had to say."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    async def say(self, text: str) -> None:
        """Type a message and send it with Enter."""
        await self.page.get_by_label(MESSAGE).fill(text)
        await self.page.keyboard.press("Enter")

    async def shows(self, kind: str, text: str, at: int = -1) -> None:
        """Wait until the last entry of that kind (`at` counts) says exactly this."""
        await expect(self.page.locator(f"#log .{kind}").nth(at)).to_have_text(text)


async def visit(browser: Browser, server: ChatServer, **options: Any) -> Visit:
    """Open the page in a fresh browser profile."""
    context = await browser.new_context(**options)
    opened = Visit(await context.new_page())
    await opened.page.goto(f"{server.url}/")
    return opened


async def test_a_visitor_chats_by_keyboard_alone(browser: Browser, server: ChatServer) -> None:
    visitor = await visit(browser, server)
    await visitor.page.keyboard.type("Is it *open*?")  # the message has the focus from the start
    await visitor.page.keyboard.press("Enter")
    await visitor.shows("mine", "Is it *open*?")
    await visitor.shows("theirs", "Echo: Is it *open*?")
    await expect(visitor.page.get_by_role("status")).to_have_text("Echo: Is it *open*?")
    await expect(visitor.page.get_by_label(MESSAGE)).to_be_focused()
    await visitor.page.keyboard.type("two")
    await visitor.page.keyboard.press("Shift+Enter")
    await visitor.page.keyboard.type("lines <b>")
    await visitor.page.keyboard.press("Enter")
    await visitor.shows("theirs", "Echo: two\nlines <b>")
    assert visitor.complaints == []


async def test_a_reply_streams_and_can_be_stopped(browser: Browser, server: ChatServer, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.answer(answer_stream(["first words", " never said"], gap=gate))
    visitor = await visit(browser, server)
    await visitor.say("Go on")
    await visitor.shows("theirs", "first words")
    await expect(visitor.page.get_by_role("button", name="Send")).to_be_hidden()
    await visitor.page.get_by_role("button", name="Stop").click()
    await visitor.shows("note", "Stopped.")
    await expect(visitor.page.get_by_role("button", name="Send")).to_be_visible()
    await expect(visitor.page.get_by_label(MESSAGE)).to_be_focused()
    gate.open()
    assert visitor.complaints == []


async def test_an_error_is_shown_with_its_sentence_and_another_try(
    browser: Browser, server: ChatServer, n8n: ScriptedN8n
) -> None:
    n8n.next(answer_json({"message": "Error in workflow"}, 500))
    visitor = await visit(browser, server)
    await visitor.say("Hello")
    await visitor.shows("error", "The assistant could not answer. Please try again.Try again")
    await visitor.page.get_by_role("button", name="Try again").click()
    await visitor.shows("theirs", "Echo: Hello")
    assert await visitor.page.locator("#log .error").count() == 0
    assert len(n8n.requests) == 2
    assert visitor.complaints == ["Failed to load resource: the server responded with a status of 502 (Bad Gateway)"]


@pytest.mark.parametrize("broken", [answer_error("half a"), cut("half a")], ids=["error", "cut"])
async def test_a_reply_that_breaks_off_keeps_what_was_said(
    browser: Browser, server: ChatServer, n8n: ScriptedN8n, broken: Answer
) -> None:
    n8n.next(broken)
    visitor = await visit(browser, server)
    await visitor.say("Hello")
    await expect(visitor.page.locator("#log .error")).to_be_visible()
    await visitor.shows("theirs", "half a")


async def test_a_lost_server_is_told_and_the_same_message_is_not_run_twice(
    browser: Browser, server: ChatServer, n8n: ScriptedN8n
) -> None:
    visitor = await visit(browser, server)
    await visitor.say("one")
    await visitor.shows("theirs", "Echo: one")
    await visitor.page.context.set_offline(True)
    await visitor.say("two")
    await visitor.shows("error", "The connection was lost.Try again")
    await visitor.page.context.set_offline(False)
    await visitor.page.get_by_role("button", name="Try again").click()
    await visitor.shows("theirs", "Echo: two")
    assert [request.text for request in n8n.requests] == ["one", "two"]


async def test_waiting_times_are_told(browser: Browser, start_server: StartServer, n8n: ScriptedN8n) -> None:
    server = start_server(n8n, {"SESSION_RATE_LIMIT_PER_MINUTE": "1"})
    visitor = await visit(browser, server)
    await visitor.say("one")
    await visitor.shows("theirs", "Echo: one")
    await visitor.say("two")
    fault = visitor.page.locator("#log .error")
    await expect(fault).to_contain_text("Please wait a moment. Try again in ")


async def test_the_example_on_the_page_works_as_it_is(browser: Browser, server: ChatServer) -> None:
    visitor = await visit(browser, server)
    said: list[str] = []
    visitor.page.on("console", lambda message: said.append(message.text))
    example = await visitor.page.locator("#example").inner_text()
    await visitor.page.evaluate(f"async () => {{ {example} }}")
    assert said == ["Echo: Hello"]
    assert visitor.complaints == []


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
async def test_nothing_is_wider_than_the_screen(browser: Browser, server: ChatServer, width: int) -> None:
    visitor = await visit(browser, server, viewport={"width": width, "height": 640})
    await visitor.say("w" * 300)
    await visitor.shows("theirs", "Echo: " + "w" * 300)
    assert await visitor.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_its_ground(browser: Browser, server: ChatServer, scheme: Any) -> None:
    visitor = await visit(browser, server, color_scheme=scheme)
    await visitor.say("Hello")
    await visitor.shows("theirs", "Echo: Hello")
    ratios = await visitor.page.evaluate(CONTRASTS)
    assert len(ratios) > 10
    assert not {text: ratio for text, ratio in ratios if ratio < 4.5}, "WCAG 2.2, 1.4.3"


CONTRASTS = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
  };
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility())
    .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((element) => {
      const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
      return [element.textContent.slice(0, 30), (a + 0.05) / (b + 0.05)];
    });
}"""
"""Runs in the page: gives the contrast of every element that has text of its own with what is behind it."""
