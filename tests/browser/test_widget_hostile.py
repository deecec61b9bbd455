"""Hostile texts, servers and pages: nothing runs, nothing leaves, nothing looks like more than text, the chat goes on."""

from collections.abc import Sequence

import pytest
from playwright.async_api import BrowserContext

from tests.support import hostile_texts as texts
from tests.support.answers import Answer, answer_stream
from tests.support.n8n import Request, ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor
from tests.support.widget_watch import Watch, send_all

PIECES = 12


def pieces(text: str, count: int = PIECES) -> list[str]:
    """Cut a text where it hurts: at places that have nothing to do with its words."""
    size = max(1, len(text) // count)
    return [text[at : at + size] for at in range(0, len(text), size)]


def repeat(request: Request) -> Answer:
    """Answer with the message itself, piece by piece."""
    return answer_stream(pieces(request.text), gap=0.004)


async def watched(context: BrowserContext, server: ChatServer, site: Website, path: str = "/") -> tuple[Visitor, Watch]:
    """Open the chat of a page that is watched."""
    page = await context.new_page()
    watch = await Watch.over(page, server.url, site.url)
    visitor = Visitor(page)
    await page.goto(site.url + path)
    await visitor.open()
    return visitor, watch


async def shown(visitor: Visitor, who: str) -> list[str]:
    """Give the texts of all messages of one role, as they are in the DOM."""
    told: list[str] = await visitor.widget.locator(f"li.{who} [part=text]").evaluate_all(
        "(all) => all.map((one) => one.textContent)"
    )
    return told


@pytest.mark.parametrize("hostile", [texts.MARKUP, texts.LINKS, texts.MARKDOWN], ids=["markup", "links", "markdown"])
async def test_what_is_said_is_text_whoever_says_it(
    context: BrowserContext, server: ChatServer, site: Website, n8n: ScriptedN8n, hostile: Sequence[str]
) -> None:
    n8n.answer(repeat)
    visitor, watch = await watched(context, server, site)
    for at in range(0, len(hostile), 30):
        told = await send_all(visitor.page, list(hostile[at : at + 30]))
        assert {one["type"] for one in told} == {"chat-reply"}
        assert await watch.found() == []
        for one in hostile[at : at + 30]:
            assert one in await shown(visitor, "user")
            if hostile is texts.MARKUP:
                assert one in await shown(visitor, "assistant")
    await visitor.chats("bye", "bye")
    assert await watch.found() == []
    assert visitor.complaints == []
