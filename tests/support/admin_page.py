"""The operators' page in a browser: somebody who uses it and a stand-in for the API behind it."""

import asyncio
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Locator, Page, Route, expect

from tests.support.widget import Visitor

TOKEN = "an-operator-knows-this-token-alone"
NOW = "2026-03-18T13:24:00Z"
NOTHING: dict[str, Any] = dict.fromkeys(
    ("sessions", "messages", "replies", "errors", "feedback_up", "feedback_down"), 0
) | {"reply_ms_p50": None, "reply_ms_p95": None}


class Api:
    """The API's part: answers what `answer` makes of a question, and remembers the questions."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.tokens: list[str | None] = []
        self.answer: Callable[[dict[str, str]], tuple[int, Any]] = lambda asked: (200, report(asked))
        self.gate: asyncio.Event | None = None

    async def handle(self, route: Route) -> None:
        address = urlsplit(route.request.url)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.asked.append(asked)
        self.tokens.append(await route.request.header_value("authorization"))
        assert TOKEN not in route.request.url
        status, body = self.answer(asked)
        if self.gate is not None:
            await self.gate.wait()
        if status == 0:
            await route.abort("connectionrefused")
        elif isinstance(body, str):
            await route.fulfill(status=status, body=body, content_type="text/html")
        else:
            await route.fulfill(status=status, json=body)


def at(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def report(asked: dict[str, str], *, empty: bool = False, places: list[str] | None = None) -> dict[str, Any]:
    """Give an answer as the contract has it, with days and nights in it, and a night without any reply."""
    begin, end = (datetime.fromisoformat(asked[name]) for name in ("from", "to"))
    step = timedelta(hours=1) if asked["interval"] == "hour" else timedelta(days=1)
    series: list[dict[str, Any]] = []
    moment = begin
    while moment < end:
        n = len(series)
        busy = 0.0 if moment > datetime.fromisoformat(NOW) else 1 + math.sin(n * 2 * math.pi / 24 - 2) + n % 5 / 9
        messages = round(busy * 37)
        slot = {**NOTHING, "start": at(moment)}
        if messages and not empty:
            slot |= {"sessions": round(messages / 3.2), "messages": messages, "replies": messages - n % 3}
            slot |= {"errors": 3 if n % 11 == 5 else 0, "feedback_up": n % 3, "feedback_down": n % 7 // 6}
            if messages > 2:
                slot |= {"reply_ms_p50": round(900 + 40 * messages), "reply_ms_p95": round(2100 + n % 7 * 800)}
        series.append(slot)
        moment += step
    sums = {name: sum(slot[name] for slot in series) for name in NOTHING if not name.startswith("reply_")}
    totals = {**sums, "reply_ms_p50": None if empty else 1834, "reply_ms_p95": None if empty else 6120}
    named = places or ["https://www.example.com", "https://shop.example.com", "", "https://docs.example.com"]
    counts = [{"sessions": 900 // (n + 1), "messages": 3100 // (n + 1)} for n in range(len(named))]
    return {
        **{name: asked[name] for name in ("from", "to", "interval")},
        "totals": totals,
        "series": series,
        "top_origins": [] if empty else [{"origin": name, **one} for name, one in zip(named, counts, strict=True)],
        "top_pages": [] if empty else [{"page": name, **one} for name, one in zip(named, counts, strict=True)],
    }


def problem(status: int, code: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"type": "about:blank", "title": "x", "status": status, "code": code, "request_id": "1", **more}


class Operator(Visitor):
    """Somebody at the page, whose clock stands at `NOW`."""

    def __init__(self, page: Page, api: Api) -> None:
        super().__init__(page)
        self.api = api
        self.token = page.get_by_label("Admin token")
        self.fault = page.locator("#token-fault")
        self.status = page.locator("#status")

    async def enter(self, token: str = TOKEN) -> None:
        await self.token.fill(token)
        await self.token.press("Enter")

    async def signs_in(self) -> None:
        await self.enter()
        await expect(self.status).to_contain_text("Updated at")

    async def chooses(self, name: str, option: str) -> None:
        await self.page.get_by_label(name, exact=True).select_option(option)
        await expect(self.page.locator("#view")).to_have_attribute("aria-busy", "false")

    def figure(self, name: str) -> Locator:
        return self.page.locator(".totals div", has=self.page.get_by_text(name, exact=True)).locator(".value")

    def plot(self, name: str) -> Locator:
        return self.page.get_by_role("slider", name=name, exact=True)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.page.keyboard.press(key)


async def stored(page: Page) -> list[str]:
    kept: list[str] = await page.evaluate("[...Object.values(sessionStorage), ...Object.values(localStorage)]")
    return kept
