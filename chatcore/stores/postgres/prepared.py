"""Finds out whether what stands before PostgreSQL mixes up prepared statements, before any of them can do harm."""

from contextlib import ExitStack

import psycopg

from chatcore.ports import StoreFaultError
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres.database import connect

FAULT = "DATABASE_PREPARE is true, but a pooler stands before PostgreSQL that mixes up prepared statements"
ADVICE = "Set DATABASE_PREPARE to false, or let the pooler keep them apart (PgBouncer 1.21: max_prepared_statements)."

_TURNS = 5
_CONNECTIONS = ("one", "other", "third")
_MIXED = ("26000", "42P05")  # it does not exist, it exists already


def refuse_mixed(settings: PostgresSettings) -> None:
    """Raise `StoreFaultError` where statements are to be prepared and would be mixed up.

    A server that does not answer now is not asked again: what it says of mixed statements later is told as an outage.
    """
    if not settings.prepare:
        return
    for url in dict.fromkeys((settings.url, settings.read_url)):
        try:
            mixed = mixes(url)
        except (StoreFaultError, psycopg.Error):
            continue
        if mixed:
            raise StoreFaultError(FAULT, ADVICE)


def mixes(url: str) -> bool:
    """Prepare another statement on each of some connections, run them by turns, and tell whether one got another's.

    psycopg numbers statements, on each connection from 0. A pooler of transactions that knows nothing of them runs
    under such a name what somebody else has prepared: it might be that which erases a session. Raises
    `StoreFaultError` where there is no connection, `psycopg.Error` where one breaks.
    """
    with ExitStack() as opened:
        connections = [(text, opened.enter_context(connect(url))) for text in _CONNECTIONS]
        for _, connection in connections:
            connection.prepare_threshold = 0
        try:
            for _ in range(_TURNS):
                for text, connection in connections:
                    if connection.execute(f"SELECT '{text}'").fetchone() != (text,):
                        return True
        except psycopg.Error as error:
            if error.sqlstate in _MIXED:
                return True
            raise
    return False
