"""What docs/backup.md says of PostgreSQL mode is typed as it is written: dumps while visitors chat, then restores."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartPostgres
from tests.support.answers import answer_stream, hold
from tests.support.background import Gate
from tests.support.client import NO_TLS, ChatClient
from tests.support.databases import RedisDatabase
from tests.support.documented import commands, fenced
from tests.support.guided_postgres import ALONE, START, Guided
from tests.support.n8n import ScriptedN8n, published
from tests.support.postgres_mode import FOUND_OUT, messages_of, until

BACKUPS = "/var/backups/chatcore"
AT_DATABASE = "db.example.com:5432/chatcore_drill?sslmode=verify-full"
ERASED_LONG_AGO = f"s_{'a' * 22}"
EMPTY, IN_ITS_PLACE = [fenced("docs/backup.md", "Restore the database", "sql", number) for number in (0, 1)]


class Keeper:
    """Who backs up and restores what `guided` set up, with the page before the eyes."""

    def __init__(self, guided: Guided, folder: Path) -> None:
        self.guided = guided
        self.folder = folder

    def runs(self, text: str, instead: Mapping[str, str] | None = None, *, status: int = 0) -> str:
        """Run commands with this folder of backups and the night whose dump is there."""
        dumps = [path.stem for path in self.folder.glob("*.dump")]
        put = {BACKUPS: str(self.folder), "2026-01-31": dumps[0] if dumps else "none", **(instead or {})}
        occurring = {written: new for written, new in put.items() if written in text}
        return self.guided.place.run(text, occurring, status=status)

    def dumps(self) -> None:
        """Do what is to be done each night."""
        self.runs(commands("docs/backup.md", "Each night"))
        (dump,) = self.folder.glob("*.dump")
        assert dump.stat().st_mode & 0o777 == 0o600
        assert sorted(path.suffix for path in self.folder.iterdir()) == [".dump", ".head"]

    def lists_erased(self, status: int = 0) -> list[str]:
        """Do what is to be done every five minutes; gives the list."""
        self.runs(commands("docs/backup.md", "Every five minutes"), status=status)
        return (self.folder / "erased.txt").read_text().splitlines()

    def lists(self, session_id: str) -> None:
        """Have a session in the list that the dump knows nothing of."""
        (self.folder / "erased.txt").write_text(f"{session_id}\n")

    def restores(self) -> str:
        """Fill the empty database from the dump, put it in its place, see to the rest; gives what that said."""
        self.runs(commands("docs/backup.md", "Restore the database", 0))
        damaged = self.guided.postgres.sql("SELECT 1 FROM pg_database WHERE datname = 'chatcore'")
        self.guided.superuser(IN_ITS_PLACE if damaged else IN_ITS_PLACE.splitlines()[-1])
        return self.runs(commands("docs/backup.md", "Restore the database", 1))


@pytest.fixture
def keeper(start_postgres: StartPostgres, redis_server: RedisDatabase, n8n: ScriptedN8n, tmp_path: Path) -> Keeper:
    n8n.answer(published)
    redis_server.flush()
    place, backups = tmp_path / "chatcore", tmp_path / "backups"
    place.mkdir()
    guided = Guided(place, start_postgres(), redis_server.url, n8n)
    guided.writes_settings(ALONE)
    guided.writes_service()
    return Keeper(guided, backups)


async def begins(client: ChatClient, text: str) -> ChatClient:
    """Begin a session with one message."""
    await client.session()
    await says(client, text)
    return client


async def says(client: ChatClient, text: str, message_id: str | None = None) -> None:
    """Say something, and be answered."""
    answer = await client.chat(text, message_id=message_id or str(uuid.uuid4()))
    assert (answer.status_code, answer.json().get("content")) == (httpx.codes.OK, f"Echo: {text}")


async def erases(client: ChatClient) -> None:
    """Erase one's session."""
    bearer = {"Authorization": f"Bearer {client.token}"}
    assert (await client.http.delete("/api/v1/session", headers=bearer)).status_code == httpx.codes.NO_CONTENT


@contextlib.asynccontextmanager
async def chatting(client: ChatClient) -> AsyncIterator[list[str]]:
    """Have somebody chat all the time; gives what was said and answered so far."""
    said: list[str] = []

    async def chat_for_ever() -> None:
        while True:
            text = f"number {len(said)}"
            await says(client, text)
            said.append(text)

    task = asyncio.create_task(chat_for_ever())
    try:
        yield said
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), task.exception()


async def health(guided: Guided, status: str) -> None:
    """Wait until `/health` says so."""
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client, asyncio.timeout(FOUND_OUT):
        while (await client.get(f"{guided.url}/health")).json()["status"] != status:
            await asyncio.sleep(0.05)


def kept(guided: Guided, client: ChatClient) -> list[str]:
    """Give what the database holds of a session, in its order."""
    return [text for _, _, text in messages_of(guided.database, str(client.session_id))]


def counts_agree(guided: Guided, *, erased: int) -> None:
    """Compare the counts of sessions and hours with the messages; of those that were erased the hours know still."""
    different = (
        "SELECT s.id FROM chatcore.sessions AS s "
        "WHERE messages <> (SELECT count(*) FROM chatcore.turns AS t WHERE t.session_id = s.id)"
    )
    assert guided.database.sql(different) == []
    hours = "SELECT (SELECT sum(messages) FROM chatcore.hours) - (SELECT count(*) FROM chatcore.turns)"
    assert guided.database.sql(hours) == [(erased,)]


async def stay_erased(guided: Guided, *clients: ChatClient) -> None:
    """Check that nothing is kept of sessions, and that their tokens are refused."""
    for client in clients:
        assert kept(guided, client) == []
        assert (await client.chat("Still there?")).status_code == httpx.codes.UNAUTHORIZED


def turns(*texts: str) -> list[str]:
    """Give questions with their replies."""
    return [said for text in texts for said in (text, f"Echo: {text}")]


async def test_a_damaged_database_is_restored_while_visitors_chat_and_who_was_erased_stays_erased(
    keeper: Keeper, n8n: ScriptedN8n
) -> None:
    guided = keeper.guided
    with guided.place.running(START):
        await guided.serves()
        visitors = [ChatClient(guided.url) for _ in range(5)]
        async with contextlib.AsyncExitStack() as open_clients:
            for visitor in visitors:
                await open_clients.enter_async_context(visitor)
            busy, loyal, gone_before, gone_after, late = visitors
            for visitor in visitors[:4]:
                await begins(visitor, "before")
            as_anna = {"Authorization": f"Bearer {guided.admin_token}"}
            transcript = f"/api/v1/admin/sessions/{loyal.session_id}/messages"
            await erases(gone_before)
            assert (await loyal.http.get(transcript, headers=as_anna)).status_code == httpx.codes.OK
            async with chatting(busy) as said:
                while len(said) < 2:
                    await asyncio.sleep(0.01)
                first = len(said)
                await asyncio.to_thread(keeper.dumps)
                last = len(said)
            await asyncio.to_thread(keeper.lists_erased)
            lost = str(uuid.uuid4())
            await begins(late, "too late for the dump")
            await says(loyal, "lost", lost)
            await erases(gone_after)
            await asyncio.to_thread(keeper.lists_erased)

            guided.database.sql("DROP TABLE chatcore.messages CASCADE")
            await says(loyal, "meanwhile")
            await says(late, "meanwhile")
            await health(guided, "degraded")
            await asyncio.to_thread(guided.superuser, EMPTY)
            restored = await asyncio.to_thread(keeper.restores)
            assert "go on from the head that was noted" in restored
            assert re.findall(r"(?m)^(s_\S+): erased, 2 messages$", restored) == [gone_after.session_id]
            assert "this role may add to the audit log and read it, and nothing else." in restored
            assert "FAULT" not in restored
            await health(guided, "ok")

            assert kept(guided, loyal) == turns("before", "meanwhile")
            assert kept(guided, late) == turns("meanwhile")
            of_busy = kept(guided, busy)
            assert of_busy == turns("before", *said)[: len(of_busy)]
            assert first <= len(of_busy) // 2 - 1 <= last + 1, "the dump is of a moment while it was made"
            await stay_erased(guided, gone_before, gone_after)
            asked = len(n8n.requests)
            await says(loyal, "lost", lost)
            assert len(n8n.requests) == asked, "a kept reply is not asked for again"
            await says(loyal, "after")
            assert len((await loyal.http.get(transcript, headers=as_anna)).json()["messages"]) == 6
    counts_agree(guided, erased=2)
    assert guided.postgres.sql("SELECT count(*) FROM pg_database WHERE datname = 'chatcore_damaged'") == [(1,)]


async def test_a_lost_server_is_made_anew_and_journals_are_written_once(
    keeper: Keeper, redis_server: RedisDatabase, start_postgres: StartPostgres, n8n: ScriptedN8n, tmp_path: Path
) -> None:
    guided = keeper.guided
    async with ChatClient(guided.url) as visitor:
        with guided.place.running(START) as server:
            await guided.serves()
            await begins(visitor, "before")
            await asyncio.to_thread(keeper.dumps)
            keeper.lists(ERASED_LONG_AGO)
            lost = str(uuid.uuid4())
            await says(visitor, "lost", lost)
            gate = Gate()
            n8n.next(hold(gate, answer_stream(["its question is lost"])))
            halved = asyncio.create_task(visitor.chat("in two"))
            await until(lambda: guided.database.sql("SELECT 1 FROM chatcore.turns WHERE state = 'open'"))
            guided.postgres.close()
            gate.open()
            assert (await halved).status_code == httpx.codes.OK
            await says(visitor, "meanwhile")
            assert await asyncio.to_thread(keeper.lists_erased, 2) == [ERASED_LONG_AGO]
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        journal = sorted(guided.place.folder.glob("spool.db*"))
        snapshot = tmp_path / "snapshot"
        snapshot.mkdir()
        for path in journal:
            shutil.copy(path, snapshot)

        guided.moves_to(start_postgres())
        setup = fenced("docs/postgres.md", "From nothing", "sql")
        guided.superuser("".join(line for line in setup.splitlines(keepends=True) if "CREATE ROLE" in line))
        redis_server.flush()
        guided.superuser(EMPTY.replace("chatcore_restored", "chatcore_drill"))
        drill = commands("docs/backup.md", "Each month: try it", 1)
        drilled = keeper.runs(drill, {AT_DATABASE: f"127.0.0.1:{guided.postgres.port}/chatcore_drill"})
        assert "The audit log is empty" in drilled, "nobody has looked at anything"
        assert re.search(r"(?m)^ +messages +1$", drilled)
        assert re.search(r"(?m)^ +2 \| \d{4}-", drilled)
        guided.superuser(EMPTY)
        assert f"{ERASED_LONG_AGO}: was not known; its tokens are refused from now on" in keeper.restores()

        for texts in (["after", "lost"], ["and on"]):
            with guided.place.running(START) as server:
                await guided.serves()
                await health(guided, "ok")
                assert kept(guided, visitor)[:4] == turns("before", "meanwhile")
                asked = len(n8n.requests)
                for text in texts:
                    await says(visitor, text, lost if text == "lost" else None)
                assert len(n8n.requests) == asked + len(texts), "neither the dump nor an empty Redis knows of `lost`"
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
            for path in guided.place.folder.glob("spool.db*"):
                path.unlink()
            for path in snapshot.iterdir():
                shutil.copy(path, guided.place.folder)
        assert kept(guided, visitor) == turns("before", "meanwhile", "after", "lost", "and on")
