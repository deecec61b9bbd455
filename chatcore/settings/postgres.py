"""The settings of PostgreSQL mode: its databases, what is kept how long, the journal for outages, the audit key."""

from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from chatcore.settings.databases import POSTGRES, REDIS
from chatcore.settings.forms import Form, file_path, number, switch, whole
from chatcore.settings.keys import KEY
from chatcore.settings.reader import Reader
from chatcore.settings.sqlite import ANALYTICS_DAYS, INTERVAL_HOURS, MOST_DAYS
from chatcore.settings.values import PostgresSettings

DESCRIPTORS_BESIDES = 64
"""Files and connections beside the pools: Redis, the journal, the owner of the schema."""

_MEBIBYTE, _GIBIBYTE, _TEBIBYTE = 1 << 20, 1 << 30, 1 << 40
_DEFAULT_SPOOL = "spool.db"
_SPOOL = file_path("the file in which messages wait while PostgreSQL does not answer", _DEFAULT_SPOOL)
_POOL_SIZE = whole(2, 500, 10)
_DERIVED_KEY = (
    "AUDIT_KEY is not set: it is derived from JWT_SECRET_KEY, "
    "and the audit log can no longer be verified once that changes."
)
_ONE_ROLE = (
    "DATABASE_ADMIN_URL {problem}: the role that serves owns the tables, "
    "so that whoever gets hold of it can change the audit log."
)
T = TypeVar("T")


def read(reader: Reader, *, serving: bool) -> PostgresSettings:
    """Read what PostgreSQL mode needs; the keys of tokens come with `settle`. Without `serving` Redis may be unset."""
    url = _required(reader, "DATABASE_URL", POSTGRES, "")
    admin = reader.take("DATABASE_ADMIN_URL", POSTGRES, default=None)
    found = reader.take("REDIS_URL", REDIS, default="") if not serving else _required(reader, "REDIS_URL", REDIS, "")
    return PostgresSettings(
        url=url,
        admin_url=admin or url,
        read_url=reader.take("DATABASE_READ_URL", POSTGRES, default=url),
        redis_url=found,
        pool_size=reader.take("DATABASE_POOL_SIZE", _POOL_SIZE, default=10),
        prepare=reader.take("DATABASE_PREPARE", switch(example=True), default=False),
        persist_strict=reader.take("PERSIST_STRICT", switch(example=True), default=False),
        spool_path=reader.take("SPOOL_PATH", _SPOOL, default=Path(_DEFAULT_SPOOL)),
        spool_max_bytes=reader.take("SPOOL_MAX_BYTES", whole(_MEBIBYTE, _TEBIBYTE, _GIBIBYTE), default=_GIBIBYTE),
        audit_key=reader.take("AUDIT_KEY", KEY, default=None),
        cleanup_interval_hours=reader.take("CLEANUP_INTERVAL_HOURS", INTERVAL_HOURS, default=24.0),
        message_retention_days=reader.take("MESSAGE_RETENTION_DAYS", number(1, MOST_DAYS, 365), default=365.0),
        analytics_retention_days=reader.take("ANALYTICS_RETENTION_DAYS", ANALYTICS_DAYS, default=400.0),
    )


def warn(reader: Reader, settings: PostgresSettings) -> None:
    """Warn of what makes the audit log worth less than it can be."""
    if settings.audit_key is None and not reader.is_faulty("AUDIT_KEY"):
        reader.warn(_DERIVED_KEY)
    if reader.is_faulty("DATABASE_ADMIN_URL"):
        return
    if "DATABASE_ADMIN_URL" not in reader.given:
        reader.warn(_ONE_ROLE.format(problem="is not set"))
    elif settings.url and urlsplit(settings.admin_url).username == urlsplit(settings.url).username:
        reader.warn(_ONE_ROLE.format(problem="has the user of DATABASE_URL"))


def settle(settings: PostgresSettings, jwt_secrets: tuple[str, ...], session_max_days: float) -> PostgresSettings:
    """Give the settings with what follows from those of tokens."""
    return msgspec.structs.replace(settings, jwt_secrets=jwt_secrets, erased_days=session_max_days + 1)


def descriptors(settings: PostgresSettings) -> int:
    """Give how many descriptors the stores may have open: a pool to serve, one to read, and those besides."""
    return 2 * settings.pool_size + DESCRIPTORS_BESIDES


def _required(reader: Reader, name: str, form: Form[T], absent: T) -> T:
    value = reader.take(name, form, default=None)
    if value is None:
        if not reader.is_faulty(name):
            reader.refuse(name, "is not set", form.expected, f"{name}={form.example}")
        return absent
    return value
