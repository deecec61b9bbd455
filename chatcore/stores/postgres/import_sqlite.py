"""Takes over a file of SQLite mode: its figures, its sessions' counts, who was erased, and which message ids were used.

The file is read and nothing else; all of it is taken in one transaction, or nothing.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg

from chatcore.analytics import DAY_SECONDS
from chatcore.archive import Deed
from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import PostgresSettings
from chatcore.stores.file_lock import Lock
from chatcore.stores.postgres import auditing
from chatcore.stores.postgres.database import connect, fault

KNOWN_VERSION = 1
"""The version of SQLite mode's tables that is read here."""

SHARD = -1
"""Counts of instances have shards from 0 on; those from files are one of their own."""

_APPLICATION_ID = 0x63686174  # `chat`, in the file's header
_ROWS_AT_ONCE = 2_000
_IDENTITY_CHARS = 16


class _Table(NamedTuple):
    """What is read of the file, and how rows of it, a JSON list of objects, are put into the database."""

    name: str
    read: str
    write: str


_TABLES = (
    _Table(
        "hours",
        "SELECT hour, bot, sessions, messages, replies, errors, feedback_up, feedback_down FROM hours",
        """
INSERT INTO chatcore.hours AS h
    (hour, bot, shard, sessions, messages, replies, errors, feedback_up, feedback_down)
SELECT hour, bot, %(shard)s, sessions, messages, replies, errors, feedback_up, feedback_down
FROM jsonb_populate_recordset(NULL::chatcore.hours, %(rows)s::jsonb)
ON CONFLICT (hour, bot, shard) DO UPDATE SET sessions = h.sessions + excluded.sessions,
    messages = h.messages + excluded.messages, replies = h.replies + excluded.replies,
    errors = h.errors + excluded.errors, feedback_up = h.feedback_up + excluded.feedback_up,
    feedback_down = h.feedback_down + excluded.feedback_down
""",
    ),
    _Table(
        "reply_times",
        "SELECT hour, bot, bucket, count FROM reply_times",
        """
INSERT INTO chatcore.reply_times AS r (hour, bot, bucket, shard, count)
SELECT hour, bot, bucket, %(shard)s, count FROM jsonb_populate_recordset(NULL::chatcore.reply_times, %(rows)s::jsonb)
ON CONFLICT (hour, bot, bucket, shard) DO UPDATE SET count = r.count + excluded.count
""",
    ),
    _Table(
        "origins",
        "SELECT day, bot, name, sessions, messages FROM origins",
        """
INSERT INTO chatcore.origins AS o (day, bot, name, shard, sessions, messages)
SELECT day, bot, name, %(shard)s, sessions, messages
FROM jsonb_populate_recordset(NULL::chatcore.origins, %(rows)s::jsonb)
ON CONFLICT (day, bot, name, shard) DO UPDATE
SET sessions = o.sessions + excluded.sessions, messages = o.messages + excluded.messages
""",
    ),
    _Table(
        "pages",
        "SELECT day, bot, name, sessions, messages FROM pages",
        """
INSERT INTO chatcore.pages AS p (day, bot, name, shard, sessions, messages)
SELECT day, bot, name, %(shard)s, sessions, messages
FROM jsonb_populate_recordset(NULL::chatcore.pages, %(rows)s::jsonb)
ON CONFLICT (day, bot, name, shard) DO UPDATE
SET sessions = p.sessions + excluded.sessions, messages = p.messages + excluded.messages
""",
    ),
    _Table(
        "erased",
        "SELECT session_id, erased_at FROM erased",
        """
INSERT INTO chatcore.erased (session_id, erased_at)
SELECT session_id, to_timestamp(erased_at)
FROM jsonb_to_recordset(%(rows)s::jsonb) AS g(session_id text, erased_at float8)
ON CONFLICT DO NOTHING
""",
    ),
    # Behind `erased`: none comes back. One that went on here before the file was taken gets what the file has besides.
    _Table(
        "sessions",
        "SELECT id, bot, created_at, seen_at, origin, page, client, messages, replies, errors, reply_ms, feedback_up, "
        "feedback_down FROM sessions",
        """
INSERT INTO chatcore.sessions AS s (id, bot, created_at, seen_at, origin, page, client, messages, replies, errors,
    reply_ms, feedback_up, feedback_down)
SELECT id, bot, to_timestamp(created_at), to_timestamp(seen_at), origin, page, client, messages, replies, errors,
    reply_ms, feedback_up, feedback_down
FROM jsonb_to_recordset(%(rows)s::jsonb) AS g(id text, bot text, created_at float8, seen_at float8, origin text,
    page text, client text, messages integer, replies integer, errors integer, reply_ms bigint, feedback_up integer,
    feedback_down integer)
WHERE NOT EXISTS (SELECT FROM chatcore.erased WHERE session_id = g.id)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET created_at = least(s.created_at, excluded.created_at),
    seen_at = greatest(s.seen_at, excluded.seen_at), origin = excluded.origin, page = excluded.page,
    messages = s.messages + excluded.messages, replies = s.replies + excluded.replies,
    errors = s.errors + excluded.errors, reply_ms = s.reply_ms + excluded.reply_ms,
    feedback_up = s.feedback_up + excluded.feedback_up, feedback_down = s.feedback_down + excluded.feedback_down
""",
    ),
    # Who sends one of these again is told that the reply is gone. The file's hashes of texts have another key.
    _Table(
        "turns",
        "SELECT session_id, message_id, bot, accepted_at, rating FROM turns WHERE accepted_at > :since",
        """
INSERT INTO chatcore.turns (session_id, message_id, bot, digest, accepted_at, state, rating)
SELECT session_id, message_id, bot, '', to_timestamp(accepted_at), 'cut', rating
FROM jsonb_to_recordset(%(rows)s::jsonb)
    AS g(session_id text, message_id uuid, bot text, accepted_at float8, rating text)
WHERE NOT EXISTS (SELECT FROM chatcore.erased AS e WHERE e.session_id = g.session_id)
ON CONFLICT DO NOTHING
""",
    ),
)
_MARK = "INSERT INTO chatcore.meta (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING name"
_NOT_OURS = "Name the database file of SQLite mode: what SQLITE_DB_PATH says there."


def import_file(settings: PostgresSettings, path: Path, by: str, clock: Clock) -> Mapping[str, int]:
    """Take over the file, once; gives how many rows of which table were read. Raises `StoreFaultError`."""
    with _served_by_nobody(path), _opened(path) as file, connect(settings.admin_url) as connection:
        name = f"imported:{_identity(file, path)}"
        now = clock.now()
        try:
            with connection.transaction():
                connection.execute("SET LOCAL statement_timeout = 0")
                mark = (name, datetime.fromtimestamp(now, UTC).isoformat())
                if connection.execute(_MARK, mark).fetchone() is None:
                    raise StoreFaultError(
                        f"{path}, or a copy of it, was taken over before",
                        "Nothing is left to do; taken twice, everything would count double. Nothing was changed.",
                    )
                counts = {table.name: _copy(table, file, connection, now) for table in _TABLES}
                deed = Deed(actor=by, action="imported", detail={"file": path.name, **counts})
                auditing.add(connection, settings, deed, clock)
        except psycopg.Error as error:
            raise fault(error) from error
        except sqlite3.Error as error:
            raise StoreFaultError(
                f"{path} is damaged ({error})", "Take a backup of it. Nothing was changed."
            ) from error
    return counts


def _copy(table: _Table, file: sqlite3.Connection, connection: psycopg.Connection[Any], now: float) -> int:
    rows = file.execute(table.read, {"since": now - DAY_SECONDS} if ":since" in table.read else {})
    names = [column[0] for column in rows.description]
    count = 0
    while batch := list(islice(rows, _ROWS_AT_ONCE)):
        listed = [dict(zip(names, map(_stored, row), strict=True)) for row in batch]
        connection.execute(table.write.encode(), {"rows": msgspec.json.encode(listed).decode(), "shard": SHARD})
        count += len(batch)
    return count


def _stored(value: Any) -> Any:
    """Give a value as PostgreSQL can hold it: its texts have no NUL."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _identity(file: sqlite3.Connection, path: Path) -> str:
    """Give what tells this file and its copies from all others, and shows nothing of what is in it."""
    (application,) = file.execute("PRAGMA application_id").fetchone()
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise StoreFaultError(f"{path} is no database of SQLite mode", _NOT_OURS)
    if version != KNOWN_VERSION:
        age = "a newer" if version > KNOWN_VERSION else "an older"
        raise StoreFaultError(
            f"{path} was written by {age} chatcore: its tables have version {version}, {KNOWN_VERSION} is read here",
            "Start main_sqlite.py of this version with it once, which brings it up to date."
            if version < KNOWN_VERSION
            else "Use the newer chatcore.",
        )
    row = file.execute("SELECT value FROM meta WHERE name = 'hash_key'").fetchone()
    if row is None:
        raise StoreFaultError(f"{path} was never served, so there is nothing in it", _NOT_OURS)
    return hashlib.sha256(b"imported file" + row[0]).hexdigest()[:_IDENTITY_CHARS]


@contextlib.contextmanager
def _served_by_nobody(path: Path) -> Iterator[None]:
    """Keep servers from the file meanwhile: what they counted afterwards would be lost."""
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        raise StoreFaultError(f"{path} {problem}", _NOT_OURS)
    lock = None
    try:
        lock = Lock(path, "SQLITE_DB_PATH")
    except StoreFaultError as error:
        raise StoreFaultError(error.problem, "Stop it first: what it counts afterwards would be lost.") from None
    except OSError:
        pass  # nobody can serve a file in a folder that cannot be written
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open it to be read. A log that a killed server left is read too; without one nothing is written beside it."""
    log = path.with_name(f"{path.name}-wal")
    whole = not log.exists() or not log.stat().st_size
    how = "mode=ro&immutable=1" if whole else "mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as file:
            file.execute("PRAGMA query_only = ON")
            file.execute("SELECT count(*) FROM sqlite_schema")
            yield file
    except sqlite3.OperationalError as error:
        said = f"{path} cannot be read ({error})"
        raise StoreFaultError(
            said, "Let this user read it, and write its folder where a log lies beside it."
        ) from error
    except sqlite3.DatabaseError as error:
        raise StoreFaultError(f"{path} is not a SQLite database, or damaged ({error})", _NOT_OURS) from error
