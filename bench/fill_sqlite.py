"""Fills a database file of SQLite mode with sessions and figures that nobody had, to measure reports and cleaning.

    python bench/fill_sqlite.py PATH --sessions 1000000 --days 30

The same arguments give the same rows. The tables agree with each other: every session and message is in its hour, its
origin and its page, every reply in a bucket of its hour. The day has its ups and downs, pages are visited as Zipf
found it, replies take log-normal times around two seconds. PATH must not exist.
"""

import argparse
import contextlib
import hashlib
import math
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chatcore.analytics import DAY_SECONDS, HOUR_SECONDS, bucket_of

MIGRATIONS = Path(__file__).resolve().parent.parent / "chatcore" / "stores" / "sqlite" / "migrations"
APPLICATION_ID = 0x63686174
UNTIL = "2026-01-01"
MESSAGES_OF_A_SESSION = 3
ORIGINS = 20
OF_A_DAY = [2 + math.sin((hour - 8) / 24 * 2 * math.pi) for hour in range(24)]
INSERT_SESSION = """
INSERT INTO sessions (id, bot, created_at, seen_at, origin, page, client, messages, replies, reply_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
INSERT_ORIGIN = "INSERT INTO origins VALUES (?, ?, ?, ?, ?)"
INSERT_PAGE = "INSERT INTO pages VALUES (?, ?, ?, ?, ?)"
ERRORS = 0.02
RATED = 0.05


class Names:
    """Names of places, the first ones visited far more often than the last."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._weights = list(accumulate(1 / rank for rank in range(1, len(names) + 1)))

    def draw(self, randomness: random.Random, count: int) -> list[str]:
        """Give `count` of them."""
        return randomness.choices(self._names, cum_weights=self._weights, k=count)


class Filling:
    """Puts one day after the other into a file."""

    def __init__(self, connection: sqlite3.Connection, bots: int, pages: int) -> None:
        self._connection = connection
        self._random = random.Random(20260101)  # noqa: S311 - the same rows every time
        self._bots = ["default", *(f"bot{number}" for number in range(2, bots + 1))]
        self._bot_weights = list(accumulate(1 / rank for rank in range(1, bots + 1)))
        self._origins = Names([f"https://shop{number}.example.com" for number in range(ORIGINS)])
        self._pages = Names(
            [f"https://www.example.com/products/{number % 17}/item-{number}" for number in range(pages)]
        )
        times = [self._random.lognormvariate(math.log(2000), 0.7) for _ in range(100_000)]
        self._buckets = [bucket_of(milliseconds) for milliseconds in times]
        self._session = 0

    def day(self, day: int, sessions: int) -> None:
        """Fill one UTC day with so many sessions."""
        draw = self._random
        begun = Counter(
            zip(
                draw.choices(range(24), OF_A_DAY, k=sessions),
                draw.choices(self._bots, cum_weights=self._bot_weights, k=sessions),
                strict=True,
            )
        )
        origins: dict[tuple[str, str], list[int]] = {}
        pages: dict[tuple[str, str], list[int]] = {}
        for (hour, bot), count in sorted(begun.items()):
            start = day + hour * HOUR_SECONDS
            came_from = self._origins.draw(draw, count)
            came_to = self._pages.draw(draw, count)
            for table, names in ((origins, came_from), (pages, came_to)):
                for name, times in Counter(names).items():
                    place = table.setdefault((bot, name), [0, 0])
                    place[0] += times
                    place[1] += times * MESSAGES_OF_A_SESSION
            self._hour(start, bot, count)
            self._sessions(start, bot, came_from, came_to)
        for insert, table in ((INSERT_ORIGIN, origins), (INSERT_PAGE, pages)):
            rows = ((day, *place, *counts) for place, counts in sorted(table.items()))
            self._connection.executemany(insert, rows)

    def _hour(self, start: int, bot: str, sessions: int) -> None:
        messages = sessions * MESSAGES_OF_A_SESSION
        errors = sum(self._random.random() < ERRORS for _ in range(messages))
        replies = messages - errors
        up, down = round(replies * RATED * 0.8), round(replies * RATED * 0.2)
        self._connection.execute(
            "INSERT INTO hours (hour, bot, sessions, messages, replies, errors, feedback_up, feedback_down) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (start, bot, sessions, messages, replies, errors, up, down),
        )
        buckets = Counter(self._random.choices(self._buckets, k=replies))
        rows = ((start, bot, bucket, count) for bucket, count in sorted(buckets.items()))
        self._connection.executemany("INSERT INTO reply_times VALUES (?, ?, ?, ?)", rows)

    def _sessions(self, start: int, bot: str, origins: list[str], pages: list[str]) -> None:
        rows = self._rows_of_sessions(start, bot, origins, pages)
        self._connection.executemany(INSERT_SESSION, rows)

    def _rows_of_sessions(
        self, start: int, bot: str, origins: list[str], pages: list[str]
    ) -> Iterator[tuple[object, ...]]:
        messages = MESSAGES_OF_A_SESSION
        for number, (origin, page) in enumerate(zip(origins, pages, strict=True)):
            self._session += 1
            digest = hashlib.blake2b(self._session.to_bytes(8, "big"), digest_size=11).hexdigest()
            moment = start + number * HOUR_SECONDS / len(origins)
            yield (
                *(f"s_{digest}", bot, moment, moment, origin, page, "chrome/desktop"),
                *(messages, messages, messages * 2000),
            )


def fill(path: Path, sessions: int, days: int, *, bots: int, pages: int, until: str) -> None:
    """Make the file."""
    end = int(datetime.fromisoformat(until).replace(tzinfo=UTC).timestamp())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = OFF")  # a file that was not finished is of no use anyway
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")
        migrations = sorted(MIGRATIONS.glob("*.sql"))
        for migration in migrations:
            connection.executescript(migration.read_text("utf-8"))
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        filling = Filling(connection, bots, pages)
        connection.execute("BEGIN")
        for number in range(days):
            of_the_day = sessions * (number + 1) // days - sessions * number // days
            filling.day(end - (days - number) * DAY_SECONDS, of_the_day)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


def main() -> None:
    """Read the arguments, fill, and say how long it took."""
    parser = argparse.ArgumentParser(description="Fill a database file of SQLite mode, to measure with.")
    parser.add_argument("path", type=Path, help="the file to make")
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--bots", type=int, default=3)
    parser.add_argument("--pages", type=int, default=1000, help="how many pages are visited")
    parser.add_argument("--until", default=UNTIL, metavar="YYYY-MM-DD", help="the day after the last one (UTC)")
    options = parser.parse_args()
    if options.path.exists():
        parser.error(f"{options.path} exists already")
    began = time.perf_counter()
    fill(options.path, options.sessions, options.days, bots=options.bots, pages=options.pages, until=options.until)
    seconds = time.perf_counter() - began
    size = options.path.stat().st_size / 1e6
    print(f"{options.path}: {options.sessions} sessions of {options.days} days, {size:.0f} MB in {seconds:.1f} s")


if __name__ == "__main__":
    main()
