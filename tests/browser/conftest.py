"""What browser tests share: a headless Chromium, as the system has it."""

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.support.server import ChatServer

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Give a headless Chromium, as the system has it."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "the browser tests need Chromium (Debian: apt-get install chromium)"
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=path, args=[*FLAGS, "--disable-sync"])
        yield launched
        await launched.close()


@pytest.fixture(scope="module")
def files() -> Iterator[ChatServer]:
    """Give one server for all tests of a module, which only hands out files."""
    with ChatServer(options=["--demo"]) as started:
        yield started
