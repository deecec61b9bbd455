"""Looks at everything that PostgreSQL mode needs to serve: PostgreSQL by each address, Redis, the journal's place."""

import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict

from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres import prepared, schema
from chatcore.stores.postgres.database import connect, fault
from chatcore.stores.postgres.examine_redis import Found, compare_clocks, is_here, look_at_redis

_OLDEST_SERVER = 150000
_VARIABLES = (("DATABASE_URL", "url"), ("DATABASE_ADMIN_URL", "admin_url"), ("DATABASE_READ_URL", "read_url"))

_ABOUT = """
SELECT current_user, extract(epoch FROM clock_timestamp())::float8, pg_is_in_recovery(),
    (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), current_setting('server_encoding')
"""
_REVISION = "SELECT version_num FROM chatcore.alembic_version"
_MAY_CHANGE = """
SELECT has_table_privilege('chatcore.audit_log', 'UPDATE') OR has_table_privilege('chatcore.audit_log', 'DELETE')
    OR has_table_privilege('chatcore.audit_log', 'TRUNCATE') OR pg_has_role(c.relowner, 'MEMBER')
FROM pg_class AS c WHERE c.oid = 'chatcore.audit_log'::regclass
"""
_UNACCENT = "SELECT installed_version IS NOT NULL FROM pg_available_extensions WHERE name = 'unaccent'"


def examine(settings: PostgresSettings, clock: Clock) -> Sequence[Found]:
    """Look at all of it; what is wrong is told, never raised."""
    return [*_databases(settings, clock), *look_at_redis(settings.redis_url, clock), _journal(settings)]


def _databases(settings: PostgresSettings, clock: Clock) -> Iterator[Found]:
    looked: set[str] = set()
    for variable, field in _VARIABLES:
        url = getattr(settings, field)
        if url in looked:
            continue
        looked.add(url)
        try:
            with connect(url) as connection:
                yield from _database(variable, url, connection, clock)
            if settings.prepare and variable != "DATABASE_ADMIN_URL" and prepared.mixes(url):
                yield ("FAULT", variable, f"{prepared.FAULT}. {prepared.ADVICE}")
        except StoreFaultError as error:
            yield ("FAULT", variable, f"{error.problem}. {error.advice}")
        except psycopg.Error as error:
            yield ("FAULT", variable, f"{fault(error).problem}.")


def _database(variable: str, url: str, connection: psycopg.Connection[Any], clock: Clock) -> Iterator[Found]:
    version = connection.info.server_version
    if version < _OLDEST_SERVER:
        yield ("FAULT", variable, f"the server is PostgreSQL {version // 10000}; 15 or newer is needed.")
        return
    before = clock.now()
    row = connection.execute(_ABOUT).fetchone()
    middle = (before + clock.now()) / 2
    role, theirs, replica, encrypted, encoding = row or ("", middle, False, False, "")
    reads_only = variable == "DATABASE_READ_URL"
    place = "a replica" if replica else "the server"
    yield ("ok", variable, f"{place} answers: PostgreSQL {version // 10000}.{version % 10000}, role {role}.")
    if encoding != "UTF8":
        yield ("FAULT", variable, f"the database has the encoding {encoding}. Make one with UTF8.")
    if replica and not reads_only:
        yield ("FAULT", variable, "leads to a replica, which takes no writes. Name the primary.")
    yield _encryption(variable, url, encrypted=bool(encrypted))
    yield compare_clocks(f"{variable}, clock", theirs - middle, "PostgreSQL")
    yield from _schema(variable, connection)


def _schema(variable: str, connection: psycopg.Connection[Any]) -> Iterator[Found]:
    try:
        row = connection.execute(_REVISION).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        row = None
    except psycopg.errors.InsufficientPrivilege:
        yield ("warning", variable, "this role may not see the schema yet. Run the command migrate.")
        return
    if row is None:
        yield ("warning", variable, "there is no schema yet. The first start makes it, or the command migrate.")
        yield _extension(connection)
        return
    revision = str(row[0])
    if revision != schema.HEAD:
        older = revision < schema.HEAD
        advice = "The next start brings it up to date." if older else "Start the newer chatcore that migrated it."
        state: Literal["warning", "FAULT"] = "warning" if older else "FAULT"
        yield (state, variable, f"the schema has revision {revision}, this program {schema.HEAD}. {advice}")
        return
    yield ("ok", variable, f"the schema is up to date (revision {revision}).")
    if variable == "DATABASE_URL":
        may = connection.execute(_MAY_CHANGE).fetchone()
        if may is not None and may[0]:
            said = "this role may change and delete entries of the audit log. Serve with one that owns nothing."
            yield ("warning", variable, said)
        else:
            yield ("ok", variable, "this role may add to the audit log and read it, and nothing else.")


def _extension(connection: psycopg.Connection[Any]) -> Found:
    row = connection.execute(_UNACCENT).fetchone()
    if row is None:
        return ("FAULT", "unaccent", "the server lacks this extension. Install PostgreSQL's contrib package there.")
    return ("ok", "unaccent", "the extension is there." if row[0] else "the extension can be had.")


def _encryption(variable: str, url: str, *, encrypted: bool) -> Found:
    if encrypted:
        checked = conninfo_to_dict(url).get("sslmode") in {"verify-ca", "verify-full"}
        said = "by TLS" if checked else "by TLS, but anybody's certificate is taken: set sslmode=verify-full"
        return ("ok", variable, f"the connection is encrypted {said}.")
    host = str(conninfo_to_dict(url).get("host") or "")
    if is_here(host):
        return ("ok", variable, "the connection is not encrypted and does not leave this machine.")
    return ("warning", variable, "the connection is not encrypted: texts and passwords can be read on their way.")


def _journal(settings: PostgresSettings) -> Found:
    """Look whether the journal may be written, and whether its disk has the room that it may take."""
    path = settings.spool_path.absolute()
    folder = path.parent
    if not folder.is_dir():
        return ("FAULT", "journal", f"the folder {folder} does not exist. Make it: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.R_OK | os.W_OK)):
        return ("FAULT", "journal", f"{path} cannot be written. Let the servers' user write it and its folder.")
    taken = path.stat().st_size if path.exists() else 0
    free = shutil.disk_usage(folder).free + taken
    if free < settings.spool_max_bytes:
        said = f"its disk has room for {free} bytes, SPOOL_MAX_BYTES is {settings.spool_max_bytes}."
        return ("warning", "journal", f"{path}: {said} Free some space, or lower that.")
    return ("ok", "journal", f"{path} can be written, up to {settings.spool_max_bytes} bytes.")
