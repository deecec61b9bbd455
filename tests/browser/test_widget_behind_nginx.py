"""The widget in Chromium with deploy/nginx.conf between: over TLS and HTTP/2, and when all instances are down."""

from collections.abc import Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, expect

from tests.support.n8n import ScriptedN8n
from tests.support.nginx import Nginx
from tests.support.ports import free_port
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import page_with_widget, visit


class Chat:
    """Instances that can be stopped and started, with nginx before them."""

    def __init__(self, n8n: ScriptedN8n, origin: str) -> None:
        self._ports = [free_port() for _ in range(3)]
        self.nginx = Nginx(self._ports, {"fail_timeout=10s": "fail_timeout=1s"})
        self._environment = {"N8N_WEBHOOK_URL": n8n.url, "ALLOWED_ORIGINS": origin, "PUBLIC_URL": self.nginx.url}
        self._servers: list[ChatServer] = []

    def start(self) -> None:
        """Start all instances."""
        self._servers = [ChatServer(self._environment, port=port, wait=False) for port in self._ports]
        for server in self._servers:
            server.wait_until_serving()

    def stop(self) -> None:
        """End all instances."""
        for server in self._servers:
            server.kill()


@pytest.fixture(name="chat")
def _chat(n8n: ScriptedN8n, site: Website) -> Iterator[Chat]:
    chat = Chat(n8n, site.url)
    site.pages["/"] = page_with_widget(chat.nginx.url)
    with chat.nginx as nginx:
        chat.start()
        nginx.start()
        yield chat
        chat.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> BrowserContext:
    """Give a fresh profile that takes the certificate of the tests."""
    return await browser.new_context(ignore_https_errors=True)


async def test_the_widget_chats_over_http_2(context: BrowserContext, chat: Chat, site: Website) -> None:
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.chats("Hello", "Echo: Hello")
    await visitor.page.reload()
    await visitor.open()
    await visitor.chats("Again", "Echo: Again")
    await visitor.shows(["Hello", "Again"], ["Echo: Hello", "Echo: Again"])
    assert visitor.complaints == []
    told = chat.nginx.access_log.read_text("utf-8")
    assert '201 "POST /api/v1/session HTTP/2.0"' in told
    assert "HTTP/1.1" not in told


@pytest.mark.parametrize("own_origin", [True, False])
async def test_who_writes_while_all_instances_are_down_is_told_and_sends_again(
    context: BrowserContext, chat: Chat, site: Website, n8n: ScriptedN8n, *, own_origin: bool
) -> None:
    """On nginx's own origin its words are read; from other pages browsers keep them, which see a lost connection."""
    visitor = await visit(context, chat.nginx.url if own_origin else site.url)
    if not own_origin:
        await visitor.open()
    await visitor.chats("Hello", "Echo: Hello")
    chat.stop()
    await visitor.say("Are you there?")
    told = "The chat cannot be reached right now." if own_origin else "The connection was lost."
    await expect(visitor.failure).to_contain_text(told)
    chat.start()
    asked = len(n8n.requests)
    await visitor.button("Send again").click()
    await visitor.reads("Echo: Are you there?")
    assert len(n8n.requests) == asked + 1
