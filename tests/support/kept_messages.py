"""Messages for tests of PostgreSQL mode, put into a database as its servers put them there."""

import uuid
from collections.abc import Iterable

import msgspec
import psycopg

from chatcore.settings import PostgresSettings
from chatcore.stores.postgres import schema
from chatcore.stores.postgres.schema import State
from tests.support.clock import ManualClock
from tests.support.databases import Database

BEGIN = 1_789_000_000
"""2026-09-10, 02:26:40 UTC: so long before `ManualClock` begins that a month ends in between."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. `at` in seconds since the Unix epoch; a reply of None never ended."""

    session: int
    number: int
    at: float
    text: str = "Hello"
    reply: str | None = "Hello yourself"
    bot: str = "default"
    origin: str = "https://shop.test"
    page: str = "https://shop.test/prices"
    state: str = "complete"
    error: str | None = None

    @property
    def at_us(self) -> int:
        return round(self.at * 1_000_000)

    @property
    def session_id(self) -> str:
        return session_id(self.session)

    @property
    def message_id(self) -> str:
        return str(uuid.UUID(int=self.number))


def session_id(number: int) -> str:
    """Give the id of the session of that number."""
    return f"s_{number:022d}"


def settings_of(database: Database) -> PostgresSettings:
    """Give settings for that database alone."""
    return PostgresSettings(
        url=database.url,
        admin_url=database.admin_url,
        read_url=database.url,
        redis_url="redis://127.0.0.1:1",
        jwt_secrets=("j" * 32,),
    )


def prepare(database: Database) -> State:
    """Make the schema."""
    return schema.prepare(settings_of(database), ManualClock())


def keep(database: Database, turns: Iterable[Said]) -> None:
    """Write turns as the serving role, each in a transaction of its own kind: all openings, then all endings."""
    given = list(turns)
    opened = [
        {
            "s": one.session_id,
            "m": one.message_id,
            "b": one.bot,
            "d": "00",
            "t": one.at_us,
            "x": one.text,
            "o": one.origin,
            "p": one.page,
            "c": "firefox desktop",
        }
        for one in given
    ]
    closed = [
        {
            "s": one.session_id,
            "m": one.message_id,
            "f": one.state,
            "e": one.error,
            "ms": 1500,
            "k": 77,
            "t": one.at_us + 1_500_000,
            "x": one.reply,
        }
        for one in given
        if one.reply is not None
    ]
    entries = {"opened": opened, "closed": closed, "rated": [], "released": []}
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(
            "SELECT chatcore.record(%s, 1, 1, 0::smallint, %s::jsonb)",
            (uuid.uuid5(uuid.NAMESPACE_OID, repr(given)), msgspec.json.encode(entries).decode()),
        )
