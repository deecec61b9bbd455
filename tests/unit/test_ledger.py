"""The ledger: whatever is written together gives the tables that a plain model has, and all or nothing is written."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcore.analytics import DAY_SECONDS, HOUR_SECONDS, MOST_PLACES, OTHER, bucket_of
from chatcore.model import TurnKey
from chatcore.stores.sqlite import cleanup, ledger, questions
from chatcore.stores.sqlite.entries import GONE, Closed, Entry, Erased, Opened, Rated, Released
from chatcore.stores.sqlite.ledger import Ledger
from chatcore.stores.sqlite.state import take_over
from tests.support import sources
from tests.support.clock import ManualClock

DAY = 20_700 * DAY_SECONDS
TABLES = ("sessions", "turns", "erased", "hours", "reply_times", "origins", "pages", "limits")
KEYS = {
    "sessions": "id",
    "turns": "session_id, message_id",
    "erased": "session_id",
    "hours": "hour, bot",
    "reply_times": "hour, bot, bucket",
    "origins": "day, bot, name",
    "pages": "day, bot, name",
    "limits": "key",
}
Tables = dict[str, list[tuple[Any, ...]]]


@contextmanager
def new_file(path: Path | None = None) -> Iterator[sqlite3.Connection]:
    """Give a file with our tables, in memory where no path is named."""
    with closing(sqlite3.connect(path or ":memory:", isolation_level=None)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            for migration in sorted((sources.ROOT / "chatcore/stores/sqlite/migrations").glob("*.sql")):
                connection.executescript(migration.read_text("utf-8"))
        yield connection


def tables(connection: sqlite3.Connection) -> Tables:
    """Give all rows; columns in the order that the model has them in."""
    columns = {"sessions": SESSION_COLUMNS}
    return {
        table: connection.execute(
            f"SELECT {columns.get(table, '*')} FROM {table} ORDER BY {KEYS[table]}"  # noqa: S608 - names of ours
        ).fetchall()
        for table in TABLES
    }


SESSION_COLUMNS = (
    "id, bot, created_at, seen_at, origin, page, client, messages, replies, errors, reply_ms, feedback_up, "
    "feedback_down"
)


class Model:
    """What the entries mean, one after the other, in plain Python."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.turns: dict[TurnKey, dict[str, Any]] = {}
        self.erased: dict[str, float] = {}
        self.hours: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0] * 6)
        self.times: defaultdict[tuple[int, str, int], int] = defaultdict(int)
        self.places: dict[str, defaultdict[tuple[int, str, str], list[int]]] = {
            table: defaultdict(lambda: [0, 0]) for table in ("origins", "pages")
        }

    def add(self, entry: Entry) -> None:
        match entry:
            case Opened():
                self._open(entry)
            case Closed():
                self._close(entry)
            case Released():
                self.turns.pop(entry.key, None)
            case Rated():
                self._rate(entry)
            case Erased():
                self.erased.setdefault(entry.session_id, entry.at)
                self.sessions.pop(entry.session_id, None)
                self.turns = {key: turn for key, turn in self.turns.items() if key[0] != entry.session_id}

    def _open(self, entry: Opened) -> None:
        session_id, _ = entry.key
        begins = session_id not in self.erased and session_id not in self.sessions
        if begins:
            about = {"bot": entry.bot, "created_at": entry.at, "seen_at": entry.at, "origin": entry.origin}
            about |= {"page": entry.page, "client": entry.client}
            counts = ("messages", "replies", "errors", "reply_ms", "feedback_up", "feedback_down")
            self.sessions[session_id] = about | dict.fromkeys(counts, 0)
        if session_id not in self.erased:
            session = self.sessions[session_id]
            session["messages"] += 1
            session["seen_at"] = max(session["seen_at"], entry.at)
            self.turns[entry.key] = {
                "bot": entry.bot, "digest": entry.digest, "at": entry.at, "open": 1, "rating": None
            }  # fmt: skip
        hour = self.hours[_hour(entry.at), entry.bot]
        hour[0] += begins
        hour[1] += 1
        day = int(entry.at // DAY_SECONDS) * DAY_SECONDS
        for table, name in (("origins", entry.origin), ("pages", entry.page)):
            place = self.places[table][day, entry.bot, name]
            place[0] += begins
            place[1] += 1

    def _close(self, entry: Closed) -> None:
        failed = entry.finish_reason == "error"
        self.hours[_hour(entry.at), entry.bot][3 if failed else 2] += 1
        if not failed:
            self.times[_hour(entry.at), entry.bot, bucket_of(entry.duration_ms)] += 1
        session = self.sessions.get(entry.key[0])
        if session is not None:
            session["errors" if failed else "replies"] += 1
            session["reply_ms"] += 0 if failed else entry.duration_ms
        if entry.key in self.turns:
            self.turns[entry.key]["open"] = 0

    def _rate(self, entry: Rated) -> None:
        turn = self.turns.get(entry.key)
        if turn is None:
            return
        for rating, change in ((turn["rating"], -1), (entry.rating, 1)):
            if rating is not None:
                self.hours[_hour(turn["at"]), turn["bot"]][4 if rating == "up" else 5] += change
                self.sessions[entry.key[0]][f"feedback_{rating}"] += change
        turn["rating"] = entry.rating

    def tables(self) -> Tables:
        return {
            "sessions": sorted((one, *about.values()) for one, about in self.sessions.items()),
            "turns": sorted((*key, *turn.values()) for key, turn in self.turns.items()),
            "erased": sorted(self.erased.items()),
            "hours": sorted((*key, *counts) for key, counts in self.hours.items()),
            "reply_times": sorted((*key, count) for key, count in self.times.items()),
            **{
                table: sorted((*key, *counts) for key, counts in places.items())
                for table, places in self.places.items()
            },
            "limits": [],
        }


def _hour(at: float) -> int:
    return int(at // HOUR_SECONDS) * HOUR_SECONDS


SESSION = st.sampled_from(["s1", "s2", "s3"])
KEY = st.tuples(SESSION, st.sampled_from(["m1", "m2"]))
BOT = st.sampled_from(["default", "shop"])
AT = st.integers(0, 30).map(lambda number: DAY + number * 1800.5)
PLACE = st.sampled_from(["", OTHER, "https://a.test", "https://b.test/ä"])
ENTRY: st.SearchStrategy[Entry] = st.one_of(
    st.builds(Opened, key=KEY, bot=BOT, at=AT, digest=st.binary(max_size=2), origin=PLACE, page=PLACE, client=BOT),
    st.builds(
        Closed,
        key=KEY,
        bot=BOT,
        at=AT,
        finish_reason=st.sampled_from(["complete", "stopped", "error"]),
        duration_ms=st.integers(0, 90_000),
    ),
    st.builds(Released, key=KEY),
    st.builds(Rated, key=KEY, rating=st.sampled_from(["up", "down"])),
    st.builds(Erased, session_id=SESSION, at=AT),
)
LIVELY = st.lists(st.one_of(ENTRY, ENTRY.filter(lambda entry: not isinstance(entry, Erased))), max_size=24)
CUTS = st.lists(st.integers(0, 24), max_size=8)


def batches(entries: Sequence[Entry], cuts: Sequence[int]) -> list[list[Entry]]:
    """Cut entries at these places; some pieces are empty."""
    edges = [0, *sorted(min(cut, len(entries)) for cut in cuts), len(entries)]
    return [list(entries[begin:end]) for begin, end in pairwise(edges)]


@given(entries=LIVELY, cuts=CUTS, forgetful=st.booleans())
def test_any_batches_give_what_a_plain_model_says(entries: list[Entry], cuts: list[int], *, forgetful: bool) -> None:
    model = Model()
    for entry in entries:
        model.add(entry)
    clock = ManualClock()
    with new_file() as together, new_file() as alone:
        writer = Ledger(clock)
        for batch in batches(entries, cuts):
            writer.write(together, batch, ())
            if forgetful:
                clock.advance(601)
        one_by_one = Ledger(clock)
        for entry in entries:
            one_by_one.write(alone, [entry], ())
        assert tables(alone) == model.tables()
        assert tables(together) == model.tables()


@given(entries=LIVELY, cuts=CUTS, at=st.integers(0, 8))
def test_a_ledger_that_begins_anew_goes_on_the_same(entries: list[Entry], cuts: list[int], at: int) -> None:
    model = Model()
    with new_file() as connection:
        writer = Ledger(ManualClock())
        for number, batch in enumerate(batches(entries, cuts)):
            if number == at:
                writer = Ledger(ManualClock())
            writer.write(connection, batch, ())
        for entry in entries:
            model.add(entry)
        assert tables(connection) == model.tables()


@given(entries=LIVELY, cuts=CUTS)
def test_a_day_of_many_names_is_cut_into_batches_as_well(entries: list[Entry], cuts: list[int]) -> None:
    with new_file() as together, new_file() as alone, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "MOST_PLACES", 2)
        writer = Ledger(ManualClock())
        for batch in batches(entries, cuts):
            writer.write(together, batch, ())
        for entry in entries:
            Ledger(ManualClock()).write(alone, [entry], ())
        assert tables(together) == tables(alone)


def opened(session_id: str = "s1", message_id: str = "m1", at: float = DAY, **changes: Any) -> Opened:
    about = {"bot": "default", "digest": b"d", "origin": "o", "page": "p", "client": "c"} | changes
    return Opened(key=(session_id, message_id), at=at, **about)


def closed(session_id: str = "s1", message_id: str = "m1", at: float = DAY) -> Closed:
    return Closed((session_id, message_id), "default", at, "complete", 100)


EVERY_KIND: list[Entry] = [
    opened("kept"),
    closed("kept"),
    Rated(("kept", "m1"), "up"),
    opened("released"),
    Released(("old", "m1")),
    opened("erased"),
    Erased("old", DAY),
    Erased("erased", DAY),
]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", ["INSERT", "DELETE", "UPDATE"])
def test_a_transaction_that_fails_leaves_nothing_and_works_when_tried_again(table: str, change: str) -> None:
    limits = [(b"k", DAY + 1.0, None), (b"gone", GONE, None)]
    before: list[Entry] = [opened("old"), closed("old"), opened("kept", "m0"), closed("kept", "m0")]
    with new_file() as connection, new_file() as undisturbed:
        writer = Ledger(ManualClock())
        for one in (connection, undisturbed):
            Ledger(ManualClock()).write(one, before, [(b"gone", DAY + 5.0, 3)])
        writer.write(connection, [opened("kept", "m-1")], ())  # knows sessions and names now
        Ledger(ManualClock()).write(undisturbed, [opened("kept", "m-1")], ())
        stood = tables(connection)
        connection.execute(f"CREATE TRIGGER no BEFORE {change} ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")
        try:
            writer.write(connection, EVERY_KIND, limits)
        except sqlite3.Error as error:
            said = str(error)
        else:
            said = ""  # such a change is no part of it
        assert said in {"", "no"}
        assert not connection.in_transaction
        assert not said or tables(connection) == stood
        connection.execute("DROP TRIGGER no")
        if said:
            writer.write(connection, EVERY_KIND, limits)
        Ledger(ManualClock()).write(undisturbed, EVERY_KIND, limits)
        assert tables(connection) == tables(undisturbed)


def test_a_full_file_leaves_nothing_and_works_when_there_is_room(tmp_path: Path) -> None:
    many: list[Entry] = [opened(f"s{number}", page=f"p{number}" * 20) for number in range(900)]
    with new_file(tmp_path / "chat.db") as connection:
        writer = Ledger(ManualClock())
        writer.write(connection, [opened("first")], ())
        stood = tables(connection)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 5}")
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="full"):
                writer.write(connection, many, [(b"k", DAY + 1.0, None)])
            assert tables(connection) == stood
        connection.execute("PRAGMA max_page_count = 1000000")
        writer.write(connection, many, ())
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (901,)
        assert connection.execute("SELECT sum(sessions) FROM pages").fetchone() == (901,)


def names(connection: sqlite3.Connection, table: str, day: int) -> set[str]:
    return {name for (name,) in connection.execute(f"SELECT name FROM {table} WHERE day = ?", (day,))}  # noqa: S608 - ours


@pytest.mark.parametrize("reopened", [False, True])
def test_a_day_has_a_thousand_names_and_others(*, reopened: bool) -> None:
    with new_file() as connection:
        writer = Ledger(ManualClock())
        for begin in range(0, 1500, 100):
            if reopened:
                writer = Ledger(ManualClock())
            many: list[Entry] = [
                opened(f"s{number}", page=f"p{number}", origin=f"o{number}", bot="shop" if number % 2 else "default")
                for number in range(begin, begin + 100)
            ]
            writer.write(connection, many, ())
        for table, letter in (("origins", "o"), ("pages", "p")):
            expected = {f"{letter}{number}" for number in range(MOST_PLACES)} | {OTHER}
            assert names(connection, table, DAY) == expected
            assert connection.execute(f"SELECT sum(sessions), sum(messages) FROM {table}").fetchone() == (1500, 1500)  # noqa: S608 - ours
        writer.write(connection, [opened("old", page="p7"), opened("new", page="never seen")], ())
        writer.write(connection, [opened("next", page="never seen", at=DAY + DAY_SECONDS)], ())
        assert "never seen" not in names(connection, "pages", DAY)
        assert connection.execute("SELECT sum(messages) FROM pages WHERE name = 'p7'").fetchone() == (2,)
        assert names(connection, "pages", DAY + DAY_SECONDS) == {"never seen"}


def test_names_of_a_transaction_that_failed_take_no_room() -> None:
    with new_file() as connection:
        writer = Ledger(ManualClock())
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON pages BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(sqlite3.Error, match="no"):
            writer.write(connection, [opened(f"s{number}", page=f"x{number}") for number in range(1000)], ())
        connection.execute("DROP TRIGGER no")
        writer.write(connection, [opened("s", page="the first")], ())
        assert names(connection, "pages", DAY) == {"the first"}


def test_a_session_that_the_clean_up_took_is_found_missing_after_a_while() -> None:
    clock = ManualClock()
    with new_file() as connection:
        writer = Ledger(clock)
        writer.write(connection, [opened()], ())
        connection.execute("DELETE FROM sessions")
        clock.advance(601)
        writer.write(connection, [opened(message_id="m2")], ())
        assert connection.execute("SELECT sum(sessions) FROM hours").fetchone() == (2,)
        assert connection.execute("SELECT messages FROM sessions").fetchone() == (1,)


def test_limits_take_the_place_of_earlier_ones() -> None:
    with new_file() as connection:
        writer = Ledger(ManualClock())
        writer.write(connection, (), [(b"a", 1.0, None), (b"b", 2.0, 3), (b"c", 3.0, 1)])
        writer.write(connection, (), [(b"a", 5.0, None), (b"b", GONE, None), (b"never", GONE, None)])
        assert tables(connection)["limits"] == [(b"a", 5.0, None), (b"c", 3.0, 1)]


BY_KEY = ("turns", "sessions", "limits", "erased")


def traced(connection: sqlite3.Connection, work: Callable[[], object]) -> list[str]:
    """Give the statements that some work runs, values filled in."""
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    work()
    connection.set_trace_callback(None)
    return [sql for sql in asked if sql.split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}]


def scans(connection: sqlite3.Connection, statements: Sequence[str]) -> list[tuple[str, str]]:
    """Give the steps that look at every row of a table whose rows are found by key."""
    found = []
    for sql in statements:
        for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}"):
            words = step.split()
            if words[0] == "SCAN" and words[1] in BY_KEY:
                found.append((step, sql))
    return found


def test_the_ledger_looks_at_no_more_rows_than_it_changes() -> None:
    with new_file() as connection:
        writer = Ledger(ManualClock())
        writer.write(connection, [opened("old"), opened("kept", "m0"), opened("open")], ())
        entries = [*EVERY_KIND, closed("open"), closed("kept", "m0"), Rated(("open", "m1"), "down")]
        limits = [(bytes([number]), DAY + 1.0, None) for number in range(100)]
        limits += [(bytes([number]), GONE, None) for number in range(100, 200)]
        asked = traced(connection, lambda: writer.write(connection, entries, limits))
        texts = "\n".join(asked)
        for part in ("FROM sessions", "FROM erased", "UPDATE turns SET open", "UPDATE turns SET rating", "FROM limits"):
            assert part in texts
        for part in ("DELETE FROM turns WHERE session_id = 'old' AND", "DELETE FROM sessions", "UPDATE sessions"):
            assert part in texts
        assert not scans(connection, asked)


def test_every_statement_for_many_rows_finds_them_by_key() -> None:
    marks = {
        "_CLOSINGS": 2, "_MORE_OF_SESSIONS": 7, "_LIMITS_GONE": 1, "_NEW_TURNS": 7, "_SESSIONS": 13, "_LIMITS": 3
    }  # fmt: skip
    with new_file() as connection:
        for name, width in marks.items():
            row = f"({', '.join(['1'] * width)})"
            for count in (1, 2, 64):
                sql = getattr(ledger, name).format(", ".join([row] * count))
                assert not scans(connection, [sql]), name


def test_questions_look_at_no_more_rows_than_they_give() -> None:
    with new_file() as connection:
        asked = traced(
            connection,
            lambda: (
                questions.is_erased(connection, "s"),
                questions.digest_of(connection, ("s", "m"), 0.0),
                questions.turns_after(connection, ("s", "m"), 10),
                questions.erased_after(connection, "s", 10),
            ),
        )
        assert len(asked) == 4
        assert not scans(connection, asked)
        steps = [step for sql in asked for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
        assert not [step for step in steps if "TEMP B-TREE" in step]


def test_a_start_looks_at_the_open_turns_alone() -> None:
    with new_file() as connection:
        asked = traced(connection, lambda: take_over(connection, ManualClock()))
        found = scans(connection, asked)
        by_index = [step for step, _ in found if "turns" in step]
        assert by_index
        assert all("INDEX turns_open" in step for step in by_index)
        assert [step for step, _ in found if "turns" not in step] == ["SCAN limits"], "all of them are wanted, once"


def test_the_clean_up_finds_its_rows_by_key() -> None:
    with new_file() as connection:
        clock = ManualClock()
        limits = cleanup.Limits(clock.now(), clock.now(), clock.now(), clock.now(), clock.now())
        Ledger(clock).write(connection, [*EVERY_KIND, opened("open", at=clock.now() + 5)], [(b"k", 5.0, None)])
        sweep = cleanup.Sweep(limits)

        def run() -> None:
            while sweep.step(connection):
                pass

        asked = traced(connection, run)
        assert {word for sql in asked for word in sql.split() if word in TABLES} == set(TABLES)
        assert not scans(connection, asked)
        for sql in asked:
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}"):
                assert not step.startswith("SCAN"), (step, sql)
