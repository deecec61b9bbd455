"""What axe-core finds wrong with a page for people who use it with a keyboard, a screen reader, or bad eyes."""

from typing import Any

from playwright.async_api import Page

from tests.support import sources

_AXE = (sources.ROOT / "tests" / "javascript" / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


async def violations(page: Page) -> list[str]:
    """Ask axe-core about the page as it is now, shadows included."""
    if await page.evaluate("window.axe === undefined"):
        await page.evaluate(_AXE)
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{one['id']}: {node['html'][:160]}" for one in found["violations"] for node in one["nodes"]]
