"""Replies across instances: any instance follows, resumes and stops what another one runs, with the same events."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from chatcore.errors import UPSTREAM_TIMEOUT, UPSTREAM_UNAVAILABLE, Refusal
from chatcore.live import Live, Running
from chatcore.model import Delta, Outcome, Turn
from chatcore.ports import StoreUnavailableError
from chatcore.stores.postgres import followers
from tests.contracts.replies import DONE
from tests.support.databases import Database, RedisDatabase
from tests.support.replies_bench import Instance, eventually, instances, read_whole

STOPPED = Outcome(finish_reason="stopped", duration_ms=5)
LONG = [Delta("Grüße"), Delta("𝄞 clef"), Delta("next", opens_segment=True), Delta("\0\n")]


@pytest.fixture(name="both")
async def _both(
    database_of_module: Database, redis_server: RedisDatabase, tmp_path: Path
) -> AsyncIterator[Sequence[Instance]]:
    redis_server.flush()
    async with instances(2, database_of_module, redis_server.url, tmp_path) as both:
        yield both


def ask(text: str = "hello", session_id: str | None = None, message_id: str | None = None) -> Turn:
    return Turn(
        session_id=session_id or f"s-{uuid.uuid4()}",
        bot="default",
        message_id=message_id or str(uuid.uuid4()),
        text=text,
        received_at=1_790_000_000.0,
    )


def keys(server: RedisDatabase, pattern: str) -> list[str]:
    with server.client() as client:
        return list(client.scan_iter(pattern))


async def test_another_instance_gives_the_same_events_while_the_reply_runs(both: Sequence[Instance]) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    record.append(LONG[:2])
    found = await other.log.find(turn.key)
    assert found is not None
    reading = asyncio.create_task(read_whole(found))
    for delta in LONG[2:]:
        record.append([delta])
        await eventually(lambda: found.count() == record.count())
    await owner.end(turn, record, DONE)
    assert await reading == (LONG, DONE)
    assert await other.log.find(turn.key, "hello") is found, "it is in memory from now on"
    assert list(found.read(2, 1000)) == LONG[1:]


async def test_a_failure_is_told_with_its_code_and_sentence(both: Sequence[Instance]) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    found = await other.log.find(turn.key)
    assert found is not None
    record.append([Delta("half")])
    refusal = Refusal(UPSTREAM_TIMEOUT, "Too slow.", retry_after=7)
    await owner.end(turn, record, Outcome(finish_reason="error", duration_ms=9, refusal=refusal))
    deltas, outcome = await read_whole(found)
    assert deltas == [Delta("half")]
    assert outcome.finish_reason == "error"
    assert outcome.refusal is not None
    assert (outcome.refusal.kind, outcome.refusal.detail, outcome.refusal.retry_after) == (
        UPSTREAM_TIMEOUT,
        "Too slow.",
        7,
    )


async def test_of_two_that_claim_at_once_one_runs_and_the_other_follows(both: Sequence[Instance]) -> None:
    for _ in range(20):
        turn = ask()
        first, second = await asyncio.gather(*[one.log.claim(turn) for one in both])
        assert (first is None) != (second is None)
        owner, other = both if first is not None else both[::-1]
        record = first or second
        assert record is not None
        found = await other.log.find(turn.key, turn.text)
        assert found is not None
        record.append([Delta("once")])
        await owner.end(turn, record, DONE)
        assert await read_whole(found) == ([Delta("once")], DONE)


async def test_of_many_that_claim_at_once_here_one_runs(both: Sequence[Instance]) -> None:
    turn = ask()
    records = await asyncio.gather(*[both[0].log.claim(turn) for _ in range(20)])
    assert sum(record is not None for record in records) == 1


@pytest.mark.parametrize("ended", [False, True])
async def test_the_same_id_with_another_text_is_refused_everywhere(both: Sequence[Instance], *, ended: bool) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    if ended:
        record.append([Delta("said")])
        await owner.end(turn, record, DONE)
    with pytest.raises(Refusal, match="message_id_reused"):
        await other.log.find(turn.key, "something else")
    assert await other.log.find(turn.key, "hello") is not None
    with pytest.raises(Refusal, match="message_id_reused"):
        await other.log.find(turn.key, "something else")


async def test_a_quick_answer_costs_redis_nothing_but_its_claim(
    both: Sequence[Instance], redis_server: RedisDatabase
) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    record.append([Delta("at once")])
    record.finish(DONE)
    await owner.save(turn, record, DONE)
    await asyncio.sleep(0.15)
    assert not keys(redis_server, "chatcore:r:*")
    found = await other.log.find(turn.key)
    assert found is not None
    assert await read_whole(found) == ([Delta("at once")], DONE), "from the database, with the same numbers"
    assert await read_whole(found, after=2) == ([], DONE)


async def test_who_follows_before_a_quick_answer_has_its_end(both: Sequence[Instance]) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    found = await other.log.find(turn.key)
    assert found is not None
    record.append([Delta("at once")])
    await owner.end(turn, record, DONE)
    assert await read_whole(found, seconds=1.0) == ([Delta("at once")], DONE)


async def test_a_stored_reply_is_found_when_redis_and_memory_have_forgotten_it(
    both: Sequence[Instance], redis_server: RedisDatabase
) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    record.append(LONG[:3])
    await owner.end(turn, record, DONE)
    await owner.memory.drop(turn.key)
    with redis_server.client() as client:
        client.delete(*keys(redis_server, "chatcore:[cr]:*"))
    for one in (owner, other):
        found = await one.log.find(turn.key, "hello")
        assert found is not None
        assert await read_whole(found) == ([Delta("Grüße𝄞 clef\n\nnext")], DONE)


@contextlib.asynccontextmanager
async def living(instance: Instance) -> AsyncIterator[Live]:
    live = Live(instance.log, 100, instance.clock, instance.log.peers)
    try:
        yield live
    finally:
        await live.settle(0)


class Talk:
    """A reply that says one thing and then waits to be stopped."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    async def __call__(self, turn: Turn, running: Running) -> None:
        opened = self.instance.turns.opening(turn)
        if opened is not None:
            self.instance.writer.put(opened)
        running.record.append([Delta("word")])
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if running.ending is None:
                raise
        running.closing = True
        await self.instance.end(turn, running.record, STOPPED)  # type: ignore[arg-type] # it is one of memory


async def test_a_reply_is_stopped_from_another_instance(both: Sequence[Instance]) -> None:
    owner, other = both
    turn = ask()
    async with living(owner) as here, living(other) as there:
        await here.start(turn, Talk(owner))
        found = await there.log.find(turn.key)
        assert found is not None
        await asyncio.wait_for(there.stop(turn.key), 2)
        assert found.outcome == STOPPED
        assert not here.running
        assert await read_whole(found) == ([Delta("word")], STOPPED)
        await there.stop(turn.key)
        await there.stop(("nobody", str(uuid.uuid4())))


async def test_who_resumes_elsewhere_is_given_nothing_a_second_time(
    both: Sequence[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.live.FOLLOWING_SECONDS", 0.5)
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    async with living(other) as there:
        found = await other.log.find(turn.key)
        assert found is not None
        record.append([Delta("a"), Delta("b")])
        await there.catch_up(found, 3)
        assert found.count() == 2, "its client read so far at the owner's"
        with pytest.raises(StoreUnavailableError):
            await there.catch_up(found, 4)
        record.finish(DONE)
        await read_whole(found)
        await there.catch_up(found, 99)


async def test_a_session_is_erased_wherever_its_replies_run(
    both: Sequence[Instance], redis_server: RedisDatabase
) -> None:
    owner, other = both
    session_id = f"s-{uuid.uuid4()}"
    turns = [ask(session_id=session_id) for _ in range(3)]
    heard: list[str] = []
    owner.log.peers.erased = heard.append
    async with living(owner) as here, living(other) as there:
        kept = ask()
        for turn in (*turns, kept):
            await here.start(turn, Talk(owner))
        found = await there.log.find(turns[0].key)
        assert found is not None
        await eventually(lambda: len(keys(redis_server, f"chatcore:r:{session_id}:*")) == 3)
        await eventually(lambda: found.count() == 1)
        await asyncio.wait_for(there.erase(session_id), 4)
        assert list(here.running) == [kept.key]
        assert heard == [session_id]
        assert not keys(redis_server, f"chatcore:*{session_id}*")
        assert not owner.memory.of_session(session_id)
        assert not other.memory.of_session(session_id)
        with pytest.raises(Refusal, match="reply_gone"):
            found.read(0, 100)
        assert found.outcome is not None, "whoever reads it is told"


async def test_whoever_joined_a_message_that_n8n_never_got_is_told_and_it_runs_again_anywhere(
    both: Sequence[Instance],
) -> None:
    owner, other = both
    turn = ask()
    unsent = Outcome(finish_reason="error", duration_ms=3, refusal=Refusal(UPSTREAM_UNAVAILABLE), sent=False)
    for _ in range(3):
        record = await owner.start(turn)
        joined = await other.log.find(turn.key, "hello")
        assert joined is not None
        await owner.end(turn, record, unsent)
        deltas, outcome = await read_whole(joined)
        assert not deltas
        assert outcome.refusal is not None
        assert outcome.refusal.kind is UPSTREAM_UNAVAILABLE
        await owner.writer.saved()
        for one in both:
            assert await one.log.find(turn.key, "another text") is None
        owner, other = other, owner
    record = await owner.start(turn)
    record.append([Delta("now")])
    await owner.end(turn, record, DONE)


async def test_a_copy_that_nobody_reads_is_let_go(both: Sequence[Instance], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "UNREAD_SECONDS", 0.3)
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    record.append([Delta("a")])
    found = await other.log.find(turn.key)
    assert found is not None
    found.watch(print)
    await asyncio.sleep(0.6)
    assert await other.log.find(turn.key) is found
    found.unwatch(print)
    await eventually(lambda: other.memory.bytes == 0)
    assert await other.log.find(turn.key) is not found


async def test_hundreds_of_replies_are_followed_at_once(both: Sequence[Instance]) -> None:
    owner, other = both
    turns = [ask() for _ in range(450)]
    records = [await owner.start(turn) for turn in turns]
    copies = [await other.log.find(turn.key) for turn in turns]
    readings = [asyncio.create_task(read_whole(copy)) for copy in copies if copy is not None]
    for step in range(3):
        for number, record in enumerate(records):
            record.append([Delta(f"{number} {step} ")])
        await asyncio.sleep(0.1)
    for record in records:
        record.finish(DONE)
    for number, reading in enumerate(readings):
        deltas, outcome = await reading
        assert [delta.content for delta in deltas] == [f"{number} {step} " for step in range(3)]
        assert outcome == DONE
    assert len(readings) == len(turns)


async def test_a_long_reply_is_caught_up_with_at_once(both: Sequence[Instance], redis_server: RedisDatabase) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    said = [Delta(f"{number:05} " * 200) for number in range(1000)]
    record.append(said)
    await eventually(lambda: last_number(redis_server, turn) == 1001)
    found = await other.log.find(turn.key)
    assert found is not None
    assert list(found.read(0, 1 << 40)) == said
    record.finish(DONE)


def last_number(server: RedisDatabase, turn: Turn) -> int:
    with server.client() as client:
        last = client.xrevrange(f"chatcore:r:{turn.session_id}:{turn.message_id}", count=1)
        return int(last[0][0].split("-")[0]) if last else 1


async def test_everything_in_redis_expires(both: Sequence[Instance], redis_server: RedisDatabase) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    record.append(LONG)
    await asyncio.sleep(0.15)
    await owner.end(turn, record, DONE)
    await asyncio.sleep(0.15)
    async with living(owner), living(other):
        await other.log.peers.stop_all(turn.session_id)
    with redis_server.client() as client:
        assert all(client.pttl(key) > 0 for key in keys(redis_server, "chatcore:*"))
