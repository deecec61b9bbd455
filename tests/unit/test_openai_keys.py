"""Keys of programs in the process: who is looked at how often, and for how long an address is under suspicion."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from chatcore.app import Application
from chatcore.observe import Observer
from chatcore.settings import LogSettings
from chatcore.stores import stateless
from tests.support.clock import ManualClock
from tests.support.settings import settings_with

KEY = "sk-the-key-of-a-program-of-these-tests"
SETTINGS = settings_with(operations={"openai_api_keys": {"tests": KEY}}, log=LogSettings(level="CRITICAL"))


@pytest.fixture(name="clock")
def _clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(name="app")
def _app(clock: ManualClock) -> Iterator[Application]:
    observer = Observer(SETTINGS.log)
    yield Application(SETTINGS, stateless.open_stores(SETTINGS, clock, observer), clock, observer)
    observer.close()


async def ask(app: Application, key: str, address: str = "192.0.2.7") -> int:
    transport = httpx.ASGITransport(app=app, client=(address, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://chat.test") as client:
        return (await client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})).status_code


async def test_right_keys_are_free_until_a_wrong_one_comes_from_there(app: Application, clock: ManualClock) -> None:
    assert Counter(await asyncio.gather(*(ask(app, KEY) for _ in range(50)))) == {200: 50}
    assert Counter(await asyncio.gather(*(ask(app, "wrong") for _ in range(50)))) == {401: 5, 429: 45}
    assert await ask(app, KEY) == 429, "else guessing would go on"
    assert await ask(app, KEY, "198.51.100.9") == 200
    clock.advance(12)
    assert [await ask(app, KEY), await ask(app, KEY)] == [200, 200], "a look comes back, and a right one costs none"
    clock.advance(61)
    assert Counter(await asyncio.gather(*(ask(app, KEY) for _ in range(50)))) == {200: 50}


async def test_a_thousand_addresses_are_remembered(app: Application) -> None:
    for number in range(1001):
        assert await ask(app, "wrong", f"10.1.{number // 256}.{number % 256}") == 401
    for _ in range(4):
        await ask(app, "wrong", "10.1.3.232")
    assert await ask(app, KEY, "10.1.3.232") == 429
    assert await ask(app, KEY, "10.1.0.0") == 200
