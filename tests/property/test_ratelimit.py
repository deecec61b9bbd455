"""The buckets against a simple model, and against what a rate means."""

import asyncio
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore.ports import Level
from chatcore.stores.counters_memory import MemoryCounters
from tests.support.clock import ManualClock

# Steps of 1/64 s are exact in binary, so the model and the clock agree to the last bit.
STEPS = st.lists(st.integers(0, 64 * 90), min_size=1, max_size=120)
BURST = st.integers(1, 90)


def run(waits: list[int], burst: int) -> list[tuple[Fraction, Level]]:
    """Take after each of the waits (in 1/64 s); gives moments and answers."""

    async def take_all() -> list[tuple[Fraction, Level]]:
        clock = ManualClock()
        counters = MemoryCounters(clock)
        moment = Fraction(0)
        taken = []
        for wait in waits:
            clock.advance(wait / 64)
            moment += Fraction(wait, 64)
            taken.append((moment, await counters.take("k", 60 / burst, burst)))
        return taken

    return asyncio.run(take_all())


@settings(max_examples=60, deadline=None)
@given(waits=STEPS, burst=BURST)
def test_no_window_admits_more_than_burst_and_what_came_back(waits: list[int], burst: int) -> None:
    admitted = [moment for moment, level in run(waits, burst) if level.admitted]
    interval = Fraction(60, burst)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            elapsed = admitted[last] - admitted[first]
            assert last - first + 1 <= burst + elapsed / interval + Fraction(1, 1000)


@settings(max_examples=60, deadline=None)
@given(waits=STEPS, burst=BURST)
def test_a_bucket_is_a_bucket_of_tokens(waits: list[int], burst: int) -> None:
    interval = Fraction(60, burst)
    held, before = Fraction(burst), Fraction(0)
    for moment, level in run(waits, burst):
        held = min(Fraction(burst), held + (moment - before) / interval)
        before = moment
        assert level.admitted == (held >= 1)
        if level.admitted:
            held -= 1
            assert level.remaining == int(held)
            assert level.retry_after == 0
        else:
            assert abs(Fraction(level.retry_after) - (1 - held) * interval) < Fraction(1, 10000)
        assert abs(Fraction(level.full_after) - (burst - held) * interval) < Fraction(1, 10000)


@settings(max_examples=60, deadline=None)
@given(waits=STEPS, burst=BURST)
def test_who_waits_as_told_is_admitted(waits: list[int], burst: int) -> None:
    async def wait_as_told() -> None:
        clock = ManualClock()
        counters = MemoryCounters(clock)
        for wait in waits:
            clock.advance(wait / 6400)
            level = await counters.take("k", 60 / burst, burst)
            if not level.admitted:
                clock.advance(level.retry_after)
                assert (await counters.take("k", 60 / burst, burst)).admitted

    asyncio.run(wait_as_told())
