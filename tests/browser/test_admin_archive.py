"""The operators' page where messages are kept: search, transcripts, erasing, the audit log; hostile texts, failures."""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, Route, expect

from tests.conftest import StartServer
from tests.support.admin_page import NOW, TOKEN, Api, Operator, problem, report, stored
from tests.support.axe import violations
from tests.support.databases import Database, RedisDatabase
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.widget import visit

HOSTILE = [
    "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "\u202egnp.exe \u2066 turned around",
    "a" * 4000,
    "مرحبا، أين طلبي رقم 42؟",
    "two\nlines\n\n```js\nalert(1)\n```",
    "😀" * 300,
]
COHORTS = {
    "returning_sessions": 300,
    "new_sessions": 900,
    "messages_per_session": {
        "mean": 3.4,
        "p50": 2,
        "p95": 12,
        "counts": [
            {"messages": name, "sessions": sessions}
            for name, sessions in [("1", 520), ("2", 310), ("3-5", 220), ("6-10", 90), ("11-20", 40), ("21+", 20)]
        ],
    },
    "busiest_hours": [3, 1, 0, 0, 2, 9, 21, 60, 110, 150, 161, 140, 120, 150, 172, 160, 131, 90, 70, 66, 40, 31, 20, 8],
}


def session(number: int, **more: Any) -> dict[str, Any]:
    return {
        "session_id": f"3f0e6a0c-{number:04d}",
        "bot": "default",
        "origin": "https://www.example.com",
        "page": f"https://www.example.com/products/{number}",
        "client": "widget",
        "created_at": "2026-03-18T12:01:00.250000Z",
        "seen_at": f"2026-03-18T13:{59 - number % 60:02d}:00Z",
        "messages": 4,
        "replies": 3,
        "errors": number % 3 // 2,
        "feedback_up": number % 2,
        "feedback_down": 0,
        "user": None,
        "excerpt": None,
        **more,
    }


def message(number: int, content: str, **more: Any) -> dict[str, Any]:
    own = {"message_id": f"m{number // 2}", "content": content, "created_at": f"2026-03-18T12:{number % 60:02d}:00Z"}
    if number % 2 == 0:
        return {**own, "role": "user", **more}
    ended = {"finish_reason": "complete", "error_code": None, "duration_ms": 1840, "rating": None, "comment": None}
    return {**own, "role": "assistant", **ended, **more}


def entry(number: int, action: str = "transcript_read", **more: Any) -> dict[str, Any]:
    return {
        "number": number,
        "at": "2026-03-18T13:20:00Z",
        "actor": "admin:anna",
        "action": action,
        "session_id": None,
        "address": "9f86d081884c7d659a2feaa0c55ad015",
        "detail": {},
        **more,
    }


class Archive:
    """The API's part, as the contract has it: 45 conversations of 120 messages, 150 audit entries."""

    def __init__(self) -> None:
        self.sessions = [session(number) for number in range(45)]
        self.messages = [message(number, f"Message {number}") for number in range(120)]
        self.entries = [entry(number) for number in range(150, 0, -1)]
        self.truncated = False
        self.asked: list[str] = []
        self.erased: list[str] = []
        self.failure: tuple[int, Any] | None = None
        self.gate: asyncio.Event | None = None

    async def handle(self, route: Route) -> None:
        address = urlsplit(route.request.url)
        given = {name: values[0] for name, values in parse_qs(address.query).items()}
        path = address.path.partition("/api/v1/admin/")[2]
        self.asked.append(f"{route.request.method} {path}{'?' if address.query else ''}{address.query}")
        assert await route.request.header_value("authorization") == f"Bearer {TOKEN}"
        if self.gate is not None:
            await self.gate.wait()
        status, body = self.failure or self.answer(route.request.method, path, given)
        if status == 0:
            await route.abort("connectionrefused")
        elif status == 204:
            await route.fulfill(status=204)
        else:
            await route.fulfill(status=status, json=body)

    def answer(self, method: str, path: str, given: dict[str, str]) -> tuple[int, Any]:
        start = int(given.get("before", "0"))
        kept = [one for one in self.sessions if one["session_id"] not in self.erased]
        if path == "sessions":
            found = [{**one, "excerpt": f"… about {given['q']} …"} for one in kept] if "q" in given else kept
            page = {"sessions": found[start : start + 20], "truncated": self.truncated and "q" in given}
            return 200, {**page, "next_before": str(start + 20) if start + 20 < len(found) else None}
        if path == "audit":
            after = start + 100
            return 200, {"entries": self.entries[start:after], "next_before": after if after < 150 else None}
        name = unquote(path.split("/")[1])
        if name not in {one["session_id"] for one in kept}:
            return problem(404, "not_found", detail="x")
        if method == "DELETE":
            self.erased.append(name)
            return 204, None
        end = len(self.messages) - start
        first = max(end - 50, 0)
        return 200, {"messages": self.messages[first:end], "next_before": str(start + 50) if first else None}


class ArchiveOperator(Operator):
    """Somebody at the page of a server that keeps messages."""

    def __init__(self, page: Page, api: Api, archive: Archive) -> None:
        super().__init__(page, api)
        self.archive = archive
        self.found = page.get_by_role("list", name="Conversations").get_by_role("listitem")
        self.messages = page.get_by_role("list", name="Messages").get_by_role("listitem")
        self.entries = page.get_by_role("list", name="Entries").get_by_role("listitem")
        self.filters = page.locator(".filters")
        self.words = self.filters.get_by_label("Words in messages")

    @property
    def said(self) -> Locator:
        """What the view that is shown says of its list."""
        return self.page.locator(".archive:visible .status")

    def tab(self, name: str) -> Locator:
        return self.page.get_by_role("navigation", name="Views").get_by_role("link", name=name)

    def button(self, name: str, *, exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact)

    def heading(self, name: str) -> Locator:
        return self.page.get_by_role("heading", name=name, exact=True, level=2)


Open = Callable[..., Any]


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    """Give one server for all tests of this file, which hands out the page alone."""
    path = tmp_path_factory.mktemp("page") / "chatcore.db"
    environment = {"N8N_WEBHOOK_URL": "http://127.0.0.1:9/", "SQLITE_DB_PATH": str(path), "ADMIN_TOKEN": TOKEN}
    with ChatServer(environment, main="main_sqlite.py") as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def opened(browser: Browser, page_server: ChatServer) -> Open:
    """Give `opened(address, **options of the profile)`: an operator before the page as PostgreSQL mode serves it."""

    async def open_page(address: str = "", *, mode: str = "postgres", **options: Any) -> ArchiveOperator:
        profile = {"locale": "en-GB", "timezone_id": "Europe/Berlin", "reduced_motion": "reduce", **options}
        page = await (await browser.new_context(**profile)).new_page()
        await page.clock.set_fixed_time(NOW)
        api, archive = Api(), Archive()

        async def admin(route: Route) -> None:
            answer = await route.fetch()
            await route.fulfill(
                response=answer, body=(await answer.text()).replace('data-mode="sqlite"', f'data-mode="{mode}"')
            )

        api.answer = lambda asked: (200, {**report(asked), "cohorts": COHORTS})
        await page.route(re.compile(r"/admin$"), admin)
        await page.route("**/api/v1/admin/sessions**", archive.handle)
        await page.route("**/api/v1/admin/audit*", archive.handle)
        await page.route("**/api/v1/admin/analytics*", api.handle)
        operator = ArchiveOperator(page, api, archive)
        await page.goto(f"{page_server.url}/admin{address}")
        return operator

    return open_page


async def test_views_have_tabs_addresses_and_titles(opened: Open) -> None:
    operator: ArchiveOperator = await opened()
    await expect(operator.tab("Audit")).to_have_count(0)
    await operator.signs_in()
    await expect(operator.tab("Figures")).to_have_attribute("aria-current", "page")
    await operator.tab("Conversations").click()
    await expect(operator.heading("Conversations")).to_be_focused()
    await expect(operator.said).to_have_text("20 conversations, the latest first; there are more.")
    await expect(operator.page).to_have_title("chatcore: conversations")
    await expect(operator.page.locator("#board")).to_be_hidden()
    await operator.tab("Audit").click()
    await expect(operator.heading("Audit")).to_be_focused()
    await expect(operator.said).to_have_text("100 entries, the latest first; there are more.")
    await expect(operator.tab("Audit")).to_have_attribute("aria-current", "page")
    await expect(operator.page.locator("#views [aria-current]")).to_have_count(1)
    assert operator.page.url.endswith("/admin#audit")
    await operator.page.reload()
    await expect(operator.entries).to_have_count(100)
    await operator.page.go_back()
    await expect(operator.heading("Conversations")).to_be_focused()
    await operator.page.go_back()
    await expect(operator.heading("Figures")).to_be_focused()
    await expect(operator.figure("Messages")).to_have_text("93")
    assert operator.complaints == []


async def test_a_mode_without_messages_has_no_tabs_and_is_not_asked(opened: Open) -> None:
    operator: ArchiveOperator = await opened("#conversations?q=refund", mode="sqlite")
    await operator.signs_in()
    await expect(operator.page.get_by_role("navigation")).to_have_count(0)
    await expect(operator.page.locator("#board")).to_be_visible()
    assert operator.archive.asked == []
    assert operator.complaints == []


async def test_a_server_that_says_that_it_keeps_none_loses_the_tabs(opened: Open) -> None:
    operator: ArchiveOperator = await opened()
    await operator.signs_in()
    operator.archive.failure = problem(404, "not_stored", detail="x")
    await operator.tab("Conversations").click()
    await expect(operator.heading("Figures")).to_be_focused()
    await expect(operator.page.get_by_role("navigation")).to_have_count(0)
    assert operator.page.url.endswith("#figures")
    assert len(operator.archive.asked) == 1


async def test_conversations_are_searched_and_filtered_and_the_address_says_so(opened: Open) -> None:
    operator: ArchiveOperator = await opened("#conversations")
    await operator.enter()
    await expect(operator.found).to_have_count(20)
    await expect(operator.words).to_be_focused()
    operator.archive.truncated = True
    await operator.words.fill("refund & <b>")
    await operator.filters.get_by_label("Website").fill("https://www.example.com")
    await operator.filters.get_by_label("First day (UTC)").fill("2026-03-01")
    await operator.filters.get_by_label("Last day (UTC)").fill("2026-03-18")
    await operator.words.press("Enter")
    await expect(operator.found.first.locator("blockquote")).to_have_text("… about refund & <b> …")
    await expect(operator.said).to_contain_text("conversations may be missing")
    assert operator.archive.asked[-1] == (
        "GET sessions?q=refund+%26+%3Cb%3E&origin=https%3A%2F%2Fwww.example.com"
        "&from=2026-03-01T00%3A00%3A00Z&to=2026-03-19T00%3A00%3A00Z"
    )
    await operator.page.reload()
    await expect(operator.words).to_have_value("refund & <b>")
    await expect(operator.filters.get_by_label("Last day (UTC)")).to_have_value("2026-03-18")
    await expect(operator.found).to_have_count(20)
    asked = len(operator.archive.asked)
    await operator.button("Search").click()
    await expect(operator.said).to_contain_text("20 conversations")
    assert operator.archive.asked[asked:] == [operator.archive.asked[asked - 1]], "asked once more"
    await operator.page.get_by_role("link", name="Show all").click()
    await expect(operator.words).to_have_value("")
    await expect(operator.page.locator("blockquote")).to_have_count(0)
    await operator.page.go_back()
    await expect(operator.words).to_have_value("refund & <b>")
    operator.archive.sessions = []
    await operator.button("Search").click()
    await expect(operator.said).to_contain_text("No conversation was found.")
    await expect(operator.words).to_have_value("refund & <b>")
    assert operator.complaints == []


async def test_the_list_grows_page_by_page_and_is_found_as_it_was_left(opened: Open) -> None:
    operator: ArchiveOperator = await opened("#conversations")
    await operator.enter()
    await operator.button("Show older").click()
    await expect(operator.found).to_have_count(40)
    await expect(operator.found.nth(20).get_by_role("link")).to_be_focused()
    await operator.button("Show older").click()
    await expect(operator.found).to_have_count(45)
    await expect(operator.said).to_have_text("45 conversations, the latest first.")
    await expect(operator.button("Show older")).to_have_count(0)
    asked = len(operator.archive.asked)
    await operator.found.nth(41).get_by_role("link").click()
    await expect(operator.messages).to_have_count(50)
    await operator.page.go_back()
    await expect(operator.found).to_have_count(45)
    await expect(operator.found.nth(41).get_by_role("link")).to_be_focused()
    assert operator.archive.asked[asked:] == ["GET sessions/3f0e6a0c-0041/messages"]


async def test_a_transcript_is_read_from_its_end_to_its_beginning(opened: Open) -> None:
    operator: ArchiveOperator = await opened("#conversations")
    operator.archive.messages[117] |= {"rating": "down", "comment": "No <b>help</b>"}
    operator.archive.messages[119] |= {"finish_reason": "error", "error_code": "upstream_timeout", "content": ""}
    await operator.enter()
    await operator.found.first.get_by_role("link").click()
    await expect(operator.heading("Conversation")).to_be_focused()
    await expect(operator.said).to_have_text("50 messages, in the order of the conversation; there are earlier ones.")
    await expect(operator.messages.first).to_contain_text("Message 70")
    await expect(operator.messages.nth(47)).to_contain_text("took 1.8 s · rated bad")
    await expect(operator.messages.nth(47).locator("blockquote")).to_have_text("No <b>help</b>")
    await expect(operator.messages.last).to_contain_text("failed: upstream_timeout")
    await expect(operator.messages.last).to_contain_text("(no text)")
    await expect(operator.page.locator(".facts:visible")).to_contain_text("https://www.example.com/products/0")
    await operator.button("Load earlier messages").click()
    await expect(operator.messages).to_have_count(100)
    await expect(operator.messages.first).to_be_focused()
    await expect(operator.messages.first).to_contain_text("Message 20")
    await operator.button("Load earlier messages").click()
    await expect(operator.messages).to_have_count(120)
    texts = await operator.messages.locator(".text").all_text_contents()
    assert texts == [*(f"Message {number}" for number in range(119)), "(no text)"]
    await operator.page.reload()
    await expect(operator.messages).to_have_count(50)
    await operator.page.get_by_role("link", name="Back to the list").click()
    await expect(operator.found).to_have_count(20)
    assert operator.complaints == []


async def test_erasing_is_confirmed_and_leaves_a_fresh_list(opened: Open) -> None:
    operator: ArchiveOperator = await opened("#conversations?q=refund")
    await operator.enter()
    await operator.found.nth(1).get_by_role("link").click()
    await expect(operator.messages).to_have_count(50)
    await operator.button("Erase…").click()
    dialog = operator.page.get_by_role("dialog", name="Erase this conversation?")
    await expect(dialog).to_contain_text("Nobody can undo it.")
    await expect(operator.button("Cancel")).to_be_focused()
    assert await violations(operator.page) == []
    await operator.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(operator.button("Erase…")).to_be_focused()
    await operator.press("Enter", "Enter")
    assert operator.archive.erased == []
    await operator.press("Enter")
    operator.archive.failure = problem(503, "store_unavailable", detail="x")
    await operator.button("Erase for good").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Nothing was erased")
    await expect(operator.button("Erase for good")).to_be_focused()
    operator.archive.failure = None
    await operator.press("Enter")
    await expect(operator.heading("Conversations")).to_be_focused()
    await expect(operator.said).to_have_text(
        "The conversation was erased. 20 conversations, the latest first; there are more."
    )
    assert operator.archive.erased == ["3f0e6a0c-0001"]
    assert operator.page.url.endswith("#conversations?q=refund")
    await expect(operator.page.locator("[data-id='3f0e6a0c-0001']")).to_have_count(0)
    await operator.page.evaluate("location.hash = '#session/3f0e6a0c-0001'")
    await expect(operator.said).to_contain_text("There is no conversation with this id. It may have been erased")


async def test_the_audit_log_tells_who_did_what_and_when(opened: Open) -> None:
    operator: ArchiveOperator = await opened("#audit")
    operator.archive.entries[:3] = [
        entry(150, "session_erased", session_id="3f0e6a0c-0002"),
        entry(149, "sessions_searched", detail={"q": "<b>refund</b>\u202e", "bot": None, "limit": 20}),
        entry(148, "of_a_later_version", actor="cli:root", address=""),
    ]
    await operator.enter()
    await expect(operator.heading("Audit")).to_be_focused()
    await expect(operator.entries.nth(0)).to_contain_text("admin:anna erased a conversation")
    await expect(operator.entries.nth(1)).to_contain_text("q: <b>refund</b>%E2%80%AE")
    await expect(operator.entries.nth(2)).to_contain_text("cli:root of_a_later_version")
    await operator.button("Show older").click()
    await expect(operator.entries).to_have_count(150)
    await expect(operator.entries.nth(100)).to_be_focused()
    await expect(operator.said).to_have_text("150 entries, the latest first.")
    assert operator.archive.asked == ["GET audit", "GET audit?before=100"]
    await operator.button("Refresh").click()
    await expect(operator.entries).to_have_count(100)
    await operator.entries.nth(0).get_by_role("link").click()
    await expect(operator.messages).to_have_count(50)
    assert operator.complaints == []


async def test_texts_from_outside_are_text(opened: Open) -> None:
    operator: ArchiveOperator = await opened("#conversations?q=x", viewport={"width": 360, "height": 640})
    operator.archive.sessions = [
        session(n, origin=text, page=text, user=text, excerpt=text, session_id=f"../{n}?<i>")
        for n, text in enumerate(HOSTILE)
    ]
    operator.archive.messages = [message(n, text, comment=text) for n, text in enumerate(HOSTILE)]
    operator.archive.entries = [
        entry(n, text, actor=text, address=text, detail={text: text}) for n, text in enumerate(HOSTILE)
    ]
    await operator.enter()
    await expect(operator.found).to_have_count(len(HOSTILE))
    await _is_text(operator)
    await operator.found.first.get_by_role("link").click()
    for number, text in enumerate(HOSTILE):
        shown = operator.messages.nth(number).locator("> .text")
        await expect(shown).to_have_text(text, use_inner_text=True)
        direction = await shown.evaluate("(node) => getComputedStyle(node).direction")
        assert direction == ("rtl" if text.startswith("مرحبا") else "ltr")
    await _is_text(operator)
    await operator.tab("Audit").click()
    await expect(operator.entries).to_have_count(len(HOSTILE))
    await _is_text(operator)
    assert operator.complaints == []


async def _is_text(operator: ArchiveOperator) -> None:
    assert await operator.page.evaluate("document.documentElement.scrollWidth") == 360
    assert await operator.page.locator("main img, main script, main i, main b, main a[href^=javascript]").count() == 0
    assert await violations(operator.page) == []


FAILURES: list[tuple[tuple[int, Any], str]] = [
    (problem(503, "store_unavailable", detail="x"), "The conversations cannot be read right now."),
    (problem(429, "rate_limited", detail="x", retry_after=48), "Try again in 48 seconds."),
    (problem(400, "invalid_request", errors=[{"field": "q", "message": "is too long"}]), "q is too long"),
    ((0, None), "The server cannot be reached."),
    ((200, {"sessions": 1}), "The server's answer could not be read."),
]


@pytest.mark.parametrize(("answer", "said"), FAILURES, ids=[said[:28] for _, said in FAILURES])
async def test_a_failure_is_a_sentence_and_nothing_typed_is_lost(
    opened: Open, answer: tuple[int, Any], said: str
) -> None:
    operator: ArchiveOperator = await opened("#conversations")
    await operator.enter()
    await expect(operator.found).to_have_count(20)
    operator.archive.failure = answer
    await operator.button("Show older").click()
    await expect(operator.said).to_contain_text(said)
    await expect(operator.found).to_have_count(20)
    await expect(operator.button("Show older")).to_be_focused()
    operator.archive.failure = None
    await operator.press("Enter")
    await expect(operator.found).to_have_count(40)
    operator.archive.failure = answer
    await operator.words.fill("refund")
    await operator.button("Search").click()
    await expect(operator.said).to_contain_text(said)
    await expect(operator.words).to_have_value("refund")
    assert await violations(operator.page) == []
    operator.archive.failure = None
    await operator.button("Search").click()
    await expect(operator.said).to_contain_text("20 conversations")
    assert await stored(operator.page) == [TOKEN]


async def test_a_token_that_is_no_longer_right_leaves_what_was_typed_and_nothing_read(opened: Open) -> None:
    operator: ArchiveOperator = await opened("#conversations")
    await operator.enter()
    await expect(operator.found).to_have_count(20)
    operator.archive.failure = problem(401, "token_invalid", detail="x")
    await operator.words.fill("refund")
    await operator.button("Show older").click()
    await expect(operator.fault).to_contain_text("The server does not know this token.")
    await expect(operator.token).to_be_focused()
    assert "example.com" not in await operator.page.content()
    assert await stored(operator.page) == []
    operator.archive.failure = None
    await operator.enter()
    await expect(operator.found).to_have_count(20)
    await expect(operator.words).to_have_value("refund")
    await operator.button("Sign out").click()
    assert operator.page.url.endswith("/admin")
    await expect(operator.words).to_have_value("")
    await operator.signs_in()
    await expect(operator.page.locator("#board")).to_be_visible()


async def test_the_last_question_wins_whatever_comes_late(opened: Open) -> None:
    operator: ArchiveOperator = await opened("#conversations")
    await operator.enter()
    await expect(operator.found).to_have_count(20)
    operator.archive.gate = late = asyncio.Event()
    await operator.words.fill("late")
    await operator.button("Search").click()
    await expect(operator.said).to_have_text("Loading…")
    await operator.tab("Audit").click()
    operator.archive.gate = None
    await operator.tab("Conversations").click()
    await expect(operator.said).to_contain_text("20 conversations")
    late.set()
    await operator.page.wait_for_timeout(200)  # whatever would come
    await expect(operator.page.locator("blockquote")).to_have_count(0)
    await expect(operator.words).to_have_value("")


async def test_cohorts_are_shown_with_the_figures(opened: Open) -> None:
    operator: ArchiveOperator = await opened()
    await operator.signs_in()
    await expect(operator.page.locator(".cohorts")).to_contain_text("25% had written before")
    rows = operator.page.get_by_role("table", name="Messages per session").locator("tbody tr")
    await expect(rows).to_have_count(6)
    await expect(rows.nth(2)).to_contain_text("3-5")
    card = operator.page.get_by_role("region", name="Busiest hours", exact=True)
    await expect(card).to_contain_text("The busiest hour of the UTC day is 14:00\N{EN DASH}15:00, with 172 messages")
    await card.get_by_text("Show as table").click()
    await expect(card.locator("tbody tr")).to_have_count(24)
    assert await violations(operator.page) == []
    operator.api.answer = lambda asked: (200, report(asked))
    await operator.chooses("Time", "30d")
    await expect(card).to_have_count(0)
    assert operator.complaints == []


@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"color_scheme": "light", "viewport": {"width": 640, "height": 360}},  # 1280 x 720 at 200 %
        {"color_scheme": "dark", "viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True},
        {"color_scheme": "light", "viewport": {"width": 320, "height": 640}, "locale": "ar-EG"},
        {"forced_colors": "active"},
    ],
    ids=["light", "dark", "200 %", "phone", "small and Arabic", "forced colours"],
)
async def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(opened: Open, options: dict[str, Any]) -> None:
    operator: ArchiveOperator = await opened(**options)
    operator.archive.messages[119] |= {"finish_reason": "error", "error_code": "upstream_timeout"}
    operator.archive.messages[117] |= {"rating": "down", "comment": "No help"}
    await operator.signs_in()
    width = operator.page.viewport_size["width"] if operator.page.viewport_size else 0
    await expect(operator.page.locator(".cohorts")).to_be_visible()
    for address, items in [
        ("", operator.page.locator(".cohorts")),
        ("#conversations?q=refund", operator.found),
        ("#session/3f0e6a0c-0003", operator.messages),
        ("#audit", operator.entries),
    ]:
        if address:
            await operator.page.evaluate("(address) => { location.hash = address; }", address)
        await expect(items.first).to_be_visible()
        assert await violations(operator.page) == [], address
        assert await operator.page.evaluate("document.documentElement.scrollWidth") <= width, address
    assert operator.complaints == []


async def test_a_real_server_is_searched_read_and_erased_and_its_audit_log_tells(
    browser: Browser, start_server: StartServer, n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase
) -> None:
    environment = {
        "DATABASE_URL": database.url,
        "DATABASE_ADMIN_URL": database.admin_url,
        "REDIS_URL": redis_server.url,
        "ADMIN_TOKENS": f"anna:{TOKEN}",
    }
    server = start_server(n8n, environment, main="main_postgres.py")
    visitor = await visit(await browser.new_context(), f"{server.url}/")
    await visitor.chats("Where is my refund?", "Echo: Where is my refund?")
    await visitor.chats("<b>Thanks</b>", "Echo: <b>Thanks</b>")
    page = await (await browser.new_context(locale="en-GB")).new_page()
    operator = ArchiveOperator(page, Api(), Archive())
    await page.goto(f"{server.url}/admin")
    await operator.signs_in()
    await expect(operator.figure("Messages")).to_have_text("2")
    await expect(page.locator(".cohorts")).to_be_visible()
    await operator.tab("Conversations").click()
    await expect(operator.found).to_have_count(1)
    await operator.words.fill("nothing-like-it")
    await operator.words.press("Enter")
    await expect(operator.said).to_have_text("No conversation was found.")
    await operator.words.fill("refund")
    await operator.page.locator(".filters").get_by_label("Website").fill(server.url)
    await operator.words.press("Enter")
    await expect(operator.found.locator("blockquote")).to_contain_text("refund")
    assert await violations(page) == []
    await operator.found.get_by_role("link").click()
    await expect(operator.messages).to_have_count(4)
    await expect(operator.messages.nth(2).locator(".text")).to_have_text("<b>Thanks</b>")
    await expect(operator.messages.nth(3)).to_contain_text("took")
    await operator.button("Erase…").click()
    await operator.button("Erase for good").click()
    await expect(operator.said).to_have_text("The conversation was erased. No conversation was found.")
    await operator.tab("Audit").click()
    await expect(operator.entries.nth(0)).to_contain_text("admin:anna read the audit log")
    await expect(operator.entries.nth(1)).to_contain_text("searched conversations")
    await expect(operator.entries.nth(2)).to_contain_text("admin:anna erased a conversation")
    await expect(operator.entries.nth(3)).to_contain_text("admin:anna read a conversation")
    await expect(operator.entries.nth(4)).to_contain_text("q: refund")
    assert await violations(page) == []
    assert operator.complaints == []
