"""The writer: transactions that are shared, a file that fails for a while, and nothing written twice."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chatcore.happenings import Crashed, StoreChanged, StoreLost, StoreWrote
from chatcore.ports import StoreUnavailableError
from chatcore.stores.sqlite.connection import open_connection
from chatcore.stores.sqlite.entries import Closed, Erased, LimitRow, Opened, Rated, Released
from chatcore.stores.sqlite.writer import Writer
from tests.support import sqlite_bench
from tests.support.background import eventually
from tests.support.clock import START, ManualClock
from tests.support.sqlite_bench import WITHIN_SECONDS, SqliteBench


@pytest.fixture(name="bench")
async def _bench(tmp_path: Path) -> AsyncIterator[SqliteBench]:
    async with sqlite_bench.opened(tmp_path / "chat.db", ManualClock()) as bench:
        yield bench


def opened(message_id: str, session_id: str = "s1", at: float = START) -> Opened:
    return Opened((session_id, message_id), "default", at, b"d", "o", "p", "c")


def closed(message_id: str, session_id: str = "s1", at: float = START) -> Closed:
    return Closed((session_id, message_id), "default", at, "complete", 5)


def put(writer: Writer, *numbers: int) -> None:
    """Put whole turns."""
    for number in numbers:
        writer.put(opened(f"m{number}"))
        writer.put(closed(f"m{number}"))


async def resolved(*given: Awaitable[object] | None) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        for one in given:
            assert one is not None
            await one


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep the file from being written, as another program may."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def impatient(bench: SqliteBench) -> None:
    """Let the writer give up at once where the file is locked."""
    await bench.write_with("PRAGMA busy_timeout = 1")


async def recovered(bench: SqliteBench) -> None:
    """Let a second pass, so that the file is tried again, until it works."""
    bench.clock.advance(1.1)
    bench.writer.tick(bench.clock.monotonic())
    await eventually(lambda: bench.writer.trouble() is None, WITHIN_SECONDS)
    await bench.written()


def counted(bench: SqliteBench) -> list[tuple[int, ...]]:
    return bench.rows("SELECT messages, replies, errors FROM sessions ORDER BY id")


async def test_what_comes_while_a_transaction_runs_shares_the_next(bench: SqliteBench) -> None:
    with locked(bench.path):
        put(bench.writer, 0)
        waiting = [bench.writer.saved()]
        for _ in range(3):
            await asyncio.sleep(0)  # the transaction begins, and waits
        for number in range(1, 51):
            put(bench.writer, number)
            waiting.append(bench.writer.saved())
        await asyncio.sleep(0.02)
        assert not any(isinstance(one, asyncio.Future) and one.done() for one in waiting)
    await resolved(*waiting)
    assert len(bench.of(StoreWrote)) == 2
    assert counted(bench) == [(51, 51, 0)]


async def test_a_beginning_and_its_end_are_one_transaction(bench: SqliteBench) -> None:
    bench.writer.put(opened("m1"))
    await asyncio.sleep(0)
    put(bench.writer, 2)
    bench.writer.put(closed("m1"))
    await resolved(bench.writer.saved())
    assert len(bench.of(StoreWrote)) == 1
    assert counted(bench) == [(2, 2, 0)]


async def test_a_beginning_is_written_though_its_end_is_far(bench: SqliteBench) -> None:
    bench.writer.put(opened("m1"))
    await eventually(lambda: bench.of(StoreWrote), WITHIN_SECONDS)
    assert bench.rows("SELECT open FROM turns") == [(1,)]


async def test_entries_keep_their_order(bench: SqliteBench) -> None:
    writer = bench.writer
    for number in range(40):
        put(writer, number)
        writer.put(Rated(("s1", f"m{number}"), "down"))
        writer.put(Rated(("s1", f"m{number}"), "up"))
        writer.put(opened("m", f"e{number}"))
        writer.put(closed("m", f"e{number}"))
        writer.put(Erased(f"e{number}", START))
        put(writer, 100)
        writer.put(Released(("s1", "m100")))
        if number % 7 == 0:
            await resolved(writer.saved())
    await bench.written()
    assert bench.rows("SELECT rating, count(*) FROM turns GROUP BY rating") == [("up", 40)]
    assert bench.rows("SELECT feedback_up, feedback_down FROM sessions") == [(40, 0)]
    assert bench.rows("SELECT count(*) FROM erased") == [(40,)]


async def test_very_many_entries_are_written_in_portions_and_awaited_whole(bench: SqliteBench) -> None:
    put(bench.writer, *range(2500))
    await resolved(bench.writer.saved())
    assert counted(bench) == [(2500, 2500, 0)]
    assert len(bench.of(StoreWrote)) >= 3


async def test_limits_are_written_though_nothing_else_happens(bench: SqliteBench) -> None:
    await bench.counters.take("k", 10.0, 3)
    bench.writer.tick(bench.clock.monotonic())
    await eventually(lambda: bench.of(StoreWrote), WITHIN_SECONDS)
    assert bench.rows("SELECT until, used FROM limits") == [(START + 10.0, None)]


async def test_a_tick_writes_nothing_where_nothing_changed(bench: SqliteBench) -> None:
    for _ in range(5):
        bench.writer.tick(bench.clock.monotonic())
        await asyncio.sleep(0)
    assert not bench.happened


async def test_a_file_that_cannot_be_written_is_told_and_nobody_waits(bench: SqliteBench) -> None:
    await impatient(bench)
    with locked(bench.path):
        put(bench.writer, 1)
        await resolved(bench.writer.saved())
        trouble = bench.writer.trouble()
        assert trouble is not None
        assert "locked" in trouble
        assert bench.writer.saved() is None
        with pytest.raises(StoreUnavailableError):
            await bench.writer.certainly_saved()
        put(bench.writer, 2)
        assert bench.writer.saved() is None
    await recovered(bench)
    assert counted(bench) == [(2, 2, 0)]
    told = [change.what for change in bench.of(StoreChanged) if isinstance(change, StoreChanged)]
    assert told == ["not_writable", "writable"]
    await resolved(bench.writer.saved())


async def test_a_full_disk_loses_nothing_that_fits_in_memory(bench: SqliteBench) -> None:
    await bench.counters.take("k", 30.0, 3)
    put(bench.writer, 0)
    await bench.written()
    ((pages,),) = bench.rows("PRAGMA page_count")
    await bench.write_with(f"PRAGMA max_page_count = {pages}")
    for number in range(60):
        writer = bench.writer
        writer.put(opened("m", f"a session {number} " + "x" * 200))
        writer.put(closed("m", f"a session {number} " + "x" * 200))
    await bench.counters.take("k", 30.0, 3)
    await resolved(bench.writer.saved())
    assert "full" in (bench.writer.trouble() or "")
    for _ in range(3):
        bench.clock.advance(1.1)
        bench.writer.tick(bench.clock.monotonic())
        await asyncio.sleep(0.02)
    assert bench.rows("SELECT count(*) FROM sessions") == [(1,)]
    await bench.write_with("PRAGMA max_page_count = 1000000")
    await recovered(bench)
    assert counted(bench) == [(1, 1, 0)] * 61
    assert bench.rows("SELECT messages, replies FROM hours") == [(61, 61)]
    assert bench.rows("SELECT until FROM limits") == [(pytest.approx(START + 60.0),)]
    assert not bench.of(StoreLost)


async def test_what_does_not_fit_in_memory_is_counted_as_lost(
    bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.stores.sqlite.writer.MOST_WAITING", 10)
    await impatient(bench)
    with locked(bench.path):
        put(bench.writer, 0)
        await resolved(bench.writer.saved())
        put(bench.writer, *range(1, 15))
        bench.writer.put(opened("m15"))
        bench.writer.put(Rated(("s1", "m0"), "up"))
        bench.writer.put(Released(("s1", "m15")))
        bench.writer.put(closed("m15"))
        assert sum(lost.count for lost in bench.of(StoreLost) if isinstance(lost, StoreLost)) == 6
    await recovered(bench)
    assert counted(bench) == [(10, 10, 0)]
    assert bench.rows("SELECT count(*) FROM turns") == [(10,)]
    put(bench.writer, 20)
    await bench.written()
    assert counted(bench) == [(11, 11, 0)], "there is room again"


async def test_an_erasing_that_had_to_wait_is_done_in_the_end(bench: SqliteBench) -> None:
    put(bench.writer, 1)
    await bench.written()
    await impatient(bench)
    with locked(bench.path):
        bench.writer.put(Erased("s1", START))
        with pytest.raises(StoreUnavailableError):
            await bench.writer.certainly_saved()
        put(bench.writer, 2)
    await recovered(bench)
    assert counted(bench) == []
    assert bench.rows("SELECT session_id FROM erased") == [("s1",)]


class Counting:
    """Limits that never change; asked once for each transaction that is tried."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> list[LimitRow]:
        self.asked += 1
        return []


async def test_a_file_that_fails_is_tried_once_a_second_not_for_every_message(tmp_path: Path) -> None:
    path, clock, limits = sqlite_bench.new_file(tmp_path / "chat.db"), ManualClock(), Counting()
    connection = await open_connection(path)
    try:
        writer = Writer(limits, lambda: None, clock, lambda _: None)
        writer.start(connection)
        await connection.run(lambda connected: connected.execute("PRAGMA busy_timeout = 1").fetchall())
        with locked(path):
            put(writer, 0)
            await resolved(writer.saved())
            before = limits.asked
            for number in range(1, 10):
                put(writer, number)
                await asyncio.sleep(0.01)
        tried = limits.asked - before
        await writer.close()
    finally:
        await connection.close()
    assert tried <= 1


BAD = opened("bad", "s9", at=float("nan"))
"""What no ledger can write: a mistake of ours."""


async def test_a_mistake_of_ours_is_told_and_blocks_nothing(bench: SqliteBench) -> None:
    bench.writer.put(BAD)
    bench.writer.put(closed("bad", "s9"))
    await resolved(bench.writer.saved())
    (crash,) = bench.of(Crashed)
    assert isinstance(crash, Crashed)
    assert crash.where == "store"
    assert isinstance(crash.error, ValueError)
    assert bench.of(StoreLost) == [StoreLost(1)]
    assert bench.writer.trouble() is None
    put(bench.writer, 1, 2)
    await bench.written()
    assert counted(bench) == [(2, 2, 0)]


async def test_an_erasing_that_a_mistake_of_ours_lost_is_not_said_to_be_done(bench: SqliteBench) -> None:
    put(bench.writer, 1)
    await bench.written()
    bench.writer.put(BAD)
    bench.writer.put(closed("bad", "s9"))
    bench.writer.put(Erased("s1", START))
    failed = False
    try:
        await bench.writer.certainly_saved()
    except StoreUnavailableError:
        failed = True
    assert failed or bench.rows("SELECT session_id FROM erased") == [("s1",)]


async def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    async with sqlite_bench.opened(path, ManualClock()) as bench:
        put(bench.writer, *range(4100))
        bench.writer.put(opened("begun", "s2"))
        await bench.counters.take("k", 30.0, 3)
    assert sqlite_bench.rows(path, "SELECT messages, replies FROM sessions ORDER BY id") == [(4100, 4100), (1, 0)]
    assert sqlite_bench.rows(path, "SELECT count(*) FROM limits") == [(1,)]
    assert not bench.of(StoreLost)


async def test_closing_while_a_transaction_runs_writes_everything_once(bench: SqliteBench) -> None:
    with locked(bench.path):
        put(bench.writer, 1)
        for _ in range(3):
            await asyncio.sleep(0)
        put(bench.writer, 2)
        waiting = bench.writer.saved()
        closing_it = asyncio.create_task(bench.writer.close())
        await asyncio.sleep(0.01)
        assert not closing_it.done()
    async with asyncio.timeout(WITHIN_SECONDS):
        await closing_it
    await resolved(waiting)
    assert counted(bench) == [(2, 2, 0)]


async def test_closing_a_file_that_fails_ends_and_tells_what_is_lost(bench: SqliteBench) -> None:
    await impatient(bench)
    with locked(bench.path):
        put(bench.writer, 1, 2)
        await resolved(bench.writer.saved())
        bench.writer.put(opened("m3"))
        async with asyncio.timeout(WITHIN_SECONDS):
            await bench.writer.close()
    assert bench.of(StoreLost) == [StoreLost(3)]
    assert counted(bench) == []


async def test_closing_twice_is_fine(bench: SqliteBench) -> None:
    put(bench.writer, 1)
    await bench.writer.close()
    await bench.writer.close()
    assert counted(bench) == [(1, 1, 0)]
