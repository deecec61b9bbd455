"""PostgreSQL mode encrypts what it sends to PostgreSQL and Redis, and knows whom it speaks with."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import ChatClient
from tests.support.databases import Database, PostgresServer, RedisServer
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import Mode, is_well, messages_of, until


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Database, RedisServer]]:
    """Give a database and a Redis that let encrypted connections in alone."""
    with PostgresServer(tls=True) as postgres, RedisServer(tls=True) as redis:
        postgres.start()
        redis.start()
        yield postgres.new_database(), redis


async def test_chat_over_tls_to_both(servers: tuple[Database, RedisServer], n8n: ScriptedN8n, tmp_path: Path) -> None:
    database, redis = servers
    assert "sslmode=verify-full" in database.url
    assert redis.url.startswith("rediss://")
    with Mode(n8n, database, redis.url, tmp_path) as mode:
        server = await asyncio.to_thread(mode.start)
        async with ChatClient(server.url) as client:
            await client.session()
            assert (await client.chat("Hi")).json()["content"] == "Echo: Hi"
            assert is_well(server)
            assert [text for _, _, text in messages_of(database, str(client.session_id))] == ["Hi", "Echo: Hi"]
            asked = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = %s"
            assert database.sql(asked, "chatcore_app") == [(True,)]


async def test_a_redis_that_nobody_vouches_for_is_not_spoken_to(
    servers: tuple[Database, RedisServer], n8n: ScriptedN8n, tmp_path: Path
) -> None:
    database, redis = servers
    with Mode(n8n, database, redis.url.partition("?")[0], tmp_path) as mode:
        server = await asyncio.to_thread(mode.start)
        await until(lambda: not is_well(server, "redis"))
        assert "certificate" in server.log.lower()
        async with ChatClient(server.url) as client:
            await client.session()
            assert (await client.chat("Hi")).status_code == 200


async def test_a_postgresql_that_nobody_vouches_for_is_not_spoken_to(
    servers: tuple[Database, RedisServer], n8n: ScriptedN8n, tmp_path: Path
) -> None:
    database, redis = servers
    authority = tmp_path / "other.pem"
    authority.write_text("")
    url = database.url.partition("?")[0] + f"?sslmode=verify-full&sslrootcert={authority}"
    with Mode(n8n, database, redis.url, tmp_path, DATABASE_URL=url) as mode:
        server = mode.start(wait=False)
        assert await asyncio.to_thread(server.wait, 30.0) == 2
        assert "certificate" in server.log.lower()
        assert "Traceback" not in server.log
