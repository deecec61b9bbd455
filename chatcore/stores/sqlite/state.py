"""What a start takes from the file: its secret key, limits that still hold, and turns that a crash left open."""

import sqlite3
from typing import Any

import msgspec

from chatcore.ports import Clock
from chatcore.stores.sqlite.entries import LimitRow

MOST_LIMITS = 100_000
_KEY_BYTES = 32

_ERRORS_OF_HOURS = """
INSERT INTO hours (hour, bot, errors)
SELECT CAST(accepted_at / 3600 AS INTEGER) * 3600, bot, count(*) FROM turns WHERE open GROUP BY 1, 2
ON CONFLICT DO UPDATE SET errors = errors + excluded.errors
"""
_ERRORS_OF_SESSIONS = """
UPDATE sessions SET errors = errors + (SELECT count(*) FROM turns WHERE open AND session_id = sessions.id)
WHERE id IN (SELECT session_id FROM turns WHERE open)
"""


class State(msgspec.Struct, frozen=True):
    """`hash_key` is the file's own; `cleaned_at` when its clean-up last ended (epoch seconds, 0: never)."""

    hash_key: bytes
    limits: list[LimitRow]
    cleaned_at: float


def take_over(connection: sqlite3.Connection, clock: Clock) -> State:
    """Close as errors what a crash left open, and give what the file knows. Raises `sqlite3.Error`."""
    connection.execute("BEGIN IMMEDIATE")
    fresh = clock.token_bytes(_KEY_BYTES)
    connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('hash_key', ?)", (fresh,))
    for statement in (_ERRORS_OF_HOURS, _ERRORS_OF_SESSIONS, "UPDATE turns SET open = 0 WHERE open"):
        connection.execute(statement)
    connection.execute("COMMIT")
    limits = connection.execute(
        "SELECT key, until, used FROM limits WHERE until > ? ORDER BY until DESC LIMIT ?", (clock.now(), MOST_LIMITS)
    )
    return State(_meta(connection, "hash_key"), limits.fetchall(), _meta(connection, "cleaned_at") or 0.0)


def _meta(connection: sqlite3.Connection, name: str) -> Any:
    found = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if found is None else found[0]
