"""Operators look, copy and clean up in SQLite mode while visitors chat: nobody fails, nobody waits for them."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LONG, MakeClient, StartServer
from tests.support import warm
from tests.support.answers import answer_stream
from tests.support.client import ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.server import ROOT, ChatServer

OPS = "ops-may-look-at-all-the-figures-0001"
CLIENTS = 16
SESSIONS = 100_000 if LONG else 20_000
DAYS = 40


class Visitors:
    """They chat, one message after the other, and remember how long the longest wait was."""

    def __init__(self, make_client: MakeClient, server: ChatServer) -> None:
        self._clients: list[ChatClient] = [make_client(server) for _ in range(CLIENTS)]
        self._ending = False
        self.messages = 0

    async def come(self) -> None:
        """Get sessions."""
        for client in self._clients:
            assert (await client.session()).status_code == 201

    async def chat_during(self, work: Coroutine[Any, Any, None]) -> float:
        """Chat until `work` has ended; gives the longest wait in seconds."""
        self._ending = False
        chatting = [asyncio.create_task(self._chat(client)) for client in self._clients]
        try:
            await work
        finally:
            self._ending = True
            waits = await asyncio.gather(*chatting)
        return max(waits)

    async def _chat(self, client: ChatClient) -> float:
        longest = 0.0
        while not self._ending:
            began = time.monotonic()
            reply = await client.reply("Hi", message_id=str(uuid.uuid4()))
            assert (reply.status, reply.finish_reason) == (200, "complete"), reply.problem
            longest = max(longest, time.monotonic() - began)
            self.messages += 1
        return longest


def fill(database: Path) -> None:
    """Make a file of a month and more, the older sessions of which are kept long enough."""
    today = datetime.now(UTC).date()
    subprocess.run(
        [
            *(sys.executable, str(ROOT / "bench" / "fill_sqlite.py"), str(database), "--sessions", str(SESSIONS)),
            *("--days", str(DAYS), "--pages", "300", "--until", str(today)),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        # The server's own clean-up is not due, so that the one beside it has all to do.
        connection.execute("INSERT INTO meta VALUES ('cleaned_at', ?)", (time.time(),))


async def command(database: Path, *argv: str | Path) -> str:
    """Run a command of the main beside the server; gives what it says."""
    settings = {"SQLITE_DB_PATH": str(database)}
    done = await asyncio.to_thread(warm.run, "main_sqlite.py", [*argv, "--env-file", "/dev/null"], environment=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def look(client: ChatClient, times: int) -> dict[str, int]:
    """Ask for the figures of a month, again and again; gives the last totals."""
    now = datetime.now(UTC)
    month = {
        "from": f"{now - timedelta(days=30):%Y-%m-%dT%H:00:00Z}",
        "to": f"{now + timedelta(hours=1):%Y-%m-%dT%H:00:00Z}",
    }
    totals: dict[str, int] = {}
    for number in range(times):
        interval = {"interval": "hour"} if number % 2 else {}
        answer = await client.http.get(
            "/api/v1/admin/analytics", params=month | interval, headers={"Authorization": f"Bearer {OPS}"}
        )
        assert answer.status_code == 200, answer.text
        totals = answer.json()["totals"]
    return totals


@pytest.mark.alone
async def test_reports_a_backup_and_a_clean_up_hold_no_message_back(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient, tmp_path: Path, *, long: bool
) -> None:
    database = tmp_path / "chat.db"
    await asyncio.to_thread(fill, database)
    server = start_server(
        n8n,
        {"SQLITE_DB_PATH": str(database), "ADMIN_TOKENS": f"ops:{OPS}", "LOG_LEVEL": "WARNING"},
        main="main_sqlite.py",
    )
    n8n.answer(answer_stream(["a", " reply"], gap=0.02))
    visitors, operator = Visitors(make_client, server), make_client(server)
    await visitors.come()
    before = await look(operator, 1)

    undisturbed = await visitors.chat_during(asyncio.sleep(1.5))
    assert visitors.messages >= CLIENTS

    async def operate() -> None:
        async with asyncio.TaskGroup() as beside:
            beside.create_task(look(operator, 300 if long else 12))
            copying = beside.create_task(command(database, "backup", tmp_path / "copy.db"))
            cleaning = beside.create_task(command(database, "cleanup"))
        assert "complete and sound" in copying.result()
        gone = int(cleaning.result().split(" ")[0])
        assert SESSIONS * 0.7 < gone < SESSIONS, "all but those of the last week"

    disturbed = await visitors.chat_during(operate())
    assert disturbed < undisturbed + 1.0, f"{disturbed:.2f} s, undisturbed {undisturbed:.2f} s"

    after = await look(operator, 1)
    assert after["messages"] - before["messages"] == visitors.messages
    assert after["replies"] - before["replies"] == visitors.messages
    assert after["errors"] == before["errors"]
    assert server.stop(30) == 0
    assert "Traceback" not in server.log
    for path in (database, tmp_path / "copy.db"):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    print(f"longest wait {undisturbed:.3f} s undisturbed, {disturbed:.3f} s beside; {visitors.messages} messages")  # noqa: T201 - shown with -s
