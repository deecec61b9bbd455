"""What `chatcore.record` makes of entries: the same as a plain model, however they come in batches, and only once."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcore.analytics import DAY_SECONDS, HOUR_SECONDS, MOST_PLACES
from chatcore.happenings import Crashed
from chatcore.stores.postgres import sessions
from chatcore.stores.postgres.entries import Closed, Entry, Opened, Rated
from chatcore.stores.postgres.journal import Numbered
from chatcore.stores.postgres.recorder import Recorder
from chatcore.stores.postgres.statements import statement
from chatcore.stores.postgres.upkeep import Upkeep
from tests.contracts.sessions import SOMEBODY
from tests.support import postgres_bench
from tests.support.background import eventually
from tests.support.clock import START, ManualClock
from tests.support.databases import Database
from tests.support.postgres_bench import (
    WITHIN_SECONDS,
    PostgresBench,
    closed,
    numbered,
    opened,
    rated,
    released,
    uuid_of,
    whole,
)

SESSIONS = ("s1", "S1")
NAMES = ("a", "b")
SUM = "SELECT {}, sum({})::bigint FROM chatcore.{} GROUP BY {}"


@pytest.fixture(name="target", scope="module")
def _target() -> Iterator[Database]:
    database = postgres_bench.migrated()
    yield database
    database.drop()


@pytest.fixture(name="bench")
async def _bench(target: Database, tmp_path: Path) -> AsyncIterator[PostgresBench]:
    postgres_bench.emptied(target)
    async with postgres_bench.running(target, tmp_path / "journal.db", ManualClock()) as bench:
        yield bench


def _at(entry: Opened) -> int:
    return entry.at_us // 1_000_000


class Model:
    """What the tables say after entries that came one by one, in plain Python."""

    def __init__(self) -> None:
        self.turns: dict[tuple[str, str], dict[str, Any]] = {}
        self.messages: dict[tuple[str, str, int], tuple[int, str]] = {}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.figures: dict[tuple[str, ...], int] = {}

    def _count(self, *what: Any, by: int = 1) -> None:
        self.figures[what] = self.figures.get(what, 0) + by

    def take(self, entry: Entry) -> None:
        key = (entry.session_id, entry.message_id)
        match entry:
            case Opened():
                self._open(key, entry)
            case Closed():
                self._close(key, entry)
            case Rated():
                self._rate(key, entry)
            case _:
                if key in self.turns:
                    self.turns[key]["state"] = "released"

    def _open(self, key: tuple[str, str], entry: Opened) -> None:
        turn = self.turns.get(key)
        if turn is not None and turn["state"] != "released":
            return
        fresh = entry.session_id not in self.sessions
        if fresh:
            told = {"bot": entry.bot, "created": entry.at_us, "origin": entry.origin, "page": entry.page, "seen": 0}
            counts = dict.fromkeys(("messages", "replies", "errors", "ms", "up", "down"), 0)
            self.sessions[entry.session_id] = {**told, **counts, "visitor": None}
        session = self.sessions[entry.session_id]
        if turn is None:
            turn = self.turns[key] = {"bot": entry.bot, "at": entry.at_us, "rating": None}
        turn |= {"state": "open", "ms": None}
        self.messages.setdefault((*key, 0), (turn["at"], entry.text))
        session["messages"] += 1
        session["seen"] = max(session["seen"], entry.at_us)
        session["visitor"] = session["visitor"] or entry.user
        at = turn["at"] // 1_000_000
        hour, day = at // HOUR_SECONDS * HOUR_SECONDS, at // DAY_SECONDS * DAY_SECONDS
        for count, by in (("messages", 1), ("sessions", int(fresh))):
            self._count("hours", count, hour, turn["bot"], by=by)
            self._count("origins", count, day, turn["bot"], entry.origin, by=by)
            self._count("pages", count, day, turn["bot"], entry.page, by=by)

    def _close(self, key: tuple[str, str], entry: Closed) -> None:
        turn = self.turns.get(key)
        if turn is None or turn["state"] != "open":
            return
        turn |= {"state": entry.finish_reason, "ms": entry.duration_ms}
        if entry.text:
            self.messages.setdefault((*key, 1), (max(entry.at_us, turn["at"]), entry.text))
        session = self.sessions[entry.session_id]
        hour = turn["at"] // 1_000_000 // HOUR_SECONDS * HOUR_SECONDS
        if entry.finish_reason == "error":
            session["errors"] += 1
            self._count("hours", "errors", hour, turn["bot"])
        else:
            session["replies"] += 1
            session["ms"] += entry.duration_ms
            self._count("hours", "replies", hour, turn["bot"])
            self._count("times", entry.bucket, hour, turn["bot"])

    def _rate(self, key: tuple[str, str], entry: Rated) -> None:
        turn = self.turns.get(key)
        if turn is None:
            return
        hour = turn["at"] // 1_000_000 // HOUR_SECONDS * HOUR_SECONDS
        for rating in ("up", "down"):
            by = (entry.rating == rating) - (turn["rating"] == rating)
            self.sessions[entry.session_id][rating] += by
            self._count("hours", rating, hour, turn["bot"], by=by)
        turn["rating"] = entry.rating


def told_by(ask: Callable[[str], Sequence[tuple[Any, ...]]]) -> Model:
    """Read the tables into a model; figures are added up over their shards."""
    model = Model()
    for session, message, bot, at, rating, state, ms in ask(
        "SELECT session_id, message_id::text, bot, chatcore.microseconds(accepted_at), rating, state, duration_ms "
        "FROM chatcore.turns"
    ):
        model.turns[session, message] = {"bot": bot, "at": at, "rating": rating, "state": state, "ms": ms}
    for session, message, role, at, said in ask(
        "SELECT session_id, message_id::text, role, chatcore.microseconds(created_at), content FROM chatcore.messages"
    ):
        model.messages[session, message, role] = (at, said)
    names = ("bot", "created", "origin", "page", "seen", "messages", "replies", "errors", "ms", "up", "down", "visitor")
    for session, *values in ask(
        "SELECT id, bot, chatcore.microseconds(created_at), origin, page, chatcore.microseconds(seen_at), messages, "
        "replies, errors, reply_ms, "
        "feedback_up, feedback_down, visitor FROM chatcore.sessions"
    ):
        model.sessions[session] = dict(zip(names, values, strict=True))
    counts = {"sessions": "sessions", "messages": "messages", "replies": "replies", "errors": "errors"}
    counts |= {"up": "feedback_up", "down": "feedback_down"}
    for name, column in counts.items():
        rows = ask(SUM.format("hour, bot", column, "hours", "1, 2"))
        model.figures |= {("hours", name, hour, bot): count for hour, bot, count in rows}
    for table in ("origins", "pages"):
        for name in ("sessions", "messages"):
            rows = ask(SUM.format("day, bot, name", name, table, "1, 2, 3"))
            model.figures |= {(table, name, day, bot, place): count for day, bot, place, count in rows}
    rows = ask("SELECT hour, bot, bucket, sum(count)::bigint FROM chatcore.reply_times GROUP BY 1, 2, 3")
    model.figures |= {("times", bucket, hour, bot): count for hour, bot, bucket, count in rows}
    return model


def same(ask: Callable[[str], Sequence[tuple[Any, ...]]], model: Model) -> None:
    """Compare all tables with the model."""
    told = told_by(ask)
    assert told.turns == model.turns
    assert told.messages == model.messages
    assert told.sessions == model.sessions
    assert {what: count for what, count in told.figures.items() if count} == {
        what: count for what, count in model.figures.items() if count
    }


@st.composite
def entries_of_visitors(draw: st.DrawFn) -> list[Entry]:
    """Make entries whose times grow, over a change of the hour and of the day; any entry of any of a few turns."""
    entries: list[Entry] = []
    at = START - START % DAY_SECONDS + DAY_SECONDS - 2 * HOUR_SECONDS
    for _ in range(draw(st.integers(1, 24))):
        at += draw(st.sampled_from((0.00001, 1.0, 1700.0)))  # who came first is told by the time
        session, name = draw(st.sampled_from(SESSIONS)), draw(st.sampled_from(NAMES))
        match draw(st.sampled_from(("o", "o", "c", "c", "w", "r", "r", "f"))):
            case "o" | "w" as what:
                places = {"origin": draw(st.sampled_from(("", "https://a.test"))), "page": draw(st.sampled_from("pq"))}
                user = draw(st.sampled_from((None, "u1", "u2")))
                bot = draw(st.sampled_from(("default", "shop")))
                entries.append(opened(name, session, at, f"asked {len(entries)}", bot=bot, user=user, **places))
                if what == "w":
                    entries.append(closed(name, session, at + 2, f"said {len(entries)}"))
            case "c":
                how = draw(st.sampled_from(("complete", "stopped", "error")))
                ended = closed(name, session, at, draw(st.sampled_from(("", "yes"))), finish_reason=how)
                entries.append(ended)
            case "r":
                entries.append(rated(name, session, draw(st.sampled_from(("up", "down")))))
            case _:
                entries.append(released(name, session))
    return entries


@st.composite
def batches_of(draw: st.DrawFn, entries: Sequence[Entry]) -> list[tuple[int, Sequence[Numbered]]]:
    """Cut entries into batches for one of three shards; some come again, alone or with what follows them."""
    batches: list[tuple[int, Sequence[Numbered]]] = []
    all_of_them = numbered(entries)
    done = 0
    while done < len(all_of_them):
        begin = max(done - draw(st.sampled_from((0, 0, 0, 1, 2, 7))), 0)
        done = min(done + draw(st.integers(1, 12)), len(all_of_them))
        batches.append((draw(st.integers(0, 2)), all_of_them[begin:done]))
    return batches


@pytest.fixture(name="superuser", scope="module")
def _superuser(target: Database) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(target.superuser_url, autocommit=True) as connection:
        yield connection


@given(data=st.data())
def test_any_entries_in_any_batches_are_what_a_plain_model_makes_of_them(
    target: Database, superuser: psycopg.Connection[Any], data: st.DataObject
) -> None:
    entries = data.draw(entries_of_visitors())
    batches = data.draw(batches_of(entries))
    model = Model()
    for entry in entries:
        model.take(entry)
    superuser.execute(postgres_bench.EMPTY.encode())
    assert not asyncio.run(recorded(target, batches))
    same(lambda statement: superuser.execute(statement.encode()).fetchall(), model)


async def recorded(target: Database, batches: Sequence[tuple[int, Sequence[Numbered]]]) -> list[Any]:
    """Write batches of one run as instances with different shards would, and give what went wrong."""
    happened: list[Any] = []
    database = postgres_bench.connected(target)
    for shard, batch in batches:
        recorder = Recorder(database, "", shard, happened.append)
        assert not (await recorder.record(uuid_of("run"), batch)).lost
    await database.close()
    return happened


async def test_a_name_beyond_the_first_thousand_of_a_day_is_counted_as_another(bench: PostgresBench) -> None:
    many = [
        opened(f"m{number}", f"s{number}", START + number / 100, page=f"p{number}", origin=f"o{number % 3}")
        for number in range(MOST_PLACES + 50)
    ]
    for begin in range(0, len(many), 350):
        await write(bench, many[begin : begin + 350], begin + 1)
    await write(bench, [opened("n1", "n", START + 60, page="p7"), opened("n2", "n", START + 61, page="q")], 5000)
    await write(bench, [opened("n3", "n", START + 62, page=""), opened("n4", "n", START + 63, bot="b", page="q")], 5002)
    pages = dict(bench.rows("SELECT bot || name, messages FROM chatcore.pages"))
    assert len(pages) == MOST_PLACES + 3
    assert [pages[name] for name in ("default(other)", "defaultp7", "default", "bq")] == [51, 2, 1, 1]
    assert bench.rows("SELECT count(*), sum(messages)::int FROM chatcore.origins WHERE bot = 'default'") == [(4, 1053)]


async def write(bench: PostgresBench, entries: Sequence[Entry], first: int = 1) -> Any:
    """Write entries of the instance's run in one call; none may be lost."""
    result = await bench.recorder.record(bench.recorder.run, numbered(entries, first))
    assert not result.lost, bench.happened
    return result


async def test_a_batch_whose_commit_nobody_heard_of_is_written_once(bench: PostgresBench) -> None:
    entries = [*whole("m1"), *whole("m2", "s2"), rated("m1")]
    for _ in range(3):
        await write(bench, entries)
    await write(bench, entries[3:])
    assert bench.rows("SELECT messages, replies, feedback_up FROM chatcore.sessions ORDER BY id") == [
        (1, 1, 1),
        (1, 1, 0),
    ]
    assert bench.rows("SELECT position FROM chatcore.journals") == [(5,)]


async def test_the_last_rating_of_a_reply_counts(bench: PostgresBench) -> None:
    for position, (rating, up, down) in enumerate((("up", 1, 0), ("up", 1, 0), ("down", 0, 1), ("up", 1, 0))):
        await write(bench, [*whole(), rated(rating=rating)], 3 * position + 1)
        assert bench.rows("SELECT feedback_up, feedback_down FROM chatcore.sessions") == [(up, down)]
        assert bench.rows("SELECT sum(feedback_up)::int, sum(feedback_down)::int FROM chatcore.hours") == [(up, down)]


async def test_of_a_batch_that_was_written_in_part_only_the_rest_is(bench: PostgresBench) -> None:
    entries: list[Entry] = [opened(), closed(text="", finish_reason="error"), released(), opened(), closed()]
    await write(bench, entries[:4])
    await write(bench, entries[2:], 3)
    await write(bench, entries)
    assert bench.rows("SELECT messages, replies, errors FROM chatcore.sessions") == [(2, 1, 1)]
    assert bench.rows("SELECT state FROM chatcore.turns") == [("complete",)]


async def test_two_instances_that_open_the_same_turn_have_one_message_and_the_second_is_told(
    bench: PostgresBench, tmp_path: Path
) -> None:
    async with postgres_bench.running(bench.target, tmp_path / "other.db", shard=1) as other:
        assert (await write(bench, [opened(text="mine")])).taken == frozenset()
        again = await write(other, [opened(text="yours"), opened("m2")])
        assert again.taken == {("s1", uuid_of("m1"))}
        await write(other, [closed(text="first")], 3)
        await write(bench, [closed(text="second")], 2)
    assert bench.rows(
        "SELECT role, content FROM chatcore.messages WHERE message_id = %s ORDER BY role", uuid_of("m1")
    ) == [
        (0, "mine"),
        (1, "first"),
    ]
    assert bench.rows("SELECT messages, replies, errors FROM chatcore.sessions") == [(2, 1, 0)]
    assert bench.rows("SELECT sum(sessions)::int, sum(messages)::int FROM chatcore.hours") == [(1, 2)]


async def test_instances_that_open_the_same_new_turns_at_once_share_them_without_a_copy(
    bench: PostgresBench, tmp_path: Path
) -> None:
    async with postgres_bench.running(bench.target, tmp_path / "other.db", shard=1) as other:
        for round_number in range(20):
            turns = [opened(f"m{round_number}", f"s{round_number}-{number}") for number in range(12)]
            mine, theirs = await asyncio.gather(
                write(bench, turns, 100 * round_number + 1), write(other, turns[::-1], 100 * round_number + 1)
            )
            assert len(mine.taken) + len(theirs.taken) == len(turns)
    assert bench.rows("SELECT count(*), sum(messages) FROM chatcore.sessions") == [(240, 240)]
    assert bench.rows("SELECT sum(sessions)::int, sum(messages)::int FROM chatcore.hours") == [(240, 240)]
    assert bench.rows("SELECT count(*) FROM chatcore.messages") == [(240,)]


async def test_instances_that_meet_in_every_row_never_wait_for_each_other_in_a_circle(
    bench: PostgresBench, tmp_path: Path
) -> None:
    dice = random.Random(5)  # noqa: S311 - no secret
    bots = ("a", "b", "c")
    async with postgres_bench.running(bench.target, tmp_path / "other.db", shard=0) as other:
        for number in range(40):
            parts: list[list[Entry]] = []
            for who in ("x", "y"):
                keys = [(f"{who}{number}-{place}", f"s{place}", dice.choice(bots)) for place in range(6)]
                dice.shuffle(keys)
                before = [(f"{who}{number - 1}-{place}", f"s{place}") for place in range(6)] if number else []
                dice.shuffle(before)
                parts.append(
                    [
                        *(opened(name, session, START + number * 60, bot=bot) for name, session, bot in keys),
                        *(closed(name, session) for name, session in before),
                    ]
                )
            await asyncio.gather(write(bench, parts[0], 100 * number + 1), write(other, parts[1], 100 * number + 1))
    assert bench.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]
    assert bench.rows("SELECT sum(messages), sum(replies) FROM chatcore.sessions") == [(480, 468)]


async def test_a_message_that_was_released_runs_again_also_within_one_batch(bench: PostgresBench) -> None:
    failed = closed(text="", finish_reason="error", error_code="upstream_unavailable")
    result = await write(
        bench, [opened(text="first"), failed, released(), opened(text="first", at=START + 9), closed()]
    )
    assert not result.taken
    assert bench.rows("SELECT state, error_code FROM chatcore.turns") == [("complete", None)]
    assert bench.rows("SELECT messages, replies, errors FROM chatcore.sessions") == [(2, 1, 1)]
    assert bench.rows("SELECT role, content FROM chatcore.messages ORDER BY role") == [(0, "first"), (1, "hello back")]


async def test_a_reply_that_was_given_up_counts_as_an_error_until_its_end_comes(bench: PostgresBench) -> None:
    await write(bench, [opened("m1"), opened("m2"), opened("m3", at=START + 5000)])
    bench.clock.advance(4000)  # type: ignore[attr-defined]  # it is the clock of the tests
    upkeep = Upkeep(bench.settings, bench.database, 600.0, bench.clock, bench.happened.append)
    upkeep.tick(bench.clock.monotonic())
    await eventually(lambda: bench.rows("SELECT errors FROM chatcore.sessions") == [(2,)], WITHIN_SECONDS)
    assert bench.rows("SELECT state, error_code FROM chatcore.turns ORDER BY accepted_at, message_id") == [
        ("cut", "reply_gone"),
        ("cut", "reply_gone"),
        ("open", None),
    ]
    await write(bench, [closed("m1"), closed("m2", finish_reason="error", text="")], 4)
    assert bench.rows("SELECT replies, errors FROM chatcore.sessions") == [(1, 1)]
    assert bench.rows("SELECT sum(replies)::int, sum(errors)::int FROM chatcore.hours") == [(1, 1)]
    await upkeep.close()
    assert not bench.of(Crashed)


async def test_an_entry_that_the_database_refuses_is_lost_alone(bench: PostgresBench) -> None:
    bad = closed("m3", finish_reason="nonsense")
    entries = [*whole("m1"), *whole("m2"), opened("m3"), bad, *whole("m4"), opened("m5", text="a\0b"), *whole("m6")]
    result = await bench.recorder.record(bench.recorder.run, numbered(entries))
    assert [entry for _, entry in result.lost] == [bad, opened("m5", text="a\0b")]
    assert bench.rows("SELECT messages, replies FROM chatcore.sessions") == [(5, 4)]
    assert len(bench.of(Crashed)) == 2


async def test_texts_of_any_size_and_kind_are_kept_and_can_be_searched(bench: PostgresBench) -> None:
    words = " ".join(f"\u33af{number:x}" * 40 for number in range(3000))  # the sign is six characters without accents
    astral = " ".join(chr(0x20000 + number) for number in range(40_000))
    odd = "\u202e\ufffd\ud7ff'\"\\\n\t\x7f"
    for number, said in enumerate(("x" * 3_000_000, "a " * 400_000, words, astral, odd)):
        await write(bench, [opened(f"m{number}", text=said), closed(f"m{number}", text=said)], 10 * number + 1)
        kept = bench.rows(
            "SELECT content = %s FROM chatcore.messages WHERE message_id = %s", said, uuid_of(f"m{number}")
        )
        assert kept == [(True,), (True,)]


async def test_an_erased_session_never_comes_back(bench: PostgresBench) -> None:
    await write(bench, whole())
    await bench.sessions.erase("s1", SOMEBODY)
    await write(bench, [opened("m2"), closed("m2"), closed("m1"), rated("m1"), *whole("m3", "s2")], 3)
    assert bench.rows("SELECT id FROM chatcore.sessions") == [("s2",)]
    assert bench.rows("SELECT DISTINCT session_id FROM chatcore.turns") == [("s2",)]
    assert bench.rows("SELECT DISTINCT session_id FROM chatcore.messages") == [("s2",)]
    assert bench.rows("SELECT sum(sessions)::int, sum(messages)::int FROM chatcore.hours") == [(2, 2)]


def waiting_for_locks(bench: PostgresBench) -> bool:
    return bench.rows("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") != [(0,)]


@pytest.mark.parametrize("known", [True, False])
async def test_a_write_that_waits_for_an_erasure_brings_nothing_back(bench: PostgresBench, known: bool) -> None:
    if known:
        await write(bench, [opened()])
    with psycopg.connect(bench.target.url) as other:  # the erasure as PostgresSessions makes it, held before its end
        other.execute(
            "INSERT INTO chatcore.sessions AS x VALUES ('s1', '', now(), now(), '', '', '') "
            "ON CONFLICT (id) DO UPDATE SET seen_at = x.seen_at"
        )
        other.execute("INSERT INTO chatcore.erased VALUES ('s1', now())")
        for name in sessions.ERASE[2:]:
            other.execute(str(statement(name)).replace(":id", "'s1'").encode())
        writing = asyncio.create_task(write(bench, [*whole("m2"), closed("m1")], 2))
        await eventually(lambda: waiting_for_locks(bench), WITHIN_SECONDS)
        other.commit()
        await writing
    for table in ("sessions", "turns", "messages"):
        assert bench.rows(f"TABLE chatcore.{table}") == [], table


async def test_an_erasure_that_waits_for_a_write_takes_that_along(bench: PostgresBench) -> None:
    with psycopg.connect(bench.target.superuser_url) as other:
        other.execute("LOCK TABLE chatcore.reply_times IN EXCLUSIVE MODE")  # the write stops near its end
        writing = asyncio.create_task(write(bench, whole()))
        await eventually(lambda: waiting_for_locks(bench), WITHIN_SECONDS)
        erasing = asyncio.create_task(bench.sessions.erase("s1", SOMEBODY))
        await eventually(
            lambda: bench.rows("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == [(2,)],
            WITHIN_SECONDS,
        )
        other.rollback()
        await writing
        await erasing
    for table in ("sessions", "turns", "messages"):
        assert bench.rows(f"TABLE chatcore.{table}") == [], table
    assert await bench.sessions.is_erased("s1")


def test_writes_and_erasures_at_once_leave_nothing_of_what_was_erased(target: Database, tmp_path: Path) -> None:
    postgres_bench.emptied(target)
    stop = threading.Event()

    async def write_on(number: int) -> None:
        async with postgres_bench.running(target, tmp_path / f"{number}.db", shard=number) as bench:
            position = 0
            while not stop.is_set():
                entries = [
                    entry
                    for session in range(10)
                    for entry in whole(f"{number}-{position}", f"s{session}", START + position)
                ]
                await write(bench, entries, position + 1)
                position += len(entries)

    async def erase_all() -> None:
        async with postgres_bench.running(target, tmp_path / "erasing.db") as bench:
            for session in range(10):
                await bench.sessions.erase(f"s{session}", SOMEBODY)
            await write(bench, whole("last", "s3"))

    threads = [threading.Thread(target=asyncio.run, args=(write_on(number),)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        asyncio.run(erase_all())
    finally:
        stop.set()
        for thread in threads:
            thread.join(WITHIN_SECONDS)
    for table in ("sessions", "turns", "messages"):
        assert target.sql(f"TABLE chatcore.{table}") == [], table


async def test_a_reply_is_never_older_than_its_message_though_clocks_jump(bench: PostgresBench) -> None:
    await write(bench, [opened("m1", at=START), closed("m1", at=START - 60), opened("m2", at=START + 1)])
    await write(bench, [closed("m2", at=START - 60)], 4)
    assert bench.rows("SELECT count(*) FROM chatcore.messages WHERE created_at = accepted_at") == [(4,)]
