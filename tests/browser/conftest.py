"""What browser tests share: a headless Chromium, as the system has it, and a website with the widget."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Playwright, async_playwright, expect

from tests.conftest import StartServer
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor, page_with_widget, visit

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


HERE = Path(__file__).parent
PATIENCE_MS = 15_000
"""How long a page may take to show what it will, on a machine that is busy; what must be quick is measured."""

expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder in one event loop, so that they can share one Chromium; its start costs a second."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def chromium_path(*, whole: bool = False) -> str:
    """Find Chromium: the one that has no window and costs a third for each page, or the `whole` browser."""
    name = "chromium" if whole else "chromium-headless-shell"
    path = shutil.which(name)
    assert path, f"the browser tests need Debian's package {name}"
    return path


async def launch(playwright: Playwright, *flags: str) -> Browser:
    """Start a headless Chromium."""
    return await playwright.chromium.launch(executable_path=chromium_path(), args=[*FLAGS, *flags])


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Give one Chromium to all tests of this folder."""
    async with async_playwright() as playwright:
        launched = await launch(playwright)
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """Give the browser; its profiles end with the test."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


@pytest.fixture(scope="module")
def files() -> Iterator[ChatServer]:
    """Give one server for all tests of a module, which only hands out files."""
    with ChatServer(options=["--demo"]) as started:
        yield started


@pytest.fixture
def site() -> Iterator[Website]:
    """Give a website on an origin of its own."""
    with Website() as website:
        yield website


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> BrowserContext:
    """Give a fresh profile."""
    return await browser.new_context()


@pytest.fixture
def server(start_server: StartServer, n8n: ScriptedN8n, site: Website) -> ChatServer:
    """Give a server that allows the website, which has its widget on the page /."""
    started = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
    site.pages["/"] = page_with_widget(started.url)
    return started


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(context: BrowserContext, server: ChatServer, site: Website) -> Visitor:
    """Give a visitor with the chat open."""
    assert server.url != site.url
    visitor = await visit(context, site.url)
    await visitor.open()
    return visitor
