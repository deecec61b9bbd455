"""PostgreSQL mode behind PgBouncer in transaction mode: nothing needs a session of its own."""

import asyncio
import random
import signal
from pathlib import Path

import pytest

from tests.support.client import ChatClient
from tests.support.crowd import Crowd, at_all_paces, check_kept
from tests.support.databases import Database, PgBouncer, RedisDatabase
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import AS_OPS, Mode, check_figures, health, is_well, messages_of, until
from tests.support.server import ChatServer


@pytest.mark.parametrize("prepare", ["false", "true"])
async def test_all_of_it_works_through_a_pool_of_two_connections(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, tmp_path: Path, prepare: str
) -> None:
    n8n.answer(at_all_paces)
    crowd = Crowd(random.Random())  # noqa: S311 - which message is sent when
    with PgBouncer(database, pool_size=2) as bouncer:
        bouncer.start()
        settings = {"DATABASE_URL": bouncer.url, "DATABASE_PREPARE": prepare}
        with Mode(n8n, database, redis_server.url, tmp_path, **settings) as mode:
            servers = await asyncio.to_thread(mode.start_all, 2)
            server = servers[0]
            await crowd.meet(server.url)
            crowd.begin()
            await until(lambda: len(crowd.acknowledged) > 20)
            if prepare == "false":
                await _lose_and_find(bouncer, server)
            await crowd.end()
            await until(lambda: is_well(server))
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
            await crowd.leave()
            for one in servers:
                assert "Traceback" not in one.log
                one.send_signal(signal.SIGTERM)
            assert [await asyncio.to_thread(one.wait) for one in servers] == [0, 0]


async def _lose_and_find(bouncer: PgBouncer, server: ChatServer) -> None:
    """Kill the pooler while all talk: it is as if the database were away."""
    await asyncio.to_thread(bouncer.kill)
    await until(lambda: health(server)["checks"]["postgres"]["status"] == "degraded")
    await asyncio.to_thread(bouncer.start)
    await until(lambda: is_well(server))
