"""PostgreSQL mode as visitors and operators meet it: what is kept and where it is read."""

import asyncio
import uuid
from pathlib import Path

from tests.conftest import MakeClient, StartServer
from tests.support.client import ChatClient
from tests.support.databases import Database, PostgresServer, RedisDatabase
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import AS_OPS, Mode, check_figures, is_well, messages_of, until
from tests.support.server import JWT_SECRET


async def test_a_session_of_stateless_mode_goes_on_and_has_a_row_from_its_first_message(
    n8n: ScriptedN8n,
    start_server: StartServer,
    make_client: MakeClient,
    database: Database,
    redis_server: RedisDatabase,
    tmp_path: Path,
) -> None:
    before = await asyncio.to_thread(start_server, n8n)
    old = make_client(before)
    await old.session()
    assert (await old.chat("Hi")).status_code == 200
    before.stop()
    with Mode(n8n, database, redis_server.url, tmp_path, JWT_SECRET_KEY=JWT_SECRET) as mode:
        server = await asyncio.to_thread(mode.start)
        client = make_client(server)
        client.token, client.session_id = old.token, old.session_id
        sessions = "SELECT id, messages, replies, errors FROM chatcore.sessions"
        assert database.sql(sessions) == [], "a session without messages has no row"
        history = {"Authorization": f"Bearer {client.token}"}
        assert (await client.http.get("/api/v1/history", headers=history)).json()["messages"] == []
        assert (await client.chat("Hi again")).json()["content"] == "Echo: Hi again"
        assert database.sql(sessions) == [(client.session_id, 1, 1, 0)]
        assert (await client.refresh()).status_code == 200
        check_figures(database)


async def test_messages_of_any_kind_are_kept_as_they_were_said(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, tmp_path: Path, make_client: MakeClient
) -> None:
    texts = [
        "Grüße 👋🏽",
        "a\nb\tc",
        "'; DROP TABLE chatcore.turns; --",
        "%s :name {0} \\x00",
        "\u202eright to left",
        "x" * 4000,
    ]
    with Mode(n8n, database, redis_server.url, tmp_path, DATABASE_PREPARE="true") as mode:
        server = await asyncio.to_thread(mode.start)
        client = make_client(server)
        await client.session()
        for text in texts:
            assert (await client.chat(text)).json()["content"] == f"Echo: {text}"
        kept = [text for _, _, text in messages_of(database, str(client.session_id))]
        assert kept == [one for text in texts for one in (text, f"Echo: {text}")]
        assert all(text[:40] not in server.log for text in texts)


async def test_a_message_that_comes_several_times_at_once_costs_its_session_once(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, tmp_path: Path, make_client: MakeClient
) -> None:
    with Mode(n8n, database, redis_server.url, tmp_path, SESSION_RATE_LIMIT_PER_MINUTE="4") as mode:
        client = make_client(await asyncio.to_thread(mode.start))
        await client.session()
        await asyncio.gather(*(client.http.get("/health") for _ in range(4)))  # connected, so that all come at once
        message_id = str(uuid.uuid4())
        same = await asyncio.gather(*(client.chat("Hi", message_id=message_id) for _ in range(4)))
        assert [answer.status_code for answer in same] == [200] * 4
        assert [(await client.chat("Ho")).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert len(n8n.requests) == 4


async def test_reports_and_searches_are_read_at_the_replica_and_fall_with_it_alone(
    n8n: ScriptedN8n, redis_server: RedisDatabase, tmp_path: Path
) -> None:
    with PostgresServer() as postgres:
        postgres.start()
        database = postgres.new_database()
        with await asyncio.to_thread(postgres.replica) as replica:
            read = Database(replica, database.name)
            with Mode(n8n, database, redis_server.url, tmp_path, DATABASE_READ_URL=read.url) as mode:
                server = await asyncio.to_thread(mode.start)
                async with ChatClient(server.url) as client:
                    await client.session()
                    assert (await client.chat("unmistakable")).status_code == 200
                    await until(lambda: read.sql("SELECT count(*) FROM chatcore.messages") == [(2,)])
                    figures = await client.http.get("/api/v1/admin/analytics", headers=AS_OPS)
                    assert figures.json()["totals"]["messages"] == 1
                    found = await client.http.get("/api/v1/admin/sessions?q=unmistakable", headers=AS_OPS)
                    assert len(found.json()["sessions"]) == 1
                    await asyncio.to_thread(replica.kill)
                    for path in ("/api/v1/admin/analytics", "/api/v1/admin/sessions?q=unmistakable"):
                        answer = await client.http.get(path, headers=AS_OPS)
                        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), path
                    own = {"Authorization": f"Bearer {client.token}"}
                    history = await client.http.get("/api/v1/history", headers=own)
                    assert len(history.json()["messages"]) == 2
                    assert (await client.chat("and on")).status_code == 200
                    assert is_well(server)
                    await asyncio.to_thread(replica.start)
                    answer = await client.http.get("/api/v1/admin/analytics", headers=AS_OPS)
                    assert answer.status_code == 200
                    assert "Traceback" not in server.log
