"""The operators' page in a real browser: the token, figures as plots and tables, hostile names, every failure."""

import asyncio
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, expect

from tests.conftest import StartServer
from tests.support.admin_page import NOW, TOKEN, Api, Operator, problem, report, stored
from tests.support.axe import violations
from tests.support.client import NO_TLS
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.widget import visit

DASH = "\N{EN DASH}"
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "https://shop.example/\u202egnp.exe",
    "https://shop.example/" + "a" * 2000,
    "https://shop.example/?" + "q=1&" * 60,
    "",
    "(other)",
    "😀" * 300,
]


@pytest.fixture(scope="module")
def figures_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    """Give one server that has an operator and keeps figures, for all tests of this file."""
    path = tmp_path_factory.mktemp("figures") / "chatcore.db"
    environment = {"N8N_WEBHOOK_URL": "http://127.0.0.1:9/", "SQLITE_DB_PATH": str(path), "ADMIN_TOKEN": TOKEN}
    with ChatServer(environment, main="main_sqlite.py") as started:
        yield started


Open = Callable[..., Any]


@pytest_asyncio.fixture(loop_scope="session")
async def opened(browser: Browser, figures_server: ChatServer) -> Open:
    """Give `opened(**options of the profile)`: an operator before the page, with a stand-in for the API."""

    async def open_page(**options: Any) -> Operator:
        profile = {"locale": "en-GB", "timezone_id": "Europe/Berlin", "reduced_motion": "reduce", **options}
        context = await browser.new_context(**profile)
        page = await context.new_page()
        await page.clock.set_fixed_time(NOW)
        api = Api()
        await page.route("**/api/v1/admin/analytics*", api.handle)
        operator = Operator(page, api)
        await page.goto(f"{figures_server.url}/admin")
        return operator

    return open_page


async def test_the_page_is_there_for_operators_of_a_server_that_keeps_figures(figures_server: ChatServer) -> None:
    async with httpx.AsyncClient(base_url=figures_server.url, trust_env=False, verify=NO_TLS) as client:
        page, demo = await client.get("/admin"), await client.get("/")
        assert page.status_code == 200
        told = ("content-type", "content-security-policy", "cache-control", "vary", "x-content-type-options")
        assert {name: page.headers[name] for name in told} == {name: demo.headers[name] for name in told}
        assert "{{" not in page.text
        assert not re.findall(r"<style|<script>|\sstyle=|\son[a-z]+=|javascript:|<form[^>]+action|<svg", page.text)
        loaded = set(re.findall(r'(?:src|href)="([^"#]+)"', page.text))
        assert {f"widget/{name}" for name in ("admin.js", "admin-plots.js", "admin.css")} <= {
            re.sub("/[0-9a-f]{16}/", "/", one) for one in loaded
        }
        total = int(page.headers["content-length"])
        for one in loaded:
            file = await client.get(f"/{one}")
            assert "immutable" in file.headers["cache-control"], one
            assert file.headers["content-encoding"] == "gzip"
            total += int(file.headers["content-length"])
        print(f"the page and all that it loads: {total} bytes, gzip")  # noqa: T201 - a figure
        assert total < 20_000
        head = await client.head("/admin")
        assert (head.status_code, head.content) == (200, b"")
        again = await client.get("/admin", headers={"If-None-Match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("main", "token"), [("main_stateless.py", TOKEN), ("main_sqlite.py", None)], ids=["stateless", "no operator"]
)
async def test_elsewhere_there_is_no_page(tmp_path: Path, main: str, token: str | None) -> None:
    environment = {"N8N_WEBHOOK_URL": "http://127.0.0.1:9/", "ADMIN_TOKEN": token}
    if main == "main_sqlite.py":
        environment["SQLITE_DB_PATH"] = str(tmp_path / "chatcore.db")
    with ChatServer(environment, main=main) as server:
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client:
            answer = await client.get(f"{server.url}/admin")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_figures_of_a_real_server_from_its_first_message_on(
    browser: Browser, start_server: StartServer, n8n: ScriptedN8n, tmp_path: Path
) -> None:
    environment = {"SQLITE_DB_PATH": str(tmp_path / "chatcore.db"), "ADMIN_TOKEN": TOKEN}
    server = start_server(n8n, environment, main="main_sqlite.py")
    page = await (await browser.new_context(locale="en-GB")).new_page()
    operator = Operator(page, Api())
    await page.goto(f"{server.url}/admin")
    await operator.signs_in()
    await expect(page.get_by_text("No messages in this time yet")).to_be_visible()
    visitor = await visit(await browser.new_context(), f"{server.url}/")
    await visitor.chats("Hello", "Echo: Hello")
    await page.get_by_role("button", name="Refresh").click()
    await expect(operator.plot("Messages")).to_have_attribute("aria-valuetext", re.compile("so far. Messages: 1$"))
    for option in ("24h", "90d", "custom", "30d"):
        await operator.chooses("Time", option)
        await expect(operator.status).to_contain_text("Updated at")
        await expect(operator.figure("Messages")).to_have_text("1")
    await operator.chooses("By", "hour")
    await expect(operator.status).to_contain_text("your time zone")
    assert operator.complaints == []
    await page.get_by_role("button", name="Sign out").click()
    for _ in range(5):
        await operator.enter("wrong")
        await expect(operator.fault).to_contain_text("does not know this token")
        await expect(operator.token).to_have_value("")
    await operator.enter("wrong")
    await expect(operator.fault).to_have_text(
        re.compile(r"There were too many wrong tokens from your address\. Try again in \d+ seconds?\.")
    )


async def test_the_token_stays_in_the_tab_until_signing_out(opened: Open) -> None:
    operator: Operator = await opened()
    assert await violations(operator.page) == []
    await expect(operator.token).to_be_focused()
    assert await operator.token.get_attribute("type") == "password"
    assert await operator.token.get_attribute("autocomplete") == "off"
    await operator.press("Enter")
    await expect(operator.fault).to_have_text("Enter a token.")
    assert operator.api.asked == []
    await operator.enter(f"  {TOKEN}\n")
    await expect(operator.status).to_contain_text("Updated at")
    await expect(operator.page.get_by_label("Time", exact=True)).to_be_focused()
    assert operator.api.tokens == [f"Bearer {TOKEN}"]
    assert await stored(operator.page) == [TOKEN]
    assert TOKEN not in await operator.page.content()
    await operator.page.reload()
    await expect(operator.status).to_contain_text("Updated at")
    await expect(operator.token).to_be_hidden()
    await operator.page.get_by_role("button", name="Sign out").click()
    await expect(operator.token).to_be_focused()
    assert await stored(operator.page) == []
    await expect(operator.page.locator("#board")).to_be_hidden()
    await operator.page.reload()
    await expect(operator.token).to_be_visible()
    assert operator.page.url.endswith("/admin")
    assert operator.complaints == []


async def test_a_token_that_is_wrong_is_forgotten_and_asked_for_again(opened: Open) -> None:
    operator: Operator = await opened()
    wrong = problem(401, "token_invalid", detail="The admin token is not the right one.")
    operator.api.answer = lambda _: wrong
    await operator.enter("wrong")
    await expect(operator.fault).to_contain_text("The server does not know this token.")
    await expect(operator.token).to_be_focused()
    assert await operator.token.get_attribute("aria-describedby") == "token-fault"
    assert await operator.token.get_attribute("aria-invalid") == "true"
    assert await violations(operator.page) == []
    operator.api.answer = lambda asked: (200, report(asked))
    await operator.signs_in()
    operator.api.answer = lambda _: wrong
    await operator.page.get_by_role("button", name="Refresh").click()
    await expect(operator.fault).to_contain_text("The server does not know this token.")
    assert await stored(operator.page) == []
    assert "3,100" not in await operator.page.locator("#places").inner_text()


FAILURES: list[tuple[tuple[int, Any], str]] = [
    (problem(503, "store_unavailable", detail="x", retry_after=5), "The figures cannot be read right now."),
    (problem(404, "not_stored", detail="This mode stores no analytics."), "This server keeps no figures. This mode"),
    (problem(429, "rate_limited", detail="x", retry_after=48), "Try again in 48 seconds."),
    (problem(500, "internal_error", detail="Something went wrong on our side."), "Something went wrong on our side."),
    ((502, "<html>Bad gateway</html>"), "The server answered with status 502."),
    ((200, "<html>Welcome to the wifi</html>"), "The server's answer could not be read."),
    ((200, {"totals": {}}), "The server's answer could not be read."),
    ((0, None), "The server cannot be reached."),
]


@pytest.mark.parametrize(("answer", "said"), FAILURES, ids=[said[:28] for _, said in FAILURES])
async def test_a_failure_is_a_sentence_and_the_token_stays(opened: Open, answer: tuple[int, Any], said: str) -> None:
    operator: Operator = await opened()
    operator.api.answer = lambda _: answer
    await operator.enter()
    await expect(operator.fault).to_contain_text(said)
    await expect(operator.token).to_have_value(TOKEN)
    operator.api.answer = lambda asked: (200, report(asked))
    await operator.press("Enter")
    await expect(operator.status).to_contain_text("Updated at")
    operator.api.answer = lambda _: answer
    await operator.page.get_by_role("button", name="Refresh").click()
    await expect(operator.status).to_contain_text(said)
    await expect(operator.status).to_contain_text("These are the figures from before.")
    await expect(operator.figure("Messages")).to_have_text("93")
    await operator.chooses("Time", "30d")
    await expect(operator.status).to_contain_text(said)
    await expect(operator.status).not_to_contain_text("before")
    await expect(operator.figure("Messages")).to_have_text(DASH)
    assert await stored(operator.page) == [TOKEN]
    assert await violations(operator.page) == []


async def test_the_time_and_the_interval_are_what_is_asked_for(opened: Open) -> None:
    operator: Operator = await opened()
    await operator.signs_in()
    interval = operator.page.get_by_label("By", exact=True)
    hour = interval.locator("[value=hour]")
    await operator.chooses("Time", "24h")
    await expect(interval).to_have_value("hour")
    await operator.chooses("Time", "30d")
    await expect(interval).to_have_value("day")
    await operator.chooses("By", "hour")
    await operator.chooses("Time", "90d")
    await expect(interval).to_have_value("day")
    await expect(hour).to_have_text("Hour (31 days at most)")
    await expect(hour).to_be_disabled()
    await operator.chooses("Time", "custom")
    await expect(interval).to_have_value("hour")
    await operator.page.get_by_label("First day (UTC)").fill("2025-12-01")
    await expect(operator.status).to_contain_text(f"1 Dec 2025 {DASH} 18 Mar 2026 (days are UTC days)")
    await operator.page.get_by_label("Last day (UTC)").fill("2025-12-31")
    await expect(operator.status).to_contain_text(
        f"1 Dec 2025, 01:00 {DASH} 1 Jan 2026, 01:00 (your time zone, Europe/Berlin)"
    )
    asked = [f"{one['from']} {one['to']} {one['interval']}" for one in operator.api.asked]
    assert asked == [
        "2026-03-12T00:00:00Z 2026-03-19T00:00:00Z day",
        "2026-03-17T14:00:00Z 2026-03-18T14:00:00Z hour",
        "2026-02-17T00:00:00Z 2026-03-19T00:00:00Z day",
        "2026-02-16T14:00:00Z 2026-03-18T14:00:00Z hour",
        "2025-12-19T00:00:00Z 2026-03-19T00:00:00Z day",
        "2026-03-12T00:00:00Z 2026-03-18T14:00:00Z hour",
        "2025-12-01T00:00:00Z 2026-03-19T00:00:00Z day",
        "2025-12-01T00:00:00Z 2026-01-01T00:00:00Z hour",
    ]
    await operator.page.get_by_label("First day (UTC)").focus()
    await operator.page.keyboard.type("01011999")
    await expect(operator.status).to_have_text("The days begin in the year 2000.")
    await operator.page.get_by_label("First day (UTC)").fill("2025-12-01")
    await expect(operator.status).to_contain_text("Updated at")
    asked.append(asked[-1])
    await operator.page.get_by_label("Last day (UTC)").fill("2025-11-30")
    await expect(operator.status).to_have_text("The first day is after the last.")
    await expect(operator.figure("Messages")).to_have_text(DASH)
    assert len(operator.api.asked) == len(asked)


async def test_the_bot_is_asked_for_where_there_are_several(browser: Browser, tmp_path: Path, opened: Open) -> None:
    operator: Operator = await opened()
    await operator.signs_in()
    await expect(operator.page.get_by_label("Bot")).to_be_hidden()
    assert "bot" not in operator.api.asked[0]
    environment = {
        "N8N_WEBHOOK_URL": "http://127.0.0.1:9/",
        "N8N_WEBHOOK_URL_SHOP": "http://127.0.0.1:9/shop",
        "SQLITE_DB_PATH": str(tmp_path / "chatcore.db"),
        "ADMIN_TOKEN": TOKEN,
    }
    with ChatServer(environment, main="main_sqlite.py") as server:
        page = await (await browser.new_context()).new_page()
        several = Operator(page, Api())
        await page.goto(f"{server.url}/admin")
        await several.signs_in()
        bot = page.get_by_label("Bot")
        await bot.fill("shop")
        await bot.press("Enter")
        await expect(several.status).to_contain_text("bot shop")
        await bot.fill("nobody")
        await bot.press("Enter")
        await expect(several.status).to_contain_text("bot must be the name of a bot of this server")
        assert await violations(page) == []


async def test_the_last_question_wins_whatever_comes_late(opened: Open) -> None:
    operator: Operator = await opened()
    await operator.signs_in()
    operator.api.gate = asyncio.Event()
    operator.api.answer = lambda asked: (200, report(asked, places=["https://late.example"]))
    await operator.page.get_by_label("Time", exact=True).select_option("90d")
    view = operator.page.locator("#view")
    await expect(view).to_have_attribute("aria-busy", "true")
    late, operator.api.gate = operator.api.gate, None
    operator.api.answer = lambda asked: (200, report(asked))
    await operator.chooses("Time", "30d")
    late.set()
    await operator.page.wait_for_timeout(200)  # whatever would come
    await expect(operator.status).to_contain_text(f"17 Feb {DASH} 18 Mar 2026")
    await expect(operator.page.get_by_text("late.example")).to_have_count(0)
    await expect(view).to_have_attribute("aria-busy", "false")


async def test_points_are_reached_by_keyboard_and_told(opened: Open) -> None:
    operator: Operator = await opened()
    await operator.signs_in()
    plot = operator.plot("Messages")
    tip = plot.locator(".tip")
    await plot.focus()
    await operator.press("Home")
    await expect(plot).to_have_attribute("aria-valuetext", "Thu, 12 Mar 2026. Messages: 3")
    await expect(tip).to_contain_text("Thu, 12 Mar 2026")
    await operator.press("ArrowRight", "ArrowRight", "ArrowLeft")
    await expect(plot).to_have_attribute("aria-valuetext", "Fri, 13 Mar 2026. Messages: 5")
    assert await plot.get_attribute("aria-valuenow") == "2"
    await operator.press("Escape")
    await expect(tip).to_have_count(0)
    await expect(plot).to_be_focused()
    await operator.press("End", "ArrowRight")
    await expect(plot).to_have_attribute("aria-valuetext", "Wed, 18 Mar 2026, so far. Messages: 26")
    assert await plot.get_attribute("aria-valuemax") == "7"
    times = operator.plot("Reply time")
    await operator.press("Tab", "Tab", "Tab", "Tab", "Tab", "Tab")
    await expect(times).to_be_focused()
    await expect(tip).to_have_count(0)
    await expect(times).to_have_attribute(
        "aria-valuetext", "Wed, 18 Mar 2026, so far. Half within (p50): 1.9 s, 95 % within (p95): 6.9 s"
    )
    await operator.chooses("By", "hour")
    await times.focus()
    await operator.press("Home", "PageUp", "ArrowRight")
    await expect(times).to_have_attribute("aria-valuetext", re.compile(r"^Thu, 12 Mar 2026, 16:00 CET\. "))


async def test_points_are_told_under_the_pointer(opened: Open) -> None:
    operator: Operator = await opened()
    await operator.signs_in()
    plot = operator.plot("Sessions")
    box = await plot.bounding_box()
    assert box is not None
    await operator.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    await expect(plot.locator(".tip tspan")).to_have_text(["Sun, 15 Mar 2026", "Sessions: 5"])
    for part in (0.01, 0.2, 0.8, 0.99):
        await operator.page.mouse.move(box["x"] + box["width"] * part, box["y"] + 60)
        tip = await plot.locator(".tip").bounding_box()
        assert tip is not None
        assert box["x"] - 1 <= tip["x"]
        assert tip["x"] + tip["width"] <= box["x"] + box["width"] + 1
    await operator.page.mouse.move(1, 1)
    await expect(plot.locator(".tip")).to_have_count(0)


async def test_a_point_stays_told_when_the_finger_is_lifted(opened: Open) -> None:
    operator: Operator = await opened(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    await operator.signs_in()
    messages, sessions = operator.plot("Messages"), operator.plot("Sessions")
    await messages.tap(position={"x": 160, "y": 60})
    await expect(messages.locator(".tip")).to_contain_text("Messages: 15")
    await sessions.tap(position={"x": 160, "y": 60})
    await expect(sessions.locator(".tip")).to_contain_text("Sessions: 5")
    await expect(messages.locator(".tip")).to_have_count(0)


async def test_every_plot_is_a_table_too(opened: Open) -> None:
    operator: Operator = await opened()
    await operator.signs_in()
    await operator.chooses("Time", "30d")
    for name, head in [
        ("Messages", ["UTC day", "Messages"]),
        ("Reply time", ["UTC day", "Half within (p50)", "95 % within (p95)"]),
    ]:
        card = operator.page.get_by_role("region", name=name, exact=True)
        await card.get_by_text("Show as table").click()
        await expect(card.get_by_role("columnheader")).to_have_text(head)
        await expect(card.locator("tbody tr")).to_have_count(30)
        await expect(card.locator("tbody tr").last).to_contain_text("Wed, 18 Mar 2026, so far")
        assert await violations(operator.page) == []
    await expect(operator.page.locator("tbody tr", has_text="14 Mar 2026").last).to_contain_text(DASH)
    await operator.chooses("By", "hour")
    card = operator.page.get_by_role("region", name="Messages", exact=True)
    await expect(card.locator("tbody tr")).to_have_count(720)


async def test_names_from_outside_are_text_and_reachable_in_full(opened: Open) -> None:
    operator: Operator = await opened(viewport={"width": 360, "height": 640})
    operator.api.answer = lambda asked: (
        200,
        report(asked, places=[*HOSTILE, *(f"https://p{n}.test" for n in range(9))]),
    )
    await operator.signs_in()
    table = operator.page.get_by_role("table", name="Top origins")
    rows = table.locator("tbody tr")
    await expect(rows).to_have_count(10)
    await expect(rows.nth(0).get_by_role("rowheader")).to_have_text(HOSTILE[0])
    await expect(rows.nth(2)).to_contain_text("https://shop.example/%E2%80%AEgnp.exe")
    await expect(rows.nth(5).get_by_role("rowheader")).to_have_text("(none)")
    await expect(rows.nth(6).get_by_role("rowheader")).to_have_text("(other)")
    for number in (3, 4, 7):
        row = rows.nth(number)
        await expect(row.locator("summary")).to_have_text(f"{HOSTILE[number][:80]}…", use_inner_text=True)
        await row.locator("summary").focus()
        await operator.press("Enter")
        await expect(row.locator("summary")).to_have_text(HOSTILE[number], use_inner_text=True)
    assert await operator.page.evaluate("document.documentElement.scrollWidth") == 360
    await operator.page.get_by_role("button", name="Show all 17").first.click()
    await expect(rows).to_have_count(17)
    await expect(table).to_be_focused()
    await operator.chooses("Time", "30d")
    await expect(rows).to_have_count(17)
    assert await operator.page.locator("#places a, #places img").count() == 0
    assert await violations(operator.page) == []
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
        {"color_scheme": "light", "locale": "de-DE", "timezone_id": "Asia/Kolkata"},
    ],
    ids=["light", "dark", "200 %", "phone", "small and Arabic", "forced colours", "German in India"],
)
async def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(opened: Open, options: dict[str, Any]) -> None:
    operator: Operator = await opened(**options)
    assert await violations(operator.page) == [], "signed out"
    await operator.signs_in()
    width = operator.page.viewport_size["width"] if operator.page.viewport_size else 0
    for time, interval in [("7d", "day"), ("90d", "day"), ("24h", "hour"), ("30d", "hour"), ("custom", "hour")]:
        await operator.chooses("Time", time)
        if interval == "hour" and time != "24h":
            await operator.chooses("By", "hour")
        await operator.plot("Reply time").focus()
        await operator.press("ArrowLeft")
        assert await violations(operator.page) == [], time
        assert await operator.page.evaluate("document.documentElement.scrollWidth") <= width, time
        for plot in ("Messages", "Sessions", "Errors", "Reply time"):
            await _labels_do_not_overlap(operator.plot(plot))
    operator.api.answer = lambda asked: (200, report(asked, empty=True))
    await operator.chooses("Time", "7d")
    await expect(operator.page.get_by_text("No messages in this time yet")).to_be_visible()
    assert await violations(operator.page) == [], "empty"
    assert operator.complaints == []


async def _labels_do_not_overlap(plot: Locator) -> None:
    boxes = await plot.evaluate("""(plot) => [...plot.querySelectorAll("text.time")]
        .map((text) => text.getBoundingClientRect()).map(({left, right}) => [left, right])""")
    for (_, right), (left, _) in itertools.pairwise(boxes):
        assert right < left, boxes


async def test_nothing_jumps_while_figures_are_loaded(opened: Open) -> None:
    operator: Operator = await opened(viewport={"width": 1280, "height": 900})
    await operator.signs_in()
    operator.api.gate = asyncio.Event()
    await operator.page.reload()
    await expect(operator.status).to_have_text("Loading…")
    places = "[...document.querySelectorAll('.card')].slice(-7).map((card) => card.getBoundingClientRect().top)"
    before = await operator.page.evaluate(places)
    operator.api.gate.set()
    await expect(operator.status).to_contain_text("Updated at")
    assert await operator.page.evaluate(places) == before
    operator.api.gate = asyncio.Event()
    await operator.page.get_by_role("button", name="Refresh").click()
    await expect(operator.page.locator("#view")).to_have_attribute("aria-busy", "true")
    assert await operator.page.evaluate(places) == before
    operator.api.gate.set()
    await expect(operator.page.locator("#view")).to_have_attribute("aria-busy", "false")
    await operator.page.set_viewport_size({"width": 500, "height": 900})
    await expect(operator.plot("Messages").locator("> svg")).to_have_attribute("width", "422")


@pytest.mark.parametrize(("time", "interval", "points"), [("30d", "hour", 720), ("custom", "day", 800)])
async def test_many_points_are_quick(opened: Open, time: str, interval: str, points: int) -> None:
    operator: Operator = await opened()
    await operator.signs_in()
    if time == "custom":
        await operator.chooses("Time", time)
        await operator.page.get_by_label("First day (UTC)").fill("2024-01-09")
    else:
        await operator.chooses("Time", time)
        await operator.chooses("By", interval)
    plot = operator.plot("Messages")
    await expect(plot).to_have_attribute("aria-valuemax", str(points))
    await plot.focus()
    drawn = await operator.page.evaluate("""async () => {
        const plots = document.querySelector("#plots");
        const began = performance.now();
        plots.style.width = "700px";
        await new Promise((resolve) => new ResizeObserver((_, all) => (all.disconnect(), resolve())).observe(plots));
        await new Promise(requestAnimationFrame);
        return performance.now() - began;
    }""")
    assert await operator.page.locator("#plots svg *").count() < 250
    print(f"{points} points: all plots drawn anew in {drawn:.0f} ms")  # noqa: T201 - a figure
    assert drawn < 1000
