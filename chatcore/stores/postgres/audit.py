"""The audit log in the database: entries are added one by one, each bound to the one before it (`chain.py`)."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection

from chatcore import keyed
from chatcore.archive import AuditEntry, AuditPage, Deed
from chatcore.ports import Clock
from chatcore.stores.postgres.chain import BEGINNING, Head, Key, Link, digest
from chatcore.stores.postgres.database import Database
from chatcore.stores.postgres.statements import for_psycopg, statement

LOCK = 0x6175646974
"""The advisory lock that orders who adds entries: the letters `audit`."""

_SECONDS = 5.0
_ADDRESS_BYTES = 16
_MILLION = 1_000_000
_LAST = (1 << 63) - 1


class Scribe:
    """Makes entries of deeds, for the server and for commands."""

    def __init__(self, key: Key, hash_key: bytes, clock: Clock) -> None:
        """`key` is the chain's, `hash_key` the database's own, from which the key of hashed addresses is derived."""
        self._key = key
        self._address_key = keyed.derive(hash_key, "audited address")
        self._clock = clock

    def add(self, connection: psycopg.Connection[Any], deed: Deed) -> None:
        """Add an entry in a transaction that is open. What a command does and its entry are then committed together."""
        connection.execute(for_psycopg("audit_lock"), {"lock": LOCK})
        last = connection.execute(for_psycopg("audit_last")).fetchone()
        connection.execute(for_psycopg("audit_add"), self.row(deed, last))

    def row(self, deed: Deed, last: Sequence[Any] | None) -> Mapping[str, Any]:
        """Give the entry of a deed, behind the entry whose number and hash are `last`."""
        before = Head(0, BEGINNING) if last is None else Head(last[0], bytes(last[1]))
        link = Link(
            number=before.number + 1,
            at_us=round(self._clock.now() * _MILLION),
            actor=deed.actor,
            action=deed.action,
            session_id=deed.session_id,
            address=self._hashed(deed.address),
            detail=deed.detail,
            key_id=self._key.id,
        )
        return {
            "number": link.number,
            "at_us": link.at_us,
            "actor": link.actor,
            "action": link.action,
            "session": link.session_id,
            "address": link.address,
            "detail": msgspec.json.encode(link.detail).decode(),
            "key_id": link.key_id,
            "hash": digest(self._key.secret, before.hash, link).hex(),
        }

    def _hashed(self, address: str) -> str:
        """Hash an address with a key, so that two entries can be compared and nobody learns where they came from."""
        if not address:
            return ""
        return hashlib.blake2b(address.encode(), key=self._address_key, digest_size=_ADDRESS_BYTES).hexdigest()


class PostgresAudit:
    """Implements `ports.AuditTrail`."""

    def __init__(self, database: Database, key: Key, hash_key: bytes, clock: Clock) -> None:
        """`database` is the one that is written: an entry must be there before anything is given."""
        self._database = database
        self._scribe = Scribe(key, hash_key, clock)
        self._lock, self._last, self._add = (statement(name) for name in ("audit_lock", "audit_last", "audit_add"))
        self._page = statement("audit_page")

    async def record(self, deed: Deed) -> None:
        """Add an entry, durable when this returns. Raises `StoreUnavailableError`."""
        async with self._database.transaction(seconds=_SECONDS) as connection:
            await self.add(connection, deed)

    async def add(self, connection: AsyncConnection, deed: Deed) -> None:
        """Add an entry in somebody's transaction; others who add wait until that ends."""
        await connection.execute(self._lock, {"lock": LOCK})
        # A statement of its own: it sees what was committed while the lock was waited for.
        last = (await connection.execute(self._last)).first()
        await connection.execute(self._add, self._scribe.row(deed, last))

    async def page(self, before: int | None, limit: int) -> AuditPage:
        """Give the latest entries, or those before a number. Raises `StoreUnavailableError`."""
        asked = {"before": _LAST if before is None else before, "most": limit + 1}
        rows = await self._database.rows(self._page, asked)
        entries = tuple(
            AuditEntry(
                number=row.number,
                at=row.at_us / _MILLION,
                actor=row.actor,
                action=row.action,
                session_id=row.session_id,
                address=row.address,
                detail=row.detail,
            )
            for row in rows[:limit]
        )
        return AuditPage(entries, entries[-1].number if len(rows) > limit else None)


def links_after(connection: psycopg.Connection[Any], number: int, most: int) -> list[Link]:
    """Read the next entries for `chain.Walk`, those behind entry `number`."""
    rows = connection.execute(for_psycopg("audit_links"), {"after": number, "most": most}).fetchall()
    return [_link(*row) for row in rows]


def _link(
    number: int,
    at_us: int,
    actor: str,
    action: str,
    session_id: str | None,
    address: str,
    detail: Mapping[str, Any],
    key_id: str,
    hashed: bytes,
) -> Link:
    return Link(
        number=number,
        at_us=at_us,
        actor=actor,
        action=action,
        session_id=session_id,
        address=address,
        detail=detail,
        key_id=key_id,
        hash=bytes(hashed),
    )
