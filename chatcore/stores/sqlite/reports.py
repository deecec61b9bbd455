"""Adds up a report from the tables of figures: SQL does the adding, few rows come out of it."""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from chatcore.analytics import DAY_SECONDS, TOP_PLACES, Place, Query, Report, report_of
from chatcore.stores.sqlite.busiest import busiest

# Each row belongs to one bot. The primary keys begin with the time, so a range of it is all that is read.
_OF_BOT = " AND bot = :bot"
_HOURS = """
SELECT (hour - :begin) / :step, sum(sessions), sum(messages), sum(replies), sum(errors),
    sum(feedback_up), sum(feedback_down)
FROM hours WHERE hour >= :begin AND hour < :end{of_bot} GROUP BY 1
"""
# Slot of the day and bucket in one number: SQLite sorts numbers twice as fast as pairs.
_REPLY_TIMES = """
SELECT {slot}bucket, sum(count) FROM reply_times WHERE hour >= :begin AND hour < :end{of_bot} GROUP BY 1
"""
_SLOT = {"hour": "((hour - :begin) / :step << 8) + ", "day": ""}
_BUCKET_BITS = 8
_BUCKET_MASK = (1 << _BUCKET_BITS) - 1
_PLACES = """
SELECT name, sum(sessions), sum(messages) AS busy
FROM {table} WHERE day >= :begin AND day < :end{of_bot} GROUP BY name ORDER BY busy DESC, name LIMIT :most
"""

_FEW_DAYS = 62  # for fewer the plain way takes less

Table = Literal["hours", "reply_times", "origins", "pages"]
Times = dict[int, int]
"""How many replies ended in each bucket of time."""


def read_report(connection: sqlite3.Connection, query: Query) -> Report:
    """Add up what the query asks for, all of it as it stood at one moment."""
    connection.execute("BEGIN")
    try:
        return _report(connection, query)
    finally:
        if connection.in_transaction:  # an error may have ended it
            connection.execute("COMMIT")


def statement(table: Table, query: Query) -> str:
    """Give the SQL that reads a table for a query."""
    sql = {"hours": _HOURS, "reply_times": _REPLY_TIMES}.get(table, _PLACES)
    return sql.format(table=table, slot=_SLOT[query.interval], of_bot="" if query.bot is None else _OF_BOT)


def _report(connection: sqlite3.Connection, query: Query) -> Report:
    sums = {
        query.begin + number * query.step: figures
        for number, *figures in _rows(connection, "hours", query, query.begin, query.end)
    }
    return report_of(
        query,
        sums,
        _reply_times(connection, query),
        _places(connection, "origins", query),
        _pages(connection, query, sum(messages for _, messages, *_ in sums.values())),
    )


def _reply_times(connection: sqlite3.Connection, query: Query) -> Mapping[int, Times]:
    """Count reply times by bucket for the start of each slot.

    Day by day: what SQLite has to sort for grouping is then small, which takes two thirds of the time.
    """
    times: dict[int, Times] = {}
    for midnight in range(query.begin - query.begin % DAY_SECONDS, query.end, DAY_SECONDS):
        begin, end = max(midnight, query.begin), min(midnight + DAY_SECONDS, query.end)
        rows = _rows(connection, "reply_times", query, begin, end)
        if query.interval == "day":
            times[begin] = dict(rows)
            continue
        for key, count in rows:
            start = begin + (key >> _BUCKET_BITS) * query.step
            times.setdefault(start, {})[key & _BUCKET_MASK] = count
    return times


def _pages(connection: sqlite3.Connection, query: Query, messages: int) -> tuple[Place, ...]:
    """Give the busiest pages, of which there may be many."""
    days = range(query.begin - query.begin % DAY_SECONDS, query.end, DAY_SECONDS)
    found = busiest(connection, days, query.bot, messages) if len(days) > _FEW_DAYS else None
    return _places(connection, "pages", query) if found is None else found


def _places(connection: sqlite3.Connection, table: Table, query: Query) -> tuple[Place, ...]:
    """Give the busiest places of all UTC days that the query touches."""
    return tuple(
        Place(*row) for row in _rows(connection, table, query, query.begin - query.begin % DAY_SECONDS, query.end)
    )


def _rows(
    connection: sqlite3.Connection, table: Table, query: Query, begin: int, end: int
) -> Iterator[tuple[Any, ...]]:
    parameters = {"begin": begin, "end": end, "step": query.step, "bot": query.bot, "most": TOP_PLACES}
    return connection.execute(statement(table, query), parameters)
