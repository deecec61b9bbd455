"""What the counters in memory promise beyond the contract: bounded, and what is forgotten first."""

from chatcore.stores.counters_memory import MemoryCounters
from tests.support.clock import ManualClock


async def test_a_flood_of_addresses_stays_bounded() -> None:
    counters = MemoryCounters(ManualClock(), max_keys=100)
    for number in range(1000):
        await counters.take(f"a{number}", 1.0, 10)
        await counters.count(f"w{number}", 10, 2e9)
    assert len(counters) == 200


async def test_full_buckets_are_forgotten_before_others() -> None:
    clock = ManualClock()
    counters = MemoryCounters(clock, max_keys=3)
    await counters.take("busy", 1000.0, 1)
    await counters.take("idle", 1.0, 1)
    await counters.take("other", 1000.0, 1)
    clock.advance(5)
    await counters.take("new", 1000.0, 1)
    assert len(counters) == 3
    assert not (await counters.take("busy", 1000.0, 1)).admitted
    assert not (await counters.take("other", 1000.0, 1)).admitted
    assert (await counters.take("idle", 1.0, 1)).admitted


async def test_among_those_that_hold_back_the_least_recently_used_goes() -> None:
    counters = MemoryCounters(ManualClock(), max_keys=2)
    await counters.take("first", 1000.0, 1)
    await counters.take("second", 1000.0, 1)
    assert not (await counters.take("first", 1000.0, 1)).admitted
    await counters.take("third", 1000.0, 1)
    assert not (await counters.take("first", 1000.0, 1)).admitted
    assert (await counters.take("second", 1000.0, 1)).admitted


async def test_closed_and_empty_windows_are_forgotten_before_others() -> None:
    clock = ManualClock()
    counters = MemoryCounters(clock, max_keys=3)
    await counters.count("open", 1, clock.now() + 1000)
    await counters.count("closed", 1, clock.now() + 1)
    await counters.count("kept", 1, clock.now() + 1000)
    clock.advance(5)
    await counters.count("new", 1, clock.now() + 1000)
    assert not (await counters.count("open", 1, clock.now() + 1000)).admitted
    await counters.uncount("kept")
    await counters.count("newer", 1, clock.now() + 1000)
    assert not (await counters.count("open", 1, clock.now() + 1000)).admitted
    assert not (await counters.count("new", 1, clock.now() + 1000)).admitted


async def test_the_least_recently_used_window_goes_last() -> None:
    counters = MemoryCounters(ManualClock(), max_keys=1)
    await counters.count("a", 1, 2e9)
    await counters.count("b", 1, 2e9)
    assert len(counters) == 1
    assert (await counters.count("a", 1, 2e9)).admitted


async def test_sweep_forgets_what_holds_nothing_back() -> None:
    clock = ManualClock()
    counters = MemoryCounters(clock)
    for number in range(50):
        await counters.take(f"short{number}", 1.0, 5)
        await counters.count(f"day{number}", 5, clock.now() + 10)
    await counters.take("long", 1000.0, 5)
    assert not counters.sweep()
    clock.advance(10)
    assert len(counters.sweep(look=10)) == 20
    assert len(counters.sweep()) == 80
    assert len(counters) == 1


async def test_a_bucket_given_back_whole_is_forgotten() -> None:
    counters = MemoryCounters(ManualClock())
    await counters.take("k", 1.0, 5)
    await counters.give_back("k", 1.0)
    assert len(counters) == 0
