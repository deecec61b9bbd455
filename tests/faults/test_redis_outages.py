"""Redis that is killed, hangs, comes back, loses its data or its role: callers go on at once, and the link finds it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from chatcore.clock import SystemClock
from chatcore.happenings import Happening, RedisChanged
from chatcore.ports import StoreUnavailableError
from chatcore.stores.postgres.counters import RedisCounters
from chatcore.stores.postgres.redis_link import RedisLink
from tests.support.databases import RedisServer, Sentinels
from tests.support.ports import free_port

MINUTE = 60_000_000
SECONDS_TO_NOTICE = 3.0


class Watched:
    """A link that time passes for, and all that was told by it."""

    def __init__(self, url: str) -> None:
        self.told: list[RedisChanged] = []
        self.returns = 0
        self.link = RedisLink(url, SystemClock(), self._hear)
        self.link.on_return(self._count)
        self.counters = RedisCounters(self.link, b"k" * 32, SystemClock())

    def _hear(self, it: Happening) -> None:
        assert isinstance(it, RedisChanged), it
        self.told.append(it)

    def _count(self) -> None:
        self.returns += 1

    @property
    def changes(self) -> list[str]:
        return [it.what for it in self.told]

    async def pass_time(self) -> None:
        while True:
            self.link.tick(time.monotonic())
            await asyncio.sleep(0.25)

    async def until(self, condition: Callable[[], bool], seconds: float = SECONDS_TO_NOTICE) -> float:
        """Wait for a condition; gives how long that took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, self.told
            await asyncio.sleep(0.01)
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def watched(url: str) -> AsyncIterator[Watched]:
    """Give an open link that time passes for."""
    one = Watched(url)
    await one.link.open()
    ticking = asyncio.create_task(one.pass_time())
    try:
        yield one
    finally:
        ticking.cancel()
        await asyncio.wait({ticking})
        await one.link.close()


async def in_vain(link: RedisLink) -> float:
    """Ask what cannot be answered; gives the seconds that took."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await link.call("take", "k", MINUTE, 5)
    return time.monotonic() - began


async def test_a_start_without_redis_takes_no_long_and_redis_is_found_when_it_comes() -> None:
    with RedisServer() as server:
        began = time.monotonic()
        async with watched(server.url) as one:
            assert time.monotonic() - began < 2.0
            trouble = one.link.trouble()
            assert trouble is not None
            assert not trouble.refuses
            assert (await one.counters.take("v", 60.0, 1)).admitted
            assert not (await one.counters.take("v", 60.0, 1)).admitted, "counted in memory"
            server.start()
            await one.until(lambda: one.link.up)
            assert one.changes == ["lost", "returned"]
            assert one.returns == 1
            assert one.link.trouble() is None
            assert (await one.counters.take("v", 60.0, 1)).admitted, "counted in Redis"


async def test_a_redis_that_is_killed_is_noticed_at_once_by_who_asks_and_soon_by_nobodys_asking() -> None:
    with RedisServer() as server:
        server.start()
        async with watched(server.url) as one:
            server.kill()
            assert await in_vain(one.link) < 1.0
            assert not one.link.up
            server.start()
            await one.until(lambda: one.link.up)
            server.kill()
            await one.until(lambda: not one.link.up)
            assert one.changes == ["connected", "lost", "returned", "lost"]
            assert one.told[2].detail == "without its data"


async def test_takes_under_way_when_redis_is_killed_are_all_answered_from_memory() -> None:
    with RedisServer() as server:
        server.start()
        async with watched(server.url) as one:
            stop = asyncio.Event()

            async def ask() -> int:
                asked = 0
                while not stop.is_set():
                    await one.counters.take("v", 0.001, 10**6)
                    await asyncio.sleep(0)  # memory answers without waiting
                    asked += 1
                return asked

            asking = [asyncio.create_task(ask()) for _ in range(50)]
            for _ in range(5):
                await one.until(lambda: one.link.up)
                server.kill()
                await one.until(lambda: not one.link.up)
                server.start()
            await one.until(lambda: one.link.up)
            stop.set()
            assert min(await asyncio.gather(*asking)) > 10


async def test_a_redis_that_hangs_costs_its_callers_a_second_once() -> None:
    with RedisServer() as server:
        server.start()
        async with watched(server.url) as one:
            await one.counters.take("v", 60.0, 5)
            server.pause()
            began = time.monotonic()
            levels = await asyncio.gather(*(one.counters.take("v", 60.0, 5) for _ in range(100)))
            assert time.monotonic() - began < 2.0
            assert sum(level.admitted for level in levels) == 5
            began = time.monotonic()
            for _ in range(100):
                await one.counters.take("v", 60.0, 5)
            assert time.monotonic() - began < 0.5
            assert one.told[-1] == RedisChanged("lost", "no answer in time")
            server.resume()
            await one.until(lambda: one.link.up)
            assert (await one.link.call("look", "nothing")) == b""


async def test_data_that_is_lost_while_redis_stays_up_is_told() -> None:
    with RedisServer() as server:
        server.start()
        async with watched(server.url) as one:
            server.flush()
            await one.until(lambda: one.returns == 1)
            assert one.changes == ["connected", "emptied"]
            assert one.link.up


async def test_two_instances_agree_on_what_is_known_so_neither_believes_the_data_lost() -> None:
    with RedisServer() as server:
        server.start()
        async with watched(server.url) as one, watched(server.url) as other:
            server.flush()
            await one.until(lambda: one.returns == 1 and other.returns == 1)
            await asyncio.gather(one.link.call("look", "k"), other.link.call("look", "k"))
            looks = time.monotonic() + 2.5
            await one.until(lambda: time.monotonic() > looks)
            assert one.changes == other.changes == ["connected", "emptied"]


async def test_a_connection_that_was_closed_while_idle_is_no_outage() -> None:
    with RedisServer() as server:
        server.start()
        async with watched(server.url) as one:
            with server.client() as client:
                for _ in range(3):
                    client.client_kill_filter(_type="normal", skipme=True)
                    for _ in range(3):
                        await asyncio.sleep(0)  # the loop hears of it
                    assert (await one.link.call("look", "k")) == b""
            assert set(one.changes) == {"connected"}


async def test_a_redis_that_kept_its_data_returns_with_it() -> None:
    with RedisServer(persistent=True) as server:
        server.start()
        async with watched(server.url) as one:
            await one.link.call("claim", "k", "me", 60_000)
            server.kill()
            await one.until(lambda: not one.link.up)
            server.start()
            await one.until(lambda: one.link.up)
            assert one.told[-1] == RedisChanged("returned")
            assert await one.link.call("look", "k") == b"me"


@pytest.mark.parametrize(("name", "bad", "good"), [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")])
async def test_a_redis_that_takes_no_writes_is_lost_until_it_does(name: str, bad: str, good: str) -> None:
    with RedisServer() as server:
        server.start()
        async with watched(server.url) as one:
            with server.client() as client:
                client.config_set(name, bad)
                await in_vain(one.link)
                assert not one.link.up
                client.config_set(name, good)
            await one.until(lambda: one.link.up)


async def test_a_master_that_becomes_a_replica_is_lost_until_it_is_master_again() -> None:
    with RedisServer() as server:
        server.start()
        async with watched(server.url) as one:
            with server.client() as client:
                client.replicaof("127.0.0.1", free_port())
                await in_vain(one.link)
                assert not one.link.up
                client.replicaof("NO", "ONE")
            await one.until(lambda: one.link.up)


@pytest.mark.parametrize(("tls", "password"), [(True, None), (False, "päss: word"), (True, "secret")])
async def test_redis_is_reached_by_tls_and_password(*, tls: bool, password: str | None) -> None:
    with RedisServer(tls=tls, password=password) as server:
        server.start()
        async with watched(server.url) as one:
            assert one.link.up, one.told
            assert (await one.link.call("take", "k", MINUTE, 5))[0] == 1


async def test_a_wrong_password_and_a_certificate_of_nobody_are_told_without_secrets() -> None:
    with RedisServer(password="right") as server:
        server.start()
        async with watched(server.url.replace(":right@", ":wrong-one@")) as one:
            trouble = one.link.trouble()
            assert trouble is not None
            assert "password" in trouble.detail.lower()
            assert "wrong-one" not in trouble.detail
    with RedisServer(tls=True) as server:
        server.start()
        async with watched(server.url.partition("?")[0]) as one:
            trouble = one.link.trouble()
            assert trouble is not None
            assert "certificate" in trouble.detail.lower()


@pytest.mark.parametrize("password", [None, "secret"])
async def test_a_failover_is_followed_by_itself(password: str | None) -> None:
    with Sentinels(password=password) as sentinels:
        sentinels.start()
        async with watched(sentinels.url) as one:
            assert one.link.up, one.told
            await one.link.call("claim", "k", "me", 600_000)
            with sentinels.servers[1].client() as replica:
                await one.until(lambda: replica.get("k") == "me")
            killed = sentinels.kill_master()
            await one.until(lambda: not one.link.up)
            assert (await one.counters.take("v", 60.0, 1)).admitted
            await one.until(lambda: one.link.up, 20.0)
            assert sentinels.master_port() != killed.port
            assert await one.link.call("look", "k") == b"me"
            assert one.told[-1] == RedisChanged("returned")
            assert one.returns == 1


async def test_a_master_that_hangs_is_replaced_and_left() -> None:
    with Sentinels() as sentinels:
        sentinels.start()
        async with watched(sentinels.url) as one:
            sentinels.master().pause()
            await one.until(lambda: not one.link.up)
            await one.until(lambda: one.link.up, 20.0)
            assert (await one.link.call("take", "k", MINUTE, 5))[0] == 1
