"""The operators' route in the process: what is described, what a store that fails comes to, many guesses at once."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types
from openapi_spec_validator import OpenAPIV31SpecValidator

from chatcore import openapi
from chatcore.analytics import Figures, Query, Report, Slot, slots
from chatcore.app import Application
from chatcore.model import TurnKey
from chatcore.observe import Observer
from chatcore.ports import StoreUnavailableError
from chatcore.settings import LogSettings
from chatcore.stores import stateless
from tests.support.clock import ManualClock
from tests.support.settings import settings_with

TOKEN = "the-token-of-an-operator-of-this-test"
PATH = "/api/v1/admin/analytics"
SETTINGS = settings_with(mode="sqlite", operations={"admin_tokens": {"ops": TOKEN}}, log=LogSettings(level="CRITICAL"))


class ScriptedAnalytics:
    """Implements `ports.Analytics`: nothing ever happened, or the store cannot tell."""

    def __init__(self) -> None:
        self.fails = False
        self.asked: list[Query] = []

    async def report(self, query: Query) -> Report:
        """Give a report of nothing."""
        self.asked.append(query)
        if self.fails:
            raise StoreUnavailableError
        series = tuple(Slot(start=start) for start in slots(query))
        return Report(query=query, totals=Figures(), series=series, top_origins=(), top_pages=())

    async def rate(self, key: TurnKey, rating: Literal["up", "down"], comment: str | None) -> None:
        """Forget it."""


@pytest.fixture
def analytics() -> ScriptedAnalytics:
    return ScriptedAnalytics()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def app(analytics: ScriptedAnalytics, clock: ManualClock) -> Iterator[Application]:
    observer = Observer(SETTINGS.log)
    stores = stateless.open_stores(SETTINGS, clock, observer)
    yield Application(SETTINGS, msgspec.structs.replace(stores, analytics=analytics), clock, observer)
    observer.close()


async def get(app: Application, token: str = TOKEN, query: str = "") -> httpx.Response:
    transport = httpx.ASGITransport(app=app, client=("192.0.2.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://chat.test") as client:
        return await client.get(PATH + query, headers={"Authorization": f"Bearer {token}"})


async def test_the_store_is_asked_for_what_was_asked(
    app: Application, analytics: ScriptedAnalytics, clock: ManualClock
) -> None:
    answer = await get(app, query="?interval=day&bot=default")
    assert answer.status_code == 200
    end = -(-int(clock.now()) // 86400) * 86400
    assert analytics.asked == [Query(end - 8 * 86400, end, "day", "default")]


async def test_a_store_that_fails_is_503_and_costs_no_guess(app: Application, analytics: ScriptedAnalytics) -> None:
    analytics.fails = True
    for _ in range(10):
        answer = await get(app)
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["retry-after"] == "5"


async def test_many_guesses_at_once_are_no_more_than_one_after_the_other(app: Application, clock: ManualClock) -> None:
    answers = await asyncio.gather(*(get(app, f"guess-{number}") for number in range(30)))
    assert Counter(answer.status_code for answer in answers) == {401: 5, 429: 25}
    assert (await get(app)).status_code == 429
    clock.advance(12)
    assert (await get(app)).status_code == 200
    assert (await get(app)).status_code == 200
    assert (await get(app, "guess")).status_code == 401
    assert (await get(app)).status_code == 429
    clock.advance(60)
    assert Counter([(await get(app, "guess")).status_code for _ in range(7)]) == {401: 5, 429: 2}


@pytest.mark.parametrize("admin_tokens", [{}, {"ops": TOKEN}])
def test_the_description_is_valid_and_tells_no_token(admin_tokens: dict[str, str]) -> None:
    settings = settings_with(mode="sqlite", operations={"admin_tokens": admin_tokens})
    document: Any = json.loads(msgspec.json.encode(openapi.document(settings)))
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())
    operation = document["paths"][PATH]["get"]
    assert operation["security"] == [{"admin": []}]
    assert [one["name"] for one in operation["parameters"]] == ["from", "to", "interval", "bot", "X-Request-ID"]
    assert set(operation["responses"]) >= {"200", "400", "401", "403", "404", "429", "503"}
    media = operation["responses"]["200"]["content"]["application/json"]
    Draft202012Validator({**media["schema"], "components": document["components"]}).validate(media["example"])
    assert TOKEN not in json.dumps(document)
