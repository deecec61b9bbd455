"""The steps of an upgrade and the way back, typed as they are written; what a newer file or schema does to a server."""

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

from chatcore import __version__
from tests.conftest import MakeClient, StartServer
from tests.support.client import ChatClient
from tests.support.databases import Database, RedisDatabase
from tests.support.documented import Place, commands
from tests.support.n8n import ScriptedN8n, published
from tests.support.postgres_mode import AUDIT_KEY, Mode
from tests.support.server import JWT_SECRET, N8N_SECRET, ServerFailedError


def test_the_new_program_says_its_version_and_checks_the_old_settings(n8n: ScriptedN8n, tmp_path: Path) -> None:
    n8n.answer(published)
    secrets = {"JWT_SECRET_KEY": JWT_SECRET, "SESSION_SECRET_KEY": N8N_SECRET}
    place = Place(tmp_path, {"N8N_WEBHOOK_URL": n8n.url, "ALLOWED_ORIGINS": "https://www.example.com", **secrets})
    version, *findings = place.run(commands("docs/upgrading.md", "Step by step", 0)).splitlines()
    assert version == f"chatcore {__version__}"
    assert {line.split()[0] for line in findings} == {"ok"}


async def test_a_backup_from_before_takes_the_place_of_a_newer_file(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient, tmp_path: Path
) -> None:
    file = tmp_path / "chat_sessions.db"
    place = Place(tmp_path, {"SQLITE_DB_PATH": str(file)})
    environment = {"SQLITE_DB_PATH": str(file)}
    server = start_server(n8n, environment, main="main_sqlite.py")
    client = make_client(server)
    await client.session()
    assert (await client.chat("Hi")).status_code == 200
    place.run("python main_sqlite.py backup before-upgrade.db")
    server.kill()

    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
    with pytest.raises(ServerFailedError, match="was written by a newer chatcore"):
        start_server(n8n, environment, main="main_sqlite.py")

    place.run(commands("docs/upgrading.md", "Back again"))
    start_server(n8n, environment, main="main_sqlite.py")
    assert '"messages":1' in place.run("python main_sqlite.py stats --json").replace(" ", "")


async def test_servers_go_on_while_the_schema_is_newer_and_old_ones_do_not_start_any_more(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, tmp_path: Path, make_client: MakeClient
) -> None:
    n8n.answer(published)
    (tmp_path / "operator").mkdir()
    settings = {
        "N8N_WEBHOOK_URL": n8n.url,
        "ALLOWED_ORIGINS": "https://www.example.com",
        "DATABASE_URL": database.url,
        "DATABASE_ADMIN_URL": database.admin_url,
        "REDIS_URL": redis_server.url,
        "JWT_SECRET_KEY": JWT_SECRET,
        "SESSION_SECRET_KEY": N8N_SECRET,
        "AUDIT_KEY": AUDIT_KEY,
    }
    place = Place(tmp_path / "operator", settings)
    printed = place.run(commands("docs/upgrading.md", "Step by step", 1))
    assert printed.startswith("The schema was brought from nothing to revision ")
    assert "FAULT" not in printed
    with Mode(n8n, database, redis_server.url, tmp_path) as mode:
        running = mode.start()
        client = make_client(running)
        await client.session()
        database.sql("UPDATE chatcore.alembic_version SET version_num = '9999'")
        assert (await client.chat("Hi")).json()["content"] == "Echo: Hi"
        assert (await client.http.get("/health")).json()["status"] == "ok"
        with pytest.raises(ServerFailedError, match="newer schema"):
            mode.start(1)
    assert "newer schema" in place.run("python main_postgres.py migrate", status=2)


async def test_modules_of_another_version_are_not_here(visitor: ChatClient) -> None:
    door = (await visitor.http.get("/widget/chat-widget-define.js")).text
    (version,) = set(re.findall(r"\./([0-9a-f]{16})/", door))
    kept = await visitor.http.get(f"/widget/{version}/chat-widget-define.js")
    assert "immutable" in kept.headers["cache-control"]
    assert (await visitor.http.get(f"/widget/{'0' * 16}/chat-widget-define.js")).status_code == 404
