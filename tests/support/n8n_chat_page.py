"""n8n's own chat widget (`@n8n/chat` from npm, unmodified) on somebody's page, and what a visitor does there."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from os import PathLike
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self

from playwright.async_api import Browser, BrowserContext, FilePayload, Locator, expect

from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Watched

BUNDLE = Path(__file__).parent.parent / "javascript" / "node_modules" / "@n8n" / "chat" / "dist"


class Cdn:
    """Serves the widget's files on a port of its own, as a content delivery network does. `url` is its origin."""

    def __init__(self) -> None:
        assert BUNDLE.is_dir(), "the tests of n8n's widget need its files: npm ci --prefix tests/javascript"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(BUNDLE)))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Files(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")  # modules are always fetched by the rules of CORS
        super().end_headers()

    def guess_type(self, path: str | PathLike[str]) -> str:
        return "text/css" if str(path).endswith(".css") else "text/javascript"

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


def page_with_n8n_chat(cdn: Cdn, options: str) -> str:
    """Give a website's page with the two elements of n8n's README; `options` is what `createChat` gets, as code."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A shop</title>'
        f'<link href="{cdn.url}/style.css" rel="stylesheet"></head><body><h1>A shop</h1>'
        f'<script type="module">import {{ createChat }} from "{cdn.url}/chat.bundle.es.js";'
        f"createChat({options});</script></body></html>"
    )


class N8nChat(Watched):
    """A visitor with n8n's widget."""

    @property
    def input(self) -> Locator:
        """Where one types."""
        return self.page.locator("[data-test-id=chat-input]")

    @property
    def bubbles(self) -> Locator:
        """All messages, the visitor's and the assistant's, without the sign that something is being typed."""
        return self.page.locator(".chat-message:not(.chat-message-typing)")

    @property
    def replies(self) -> Locator:
        """The assistant's messages."""
        return self.page.locator(".chat-message-from-bot:not(.chat-message-typing)")

    @property
    def typing(self) -> Locator:
        """The sign that the assistant is being waited for."""
        return self.page.locator("[data-test-id=chat-message-typing]")

    async def ready(self) -> None:
        """Wait until one can type; the widget asks for its history first."""
        await expect(self.input).to_be_visible()

    async def say(self, text: str) -> None:
        """Type a message and send it with Enter."""
        await self.input.fill(text)
        await self.input.press("Enter")

    async def hears(self, *replies: str) -> None:
        """Wait until the assistant's messages are exactly these, and nothing is being waited for."""
        await expect(self.replies).to_have_text(list(replies), use_inner_text=True)
        await expect(self.typing).to_have_count(0)

    async def chats(self, question: str, *replies: str) -> None:
        """Say something and wait until the assistant's messages since the first are exactly these."""
        await self.say(question)
        await self.hears(*replies)

    async def attach(self, *files: tuple[str, str, bytes]) -> None:
        """Choose files (name, type, content) with the paper clip."""
        async with self.page.expect_file_chooser() as choosing:
            await self.page.locator("[data-test-id=chat-attach-file-button]").click()
        chooser = await choosing.value
        await chooser.set_files([FilePayload(name=name, mimeType=kind, buffer=data) for name, kind, data in files])
        await expect(self.page.locator(".chat-files").locator("[data-test-id=chat-file]")).to_have_count(len(files))

    async def shows(self, messages: Sequence[str]) -> None:
        """Wait until the whole conversation is exactly these, the visitor's and the assistant's."""
        await expect(self.bubbles).to_have_text(list(messages), use_inner_text=True)


@dataclass
class Shop:
    """A website that embeds the widget, the server that it talks to with its settings, and the n8n behind that."""

    n8n: ScriptedN8n
    site: Website
    cdn: Cdn
    server: ChatServer
    settings: Mapping[str, str]

    async def visit(self, browser: Browser, bot: str = "", **options: Any) -> N8nChat:
        """Visit the shop with a fresh profile and wait until one can type; `options` are the widget's."""
        return await self.visit_as(await browser.new_context(), self.options(bot, **options))

    async def visit_as(self, context: BrowserContext, options: str) -> N8nChat:
        """Visit the shop in a new tab, with these options of the widget as code, and wait until one can type."""
        chat = await self.load(context, page_with_n8n_chat(self.cdn, options))
        await chat.ready()
        return chat

    async def load(self, context: BrowserContext, page: str) -> N8nChat:
        """Load this page of the shop in a new tab."""
        self.site.pages["/"] = page
        chat = N8nChat(await context.new_page())
        await chat.page.goto(self.site.url)
        return chat

    def options(self, bot: str = "", **more: Any) -> str:
        """Give the widget's options as code: on the whole page, without its greetings, and what else is wanted."""
        webhook = f"{self.server.url}/chat{bot and '/'}{bot}"
        return json.dumps({"webhookUrl": webhook, "mode": "fullscreen", "initialMessages": [], **more})

    def restart(self) -> None:
        """Start the server again, where it was, once it has ended."""
        self.server = ChatServer(self.settings, port=self.server.port)


@contextmanager
def open_shop(
    environment: Mapping[str, str] | None = None, *bots: str, main: str = "main_stateless.py"
) -> Iterator[Shop]:
    """Give a shop whose server allows its origin; each of `bots` has the webhook's address with `-<bot>` behind it."""
    with ScriptedN8n() as n8n, Website() as site, Cdn() as cdn:
        settings = {"N8N_WEBHOOK_URL": n8n.url, "ALLOWED_ORIGINS": site.url, **(environment or {})}
        settings |= {f"N8N_WEBHOOK_URL_{bot.upper()}": f"{n8n.url}-{bot}" for bot in bots}
        shop = Shop(n8n, site, cdn, ChatServer(settings, main=main), settings)
        try:
            yield shop
        finally:
            shop.server.kill()
        assert not n8n.faults, f"a script of the test failed: {n8n.faults}"
