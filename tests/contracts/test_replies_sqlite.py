"""The reply log of SQLite mode: the contract, and which message ids a file still knows after a restart."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatcore.errors import Refusal
from chatcore.model import Outcome, Turn
from chatcore.ports import StoreUnavailableError
from chatcore.stores.sqlite.entries import KEPT_TURN_SECONDS
from chatcore.stores.sqlite.questions import turns_after
from tests.contracts.replies import DONE, ReplyLogContract, claimed
from tests.contracts.sessions import settled
from tests.support import sqlite_bench
from tests.support.clock import ManualClock
from tests.support.sqlite_bench import SqliteBench

UNSENT = Outcome(finish_reason="error", duration_ms=3, sent=False)


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture(name="bench")
async def _bench(path: Path) -> AsyncIterator[SqliteBench]:
    async with sqlite_bench.opened(path, ManualClock()) as bench:
        yield bench


class TestSqliteReplies(ReplyLogContract):
    """The port's promises."""


def asked(clock: ManualClock, text: str = "hello", message_id: str = "m1") -> Turn:
    return Turn(session_id="s1", bot="default", message_id=message_id, text=text, received_at=clock.now())


async def answer(bench: SqliteBench, turn: Turn, outcome: Outcome = DONE) -> None:
    """Let a message have its reply, as the proxy does."""
    record = await claimed(bench.log, turn)
    bench.sessions.open_turn(turn)
    await settled(bench.sessions.close_turn(turn, outcome, record))
    record.finish(outcome)
    if not outcome.sent:
        await bench.log.drop(turn.key)


async def load(bench: SqliteBench) -> None:
    """Learn what the file knows, as a start does."""
    for key in await bench.reader.run(turns_after, ("", ""), 1000):
        bench.used.add(key)
    bench.used.complete = True


async def refusal_of(bench: SqliteBench, turn: Turn) -> str:
    """Give the code that claiming and finding both refuse a message with."""
    with pytest.raises(Refusal) as claiming:
        await bench.log.claim(turn)
    with pytest.raises(Refusal) as finding:
        await bench.log.find(turn.key, turn.text)
    assert claiming.value.kind.code == finding.value.kind.code
    return claiming.value.kind.code


@pytest.mark.parametrize("loaded", [False, True])
async def test_an_answered_message_is_not_answered_again_after_a_restart(path: Path, *, loaded: bool) -> None:
    clock = ManualClock()
    async with sqlite_bench.opened(path, clock) as bench:
        await answer(bench, asked(clock))
    async with sqlite_bench.opened(path, clock) as bench:
        if loaded:
            await load(bench)
        assert await refusal_of(bench, asked(clock)) == "reply_gone"
        assert await refusal_of(bench, asked(clock, "something else")) == "message_id_reused"
        assert await bench.log.find(("s1", "m1")) is None, "asked for without a text it is just not there"
        await answer(bench, asked(clock, message_id="m2"))


async def test_the_same_holds_after_a_kill(bench: SqliteBench) -> None:
    await answer(bench, asked(bench.clock))
    async with sqlite_bench.opened(sqlite_bench.as_killed(bench.path), bench.clock) as left:
        assert await refusal_of(left, asked(bench.clock)) == "reply_gone"


async def test_the_same_holds_when_memory_has_let_go_of_it(bench: SqliteBench) -> None:
    await answer(bench, asked(bench.clock))
    bench.clock.advance(3601)
    bench.log.sweep(bench.clock.monotonic())
    assert await refusal_of(bench, asked(bench.clock)) == "reply_gone"
    assert await refusal_of(bench, asked(bench.clock, "else")) == "message_id_reused"


@pytest.mark.parametrize("loaded", [False, True])
async def test_a_message_that_n8n_never_got_may_come_again_at_once(bench: SqliteBench, *, loaded: bool) -> None:
    bench.used.complete = loaded
    for _ in range(5):
        await answer(bench, asked(bench.clock), UNSENT)
        assert await bench.log.find(("s1", "m1"), "hello") is None
    await answer(bench, asked(bench.clock, "with another text"))
    bench.clock.advance(3601)
    bench.log.sweep(bench.clock.monotonic())
    assert await refusal_of(bench, asked(bench.clock)) == "message_id_reused"
    assert await refusal_of(bench, asked(bench.clock, "with another text")) == "reply_gone"


async def test_a_message_that_n8n_never_got_may_come_again_after_a_restart(path: Path) -> None:
    clock = ManualClock()
    async with sqlite_bench.opened(path, clock) as bench:
        await answer(bench, asked(clock), UNSENT)
        await bench.written()
        assert not bench.rows("SELECT 1 FROM turns")
        assert bench.rows("SELECT messages, errors FROM sessions") == [(1, 1)], "it is counted nevertheless"
    async with sqlite_bench.opened(path, clock) as bench:
        await answer(bench, asked(clock))
        assert bench.rows("SELECT messages, replies, errors FROM sessions") == [(2, 1, 1)]


async def test_what_was_freed_does_not_fill_memory(bench: SqliteBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore.stores.sqlite.replies.MOST_FREED", 10)
    for number in range(30):
        await bench.log.drop(("s1", f"m{number}"))
    assert bench.log.freed == 10
    await answer(bench, asked(bench.clock, message_id="m29"))
    assert bench.log.freed == 9


async def test_an_id_is_free_again_after_a_day(path: Path) -> None:
    clock = ManualClock()
    async with sqlite_bench.opened(path, clock) as bench:
        await answer(bench, asked(clock))
    clock.advance(KEPT_TURN_SECONDS - 1)
    async with sqlite_bench.opened(path, clock) as bench:
        assert await refusal_of(bench, asked(clock)) == "reply_gone"
        clock.advance(2)
        assert await bench.log.find(("s1", "m1"), "hello") is None
        await answer(bench, asked(clock, "another text"))
        assert bench.rows("SELECT accepted_at, open FROM turns") == [(clock.now(), 0)]
    async with sqlite_bench.opened(path, clock) as bench:
        assert await refusal_of(bench, asked(clock, "another text")) == "reply_gone"


async def test_once_all_are_known_a_new_message_asks_no_file(bench: SqliteBench) -> None:
    await answer(bench, asked(bench.clock))
    await load(bench)
    await bench.write_with("ALTER TABLE turns RENAME TO turned")
    assert await bench.log.find(("s1", "m2"), "hello") is None
    assert await bench.log.claim(asked(bench.clock, message_id="m2")) is not None


async def test_a_file_that_cannot_be_read_is_told_as_the_port_says(bench: SqliteBench) -> None:
    await bench.write_with("ALTER TABLE turns RENAME TO turned")
    with pytest.raises(StoreUnavailableError):
        await bench.log.claim(asked(bench.clock))
    with pytest.raises(StoreUnavailableError):
        await bench.log.find(("s1", "m1"), "hello")
