"""What docs/sqlite.md says, and docs/backup.md of its file, is typed as it is written, beside a server or alone."""

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import ChatClient
from tests.support.documented import Place, commands
from tests.support.guided_postgres import until_serving
from tests.support.n8n import ScriptedN8n, published
from tests.support.ports import free_port

START = commands("docs/sqlite.md", "SQLite mode")
SERVE = ".venv/bin/python main_sqlite.py"
WEBHOOK = "https://n8n.example.com/webhook/chat"
BACKUPS = "/var/backups/chatcore"


@pytest.fixture(name="n8n")
def _n8n(n8n: ScriptedN8n) -> ScriptedN8n:
    n8n.answer(published)
    return n8n


@pytest.fixture(name="place")
def _place(tmp_path: Path, n8n: ScriptedN8n) -> Place:
    folder = tmp_path / "chatcore"
    folder.mkdir()
    place = Place(folder, {"API_PORT": str(free_port()), "SESSION_RATE_LIMIT_PER_MINUTE": "100000"})
    (folder / ".env").write_text(f"N8N_WEBHOOK_URL={n8n.url}\nALLOWED_ORIGINS=https://www.example.com\n")
    return place


def address(place: Place) -> str:
    """Where the server of `place` listens."""
    return f"http://127.0.0.1:{place.environment['API_PORT']}"


async def chats(client: ChatClient, *texts: str) -> list[int]:
    """Say something; gives the statuses."""
    return [(await client.chat(text)).status_code for text in texts]


def figures(printed: str) -> dict[str, Any]:
    """Give the totals that `stats --json` printed."""
    totals: dict[str, Any] = json.loads(printed)["totals"]
    return totals


def left(place: Place, pattern: str) -> list[Path]:
    """Give the files of the folder that have such names."""
    return list(place.folder.glob(pattern))


@contextlib.contextmanager
def rows(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file to read it."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        yield connection


async def test_the_commands_of_the_page_do_what_it_says(place: Place, n8n: ScriptedN8n) -> None:
    with place.running(START, {WEBHOOK: n8n.url}):
        await until_serving(address(place), place.folder / "log")
        async with ChatClient(address(place)) as client:
            await client.session()
            assert await chats(client, "one", "two") == [200, 200]
        place.run(f"{SERVE} backup backup.db")
        shown = commands("docs/sqlite.md", "Look at the figures")
        assert shown.count("\n") == 2
        printed = place.run(shown)
        assert printed.count("messages") >= 3, "two tables and a document"
        assert figures(printed[printed.index("\n{") :])["messages"] == 0, "nothing was said in January"
        assert re.search(r"(?m)^ +messages +2$", printed)
        assert place.run(commands("docs/sqlite.md", "Clean up")).startswith("0 sessions and ")
    checked = place.run(commands("docs/sqlite.md", "When something is wrong"))
    assert "chat_sessions.db is sound" in checked
    assert "FAULT" not in checked


async def test_a_lost_file_is_restored_from_a_backup_that_was_made_while_it_was_served(
    place: Place, tmp_path: Path
) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    here = {BACKUPS: str(backups)}
    file, secrets = place.folder / "chat_sessions.db", place.folder / "chat_sessions.db.secrets"
    with place.running(SERVE) as server:
        await until_serving(address(place), place.folder / "log")
        async with ChatClient(address(place)) as visitor, ChatClient(address(place)) as later:
            await visitor.session()
            assert await chats(visitor, "one", "two") == [200, 200]
            assert "bytes" in place.run(commands("docs/backup.md", "SQLite mode"), here)
            (backups / secrets.name).write_bytes(secrets.read_bytes())
            await later.session()
            assert await chats(visitor, "three") + await chats(later, "four") == [200, 200]
            tokens = visitor.token, later.token
        server.kill()
        server.wait()
    assert file.with_name("chat_sessions.db-wal").stat().st_size, "a log that would be taken for the backup's"
    file.unlink()
    secrets.unlink()
    drilled = place.run(commands("docs/backup.md", "Each month: try it", 0), here)
    assert "is sound" in drilled
    assert re.search(r"(?m)^ +messages +2$", drilled)
    assert not left(place, "drill.db*")
    restored = place.run(commands("docs/backup.md", "Restore the file"), here)
    assert "is sound" in restored
    assert re.search(r"(?m)^ +messages +2$", restored)
    secrets.write_bytes((backups / secrets.name).read_bytes())
    secrets.chmod(0o600)
    with place.running(SERVE):
        await until_serving(address(place), place.folder / "log")
        for token in tokens:
            async with ChatClient(address(place)) as client:
                client.token = token
                assert await chats(client, "five") == [200]
        assert file.stat().st_mode & 0o777 == 0o600
        totals = figures(place.run(f"{SERVE} stats --json"))
    assert (totals["sessions"], totals["messages"]) == (2, 4)
    with rows(file) as connection:
        assert sorted(connection.execute("SELECT messages FROM sessions")) == [(1,), (3,)]
