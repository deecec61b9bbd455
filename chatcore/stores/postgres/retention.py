"""Deletes what was kept long enough, as the owner: months of messages as whole partitions, the rest in batches."""

import contextlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from chatcore.analytics import DAY_SECONDS
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres.database import connect
from chatcore.stores.postgres.schema import MONTHS, add_partitions, month

_LOCK = 0x636C65616E  # `clean`
_MONTH = re.compile(r"messages_(\d{4})_(\d{2})")
_AT_ONCE = 5_000
_JOURNAL_DAYS = 90
_LOCK_TIMEOUT = "2s"
_STATEMENT_TIMEOUT = "60s"
_PARTITIONS = """
SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'chatcore.messages'::regclass ORDER BY 1
"""
BATCHES = (
    ("messages_other", "accepted_at < %(messages)s"),
    ("turns", "accepted_at < %(messages)s"),
    ("sessions", "seen_at < %(messages)s"),
    ("erased", "erased_at < %(erased)s"),
    ("journals", "written_at < %(journals)s"),
    ("hours", "hour < %(figures)s"),
    ("reply_times", "hour < %(figures)s"),
    ("origins", "day < %(figures)s"),
    ("pages", "day < %(figures)s"),
)
"""Which rows of which tables go."""


class Cleaned(msgspec.Struct):
    """What went."""

    months: list[str]
    rows: int = 0

    def __str__(self) -> str:
        months = f"dropped {', '.join(self.months)}; " if self.months else ""
        return f"{months}deleted {self.rows} rows that were kept long enough"


def clean_up(
    settings: PostgresSettings, now: float, *, unless_since: float, stop: Callable[[], bool]
) -> Cleaned | None:
    """Make the coming months, delete what is old; None where another instance does, or has since `unless_since`.

    `now` and `unless_since` are epoch seconds; `stop` is asked between batches. Raises `psycopg.Error`,
    `StoreFaultError`.
    """
    with connect(settings.admin_url) as connection:
        before = _our_turn(connection, now, unless_since)
        if before is None:
            return None
        try:
            return _clean(connection, settings, now, stop)
        except psycopg.Error:
            with contextlib.suppress(psycopg.Error):
                _note(connection, before)  # so that it is tried again before the interval has passed
            raise


def _clean(
    connection: psycopg.Connection[Any], settings: PostgresSettings, now: float, stop: Callable[[], bool]
) -> Cleaned:
    _settings(connection)
    add_partitions(connection, now)
    cleaned = Cleaned(_drop_months(connection, now - settings.message_retention_days * DAY_SECONDS))
    limits = {
        "messages": _at(now - settings.message_retention_days * DAY_SECONDS),
        "erased": _at(now - settings.erased_days * DAY_SECONDS),
        "journals": _at(now) - timedelta(days=_JOURNAL_DAYS),
        "figures": int(now - settings.analytics_retention_days * DAY_SECONDS),
    }
    for table, condition in BATCHES:
        while not stop():
            deleted = connection.execute(deletion(table, condition), limits).rowcount
            cleaned.rows += deleted
            if deleted < _AT_ONCE:
                break
    return cleaned


def _our_turn(connection: psycopg.Connection[Any], now: float, unless_since: float) -> float | None:
    """Note that the clean-up is done now, and give when it was before; None where somebody else does, or has."""
    with connection.transaction():
        row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone()
        if row is None or not row[0]:
            return None
        found = connection.execute("SELECT value FROM chatcore.meta WHERE name = 'cleaned_at'").fetchone()
        before = 0.0 if found is None else float(found[0])
        if before > unless_since:
            return None
        _note(connection, now)
    return before


def _note(connection: psycopg.Connection[Any], cleaned_at: float) -> None:
    connection.execute(
        "INSERT INTO chatcore.meta (name, value) VALUES ('cleaned_at', %s) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (repr(cleaned_at),),
    )


def _settings(connection: psycopg.Connection[Any]) -> None:
    # For this connection alone, which is the owner's and direct; behind a pooler they are lost, and nothing is worse.
    connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
    connection.execute(f"SET statement_timeout = '{_STATEMENT_TIMEOUT}'")


def _drop_months(connection: psycopg.Connection[Any], limit: float) -> list[str]:
    """Drop the months that ended before `limit` (epoch seconds)."""
    dropped = []
    for (name,) in connection.execute(_PARTITIONS).fetchall():
        match = _MONTH.fullmatch(name)
        if match is None:
            continue
        end = month(int(match[1]) * MONTHS + int(match[2]))  # the next one's beginning
        if end.timestamp() <= limit:
            # Waits for no long reader: everybody who writes a message would wait behind it. Then the next time.
            with contextlib.suppress(psycopg.errors.LockNotAvailable):
                connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("chatcore", name)))
                dropped.append(name)
    return dropped


def deletion(table: str, condition: str) -> bytes:
    """Give the statement that deletes one batch, so that no transaction is long and no lock is held long.

    The condition is there twice: a session may have been seen while this waited for its row.
    """
    batch = f"SELECT ctid FROM chatcore.{table} WHERE {condition} LIMIT {_AT_ONCE}"  # noqa: S608 - names of ours
    return f"DELETE FROM chatcore.{table} WHERE ctid = ANY (ARRAY({batch})) AND {condition}".encode()  # noqa: S608 - same


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(max(seconds, 0.0), UTC)
