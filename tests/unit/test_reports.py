"""Reports from the tables: the same figures as a plain model has, and no look at more than is asked for."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from math import ceil
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcore.analytics import (
    DAY_SECONDS,
    HOUR_SECONDS,
    OTHER,
    Figures,
    Interval,
    Place,
    Query,
    Report,
    Slot,
    bucket_of,
    document,
    milliseconds_of,
    percentile,
)
from chatcore.stores.sqlite.busiest import above, busiest
from chatcore.stores.sqlite.reports import Table, read_report, statement
from tests.support import sources

DAY = 20_000 * DAY_SECONDS
BOTS = ("default", "shop")
TABLES: tuple[Table, ...] = ("hours", "reply_times", "origins", "pages")

Hour = tuple[int, str, int, int, int, int, int, int]
Times = tuple[int, str, int, int]
Visited = tuple[int, str, str, int, int]


@contextmanager
def file(
    hours: Iterable[Hour] = (),
    times: Iterable[Times] = (),
    origins: Iterable[Visited] = (),
    pages: Iterable[Visited] = (),
) -> Iterator[sqlite3.Connection]:
    """Give a file in memory with these rows."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for migration in sorted((sources.ROOT / "chatcore/stores/sqlite/migrations").glob("*.sql")):
            connection.executescript(migration.read_text("utf-8"))
        connection.executemany("INSERT INTO hours VALUES (?, ?, ?, ?, ?, ?, ?, ?)", hours)
        connection.executemany("INSERT INTO reply_times VALUES (?, ?, ?, ?)", times)
        connection.executemany("INSERT INTO origins VALUES (?, ?, ?, ?, ?)", origins)
        connection.executemany("INSERT INTO pages VALUES (?, ?, ?, ?, ?)", pages)
        yield connection


def model(
    query: Query, hours: Sequence[Hour], times: Sequence[Times], origins: Sequence[Visited], pages: Sequence[Visited]
) -> Report:
    """Add up in plain Python."""

    def is_asked(moment: int, bot: str, begin: int, end: int) -> bool:
        return begin <= moment < end and query.bot in {None, bot}

    def figures(begin: int, end: int) -> dict[str, Any]:
        sums = [0] * 6
        for hour, bot, *counts in hours:
            if is_asked(hour, bot, begin, end):
                sums = [one + more for one, more in zip(sums, counts, strict=True)]
        took = sorted(
            bucket for hour, bot, bucket, count in times if is_asked(hour, bot, begin, end) for _ in range(count)
        )
        names = ("sessions", "messages", "replies", "errors", "feedback_up", "feedback_down")
        return dict(zip(names, sums, strict=True)) | {
            f"reply_ms_p{percent}": milliseconds_of(took[ceil(len(took) * percent / 100) - 1]) if took else None
            for percent in (50, 95)
        }

    def top(places: Sequence[Visited]) -> tuple[Place, ...]:
        sums: dict[str, list[int]] = {}
        for day, bot, name, sessions, messages in places:
            if is_asked(day, bot, query.begin // DAY_SECONDS * DAY_SECONDS, query.end):
                place = sums.setdefault(name, [0, 0])
                place[0] += sessions
                place[1] += messages
        ordered = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))
        return tuple(Place(name, *counts) for name, counts in ordered[:20])

    return Report(
        query=query,
        totals=Figures(**figures(query.begin, query.end)),
        series=tuple(
            Slot(start=start, **figures(start, start + query.step))
            for start in range(query.begin, query.end, query.step)
        ),
        top_origins=top(origins),
        top_pages=top(pages),
    )


COUNT = st.integers(0, 5)
BOT = st.sampled_from(BOTS)
HOUR = st.integers(-30, 80).map(lambda number: DAY + number * HOUR_SECONDS)
HOURS = st.lists(st.tuples(HOUR, BOT, *[COUNT] * 6), unique_by=lambda row: row[:2], max_size=30)
TIMES = st.lists(
    st.tuples(HOUR, BOT, st.integers(0, 200), st.integers(1, 9)), unique_by=lambda row: row[:3], max_size=40
)
NAME = st.one_of(
    st.sampled_from(["", OTHER, "https://a.test", "https://a.test/\u00e4"]),
    st.integers(0, 30).map(lambda number: f"https://b.test/{number}"),
)
PLACES = st.lists(
    st.tuples(st.integers(-2, 4).map(lambda number: DAY + number * DAY_SECONDS), BOT, NAME, COUNT, COUNT),
    unique_by=lambda row: row[:3],
    max_size=60,
)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    interval: Interval = draw(st.sampled_from(["hour", "day"]))
    step = HOUR_SECONDS if interval == "hour" else DAY_SECONDS
    begin = DAY + draw(st.integers(-3 * DAY_SECONDS // step, 4 * DAY_SECONDS // step)) * step
    return Query(
        begin,
        begin + draw(st.integers(1, 60 if interval == "hour" else 5)) * step,
        interval,
        draw(st.one_of(st.none(), BOT)),
    )


@given(query=queries(), hours=HOURS, times=TIMES, origins=PLACES, pages=PLACES)
def test_a_report_is_what_a_plain_model_says(
    query: Query, hours: list[Hour], times: list[Times], origins: list[Visited], pages: list[Visited]
) -> None:
    with file(hours, times, origins, pages) as connection:
        assert read_report(connection, query) == model(query, hours, times, origins, pages)
        assert not connection.in_transaction


def test_bounds_are_half_open_and_gaps_are_told() -> None:
    one = (1, 1, 1, 0, 0, 0)
    hours: list[Hour] = [(DAY + number * HOUR_SECONDS, "default", *one) for number in (-1, 0, 2, 3)]
    with file(hours) as connection:
        report = read_report(connection, Query(DAY, DAY + 3 * HOUR_SECONDS, "hour"))
    assert [(slot.start - DAY, slot.sessions) for slot in report.series] == [(0, 1), (HOUR_SECONDS, 0), (7200, 1)]
    assert report.totals.messages == 2
    assert report.series[1] == Slot(start=DAY + HOUR_SECONDS)


def test_an_empty_file_has_a_report() -> None:
    with file() as connection:
        report = read_report(connection, Query(DAY, DAY + DAY_SECONDS, "hour"))
    assert report.totals == Figures()
    assert len(report.series) == 24
    assert report.top_origins == report.top_pages == ()


def test_the_busiest_places_come_first_and_names_decide_between_equals() -> None:
    pages: list[Visited] = [(DAY, "default", f"p{number:02}", 1, number // 2) for number in range(50)]
    pages += [(DAY + DAY_SECONDS, "shop", "p00", 7, 1000), (DAY + 2 * DAY_SECONDS, "shop", "p01", 1, 5000)]
    with file(pages=pages) as connection:
        report = read_report(connection, Query(DAY + 23 * HOUR_SECONDS, DAY + 25 * HOUR_SECONDS, "hour"))
    names = [place.name for place in report.top_pages]
    assert report.top_pages[0] == Place("p00", 8, 1000)
    assert names[1:] == [f"p{number:02}" for first in range(48, 28, -2) for number in (first, first + 1)][:19]


DAYS = range(DAY - 2 * DAY_SECONDS, DAY + 5 * DAY_SECONDS, DAY_SECONDS)


@given(pages=PLACES, floor=st.integers(0, 8), most=st.integers(1, 6), bots=st.sampled_from([BOTS, BOTS[:1]]))
def test_the_bound_tells_the_busiest_pages_or_nothing(
    pages: list[Visited], floor: int, most: int, bots: tuple[str, ...]
) -> None:
    with file(pages=pages) as connection:
        found = above(connection, DAYS, bots, len(DAYS) * len(bots), floor, most)
    query = Query(DAYS.start, DAYS.stop, "day", None if bots == BOTS else bots[0])
    assert found in {None, model(query, [], [], [], pages).top_pages[:most]}


@pytest.mark.parametrize("bot", [None, "shop"])
def test_the_bound_is_of_use_over_a_year(bot: str | None) -> None:
    pages: list[Visited] = [
        (DAY + number * DAY_SECONDS, one, f"p{rank}", 1, 600 // (rank + 1))
        for number in range(100)
        for one in BOTS
        for rank in range(100)
    ]
    messages = sum(count for *_, count in pages)
    query = Query(DAY, DAY + 100 * DAY_SECONDS, "day", bot)
    with file(pages=pages) as connection:
        found = busiest(connection, range(DAY, query.end, DAY_SECONDS), bot, messages)
        report = read_report(connection, query)
    assert found == report.top_pages == model(query, [], [], [], pages).top_pages
    assert len(found) == 20


def test_the_bound_gives_up_where_all_pages_are_alike() -> None:
    pages: list[Visited] = [
        (DAY + number * DAY_SECONDS, "shop", f"p{rank:03}", 1, 1 + (rank + number) % 2)
        for number in range(70)
        for rank in range(50)
    ]
    query = Query(DAY, DAY + 70 * DAY_SECONDS, "day")
    with file(pages=pages) as connection:
        assert above(connection, range(DAY, query.end, DAY_SECONDS), ["shop"], 70, 3) is None
        assert read_report(connection, query).top_pages == model(query, [], [], [], pages).top_pages


MILLISECONDS = st.floats(1, 60_000_000)


@given(MILLISECONDS)
def test_what_stands_for_a_reply_time_is_at_most_5_percent_off(milliseconds: float) -> None:
    told = milliseconds_of(bucket_of(milliseconds))
    assert abs(told - milliseconds) <= max(milliseconds * 0.05, 0.5) + 0.5  # whole milliseconds


@given(st.lists(MILLISECONDS, min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_percentiles_are_at_most_5_percent_off(times: list[float], fraction: float) -> None:
    told = percentile(Counter(map(bucket_of, times)), fraction)
    right = sorted(times)[ceil(len(times) * fraction) - 1]
    assert told is not None
    assert abs(told - right) <= right * 0.05 + 1


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("interval", ["hour", "day"])
@pytest.mark.parametrize("bot", [None, "default"])
def test_no_query_looks_at_more_than_its_range(table: Table, interval: Literal["hour", "day"], bot: str | None) -> None:
    query = Query(DAY, DAY + DAY_SECONDS, interval, bot)
    parameters = {"begin": 0, "end": 1, "step": 1, "bot": bot, "most": 20}
    with file() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement(table, query)}", parameters).fetchall()
    steps = [step for *_, step in plan]
    assert not [step for step in steps if step.startswith("SCAN")]
    assert any(
        step.startswith(f"SEARCH {table} USING PRIMARY KEY ({'hour' if table in TABLES[:2] else 'day'}>? AND")
        for step in steps
    )


def test_pages_of_a_year_are_found_by_their_days() -> None:
    asked: list[str] = []
    pages: list[Visited] = [(DAY + number * DAY_SECONDS, "shop", "p", 1, 9) for number in range(70)]
    with file(pages=pages) as connection:
        connection.set_trace_callback(asked.append)
        assert busiest(connection, range(DAY, DAY + 70 * DAY_SECONDS, DAY_SECONDS), None, 630) is None
        assert above(connection, range(DAY, DAY + 70 * DAY_SECONDS, DAY_SECONDS), ["shop"], 70, 1, 1)
        connection.set_trace_callback(None)
        assert len(asked) > 70
        for sql in asked:
            steps = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
            assert not [step for step in steps if step.startswith("SCAN")], sql
            assert any(step.startswith("SEARCH pages USING PRIMARY KEY (day") for step in steps), sql


def test_a_report_is_of_one_moment(tmp_path: Any) -> None:
    path = tmp_path / "chat.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as writer,
        closing(sqlite3.connect(path, isolation_level=None)) as reader,
    ):
        writer.execute("PRAGMA journal_mode = WAL")
        for migration in sorted((sources.ROOT / "chatcore/stores/sqlite/migrations").glob("*.sql")):
            writer.executescript(migration.read_text("utf-8"))
        statements: list[str] = []

        def write_between(sql: str) -> None:
            statements.append(sql)
            if "FROM reply_times" in sql:
                writer.execute("INSERT INTO origins VALUES (?, 'default', ?, 1, 1)", (DAY, f"o{len(statements)}"))

        reader.set_trace_callback(write_between)
        report = read_report(reader, Query(DAY, DAY + DAY_SECONDS, "day"))
        assert report.top_origins == ()
        assert read_report(reader, Query(DAY, DAY + DAY_SECONDS, "day")).top_origins != ()


def test_the_document_is_that_of_the_contract() -> None:
    hours: list[Hour] = [(DAY, "default", 1, 2, 1, 1, 1, 0)]
    with file(hours, [(DAY, "default", bucket_of(1000), 1)], [(DAY, "default", "https://a.test", 1, 2)]) as connection:
        told = document(read_report(connection, Query(DAY, DAY + DAY_SECONDS, "day")))
    figures = {"sessions": 1, "messages": 2, "replies": 1, "errors": 1, "feedback_up": 1, "feedback_down": 0}
    figures |= {"reply_ms_p50": milliseconds_of(bucket_of(1000)), "reply_ms_p95": milliseconds_of(bucket_of(1000))}
    assert told == {
        "from": "2024-10-04T00:00:00Z",
        "to": "2024-10-05T00:00:00Z",
        "interval": "day",
        "totals": figures,
        "series": [{"start": "2024-10-04T00:00:00Z", **figures}],
        "top_origins": [{"origin": "https://a.test", "sessions": 1, "messages": 2}],
        "top_pages": [],
    }
