"""The commands of SQLite mode as processes, beside a server or alone, and every file that a start must refuse."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support import warm
from tests.support.client import ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.server import ROOT, ChatServer

MAIN = ROOT / "main_sqlite.py"
PLAIN = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""What takes from root the right to pass over the modes of files."""

Done = subprocess.CompletedProcess[str]


def run(
    *argv: str | Path, database: Path | None = None, environ: Mapping[str, str] | None = None, plain: bool = False
) -> Done:
    """Run the main with a command and wait for its end; `plain` where the modes of files are to count for root too."""
    given = [] if "--env-file" in argv else ["--env-file", "/dev/null"]
    settings = {} if database is None else {"SQLITE_DB_PATH": str(database)}
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **settings, **(environ or {})}
    if not plain and not any(name.startswith("PYTHON") for name in environ or {}):  # which only a new interpreter reads
        return warm.run(MAIN.name, [*argv, *given], environment=environment)
    return subprocess.run(
        [*(PLAIN if plain else []), sys.executable, MAIN, *argv, *given],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def around_now() -> tuple[str, str]:
    """Give the bounds of two days that end tomorrow."""
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    return f"{tomorrow - timedelta(days=2)}", f"{tomorrow}"


def totals(database: Path) -> dict[str, Any]:
    """Give the totals that `stats` tells of a file."""
    begin, end = around_now()
    done = run("stats", "--json", "--db", database, "--from", begin, "--to", end)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)["totals"]
    return document


def whole(folder: Path) -> dict[str, str]:
    """Give all files of a folder and their digests."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def refused(done: Done, *said: str) -> None:
    """Check that a command or a start ended with status 2, one fault and advice, and nothing of a traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for text in said:
        assert text in done.stderr


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file that a server left: two sessions, five messages."""
    database = tmp_path_factory.mktemp("example") / "chat.db"

    async def fill(url: str) -> None:
        for count in (2, 3):
            async with ChatClient(url) as client:
                await client.session()
                for _ in range(count):
                    answer = await client.chat("Hi", page_url=f"https://shop.test/{count}")
                    assert answer.status_code == 200

    with (
        ScriptedN8n() as n8n,
        ChatServer({"N8N_WEBHOOK_URL": n8n.url, "SQLITE_DB_PATH": str(database)}, main="main_sqlite.py") as server,
    ):
        asyncio.run(fill(server.url))
        assert server.stop() == 0
    return database


@pytest.fixture
def database(example: Path, tmp_path: Path) -> Path:
    """Give a copy of the example for one test."""
    folder = tmp_path / "data"
    folder.mkdir()
    return Path(shutil.copy(example, folder / "chat.db"))


@pytest.fixture
def serve(start_server: StartServer, n8n: ScriptedN8n, database: Path) -> Callable[..., ChatServer]:
    def start(path: Path = database, **environment: str) -> ChatServer:
        return start_server(n8n, {"SQLITE_DB_PATH": str(path), **environment}, main="main_sqlite.py")

    return start


def test_stats_draws_figures_and_places(database: Path) -> None:
    before = whole(database.parent)
    done = run("stats", database=database, environ={"COLUMNS": "60", "PYTHONUTF8": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].endswith("UTC")
    assert lines[1] == "by the day, all bots"
    for label, count in (("sessions", "2"), ("messages", "5"), ("replies", "5"), ("errors", "0")):
        assert any(line.split() == [label, count] for line in lines)
    assert "█" in done.stdout
    assert any(line.split() == ["https://shop.test/3", "1", "3"] for line in lines)
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in done.stdout
    assert run("stats", database=database, environ={"PYTHONIOENCODING": "ascii"}).stdout.isascii()
    assert whole(database.parent) == before


@pytest.mark.parametrize(
    ("options", "interval", "slots"),
    [
        ((), "day", 8),
        (("--days", "1"), "hour", 25),
        (("--days", "30"), "day", 31),
        (("--interval", "hour"), "hour", 169),
        (("--from", "2026-01-01", "--to", "2026-01-03"), "hour", 48),
        (("--from", "2026-01-01", "--to", "2026-01-03", "--interval", "day"), "day", 2),
        (("--from", "2026-01-01T10:00:00Z", "--to", "2026-01-01T12:00:00+01:00"), "hour", 1),
        (("--bot", "nobody"), "day", 8),
    ],
)
def test_stats_answers_as_asked(database: Path, options: tuple[str, ...], interval: str, slots: int) -> None:
    done = run("stats", "--json", *options, database=database)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["interval"] == interval
    assert slots - 1 <= len(told["series"]) <= slots
    inside = "--from" not in options and "--bot" not in options
    assert told["totals"]["messages"] == (5 if inside else 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--days", "0"), "--days"),
        (("--days", "9999"), "--days"),
        (("--days", "x"), "--days"),
        (("--days", "1", "--from", "2026-01-01"), "--days"),
        (("--from", "yesterday"), "--from"),
        (("--from", "2026-02-01", "--to", "2026-01-01"), "--from"),
        (("--to", "1999-01-01"), "--to"),
        (("--interval", "week"), "--interval"),
        (("--day", "1"), "--day"),
        (("--db",), "--db"),
    ],
)
def test_stats_refuses_what_it_cannot_answer(database: Path, options: tuple[str, ...], said: str) -> None:
    done = run("stats", *options, database=database)
    refused(done, said)
    assert not done.stdout


def test_stats_of_nothing_is_refused(tmp_path: Path) -> None:
    refused(run("stats", database=tmp_path / "none.db"), "none.db does not exist", "what to do:")
    refused(run("stats", "--db", tmp_path, database=tmp_path / "none.db"), "does not exist")
    assert not list(tmp_path.iterdir())


def test_options_work_before_and_behind_a_command(database: Path, tmp_path: Path) -> None:
    named = tmp_path / "named.env"
    named.write_text(f"SQLITE_DB_PATH={database}\n")
    before = run("--env-file", named, "--log-level", "ERROR", "stats", "--json")
    behind = run("stats", "--json", "--env-file", named)
    assert json.loads(before.stdout)["totals"] == json.loads(behind.stdout)["totals"]
    copies = [tmp_path / "1.db", tmp_path / "2.db"]
    assert run("--env-file", named, "backup", copies[0]).returncode == 0
    assert run("backup", copies[1], "--env-file", named).returncode == 0
    assert totals(copies[0]) == totals(copies[1]) == totals(database)


def test_a_backup_goes_where_it_may(database: Path, tmp_path: Path) -> None:
    before = whole(database.parent)
    folder, other = tmp_path / "backups", tmp_path / "notes.txt"
    folder.mkdir()
    other.write_text("not ours")
    done = run("backup", folder, database=database)
    copy = folder / "chat.db"
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{copy}: {copy.stat().st_size} bytes" in done.stdout
    assert copy.stat().st_mode & 0o777 == 0o600
    assert totals(copy) == totals(database)
    first = copy.stat().st_ino
    assert run("backup", folder, database=database).returncode == 0
    assert copy.stat().st_ino != first, "an earlier backup is replaced"
    refused(run("backup", other, database=database), "no backup of ours", "what to do:")
    assert other.read_text() == "not ours"
    for itself in (database, database.parent):
        refused(run("backup", itself, database=database), "is the file itself")
    refused(run("backup", tmp_path / "no" / "copy.db", database=database), "does not exist", "mkdir -p")
    refused(run("backup", database=database), "DEST")
    refused(run("backup", tmp_path / "copy.db", database=tmp_path / "none.db"), "does not exist")
    assert sorted(path.name for path in folder.iterdir()) == ["chat.db"]
    assert whole(database.parent) == before


async def test_a_backup_never_meets_the_log_of_what_stood_there(
    database: Path, tmp_path: Path, serve: Callable[..., ChatServer], make_client: MakeClient
) -> None:
    copy = tmp_path / "copy.db"
    shutil.copyfile(database, copy)
    killed = serve(copy)
    client = make_client(killed)
    await client.session()
    assert (await client.chat("Hi")).status_code == 200
    killed.kill()
    assert copy.with_name("copy.db-wal").stat().st_size, "a log that would be taken for the new file's"
    before = whole(tmp_path / "data"), copy.read_bytes()
    refused(run("backup", copy, database=database), "copy.db-wal", "what to do:")
    assert (whole(tmp_path / "data"), copy.read_bytes()) == before


@contextlib.asynccontextmanager
async def busy(server: ChatServer, clients: int = 8) -> AsyncIterator[list[int]]:
    """Chat without a pause meanwhile; gives the number of replies so far, in a list of one."""
    done = [0]
    ending = asyncio.Event()

    async def chat() -> None:
        async with ChatClient(server.url) as client:
            await client.session()
            while not ending.is_set():
                assert (await client.reply("Hi", message_id=str(uuid.uuid4()))).finish_reason == "complete"
                done[0] += 1

    chatting = [asyncio.create_task(chat()) for _ in range(clients)]
    try:
        yield done
    finally:
        ending.set()
        await asyncio.gather(*chatting)


async def test_commands_work_while_it_serves_under_load(
    serve: Callable[..., ChatServer], database: Path, tmp_path: Path
) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('cleaned_at', ?)", (time.time(),))
        for number in range(1200):
            connection.execute(
                "INSERT INTO sessions (id, bot, created_at, seen_at, origin, page, client) "
                "VALUES (?, 'default', 1, 1, '', '', 'x')",
                (f"s_old{number}",),
            )
    server = serve()
    copy = tmp_path / "copy.db"
    async with busy(server) as done:
        while done[0] < 50:
            await asyncio.sleep(0.01)
        least = done[0]
        made = await asyncio.to_thread(run, "backup", copy, database=database)
        most = done[0] + 8
        assert made.returncode == 0, made.stderr
        cleaned = await asyncio.to_thread(run, "cleanup", database=database, environ={"SESSION_RETENTION_DAYS": "1"})
        assert cleaned.returncode == 0, cleaned.stderr
        assert cleaned.stdout.startswith("1200 sessions and ")
        shown = await asyncio.to_thread(totals, database)
        assert shown["messages"] >= least + 5
        checked = await asyncio.to_thread(run, "check", "--demo", database=database, environ={"LOG_LEVEL": "ERROR"})
        assert f"ok       file: {database} is sound" in checked.stdout
        assert done[0] > most, "chat went on"
    assert server.stop() == 0
    assert "Traceback" not in server.log

    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM sessions WHERE seen_at = 1").fetchone() == (1200,)
    restored = serve(copy)
    told = totals(copy)
    assert least + 5 <= told["messages"] <= most + 5
    assert told["messages"] == told["replies"] + told["errors"]
    assert restored.stop() == 0
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM sessions WHERE seen_at = 1").fetchone() == (0,)


async def test_a_second_server_is_refused_at_once_and_the_first_undisturbed(
    serve: Callable[..., ChatServer], make_client: MakeClient, database: Path
) -> None:
    first = serve()
    client = make_client(first)
    await client.session()
    began = time.monotonic()
    done = await asyncio.to_thread(run, "--demo", "--port", "0", database=database)
    assert time.monotonic() - began < 10, "a moment, but on a busy machine"
    refused(done, f"process {first.process.pid}", "what to do:", "main_sqlite.py cannot start")
    assert (await client.chat("Hi")).status_code == 200
    first.kill()
    assert database.with_name("chat.db.lock").exists(), "a kill leaves it"
    second = serve()
    third = await asyncio.to_thread(run, "--demo", "--port", "0", database=database)
    refused(third, f"process {second.process.pid}")
    assert second.stop() == 0
    assert [path.name for path in database.parent.iterdir()] == ["chat.db"]


def of_a_newer_version(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def of_another_program(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")


def marked_by_another_program(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 77")


def damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[2048 : len(data) : 7] = b"\x00" * len(data[2048 : len(data) : 7])
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def shorter_than_a_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def a_text(path: Path) -> None:
    path.write_text("Dear diary, " * 500)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (of_a_newer_version, "was written by a newer chatcore"),
    (of_another_program, "is the database of another program"),
    (marked_by_another_program, "is the database of another program"),
    (damaged, "is damaged"),
    (cut_short, "is damaged"),
    (shorter_than_a_header, "chat.db is "),
    (a_text, "is not a SQLite database"),
]


@pytest.mark.parametrize(("spoil", "said"), REFUSED)
def test_a_file_that_cannot_be_served_is_refused_and_left_as_it_is(
    database: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(database)
    before = whole(database.parent)
    refused(run("--demo", "--port", "0", database=database), said, "what to do:")
    checked = run("check", "--demo", database=database)
    assert checked.returncode == 1
    assert "FAULT    file" in checked.stdout
    assert said in checked.stdout
    for command in (("stats",), ("cleanup",), ("backup", database.with_name("copy.db"))):
        refused(run(*command, database=database), "what to do:")
    assert whole(database.parent) == before


def test_a_place_without_a_file_is_refused(tmp_path: Path, database: Path) -> None:
    refused(run("--demo", database=tmp_path / "none" / "chat.db"), "does not exist", "mkdir -p")
    a_folder(database)
    refused(run("--demo", database=database), "is not a file", "what to do:")
    refused(run("--demo", database=Path("/dev/null/chat.db")), "/dev/null is not a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_check_tells_of_the_file(database: Path, tmp_path: Path) -> None:
    before = whole(database.parent)
    done = run("check", "--demo", database=database)
    assert done.returncode == 0
    assert f"ok       file: {database} is sound, {database.stat().st_size} bytes, 2 sessions." in done.stdout
    assert whole(database.parent) == before
    done = run("check", "--demo", database=tmp_path / "new.db")
    assert done.returncode == 0
    assert f"{tmp_path / 'new.db'} will be made." in done.stdout
    assert not (tmp_path / "new.db").exists()


def test_a_file_that_another_program_holds_is_refused(database: Path) -> None:
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN EXCLUSIVE');"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        before = hashlib.sha256(database.read_bytes()).hexdigest()
        refused(run("--demo", "--port", "0", database=database), "locked by another program", f"({holder.pid})")
        refused(run("cleanup", database=database), "locked by another program", f"({holder.pid})")
        assert hashlib.sha256(database.read_bytes()).hexdigest() == before
        assert not database.with_name("chat.db.lock").exists()
        holder.stdin.close()
    assert [path.name for path in database.parent.iterdir()] == ["chat.db"]


@contextlib.contextmanager
def modes(folder: int, database: Path, file: int) -> Iterator[None]:
    """Give a file and its folder these modes for a while."""
    database.chmod(file)
    database.parent.chmod(folder)
    try:
        yield
    finally:
        database.parent.chmod(0o755)
        database.chmod(0o600)


def journal_of(path: Path) -> str:
    """Tell by its header which kind of journal a file has."""
    return {1: "delete", 2: "wal"}[path.read_bytes()[18]]


@pytest.mark.parametrize("kind", ["wal", "delete"])
@pytest.mark.parametrize(("folder", "file"), [(0o555, 0o444), (0o555, 0o644), (0o755, 0o444)])
def test_figures_are_read_where_nothing_may_be_written(
    database: Path, tmp_path: Path, kind: str, folder: int, file: int
) -> None:
    if kind == "delete":
        assert run("backup", tmp_path / "copy.db", database=database).returncode == 0
        (tmp_path / "copy.db").replace(database)
    assert journal_of(database) == kind
    before = whole(database.parent)
    with modes(folder, database, file):
        for plain in (True, False):
            done = run("stats", "--json", "--db", database, plain=plain)
            assert (done.returncode, done.stderr) == (0, "")
            assert json.loads(done.stdout)["totals"]["messages"] == 5
        done = run("backup", tmp_path / "copy.db", database=database, plain=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert totals(tmp_path / "copy.db")["messages"] == 5
        if folder == 0o555:
            into = run("backup", database.with_name("no.db"), database=database, plain=True)
            refused(into, "no.db cannot be written", "what to do:")
        assert whole(database.parent) == before


@pytest.mark.parametrize("folder", [0o555, 0o755])
def test_a_file_that_may_only_be_read_is_not_served(database: Path, folder: int) -> None:
    before = whole(database.parent)
    with modes(folder, database, 0o444):
        for command in (("--demo", "--port", "0"), ("cleanup",)):
            said = "chat.db cannot be written: it is read-only for this user"
            refused(run(*command, database=database, plain=True), said, "what to do:")
        checked = run("check", "--demo", database=database, plain=True)
        assert (checked.returncode, checked.stderr) == (1, "")
        assert "FAULT    file" in checked.stdout
        assert whole(database.parent) == before


def test_a_folder_that_may_only_be_read_is_told(database: Path) -> None:
    before = whole(database.parent)
    with modes(0o555, database, 0o644):
        done = run("--demo", "--port", "0", database=database, plain=True)
        refused(done, "chat.db.lock cannot be written", "its folder", "what to do:")
        refused(run("cleanup", database=database, plain=True), "cannot be written", "what to do:")
        assert whole(database.parent) == before
    with modes(0o755, database, 0o000):
        refused(run("--demo", "--port", "0", database=database, plain=True), "chat.db", "what to do:")
        for command in (("stats",), ("cleanup",), ("backup", database.with_name("copy.db"))):
            refused(run(*command, database=database, plain=True), "chat.db", "what to do:")
        checked = run("check", "--demo", database=database, plain=True)
        assert (checked.returncode, checked.stderr) == (1, "")
    assert whole(database.parent) == before
