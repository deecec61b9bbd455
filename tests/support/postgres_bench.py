"""The writing side of PostgreSQL mode over a real database, put together as the variant does, for tests."""

import asyncio
import functools
import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from chatcore import keyed
from chatcore.happenings import Happening
from chatcore.ports import Clock
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres import chain, schema
from chatcore.stores.postgres import database as driver
from chatcore.stores.postgres.audit import PostgresAudit
from chatcore.stores.postgres.entries import Closed, Entry, Opened, Rated, Released
from chatcore.stores.postgres.erased import Erased
from chatcore.stores.postgres.journal import Journal, Numbered
from chatcore.stores.postgres.recorder import Recorder
from chatcore.stores.postgres.sessions import PostgresSessions
from chatcore.stores.postgres.turns import Turns
from chatcore.stores.postgres.writer import Writer
from tests.support.clock import START, ManualClock
from tests.support.databases import Database, Postgres, shared_postgres

WITHIN_SECONDS = 30.0
"""For what a server does; far more than it takes."""

JOURNAL_BYTES = 50_000_000
TABLES = (
    "sessions",
    "turns",
    "messages",
    "erased",
    "journals",
    "hours",
    "reply_times",
    "origins",
    "pages",
    "audit_log",
)
EMPTY = "; ".join(map("DELETE FROM chatcore.{}".format, TABLES))
"""Quicker than TRUNCATE where there are few rows."""
SECRET = "a secret of the tests that is long enough for a key"


ONE = text("SELECT 1")


def uuid_of(name: str) -> str:
    """Give the message id that stands for a short name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def journal_as_killed(path: Path, copy: Path) -> Path:
    """Copy a journal and its log as a process leaves them that is killed right now."""
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copyfile(source, copy.with_name(copy.name + suffix))
    return copy


def settings_of(database: Database, **changes: Any) -> PostgresSettings:
    """Give the settings of a mode that has a database, its owner's role apart."""
    told = {"url": database.url, "admin_url": database.admin_url, "read_url": database.url, "redis_url": ""}
    return PostgresSettings(**{**told, "jwt_secrets": (SECRET,), **changes})


@functools.cache
def _template(server: Postgres) -> str:
    database = server.new_database()
    schema.migrate(settings_of(database), ManualClock())
    return database.name


def migrated(server: Postgres | None = None) -> Database:
    """Give a database with the whole schema and nothing in it, in a server of one's own or the shared one."""
    server = server or shared_postgres()
    return server.new_database(template=_template(server))


def emptied(database: Database) -> None:
    """Empty all tables but the one with the database's own key."""
    database.sql(EMPTY)


def connected(database: Database) -> driver.Database:
    """Give a pool of connections of the serving role."""
    return pool(database.url)


def pool(url: str) -> driver.Database:
    """Give a pool of connections."""
    return driver.Database(url, pool_size=5)


def opened(name: str = "m1", session_id: str = "s1", at: float = START, text: str = "hello", **changes: Any) -> Opened:
    """Give the entry of a message that was accepted at `at`."""
    told: dict[str, Any] = {"bot": "default", "digest": "00" * 16, "origin": "o", "page": "p", "client": "c"}
    told |= {"session_id": session_id, "message_id": uuid_of(name), "at_us": round(at * 1e6), "text": text}
    return Opened(**{**told, **changes})


def closed(
    name: str = "m1", session_id: str = "s1", at: float = START + 1, text: str = "hello back", **changes: Any
) -> Closed:
    """Give the entry of a reply that ended at `at`."""
    told: dict[str, Any] = {"finish_reason": "complete", "error_code": None, "duration_ms": 120, "bucket": 9}
    told |= {"session_id": session_id, "message_id": uuid_of(name), "at_us": round(at * 1e6), "text": text}
    return Closed(**{**told, **changes})


def rated(name: str = "m1", session_id: str = "s1", rating: str = "up") -> Rated:
    """Give the entry of a rating."""
    return Rated(session_id=session_id, message_id=uuid_of(name), rating=rating)


def released(name: str = "m1", session_id: str = "s1") -> Released:
    """Give the entry of a message that may run again."""
    return Released(session_id=session_id, message_id=uuid_of(name))


def whole(name: str = "m1", session_id: str = "s1", at: float = START) -> list[Entry]:
    """Give the entries of a whole turn."""
    return [opened(name, session_id, at), closed(name, session_id, at + 1)]


def numbered(entries: Sequence[Entry], first: int = 1) -> list[Numbered]:
    """Number entries as the writer of one run does."""
    return list(enumerate(entries, first))


class PostgresBench:
    """One instance's adapters over a migrated database and a journal. Nothing ticks by itself."""

    def __init__(
        self, database: Database, path: Path, clock: Clock, *, away: bool, strict: bool, journal_bytes: int, shard: int
    ) -> None:
        self.target = database
        self.clock = clock
        self.happened: list[Happening] = []
        self.settings = settings_of(database, spool_path=path, spool_max_bytes=journal_bytes, persist_strict=strict)
        self.database = connected(database)
        self.journal = Journal(path, journal_bytes)
        run = str(uuid.uuid4())
        self.recorder = Recorder(self.database, run, shard, self.happened.append)
        self.writer = Writer(self.recorder, self.journal, clock, self.happened.append, away=away)
        self.turns = Turns(self.database, self.writer, keyed.derive(b"k", "message digest"), strict=strict)
        self.erased = Erased(self.database, clock, lambda: self.writer.unreadable)
        audit = PostgresAudit(self.database, chain.keys(None, (SECRET,))[0], b"k" * 32, clock)
        self.sessions = PostgresSessions(self.database, self.writer, self.turns, self.erased, audit, clock)

    def put(self, *entries: Entry) -> None:
        """Hand entries to the writer."""
        for entry in entries:
            self.writer.put(entry)

    async def saved(self) -> bool:
        """Wait until all entries so far are in the database or the journal; tells whether they are."""
        async with asyncio.timeout(WITHIN_SECONDS):
            return await self.writer.saved()

    async def ticking(self, until: Any) -> None:
        """Let time pass in steps of a second, until something holds."""
        async with asyncio.timeout(WITHIN_SECONDS):
            while not until():
                if isinstance(self.clock, ManualClock):
                    self.clock.advance(1.1)
                self.writer.tick(self.clock.monotonic())
                await asyncio.sleep(0.01)

    async def written_back(self) -> None:
        """Let time pass until nothing waits in the journal and entries go straight to the database."""
        await self.ticking(lambda: not self.writer.journaling)

    def rows(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Ask the database, as a superuser."""
        return self.target.sql(statement, *arguments)

    def of(self, kind: type[Happening]) -> Sequence[Any]:
        """Give what happened of one kind."""
        return [happening for happening in self.happened if isinstance(happening, kind)]

    async def close(self) -> None:
        """Stop as a server does."""
        await self.writer.close()
        await self.erased.close()
        await self.database.close()
        self.journal.release()


@asynccontextmanager
async def running(
    database: Database,
    path: Path,
    clock: Clock | None = None,
    *,
    away: bool = False,
    strict: bool = False,
    journal_bytes: int = JOURNAL_BYTES,
    shard: int = 0,
) -> AsyncIterator[PostgresBench]:
    """Run an instance, and close it cleanly in the end."""
    bench = PostgresBench(
        database, path, clock or ManualClock(), away=away, strict=strict, journal_bytes=journal_bytes, shard=shard
    )
    await bench.writer.open()
    try:
        yield bench
    finally:
        await bench.close()
