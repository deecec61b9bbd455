"""PostgreSQL mode under load while one of its processes is killed: what was acknowledged is kept, once and in order."""

import asyncio
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.crowd import Crowd, at_all_paces, check_kept
from tests.support.databases import Database, PostgresServer, RedisServer
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import Mode, check_figures, is_well, until
from tests.support.server import ChatServer

LOOKED_AT = 3
"""How many of the acknowledged messages are sent again after each kill."""


class Place:
    """PostgreSQL that survives a power cut, Redis that remembers nothing, one instance, and visitors."""

    def __init__(self, n8n: ScriptedN8n, postgres: PostgresServer, redis: RedisServer, folder: Path) -> None:
        self.n8n = n8n
        self.postgres = postgres
        self.redis = redis
        self.database: Database = postgres.new_database()
        self.mode = Mode(n8n, self.database, redis.url, folder)
        self.seed = random.randrange(1 << 32)  # noqa: S311 - other moments in each run; the number repeats them
        self.randomness = random.Random(self.seed)  # noqa: S311 - same
        n8n.answer(at_all_paces)

    async def start(self) -> ChatServer:
        return await asyncio.to_thread(self.mode.start)

    async def pass_time(self) -> None:
        """Let the visitors talk until the moment of the next kill."""
        await asyncio.sleep(self.randomness.uniform(0.02, 0.5))

    async def look_again(self, crowd: Crowd) -> None:
        """Send some acknowledged messages again: they get their replies, and n8n is not asked."""
        told = crowd.acknowledged
        for message in self.randomness.sample(told, min(LOOKED_AT, len(told))):
            answer = await crowd.again(message)
            assert (answer.status_code, answer.json().get("content")) == (200, f"Echo: {message.text}"), answer.text
            answer = await crowd.again(message, f"{message.text}!")
            assert (answer.status_code, answer.json()["code"]) == (409, "message_id_reused")

    def check(self, crowd: Crowd) -> None:
        """Compare the database with what visitors were told."""
        check_kept(self.database, crowd, self.n8n)
        check_figures(self.database)
        print(f"seed {self.seed}: {len(crowd.acknowledged)} acknowledged of {len(crowd.messages)}")  # noqa: T201 - with -s


@pytest.fixture
def place(n8n: ScriptedN8n, tmp_path: Path) -> Iterator[Place]:
    with PostgresServer(durable=True) as postgres, RedisServer() as redis:
        postgres.start()
        redis.start()
        one = Place(n8n, postgres, redis, tmp_path)
        with one.mode:
            yield one


@pytest.fixture
def kills(*, long: bool) -> int:
    return 300 if long else 8


async def test_a_killed_proxy_loses_nothing_it_acknowledged_and_answers_nothing_twice(place: Place, kills: int) -> None:
    crowd = Crowd(place.randomness, breaks=True)
    server = await place.start()
    await crowd.meet(server.url)
    for number in range(1, kills + 1):
        crowd.begin()
        following = await asyncio.to_thread(place.mode.start, number % 2)  # so that nobody waits for a start
        await place.pass_time()
        server.kill()
        assert not server.crashes, f"seed {place.seed}\n{server.crashes}"
        server = following
        await crowd.end()
        await crowd.meet(server.url)
        check_kept(place.database, crowd, place.n8n)
        await place.look_again(crowd)
    assert await asyncio.to_thread(server.stop) == 0
    await crowd.leave()
    place.check(crowd)


async def test_a_killed_postgresql_loses_nothing_acknowledged_and_fails_no_message(place: Place, kills: int) -> None:
    crowd = Crowd(place.randomness)
    server = await place.start()
    await crowd.meet(server.url)
    crowd.begin()
    for _ in range(kills):
        await place.pass_time()
        await asyncio.to_thread(place.postgres.kill)
        if place.randomness.random() < 0.5:
            await place.pass_time()
        await asyncio.to_thread(place.postgres.start)
        if place.randomness.random() < 0.3:  # else it is killed again while the journal is written back
            await until(lambda: is_well(server, "postgres"))
            await place.look_again(crowd)
    await crowd.end()
    await until(lambda: is_well(server))
    assert not server.crashes, f"seed {place.seed}\n{server.crashes}"
    assert await asyncio.to_thread(server.stop) == 0
    await crowd.leave()
    assert len(crowd.acknowledged) == len(crowd.messages)
    place.check(crowd)


async def test_a_killed_redis_loses_nothing_and_fails_no_message(place: Place, kills: int) -> None:
    crowd = Crowd(place.randomness)
    server = await place.start()
    await crowd.meet(server.url)
    crowd.begin()
    for _ in range(kills):
        await place.pass_time()
        await asyncio.to_thread(place.redis.kill)
        await place.look_again(crowd)
        await asyncio.to_thread(place.redis.start)
        if place.randomness.random() < 0.5:
            await until(lambda: is_well(server, "redis"))
    await crowd.end()
    await until(lambda: is_well(server))
    assert not server.crashes, f"seed {place.seed}\n{server.crashes}"
    assert await asyncio.to_thread(server.stop) == 0
    await crowd.leave()
    assert len(crowd.acknowledged) == len(crowd.messages)
    place.check(crowd)


async def test_everything_may_be_killed_at_once(place: Place, *, long: bool) -> None:
    """The proxy dies while the journal holds messages, and finds PostgreSQL away when it starts."""
    crowd = Crowd(place.randomness, breaks=True)
    server = await place.start()
    await crowd.meet(server.url)
    for _ in range(60 if long else 3):
        crowd.begin()
        await place.pass_time()
        victims = [place.postgres.kill, place.redis.kill, server.kill]
        place.randomness.shuffle(victims)
        for kill in victims:
            await asyncio.to_thread(kill)
            if place.randomness.random() < 0.5:
                await place.pass_time()
        assert not server.crashes, f"seed {place.seed}\n{server.crashes}"
        await crowd.end()
        server = await place.start()
        await crowd.meet(server.url)
        crowd.begin()
        await place.pass_time()
        for start in place.randomness.sample((place.postgres.start, place.redis.start), 2):
            await asyncio.to_thread(start)
        await crowd.end()
        await until(partial(is_well, server))
        check_kept(place.database, crowd, place.n8n)
    assert await asyncio.to_thread(server.stop) == 0
    await crowd.leave()
    place.check(crowd)
