"""Short questions to the file, each a look into an index; they run in the reader's thread."""

import sqlite3

from chatcore.model import TurnKey


def is_erased(connection: sqlite3.Connection, session_id: str) -> bool:
    """Tell whether the session was erased."""
    return connection.execute("SELECT 1 FROM erased WHERE session_id = ?", (session_id,)).fetchone() is not None


def digest_of(connection: sqlite3.Connection, key: TurnKey, since: float) -> bytes | None:
    """Give the digest of the message with this id; None where none was accepted `since` (epoch seconds)."""
    found = connection.execute(
        "SELECT digest FROM turns WHERE session_id = ? AND message_id = ? AND accepted_at >= ?", (*key, since)
    ).fetchone()
    return None if found is None else found[0]


def turns_after(connection: sqlite3.Connection, key: TurnKey, count: int) -> list[TurnKey]:
    """Give the keys of the next `count` messages in the order of their keys."""
    return connection.execute(
        "SELECT session_id, message_id FROM turns WHERE (session_id, message_id) > (?, ?) "
        "ORDER BY session_id, message_id LIMIT ?",
        (*key, count),
    ).fetchall()


def erased_after(connection: sqlite3.Connection, session_id: str, count: int) -> list[str]:
    """Give the next `count` erased sessions in the order of their ids."""
    rows = connection.execute(
        "SELECT session_id FROM erased WHERE session_id > ? ORDER BY session_id LIMIT ?", (session_id, count)
    )
    return [found for (found,) in rows]
