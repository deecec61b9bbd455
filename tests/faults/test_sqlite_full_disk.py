"""The disk is full while SQLite mode serves: chat goes on, nobody is told a lie, all is written in the end."""

import asyncio
import contextlib
import json
import os
import resource
import sqlite3
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_stream
from tests.support.background import Gate
from tests.support.client import ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer

OPS = "ops-may-look-at-all-the-figures-0001"
FOUND_OUT = 30.0
"""How long to wait for what the server does by itself, on a busy machine."""


class FullDisk(Protocol):
    """What makes writes to a served file fail, and lets them pass again."""

    database: Path

    def fill(self, server: ChatServer) -> None:
        """Leave no room for what comes."""

    def empty(self, server: ChatServer) -> None:
        """Make room again."""


class NoLongerFiles:
    """No file of the process may grow: SQLite is told that the write failed."""

    def __init__(self, database: Path) -> None:
        self.database = database

    def fill(self, server: ChatServer) -> None:
        log = self.database.with_name(f"{self.database.name}-wal")
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 3000, hard))

    def empty(self, server: ChatServer) -> None:
        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


class SmallDisk:
    """The file is alone on a disk of its own that another file fills."""

    def __init__(self, database: Path) -> None:
        self.database = database

    def fill(self, server: ChatServer) -> None:
        assert server.process.poll() is None
        with self.database.with_name("filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"x" * 512)

    def empty(self, server: ChatServer) -> None:
        assert server.process.poll() is None
        self.database.with_name("filler").unlink()


def mounted(folder: Path) -> bool:
    """Put a small disk into a folder, where this user may do that."""
    asked = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(asked, capture_output=True, check=False).returncode == 0


@pytest.fixture(params=["limit", "disk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FullDisk]:
    """Give a place for a file where room can be taken away: a disk of its own, where one may be mounted."""
    folder = tmp_path / "data"
    folder.mkdir()
    if request.param == "limit" or not mounted(folder):
        yield NoLongerFiles(folder / "chat.db")
        return
    try:
        yield SmallDisk(folder / "chat.db")
    finally:
        # Lazily, for a test that failed leaves its server to another fixture.
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def server(start_server: StartServer, n8n: ScriptedN8n, disk: FullDisk) -> ChatServer:
    """Give a server whose file stands where room can be taken away, with a quiet log, which is a file too."""
    settings = {"SQLITE_DB_PATH": str(disk.database), "ADMIN_TOKENS": f"ops:{OPS}", "LOG_LEVEL": "WARNING"}
    return start_server(n8n, settings, main="main_sqlite.py")


@pytest.fixture
async def visitor(server: ChatServer, make_client: MakeClient) -> ChatClient:
    """Give a visitor who has said enough for a log that is longer than all that is written beside."""
    client = make_client(server)
    await client.session()
    for _ in range(10):
        assert (await client.chat("Hi")).status_code == 200
    return client


async def store(client: ChatClient) -> dict[str, Any]:
    """Give what `/health` says of the store; all is served in any case."""
    answer = await client.http.get("/health")
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    check: dict[str, Any] = document["checks"]["store"]
    assert document["status"] == check["status"]
    return check


async def until_store_is(client: ChatClient, status: str) -> dict[str, Any]:
    async with asyncio.timeout(FOUND_OUT):
        while (check := await store(client))["status"] != status:
            await asyncio.sleep(0.02)
    return check


async def metric(client: ChatClient, sample: str) -> float:
    """Give one sample; 0 where it is not there."""
    text = (await client.http.get("/metrics")).text
    found = [line for line in text.splitlines() if line.startswith(f"{sample} ")]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


async def totals(client: ChatClient) -> dict[str, int]:
    answer = await client.http.get("/api/v1/admin/analytics", headers={"Authorization": f"Bearer {OPS}"})
    assert answer.status_code == 200
    figures: dict[str, int] = answer.json()["totals"]
    return figures


def errors(server: ChatServer, said: str) -> list[str]:
    """Give the lines of level ERROR that say so."""
    lines = [json.loads(line) for line in server.log.splitlines()]
    return [line["message"] for line in lines if line["level"] == "ERROR" and said in line["message"]]


def rows(database: Path, question: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(question).fetchall()


async def test_chat_goes_on_and_all_is_written_once_there_is_room(
    disk: FullDisk, server: ChatServer, visitor: ChatClient, make_client: MakeClient
) -> None:
    other = make_client(server)
    await other.session()
    disk.fill(server)
    ids = [str(uuid.uuid4()) for _ in range(40)]
    for message_id in ids[:20]:
        assert (await visitor.reply("Hi", message_id=message_id)).finish_reason == "complete"
    for message_id in ids[20:]:
        answer = await other.chat("Hi", message_id=message_id)
        assert (answer.status_code, answer.json()["finish_reason"]) == (200, "complete")
    check = await until_store_is(visitor, "degraded")
    assert "cannot be written" in check["detail"]
    assert "wait in memory" in check["detail"]
    assert await metric(visitor, 'chatcore_store_events_total{what="not_writable"}') == 1
    assert await metric(visitor, "chatcore_store_lost_total") == 0
    before = await totals(visitor)
    assert before["messages"] < 50, "the figures are as the file has them"
    rated = await visitor.http.post(
        f"/api/v1/chat/{ids[0]}/feedback",
        json={"rating": "up"},
        headers={"Authorization": f"Bearer {visitor.token}"},
    )
    assert rated.status_code == 204
    again = await visitor.chat("Hi", message_id=ids[0])
    assert (again.status_code, again.json()["message_id"]) == (200, ids[0]), "a kept reply is given, not made again"
    assert len(errors(server, "store not writable")) == 1, "told once"

    disk.empty(server)
    assert await until_store_is(visitor, "ok") == {"status": "ok"}
    after = await totals(visitor)
    assert (after["messages"], after["replies"], after["errors"], after["sessions"]) == (50, 50, 0, 2)
    assert after["feedback_up"] == 1
    assert await metric(visitor, 'chatcore_store_events_total{what="writable"}') == 1
    assert len(errors(server, "store not writable")) == 1
    assert (await visitor.chat("Hi")).status_code == 200
    assert server.stop() == 0
    assert rows(disk.database, "PRAGMA integrity_check") == [("ok",)]
    sessions = {str(visitor.session_id): (31, 31), str(other.session_id): (20, 20)}
    found = rows(disk.database, "SELECT id, messages, replies FROM sessions")
    assert {session: counts for session, *counts in found} == {one: [*both] for one, both in sessions.items()}
    assert rows(disk.database, "SELECT count(*), sum(open) FROM turns") == [(51, 0)]


async def test_what_is_not_written_yet_is_not_answered_twice_either(
    disk: FullDisk, server: ChatServer, visitor: ChatClient, n8n: ScriptedN8n
) -> None:
    disk.fill(server)
    await asyncio.gather(*(visitor.chat("Hi") for _ in range(20)))
    await until_store_is(visitor, "degraded")
    message_id = str(uuid.uuid4())
    n8n.refuse()
    n8n.disconnect()
    refused = await visitor.chat("Hi", message_id=message_id)
    assert (refused.status_code, refused.json()["code"]) == (503, "upstream_unavailable")
    n8n.listen()
    assert (await visitor.chat("Hi", message_id=message_id)).status_code == 200, "n8n never got it"
    asked = len(n8n.requests)
    assert (await visitor.chat("Hi", message_id=message_id)).status_code == 200
    assert (await visitor.chat("Ho", message_id=message_id)).json()["code"] == "message_id_reused"
    assert len(n8n.requests) == asked
    disk.empty(server)
    await until_store_is(visitor, "ok")
    figures = await totals(visitor)
    assert (figures["messages"], figures["replies"], figures["errors"]) == (32, 31, 1)


async def test_an_erasure_is_refused_and_carried_out_when_there_is_room(
    disk: FullDisk, server: ChatServer, visitor: ChatClient, make_client: MakeClient, n8n: ScriptedN8n
) -> None:
    other = make_client(server)
    await other.session()
    disk.fill(server)
    await asyncio.gather(*(other.chat("Hi") for _ in range(20)))
    await until_store_is(visitor, "degraded")
    gate = Gate()
    n8n.next(answer_stream(["first ", "second"], gap=gate))
    bearer = {"Authorization": f"Bearer {visitor.token}"}
    async with visitor.stream("Hi") as stream:
        await stream.next("delta")
        erased = await visitor.http.delete("/api/v1/session", headers=bearer)
        assert (erased.status_code, erased.json()["code"]) == (503, "store_unavailable")
        look = await visitor.http.get("/api/v1/session", headers=bearer)
        assert (look.status_code, look.json()["code"]) == (401, "token_invalid"), "it is dead from now on"
        gate.open()
        await stream.next("done")
    disk.empty(server)
    await until_store_is(visitor, "ok")
    assert rows(disk.database, "SELECT id FROM sessions") == [(other.session_id,)]
    assert rows(disk.database, "SELECT DISTINCT session_id FROM turns") == [(other.session_id,)]
    assert rows(disk.database, "SELECT session_id FROM erased") == [(visitor.session_id,)]
    look = await visitor.http.get("/api/v1/session", headers=bearer)
    assert (look.status_code, look.json()["code"]) == (401, "token_invalid")
    figures = await totals(visitor)
    assert (figures["messages"], figures["replies"]) == (31, 31), "figures hold no ids and stay"


async def test_a_stop_while_there_is_no_room_ends_and_says_what_is_lost(
    disk: FullDisk, server: ChatServer, visitor: ChatClient
) -> None:
    disk.fill(server)
    for _ in range(30):
        assert (await visitor.chat("Hi")).status_code == 200
    await until_store_is(visitor, "degraded")
    written = (await totals(visitor))["messages"]
    assert server.stop(30) == 0
    said = errors(server, "never recorded")
    assert len(said) == 1
    assert f"{40 - written} messages were never recorded" in said[0]
    assert "Traceback" not in server.log
    if isinstance(disk, SmallDisk):
        disk.database.with_name("filler").unlink()
    assert rows(disk.database, "PRAGMA integrity_check") == [("ok",)]
    assert rows(disk.database, "SELECT sum(messages), sum(replies) FROM hours") == [(written, written)]


async def test_a_stop_writes_what_has_room_by_then(disk: FullDisk, server: ChatServer, visitor: ChatClient) -> None:
    disk.fill(server)
    for _ in range(30):
        assert (await visitor.chat("Hi")).status_code == 200
    await until_store_is(visitor, "degraded")
    disk.empty(server)
    assert server.stop(30) == 0
    assert rows(disk.database, "PRAGMA integrity_check") == [("ok",)]
    assert rows(disk.database, "SELECT sum(messages), sum(replies) FROM hours") == [(40, 40)]
    assert not errors(server, "never recorded")
