"""The audit log over a real PostgreSQL: one chain whoever adds to it, which the serving role can only add to."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from chatcore.archive import Deed
from chatcore.ports import StoreUnavailableError
from chatcore.stores.postgres.audit import PostgresAudit, Scribe, links_after
from chatcore.stores.postgres.chain import Walk, keys
from chatcore.stores.postgres.database import Database as Pool
from chatcore.stores.postgres.database import connect
from tests.support.clock import START, ManualClock
from tests.support.databases import Database
from tests.support.kept_messages import prepare

KEY = keys("audit key of these tests, long enough", [])[0]
SEARCH = Deed(actor="admin:anna", action="sessions_searched", address="203.0.113.9", detail={"q": "ü", "limit": 20})


class Bench:
    """A database with an empty log, and two servers that write into it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.hash_key = prepare(database).hash_key
        self.clock = ManualClock()
        self.pools = [Pool(database.url, pool_size=3) for _ in range(2)]
        self.logs = [PostgresAudit(pool, KEY, self.hash_key, self.clock) for pool in self.pools]

    def walk(self) -> Walk:
        """Go along the whole log."""
        walk = Walk([KEY])
        with connect(self.database.url) as connection:
            walk.along(links_after(connection, 0, 100_000))
        return walk


@pytest.fixture(name="bench")
async def _bench(database: Database) -> AsyncIterator[Bench]:
    bench = Bench(database)
    yield bench
    for pool in bench.pools:
        await pool.close()


async def test_entries_of_several_servers_and_commands_are_one_chain(bench: Bench) -> None:
    scribe = Scribe(KEY, bench.hash_key, bench.clock)

    def command() -> None:
        for _ in range(10):
            with connect(bench.database.url) as connection, connection.transaction():
                scribe.add(connection, Deed(actor="cli:root", action="exported", detail={"sessions": 3}))

    await asyncio.gather(asyncio.to_thread(command), *(log.record(SEARCH) for _ in range(20) for log in bench.logs))
    walk = bench.walk()
    assert walk.fault is None
    assert walk.head.number == 50


async def test_pages_show_what_was_done_the_latest_first(bench: Bench) -> None:
    log = bench.logs[0]
    page = await log.page(None, 10)
    assert (page.entries, page.before) == ((), None)
    for number in range(5):
        bench.clock.advance(1)
        await log.record(Deed(actor="admin:anna", action="transcript_read", session_id=f"s_{number}"))
    await log.record(SEARCH)
    first = await log.page(None, 4)
    assert [entry.number for entry in first.entries] == [6, 5, 4, 3]
    assert first.before == 3
    second = await log.page(first.before, 4)
    assert [entry.number for entry in second.entries] == [2, 1]
    assert second.before is None
    latest, read = first.entries[0], first.entries[1]
    assert (latest.actor, latest.action, dict(latest.detail)) == (
        "admin:anna",
        "sessions_searched",
        {"q": "ü", "limit": 20},
    )
    assert (read.session_id, read.at, read.address) == ("s_4", START + 5, "")


async def test_of_an_address_only_a_keyed_hash_is_kept(bench: Bench, start_other_database: Bench) -> None:
    for log in bench.logs:
        await log.record(SEARCH)
    await start_other_database.logs[0].record(SEARCH)
    entries = (await bench.logs[0].page(None, 10)).entries
    (other,) = (await start_other_database.logs[0].page(None, 10)).entries
    assert len({entry.address for entry in entries}) == 1
    assert len(entries[0].address) == 32
    assert other.address != entries[0].address
    (dump,) = bench.database.sql("SELECT string_agg(a::text, ' ') FROM chatcore.audit_log AS a")[0]
    assert "203.0.113" not in dump


@pytest.fixture(name="start_other_database")
async def _start_other_database(database_of_module: Database) -> AsyncIterator[Bench]:
    bench = Bench(database_of_module)
    yield bench
    for pool in bench.pools:
        await pool.close()


async def test_the_serving_role_can_neither_change_nor_remove_an_entry(bench: Bench) -> None:
    await bench.logs[0].record(SEARCH)
    for statement in (
        "UPDATE chatcore.audit_log SET actor = 'nobody'",
        "DELETE FROM chatcore.audit_log",
        "TRUNCATE chatcore.audit_log",
        "DROP TABLE chatcore.audit_log",
        "ALTER TABLE chatcore.audit_log DISABLE TRIGGER ALL",
    ):
        with psycopg.connect(bench.database.url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())
    assert bench.walk().head.number == 1


async def test_a_change_by_the_owner_is_told(bench: Bench) -> None:
    for _ in range(5):
        await bench.logs[0].record(SEARCH)
    bench.database.sql("""UPDATE chatcore.audit_log SET detail = '{"q": "v", "limit": 20}' WHERE number = 3""")
    fault = bench.walk().fault
    assert fault is not None
    assert fault.number == 3


async def test_an_entry_that_cannot_be_written_is_no_entry(bench: Bench) -> None:
    log = bench.logs[0]
    with psycopg.connect(bench.database.superuser_url) as blocker:
        blocker.execute("LOCK TABLE chatcore.audit_log IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(log.record(SEARCH))
        with pytest.raises(StoreUnavailableError):
            await waiting
        blocker.rollback()
    await log.record(SEARCH)
    assert bench.walk().head.number == 1
    assert bench.walk().fault is None
