"""The commands of the pages on monitoring and the runbook, run as they are written."""

import json
import re
from pathlib import Path

import httpx

from tests.conftest import StartServer
from tests.support.answers import answer_empty
from tests.support.client import NO_TLS, ChatClient
from tests.support.databases import Database, RedisDatabase
from tests.support.documented import Place, commands
from tests.support.n8n import ScriptedN8n
from tests.support.ports import free_port
from tests.support.postgres_mode import AUDIT_KEY, Mode, messages_of

HERE = "http://127.0.0.1:8001"


def _settings(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / ".env").read_text("utf-8").splitlines())


def test_a_token_for_prometheus(tmp_path: Path, n8n: ScriptedN8n, start_server: StartServer) -> None:
    place = Place(tmp_path)
    place.run(commands("docs/monitoring.md", "The token", 0))
    token = tmp_path / "deploy" / "monitoring" / "metrics-token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert _settings(tmp_path)["METRICS_TOKEN"] == token.read_text("utf-8").strip()
    assert "SUCCESS" in place.run(commands("docs/monitoring.md", "Prometheus"))
    server = start_server(n8n, _settings(tmp_path))
    assert httpx.get(f"{server.url}/metrics", trust_env=False, verify=NO_TLS).status_code == 401
    shown = place.run(commands("docs/monitoring.md", "The token", 1), {HERE: server.url})
    assert 'chatcore_health{check="n8n"} 0.0' in shown


def test_a_request_is_found_in_the_journal(tmp_path: Path, n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n)
    asked = httpx.get(f"{server.url}/health", trust_env=False, verify=NO_TLS, headers={"X-Request-ID": "4c1d2f7a"})
    assert asked.headers["x-request-id"] == "4c1d2f7a"
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "journalctl").write_text(f"#!/bin/sh\n[ \"$1\" = -u ] && cat '{server.folder}/log'\n", "utf-8")
    (shim / "journalctl").chmod(0o755)
    place = Place(tmp_path)
    place.environment["PATH"] = f"{shim}:{place.environment['PATH']}"
    (line,) = place.run(commands("docs/monitoring.md", "Logs")).splitlines()
    assert json.loads(line)["request_id"] == "4c1d2f7a"


def test_the_first_look(tmp_path: Path, n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n)
    said = Place(tmp_path).run(commands("docs/runbook.md", "Runbook"), {HERE: server.url})
    assert json.loads(said)["status"] == "ok"


async def test_a_secret_is_changed_and_nobody_is_thrown_out(
    tmp_path: Path, n8n: ScriptedN8n, start_server: StartServer
) -> None:
    old = "j" * 40
    (tmp_path / ".env").write_text(f"N8N_WEBHOOK_URL={n8n.url}\nJWT_SECRET_KEY={old}\n", "utf-8")
    place = Place(tmp_path, {"API_PORT": str(free_port())})
    with start_server(n8n, {"JWT_SECRET_KEY": old}) as before:
        async with ChatClient(before.url) as visitor:
            await visitor.session()
            token = visitor.token
    place.run(commands("docs/runbook.md", "Change a secret"))
    settings = _settings(tmp_path)
    assert settings["JWT_SECRET_KEY_PREVIOUS"] == old
    assert re.fullmatch(r"[0-9a-f]{64}", settings["JWT_SECRET_KEY"])
    n8n.next(answer_empty(204))  # `check` asks without a message
    assert "FAULT" not in place.run(commands("docs/runbook.md", "Restart"))
    after = start_server(n8n, settings)
    async with ChatClient(after.url) as visitor:
        visitor.token = token
        assert (await visitor.chat("Hi")).status_code == 200


async def test_a_visitor_is_erased(
    tmp_path: Path, n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase
) -> None:
    journals = tmp_path / "journals"
    journals.mkdir()
    with Mode(n8n, database, redis_server.url, journals) as mode:
        async with ChatClient(mode.start().url) as visitor:
            session = (await visitor.session()).json()["session_id"]
            assert (await visitor.chat("Hi")).status_code == 200
            assert messages_of(database, session)
            urls = {"DATABASE_URL": database.url, "DATABASE_ADMIN_URL": database.admin_url}
            place = Place(tmp_path, {**urls, "AUDIT_KEY": AUDIT_KEY})
            said = place.run(commands("docs/runbook.md", "Erase a visitor"), {"s_0123456789ABCDEFGHIJKL": session})
            assert "erased" in said
            assert messages_of(database, session) == []
