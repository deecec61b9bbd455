"""The journal's file: what it keeps, what it refuses to be, and what it does where its disk fails."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from chatcore.ports import StoreFaultError
from chatcore.stores.postgres.entries import Entry
from chatcore.stores.postgres.journal import Journal
from chatcore.stores.postgres.schema import State
from tests.support.postgres_bench import closed, numbered, opened, rated, released, whole

ENTRIES: list[Entry] = [opened(text="ä\u2028\0"), closed(error_code="x"), rated(), released(), opened("m2", user="u")]


def size_of(path: Path) -> int:
    return path.stat().st_size


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture(name="journal")
async def _journal(path: Path) -> AsyncIterator[Journal]:
    journal = Journal(path, 100_000)
    await journal.open()
    yield journal
    await journal.close()
    journal.release()


async def test_entries_come_back_as_they_were_in_order_run_by_run(journal: Journal) -> None:
    await journal.append("one", numbered(ENTRIES[:3]))
    await journal.append("two", numbered(ENTRIES[3:]))
    await journal.append("one", numbered(whole(), 4))
    assert journal.waiting == 7
    assert journal.bytes > 0
    seen = []
    while (chunk := await journal.oldest(2)) is not None:
        seen.append((chunk.run, chunk.entries))
        await journal.forget(chunk)
    assert [(run, [position for position, _ in entries]) for run, entries in seen] == [
        ("one", [1, 2]),
        ("one", [3]),
        ("two", [1, 2]),
        ("one", [4, 5]),
    ]
    assert [entry for _, entries in seen for _, entry in entries] == [*ENTRIES, *whole()]
    assert (journal.waiting, journal.bytes) == (0, 0)


async def test_a_chunk_holds_some_megabytes_at_most(journal: Journal) -> None:
    await journal.append("one", numbered([closed(text="x" * 3_000_000) for _ in range(3)]))
    chunk = await journal.oldest(400)
    assert chunk is not None
    assert len(chunk.entries) == 1
    assert journal.full


async def test_the_file_shrinks_when_it_is_written_back(journal: Journal, path: Path) -> None:
    await journal.append("one", numbered([closed(text="x" * 50_000) for _ in range(100)]))
    chunk = await journal.oldest(1)
    while chunk is not None:
        await journal.forget(chunk)
        chunk = await journal.oldest(50)
    await journal.close()
    assert size_of(path) < 100_000


async def test_what_was_forgotten_in_part_is_counted_when_it_is_opened_again(path: Path, journal: Journal) -> None:
    await journal.append("one", numbered(ENTRIES))
    chunk = await journal.oldest(2)
    assert chunk is not None
    await journal.forget(chunk)
    counted = (journal.waiting, journal.bytes)
    await journal.close()
    journal.release()
    again = Journal(path, 100_000)
    assert (again.waiting, again.bytes) == counted
    again.release()


def test_only_the_server_may_read_it_and_only_one_may_have_it(path: Path) -> None:
    journal = Journal(path, 1000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(StoreFaultError) as refused:
        Journal(path, 1000)
    assert "another server" in refused.value.problem
    assert "SPOOL_PATH" in refused.value.advice
    journal.release()
    Journal(path, 1000).release()


def test_a_state_is_kept_for_a_start_without_the_database(path: Path) -> None:
    journal = Journal(path, 1000)
    assert journal.known() is None
    for key in (b"a" * 32, b"b" * 32):
        journal.remember(State("0001", key))
        assert journal.known() == State("0001", key)
    journal.release()
    again = Journal(path, 1000)
    assert again.known() == State("0001", b"b" * 32)
    again.release()


def test_what_is_no_journal_is_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("my diary " * 1000)
    other = tmp_path / "other.db"
    newer = tmp_path / "newer.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE diary (day TEXT)")
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 2")
    for path in (text, other, newer):
        before = path.read_bytes()
        with pytest.raises(StoreFaultError):
            Journal(path, 1000)
        assert path.read_bytes() == before
        assert not path.with_name(f"{path.name}.lock").exists()
    with pytest.raises(StoreFaultError, match="does not exist"):
        Journal(tmp_path / "missing" / "journal.db", 1000)


async def test_an_entry_that_cannot_be_read_is_counted_and_holds_up_no_other(journal: Journal, path: Path) -> None:
    await journal.append("one", numbered(whole()))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO entries (run, position, entry) VALUES ('one', 3, x'ff'), ('one', 4, x'7b7d')")
    await journal.append("one", numbered(whole("m2"), 5))
    journal.waiting += 2
    chunk = await journal.oldest(100)
    assert chunk is not None
    assert [position for position, _ in chunk.entries] == [1, 2, 5, 6]
    assert chunk.unreadable == 2
    await journal.forget(chunk)
    assert journal.waiting == 0


async def test_a_write_that_failed_leaves_the_journal_usable(journal: Journal, path: Path) -> None:
    await journal.append("one", numbered(whole()))
    chunk = await journal.oldest(10)
    assert chunk is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER refuse BEFORE DELETE ON entries BEGIN SELECT raise(ABORT, 'disk is full'); END")
        with pytest.raises(sqlite3.Error):
            await journal.forget(chunk)
        other.execute("DROP TRIGGER refuse")
        other.execute("CREATE TRIGGER refuse BEFORE INSERT ON entries BEGIN SELECT raise(ABORT, 'disk is full'); END")
        with pytest.raises(sqlite3.Error):
            await journal.append("one", numbered(whole("m2"), 3))
        other.execute("DROP TRIGGER refuse")
    assert journal.waiting == 2
    await journal.append("one", numbered(whole("m2"), 3))
    await journal.forget(chunk)
    assert journal.waiting == 2


async def test_appends_are_told_before_they_are_awaited(journal: Journal) -> None:
    appending = asyncio.ensure_future(journal.append("one", numbered(whole())))
    await asyncio.sleep(0)
    assert journal.waiting == 2
    await appending


async def test_a_closed_journal_refuses(path: Path) -> None:
    journal = Journal(path, 1000)
    with pytest.raises(sqlite3.Error):
        await journal.append("one", numbered(whole()))
    assert journal.waiting == 0
    journal.release()
    assert not path.with_name(f"{path.name}.lock").exists()
