"""The busiest pages of many days, without grouping the many rows of pages that hardly anybody visits.

Adding up a year of 1,000 pages a day is mostly sorting of small rows. A bound spares that: only rows of at least
`floor` messages are added up at first. In each row left out a page has fewer than `floor` messages more, so most pages
can be told to be none of the busiest, and the few others are added up exactly.
"""

import sqlite3
from collections.abc import Sequence

from chatcore.analytics import TOP_PLACES, Place

_NEXT_BOT = "SELECT min(bot) FROM pages WHERE day = ? AND bot > ?"
_BUSY_ROWS = """
SELECT name, sum(messages), count(*) FROM pages
WHERE day >= ? AND day <= ? AND bot IN ({bots}) AND messages >= ? GROUP BY name
"""
_EXACTLY = """
SELECT name, sum(sessions), sum(messages) AS busy FROM pages
WHERE day IN ({days}) AND bot IN ({bots}) AND name IN ({names}) GROUP BY name ORDER BY busy DESC, name LIMIT ?
"""
_LEAST_SHARE = 200
"""The busiest have at least this part of all messages where visits are spread as usual (Zipf); else it takes longer."""

_MOST_NAMES = 200


def busiest(
    connection: sqlite3.Connection, days: Sequence[int], bot: str | None, messages: int
) -> tuple[Place, ...] | None:
    """Give the busiest pages of some days, which had so many `messages`; None where the bound does not tell them."""
    bots, rows = ([bot], len(days)) if bot is not None else _bots(connection, days)
    return above(connection, days, bots, rows, messages // (max(rows, 1) * _LEAST_SHARE))


def above(
    connection: sqlite3.Connection,
    days: Sequence[int],
    bots: Sequence[str],
    rows: int,
    floor: int,
    most: int = TOP_PLACES,
) -> tuple[Place, ...] | None:
    """Give the `most` busiest pages, looking at first at rows from `floor` on; a page has at most so many `rows`."""
    sql = _BUSY_ROWS.format(bots=_marks(bots))
    found = connection.execute(sql, (days[0], days[-1], *bots, floor)).fetchall()
    if len(found) < most:
        return None
    reached = sorted((messages for _, messages, _ in found), reverse=True)[most - 1]
    more = max(floor - 1, 0)
    names = [name for name, messages, seen in found if messages + (rows - seen) * more >= reached]
    if rows * more >= reached or len(names) > _MOST_NAMES:
        return None
    sql = _EXACTLY.format(days=_marks(days), bots=_marks(bots), names=_marks(names))
    return tuple(Place(*row) for row in connection.execute(sql, (*days, *bots, *names, most)))


def _bots(connection: sqlite3.Connection, days: Sequence[int]) -> tuple[list[str], int]:
    """Give the bots that have pages on these days, and in how many rows one page can be."""
    bots: set[str] = set()
    rows = 0
    for day in days:
        (bot,) = connection.execute(_NEXT_BOT, (day, "")).fetchone()
        while bot is not None:
            bots.add(bot)
            rows += 1
            (bot,) = connection.execute(_NEXT_BOT, (day, bot)).fetchone()
    return sorted(bots), rows


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
