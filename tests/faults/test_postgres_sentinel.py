"""Redis behind Sentinels loses its master under load: chat goes on, and limits are shared again within seconds."""

import asyncio
import random
import uuid
from pathlib import Path

from tests.support.client import ChatClient
from tests.support.crowd import Crowd, at_all_paces, check_kept
from tests.support.databases import Database, Sentinels
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import Mode, check_figures, health, is_well, until

PASSWORD = "what-only-operators-know"


async def test_a_failover_under_load_fails_no_message_and_limits_are_shared_again(
    n8n: ScriptedN8n, database: Database, tmp_path: Path
) -> None:
    n8n.answer(at_all_paces)
    with Sentinels(password=PASSWORD) as sentinels:
        await asyncio.to_thread(sentinels.start)
        with Mode(n8n, database, sentinels.url, tmp_path, SESSION_RATE_LIMIT_PER_MINUTE="1000000") as mode:
            servers = await asyncio.to_thread(mode.start_all, 2)
            assert all(is_well(server) for server in servers)
            crowds = [Crowd(random.Random()) for _ in servers]  # noqa: S311 - which message is sent when
            for crowd, server in zip(crowds, servers, strict=True):
                await crowd.meet(server.url)
                crowd.begin(6)
            killed = await asyncio.to_thread(sentinels.kill_master)
            await until(lambda: all(not is_well(server, "redis") for server in servers))
            assert [health(server)["status"] for server in servers] == ["degraded"] * 2
            took = await until(lambda: all(is_well(server) for server in servers))
            assert took < 15.0
            assert sentinels.master() is not killed
            await _speak_across(servers[0].url, servers[1].url)
            for crowd in crowds:
                await crowd.end()
                await crowd.leave()
                assert len(crowd.acknowledged) == len(crowd.messages) > 0
                check_kept(database, crowd, n8n)
            check_figures(database)
            for server in servers:
                assert "Traceback" not in server.log
                assert PASSWORD not in server.log


async def _speak_across(here: str, there: str) -> None:
    """Say something to one instance, and hear of it at the other, through the new master."""
    async with ChatClient(here) as one, ChatClient(there) as other:
        assert (await one.session()).status_code == 201
        other.token = one.token
        message_id = str(uuid.uuid4())
        sent = asyncio.create_task(one.chat("d-shared", message_id=message_id))
        joined = await other.chat("d-shared", message_id=message_id)
        assert joined.json()["content"] == (await sent).json()["content"] == "Echo: d-shared"
