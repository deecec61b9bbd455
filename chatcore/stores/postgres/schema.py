"""The schema of the database: brought up to date once, whoever starts first; refused where it is newer than we are."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres.database import connect, fault, parameters

HEAD = "0001"
"""The revision that this program works with."""

_KNOWN = ("0001",)
_OLDEST_SERVER = 150000
_LOCK = 0x63686174  # `chat`
_MONTHS_AHEAD = 3
_MONTHS_BEHIND = 1
MONTHS = 12
"""In a year."""
_NEWER = "Start the newer version of chatcore that migrated it, or give this one a database of its own."
_OWNER = (
    "Set DATABASE_ADMIN_URL to the role that owns the database (or may create in it), or run "
    "`python main_postgres.py migrate` where that is set."
)


class State(msgspec.Struct, frozen=True):
    """What a server must know of the database, also while that is away: it is kept in the journal's file."""

    revision: str
    hash_key: bytes


def prepare(settings: PostgresSettings, clock: Clock) -> State:
    """Connect, migrate where the schema is older or missing, and give what serving needs.

    Raises `StoreFaultError` for what an operator has to change, `DatabaseAwayError` where nothing answers.
    """
    try:
        serving = connect(settings.url)
    except StoreFaultError as error:
        raise DatabaseAwayError(error) from error
    with serving:
        try:
            if _revision(serving) != HEAD or not _may_serve(serving):
                _upgrade(settings, _role_of(serving), clock)
            return State(HEAD, hash_key_of(serving))
        except psycopg.Error as error:
            raise fault(error) from error


def migrate(settings: PostgresSettings, clock: Clock) -> str:
    """Bring the schema up to date and make the coming months' partitions; tells what was done."""
    role = conninfo_to_dict(settings.url).get("user")
    before = _upgrade(settings, None if role is None else str(role), clock)
    if before == HEAD:
        return f"The schema is up to date (revision {HEAD})"
    return f"The schema was brought from {before or 'nothing'} to revision {HEAD}"


class DatabaseAwayError(Exception):
    """Nothing can be asked of the database; `fault` says why, for a start that cannot do without."""

    def __init__(self, told: StoreFaultError) -> None:
        super().__init__(told.problem)
        self.fault = told


def add_partitions(connection: psycopg.Connection[Any], now: float) -> None:
    """Make the months of messages around `now` (epoch seconds), as the owner."""
    today = datetime.fromtimestamp(now, UTC)
    first = today.year * MONTHS + today.month - 1 - _MONTHS_BEHIND
    for number in range(first, first + _MONTHS_BEHIND + _MONTHS_AHEAD + 1):
        begin, end = month(number), month(number + 1)
        name = f"messages_{begin.year:04d}_{begin.month:02d}"
        known = connection.execute("SELECT to_regclass(%s)", (f"chatcore.{name}",)).fetchone()
        if known is not None and known[0] is not None:
            continue
        statement = sql.SQL("CREATE TABLE {} PARTITION OF chatcore.messages FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier("chatcore", name), sql.Literal(begin.isoformat()), sql.Literal(end.isoformat())
        )
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.errors.CheckViolation:
            continue  # a wrong clock has put messages of that month into the table for all others, where they may stay


def month(number: int) -> datetime:
    """Give the beginning of a month, counted from the year 0."""
    return datetime(number // MONTHS, number % MONTHS + 1, 1, tzinfo=UTC)


def _revision(connection: psycopg.Connection[Any]) -> str | None:
    """Give the schema's revision; None where there is none, or none that this role may see."""
    version = connection.info.server_version
    if version < _OLDEST_SERVER:
        raise StoreFaultError(f"the server is PostgreSQL {version // 10000}", "PostgreSQL 15 or newer is needed.")
    try:
        with connection.transaction():  # within another one this is a savepoint
            row = connection.execute("SELECT version_num FROM chatcore.alembic_version").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.InsufficientPrivilege):
        return None
    if row is None:
        return None
    _refuse_newer(str(row[0]))
    return str(row[0])


def _refuse_newer(revision: str) -> None:
    if revision not in _KNOWN:
        raise StoreFaultError(
            f"the database has a newer schema (revision {revision}; this program knows {HEAD})", _NEWER
        )


def _may_serve(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT has_table_privilege('chatcore.audit_log', 'INSERT')").fetchone()
    return bool(row and row[0])


def _role_of(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute("SELECT current_user").fetchone()
    return str(row[0]) if row else ""


def hash_key_of(connection: psycopg.Connection[Any]) -> bytes:
    """Give the secret of keyed hashes, which all instances share. Raises `StoreFaultError`."""
    row = connection.execute("SELECT value FROM chatcore.meta WHERE name = 'hash_key'").fetchone()
    if row is None:
        raise StoreFaultError("the database has lost the row hash_key of chatcore.meta", "Restore a backup.")
    return bytes.fromhex(row[0])


def _upgrade(settings: PostgresSettings, serving: str | None, clock: Clock) -> str | None:
    """Migrate as the owner, one process at a time; grant the serving role its rights. Gives the former revision."""
    from sqlalchemy import create_engine  # noqa: PLC0415 - slow to import, and nearly every start does without
    from sqlalchemy.pool import NullPool  # noqa: PLC0415 - same

    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(parameters(settings.admin_url), prepare_threshold=None),
        poolclass=NullPool,
    )
    try:
        with engine.begin() as bound:
            connection: psycopg.Connection[Any] = bound.connection.driver_connection  # type: ignore[assignment]  # it is psycopg's
            # Others that start meanwhile wait here, and find the work done.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            before = _revision(connection)
            if before != HEAD:
                connection.execute("CREATE SCHEMA IF NOT EXISTS chatcore")
                _run_alembic(bound)
            add_partitions(connection, clock.now())
            if serving is not None:
                _grant(connection, serving)
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg.errors.InsufficientPrivilege):
            said = " ".join(str(cause).split())
            problem = f"the role of the database may not make or change its schema: {said}"
            raise StoreFaultError(problem, _OWNER) from None
        if isinstance(cause, psycopg.errors.UndefinedFile | psycopg.errors.FeatureNotSupported):
            problem = "the server lacks the extension unaccent"
            raise StoreFaultError(problem, "Install PostgreSQL's contrib package on the server.") from None
        raise fault(error) from error
    return before


def _run_alembic(bound: Connection) -> None:
    """Run what is missing inside the transaction that is open."""
    from alembic.config import Config  # noqa: PLC0415 - slow to import, and nearly every start does without
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415 - same
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - same

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001 - what Alembic's own `upgrade` command calls

    with EnvironmentContext(config, script, fn=steps, destination_rev="head") as environment:
        environment.configure(connection=bound, version_table_schema="chatcore")
        environment.run_migrations()


def _grant(connection: psycopg.Connection[Any], role: str) -> None:
    """Let the serving role do its work, and with the audit log nothing but add and read."""
    owner = connection.execute("SELECT current_user").fetchone()
    if owner is not None and owner[0] == role:
        return
    to = sql.Identifier(role)
    for statement in (
        "GRANT USAGE ON SCHEMA chatcore TO {}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA chatcore TO {}",
        "REVOKE INSERT, UPDATE, DELETE ON chatcore.audit_log, chatcore.alembic_version FROM {}",
        "GRANT INSERT ON chatcore.audit_log TO {}",
    ):
        connection.execute(sql.SQL(statement).format(to))
