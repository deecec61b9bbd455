"""Chores of SQLite mode: when they are due, what a failure does to them, and a log that stays short."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from chatcore.happenings import Happening, StoreChanged
from chatcore.settings import SqliteSettings
from chatcore.stores.sqlite.connection import Connection, open_connection
from chatcore.stores.sqlite.upkeep import LOG_BYTES, LOOK_SECONDS, RETRY_SECONDS, Upkeep
from tests.support.clock import ManualClock
from tests.support.sqlite_bench import WITHIN_SECONDS, new_file

HOUR = 3600.0


class Chores:
    """An `Upkeep` over a real file; `pass_time` moves the clock and lets what became due end."""

    def __init__(self, settings: SqliteSettings, clock: ManualClock, writer: Connection, keeper: Connection) -> None:
        self.settings = settings
        self.clock = clock
        self.writer = writer
        self.happened: list[Happening] = []
        self.upkeep = Upkeep(settings, clock.now(), clock, self.happened.append)
        self.upkeep.start(writer, keeper)

    async def pass_time(self, seconds: float) -> list[str]:
        """Let time pass and the chores end; gives what was done since the last call."""
        self.clock.advance(seconds)
        self.upkeep.tick(self.clock.monotonic())
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=WITHIN_SECONDS)
        done: list[str] = [it.what for it in self.happened if isinstance(it, StoreChanged)]
        assert len(done) == len(self.happened)
        self.happened.clear()
        return done


@pytest.fixture
async def chores(tmp_path: Path) -> AsyncIterator[Chores]:
    path = new_file(tmp_path / "chat.db")
    writer, keeper = await open_connection(path), await open_connection(path)
    await writer.run(lambda connection: connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall())
    yield Chores(SqliteSettings(path=path), ManualClock(), writer, keeper)
    await writer.close()
    await keeper.close()


async def test_the_clean_up_comes_after_its_interval_and_not_before(chores: Chores) -> None:
    assert await chores.pass_time(23.9 * HOUR) == []
    assert await chores.pass_time(0.2 * HOUR) == ["cleaned"]
    assert await chores.pass_time(23.9 * HOUR) == []
    assert await chores.pass_time(0.2 * HOUR) == ["cleaned"]


async def test_a_clean_up_that_failed_is_tried_again_soon(chores: Chores) -> None:
    with closing(sqlite3.connect(chores.settings.path)) as connection:
        connection.execute("ALTER TABLE pages RENAME TO elsewhere")
    assert await chores.pass_time(25 * HOUR) == ["cleanup_failed"]
    assert await chores.pass_time(RETRY_SECONDS - 60) == []
    with closing(sqlite3.connect(chores.settings.path)) as connection:
        connection.execute("ALTER TABLE elsewhere RENAME TO pages")
    assert await chores.pass_time(120) == ["cleaned"]


async def test_a_backup_that_failed_is_tried_again_the_same_day(
    tmp_path: Path, chores: Chores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.stores.sqlite.upkeep.BACKUP_HOUR", 0)
    folder = tmp_path / "backups"
    settings = replace(chores.settings, backup_dir=folder, cleanup_interval_hours=8760.0)
    upkeep = Upkeep(settings, chores.clock.now(), chores.clock, chores.happened.append)
    keeper = await open_connection(settings.path)
    upkeep.start(chores.writer, keeper)
    chores.upkeep = upkeep
    assert await chores.pass_time(LOOK_SECONDS) == ["backup_failed"]
    folder.mkdir()
    assert await chores.pass_time(LOOK_SECONDS) == []
    assert await chores.pass_time(RETRY_SECONDS) == ["backed_up"]
    (backup,) = folder.iterdir()
    assert backup.stat().st_size
    assert await chores.pass_time(LOOK_SECONDS) == []
    await keeper.close()


async def test_a_long_log_is_written_from_its_beginning_again(chores: Chores) -> None:
    log = chores.settings.path.with_name("chat.db-wal")

    def fill(connection: sqlite3.Connection) -> None:
        for number in range(30):
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, zeroblob(200000))", (f"blob{number}",))

    await chores.writer.run(fill)
    length = log.stat().st_size
    assert length >= LOG_BYTES
    await chores.pass_time(LOOK_SECONDS)
    await chores.writer.run(fill)
    assert log.stat().st_size <= length * 1.1


async def test_at_the_end_one_file_is_left(chores: Chores) -> None:
    log = chores.settings.path.with_name("chat.db-wal")
    await chores.writer.run(lambda connection: connection.execute("INSERT INTO meta VALUES ('a', 1)"))
    assert log.stat().st_size
    await chores.upkeep.close()
    assert log.stat().st_size == 0
    assert chores.happened == []


async def test_a_reader_in_the_way_is_told(chores: Chores) -> None:
    with closing(sqlite3.connect(chores.settings.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        await chores.writer.run(lambda connection: connection.execute("PRAGMA busy_timeout = 0").fetchall())
        await chores.writer.run(lambda connection: connection.execute("INSERT INTO meta VALUES ('a', 1)"))
        await chores.upkeep.close()
    assert [it.what for it in chores.happened if isinstance(it, StoreChanged)] == ["reader_in_the_way"]
