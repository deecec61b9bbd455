"""What every reply log must do: the conformance suite of the `ReplyLog` port. Its clock is moved by hand."""

from collections.abc import Sequence
from typing import Protocol

import pytest

from chatcore.errors import Refusal
from chatcore.model import Delta, Outcome, Turn
from chatcore.ports import ReplyLog, ReplyRecord
from tests.support.clock import ManualClock

KEEP_SECONDS = 3600.0
REPLY_MAX_BYTES = 20_000
M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"
DONE = Outcome(finish_reason="complete", duration_ms=12)


class Bench(Protocol):
    """What an adapter's test gives the suite."""

    clock: ManualClock
    log: ReplyLog


def turn(message_id: str = M1, text: str = "hello", session_id: str = "s1") -> Turn:
    return Turn(session_id=session_id, bot="default", message_id=message_id, text=text, received_at=0.0)


async def claimed(log: ReplyLog, asked: Turn) -> ReplyRecord:
    record = await log.claim(asked)
    assert record is not None
    return record


def texts(deltas: Sequence[Delta]) -> list[str]:
    return [delta.content for delta in deltas]


class ReplyLogContract:
    """Run by each adapter with a `bench` fixture."""

    async def test_a_key_is_claimed_once(self, bench: Bench) -> None:
        assert await bench.log.claim(turn()) is not None
        assert await bench.log.claim(turn()) is None
        assert await bench.log.claim(turn(session_id="s2")) is not None

    async def test_a_reply_is_found_by_its_session_alone(self, bench: Bench) -> None:
        record = await claimed(bench.log, turn())
        assert await bench.log.find(("s1", M1)) is record
        assert await bench.log.find(("s2", M1)) is None

    async def test_the_same_id_with_another_text_is_refused(self, bench: Bench) -> None:
        await claimed(bench.log, turn())
        assert await bench.log.find(("s1", M1), "hello") is not None
        with pytest.raises(Refusal, match="message_id_reused"):
            await bench.log.find(("s1", M1), "hello!")

    @pytest.mark.parametrize("finished", [False, True])
    async def test_deltas_are_read_from_any_event_on(self, bench: Bench, *, finished: bool) -> None:
        record = await claimed(bench.log, turn())
        record.append([Delta("Grüße"), Delta("𝄞 clef")])
        record.append([Delta("next", opens_segment=True)])
        if finished:
            record.finish(DONE)
        assert record.count() == 3
        assert texts(record.read(0, 1000)) == ["Grüße", "𝄞 clef", "next"]
        assert texts(record.read(1, 1000)) == ["Grüße", "𝄞 clef", "next"]
        assert texts(record.read(2, 1000)) == ["𝄞 clef", "next"]
        assert record.read(3, 1000)[0] == Delta("next", opens_segment=True)
        assert not record.read(4, 1000)
        assert not record.read(99, 1000)

    async def test_a_reader_is_given_about_as_much_as_it_asks_for(self, bench: Bench) -> None:
        record = await claimed(bench.log, turn())
        record.append([Delta("x" * 100) for _ in range(50)])
        assert 1 <= len(record.read(0, 250)) <= 3
        assert len(record.read(0, 1)) == 1

    async def test_watchers_learn_of_text_and_end(self, bench: Bench) -> None:
        record = await claimed(bench.log, turn())
        seen: list[str] = []

        def watcher() -> None:
            seen.append("changed")
            record.unwatch(watcher)  # as a reader that leaves does

        record.watch(watcher)
        record.append([Delta("a")])
        record.append([Delta("b")])
        assert seen == ["changed"]
        record.watch(watcher)
        record.finish(DONE)
        assert seen == ["changed", "changed"]
        assert record.outcome == DONE

    async def test_a_reply_over_its_limit_is_refused_and_keeps_what_it_had(self, bench: Bench) -> None:
        record = await claimed(bench.log, turn())
        record.append([Delta("ü" * (REPLY_MAX_BYTES // 2 - 1))])
        with pytest.raises(Refusal, match="reply_too_large"):
            record.append([Delta("üü")])
        assert record.count() == 1
        record.append([Delta("ü")])

    async def test_a_finished_reply_is_kept_for_its_time_and_no_longer(self, bench: Bench) -> None:
        record = await claimed(bench.log, turn())
        bench.clock.advance(2 * KEEP_SECONDS)
        bench.log.sweep(bench.clock.monotonic())
        assert await bench.log.find(("s1", M1)) is record, "a running reply does not expire"
        record.finish(DONE)
        bench.clock.advance(KEEP_SECONDS - 1)
        bench.log.sweep(bench.clock.monotonic())
        assert await bench.log.find(("s1", M1)) is record
        bench.clock.advance(2)
        bench.log.sweep(bench.clock.monotonic())
        assert await bench.log.find(("s1", M1)) is None

    async def test_a_dropped_reply_is_gone_for_its_readers_too(self, bench: Bench) -> None:
        record = await claimed(bench.log, turn())
        other = await claimed(bench.log, turn(M2))
        record.append([Delta("a")])
        await bench.log.drop(("s1", M1))
        assert await bench.log.find(("s1", M1)) is None
        with pytest.raises(Refusal, match="reply_gone"):
            record.read(0, 100)
        assert await bench.log.find(("s1", M2)) is other

    async def test_a_session_is_dropped_whole(self, bench: Bench) -> None:
        await claimed(bench.log, turn())
        (await claimed(bench.log, turn(M2))).finish(DONE)
        kept = await claimed(bench.log, turn(session_id="s2"))
        await bench.log.drop("s1")
        assert await bench.log.find(("s1", M1)) is None
        assert await bench.log.find(("s1", M2)) is None
        assert await bench.log.find(("s2", M1)) is kept

    async def test_dropping_what_is_not_there_is_fine(self, bench: Bench) -> None:
        await bench.log.drop("nobody")
        await bench.log.drop(("nobody", M1))
