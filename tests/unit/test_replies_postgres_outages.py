"""Replies across instances while Redis or the instance that runs them goes away: no gaps, and an end for all."""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from chatcore.errors import UPSTREAM_UNAVAILABLE, Refusal
from chatcore.model import Delta, Outcome, Turn
from chatcore.ports import StoreUnavailableError
from chatcore.stores.postgres import followers, peers
from tests.conftest import StartRedis
from tests.contracts.replies import DONE
from tests.support.databases import Database, RedisDatabase, RedisServer
from tests.support.replies_bench import Instance, eventually, instances, read_whole

GRACE_SECONDS = 1.0


@pytest.fixture(name="redis")
def _redis(start_redis: StartRedis) -> RedisServer:
    return start_redis()


@pytest.fixture(name="both")
async def _both(
    database_of_module: Database, redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Sequence[Instance]]:
    monkeypatch.setattr(followers, "GRACE_SECONDS", GRACE_SECONDS)
    async with instances(2, database_of_module, redis.url, tmp_path) as both:
        yield both


def ask(text: str = "hello") -> Turn:
    return Turn(
        session_id=f"s-{uuid.uuid4()}",
        bot="default",
        message_id=str(uuid.uuid4()),
        text=text,
        received_at=1_790_000_000.0,
    )


async def lost(*some: Instance) -> None:
    await eventually(lambda: not any(one.link.up for one in some))


async def back(*some: Instance) -> None:
    await eventually(lambda: all(one.link.up for one in some))


@pytest.mark.parametrize("seconds_away", [0.0, 1.5])
async def test_redis_that_comes_back_empty_is_filled_in_before_anything_new(
    both: Sequence[Instance], redis: RedisServer, seconds_away: float
) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    record.append([Delta(f"{number} ") for number in range(5)])
    found = await other.log.find(turn.key)
    assert found is not None
    await eventually(lambda: found.count() == 5)
    reading = asyncio.create_task(read_whole(found))
    redis.kill()
    await lost(*both)
    record.append([Delta("while it was away ")])
    await asyncio.sleep(seconds_away)
    redis.start()
    await back(*both)
    record.append([Delta("after")])
    await owner.end(turn, record, DONE)
    deltas, outcome = await reading
    assert [delta.content for delta in deltas] == ["0 ", "1 ", "2 ", "3 ", "4 ", "while it was away ", "after"]
    assert outcome == DONE


async def test_a_reply_that_ended_while_redis_was_away_is_filled_in(
    both: Sequence[Instance], redis: RedisServer, database_of_module: Database
) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    record.append([Delta("a"), Delta("b")])
    redis.kill()
    await lost(*both)
    record.append([Delta("c", opens_segment=True)])
    record.finish(DONE)  # the database does not learn it: nothing but Redis can tell
    redis.start()
    await back(*both)
    assert database_of_module.name
    await eventually(lambda: bool(_entries(redis, turn)))
    found = await other.log.find(turn.key)
    assert found is not None
    assert await read_whole(found) == ([Delta("a"), Delta("b"), Delta("c", opens_segment=True)], DONE)


def _entries(server: RedisServer, turn: Turn) -> int:
    with server.client() as client:
        return int(client.xlen(f"chatcore:r:{turn.session_id}:{turn.message_id}"))


async def test_without_redis_a_message_runs_once_and_others_can_neither_follow_nor_stop_it(
    both: Sequence[Instance], redis: RedisServer
) -> None:
    owner, other = both
    redis.kill()
    await lost(*both)
    turn = ask()
    claims = await asyncio.gather(*[one.log.claim(turn) for one in both])
    assert sum(claim is not None for claim in claims) == 1, "the database decides"
    if claims[0] is None:
        owner, other = other, owner
    record = claims[0] or claims[1]
    assert record is not None
    for text in (None, "hello"):
        with pytest.raises(StoreUnavailableError):
            await other.log.find(turn.key, text)
    with pytest.raises(StoreUnavailableError):
        await other.log.peers.stop(turn.key)
    with pytest.raises(Refusal, match="message_id_reused"):
        await other.log.find(turn.key, "another text")
    assert await other.log.find(ask().key, "hello") is None, "a new message is not held up"
    record.append([Delta("said "), Delta("meanwhile")])
    await owner.end(turn, record, DONE)
    stored = await other.log.find(turn.key)
    assert stored is not None
    assert await read_whole(stored) == ([Delta("said meanwhile")], DONE)
    redis.start()
    await back(*both)
    await eventually(lambda: _entries(redis, turn) > 0)
    found = await other.log.find(turn.key)
    assert found is not None
    assert await read_whole(found) == ([Delta("said "), Delta("meanwhile")], DONE)


async def test_a_reader_waits_while_redis_is_away_and_is_told_in_the_end(
    both: Sequence[Instance], redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "PATIENCE_SECONDS", 1.0)
    owner, other = both
    one, two = ask(), ask()
    records = [await owner.start(turn) for turn in (one, two)]
    for record in records:
        record.append([Delta("a"), Delta("b")])
    found = [await other.log.find(turn.key) for turn in (one, two)]
    assert found[0] is not None
    assert found[1] is not None
    await eventually(lambda: all(copy is not None and copy.count() == 2 for copy in found))
    redis.kill()
    await lost(*both)
    records[1].append([Delta("c"), Delta("d")])
    await owner.end(two, records[1], DONE)
    assert await read_whole(found[1]) == ([Delta("a"), Delta("b"), Delta("cd")], DONE), "the database knows its end"
    _, outcome = await read_whole(found[0])
    assert outcome.refusal is not None
    assert outcome.refusal.kind.code == "store_unavailable"
    redis.start()
    await back(*both)
    again = await other.log.find(one.key)
    assert again is not None
    assert again is not found[0]
    records[0].finish(DONE)
    assert await read_whole(again) == ([Delta("a"), Delta("b")], DONE), "that is not what became of the reply"


@pytest.mark.parametrize("said", [0, 3])
async def test_readers_of_an_instance_that_died_are_told(
    both: Sequence[Instance], redis: RedisServer, said: int
) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    record.append([Delta(f"{number}") for number in range(said)])
    await owner.writer.saved()
    found = await other.log.find(turn.key)
    assert found is not None
    await eventually(lambda: found.count() == said)
    await owner.die()
    with redis.client() as client:
        client.delete(f"chatcore:i:{owner.id}")
    await asyncio.sleep(GRACE_SECONDS)
    deltas, outcome = await read_whole(found)
    assert len(deltas) == said
    assert outcome.refusal is not None
    assert outcome.refusal.kind.code == "reply_gone"
    if said:
        retried = await other.log.find(turn.key, "hello")
        assert retried is not None
        assert len((await read_whole(retried))[0]) == said
    else:
        with pytest.raises(Refusal, match="reply_gone"):
            await other.log.find(turn.key, "hello")
        assert await other.log.find(turn.key) is None
    assert await other.log.claim(turn) is None, "a message that was cut off is not answered a second time"


async def test_an_instance_that_stops_in_order_leaves_the_ends_behind(
    both: Sequence[Instance], redis: RedisServer
) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    record.append([Delta("a"), Delta("b")])
    record.finish(DONE)
    await owner.close()
    with redis.client() as client:
        assert not client.exists(f"chatcore:i:{owner.id}")
    found = await other.log.find(turn.key)
    assert found is not None
    assert await read_whole(found) == ([Delta("a"), Delta("b")], DONE)


async def test_a_message_released_while_redis_was_away_is_released_when_it_is_back(
    both: Sequence[Instance], redis: RedisServer
) -> None:
    owner, other = both
    turn = ask()
    record = await owner.start(turn)
    redis.pause()
    await asyncio.sleep(0)
    unsent = Outcome(finish_reason="error", duration_ms=3, refusal=Refusal(UPSTREAM_UNAVAILABLE), sent=False)
    await owner.end(turn, record, unsent)
    redis.resume()
    await back(*both)
    await owner.writer.saved()
    await eventually(lambda: not _held(redis, turn))
    assert await other.log.find(turn.key, "hello") is None
    await other.start(turn)


def _held(server: RedisServer, turn: Turn) -> bool:
    with server.client() as client:
        return bool(client.exists(f"chatcore:c:{turn.session_id}:{turn.message_id}"))


async def test_a_session_erased_while_redis_was_away_is_erased_there_when_it_is_back(
    both: Sequence[Instance], redis: RedisServer
) -> None:
    owner, other = both
    turn = ask()
    asked_to_stop: list[object] = []

    async def stop(what: object) -> None:
        asked_to_stop.append(what)

    other.log.peers.listen(stop)
    record = await owner.start(turn)
    record.append([Delta("a"), Delta("b")])
    record.finish(DONE)
    await eventually(lambda: _entries(redis, turn) > 0)
    redis.pause()
    await eventually(lambda: not owner.link.up)
    await owner.log.drop(turn.session_id)
    await owner.log.peers.stop_all(turn.session_id)
    redis.resume()
    await back(*both)
    await eventually(lambda: not _held(redis, turn) and not _entries(redis, turn))
    await eventually(lambda: asked_to_stop == [turn.session_id])


async def test_an_instance_that_does_not_answer_makes_a_stop_fail(
    both: Sequence[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "ASK_SECONDS", 0.5)
    owner, other = both

    async def never(_: object) -> None:
        await asyncio.sleep(60)

    owner.log.peers.listen(never)
    turn = ask()
    record = await owner.start(turn)
    with pytest.raises(StoreUnavailableError):
        await other.log.peers.stop(turn.key)
    record.finish(DONE)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40)
SAID = st.lists(st.builds(Delta, TEXTS, st.booleans()), min_size=1, max_size=8)
HAPPENED = st.one_of(SAID, st.sampled_from(["wait", "emptied", "cut off", "emptied and cut off"]))


@hypothesis.settings(
    max_examples=8, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(happened=st.lists(HAPPENED, min_size=2, max_size=12))
def test_whatever_happens_to_redis_a_follower_has_exactly_the_events_of_the_owner(
    database_of_module: Database, redis_server: RedisDatabase, happened: list[list[Delta] | str]
) -> None:
    asyncio.run(_followed_through(database_of_module, redis_server, happened))


async def _followed_through(database: Database, server: RedisDatabase, happened: list[list[Delta] | str]) -> None:
    with tempfile.TemporaryDirectory() as folder, server.client() as client:
        async with instances(2, database, server.url, Path(folder)) as (owner, other):
            turn = ask()
            record = await owner.start(turn)
            found = await other.log.find(turn.key)
            assert found is not None
            reading = asyncio.create_task(read_whole(found, seconds=60))
            said: list[Delta] = []
            for what in happened:
                if not isinstance(what, str):
                    record.append(what)
                    said += what
                if what in ("emptied", "emptied and cut off"):
                    client.flushall()
                if what in ("cut off", "emptied and cut off"):
                    client.client_kill_filter(_type="normal", skipme=True)
                await asyncio.sleep(0.06 if what == "wait" else 0.005)
            record.finish(DONE)
            assert await reading == (said, DONE)
