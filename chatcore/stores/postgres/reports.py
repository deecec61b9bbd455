"""A report as the database's rows make it, whoever asked for them: the server, or a command."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from chatcore.analytics import DAY_SECONDS, TOP_PLACES, Cohorts, Place, Query, Report, cohorts_of, report_of
from chatcore.stores.postgres.statements import for_psycopg

_MILLION = 1_000_000

Rows = Sequence[Sequence[Any]]


def parameters(query: Query) -> Mapping[str, Any]:
    """Give what the statements `report` and `cohorts` ask with."""
    return {
        "begin": query.begin,
        "end": query.end,
        "step": query.step,
        "first_day": query.begin - query.begin % DAY_SECONDS,
        "begin_us": query.begin * _MILLION,
        "end_us": query.end * _MILLION,
        "bot": query.bot,
        "places": TOP_PLACES,
    }


def report_from(query: Query, parts: Rows, cohorts: Rows) -> Report:
    """Put the rows of both statements together."""
    sums: dict[int, Sequence[int]] = {}
    times: dict[int, dict[int, int]] = {}
    places: dict[str, list[Place]] = {"origins": [], "pages": []}
    hours: dict[int, int] = {}
    for part, slot, name, *values in parts:
        start = query.begin + slot * query.step
        if part == "figures":
            sums[start] = values
        elif part == "times":
            bucket, count = values[:2]
            times.setdefault(start, {})[bucket] = count
        elif part == "hours":
            hours[slot] = values[0]
        else:
            places[part].append(Place(name, *values[:2]))
    origins, pages = _busiest(places["origins"]), _busiest(places["pages"])
    return report_of(query, sums, times, origins, pages, _cohorts(cohorts, hours))


def read_report(connection: psycopg.Connection[Any], query: Query) -> Report:
    """Ask for a report on a connection of a command."""
    asked = parameters(query)
    parts = connection.execute(for_psycopg("report"), asked).fetchall()
    return report_from(query, parts, connection.execute(for_psycopg("cohorts"), asked).fetchall())


def _busiest(places: list[Place]) -> tuple[Place, ...]:
    return tuple(sorted(places, key=lambda place: (-place.messages, place.name)))


def _cohorts(rows: Rows, hours: Mapping[int, int]) -> Cohorts:
    return cohorts_of({messages: (sessions, fresh, back) for messages, sessions, fresh, back in rows}, hours)
