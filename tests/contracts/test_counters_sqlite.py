"""The counters of SQLite mode: the contract, also when an earlier run counted, and what goes to the file."""

from collections.abc import Iterable

import pytest

from chatcore.ports import CounterStore, Level
from chatcore.stores.sqlite.counters import KEY_BYTES, LONGEST_BUCKET_SECONDS, ROWS_AT_ONCE, SqliteCounters
from chatcore.stores.sqlite.entries import GONE, LimitRow
from tests.contracts.counters import CounterContract
from tests.support.clock import ManualClock

HASH_KEY = b"k" * 32


def counters_of(clock: ManualClock, kept: Iterable[LimitRow] = (), max_keys: int = 100_000) -> SqliteCounters:
    return SqliteCounters(clock, HASH_KEY, kept, max_keys)


class File:
    """Takes rows as the table of limits does."""

    def __init__(self) -> None:
        self.rows: dict[bytes, LimitRow] = {}

    def take(self, counters: SqliteCounters) -> None:
        while given := counters.changed():
            assert len(given) <= ROWS_AT_ONCE
            for row in given:
                if row[1] == GONE:
                    self.rows.pop(row[0], None)
                else:
                    self.rows[row[0]] = row


class TestSqliteCounters(CounterContract):
    """Runs the contract."""

    @pytest.fixture(autouse=True)
    def _clock(self) -> None:
        self.clock = ManualClock()

    async def make(self) -> CounterStore:
        return counters_of(self.clock)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def now(self) -> float:
        return self.clock.now()


class Restarting:
    """Counters of a process that is started anew before every call, with nothing but what the file has."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._file = File()
        self._latest = counters_of(clock)

    def _started(self) -> SqliteCounters:
        self._file.take(self._latest)
        self._latest = counters_of(self._clock, list(self._file.rows.values()))
        return self._latest

    async def take(self, key: str, interval: float, burst: int) -> Level:
        return await self._started().take(key, interval, burst)

    async def give_back(self, key: str, interval: float) -> None:
        await self._started().give_back(key, interval)

    async def count(self, key: str, limit: int, until: float) -> Level:
        return await self._started().count(key, limit, until)

    async def uncount(self, key: str) -> None:
        await self._started().uncount(key)


class TestRestartedCounters(CounterContract):
    """Runs the contract over many short lives."""

    @pytest.fixture(autouse=True)
    def _clock(self) -> None:
        self.clock = ManualClock()

    async def make(self) -> CounterStore:
        return Restarting(self.clock)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def now(self) -> float:
        return self.clock.now()


async def test_rows_hold_keyed_hashes_and_no_key() -> None:
    clock = ManualClock()
    counters = counters_of(clock)
    await counters.take("203.0.113.7", 3.0, 20)
    await counters.count("203.0.113.7 by day", 20, clock.now() + 100)
    rows = counters.changed()
    assert len(rows) == 2
    assert all(len(key) == KEY_BYTES for key, _, _ in rows)
    assert b"203.0" not in b"".join(key for key, _, _ in rows)
    other = SqliteCounters(clock, b"o" * 32, ())
    await other.take("203.0.113.7", 3.0, 20)
    assert other.changed()[0][0] not in {key for key, _, _ in rows}, "another file's hashes are others"


async def test_what_changed_is_given_once_and_as_it_is_by_then() -> None:
    clock = ManualClock()
    counters = counters_of(clock)
    for _ in range(3):
        await counters.take("k", 10.0, 5)
    assert [row[1:] for row in counters.changed()] == [(clock.now() + 30.0, None)]
    assert not counters.changed()
    assert not (await counters.take("k", 10.0, 3)).admitted
    assert not counters.changed(), "a refusal changes nothing"


async def test_a_flood_is_given_in_portions_and_nothing_is_lost() -> None:
    clock = ManualClock()
    counters = counters_of(clock)
    for number in range(100_000):
        await counters.take(f"a{number}", 30.0, 1)
    first = counters.changed()
    assert len(first) == ROWS_AT_ONCE
    counters.again()
    file = File()
    file.take(counters)
    assert len(file.rows) == 100_000
    later = counters_of(clock, list(file.rows.values()))
    for number in range(0, 100_000, 97):
        assert not (await later.take(f"a{number}", 30.0, 1)).admitted


async def test_a_flood_of_more_keys_than_are_held_stays_bounded_in_the_file_too() -> None:
    clock = ManualClock()
    counters = counters_of(clock, max_keys=50)
    file = File()
    for number in range(1000):
        await counters.take(f"a{number}", 30.0, 1)
        if number % 10 == 0:
            file.take(counters)
    file.take(counters)
    assert len(counters) == 50
    held = [number for number in range(950, 1000) if not (await counters.take(f"a{number}", 30.0, 1)).admitted]
    assert len(held) == 50
    later = counters_of(clock, list(file.rows.values()))
    for number in held:
        assert not (await later.take(f"a{number}", 30.0, 1)).admitted


async def test_buckets_and_windows_of_a_flood_are_all_written() -> None:
    clock = ManualClock()
    counters = counters_of(clock, max_keys=2_000)
    for number in range(2_000):
        await counters.take(f"a{number}", 30.0, 1)
        await counters.count(f"w{number}", 1, clock.now() + 1000)
    file = File()
    file.take(counters)
    assert len(file.rows) == 4_000


async def test_a_flood_that_nobody_writes_meanwhile_leaves_the_keys_that_are_held() -> None:
    counters = counters_of(ManualClock(), max_keys=50)
    for number in range(1000):
        await counters.take(f"a{number}", 30.0, 1)
    file = File()
    file.take(counters)
    assert len(file.rows) == 50


async def test_again_gives_once_more_what_could_not_be_written() -> None:
    clock = ManualClock()
    counters = counters_of(clock)
    await counters.take("k", 10.0, 5)
    await counters.count("w", 5, clock.now() + 100)
    given = counters.changed()
    counters.again()
    await counters.count("w", 5, clock.now() + 100)
    rows = counters.changed()
    assert {key for key, _, _ in rows} == {key for key, _, _ in given}
    assert sorted(used for _, _, used in rows if used is not None) == [2]
    counters.again()
    counters.again()
    assert sorted(counters.changed()) == sorted(rows)


async def test_what_holds_nothing_back_goes_from_the_file() -> None:
    clock = ManualClock()
    counters = counters_of(clock)
    await counters.take("k", 10.0, 5)
    await counters.count("w", 5, clock.now() + 20)
    file = File()
    file.take(counters)
    assert len(file.rows) == 2
    counters.sweep()
    assert not counters.changed()
    clock.advance(21)
    counters.sweep()
    assert {row[1] for row in counters.changed()} == {GONE}
    assert len(counters) == 0


async def test_a_take_that_is_given_back_goes_from_the_file() -> None:
    counters = counters_of(ManualClock())
    file = File()
    await counters.take("k", 10.0, 5)
    file.take(counters)
    await counters.give_back("k", 10.0)
    file.take(counters)
    assert not file.rows


async def test_a_clock_that_was_set_back_holds_a_bucket_a_minute_at_most() -> None:
    clock = ManualClock()
    earlier = counters_of(clock)
    await earlier.take("k", 60.0, 1)
    rows = list(earlier.changed())
    late = ManualClock(clock.now() - 10 * 86400)
    counters = counters_of(late, rows)
    refused = await counters.take("k", 60.0, 1)
    assert not refused.admitted
    assert refused.retry_after <= LONGEST_BUCKET_SECONDS
    late.advance(LONGEST_BUCKET_SECONDS)
    assert (await counters.take("k", 60.0, 1)).admitted


async def test_what_an_earlier_run_left_is_forgotten_when_it_holds_nothing_back() -> None:
    clock = ManualClock()
    earlier = counters_of(clock)
    await earlier.take("k", 10.0, 1)
    await earlier.count("w", 1, clock.now() + 100)
    counters = counters_of(clock, list(earlier.changed()))
    clock.advance(50)
    counters.sweep()
    assert (await counters.take("k", 10.0, 1)).admitted
    assert not (await counters.count("w", 1, clock.now() + 50)).admitted
    clock.advance(50)
    assert (await counters.count("w", 1, clock.now() + 100)).admitted


async def test_a_key_that_came_back_is_not_restored_twice() -> None:
    clock = ManualClock()
    earlier = counters_of(clock)
    await earlier.count("w", 3, clock.now() + 100)
    counters = counters_of(clock, list(earlier.changed()))
    await counters.uncount("w")
    for _ in range(3):
        assert (await counters.count("w", 3, clock.now() + 100)).admitted
    assert not (await counters.count("w", 3, clock.now() + 100)).admitted
