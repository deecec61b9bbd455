"""Deletes what was kept long enough, a little at a time, and gives the space back to the disk."""

import sqlite3

import msgspec

from chatcore.analytics import DAY_SECONDS
from chatcore.settings import SqliteSettings
from chatcore.stores.sqlite.entries import KEPT_TURN_SECONDS

ROWS_AT_ONCE = 500
"""Rows of one transaction: some milliseconds, in which messages wait for their turn to be written."""

PAGES_AT_ONCE = 200
PAUSE_SECONDS = 0.005
"""How long to leave the file to others between two steps."""


class Limits(msgspec.Struct, frozen=True):
    """What is older than these goes (epoch seconds)."""

    now: float
    sessions: float
    turns: float
    erased: float
    figures: float


_FIGURES = (
    ("hours", "hour, bot", "hour"),
    ("reply_times", "hour, bot, bucket", "hour"),
    ("origins", "day, bot, name", "day"),
    ("pages", "day, bot, name", "day"),
)


class Cleaned(msgspec.Struct):
    """What went."""

    sessions: int = 0
    rows: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.sessions} sessions and {self.rows} other rows deleted, {self.bytes} bytes given back"


def limits_of(settings: SqliteSettings, now: float) -> Limits:
    """Work out what is too old now."""
    return Limits(
        now=now,
        sessions=now - settings.session_retention_days * DAY_SECONDS,
        turns=now - KEPT_TURN_SECONDS,
        erased=now - settings.erased_days * DAY_SECONDS,
        figures=now - settings.analytics_retention_days * DAY_SECONDS,
    )


class Sweep:
    """One clean-up from its first step to its last; a new one for each."""

    def __init__(self, limits: Limits) -> None:
        self.cleaned = Cleaned()
        day = limits.figures // DAY_SECONDS * DAY_SECONDS
        self._walks = [
            _Walk("sessions", "rowid", "seen_at", limits.sessions, (0,)),
            _Walk("turns", "session_id, message_id", "accepted_at", limits.turns, ("", "")),
            _Walk("limits", "key", "until", limits.now, (b"",)),
            _Walk("erased", "session_id", "erased_at", limits.erased, ("",)),
        ]
        self._figures = [
            (f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {time} < ? LIMIT ?)", day)  # noqa: S608 - ours
            for table, key, time in _FIGURES
        ]

    def step(self, connection: sqlite3.Connection) -> bool:
        """Look at some rows and delete what is old, in one short transaction; false at the end.

        Raises `sqlite3.Error`; the same rows are looked at again then.
        """
        while self._walks:
            count = self._walks[0].step(connection)
            if count is None:
                del self._walks[0]
                continue
            if self._walks[0].table == "sessions":
                self.cleaned.sessions += count
            else:
                self.cleaned.rows += count
            return True
        while self._figures:
            sql, before = self._figures[0]
            count = connection.execute(sql, (before, ROWS_AT_ONCE)).rowcount
            if count:
                self.cleaned.rows += count
                return True
            del self._figures[0]
        return give_back(connection, self.cleaned)


class _Walk:
    """A walk through one table in the order of its key, since its time has no index."""

    def __init__(self, table: str, key: str, time: str, before: float, start: tuple[object, ...]) -> None:
        self.table = table
        self._before = before
        self._at = start
        self._ended = False
        marks = ", ".join("?" * len(start))
        backwards = f"{key.replace(',', ' DESC,')} DESC"
        self._look = f"SELECT {key} FROM {table} WHERE ({key}) > ({marks}) ORDER BY {key} LIMIT 1 OFFSET ?"  # noqa: S608 - ours
        self._last = f"SELECT {key} FROM {table} WHERE ({key}) > ({marks}) ORDER BY {backwards} LIMIT 1"  # noqa: S608 - ours
        self._delete = f"DELETE FROM {table} WHERE ({key}) > ({marks}) AND ({key}) <= ({marks}) AND {time} < ?"  # noqa: S608 - ours

    def step(self, connection: sqlite3.Connection) -> int | None:
        """Delete what is old among the next rows; gives how many, None where there are no more rows."""
        if self._ended:
            return None
        full = connection.execute(self._look, (*self._at, ROWS_AT_ONCE - 1)).fetchone()
        end = full or connection.execute(self._last, self._at).fetchone()
        if end is None:
            return None
        count = connection.execute(self._delete, (*self._at, *end, self._before)).rowcount
        self._at = end
        self._ended = full is None  # rows that come from now on are new, however many
        return count


def give_back(connection: sqlite3.Connection, cleaned: Cleaned) -> bool:
    """Give some empty pages back to the disk; false when there are none. Raises `sqlite3.Error`."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if not free:
        return False
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})").fetchall()
    (left,) = connection.execute("PRAGMA freelist_count").fetchone()
    cleaned.bytes += (free - left) * size
    return bool(left and left < free)


def finished(connection: sqlite3.Connection, now: float) -> None:
    """Note when it was done, so that a restart does not begin the interval anew; forget the pages that were read."""
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('cleaned_at', ?)", (now,))
    connection.execute("PRAGMA shrink_memory")
