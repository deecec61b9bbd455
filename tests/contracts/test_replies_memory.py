"""The reply log in memory: the contract, and its own bounds."""

import asyncio
import gc
import tracemalloc

import pytest

from chatcore.errors import Refusal
from chatcore.model import Delta
from chatcore.settings import ReplySettings
from chatcore.stores.replies_memory import RECORD_BYTES, MemoryReplies
from tests.contracts.replies import DONE, KEEP_SECONDS, REPLY_MAX_BYTES, ReplyLogContract, claimed, turn
from tests.support.clock import ManualClock


class MemoryBench:
    """A log with little memory."""

    def __init__(self, memory_bytes: int = 200_000) -> None:
        self.clock = ManualClock()
        self.evicted: list[int] = []
        settings = ReplySettings(
            reply_keep_seconds=KEEP_SECONDS, reply_max_bytes=REPLY_MAX_BYTES, reply_memory_bytes=memory_bytes
        )
        self.log = MemoryReplies(settings, self.clock, self.evicted.append)


@pytest.fixture(name="bench")
def _bench() -> MemoryBench:
    return MemoryBench()


class TestMemoryReplies(ReplyLogContract):
    """The port's promises."""


async def test_the_oldest_finished_replies_make_room(bench: MemoryBench) -> None:
    for number in range(40):
        record = await claimed(bench.log, turn(f"m{number}"))
        record.append([Delta("x" * 10_000)])
        record.finish(DONE)
    assert bench.log.bytes <= 200_000
    assert sum(bench.evicted) >= 20
    assert await bench.log.find(("s1", "m0")) is None
    assert await bench.log.find(("s1", "m39")) is not None


async def test_the_id_of_a_reply_that_is_no_longer_kept_is_free(bench: MemoryBench) -> None:
    (await claimed(bench.log, turn())).finish(DONE)
    bench.clock.advance(KEEP_SECONDS + 1)
    assert await bench.log.claim(turn()) is None
    bench.log.sweep(bench.clock.monotonic())
    assert await bench.log.claim(turn()) is not None


async def test_running_replies_are_never_evicted_but_refused_more(bench: MemoryBench) -> None:
    records = [await claimed(bench.log, turn(f"m{number}")) for number in range(11)]
    for record in records[:10]:
        record.append([Delta("x" * 18_000)])
    with pytest.raises(Refusal, match="overloaded"):
        records[10].append([Delta("x" * 18_000)])
    assert all([await bench.log.find(record.turn_key) is record for record in records])
    with pytest.raises(Refusal, match="overloaded"):
        await asyncio.gather(*(claimed(bench.log, turn(f"n{number}")) for number in range(200)))
    assert bench.log.bytes <= 200_000


async def test_a_reader_of_an_evicted_reply_learns_that_it_is_gone(bench: MemoryBench) -> None:
    record = await claimed(bench.log, turn())
    record.append([Delta("x")])
    record.finish(DONE)
    told: list[str] = []
    record.watch(lambda: told.append("changed"))
    for number in range(40):
        other = await claimed(bench.log, turn(f"m{number + 2}"))
        other.append([Delta("x" * 10_000)])
        other.finish(DONE)
    assert told
    with pytest.raises(Refusal, match="reply_gone"):
        record.read(0, 10)


async def test_all_memory_is_given_back(bench: MemoryBench) -> None:
    for number in range(10):
        record = await claimed(bench.log, turn(f"m{number}"))
        record.append([Delta("ä" * 100), Delta("b")])
        if number % 2:
            record.finish(DONE)
    await bench.log.drop("s1")
    assert bench.log.bytes == 0
    last = await claimed(bench.log, turn())
    await bench.log.drop("s1")
    last.finish(DONE)  # an owner that ends a reply which was dropped under it
    bench.log.sweep(bench.clock.monotonic() + 10 * KEEP_SECONDS)
    assert bench.log.bytes == 0


async def test_the_accounts_say_what_python_really_takes() -> None:
    big = MemoryBench(memory_bytes=100_000_000)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(2000):
            record = await claimed(big.log, turn(f"m{number}", session_id=f"s{number}"))
            record.append([Delta(f"some text {number}") for _ in range(20)])
            record.finish(DONE)
        gc.collect()
        real, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 * real <= big.log.bytes <= 1.6 * real
    assert real * 1.6 > RECORD_BYTES * 2000
