"""What one transaction writes: entries of what happened, in their order, become as few statements as possible.

Runs in the writer's thread. A transaction is all or nothing; entries that could not be written are simply written
again, since nothing is kept from one call to the next but the names of today's origins and pages.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from chatcore.analytics import DAY_SECONDS, HOUR_SECONDS, MOST_PLACES, OTHER, bucket_of
from chatcore.model import TurnKey
from chatcore.ports import Clock
from chatcore.stores.sqlite.entries import GONE, Closed, Entry, Erased, LimitRow, Opened, Rated, Released
from chatcore.stores.sqlite.rows import write_rows

NameOf = Callable[[str, int, str], str]
"""Table, day, name -> the name to count under."""

_PRESENT = "SELECT json_group_array(id) FROM sessions WHERE id IN (SELECT value FROM json_each(?))"
_ERASED = "SELECT json_group_array(session_id) FROM erased WHERE session_id IN (SELECT value FROM json_each(?))"
_NEW_TURNS = """
INSERT INTO turns (session_id, message_id, bot, digest, accepted_at, open, rating)
SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL
ON CONFLICT DO UPDATE SET bot = excluded.bot, digest = excluded.digest, accepted_at = excluded.accepted_at,
open = excluded.open, rating = excluded.rating
"""
_CLOSINGS = "UPDATE turns SET open = 0 FROM (VALUES {}) WHERE session_id = column1 AND message_id = column2"
_SESSIONS = """
INSERT INTO sessions (id, bot, created_at, seen_at, origin, page, client,
reply_ms, messages, replies, errors, feedback_up, feedback_down)
SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL
ON CONFLICT DO UPDATE SET seen_at = max(seen_at, excluded.seen_at),
messages = messages + excluded.messages, replies = replies + excluded.replies, errors = errors + excluded.errors,
reply_ms = reply_ms + excluded.reply_ms, feedback_up = feedback_up + excluded.feedback_up,
feedback_down = feedback_down + excluded.feedback_down
"""
_MORE_OF_SESSIONS = """
UPDATE sessions SET reply_ms = reply_ms + column1, messages = messages + column2, replies = replies + column3,
errors = errors + column4, feedback_up = feedback_up + column5, feedback_down = feedback_down + column6
FROM (VALUES {}) WHERE id = column7
"""
_HOURS = """
INSERT INTO hours (hour, bot, sessions, messages, replies, errors, feedback_up, feedback_down)
SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL
ON CONFLICT DO UPDATE SET sessions = sessions + excluded.sessions, messages = messages + excluded.messages,
replies = replies + excluded.replies, errors = errors + excluded.errors,
feedback_up = feedback_up + excluded.feedback_up, feedback_down = feedback_down + excluded.feedback_down
"""
_TIMES = """
INSERT INTO reply_times (hour, bot, bucket, count)
SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL
ON CONFLICT DO UPDATE SET count = count + excluded.count
"""
_PLACES = {
    table: f"INSERT INTO {table} (day, bot, name, sessions, messages) "  # noqa: S608 - texts of ours
    "SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL "
    "ON CONFLICT DO UPDATE SET sessions = sessions + excluded.sessions, messages = messages + excluded.messages"
    for table in ("origins", "pages")
}
_LIMITS = """
INSERT INTO limits (key, until, used)
SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL
ON CONFLICT DO UPDATE SET until = excluded.until, used = excluded.used
"""
_LIMITS_GONE = "DELETE FROM limits WHERE key IN (VALUES {})"
# Columns of the counts: in `hours` after hour and bot, in `sessions` after the client.
_SESSIONS_BEGUN, _MESSAGES, _REPLIES, _ERRORS, _UP, _DOWN = range(6)
_REPLY_MS = 0  # stands first in a session's counts, where an hour's have the sessions
# Places in the row of a turn.
_OPEN, _RATING = 5, 6
_DAYS_NAMED = 2
_MOST_PRESENT = 20_000
_PRESENT_SECONDS = 600.0  # the clean-up, in another process too, deletes what was not seen for longer


class Ledger:
    """Writes entries. Use it from one thread at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._present: set[str] = set()
        self._present_until = 0.0
        self._names: dict[tuple[str, int], set[str]] = {}

    def write(self, connection: sqlite3.Connection, entries: Sequence[Entry], limits: Sequence[LimitRow]) -> None:
        """Write all in one transaction. Raises `sqlite3.Error`, then nothing was written."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            if entries:
                present, erased = self._look_up(connection, entries)
                _Transaction(connection, partial(self._name_of, connection), present, erased).write(entries)
                self._present |= present
            if limits:
                write_rows(connection, _LIMITS_GONE, [(key,) for key, until, _ in limits if until == GONE])
                write_rows(connection, _LIMITS, [row for row in limits if row[1] != GONE])
            connection.execute("COMMIT")
        except BaseException:
            self._names.clear()
            self._present.clear()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _look_up(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> tuple[set[str], set[str]]:
        """Tell which of the entries' sessions have a row, and which were erased; most are known from a moment ago."""
        now = self._clock.monotonic()
        if now >= self._present_until or len(self._present) > _MOST_PRESENT:
            self._present.clear()
            self._present_until = now + _PRESENT_SECONDS
        present: set[str] = set()
        erased: set[str] = set()
        ids = {entry.session_id if isinstance(entry, Erased) else entry.key[0] for entry in entries}
        asked = ids - self._present
        present |= ids & self._present
        if asked:
            listed = (msgspec.json.encode(list(asked)).decode(),)
            present.update(msgspec.json.decode(connection.execute(_PRESENT, listed).fetchone()[0]))
            erased.update(msgspec.json.decode(connection.execute(_ERASED, listed).fetchone()[0]))
        # An erased session is never among those present again, so it is always asked for.
        self._present -= {entry.session_id for entry in entries if isinstance(entry, Erased)}
        return present, erased

    def _name_of(self, connection: sqlite3.Connection, table: str, day: int, name: str) -> str:
        """Give the name that a place is counted under: its own, unless a day has very many."""
        names = self._names.get((table, day))
        if names is None:
            for old in [key for key in self._names if key[1] < day - _DAYS_NAMED * DAY_SECONDS]:
                del self._names[old]
            rows = connection.execute(f"SELECT DISTINCT name FROM {table} WHERE day = ?", (day,))  # noqa: S608 - ours
            names = self._names[table, day] = {known for (known,) in rows}
        if name not in names:
            if len(names) >= MOST_PLACES:
                return OTHER
            names.add(name)
        return name


class _Transaction:
    """The rows of one transaction, as they come together."""

    def __init__(self, connection: sqlite3.Connection, name_of: NameOf, present: set[str], erased: set[str]) -> None:
        """`present` and `erased` sessions are kept up to date."""
        self._connection = connection
        self._name_of = name_of
        self._present = present
        self._erased = erased
        self._begun: dict[str, Opened] = {}
        self._seen: dict[str, float] = {}
        self._turns: dict[TurnKey, list[object]] = {}
        self._closings: list[TurnKey] = []
        self._releases: dict[TurnKey, None] = {}
        self._ratings: dict[TurnKey, str] = {}
        self._erasures: list[tuple[str, float]] = []
        self._sessions: defaultdict[str, list[int]] = defaultdict(lambda: [0] * 6)
        self._hours: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0] * 6)
        self._times: defaultdict[tuple[int, str, int], int] = defaultdict(int)
        self._places: defaultdict[tuple[str, int, str, str], list[int]] = defaultdict(lambda: [0, 0])

    def write(self, entries: Sequence[Entry]) -> None:
        """Gather the rows, then write them."""
        for entry in entries:
            match entry:
                case Opened():
                    self._open(entry)
                case Closed():
                    self._close(entry)
                case Released():
                    self._release(entry.key)
                case Rated():
                    self._rate(entry)
                case Erased():
                    self._erase(entry)
        self._write_turns()
        self._write_sessions()
        self._write_figures()

    def _open(self, entry: Opened) -> None:
        session_id = entry.key[0]
        day = int(entry.at // DAY_SECONDS) * DAY_SECONDS
        begins = 0
        if session_id not in self._erased:
            if session_id not in self._present:
                self._present.add(session_id)
                begins = 1
            self._begun.setdefault(session_id, entry)
            self._seen[session_id] = max(entry.at, self._seen.get(session_id, 0.0))
            self._sessions[session_id][_MESSAGES] += 1
            self._turns[entry.key] = [*entry.key, entry.bot, entry.digest, entry.at, 1, None]
        hour = self._hours[_hour(entry.at), entry.bot]
        hour[_SESSIONS_BEGUN] += begins
        hour[_MESSAGES] += 1
        for table, name in (("origins", entry.origin), ("pages", entry.page)):
            place = self._places[table, day, entry.bot, self._name_of(table, day, name)]
            place[0] += begins
            place[1] += 1

    def _close(self, entry: Closed) -> None:
        column = _ERRORS if entry.finish_reason == "error" else _REPLIES
        hour = _hour(entry.at)
        self._hours[hour, entry.bot][column] += 1
        if column == _REPLIES:
            self._times[hour, entry.bot, bucket_of(entry.duration_ms)] += 1
        if entry.key[0] in self._present:
            counts = self._sessions[entry.key[0]]
            counts[column] += 1
            if column == _REPLIES:
                counts[_REPLY_MS] += entry.duration_ms
        row = self._turns.get(entry.key)
        if row is None:
            self._closings.append(entry.key)
        else:
            row[_OPEN] = 0

    def _release(self, key: TurnKey) -> None:
        # The file may have a row of this key, also where one was to be written over it.
        self._turns.pop(key, None)
        self._releases[key] = None

    def _rate(self, entry: Rated) -> None:
        row = self._turns.get(entry.key)
        if row is None:
            if entry.key in self._releases:
                return
            found = self._connection.execute(
                "SELECT bot, accepted_at, rating FROM turns WHERE session_id = ? AND message_id = ?", entry.key
            ).fetchone()
            if found is None or entry.key[0] in self._erased:
                return
            bot, at, before = found
            before = self._ratings.get(entry.key, before)
            self._ratings[entry.key] = entry.rating
        else:
            bot, at, before = row[2], row[4], row[_RATING]
            row[_RATING] = entry.rating
        for rating, change in ((before, -1), (entry.rating, 1)):
            if rating is not None:
                column = _UP if rating == "up" else _DOWN
                self._hours[_hour(at), bot][column] += change
                if entry.key[0] in self._present:
                    self._sessions[entry.key[0]][column] += change

    def _erase(self, entry: Erased) -> None:
        session_id = entry.session_id
        self._erased.add(session_id)
        self._present.discard(session_id)
        self._erasures.append((session_id, entry.at))
        self._begun.pop(session_id, None)
        self._seen.pop(session_id, None)
        self._sessions.pop(session_id, None)
        for key in [key for key in self._turns if key[0] == session_id]:
            del self._turns[key]

    def _write_turns(self) -> None:
        # In this order a key that was released may be there again.
        many = self._connection.executemany
        of_key = "WHERE session_id = ? AND message_id = ?"
        write_rows(self._connection, _CLOSINGS, self._closings)
        if self._ratings:
            rated = [(rating, *key) for key, rating in self._ratings.items()]
            many(f"UPDATE turns SET rating = ? {of_key}", rated)  # noqa: S608 - a text of ours
        if self._releases:
            many(f"DELETE FROM turns {of_key}", list(self._releases))  # noqa: S608 - same
        write_rows(self._connection, _NEW_TURNS, list(self._turns.values()))
        if self._erasures:
            ids = [(session_id,) for session_id, _ in self._erasures]
            many("DELETE FROM turns WHERE session_id = ?", ids)
            many("DELETE FROM sessions WHERE id = ?", ids)
            many("INSERT OR IGNORE INTO erased (session_id, erased_at) VALUES (?, ?)", self._erasures)

    def _write_sessions(self) -> None:
        whole: list[tuple[object, ...]] = []
        more: list[tuple[object, ...]] = []
        for session_id, counts in self._sessions.items():
            opened = self._begun.get(session_id)
            if opened is None:
                more.append((*counts, session_id))
                continue
            about = (opened.bot, opened.at, self._seen[session_id], opened.origin, opened.page, opened.client)
            whole.append((session_id, *about, *counts))
        write_rows(self._connection, _SESSIONS, whole)
        write_rows(self._connection, _MORE_OF_SESSIONS, more)

    def _write_figures(self) -> None:
        write_rows(self._connection, _HOURS, [(*key, *counts) for key, counts in self._hours.items()])
        write_rows(self._connection, _TIMES, [(*key, count) for key, count in self._times.items()])
        for table, sql in _PLACES.items():
            rows = [(*key[1:], *counts) for key, counts in self._places.items() if key[0] == table]
            write_rows(self._connection, sql, rows)


def _hour(at: float) -> int:
    return int(at // HOUR_SECONDS) * HOUR_SECONDS
