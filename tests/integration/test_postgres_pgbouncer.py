"""PostgreSQL mode behind PgBouncer in transaction mode: nothing needs a session of its own."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.support.client import ChatClient
from tests.support.crowd import Crowd, at_all_paces, check_kept
from tests.support.databases import Database, PgBouncer, RedisDatabase
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import AS_OPS, Mode, check_figures, health, is_well, messages_of, until


async def test_all_of_it_works_through_a_pool_of_two_connections(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, tmp_path: Path
) -> None:
    n8n.answer(at_all_paces)
    crowd = Crowd(random.Random())  # noqa: S311 - which message is sent when
    with PgBouncer(database, pool_size=2) as bouncer:
        bouncer.start()
        with Mode(n8n, database, redis_server.url, tmp_path, DATABASE_URL=bouncer.url) as mode:
            servers = await asyncio.to_thread(mode.start_all, 2)
            server = servers[0]
            await crowd.meet(server.url)
            crowd.begin()
            await until(lambda: len(crowd.acknowledged) > 20)
            await asyncio.to_thread(bouncer.kill)  # it is as if the database were away
            await until(lambda: health(server)["checks"]["postgres"]["status"] == "degraded")
            await asyncio.to_thread(bouncer.start)
            await until(lambda: is_well(server))
            await crowd.end()
            await crowd.leave()
            assert len(crowd.acknowledged) == len(crowd.messages)
            check_kept(database, crowd, n8n)
            check_figures(database)
            async with ChatClient(server.url) as client:
                await client.session()
                assert (await client.chat("a-unmistakable")).status_code == 200
                as_visitor = {"Authorization": f"Bearer {client.token}"}
                history = (await client.http.get("/api/v1/history", headers=as_visitor)).json()["messages"]
                assert [message["content"] for message in history] == ["a-unmistakable", "Echo: a-unmistakable"]
                found = await client.http.get("/api/v1/admin/sessions?q=unmistakable", headers=AS_OPS)
                assert [session["session_id"] for session in found.json()["sessions"]] == [client.session_id]
                for path in ("/api/v1/admin/analytics", "/api/v1/admin/audit"):
                    assert (await client.http.get(path, headers=AS_OPS)).status_code == 200
                assert (await client.http.delete("/api/v1/session", headers=as_visitor)).status_code == 204
                assert messages_of(database, str(client.session_id)) == []
            for one in servers:
                assert "Traceback" not in one.log
                assert await asyncio.to_thread(one.stop) == 0


PREPARE = {"DATABASE_PREPARE": "true"}


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_READ_URL"])
async def test_prepared_statements_behind_it_are_refused_before_one_is_taken_for_another(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, tmp_path: Path, name: str
) -> None:
    with PgBouncer(database) as bouncer, Mode(n8n, database, redis_server.url, tmp_path) as mode:
        bouncer.start()
        assert await asyncio.to_thread(mode.start(0, PREPARE).stop) == 0, "without a pooler they may be prepared"
        server = mode.start(0, {name: bouncer.url, **PREPARE}, wait=False)
        assert await asyncio.to_thread(server.wait) == 2
        assert "DATABASE_PREPARE is true, but a pooler" in server.log
        assert "Set DATABASE_PREPARE to false" in server.log


async def test_prepared_statements_behind_one_that_comes_later_are_a_trouble_that_is_told_and_loses_nothing(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, tmp_path: Path
) -> None:
    with (
        PgBouncer(database, pool_size=2) as bouncer,
        Mode(n8n, database, redis_server.url, tmp_path, DATABASE_URL=bouncer.url) as mode,
    ):
        bouncer.start()
        assert await asyncio.to_thread(mode.start().stop) == 0, "the journal knows the database now"
        bouncer.stop()
        server = await asyncio.to_thread(mode.start, 0, PREPARE)
        bouncer.start()
        await until(lambda: is_well(server, "postgres"))
        crowd = Crowd(random.Random())  # noqa: S311 - which message is sent when
        await crowd.meet(server.url)
        crowd.begin()
        async with ChatClient(server.url) as client, asyncio.timeout(30):
            await client.session()
            as_visitor = {"Authorization": f"Bearer {client.token}"}
            # Each of our connections prepares under the same name, and more of them than the pooler has of its own.
            while "DATABASE_PREPARE" not in server.log:
                await asyncio.gather(*(client.http.get("/api/v1/history", headers=as_visitor) for _ in range(4)))
        await crowd.end()
        await crowd.leave()
        assert len(crowd.acknowledged) == len(crowd.messages)
        assert await asyncio.to_thread(server.stop) == 0
        server = await asyncio.to_thread(mode.start)  # set right
        await until(lambda: is_well(server))
        check_kept(database, crowd, n8n)
