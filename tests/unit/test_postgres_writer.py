"""The writer of PostgreSQL mode: what happens to entries while the database is away, slow, full or wrong, and after."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from chatcore.clock import SystemClock
from chatcore.happenings import Crashed, StoreChanged, StoreLost, StoreWrote
from chatcore.model import Turn
from chatcore.ports import StoreUnavailableError
from chatcore.stores.postgres import recorder
from chatcore.stores.postgres.certainty import certainly
from chatcore.stores.postgres.entries import Entry
from tests.support import postgres_bench
from tests.support.background import eventually
from tests.support.clock import START
from tests.support.databases import Database, PostgresServer
from tests.support.postgres_bench import WITHIN_SECONDS, PostgresBench, closed, opened, rated, released, uuid_of, whole

REFUSES = """
CREATE FUNCTION chatcore.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON chatcore.turns FOR EACH STATEMENT EXECUTE FUNCTION chatcore.refuse()
"""
READ_ONLY = "ALTER SYSTEM SET default_transaction_read_only = {}"


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[PostgresServer]:
    with PostgresServer(settings={"deadlock_timeout": "100ms"}) as server:
        server.start()
        yield server


@pytest.fixture(name="target")
def _target(server: PostgresServer) -> Iterator[Database]:
    database = postgres_bench.migrated(server)
    yield database
    database.drop()


@pytest.fixture(name="bench")
async def _bench(target: Database, tmp_path: Path) -> AsyncIterator[PostgresBench]:
    async with postgres_bench.running(target, tmp_path / "journal.db") as bench:
        yield bench


def turns(*numbers: int) -> list[Entry]:
    return [entry for number in numbers for entry in whole(f"m{number}", f"s{number % 3}", START + number)]


def complete(bench: PostgresBench, count: int) -> None:
    """Look whether the turns 0 … count-1 are in the database, each once, and counted."""
    names = [uuid_of(f"m{number}") for number in range(count)]
    kept = bench.rows("SELECT message_id::text FROM chatcore.turns WHERE state = 'complete' ORDER BY accepted_at")
    assert [name for (name,) in kept] == names
    assert bench.rows("SELECT count(*) FROM chatcore.messages") == [(2 * count,)]
    assert bench.rows("SELECT sum(messages)::int, sum(replies)::int FROM chatcore.sessions") == [(count, count)]
    assert bench.rows("SELECT sum(messages)::int, sum(replies)::int FROM chatcore.hours") == [(count, count)]


def kill(bench: PostgresBench) -> None:
    _server_of(bench).kill()


def start(bench: PostgresBench) -> None:
    _server_of(bench).start()


def pause(bench: PostgresBench) -> None:
    _server_of(bench).pause()


def resume(bench: PostgresBench) -> None:
    _server_of(bench).resume()


def _server_of(bench: PostgresBench) -> PostgresServer:
    assert isinstance(bench.target.server, PostgresServer)
    return bench.target.server


def read_only(bench: PostgresBench) -> None:
    bench.rows(READ_ONLY.format("on"))
    bench.rows("SELECT pg_reload_conf()")
    _until(lambda: bench.rows("SHOW default_transaction_read_only") == [("on",)])


def writable(bench: PostgresBench) -> None:
    bench.rows(READ_ONLY.format("off"))
    bench.rows("SELECT pg_reload_conf()")
    _until(lambda: bench.rows("SHOW default_transaction_read_only") == [("off",)])


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
    raise AssertionError


def no_connections(bench: PostgresBench) -> None:
    bench.rows("ALTER ROLE chatcore_app CONNECTION LIMIT 0")
    bench.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'chatcore_app'")


def connections(bench: PostgresBench) -> None:
    bench.rows("ALTER ROLE chatcore_app CONNECTION LIMIT -1")


def fill_disk(bench: PostgresBench) -> None:
    bench.rows(REFUSES)


def make_room(bench: PostgresBench) -> None:
    bench.rows("DROP FUNCTION chatcore.refuse CASCADE")


def hide_schema(bench: PostgresBench) -> None:
    bench.rows("ALTER TABLE chatcore.turns RENAME TO hidden")


def show_schema(bench: PostgresBench) -> None:
    bench.rows("ALTER TABLE chatcore.hidden RENAME TO turns")


def take_rights(bench: PostgresBench) -> None:
    bench.rows("REVOKE INSERT ON chatcore.messages FROM chatcore_app")


def give_rights(bench: PostgresBench) -> None:
    bench.rows("GRANT INSERT ON chatcore.messages TO chatcore_app")


OUTAGES = {
    "killed": (kill, start, "shutting down|cannot be reached|keep the connection"),
    "paused": (pause, resume, "in time"),
    "read-only": (read_only, writable, "read-only"),
    "no connections": (no_connections, connections, "no connection left|shutting down"),
    "disk full": (fill_disk, make_room, "no room left"),
    "schema gone": (hide_schema, show_schema, "lacks tables or functions of this version"),
    "no rights": (take_rights, give_rights, "not allowed"),
}


@pytest.mark.parametrize("kind", OUTAGES)
async def test_an_outage_loses_nothing_and_ends_by_itself(
    bench: PostgresBench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_SECONDS", 1.0)
    begin, end, told = OUTAGES[kind]
    bench.put(*turns(0, 1))
    assert await bench.saved()
    assert bench.writer.trouble() is None
    begin(bench)
    try:
        bench.put(*turns(2, 3))
        assert await bench.saved(), "the journal has it"
        bench.put(*turns(4))
        assert await bench.saved()
        assert bench.journal.waiting == 6
        trouble = bench.writer.trouble()
        assert trouble is not None
        assert not trouble.refuses
        assert "6 entries wait" in trouble.detail
        assert [part for part in told.split("|") if part in trouble.detail], trouble.detail
        for secret in ("chatcore_app", "app of the tests", "127.0.0.1", "hello"):
            assert secret not in trouble.detail
        bench.clock.advance(1.1)  # type: ignore[attr-defined]  # it is the clock of the tests
        bench.writer.tick(bench.clock.monotonic())
        await eventually(lambda: not bench.writer.writing_back, WITHIN_SECONDS)
        assert bench.writer.journaling, "it was tried and did not work"
    finally:
        end(bench)
    await bench.written_back()
    bench.put(*turns(5))
    assert await bench.saved()
    assert bench.journal.waiting == 0
    assert bench.writer.trouble() is None
    complete(bench, 6)
    changes = [happening.what for happening in bench.of(StoreChanged)]
    assert changes == ["not_writable", "writable"]
    assert not bench.of(StoreLost)
    assert not bench.of(Crashed)


async def test_a_lock_that_is_held_is_an_outage_too(bench: PostgresBench) -> None:
    bench.put(*turns(0))
    assert await bench.saved()
    with psycopg.connect(bench.target.superuser_url) as other:
        other.execute("LOCK TABLE chatcore.turns IN EXCLUSIVE MODE")
        bench.put(*turns(1))
        assert await bench.saved()
        assert "holds a lock" in (bench.writer.outage or "")
        other.rollback()
    await bench.written_back()
    complete(bench, 2)


async def test_a_server_that_hangs_for_long_keeps_no_connection_of_the_pool(bench: PostgresBench) -> None:
    assert [row[0] for row in await bench.database.rows(postgres_bench.ONE)] == [1]
    pause(bench)
    try:
        for _ in range(8):  # more than the pool has
            with pytest.raises(StoreUnavailableError):
                await bench.database.rows(postgres_bench.ONE, seconds=0.05)
    finally:
        resume(bench)
    rows = await asyncio.gather(*(bench.database.rows(postgres_bench.ONE) for _ in range(5)))
    assert [row[0][0] for row in rows] == [1] * 5


async def test_a_transaction_ends_in_time_where_the_server_hangs_in_its_middle(bench: PostgresBench) -> None:
    async def hang() -> None:
        async with bench.database.transaction(seconds=0.2) as connection:
            await connection.execute(postgres_bench.ONE)
            pause(bench)
            await connection.execute(postgres_bench.ONE)

    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            with pytest.raises(StoreUnavailableError):
                await hang()
    finally:
        resume(bench)
    assert len(await bench.database.rows(postgres_bench.ONE)) == 1


async def test_order_is_kept_while_entries_come_and_others_are_written_back(bench: PostgresBench) -> None:
    dice = random.Random(3)  # noqa: S311 - no secret
    fill_disk(bench)
    bench.put(*turns(*range(900)))
    assert await bench.saved()
    make_room(bench)
    waiting = []
    number = 900
    for _ in range(150):
        bench.clock.advance(0.4)  # type: ignore[attr-defined]  # it is the clock of the tests
        bench.writer.tick(bench.clock.monotonic())
        for _ in range(dice.randrange(6)):
            bench.put(opened(f"m{number}", f"s{number % 3}", START + number))
            bench.put(closed(f"m{number}", f"s{number % 3}", START + number + 1))
            waiting.append(bench.writer.saved())
            number += 1
        await asyncio.sleep(dice.choice((0.0, 0.001, 0.01)))
    async with asyncio.timeout(WITHIN_SECONDS):
        assert all(await asyncio.gather(*waiting))
    await bench.written_back()
    assert await bench.saved()
    complete(bench, number)
    assert bench.rows("SELECT position FROM chatcore.journals") == [(2 * number,)]


async def test_writing_back_ends_also_under_steady_load(bench: PostgresBench) -> None:
    fill_disk(bench)
    bench.put(*turns(0))
    assert await bench.saved()
    make_room(bench)
    number = 1
    async with asyncio.timeout(WITHIN_SECONDS):
        while bench.writer.journaling:
            bench.clock.advance(0.3)  # type: ignore[attr-defined]  # it is the clock of the tests
            bench.writer.tick(bench.clock.monotonic())
            bench.put(*turns(number))
            number += 1
            await asyncio.sleep(0.002)
    assert await bench.saved()
    complete(bench, number)


async def test_what_comes_while_a_transaction_runs_shares_the_next(bench: PostgresBench) -> None:
    with psycopg.connect(bench.target.superuser_url) as other:
        other.execute("LOCK TABLE chatcore.turns IN EXCLUSIVE MODE")
        bench.put(*turns(0))
        first = bench.writer.saved()
        await eventually(
            lambda: bench.rows("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)], WITHIN_SECONDS
        )
        for number in range(1, 51):
            bench.put(*turns(number))
        other.rollback()
        assert await first
        assert await bench.saved()
    assert len(bench.of(StoreWrote)) == 2
    complete(bench, 51)


async def test_more_than_one_transaction_takes_is_written_in_several(bench: PostgresBench) -> None:
    bench.put(*turns(*range(1000)))
    assert await bench.saved()
    complete(bench, 1000)
    huge = [closed(f"h{number}", text="x" * 900_000) for number in range(6)]
    before = len(bench.of(StoreWrote))
    bench.put(*(opened(f"h{number}") for number in range(6)), *huge)
    assert await bench.saved()
    assert len(bench.of(StoreWrote)) - before >= 3


async def test_a_beginning_is_written_though_its_end_is_far(bench: PostgresBench) -> None:
    bench.put(opened())
    await eventually(lambda: bench.of(StoreWrote), WITHIN_SECONDS)
    assert bench.rows("SELECT state FROM chatcore.turns") == [("open",)]


async def test_an_entry_that_cannot_be_written_loses_nothing_but_itself(bench: PostgresBench) -> None:
    bench.put(*turns(0), opened("bad"), closed("bad", finish_reason="nonsense"), *turns(1))
    assert await bench.saved()
    bench.put(released("bad"))
    assert await bench.saved()
    assert len(bench.of(Crashed)) == 1
    assert [happening.count for happening in bench.of(StoreLost)] == [1]
    bench.rows("DELETE FROM chatcore.turns WHERE state = 'released'")
    assert bench.rows("SELECT sum(replies)::int FROM chatcore.sessions") == [(2,)]
    fill_disk(bench)
    bench.put(*turns(2), rated("m2", "s2", "sideways"), *turns(3))
    assert await bench.saved()
    make_room(bench)
    await bench.written_back()
    assert len(bench.of(Crashed)) == 2
    assert bench.rows("SELECT sum(replies)::int FROM chatcore.sessions") == [(4,)]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep a file from being written, as another program may."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_a_journal_that_cannot_be_written_refuses_until_it_can(bench: PostgresBench) -> None:
    fill_disk(bench)
    with locked(bench.journal.path):
        bench.put(*turns(0))
        with pytest.raises(StoreUnavailableError):
            await certainly(bench.writer.saved())
        assert bench.writer.full
        trouble = bench.writer.trouble()
        assert trouble is not None
        assert trouble.refuses
    await bench.ticking(lambda: bench.writer.journal_fault is None)
    assert not bench.writer.full
    assert bench.journal.waiting == 2
    make_room(bench)
    await bench.written_back()
    complete(bench, 1)
    changes = [happening.what for happening in bench.of(StoreChanged)]
    assert changes == ["not_writable", "journal_failed", "writable"]


async def test_a_journal_that_cannot_be_read_is_told_and_refuses_until_it_can(bench: PostgresBench) -> None:
    fill_disk(bench)
    bench.put(*turns(0))
    assert await bench.saved()
    make_room(bench)
    with closing(sqlite3.connect(bench.journal.path, isolation_level=None)) as other:
        other.execute("ALTER TABLE entries RENAME TO hidden")
        await bench.ticking(lambda: bench.writer.journal_fault)
        assert bench.writer.full
        other.execute("ALTER TABLE hidden RENAME TO entries")
    await bench.written_back()
    assert not bench.writer.full
    complete(bench, 1)


async def test_a_database_that_is_back_helps_a_journal_that_cannot_be_written(bench: PostgresBench) -> None:
    fill_disk(bench)
    with locked(bench.journal.path):
        bench.put(*turns(0))
        assert not await bench.saved()
        make_room(bench)
        await bench.written_back()
        assert await bench.saved()
        complete(bench, 1)


async def test_a_full_journal_refuses_new_messages_and_takes_the_ends_of_old_ones(
    target: Database, tmp_path: Path
) -> None:
    async with postgres_bench.running(target, tmp_path / "journal.db", journal_bytes=3000) as bench:
        fill_disk(bench)
        bench.put(opened("m0", "s0"))
        await bench.ticking(lambda: bench.journal.waiting)
        assert not bench.writer.full
        bench.put(closed("m0", "s0", text="x" * 5000))
        assert await bench.saved()
        assert bench.writer.full
        trouble = bench.writer.trouble()
        assert trouble is not None
        assert trouble.refuses
        bench.put(*turns(1))
        assert await bench.saved()
        make_room(bench)
        await bench.written_back()
        assert not bench.writer.full
        complete(bench, 2)


async def test_a_proxy_that_was_killed_meanwhile_goes_on_where_it_was(target: Database, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(postgres_bench.running(target, tmp_path / "1.db"))
        first.put(*turns(0))
        assert await first.saved()
        fill_disk(first)
        first.put(*turns(1, 2))
        assert await first.saved()
        left = postgres_bench.journal_as_killed(first.journal.path, tmp_path / "2.db")
        second = await stack.enter_async_context(postgres_bench.running(target, left, away=True))
        assert second.journal.waiting == 4
        second.put(*turns(3))
        assert await second.saved()
        again = postgres_bench.journal_as_killed(left, tmp_path / "3.db")
        third = await stack.enter_async_context(postgres_bench.running(target, again))
        assert third.writer.journaling, "the older entries come first"
        third.put(*turns(4))
        assert await third.saved()
        make_room(first)
        await third.written_back()
        complete(third, 5)
        await second.written_back()  # a copy of what was written already
        complete(third, 5)


async def test_a_kill_between_the_commit_and_the_journal_writes_nothing_twice(target: Database, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(postgres_bench.running(target, tmp_path / "1.db"))
        fill_disk(first)
        first.put(*turns(*range(10)))
        assert await first.saved()
        left = postgres_bench.journal_as_killed(first.journal.path, tmp_path / "2.db")
        make_room(first)
        await first.written_back()
        second = await stack.enter_async_context(postgres_bench.running(target, left))
        second.put(*turns(10))
        await second.written_back()
        complete(second, 11)


async def test_closing_writes_what_is_left_to_the_database_or_the_journal(target: Database, tmp_path: Path) -> None:
    async with postgres_bench.running(target, tmp_path / "1.db") as bench:
        bench.put(*turns(0), opened("m1", "s1", START + 1))
    assert target.sql("SELECT state FROM chatcore.turns ORDER BY accepted_at") == [("complete",), ("open",)]
    async with postgres_bench.running(target, tmp_path / "1.db") as bench:
        fill_disk(bench)
        bench.put(closed("m1", "s1"), opened("m2", "s2", START + 2))
    async with postgres_bench.running(target, tmp_path / "1.db") as bench:
        assert bench.journal.waiting == 2
        make_room(bench)
        await bench.written_back()
        bench.put(closed("m2", "s2"))
        assert await bench.saved()
        complete(bench, 3)


async def test_nobody_waits_for_a_writer_that_has_ended(target: Database, tmp_path: Path) -> None:
    async with postgres_bench.running(target, tmp_path / "1.db") as bench:
        fill_disk(bench)
        with locked(bench.journal.path):
            bench.put(*turns(0))
            waiting = bench.writer.saved()
            await bench.writer.close()
            assert not await waiting
            assert [happening.count for happening in bench.of(StoreLost)] == [2]
        assert not await bench.writer.saved()


async def test_the_queue_is_bounded_by_refusing_new_messages(bench: PostgresBench) -> None:
    bench.put(*(opened(f"m{number}") for number in range(20_000)))
    assert bench.writer.full
    await eventually(lambda: not bench.writer.full, WITHIN_SECONDS)


def asked(name: str = "m1", text: str = "hello") -> Turn:
    return Turn(session_id="s1", bot="default", message_id=uuid_of(name), text=text, received_at=START)


async def test_a_claim_is_ours_or_somebody_elses(bench: PostgresBench, tmp_path: Path) -> None:
    assert await bench.turns.claim(asked())
    async with postgres_bench.running(bench.target, tmp_path / "other.db") as other:
        assert not await other.turns.claim(asked())
        assert await other.turns.claim(asked("m2"))
        known = await other.turns.known(asked().key)
        assert known is not None
        assert (known.state, known.text) == ("open", None)
        assert known.digest == other.turns.digest("hello")
    bench.sessions.open_turn(asked())  # was written by the claim
    bench.put(closed("m1"))
    assert await bench.saved()
    known = await bench.turns.known(asked().key)
    assert known is not None
    assert (known.state, known.text, known.duration_ms) == ("complete", "hello back", 120)
    assert known.accepted_us == round(START * 1e6)
    assert bench.rows("SELECT messages FROM chatcore.sessions") == [(2,)]


async def test_a_claim_while_the_database_is_away_is_taken_by_the_journal(bench: PostgresBench) -> None:
    fill_disk(bench)
    assert await bench.turns.claim(asked())
    assert bench.journal.waiting == 1
    make_room(bench)


async def test_a_strict_claim_needs_the_database(target: Database, tmp_path: Path) -> None:
    async with postgres_bench.running(target, tmp_path / "1.db", strict=True) as bench:
        fill_disk(bench)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await bench.turns.claim(asked())
        make_room(bench)
        await bench.written_back()
        assert await bench.turns.claim(asked()), "it may run after all"


async def test_many_turns_are_asked_for_at_once(bench: PostgresBench) -> None:
    bench.put(*turns(*range(30)))
    assert await bench.saved()
    keys = [(f"s{number % 3}", uuid_of(f"m{number}")) for number in range(40)]
    found = await asyncio.gather(*(bench.turns.known(key) for key in keys))
    assert [known is not None for known in found] == [True] * 30 + [False] * 10


async def test_a_question_that_cannot_be_asked_leaves_nobody_waiting(bench: PostgresBench) -> None:
    bench.put(*turns(0))
    assert await bench.saved()
    async with asyncio.timeout(WITHIN_SECONDS):
        answers = await asyncio.gather(
            bench.turns.known(("s1", "no UUID")), bench.turns.known(asked().key), return_exceptions=True
        )
    assert isinstance(answers[0], Exception)
    assert await bench.turns.known(asked().key) is None


async def test_a_real_clock_spaces_transactions_of_a_busy_server(target: Database, tmp_path: Path) -> None:
    async with postgres_bench.running(target, tmp_path / "1.db", SystemClock()) as bench:

        async def visitor(number: int) -> None:
            for step in range(5):
                bench.put(*whole(f"{number}-{step}", f"s{number}"))
                assert await bench.writer.saved()

        async with asyncio.timeout(WITHIN_SECONDS):
            await asyncio.gather(*(visitor(number) for number in range(40)))
        assert len(bench.of(StoreWrote)) < 40
        assert bench.rows("SELECT sum(replies)::int FROM chatcore.sessions") == [(200,)]


def test_errors_that_are_told_hold_no_texts(target: Database, tmp_path: Path) -> None:
    async def fail() -> Sequence[Crashed]:
        async with postgres_bench.running(target, tmp_path / "1.db") as bench:
            bench.put(opened("m1"), closed("m1", finish_reason="nonsense", text="a secret of a visitor"))
            await bench.saved()
            return bench.of(Crashed)

    (crashed,) = asyncio.run(fail())
    assert "a secret of a visitor" not in str(crashed.error)
