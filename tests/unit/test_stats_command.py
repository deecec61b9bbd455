"""The figures on a terminal: what is told, that it fits, and that no name from outside drives the terminal."""

import json
import re
from datetime import UTC, datetime

import msgspec
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
    document,
    slots,
)
from chatcore.cli.stats import as_json, printable, query_of, render, width_of
from chatcore.errors import Refusal

DAY = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
NOW = DAY + 9 * HOUR_SECONDS
STYLES = re.compile(r"\x1b\[(?:0|1|2|31)m")


def slot(start: int, sessions: int, messages: int, errors: int) -> Slot:
    return Slot(start=start, sessions=sessions, messages=messages, replies=messages - errors, errors=errors)


WEEK = Report(
    query=Query(DAY, DAY + 7 * DAY_SECONDS, "day"),
    totals=Figures(
        sessions=1290,
        messages=4102,
        replies=4000,
        errors=102,
        reply_ms_p50=1953,
        reply_ms_p95=75_000,
        feedback_up=210,
        feedback_down=17,
    ),
    series=tuple(
        slot(DAY + number * DAY_SECONDS, count, count * 3, 102 if number == 4 else 0)
        for number, count in enumerate([0, 1, 200, 400, 300, 100, 289])
    ),
    top_origins=(Place("https://www.example.com", 1200, 4000), Place("", 90, 102)),
    top_pages=(
        Place("https://www.example.com/a/rather/long/way/to/the/prices-of-today", 311, 1200),
        Place(OTHER, 5, 7),
    ),
)


def test_a_week_is_told() -> None:
    assert render(WEEK, 64, colour=False, unicode=True) + "\n" == (
        """\
2026-01-05 00:00 to 2026-01-12 00:00 UTC
by the day, all bots

  sessions    1,290
  messages    4,102
  replies     4,000
  errors      102  (2.5% of 4,102 that ended)
  reply time  p50 2.0 s, p95 1.2 min
  feedback    210 up, 17 down

  sessions         ▁▁▁▁▁▄▄▄▄▄█████▆▆▆▆▆▂▂▂▂▂▆▆▆▆▆  max 400
  messages         ▁▁▁▁▁▄▄▄▄▄█████▆▆▆▆▆▂▂▂▂▂▆▆▆▆▆  max 1,200
  errors                          █████            max 102
              2026-01-05               2026-01-11
              a bar is 1 day

Origins                                      sessions   messages
  https://www.example.com                       1,200      4,000
  (not told)                                       90        102

Pages                                        sessions   messages
  https://www.example…the/prices-of-today         311      1,200
  (other)                                           5          7
"""
    )


def test_hours_share_bars_where_they_do_not_fit_and_ascii_serves_old_terminals() -> None:
    query = Query(DAY, DAY + 2 * DAY_SECONDS, "hour", "shop")
    series = tuple(slot(start, number % 24, number % 24, 0) for number, start in enumerate(slots(query)))
    report = Report(query=query, totals=Figures(), series=series, top_origins=(), top_pages=())
    assert render(report, 40, colour=False, unicode=False) + "\n" == (
        """\
2026-01-05 00:00 to 2026-01-07 00:00 UTC
by the hour, bot shop

  sessions    0
  messages    0
  replies     0
  errors      0
  reply time  none yet
  feedback    0 up, 0 down

  sessions    .:-=+*#@.:-=+*#@  max 66
  messages    .:-=+*#@.:-=+*#@  max 66
  errors                        max 0
              2026-01-05
              a bar is 3 hours
"""
    )


def test_colours_are_only_where_they_are_wanted() -> None:
    coloured = render(WEEK, 80, colour=True, unicode=True)
    assert "\x1b[1m2026-01-05" in coloured
    assert "\x1b[31m" in coloured
    assert STYLES.sub("", coloured) == render(WEEK, 80, colour=False, unicode=True)


def test_the_document_is_that_of_the_api() -> None:
    assert json.loads(as_json(WEEK)) == document(WEEK)
    assert as_json(WEEK) == msgspec.json.encode(document(WEEK))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("https://a.test/\x1b[31mred\x1b[0m", "https://a.test/red"),
        ("a\x1b]0;a title\x07b", "ab"),
        ("a\x1b]52;c;Y2xpcGJvYXJk\x1b\\b", "ab"),
        ("a\x1b]8;;https://evil.test", "a"),
        ("a\x1bP+q544e\x1b\\b", "ab"),
        ("a\x9b2Jb\x9d0;t\x9cc", "abc"),
        ("a\x1bcb\x1b(0c\x1b", "abc"),
        ("a\x1b\x1b[2Jb", "ab"),
        ("a\r\nb\tc\bd\0e\x7ff", "abcdef"),
        ("a\u202eb\u2066c\u200bd\ufeffe\u2028f", "abcdef"),
        ("\u00fc\u4e2d\U0001f600", "\u00fc\u4e2d\U0001f600"),
        ("a\ud800b", "ab"),
    ],
)
def test_a_name_cannot_drive_the_terminal(name: str, shown: str) -> None:
    assert printable(name) == shown
    report = msgspec.structs.replace(WEEK, top_pages=(Place(name, 1, 1),))
    for unicode in (True, False):
        text = render(report, 100, colour=False, unicode=unicode)
        assert "\x1b" not in text
        assert all(line.isprintable() for line in text.splitlines())


COUNT = st.one_of(st.integers(0, 30), st.integers(0, 10**15))
HOSTILE = st.text(st.one_of(st.characters(), st.sampled_from("\x1b[]0;m\x07\x9b\x9c\u202e\u4e2d\u0301/")), max_size=80)
PLACES = st.lists(st.builds(Place, HOSTILE, COUNT, COUNT), max_size=5).map(tuple)
PERCENTILE = st.one_of(st.none(), st.integers(1, 10**9))


@st.composite
def reports(draw: st.DrawFn) -> Report:
    interval: Interval = draw(st.sampled_from(["hour", "day"]))
    step = HOUR_SECONDS if interval == "hour" else DAY_SECONDS
    query = Query(DAY, DAY + draw(st.integers(1, 800)) * step, interval, draw(st.one_of(st.none(), HOSTILE)))
    counts = draw(st.lists(st.tuples(COUNT, COUNT, COUNT), min_size=1, max_size=5))
    series = tuple(slot(start, *counts[number * number % len(counts)]) for number, start in enumerate(slots(query)))
    totals = Figures(
        sessions=draw(COUNT),
        messages=draw(COUNT),
        replies=draw(COUNT),
        errors=draw(COUNT),
        reply_ms_p50=draw(PERCENTILE),
        reply_ms_p95=draw(PERCENTILE),
        feedback_up=draw(COUNT),
    )
    return Report(query=query, totals=totals, series=series, top_origins=draw(PLACES), top_pages=draw(PLACES))


@given(report=reports(), columns=st.integers(40, 200), colour=st.booleans(), unicode=st.booleans())
def test_every_line_fits_and_is_harmless(report: Report, columns: int, colour: bool, unicode: bool) -> None:
    text = render(report, columns, colour=colour, unicode=unicode)
    plain = STYLES.sub("", text) if colour else text
    for line in plain.split("\n"):
        assert width_of(line) <= columns
        assert line.isprintable()
        assert unicode or line.isascii()
    text.encode("utf-8")


def test_options_become_a_query() -> None:
    bots = ("default", "shop")
    assert query_of(bots, NOW) == Query(DAY - 7 * DAY_SECONDS, DAY + DAY_SECONDS, "day")
    assert query_of(bots, NOW, days=1) == Query(NOW - DAY_SECONDS, NOW, "hour")
    assert query_of(bots, NOW, days=30, bot="shop", end="2026-01-05") == Query(
        DAY - 30 * DAY_SECONDS, DAY, "day", "shop"
    )
    asked = query_of(bots, NOW, begin="2026-01-04", end="2026-01-05T01:00:00+01:00", interval="hour")
    assert asked == Query(DAY - DAY_SECONDS, DAY, "hour")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"days": 0}, "days"),
        ({"days": 801}, "days"),
        ({"days": 10**20}, "days"),
        ({"days": 1, "begin": "2026-01-01"}, "days"),
        ({"days": 32, "interval": "hour"}, "from"),
        ({"begin": "today"}, "from"),
        ({"end": "2026-13-01"}, "to"),
        ({"interval": "week"}, "interval"),
        ({"bot": "nobody"}, "bot"),
    ],
)
def test_an_option_that_is_wrong_is_named(options: dict[str, str | int], field: str) -> None:
    with pytest.raises(Refusal) as refused:
        query_of(("default",), NOW, **options)  # type: ignore[arg-type]  # each is of its option's type
    assert [fault.field for fault in refused.value.errors] == [field]
