"""The commands of PostgreSQL mode as processes: what they write, what they refuse, what the audit log says of them."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chatcore.stores.postgres.import_sqlite import KNOWN_VERSION
from chatcore.stores.sqlite import file as sqlite_file
from tests.conftest import LONG
from tests.support import warm
from tests.support.client import ChatClient
from tests.support.databases import Database, PgBouncer, RedisDatabase
from tests.support.n8n import ScriptedN8n
from tests.support.server import ROOT, ChatServer

MAIN = ROOT / "main_postgres.py"
IMPORT = ROOT / "tests" / "javascript" / "import-export.js"
KEY = "the-audit-log-of-tests-has-this-key!"
SESSION, OTHER, THIRD = (f"s_{letter * 22}" for letter in "abc")
MANY_MESSAGES = 300_000 if LONG else 30_000
DAY = datetime(2026, 3, 4, tzinfo=UTC)
HOSTILE = 'Grüße "you" \\ \u2028\n\t\x7f😀 100% :MI {unaccent} %s </script>'

Done = subprocess.CompletedProcess[str]


class Operator:
    """Somebody at a terminal, with the settings of `environ`."""

    def __init__(self, database: Database, redis_url: str, folder: Path) -> None:
        self.database = database
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "DATABASE_URL": database.url,
            "DATABASE_ADMIN_URL": database.admin_url,
            "REDIS_URL": redis_url,
            "AUDIT_KEY": KEY,
            "JWT_SECRET_KEY": "tests-sign-sessions-with-these-bytes",
            "SESSION_SECRET_KEY": "tests-sign-for-n8n-with-these-bytes!",
            "N8N_WEBHOOK_URL": "http://127.0.0.1:9/webhook/chat",
            "ALLOWED_ORIGINS": "https://shop.test",
            "SPOOL_PATH": str(folder / "spool.db"),
        }

    def run(self, *argv: str | Path, **environ: str | None) -> Done:
        """Run a command and wait for its end; `environ` changes settings, None removes one."""
        settings = {name: value for name, value in {**self.environ, **environ}.items() if value is not None}
        done = warm.run(MAIN.name, [*argv, "--env-file", "/dev/null"], environment=settings)
        assert "Traceback" not in done.stderr
        assert "of the tests" not in done.stdout + done.stderr, "a password was told"
        return done

    def succeeds(self, *argv: str | Path, **environ: str | None) -> str:
        """Run a command that must end with 0; gives what it printed."""
        done = self.run(*argv, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *argv: str | Path, **environ: str | None) -> str:
        """Run a command that must end with 2; gives what it said."""
        done = self.run(*argv, **environ)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr

    def audited(self) -> list[tuple[str, str | None, dict[str, Any]]]:
        """Give action, session and detail of all entries in their order; all are this user's."""
        rows = self.database.sql("SELECT actor, action, session_id, detail FROM chatcore.audit_log ORDER BY number")
        assert all(row[0].startswith("cli:") for row in rows)
        return [(row[1], row[2], row[3]) for row in rows]


def turns(
    session: str, count: int, *, begin: datetime = DAY, bot: str = "default", reply: str = "It is."
) -> dict[str, Any]:
    """Give the entries of `count` turns of a session, a second apart, as the writer hands them over."""
    at = round(begin.timestamp() * 1_000_000)
    opened, closed = [], []
    for number in range(count):
        message = str(uuid.UUID(int=number + 1))
        accepted = at + number * 1_000_000
        told = {"s": session, "m": message, "b": bot, "d": "00" * 16, "t": accepted}
        opened.append(
            {**told, "x": f"{HOSTILE} {number}", "o": "https://shop.test", "p": "", "c": "chrome desktop", "u": None}
        )
        end = {"f": "complete", "e": None, "ms": 100, "k": 40, "t": accepted + 100_000, "x": f"{reply} {number}"}
        closed.append({"s": session, "m": message, **end})
    return {"opened": opened, "closed": closed, "rated": [], "released": []}


def write(database: Database, entries: Mapping[str, Any]) -> None:
    """Have entries written as a server does."""
    statement = "SELECT chatcore.record(gen_random_uuid(), 1, 1, 0::smallint, %s::jsonb)"
    database.sql(statement, json.dumps(entries))


def read(*texts: str) -> Any:
    """Give what a browser has after it imported the texts: sessions with their messages."""
    done = subprocess.run(
        ["node", IMPORT], input=json.dumps(texts), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def operator(database: Database, redis_server: RedisDatabase, tmp_path: Path) -> Operator:
    """Give an operator whose database has its schema."""
    one = Operator(database, redis_server.url, tmp_path)
    assert one.succeeds("migrate") == "The schema was brought from nothing to revision 0001.\n"
    return one


def test_migrating_twice_changes_nothing(operator: Operator) -> None:
    assert operator.succeeds("migrate") == "The schema is up to date (revision 0001).\n"


def test_stats_tells_figures_and_cohorts(operator: Operator) -> None:
    write(operator.database, turns(SESSION, 3))
    argv = ("stats", "--from", "2026-03-04", "--to", "2026-03-05", "--interval", "day")
    document = json.loads(operator.succeeds(*argv, "--json"))
    assert (document["totals"]["messages"], document["totals"]["replies"]) == (3, 3)
    assert document["cohorts"]["new_sessions"] == 1
    assert "a session   3 messages on average" in operator.succeeds(*argv)
    assert json.loads(operator.succeeds(*argv, "--bot", "sales", "--json"))["totals"]["messages"] == 0


def test_a_browser_imports_an_export_as_it_was_said(operator: Operator, tmp_path: Path) -> None:
    write(operator.database, turns(SESSION, 2))
    write(operator.database, turns(OTHER, 1, reply="😀" * 5000))
    file, folder = tmp_path / "all.jsonl", tmp_path / "all"
    printed = operator.succeeds("export")
    operator.succeeds("export", "--output", file)
    operator.succeeds("export", "--format", "json", "--output", folder)
    assert file.read_text("utf-8") == printed
    assert "".join(path.read_text("utf-8") for path in sorted(folder.iterdir())) == printed
    assert {path.name for path in folder.iterdir()} == {f"{SESSION}.json", f"{OTHER}.json"}
    imported = read(printed)
    assert imported == read(*(path.read_text("utf-8") for path in folder.iterdir()))
    messages = imported[SESSION]
    assert [(one["role"], one["content"]) for one in messages] == [
        ("user", f"{HOSTILE} 0"),
        ("assistant", "It is. 0"),
        ("user", f"{HOSTILE} 1"),
        ("assistant", "It is. 1"),
    ]
    assert [one["created_at"] for one in messages] == [
        "2026-03-04T00:00:00.000Z",
        "2026-03-04T00:00:00.100Z",
        "2026-03-04T00:00:01.000Z",
        "2026-03-04T00:00:01.100Z",
    ]
    assert [one["content"] for one in imported[OTHER]] == [f"{HOSTILE} 0", "😀" * 5000 + " 0"]


def test_an_export_tells_how_turns_ended_and_were_rated(operator: Operator) -> None:
    entries = turns(SESSION, 2)
    entries["closed"][1] |= {"f": "error", "e": "upstream_timeout", "x": ""}
    entries["rated"] = [{"s": SESSION, "m": str(uuid.UUID(int=1)), "r": "down", "c": "No."}]
    write(operator.database, entries)
    document = json.loads(operator.succeeds("export"))
    assert document["session"] == {
        "session_id": SESSION,
        "bot": "default",
        "created_at": "2026-03-04T00:00:00.000000Z",
        "seen_at": "2026-03-04T00:00:01.000000Z",
        "origin": "https://shop.test",
        "page": "",
        "client": "chrome desktop",
        "user": None,
        "turns": [
            {
                "message_id": str(uuid.UUID(int=1)),
                "state": "complete",
                "error_code": None,
                "duration_ms": 100,
                "rating": "down",
                "comment": "No.",
            },
            {
                "message_id": str(uuid.UUID(int=2)),
                "state": "error",
                "error_code": "upstream_timeout",
                "duration_ms": 100,
                "rating": None,
                "comment": None,
            },
        ],
    }


def test_an_export_takes_what_is_asked_for_and_the_audit_log_says_so(operator: Operator) -> None:
    write(operator.database, turns(SESSION, 2))
    write(operator.database, turns(OTHER, 2, begin=datetime(2026, 3, 5, 23, 59, 59, tzinfo=UTC)))
    write(operator.database, turns(THIRD, 1, bot="sales"))

    def exported(*argv: str) -> dict[str, int]:
        documents = [json.loads(line) for line in operator.succeeds("export", *argv).split("\n") if line]
        return {one["session"]["session_id"]: len(one["messages"]) for one in documents}

    assert exported() == {SESSION: 4, OTHER: 4, THIRD: 2}
    assert exported("--session", OTHER) == {OTHER: 4}
    assert exported("--bot", "sales") == {THIRD: 2}
    assert exported("--from", "2026-03-05", "--to", "2026-03-06") == {OTHER: 2}
    assert exported("--to", "2026-03-04T00:00:01Z", "--bot", "default") == {SESSION: 2}
    assert exported("--from", "2027-01-01") == {}
    assert operator.audited() == [
        ("exported", None, {"sessions": 3}),
        ("exported", OTHER, {"sessions": 1}),
        ("exported", None, {"sessions": 1, "bot": "sales"}),
        ("exported", None, {"sessions": 1, "from": "2026-03-05T00:00:00+00:00", "to": "2026-03-06T00:00:00+00:00"}),
        ("exported", None, {"sessions": 1, "bot": "default", "to": "2026-03-04T00:00:01+00:00"}),
        ("exported", None, {"sessions": 0, "from": "2027-01-01T00:00:00+00:00"}),
    ]


def test_nothing_is_exported_that_cannot_be_audited(operator: Operator, tmp_path: Path) -> None:
    write(operator.database, turns(SESSION, 1))
    without = {"AUDIT_KEY": None, "JWT_SECRET_KEY": None}
    assert "the audit log's key is not known" in operator.refused("export", **without)
    operator.database.sql("REVOKE INSERT ON chatcore.audit_log FROM chatcore_app")
    file = tmp_path / "all.jsonl"
    assert "not allowed" in operator.refused("export", "--output", file)
    assert operator.run("export").stdout == ""
    assert not file.exists()


def test_a_reader_that_goes_away_ends_an_export_in_silence(operator: Operator) -> None:
    write(operator.database, turns(SESSION, 300, reply="long " * 1000))
    command = f'"{sys.executable}" "{MAIN}" export --env-file /dev/null | head -c 10'
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=operator.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ('{"format":', "", 0)


def test_a_session_of_very_many_messages_is_exported_in_constant_memory(operator: Operator, tmp_path: Path) -> None:
    def peak_kilobytes(count: int) -> int:
        operator.database.sql(
            "INSERT INTO chatcore.messages SELECT %s, chatcore.moment(1772582400000000 + n), "
            "md5(n::text)::uuid, 0, chatcore.moment(1772582400000000 + n), repeat('text ', 40) "
            "FROM generate_series(1, %s) AS n ON CONFLICT DO NOTHING",
            SESSION,
            count,
        )
        file = tmp_path / f"{count}.jsonl"
        program = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        argv = [sys.executable, str(MAIN), "export", "--output", str(file), "--env-file", "/dev/null"]
        done = subprocess.run(
            [sys.executable, "-c", program, *argv],
            env=operator.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        assert file.read_bytes().count(b'"role"') >= count
        return int(done.stdout)

    write(operator.database, turns(SESSION, 1))
    few, many = peak_kilobytes(1_000), peak_kilobytes(MANY_MESSAGES)
    assert many < few + 8_192, f"{few} kB with few messages, {many} kB with many"


def test_erasing_leaves_a_tombstone_and_an_entry_without_texts(operator: Operator) -> None:
    write(operator.database, turns(SESSION, 2))
    write(operator.database, turns(OTHER, 1))
    assert operator.succeeds("erase", SESSION, "--yes") == f"{SESSION}: erased, 4 messages\n"
    assert "was not known" in operator.succeeds("erase", THIRD, "--yes")
    write(operator.database, turns(SESSION, 3))  # what was on its way meanwhile
    for table, column in (("messages", "session_id"), ("turns", "session_id"), ("sessions", "id")):
        rows = operator.database.sql(f"SELECT DISTINCT {column} FROM chatcore.{table}")  # noqa: S608 - names of ours
        assert rows == [(OTHER,)]
    assert operator.database.sql("SELECT session_id FROM chatcore.erased ORDER BY 1") == [(SESSION,), (THIRD,)]
    assert operator.audited() == [
        ("session_erased", SESSION, {"messages": 4}),
        ("session_erased", THIRD, {"messages": 0}),
    ]


async def test_a_server_that_runs_refuses_the_tokens_of_a_session_erased_in_a_terminal(operator: Operator) -> None:
    with ScriptedN8n() as n8n:
        environ = {**operator.environ, "N8N_WEBHOOK_URL": n8n.url, "API_HOST": "127.0.0.1"}
        with ChatServer(environ, main="main_postgres.py") as server:
            async with ChatClient(server.url) as client:
                await client.session()
                assert client.session_id is not None
                assert (await client.chat("Hi")).status_code == 200
                assert operator.succeeds("erase", client.session_id, "--yes").endswith("erased, 2 messages\n")
                deadline = time.monotonic() + 3.0
                while (answer := await client.chat("Still there?")).status_code == 200:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.1)
                assert answer.status_code == 401
                assert operator.database.sql("SELECT id FROM chatcore.sessions") == []


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("", 2), ("no", 2)])
def test_erasing_asks_at_a_terminal(operator: Operator, answer: str, status: int) -> None:
    write(operator.database, turns(SESSION, 2))
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "w") as keyboard, os.fdopen(theirs) as terminal:
        keyboard.write(f"{answer}\n")
        keyboard.flush()
        done = subprocess.run(
            [sys.executable, MAIN, "erase", SESSION, "--env-file", "/dev/null"],
            env=operator.environ,
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == status, done.stderr
    assert done.stdout.startswith(f"{SESSION}: 4 messages\nErase it for good? [y/N] ")
    assert bool(operator.database.sql("SELECT id FROM chatcore.sessions")) is (status == 2)


def test_the_audit_log_is_verified_and_whatever_was_done_to_it_is_named(operator: Operator) -> None:
    assert operator.succeeds("verify-audit") == "The audit log is empty.\n"
    for _ in range(3):
        operator.succeeds("export")
    head = operator.succeeds("verify-audit").split()[-1]
    assert head.startswith("3:")
    operator.succeeds("export")
    assert "go on from the head" in operator.succeeds("verify-audit", "--head", head)

    def found(*argv: str) -> str:
        done = operator.run("verify-audit", *argv)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stdout.splitlines()[0]

    operator.database.sql("CREATE TABLE kept AS SELECT * FROM chatcore.audit_log")
    for change, argv, expected in (
        ("UPDATE chatcore.audit_log SET actor = 'x' WHERE number = 2", (), "entry 2 was changed"),
        ("UPDATE chatcore.audit_log SET at = at + interval '1 us' WHERE number = 1", (), "entry 1 was changed"),
        ("DELETE FROM chatcore.audit_log WHERE number IN (2, 3)", (), "entry 2 to 3 is missing"),
        ("DELETE FROM chatcore.audit_log WHERE number = 1", (), "entry 1 is missing"),
        ("DELETE FROM chatcore.audit_log WHERE number > 2", ("--head", head), "entry 3 was cut off at the end"),
        ("DELETE FROM chatcore.audit_log", ("--head", head), "entry 1 to 3 was cut off at the end"),
        ("SELECT", ("--head", f"3:{'00' * 32}"), "entry 3 is not the one that was noted"),
    ):
        operator.database.sql(change)
        assert found(*argv).startswith(f"FAULT: {expected}")
        operator.database.sql("DELETE FROM chatcore.audit_log")
        operator.database.sql("INSERT INTO chatcore.audit_log SELECT * FROM kept")
    operator.succeeds("verify-audit", "--head", head)


def test_entries_of_an_earlier_key_are_verified_while_that_is_told(operator: Operator) -> None:
    old, new = "an-earlier-key-of-session-tokens-of-tests", "a-later-key-of-session-tokens-of-tests"
    operator.succeeds("export", AUDIT_KEY=None, JWT_SECRET_KEY=old)
    after = {"AUDIT_KEY": None, "JWT_SECRET_KEY": new, "JWT_SECRET_KEY_PREVIOUS": old}
    operator.succeeds("export", **after)
    assert "1 of them were made with an earlier key" in operator.succeeds("verify-audit", **after)
    done = operator.run("verify-audit", AUDIT_KEY=None, JWT_SECRET_KEY=new)
    assert (done.returncode, "a key that is not known here" in done.stdout) == (1, True)


@pytest.fixture(scope="module")
def served_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file that a server of SQLite mode left: one session with two messages, one erased."""
    path = tmp_path_factory.mktemp("sqlite") / "chat.db"

    async def fill(url: str) -> None:
        for erases in (False, True):
            async with ChatClient(url) as client:
                await client.session()
                for _ in range(2):
                    assert (await client.chat("Hi", page_url="https://shop.test/a")).status_code == 200
                if erases:
                    bearer = {"Authorization": f"Bearer {client.token}"}
                    assert (await client.http.delete("/api/v1/session", headers=bearer)).status_code == 204

    with (
        ScriptedN8n() as n8n,
        ChatServer({"N8N_WEBHOOK_URL": n8n.url, "SQLITE_DB_PATH": str(path)}, main="main_sqlite.py") as server,
    ):
        asyncio.run(fill(server.url))
        assert server.stop() == 0
    return path


@contextlib.contextmanager
def changed(path: Path, tmp_path: Path, statement: str) -> Iterator[Path]:
    """Give a copy of a file in which a statement was run."""
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        connection.execute(statement)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    yield copy


def test_a_file_of_sqlite_mode_is_taken_over_once(operator: Operator, served_file: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in served_file.parent.iterdir()}
    said = operator.succeeds("import-sqlite", served_file)
    assert re.search(r"Rows: hours \d, reply_times \d+, origins 1, pages 1, erased 1, sessions 1, turns 2\.", said)
    document = json.loads(operator.succeeds("stats", "--json"))
    assert (document["totals"]["sessions"], document["totals"]["messages"], document["totals"]["replies"]) == (2, 4, 4)
    assert document["top_pages"] == [{"page": "https://shop.test/a", "sessions": 2, "messages": 4}]
    assert operator.database.sql("SELECT messages, replies FROM chatcore.sessions") == [(2, 2)]
    assert operator.database.sql("SELECT DISTINCT state, digest FROM chatcore.turns") == [("cut", b"")]
    copy = tmp_path / "renamed.db"
    copy.write_bytes(served_file.read_bytes())
    for again in (served_file, copy):
        assert "was taken over before" in operator.refused("import-sqlite", again)
    assert json.loads(operator.succeeds("stats", "--json"))["totals"]["messages"] == 4
    assert {path.name: path.read_bytes() for path in served_file.parent.iterdir()} == before, "it is only read"
    ((action, session, detail),) = operator.audited()
    assert (action, session, detail["file"], detail["turns"]) == ("imported", None, "chat.db", 2)


def test_a_session_that_went_on_or_was_erased_meanwhile_is_added_up_or_stays_dead(
    operator: Operator, served_file: Path
) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{served_file}?mode=ro&immutable=1", uri=True)) as file:
        ((living,),) = file.execute("SELECT id FROM sessions").fetchall()
    write(operator.database, turns(living, 3, begin=datetime.now(UTC)))
    operator.succeeds("import-sqlite", served_file)
    assert operator.database.sql("SELECT messages, replies FROM chatcore.sessions") == [(5, 5)]
    operator.database.sql("DELETE FROM chatcore.meta WHERE name LIKE 'imported:%'")
    operator.succeeds("erase", living, "--yes")
    operator.succeeds("import-sqlite", served_file)
    assert operator.database.sql("SELECT count(*) FROM chatcore.sessions") == [(0,)]
    assert operator.database.sql("SELECT count(*) FROM chatcore.turns") == [(0,)]


def test_files_that_cannot_be_taken_over_are_refused_and_change_nothing(
    operator: Operator, served_file: Path, tmp_path: Path
) -> None:
    assert "does not exist" in operator.refused("import-sqlite", tmp_path / "missing.db")
    assert "is not a file" in operator.refused("import-sqlite", tmp_path)
    text = tmp_path / "text.db"
    text.write_text("no database, but long enough to be looked at\n" * 20)
    assert "is not a SQLite database" in operator.refused("import-sqlite", text)
    for statement, expected in (
        (f"PRAGMA user_version = {KNOWN_VERSION + 1}", "a newer chatcore"),
        ("PRAGMA user_version = 0", "an older chatcore"),
        ("PRAGMA application_id = 7", "is no database of SQLite mode"),
        ("DELETE FROM meta", "was never served"),
        ("DROP TABLE pages", "is damaged"),
    ):
        with changed(served_file, tmp_path, statement) as copy:
            assert expected in operator.refused("import-sqlite", copy)
    with (served_file.with_name("chat.db.lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another server" in operator.refused("import-sqlite", served_file)
    served_file.with_name("chat.db.lock").unlink()
    assert operator.database.sql("SELECT count(*) FROM chatcore.hours") == [(0,)]
    assert operator.audited() == []


def test_the_version_that_is_read_is_the_one_that_sqlite_mode_writes() -> None:
    assert len(sqlite_file.migrations()) == KNOWN_VERSION


def test_commands_work_behind_a_pooler_of_transactions(operator: Operator) -> None:
    write(operator.database, turns(SESSION, 100))
    with PgBouncer(operator.database) as pooler:
        pooler.start()
        through = {"DATABASE_URL": pooler.url}
        assert len(json.loads(operator.succeeds("export", **through))["messages"]) == 200
        assert "200 messages" in operator.succeeds("erase", SESSION, "--yes", **through)
        assert "up to number 2" in operator.succeeds("verify-audit", **through)


def test_an_export_shows_on_a_terminal_how_far_it_is(operator: Operator, tmp_path: Path) -> None:
    for session in (SESSION, OTHER):
        write(operator.database, turns(session, 1))
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb", 0) as screen:
        subprocess.run(
            [sys.executable, MAIN, "export", "--output", tmp_path / "all.jsonl", "--env-file", "/dev/null"],
            env=operator.environ,
            stderr=terminal,
            timeout=60,
            check=True,
        )
        shown = screen.read(4096).decode()
    assert f"[{'#' * 30}] 2 of 2 sessions" in shown
    assert shown.endswith("2 sessions.\r\n")


def findings(done: Done) -> dict[str, list[tuple[str, str]]]:
    """Give what `check` printed, by subject."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in done.stdout.splitlines():
        state, rest = line.split(maxsplit=1)
        subject, _, text = rest.partition(": ")
        found.setdefault(subject, []).append((state, text))
    return found


def states(found: Sequence[tuple[str, str]]) -> set[str]:
    """Give the states of findings."""
    return {state for state, _ in found}


def test_check_finds_nothing_where_all_is_well(operator: Operator) -> None:
    done = operator.run("check", "--demo")
    found = findings(done)
    assert done.returncode == 0, done.stdout
    for subject in ("DATABASE_URL", "DATABASE_ADMIN_URL", "REDIS_URL", "journal", "REDIS_URL, clock"):
        assert states(found[subject]) == {"ok"}, found[subject]
    assert ("ok", "this role may add to the audit log and read it, and nothing else.") in found["DATABASE_URL"]


def test_check_before_the_first_start_says_what_will_be_made(
    database: Database, redis_server: RedisDatabase, tmp_path: Path
) -> None:
    done = Operator(database, redis_server.url, tmp_path).run("check", "--demo")
    found = findings(done)
    assert done.returncode == 0, done.stdout
    assert any("there is no schema yet" in text for _, text in found["DATABASE_URL"])
    assert found["unaccent"][0][0] == "ok"


def test_check_tells_each_thing_that_is_wrong(operator: Operator, tmp_path: Path) -> None:
    nowhere = "postgresql://chatcore_app:pw@127.0.0.1:9/chat"
    done = operator.run("check", "--demo", DATABASE_READ_URL=nowhere, REDIS_URL="redis://127.0.0.1:9/0")
    found = findings(done)
    assert done.returncode == 1
    assert states(found["DATABASE_READ_URL"]) == states(found["REDIS_URL"]) == {"FAULT"}
    done = operator.run("check", "--demo", SPOOL_PATH=str(tmp_path / "missing" / "spool.db"))
    assert states(findings(done)["journal"]) == {"FAULT"}
    done = operator.run("check", "--demo", SPOOL_MAX_BYTES=str(1 << 40))
    assert states(findings(done)["journal"]) == {"warning"}
    done = operator.run("check", "--demo", DATABASE_URL=operator.database.admin_url)
    assert any("may change and delete entries of the audit log" in text for _, text in findings(done)["DATABASE_URL"])
    operator.database.sql("UPDATE chatcore.alembic_version SET version_num = '9999'")
    done = operator.run("check", "--demo")
    assert any("Start the newer chatcore" in text for _, text in findings(done)["DATABASE_URL"])


def test_check_tells_of_prepared_statements_that_a_pooler_mixes_up(operator: Operator) -> None:
    with PgBouncer(operator.database) as pooler:
        pooler.start()
        for also in ({}, {"DATABASE_ADMIN_URL": pooler.url}):
            done = operator.run("check", "--demo", DATABASE_URL=pooler.url, DATABASE_PREPARE="true", **also)
            assert done.returncode == 1
            assert any("DATABASE_PREPARE" in text for state, text in findings(done)["DATABASE_URL"] if state == "FAULT")
    assert operator.run("check", "--demo", DATABASE_PREPARE="true").returncode == 0


def test_a_command_without_its_database_says_so(operator: Operator) -> None:
    nowhere = "postgresql://chatcore_app:secretly@127.0.0.1:9/chat"
    given = {"DATABASE_URL": nowhere, "DATABASE_ADMIN_URL": nowhere}
    for argv in (["migrate"], ["stats"], ["export"], ["erase", SESSION, "--yes"], ["verify-audit"]):
        said = operator.refused(*argv, **given)
        assert said.startswith("FAULT: PostgreSQL cannot be reached")
        assert "secretly" not in said
