"""The link to Redis: addresses, what shares a script call, bounds, errors in their place, claims."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from redis.exceptions import RedisError

from chatcore.clock import SystemClock
from chatcore.happenings import Happening, RedisChanged
from chatcore.observe import Observer
from chatcore.ports import StoreFaultError, StoreUnavailableError
from chatcore.settings import LogSettings
from chatcore.stores.postgres import redis_link
from chatcore.stores.postgres.redis_address import RedisAddress
from chatcore.stores.postgres.redis_link import RedisLink
from chatcore.stores.postgres.redis_script import lua_source
from tests.support.databases import RedisDatabase


@pytest.fixture
def told() -> list[Happening]:
    return []


@pytest.fixture
async def link(redis_server: RedisDatabase, told: list[Happening]) -> AsyncIterator[RedisLink]:
    """Give an open link to an empty Redis."""
    redis_server.flush()
    one = RedisLink(redis_server.url, SystemClock(), told.append)
    await one.open()
    assert one.up, one.trouble()
    yield one
    await one.close()


async def runs_of_scripts(link: RedisLink) -> int:
    """How many script calls the server has had."""
    return int((await link.client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://127.0.0.1:6379/0",
        "127.0.0.1:6379",
        "unix:///run/redis.sock",
        "redis://127.0.0.1:port/0",
        "redis://127.0.0.1:6379/0?retry_on_timeout=true",
        "redis://127.0.0.1:6379/0?decode_responses=true",
        "redis+sentinel://127.0.0.1:26379",
        "redis+sentinel:///mymaster/0",
        "redis+sentinel://127.0.0.1:port/mymaster/0",
        "redis+sentinel://127.0.0.1:26379/mymaster/first",
    ],
)
async def test_an_address_that_is_none_is_a_fault_with_advice(url: str) -> None:
    with pytest.raises(StoreFaultError) as fault:
        RedisAddress(url)
    assert "REDIS_URL" in fault.value.advice


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache.example", "cache.example:6379"),
        ("redis://:hush@127.0.0.1:6380/3", "127.0.0.1:6380"),
        ("rediss://someone:hush@cache.example:6380/0?ssl_ca_certs=%2Fca.pem", "cache.example:6380"),
        ("redis+sentinel://h1:26379,[::1]:26380,h3/mymaster/0", "mymaster of the Sentinels h1:26379,[::1]:26380,h3"),
        ("redis+sentinel://me:hush@h1/other?ssl=true&sentinel_password=hush", "other of the Sentinels h1"),
    ],
)
async def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    address = RedisAddress(url)
    assert address.shown == shown
    await address.close()


async def test_what_is_asked_at_once_shares_a_script_call_and_keeps_its_order(link: RedisLink) -> None:
    before = await runs_of_scripts(link)
    owners = await asyncio.gather(*(link.call("claim", f"c{n % 10}", f"owner {n}", 60_000) for n in range(300)))
    assert owners == [b""] * 10 + [f"owner {n % 10}".encode() for n in range(10, 300)]
    assert await runs_of_scripts(link) - before <= 2


async def test_an_operation_that_fails_costs_the_others_nothing(link: RedisLink) -> None:
    await link.client.set("text", "no number")
    await link.client.rpush("list", "a")
    answers = await asyncio.gather(
        link.call("claim", "a", "me", 60_000),
        link.call("nothing like this", "b"),
        link.call("take", "c", "x"),
        link.call("take", "list", 1_000_000, 5),
        link.call("claim", "d", "me", 60_000),
        return_exceptions=True,
    )
    assert (answers[0], answers[4]) == (b"", b"")
    assert [type(answer) for answer in answers[1:4] if isinstance(answer, RedisError)] == [type(answers[1])] * 3
    assert link.up


async def test_arguments_of_all_kinds_arrive_as_they_are(link: RedisLink) -> None:
    kinds: list[tuple[str | bytes | float, bytes]] = [
        ("ümlaut 🙂", "ümlaut 🙂".encode()),
        (b"\x00\r\n\xff", b"\x00\r\n\xff"),
        (12, b"12"),
        (1.5, b"1.5"),
        ("", b""),
        ("x" * 3_000_000, b"x" * 3_000_000),
        ("half \ud83d", b"half \xed\xa0\xbd"),
    ]
    for value, stored in kinds:
        await link.call("claim", "k", value, 60_000)
        assert await link.call("look", "k") == stored
        assert await link.call("release", "k") == 1


async def test_a_claim_is_one_owners_until_it_is_let_go(link: RedisLink) -> None:
    assert await link.call("look", "k") == b""
    assert await link.call("claim", "k", "a", 60_000) == b""
    assert await link.call("claim", "k", "b", 60_000) == b"a"
    assert await link.call("look", "k") == b"a"
    assert await link.call("release", "k", "b") == 0
    assert await link.call("release", "k", "a") == 1
    assert await link.call("claim", "k", "b", 60_000) == b""
    assert 0 < await link.client.pttl("k") <= 60_000


async def test_scripts_that_were_flushed_are_loaded_again_and_nothing_is_charged_twice(link: RedisLink) -> None:
    await link.call("take", "k", 60_000_000, 10)
    await link.client.script_flush()
    assert (await link.call("take", "k", 60_000_000, 10))[:2] == [1, 8]


async def test_who_is_cancelled_before_the_call_is_sent_charges_nothing(link: RedisLink) -> None:
    calls = [asyncio.ensure_future(link.call("take", "k", 60_000_000, 10)) for _ in range(5)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert (await link.call("take", "k", 60_000_000, 10))[:2] == [1, 9]


async def test_more_than_may_wait_is_refused_at_once_and_the_rest_is_done(link: RedisLink) -> None:
    most = redis_link.MOST_WAITING
    answers = await asyncio.gather(
        *(link.call("take", "k", 60_000_000, 10**6) for _ in range(most + 100)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, StoreUnavailableError)]
    assert len(refused) == 100
    assert len([answer for answer in answers if isinstance(answer, list)]) == most


async def test_after_its_end_a_link_refuses(redis_server: RedisDatabase, told: list[Happening]) -> None:
    link = RedisLink(redis_server.url, SystemClock(), told.append)
    await link.open()
    calls = [asyncio.ensure_future(link.call("take", "k", 1_000_000, 10)) for _ in range(3)]
    await asyncio.sleep(0)
    await link.close()
    await asyncio.wait(calls)
    with pytest.raises(StoreUnavailableError):
        await link.call("take", "k", 1_000_000, 10)
    link.tick(SystemClock().monotonic() + 10)
    assert not link.up


def test_the_gauge_of_redis_is_there_where_redis_is_and_tells_whether_it_answers() -> None:
    observer = Observer(LogSettings(level="ERROR", format="json"), io.StringIO())
    shown = observer.metrics.registry.get_sample_value
    assert shown("chatcore_redis_up") is None
    whats: tuple[Literal["connected", "lost", "returned", "emptied"], ...] = (
        "connected",
        "lost",
        "returned",
        "emptied",
    )
    seen = []
    for what in whats:
        observer(RedisChanged(what))
        seen.append(shown("chatcore_redis_up"))
        assert shown("chatcore_redis_events_total", {"what": what}) == 1
    assert seen == [1, 0, 1, 1]
    observer.close()


def test_files_of_the_script_keep_their_locals_to_themselves() -> None:
    source = lua_source()
    assert (
        source.index("local operations = {}") < source.index("operations.claim =") < source.index("operations.take =")
    )
    assert source.rstrip().endswith("return results")
