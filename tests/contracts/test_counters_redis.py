"""The counters of PostgreSQL mode keep the contract of all counters, in a real Redis and without it, and are exact."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from chatcore.clock import SystemClock
from chatcore.happenings import Happening
from chatcore.ports import CounterStore
from chatcore.stores.postgres.counters import RedisCounters
from chatcore.stores.postgres.redis_link import RedisLink
from chatcore.stores.postgres.redis_script import lua_source
from tests.contracts.counters import CounterContract
from tests.support.clock import ManualClock
from tests.support.databases import RedisDatabase
from tests.support.ports import free_port

HASH_KEY = b"k" * 32
CLOCK_KEY = "clock of the tests"
START = 1_790_000_000
prefixes = (f"test {number}:" for number in itertools.count())


def ignore(_: Happening) -> None:
    """Nobody listens."""


def source_with_a_clock_moved_by_hand() -> str:
    """The script as it is, but for the time, which a key holds in microseconds."""
    told = lua_source().replace('redis.call("TIME")', f'{{"0", redis.call("GET", "{CLOCK_KEY}")}}')
    assert told != lua_source()
    return told


@pytest.fixture
async def links(redis_server: RedisDatabase) -> AsyncIterator[list[RedisLink]]:
    """Give links of three instances."""
    opened = [RedisLink(redis_server.url, SystemClock(), ignore) for _ in range(3)]
    for link in opened:
        await link.open()
        assert link.up, link.trouble()
    yield opened
    for link in opened:
        await link.close()


class TestRedisCounters(CounterContract):
    """Runs the contract."""

    @pytest.fixture(autouse=True)
    async def _link(self, redis_server: RedisDatabase) -> AsyncIterator[None]:
        source = source_with_a_clock_moved_by_hand()
        self.link = RedisLink(redis_server.url, SystemClock(), ignore, source)
        await self.link.client.set(CLOCK_KEY, START * 1_000_000)
        await self.link.open()
        yield
        assert self.link.up
        await self.link.close()

    async def make(self) -> CounterStore:
        return RedisCounters(self.link, HASH_KEY, SystemClock(), next(prefixes))

    async def advance(self, seconds: float) -> None:
        await self.link.client.incrby(CLOCK_KEY, round(seconds * 1_000_000))

    async def now(self) -> float:
        return int(await self.link.client.get(CLOCK_KEY) or b"") / 1_000_000


class TestCountersWithoutRedis(CounterContract):
    """Runs the contract where nobody answers."""

    @pytest.fixture(autouse=True)
    async def _link(self) -> AsyncIterator[None]:
        self.clock = ManualClock()
        self.link = RedisLink(f"redis://127.0.0.1:{free_port()}/0", self.clock, ignore)
        await self.link.open()
        assert not self.link.up
        yield
        await self.link.close()

    async def make(self) -> CounterStore:
        return RedisCounters(self.link, HASH_KEY, self.clock)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def now(self) -> float:
        return self.clock.now()


async def test_a_thousand_takes_at_once_from_three_instances_admit_exactly_the_limit(links: list[RedisLink]) -> None:
    prefix = next(prefixes)
    stores = [RedisCounters(link, HASH_KEY, SystemClock(), prefix) for link in links]
    levels = await asyncio.gather(*(stores[number % 3].take("visitor", 3600.0, 60) for number in range(1000)))
    assert sorted(level.remaining for level in levels if level.admitted) == list(range(60))
    assert all(3590 < level.retry_after <= 3600 for level in levels if not level.admitted)


async def test_a_thousand_counts_at_once_from_three_instances_admit_exactly_the_limit(links: list[RedisLink]) -> None:
    prefix = next(prefixes)
    stores = [RedisCounters(link, HASH_KEY, SystemClock(), prefix) for link in links]
    until = SystemClock().now() + 3600
    levels = await asyncio.gather(*(stores[number % 3].count("visitor", 60, until) for number in range(1000)))
    assert sorted(level.remaining for level in levels if level.admitted) == list(range(60))


async def test_redis_holds_keyed_hashes_that_end_by_themselves_and_no_key(links: list[RedisLink]) -> None:
    prefix = next(prefixes)
    counters = RedisCounters(links[0], HASH_KEY, SystemClock(), prefix)
    await counters.take("203.0.113.7", 3.0, 20)
    await counters.count("203.0.113.7", 20, SystemClock().now() + 100)
    await counters.uncount("203.0.113.7")
    client = links[0].client
    keys = [key async for key in client.scan_iter(f"{prefix}*")]
    assert len(keys) == 2
    assert not [key for key in keys if b"203.0" in key]
    assert all([0 < await client.pttl(key) < 120_000 for key in keys])
    await RedisCounters(links[0], b"o" * 32, SystemClock(), prefix).take("203.0.113.7", 3.0, 20)
    assert len([key async for key in client.scan_iter(f"{prefix}*")]) == 3, "another key's hashes are others"


async def test_a_server_whose_clock_was_set_back_holds_a_bucket_no_longer_than_an_empty_one(
    redis_server: RedisDatabase,
) -> None:
    link = RedisLink(redis_server.url, SystemClock(), ignore, source_with_a_clock_moved_by_hand())
    await link.client.set(CLOCK_KEY, START * 1_000_000)
    await link.open()
    counters = RedisCounters(link, HASH_KEY, SystemClock(), next(prefixes))
    await counters.take("k", 10.0, 1)
    await link.client.decrby(CLOCK_KEY, 86_400 * 1_000_000)
    refused = await counters.take("k", 10.0, 1)
    assert not refused.admitted
    assert refused.retry_after <= 10.0
    await link.close()
