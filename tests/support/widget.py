"""What a visitor does and sees with the chat widget, in a real browser, on the demo page or on somebody's website."""

import json
from collections.abc import Sequence
from typing import Any

from playwright.async_api import BrowserContext, ConsoleMessage, Locator, Page, expect

HEADING = "Chat"
INPUT = "Your message"


def page_with_widget(server: str, attributes: str = "", *, before: str = "", head: str = "") -> str:
    """Give a website's page with the README's two lines, `attributes` of the element and more markup before it."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A shop</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{head}</head><body>'
        f"<main><h1>A shop</h1><p>Things to buy.</p>{before}"
        f'<script type="module" src="{server}/widget/chat-widget-define.js"></script>'
        f"<chat-widget {attributes}></chat-widget></main></body></html>"
    )


class Watched:
    """A page whose `complaints` are what the browser's console and its policy had to say."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


class Visitor(Watched):
    """One visitor on one page."""

    @property
    def widget(self) -> Locator:
        """The element."""
        return self.page.locator("chat-widget")

    @property
    def input(self) -> Locator:
        """Where one types."""
        return self.widget.get_by_label(INPUT)

    @property
    def questions(self) -> Locator:
        """The visitor's messages."""
        return self.widget.locator("li.user [part=text]:visible")

    @property
    def replies(self) -> Locator:
        """The assistant's messages, without the greeting."""
        return self.widget.locator("li.assistant [part=text]:visible")

    @property
    def failure(self) -> Locator:
        """Why a message failed, with what can be done."""
        return self.widget.locator(".fail")

    def button(self, name: str, *, exact: bool = True) -> Locator:
        """A button of the widget by its name, the last of that name."""
        return self.widget.get_by_role("button", name=name, exact=exact).last

    async def open(self, heading: str = HEADING) -> None:
        """Press the bubble and wait for the chat."""
        await self.widget.locator(".bubble").click()
        await expect(self.input).to_be_visible()
        assert await self.widget.get_by_role("dialog", name=heading).count() == 1

    async def say(self, text: str) -> None:
        """Type a message and send it with Enter."""
        await self.input.fill(text)
        await self.input.press("Enter")

    async def chats(self, question: str, reply: str) -> None:
        """Say something and wait for the whole reply."""
        await self.say(question)
        await self.reads(reply)
        await self.rests()

    async def reads(self, reply: str) -> None:
        """Wait until the last reply says exactly this."""
        await expect(self.replies.last).to_have_text(reply, use_inner_text=True)

    async def rests(self) -> None:
        """Wait until nothing is being answered."""
        await expect(self.button("Stop")).to_have_count(0)

    async def shows(self, questions: Sequence[str], replies: Sequence[str]) -> None:
        """Wait until the conversation holds exactly these."""
        await expect(self.questions).to_have_text(list(questions))
        await expect(self.replies).to_have_text(list(replies), use_inner_text=True)

    async def conversations(self) -> Locator:
        """Open the list of conversations and give its entries."""
        await self.button("Conversations").click()
        return self.widget.get_by_role("list", name="Conversations").get_by_role("listitem")

    async def stored(self) -> list[dict[str, Any]]:
        """All messages that the browser keeps, with their conversation, as an export tells."""
        document = json.loads(await self.page.evaluate("chatPersistence.exportChatHistory('json')"))
        return [message for session in document["sessions"] for message in session["messages"]]


async def visit(context: BrowserContext, url: str) -> Visitor:
    """Open a page in a new tab."""
    visitor = Visitor(await context.new_page())
    await visitor.page.goto(url)
    return visitor
