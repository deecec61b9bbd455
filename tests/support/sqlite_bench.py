"""A file of SQLite mode with its writer and its reader, put together as the variant does, for tests of its adapters."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from chatcore import keyed
from chatcore.happenings import Happening
from chatcore.settings import ReplySettings
from chatcore.stores.replies_memory import MemoryReplies
from chatcore.stores.seen import Seen
from chatcore.stores.sqlite import file
from chatcore.stores.sqlite.connection import Connection, open_connection
from chatcore.stores.sqlite.counters import SqliteCounters
from chatcore.stores.sqlite.entries import KEPT_TURN_SECONDS
from chatcore.stores.sqlite.replies import SqliteReplies
from chatcore.stores.sqlite.sessions import SqliteSessions
from chatcore.stores.sqlite.state import take_over
from chatcore.stores.sqlite.writer import Writer
from tests.support.clock import ManualClock

WITHIN_SECONDS = 20.0
"""For what another thread does; far more than it takes."""

REPLIES = ReplySettings(reply_keep_seconds=3600.0, reply_max_bytes=20_000, reply_memory_bytes=2_000_000)


def new_file(path: Path) -> Path:
    """Make an empty file of ours."""
    file.prepare(path)
    return path


def rows(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a file by a connection of its own."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql, values).fetchall()


def as_killed(path: Path) -> Path:
    """Give a copy of a file and its log as a process leaves them that is killed right now."""
    number = len(list(path.parent.glob("killed-*")))
    folder = path.parent / f"killed-{number}"
    folder.mkdir()
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copyfile(source, folder / source.name)
    return folder / path.name


class SqliteBench:
    """The adapters over one file. Nothing ticks by itself."""

    def __init__(self, path: Path, clock: ManualClock, writing: Connection, reader: Connection) -> None:
        self.path = path
        self.clock = clock
        self.happened: list[Happening] = []
        self.reader = reader
        self._writing = writing
        with closing(file.connect(path)) as connection:
            state = take_over(connection, clock)
        self.hash_key = state.hash_key
        self.counters = SqliteCounters(clock, keyed.derive(state.hash_key, "limited key"), state.limits)
        self.writer = Writer(self.counters.changed, self.counters.again, clock, self.happened.append)
        self.used = Seen(1 << 16, KEPT_TURN_SECONDS)
        self.erased = Seen(1 << 16, float("inf"))
        key = keyed.derive(state.hash_key, "message digest")
        memory = MemoryReplies(REPLIES, clock, lambda _: None)
        self.log = SqliteReplies(memory, self.writer, self.used, key, clock)
        self.sessions = SqliteSessions(self.writer, self.erased, key, clock)
        self.log.reader = self.sessions.reader = reader
        self.writer.start(writing)

    async def written(self) -> None:
        """Wait until all entries so far are in the file."""
        async with asyncio.timeout(WITHIN_SECONDS):
            await self.writer.certainly_saved()

    async def write_with(self, *statements: str) -> None:
        """Run statements in the writer's own connection, to put something in its way."""

        def run(connection: sqlite3.Connection) -> None:
            for statement in statements:
                connection.execute(statement).fetchall()

        await self._writing.run(run)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the file."""
        return rows(self.path, sql, *values)

    def of(self, kind: type[Happening]) -> Sequence[Happening]:
        """Give what happened of one kind."""
        return [happening for happening in self.happened if isinstance(happening, kind)]


@asynccontextmanager
async def opened(path: Path, clock: ManualClock) -> AsyncIterator[SqliteBench]:
    """Open a file, which is made where it does not exist; close it cleanly in the end."""
    new_file(path)
    writing = await open_connection(path)
    reader = await open_connection(path, read_only=True)
    bench = SqliteBench(path, clock, writing, reader)
    try:
        yield bench
    finally:
        await bench.writer.close()
        await reader.close()
        await writing.close()
