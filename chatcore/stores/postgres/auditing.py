"""The audit log for commands: an entry for what a command does, and the check of all entries there are."""

from typing import Any

import psycopg

from chatcore.archive import Deed, Verdict
from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres import chain
from chatcore.stores.postgres.audit import Scribe, links_after
from chatcore.stores.postgres.database import connect, fault
from chatcore.stores.postgres.schema import hash_key_of

ENTRIES_AT_ONCE = 1_000

_HASH_AT = "SELECT hash FROM chatcore.audit_log WHERE number = %s"
_NO_KEY = StoreFaultError(
    "the audit log's key is not known",
    "Set AUDIT_KEY, or JWT_SECRET_KEY where it is derived from that, as for the servers.",
)


def record(settings: PostgresSettings, deed: Deed, clock: Clock) -> None:
    """Add an entry by itself. Raises `StoreFaultError` where it cannot be written."""
    with connect(settings.url) as connection:
        try:
            with connection.transaction():
                add(connection, settings, deed, clock)
        except psycopg.Error as error:
            raise fault(error) from error


def add(connection: psycopg.Connection[Any], settings: PostgresSettings, deed: Deed, clock: Clock) -> None:
    """Add an entry in the transaction that is open. Raises `psycopg.Error`."""
    keys = chain.keys(settings.audit_key, settings.jwt_secrets)
    if not keys:
        raise _NO_KEY
    Scribe(keys[0], hash_key_of(connection), clock).add(connection, deed)


def verify(settings: PostgresSettings, noted: str | None) -> Verdict:
    """Check every entry, and that the head `noted` (`number:hash`) is among them. Raises `StoreFaultError`."""
    keys = chain.keys(settings.audit_key, settings.jwt_secrets)
    if not keys:
        raise _NO_KEY
    walk = chain.Walk(keys)
    with connect(settings.url) as connection:
        try:
            while walk.along(links := links_after(connection, walk.head.number, ENTRIES_AT_ONCE)) and links:
                pass
            wrong = walk.fault
            if wrong is None and noted is not None:
                number, _, hashed = noted.partition(":")
                head = chain.Head(int(number), bytes.fromhex(hashed))
                row = connection.execute(_HASH_AT, (head.number,)).fetchone()
                wrong = chain.missed(walk.head, None if row is None else bytes(row[0]), head)
        except psycopg.Error as error:
            raise fault(error) from error
    others = sum(count for key, count in walk.keys_used.items() if key != keys[0].id)
    return Verdict(walk.head.number, str(walk.head), others, None if wrong is None else wrong.problem)
