"""The order of a turn: the store opens it while n8n thinks, closes it before `done`; every end has its outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from chatcore.errors import UPSTREAM_TIMEOUT, UPSTREAM_UNAVAILABLE, Refusal
from chatcore.live import Live
from chatcore.model import Actor, Delta, Failed, Outcome, ReplyEvent, Turn
from chatcore.observe import Crashed, Happening, ReplyEnded
from chatcore.ports import ReplyText
from chatcore.proxy import Proxy
from chatcore.settings import ReplySettings
from chatcore.stores.replies_memory import MemoryReplies
from tests.support.clock import ManualClock

TURN = Turn(session_id="s1", bot="default", message_id="m1", text="hello", received_at=0.0)
Sink = Callable[[Sequence[ReplyEvent]], None]
Say = Callable[[Sink], Awaitable[None]]


class ScriptedUpstream:
    """An upstream that says what the test tells it to."""

    def __init__(self, say: Say) -> None:
        self._say = say

    async def exchange(self, turn: Turn, sink: Sink) -> None:
        assert turn is TURN
        await self._say(sink)

    def tick(self, now: float) -> None:
        """Nothing waits for time here."""

    def available(self, bot: str) -> bool:
        return bot == "default"

    async def close(self) -> None:
        """Nothing to close."""


class SlowStore:
    """A store whose writes become durable when the test says so."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls: list[str] = []
        self.text = ""

    def open_turn(self, turn: Turn) -> Awaitable[None]:
        self.calls.append(f"open {turn.message_id}")
        return self.opened

    def close_turn(self, turn: Turn, outcome: Outcome, reply: ReplyText) -> Awaitable[None]:
        self.calls.append(f"close {turn.message_id} {outcome.finish_reason}")
        self.text = "".join(delta.content for delta in reply.read(0, 1000))
        return self.closed

    async def erase(self, session_id: str, by: Actor) -> None:
        """Nothing is kept."""

    async def is_erased(self, session_id: str) -> bool:
        return session_id == ""


class Stage:
    """A proxy between a scripted upstream and a slow store."""

    def __init__(self, say: Say) -> None:
        self.seen: list[Happening] = []
        self.store = SlowStore()
        clock = ManualClock()
        self.live = Live(MemoryReplies(ReplySettings(reply_max_bytes=100), clock, lambda _: None), 10, clock)
        self.proxy = Proxy(self.live, self.store, ScriptedUpstream(say), clock, self.seen.append)

    async def ended(self, record: ReplyText) -> Outcome:
        for future in (self.store.opened, self.store.closed):
            if not future.done():
                future.set_result(None)
        async with asyncio.timeout(5):
            while record.outcome is None:
                await asyncio.sleep(0)
        return record.outcome


async def turns_of_the_loop() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def says(*events: ReplyEvent) -> Say:
    async def say(sink: Sink) -> None:
        sink(events)

    return say


async def test_the_store_opens_while_n8n_works_and_done_waits_until_it_is_closed() -> None:
    stage = Stage(says(Delta("a"), Delta("b")))
    record, _ = await stage.proxy.send(TURN)
    await turns_of_the_loop()
    assert record.count() == 2, "text does not wait for the store"
    assert stage.store.calls == ["open m1"], "nothing is closed that is not open yet"
    stage.store.opened.set_result(None)
    await turns_of_the_loop()
    assert stage.store.calls == ["open m1", "close m1 complete"]
    assert record.outcome is None, "done is not said before it is saved"
    stage.store.closed.set_result(None)
    await turns_of_the_loop()
    assert record.outcome is not None
    assert stage.store.text == "ab"
    assert not stage.live.running


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ((), "upstream_empty"),
        ((Failed(Refusal(UPSTREAM_TIMEOUT), "slow"),), "upstream_timeout"),
        ((Delta("a"), Failed(Refusal(UPSTREAM_TIMEOUT), "slow")), "upstream_timeout"),
        ((Delta("x" * 101),), "reply_too_large"),
    ],
)
async def test_every_failure_is_an_outcome_that_is_saved_too(events: Sequence[ReplyEvent], code: str) -> None:
    stage = Stage(says(*events))
    record, _ = await stage.proxy.send(TURN)
    outcome = await stage.ended(record)
    assert outcome.finish_reason == "error"
    assert outcome.refusal is not None
    assert outcome.refusal.kind.code == code
    assert stage.store.calls[-1] == "close m1 error"
    assert await stage.live.log.find(TURN.key) is record, "a failed reply is kept, since n8n may have worked"
    ended = [seen for seen in stage.seen if isinstance(seen, ReplyEnded)]
    assert [seen.code for seen in ended] == [code]


async def test_a_kept_failure_keeps_no_frames_alive() -> None:
    async def say(sink: Sink) -> None:
        try:
            int("x")
        except ValueError:
            sink([Delta("x" * 101)])

    stage = Stage(say)
    outcome = await stage.ended((await stage.proxy.send(TURN))[0])
    assert outcome.refusal is not None
    assert outcome.refusal.__traceback__ is None
    assert outcome.refusal.__context__ is None


async def test_what_n8n_never_received_may_run_again() -> None:
    stage = Stage(says(Failed(Refusal(UPSTREAM_UNAVAILABLE), "refused", sent=False)))
    outcome = await stage.ended((await stage.proxy.send(TURN))[0])
    assert not outcome.sent
    await turns_of_the_loop()
    assert await stage.live.log.find(TURN.key) is None


async def test_a_stopped_reply_is_closed_as_such_with_what_was_said() -> None:
    async def say(sink: Sink) -> None:
        sink([Delta("some")])
        await asyncio.Event().wait()

    stage = Stage(say)
    record, _ = await stage.proxy.send(TURN)
    await turns_of_the_loop()
    stopping = asyncio.create_task(stage.live.stop(TURN.key))
    await turns_of_the_loop()
    assert not stopping.done(), "it is stopped when that is saved"
    outcome = await stage.ended(record)
    await stopping
    assert outcome.finish_reason == "stopped"
    assert stage.store.text == "some"


async def test_a_reply_that_is_stopped_before_it_begins_never_reaches_n8n() -> None:
    told: list[str] = []

    async def say(sink: Sink) -> None:
        told.append("asked")
        sink([Delta("a")])

    stage = Stage(say)
    record, _ = await stage.proxy.send(TURN)
    stage.live.running[TURN.key].end("stopped")
    outcome = await stage.ended(record)
    assert outcome.finish_reason == "stopped"
    assert told == []


async def test_a_store_that_breaks_ends_the_reply_with_an_error() -> None:
    stage = Stage(says(Delta("a")))
    stage.store.opened.set_exception(RuntimeError("disk"))
    record, _ = await stage.proxy.send(TURN)
    outcome = await stage.ended(record)
    assert outcome.refusal is not None
    assert outcome.refusal.kind.code == "internal_error"
    assert [seen.where for seen in stage.seen if isinstance(seen, Crashed)] == ["turn"]


async def test_a_bug_in_the_upstream_ends_that_reply_alone() -> None:
    async def say(sink: Sink) -> None:
        sink([Delta("a")])
        raise ZeroDivisionError

    stage = Stage(say)
    outcome = await stage.ended((await stage.proxy.send(TURN))[0])
    assert outcome.refusal is not None
    assert outcome.refusal.kind.code == "internal_error"
    assert not stage.live.running
