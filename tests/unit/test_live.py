"""Replies in flight: readers, stop, the limit, heartbeats, stalled readers, the end of the server."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from chatcore.errors import INTERNAL_ERROR, SHUTTING_DOWN, Refusal
from chatcore.live import SILENCE_SECONDS, ClientGoneError, Live, Running
from chatcore.model import Delta, Outcome, Turn
from chatcore.settings import ReplySettings
from chatcore.stores.replies_memory import MemoryReplies
from tests.support.clock import ManualClock

T = TypeVar("T")

DONE = Outcome(finish_reason="complete", duration_ms=1)


class Client:
    """A client's connection, as the server tells of it."""

    def __init__(self) -> None:
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    def abort(self) -> None:
        self.hang_up()

    def push(self, make: Callable[[], bytes]) -> bool:
        """Not used by readers: they are given what to push with."""
        raise AssertionError(make())

    def hang_up(self) -> None:
        self.lost = True
        if self.on_lost is not None:
            self.on_lost()


class Stage:
    """A `Live` whose replies say what the test puts in their queue; None ends them."""

    def __init__(self, max_in_flight: int = 3) -> None:
        self.clock = ManualClock()
        log = MemoryReplies(ReplySettings(), self.clock, lambda _: None)
        self.live = Live(log, max_in_flight, self.clock)
        self.said: asyncio.Queue[str | None] = asyncio.Queue()
        self.runs = 0

    async def converse(self, _: Turn, running: Running) -> None:
        self.runs += 1
        with contextlib.suppress(asyncio.CancelledError):
            while running.ending is None and (text := await self.said.get()) is not None:
                running.record.append([Delta(text)])
        if running.ending is None:
            running.closing = True
            running.record.finish(DONE)
        elif running.ending == "stopped":
            running.record.finish(Outcome(finish_reason="stopped", duration_ms=1))
        else:
            running.record.finish(Outcome(finish_reason="error", duration_ms=1, refusal=running.ending))

    def tick(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.live.tick(self.clock.monotonic())


def turn(message_id: str = "m1", text: str = "hello") -> Turn:
    return Turn(session_id="s1", bot="default", message_id=message_id, text=text, received_at=0.0)


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, 5)


@pytest.fixture(name="stage")
def _stage() -> Stage:
    return Stage()


async def test_two_readers_see_the_same_reply_and_it_runs_once(stage: Stage) -> None:
    first, _ = await stage.live.start(turn(), stage.converse)
    second, _ = await stage.live.start(turn(), stage.converse)
    assert first is second
    with stage.live.follow(first, 0, None) as one, stage.live.follow(second, 0, None) as two:
        stage.said.put_nowait("a")
        assert await soon(one.next()) == [Delta("a")]
        assert await soon(two.next()) == [Delta("a")]
        stage.said.put_nowait(None)
        assert await soon(one.next()) == DONE
        assert await soon(two.next()) == DONE
    assert stage.runs == 1
    assert not stage.live.readers


async def test_a_slow_reader_misses_nothing(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    with stage.live.follow(record, 0, None) as reader:
        for number in range(100):
            stage.said.put_nowait(str(number))
        stage.said.put_nowait(None)
        await asyncio.sleep(0)
        got: list[str] = []
        while not isinstance(what := await soon(reader.next()), Outcome):
            got += [delta.content for delta in what or ()]
        assert got == [str(number) for number in range(100)]
        assert reader.position == 101


async def test_the_limit_of_replies_in_flight_refuses_and_recovers(stage: Stage) -> None:
    for number in range(3):
        await stage.live.start(turn(f"m{number}"), stage.converse)
    with pytest.raises(Refusal, match="overloaded"):
        await stage.live.start(turn("m9"), stage.converse)
    await soon(stage.live.stop(("s1", "m0")))
    await stage.live.start(turn("m9"), stage.converse)
    await soon(stage.live.settle(0))


async def test_stop_ends_a_reply_and_a_second_stop_is_fine(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    with stage.live.follow(record, 0, None) as reader:
        stage.said.put_nowait("some")
        assert await soon(reader.next()) == [Delta("some")]
        await soon(stage.live.stop(record.turn_key))
        outcome = await soon(reader.next())
        assert isinstance(outcome, Outcome)
        assert outcome.finish_reason == "stopped"
    await soon(stage.live.stop(record.turn_key))
    assert not stage.live.running


async def test_a_reply_that_is_stopped_before_its_first_step_ends_all_the_same(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    stage.live.running[record.turn_key].end("stopped")
    await stage.live.stop(record.turn_key)
    assert record.outcome is not None
    assert record.outcome.finish_reason == "stopped"
    assert not stage.live.running


async def test_silence_gives_a_heartbeat_at_its_time_and_again(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    with stage.live.follow(record, 0, None) as reader:
        for _ in range(3):
            waiting = asyncio.create_task(reader.next())
            await asyncio.sleep(0)
            stage.tick(SILENCE_SECONDS - 1)
            await asyncio.sleep(0)
            assert not waiting.done()
            stage.tick(1)
            assert await soon(waiting) is None
            reader.sent()
    await soon(stage.live.settle(0))


async def test_text_puts_the_heartbeat_off(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    with stage.live.follow(record, 0, None) as reader:
        stage.tick(SILENCE_SECONDS - 1)
        stage.said.put_nowait("a")
        assert await soon(reader.next()) == [Delta("a")]
        reader.sent()
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        stage.tick(2)
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
    await soon(stage.live.settle(0))


async def test_a_reader_of_the_whole_is_woken_by_the_end_alone(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    with stage.live.follow(record, 0, None, whole=True) as reader:
        waiting = asyncio.create_task(reader.next())
        stage.said.put_nowait("a")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        stage.said.put_nowait(None)
        assert await soon(waiting) == DONE


async def test_a_waiting_reader_is_handed_text_at_once_where_it_can_take_it(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    pushed: list[tuple[int, list[str]]] = []
    takes = [True, True, False]

    def push(first: int, deltas: Sequence[Delta]) -> bool:
        if takes.pop(0):
            pushed.append((first, [delta.content for delta in deltas]))
            return True
        return False

    with stage.live.follow(record, 0, None) as reader:
        reader.push = push
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        for text in ("a", "b", "c"):
            stage.said.put_nowait(text)
        assert await soon(waiting) == [Delta("c")], "what could not be pushed comes the ordinary way, once"
        assert pushed == [(2, ["a"]), (3, ["b"])]
        assert reader.position == 4
        stage.said.put_nowait(None)
        assert await soon(reader.next()) == DONE


async def test_a_client_that_vanishes_frees_its_reader_and_not_the_reply(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    client = Client()
    with pytest.raises(ClientGoneError), stage.live.follow(record, 0, client) as reader:  # noqa: PT012 - the reader's life
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        client.hang_up()
        await soon(waiting)
    assert client.on_lost is None
    assert stage.live.running
    stage.said.put_nowait("after")
    stage.said.put_nowait(None)
    await soon(stage.live.settle(5))
    assert [delta.content for delta in record.read(0, 100)] == ["after"]


async def test_a_reply_whose_task_breaks_still_ends_for_its_readers(stage: Stage) -> None:
    async def broken(_: Turn, running: Running) -> None:
        running.record.append([Delta("a")])
        raise asyncio.CancelledError

    record, _ = await stage.live.start(turn(), broken)
    with stage.live.follow(record, 0, None, whole=True) as reader:
        outcome = await soon(reader.next())
    assert isinstance(outcome, Outcome)
    assert outcome.refusal is not None
    assert outcome.refusal.kind == INTERNAL_ERROR
    assert not stage.live.running


async def test_settle_waits_for_replies_that_end_within_the_grace(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    settling = asyncio.create_task(stage.live.settle(60))
    await asyncio.sleep(0)
    assert not settling.done()
    stage.said.put_nowait(None)
    await soon(settling)
    assert record.outcome == DONE


async def test_settle_lets_a_slow_reader_of_an_ended_reply_finish(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    stage.said.put_nowait("a")
    stage.said.put_nowait(None)
    with stage.live.follow(record, 0, None) as reader:
        while not isinstance(await soon(reader.next()), Outcome):
            pass
        settling = asyncio.create_task(stage.live.settle(60))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not settling.done(), "the last words may still be on their way"
    await soon(settling)
    await soon(stage.live.settle(60))


async def test_settle_does_not_wait_for_readers_beyond_the_grace(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    with stage.live.follow(record, 0, None):
        await soon(stage.live.settle(0))
    assert record.outcome is not None


async def test_settle_ends_late_replies_with_an_error(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    stage.live.refusing = True
    with pytest.raises(Refusal, match="shutting_down"):
        await stage.live.start(turn("m2"), stage.converse)
    await soon(stage.live.settle(0))
    assert record.outcome is not None
    assert record.outcome.refusal is not None
    assert record.outcome.refusal.kind == SHUTTING_DOWN


async def test_erasing_a_session_stops_and_drops_its_replies(stage: Stage) -> None:
    record, _ = await stage.live.start(turn(), stage.converse)
    await soon(stage.live.erase("s1"))
    assert record.outcome is not None
    assert await stage.live.log.find(record.turn_key) is None
    assert not stage.live.running
