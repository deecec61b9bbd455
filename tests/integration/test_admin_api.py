"""What operators with an admin token get of the running main, and who gets nothing."""

import json
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types

from chatcore import openapi
from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_json, cut
from tests.support.client import NO_TLS, ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.rawhttp import request
from tests.support.refused import ask, problem
from tests.support.server import ChatServer
from tests.support.settings import settings_with

PATH = "/api/v1/admin/analytics"
OPS, BOSS = "ops-may-look-at-all-the-figures-0001", "boss-may-look-at-all-the-figures-002"
TOKENS = {"ADMIN_TOKENS": f"ops:{OPS},boss:{BOSS}"}
RIGHT = f"Authorization: Bearer {OPS}"
PAGE = "https://shop.test/prices"
ORIGIN = "https://shop.test"


def of_sqlite(folder: Path) -> dict[str, str]:
    return {"SQLITE_DB_PATH": str(folder / "chat.db"), **TOKENS}


@pytest.fixture
def keeping(start_server: StartServer, n8n: ScriptedN8n, tmp_path: Path) -> ChatServer:
    """Give a server that keeps figures."""
    return start_server(n8n, {**of_sqlite(tmp_path), "ALLOWED_ORIGINS": ORIGIN}, main="main_sqlite.py")


@pytest.fixture
async def guest(keeping: ChatServer, make_client: MakeClient) -> ChatClient:
    client = make_client(keeping, origin=ORIGIN)
    await client.session()
    return client


def get(server: ChatServer, query: str = "", *lines: str) -> Any:
    return ask(server, request("GET", PATH + query, *lines))


def figures(server: ChatServer, query: str = "") -> dict[str, Any]:
    answer = get(server, query, RIGHT)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    document: dict[str, Any] = json.loads(answer.body)
    return document


def test_stateless_mode_stores_nothing_and_asks_for_no_token(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, TOKENS)
    for query in ("", "?from=x", f"?to={'1' * 10000}"):
        for lines in ((), (RIGHT,), ("Authorization: Bearer wrong",)):
            problem(get(server, query, *lines), 404, "not_stored")


def test_without_admin_tokens_there_is_nothing(n8n: ScriptedN8n, start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(n8n, {**of_sqlite(tmp_path), "ADMIN_TOKENS": None}, main="main_sqlite.py")
    for lines in ((), (RIGHT,)):
        problem(get(server, "", *lines), 404, "not_found")


def test_any_of_the_tokens_is_good_and_no_other(keeping: ChatServer) -> None:
    for token in (OPS, BOSS):
        for _ in range(10):  # right ones are not counted
            assert get(keeping, "", f"Authorization: Bearer {token}").status == 200
    for line in ("", "Authorization: Basic YTpi", f"X-Admin-Token: {OPS}", f"Authorization: {OPS}"):
        problem(get(keeping, "", *[line] * bool(line)), 401, "token_missing")
    for wrong in (OPS[:-1], f"{OPS}1", "ops", f"ops:{OPS}", OPS.upper()):
        problem(get(keeping, "", f"Authorization: Bearer {wrong}"), 401, "token_invalid")


async def test_a_visitors_token_is_not_an_operators(keeping: ChatServer, guest: ChatClient) -> None:
    answer = await guest.http.get(PATH, headers={"Authorization": f"Bearer {guest.token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    answer = await guest.http.get("/api/v1/session", headers={"Authorization": f"Bearer {OPS}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert keeping.process.poll() is None


def test_guessing_ends_after_five_a_minute_for_the_right_token_too(
    start_server: StartServer, n8n: ScriptedN8n, tmp_path: Path
) -> None:
    environment = {**of_sqlite(tmp_path), "TRUSTED_PROXIES": "127.0.0.1"}
    server = start_server(n8n, environment, main="main_sqlite.py")
    guesser, other = "X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 198.51.100.9"
    assert get(server, "", RIGHT, guesser).status == 200
    for number in range(5):
        line = f"Authorization: Bearer secret-guess-\xff{number}"
        problem(get(server, "", line, guesser), 401, "token_invalid")
    for line in (RIGHT, "Authorization: Bearer again", RIGHT):
        told = problem(get(server, "", line, guesser), 429, "rate_limited", "retry_after")
        assert 1 <= told["retry_after"] <= 12
    problem(get(server, "", guesser), 401, "token_missing")
    assert get(server, "", RIGHT, other).status == 200
    until = time.monotonic() + 10
    while len(warnings := [json.loads(line) for line in server.log.splitlines() if "AdminRefused" in line]) < 5:
        assert time.monotonic() < until, "what is logged is written by another thread"
        time.sleep(0.02)
    assert [one["level"] for one in warnings] == ["WARNING"] * 5
    assert all("203.0.113.0/24" in json.dumps(one) for one in warnings)
    assert "secret-guess" not in server.log
    assert "203.0.113.7" not in server.log
    assert OPS not in server.log
    metrics = httpx.get(f"{server.url}/metrics", trust_env=False, verify=NO_TLS).text
    assert "\nchatcore_admin_refused_total 5.0\n" in metrics


REFUSED = [
    ("?from=yesterday", "from"),
    ("?to=2026-01-01", "to"),
    ("?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
    ("?from=2026-01-01T00:00:00Z&to=2026-02-02T00:00:00Z&interval=hour", "from"),
    ("?from=2020-01-01T00:00:00Z&to=2023-01-01T00:00:00Z", "from"),
    ("?to=1999-01-01T00:00:00Z", "to"),
    ("?interval=week", "interval"),
    ("?bot=nobody", "bot"),
    ("?interval=day&interval=day", "interval"),
    ("?page=1", "page"),
    (f"?bot={'a' * 9000}", "bot"),
]


def test_a_question_that_cannot_be_answered_names_its_parameter(keeping: ChatServer) -> None:
    for query, field in REFUSED:
        told = problem(get(keeping, query, RIGHT), 400, "invalid_request", "errors")
        assert [fault["field"] for fault in told["errors"]] == [field]
        problem(get(keeping, query), 401, "token_missing")


async def test_figures_are_there_as_soon_as_a_reply_is_done(
    keeping: ChatServer, guest: ChatClient, n8n: ScriptedN8n
) -> None:
    assert figures(keeping)["totals"] == dict.fromkeys(
        ("sessions", "messages", "replies", "errors", "feedback_up", "feedback_down"), 0
    ) | {"reply_ms_p50": None, "reply_ms_p95": None}
    for number in range(1, 4):
        reply = await guest.reply("Hi", page_url=f"{PAGE}?secret=1")
        assert reply.events[-1].name == "done"
        told = figures(keeping, "?interval=hour")
        assert (told["totals"]["sessions"], told["totals"]["messages"], told["totals"]["replies"]) == (
            1,
            number,
            number,
        )
    n8n.next(cut("half"))
    await guest.chat("Hi", page_url=PAGE)
    n8n.next(answer_json({"message": "Error in workflow"}, status=500))
    await guest.chat("Hi")
    told = figures(keeping)
    totals = told["totals"]
    assert (totals["messages"], totals["replies"], totals["errors"]) == (5, 3, 2)
    assert 0 < totals["reply_ms_p50"] <= totals["reply_ms_p95"] < 10_000
    assert told["top_origins"] == [{"origin": ORIGIN, "sessions": 1, "messages": 5}]
    assert {"page": PAGE, "sessions": 1, "messages": 4} in told["top_pages"]
    assert told["series"][-1] == {"start": told["series"][-1]["start"], **totals}
    assert sum(slot["messages"] for slot in told["series"]) == 5
    assert len(told["series"]) == 8


async def test_a_report_is_what_the_description_says(keeping: ChatServer, guest: ChatClient) -> None:
    await guest.chat("Hi", page_url=PAGE)
    described = openapi.document(settings_with(mode="sqlite"))
    check = Draft202012Validator({"$ref": "#/components/schemas/Analytics", "components": described["components"]})
    for query in ("", "?interval=hour", "?bot=default"):
        check.validate(figures(keeping, query))


async def test_bounds_are_widened_and_told(keeping: ChatServer, guest: ChatClient) -> None:
    await guest.chat("Hi")
    plus = quote("2026-01-05T12:10:00+02:00")
    told = figures(keeping, f"?from={plus}&to=2026-01-05T11:50:00Z&bot=default")
    assert (told["from"], told["to"], told["interval"]) == ("2026-01-05T10:00:00Z", "2026-01-05T12:00:00Z", "hour")
    assert [slot["start"] for slot in told["series"]] == ["2026-01-05T10:00:00Z", "2026-01-05T11:00:00Z"]
    assert told["totals"]["messages"] == 0
    assert told["top_pages"] == []


async def test_a_reply_is_rated_once_and_the_last_word_counts(keeping: ChatServer, guest: ChatClient) -> None:
    async def rate(message_id: str, rating: str) -> None:
        answer = await guest.http.post(
            f"/api/v1/chat/{message_id}/feedback",
            json={"rating": rating},
            headers={"Authorization": f"Bearer {guest.token}"},
        )
        assert (answer.status_code, answer.content) == (204, b"")

    def rated() -> tuple[int, int]:
        totals = figures(keeping)["totals"]
        return totals["feedback_up"], totals["feedback_down"]

    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    for message_id in (first, second):
        await guest.chat("Hi", message_id=message_id)
    await rate(first, "up")
    assert rated() == (1, 0)
    await rate(first, "up")
    assert rated() == (1, 0)
    await rate(second, "up")
    assert rated() == (2, 0)
    await rate(first, "down")
    assert rated() == (1, 1)


def test_websites_get_no_more_than_any_other_route_gives_them(keeping: ChatServer) -> None:
    problem(get(keeping, "", RIGHT, "Origin: https://evil.test"), 403, "origin_not_allowed")
    told = get(keeping, "", RIGHT, f"Origin: {ORIGIN}")
    assert (told.status, told.headers["access-control-allow-origin"]) == (200, ORIGIN)


def test_head_is_answered_without_a_body(keeping: ChatServer) -> None:
    answer = ask(keeping, request("HEAD", PATH, RIGHT))
    assert (answer.status, answer.body) == (200, b"")
