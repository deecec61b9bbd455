"""The database file before it is served: what is refused and left as it is, how it is made, and its secrets."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chatcore.ports import StoreFaultError
from chatcore.settings import Settings, SqliteSettings, load
from chatcore.stores.sqlite import file, open_stores
from tests.support import sources, told
from tests.support.clock import ManualClock
from tests.support.settings import settings_with
from tests.support.sqlite_bench import as_killed, new_file, rows

NOBODY = 65534
HOLD_LOCK = """
import sys
from pathlib import Path
from chatcore.stores.sqlite import file
lock = file.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
HOLD_TRANSACTION = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


def digests(path: Path) -> dict[str, str]:
    """Give the sums of all files beside a path; SQLite's shared memory, which holds no data, is left out."""
    if not os.path.isdir(path.parent):  # noqa: PTH112 - also answers where the name is too long for a path
        return {}
    return {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in path.parent.iterdir()
        if one.is_file() and not one.name.endswith("-shm")
    }


def start(path: Path) -> None:
    """Take a file and bring it up to date, as a start does."""
    lock = file.take(path)
    try:
        file.prepare(path)
    finally:
        lock.release()


def refused(path: Path, begin: Callable[[Path], object] = start) -> StoreFaultError:
    """Give the fault that a start ends with; nothing may have changed by it."""
    before = digests(path)
    with pytest.raises(StoreFaultError) as fault:
        begin(path)
    assert digests(path) == before
    assert fault.value.problem
    assert fault.value.advice
    return fault.value


def foreign(path: Path, *statements: str) -> None:
    """Let another program make a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


def filled(path: Path, sessions: int = 400) -> Path:
    """Make a file of ours with some sessions in it."""
    new_file(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO sessions (id, bot, created_at, seen_at, origin, page, client) "
            "VALUES (?, 'b', 0, 0, ?, '', '')",
            [(f"s{number}", "x" * 100) for number in range(sessions)],
        )
    return path


@contextmanager
def process(script: str, path: Path) -> Iterator[int]:
    """Let another process hold something; gives its number."""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=sources.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stdout.readline() == "held\n"
        yield running.pid
        running.stdin.close()
        running.wait(20)


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """Be nobody for a while where we are root, in a folder of nobody's own."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.getuid() == 0
    try:
        if is_root:
            os.chown(folder, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield folder
        finally:
            if is_root:
                os.setresuid(0, 0, 0)
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_a_file_is_made_as_it_should_be(path: Path) -> None:
    start(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes()[:16] == b"SQLite format 3\0"
    for pragma, expected in (
        ("application_id", file.APPLICATION_ID),
        ("user_version", len(file.migrations())),
        ("page_size", 2048),
        ("journal_mode", "wal"),
        ("auto_vacuum", 2),
    ):
        assert rows(path, f"PRAGMA {pragma}") == [(expected,)], pragma
    assert rows(path, "SELECT count(*) FROM sqlite_schema WHERE type = 'table'")[0][0] >= 9
    assert sorted(one.name for one in path.parent.iterdir()) == ["chat.db"], "no log and no lock are left"


def test_an_empty_file_counts_as_none(path: Path) -> None:
    path.touch()
    start(path)
    assert rows(path, "PRAGMA page_size") == [(2048,)]
    assert rows(path, "PRAGMA application_id") == [(file.APPLICATION_ID,)]


def test_a_file_of_this_version_stays_as_it_is(path: Path) -> None:
    filled(path)
    before = digests(path)
    start(path)
    assert digests(path) == before


def test_what_a_kill_left_in_the_log_is_kept(path: Path) -> None:
    new_file(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")
        connection.commit()
        left = as_killed(path)
    assert left.with_name("chat.db-wal").stat().st_size
    start(left)
    assert rows(left, "SELECT value FROM meta") == [("b",)]


@pytest.mark.parametrize("name", ["what?.db", "100%.db", "a#b.db", "with space.db", "ä.db", "'.db"])
def test_names_of_any_kind_work(tmp_path: Path, name: str) -> None:
    start(tmp_path / name)
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_folder_that_is_missing_is_named_with_how_to_make_it(tmp_path: Path) -> None:
    fault = refused(tmp_path / "missing" / "chat.db")
    assert fault.problem == f"the folder {tmp_path / 'missing'} does not exist"
    assert fault.advice == f"Make it: mkdir -p {tmp_path / 'missing'}"
    assert not (tmp_path / "missing").exists()


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "is not a folder" in refused(tmp_path / "file" / "chat.db").problem


def test_a_folder_where_the_file_should_be_is_refused(path: Path) -> None:
    path.mkdir()
    assert refused(path).problem == f"{path} is not a file"


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert "too long" in refused(tmp_path / f"{'x' * 300}.db").problem


def test_a_folder_s_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / ("x" * 300) / "chat.db")


@pytest.mark.parametrize("content", [b"hello", b"SQLite", b"{}" * 5000, b"\0" * 4096])
def test_what_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refused(path).problem == f"{path} is not a SQLite database"


def test_a_beginning_of_a_database_is_refused(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\x08\0")
    assert "is damaged" in refused(path).problem


@pytest.mark.parametrize("version", [0, 1, 7])
def test_the_database_of_another_program_is_refused(path: Path, version: int) -> None:
    foreign(path, "CREATE TABLE users (name)", f"PRAGMA user_version = {version}")
    assert refused(path).problem == f"{path} is the database of another program"


def test_the_database_of_a_program_with_a_name_is_refused(path: Path) -> None:
    foreign(path, "PRAGMA application_id = 42")
    assert refused(path).problem == f"{path} is the database of another program"


def test_another_program_s_tables_are_seen_though_they_are_only_in_its_log(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("CREATE TABLE users (name)")
        left = as_killed(path)
    assert refused(left).problem == f"{left} is the database of another program"


def newer(path: Path) -> int:
    version = len(file.migrations()) + 1
    foreign(path, f"PRAGMA user_version = {version}")
    return version


def test_a_newer_version_is_refused(path: Path) -> None:
    new_file(path)
    version = newer(path)
    fault = refused(path)
    assert f"version {version}" in fault.problem
    assert "newer chatcore" in fault.problem


def test_a_newer_version_is_refused_though_it_is_only_in_the_log(path: Path) -> None:
    new_file(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        connection.execute(f"PRAGMA user_version = {len(file.migrations()) + 1}")
        left = as_killed(path)
    assert int.from_bytes(left.read_bytes()[60:64], "big") == len(file.migrations())
    assert "newer chatcore" in refused(left).problem


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_damaged_pages_are_found(path: Path, part: float) -> None:
    filled(path)
    content = bytearray(path.read_bytes())
    begin = int(len(content) * part) // 2048 * 2048
    content[begin : begin + 2048] = b"\xa5" * 2048
    path.write_bytes(content)
    fault = refused(path)
    assert "is damaged" in fault.problem
    assert "Restore a backup" in fault.advice


@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused(path: Path, part: float) -> None:
    filled(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "is damaged" in refused(path).problem


def test_a_file_that_may_only_be_read_is_refused() -> None:
    with ordinary_user() as folder:
        path = filled(folder / "chat.db")
        path.chmod(0o400)
        fault = refused(path)
        assert "cannot be written" in fault.problem
        assert str(path) in fault.advice


def test_a_folder_that_may_only_be_read_is_refused() -> None:
    with ordinary_user() as folder:
        path = filled(folder / "chat.db")
        folder.chmod(0o500)
        assert "cannot be written" in refused(path).problem
        assert "cannot be written" in refused(folder / "new.db").problem


def test_a_folder_that_may_not_be_entered_is_refused() -> None:
    with ordinary_user() as folder:
        inner = folder / "inner" / "data"
        inner.mkdir(parents=True)
        inner.parent.chmod(0)
        try:
            with pytest.raises(StoreFaultError):
                start(inner / "chat.db")
        finally:
            inner.parent.chmod(0o700)


def test_a_file_that_another_program_holds_is_refused_with_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_MS", 30)
    filled(path)
    with process(HOLD_TRANSACTION, path) as number:
        fault = refused(path)
    assert "is locked by another program" in fault.problem
    assert f"({number})" in fault.problem
    start(path)


def test_a_file_that_another_server_serves_is_refused_with_its_process(path: Path) -> None:
    new_file(path)
    with process(HOLD_LOCK, path) as number:
        assert refused(path).problem == f"another server (process {number}) serves {path}"
    start(path)


def test_a_lock_is_held_within_a_process_too(path: Path) -> None:
    lock = file.take(path)
    assert f"process {os.getpid()}" in refused(path).problem
    lock.release()
    lock.release()
    start(path)
    assert not path.with_name("chat.db.lock").exists()


@pytest.mark.parametrize("content", ["999999\n", "", "not a number\n"])
def test_a_lock_that_a_killed_server_left_is_taken_over(path: Path, content: str) -> None:
    beside = path.with_name("chat.db.lock")
    beside.write_text(content)
    lock = file.take(path)
    assert beside.read_text() == f"{os.getpid()}\n"
    lock.release()
    assert not beside.exists()


def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    version = len(file.migrations())
    broken = [*file.migrations(), "CREATE TABLE more (a); CREATE TABLE sessions (b)"]
    monkeypatch.setattr(file, "migrations", lambda: broken)
    with pytest.raises(StoreFaultError):
        start(path)
    assert rows(path, "PRAGMA user_version") == [(version,)]
    assert rows(path, "SELECT count(*) FROM sqlite_schema WHERE name = 'more'") == [(0,)]
    monkeypatch.setattr(file, "migrations", lambda: [*broken[:-1], "CREATE TABLE more (a)"])
    start(path)
    assert rows(path, "PRAGMA user_version") == [(version + 1,)]
    assert rows(path, "SELECT count(*) FROM sessions") == [(400,)]


def settings_of(path: Path, **environ: str) -> Settings:
    environ = {**told.NEEDED, "SQLITE_DB_PATH": str(path), **environ}
    return load(environ, "sqlite", env_file=None, overrides={}, random_bytes=os.urandom)


def open_and_let_go(settings: Settings) -> None:
    open_stores(settings, ManualClock(), lambda _: None).release()


def test_secrets_that_nobody_set_are_kept_between_runs(path: Path) -> None:
    first = settings_of(path)
    open_and_let_go(first)
    kept = path.with_name("chat.db.secrets")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert f"JWT_SECRET_KEY={first.tokens.jwt_secrets[0]}\n" in kept.read_text("utf-8")
    assert sorted(one.name for one in path.parent.iterdir()) == ["chat.db", "chat.db.secrets"]
    before = digests(path)
    again = settings_of(path)
    assert again.tokens.jwt_secrets == first.tokens.jwt_secrets
    assert again.tokens.session_secret == first.tokens.session_secret
    open_and_let_go(again)
    assert digests(path)["chat.db.secrets"] == before["chat.db.secrets"]


def test_a_secret_of_the_environment_wins_and_is_not_written(path: Path) -> None:
    settings = settings_of(path, JWT_SECRET_KEY=told.KEYS[0])
    open_and_let_go(settings)
    assert settings.tokens.jwt_secrets == (told.KEYS[0],)
    text = path.with_name("chat.db.secrets").read_text("utf-8")
    assert told.KEYS[0] not in text
    assert "JWT_SECRET_KEY" not in [line.partition("=")[0] for line in text.splitlines()]
    assert f"SESSION_SECRET_KEY={settings.tokens.session_secret}\n" in text
    without = settings_of(path)
    open_and_let_go(without)
    assert without.tokens.session_secret == settings.tokens.session_secret
    assert settings_of(path).tokens == without.tokens, "the one that is missing now was added to the file"
    assert settings_of(path, JWT_SECRET_KEY=told.KEYS[1]).tokens.jwt_secrets == (told.KEYS[1],)


def test_no_file_of_secrets_is_made_where_all_are_set(path: Path) -> None:
    open_and_let_go(settings_of(path, JWT_SECRET_KEY=told.KEYS[0], SESSION_SECRET_KEY=told.KEYS[1]))
    assert not path.with_name("chat.db.secrets").exists()


def test_secrets_that_cannot_be_kept_are_told_and_the_lock_is_given_back() -> None:
    with ordinary_user() as folder:
        path = new_file(folder / "chat.db")
        folder.joinpath(".chat.db.secrets.part").mkdir()
        settings = settings_with(mode="sqlite", sqlite=SqliteSettings(path=path, new_secrets={"JWT_SECRET_KEY": "x"}))
        with pytest.raises(StoreFaultError, match="secrets cannot be written"):
            open_and_let_go(settings)
        file.take(path).release()
        assert not path.with_name("chat.db.secrets").exists()


def test_the_secret_of_the_file_stays_the_same(path: Path) -> None:
    settings = settings_of(path)
    open_and_let_go(settings)
    first = rows(path, "SELECT value FROM meta WHERE name = 'hash_key'")
    assert len(first[0][0]) == 32
    open_and_let_go(settings_of(path))
    assert rows(path, "SELECT value FROM meta WHERE name = 'hash_key'") == first
