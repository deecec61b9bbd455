"""What every `SessionStore` must do: the conformance suite of the port, in two parts.

`SessionContract` is for all stores, also those that remember nothing. `LastingSessionContract` adds what those promise
that do remember; an adapter's test gives it a `bench` with eyes to look into the store.
"""

import asyncio
from collections.abc import Awaitable
from typing import NamedTuple, Protocol

from chatcore.model import VISITOR, Actor, Outcome, Turn
from chatcore.ports import ReplyRecord, SessionStore
from chatcore.settings import ReplySettings
from chatcore.stores.replies_memory import MemoryReplies
from tests.support.clock import START, ManualClock

WITHIN_SECONDS = 20.0
DONE = Outcome(finish_reason="complete", duration_ms=120)
STOPPED = Outcome(finish_reason="stopped", duration_ms=30)
FAILED = Outcome(finish_reason="error", duration_ms=7)

SOMEBODY = Actor(VISITOR, "192.0.2.1")


class Counts(NamedTuple):
    """What a store has counted of one session."""

    messages: int
    replies: int
    errors: int
    reply_ms: int


class SessionBench(Protocol):
    """What an adapter's test gives the suite."""

    @property
    def store(self) -> SessionStore:
        """The store under test."""
        ...


class LastingBench(SessionBench, Protocol):
    """What an adapter's test gives where the store remembers."""

    async def counts(self, session_id: str) -> Counts | None:
        """Give what is durable of a session; None where nothing is known of it."""
        ...

    async def killed(self) -> "LastingBench":
        """Give a store on what would be left if the process were killed right now."""
        ...


def turn(message_id: str = "m1", session_id: str = "s1", text: str = "hello", at: float = START) -> Turn:
    return Turn(session_id=session_id, bot="default", message_id=message_id, text=text, received_at=at)


async def reply_of(asked: Turn) -> ReplyRecord:
    record = await MemoryReplies(ReplySettings(), ManualClock(), lambda _: None).claim(asked)
    assert record is not None
    return record


async def settled(given: Awaitable[object] | None) -> None:
    """Wait for what opening or closing a turn gave back, if there is something to wait for."""
    if given is not None:
        async with asyncio.timeout(WITHIN_SECONDS):
            await given


async def play(store: SessionStore, asked: Turn, outcome: Outcome = DONE) -> None:
    """Open a turn and close it, as the proxy does."""
    opened = store.open_turn(asked)
    await settled(opened)
    await settled(store.close_turn(asked, outcome, await reply_of(asked)))


class SessionContract:
    """Run by each adapter with a `bench` fixture."""

    async def test_a_turn_is_opened_and_closed(self, bench: SessionBench) -> None:
        await play(bench.store, turn())
        assert not await bench.store.is_erased("s1")

    async def test_opening_waits_for_no_end(self, bench: SessionBench) -> None:
        for number in range(20):
            await settled(bench.store.open_turn(turn(f"m{number}")))

    async def test_turns_may_end_in_any_order(self, bench: SessionBench) -> None:
        turns = [turn(f"m{number}") for number in range(10)]
        for asked in turns:
            await settled(bench.store.open_turn(asked))
        for asked in reversed(turns):
            await settled(bench.store.close_turn(asked, DONE, await reply_of(asked)))

    async def test_what_is_given_back_may_be_left_alone(self, bench: SessionBench) -> None:
        asked = turn()
        bench.store.open_turn(asked)
        bench.store.close_turn(asked, DONE, await reply_of(asked))
        await play(bench.store, turn("m2"))

    async def test_a_session_that_nobody_knows_is_not_erased(self, bench: SessionBench) -> None:
        assert not await bench.store.is_erased("nobody")

    async def test_a_session_that_nobody_knows_can_be_erased_and_again(self, bench: SessionBench) -> None:
        await bench.store.erase("nobody", SOMEBODY)
        await bench.store.erase("nobody", SOMEBODY)
        assert not await bench.store.is_erased("somebody")


class LastingSessionContract(SessionContract):
    """Run by each adapter that remembers."""

    async def test_a_turn_is_counted_when_its_end_is_durable(self, bench: LastingBench) -> None:
        await play(bench.store, turn())
        assert await bench.counts("s1") == Counts(messages=1, replies=1, errors=0, reply_ms=120)
        assert await bench.counts("s2") is None

    async def test_a_stopped_reply_is_one_and_a_failed_one_is_none(self, bench: LastingBench) -> None:
        for number, outcome in enumerate((DONE, STOPPED, FAILED)):
            await play(bench.store, turn(f"m{number}"), outcome)
        assert await bench.counts("s1") == Counts(messages=3, replies=2, errors=1, reply_ms=150)

    async def test_many_at_once_keep_their_counts(self, bench: LastingBench) -> None:
        turns = [turn(f"m{number}", f"s{number % 7}") for number in range(140)]
        async with asyncio.TaskGroup() as group:
            for asked in turns:
                group.create_task(play(bench.store, asked, FAILED if asked.session_id == "s3" else DONE))
        for number in range(7):
            failed = number == 3
            expected = Counts(20, 0 if failed else 20, 20 if failed else 0, 0 if failed else 2400)
            assert await bench.counts(f"s{number}") == expected

    async def test_what_was_durable_survives_a_kill(self, bench: LastingBench) -> None:
        for number in range(5):
            await play(bench.store, turn(f"m{number}"))
            left = await bench.killed()
            assert await left.counts("s1") == Counts(number + 1, number + 1, 0, 120 * (number + 1))

    async def test_a_store_goes_on_counting_after_a_kill(self, bench: LastingBench) -> None:
        await play(bench.store, turn())
        left = await bench.killed()
        await play(left.store, turn("m2"))
        assert await left.counts("s1") == Counts(2, 2, 0, 240)

    async def test_an_erased_session_is_dead_at_once_and_after_a_kill(self, bench: LastingBench) -> None:
        await play(bench.store, turn())
        await play(bench.store, turn(session_id="s2"))
        erasing = asyncio.create_task(bench.store.erase("s1", SOMEBODY))
        await asyncio.sleep(0)
        assert await bench.store.is_erased("s1"), "no message may come in while it is being erased"
        await erasing
        for store in (bench, await bench.killed()):
            assert await store.store.is_erased("s1")
            assert not await store.store.is_erased("s2")
            assert await store.counts("s1") is None
            assert await store.counts("s2") == Counts(1, 1, 0, 120)

    async def test_a_late_end_brings_nothing_back(self, bench: LastingBench) -> None:
        asked = turn()
        await settled(bench.store.open_turn(asked))
        await bench.store.erase("s1", SOMEBODY)
        await settled(bench.store.close_turn(asked, DONE, await reply_of(asked)))
        for store in (bench, await bench.killed()):
            assert await store.counts("s1") is None
            assert await store.store.is_erased("s1")

    async def test_an_end_in_the_same_moment_brings_nothing_back(self, bench: LastingBench) -> None:
        asked = turn()
        await settled(bench.store.open_turn(asked))
        erasing = asyncio.create_task(bench.store.erase("s1", SOMEBODY))
        await asyncio.sleep(0)
        await settled(bench.store.close_turn(asked, DONE, await reply_of(asked)))
        await erasing
        assert await bench.counts("s1") is None

    async def test_a_new_message_brings_nothing_back(self, bench: LastingBench) -> None:
        await play(bench.store, turn())
        await bench.store.erase("s1", SOMEBODY)
        await play(bench.store, turn("m2"))
        for store in (bench, await bench.killed()):
            assert await store.counts("s1") is None
            assert await store.store.is_erased("s1")

    async def test_erasing_again_changes_nothing(self, bench: LastingBench) -> None:
        await play(bench.store, turn())
        await asyncio.gather(*(bench.store.erase("s1", SOMEBODY) for _ in range(5)))
        await bench.store.erase("s1", SOMEBODY)
        assert await bench.store.is_erased("s1")
        await bench.store.erase("nobody", SOMEBODY)
        for store in (bench, await bench.killed()):
            assert await store.store.is_erased("nobody")

    async def test_ids_of_any_kind_are_told_apart(self, bench: LastingBench) -> None:
        ids = ["a", "A", "ä", "a' OR 1=1 --", '"', "\u2028", "𝄞", "s" * 500]
        for session_id in ids:
            await play(bench.store, turn(session_id=session_id))
        await bench.store.erase("a", SOMEBODY)
        assert [await bench.store.is_erased(one) for one in ids] == [True] + [False] * 7
        assert [(await bench.counts(one) or Counts(0, 0, 0, 0)).messages for one in ids] == [0] + [1] * 7
