"""What can be done with PostgreSQL mode's databases from a terminal, also while servers run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import psycopg

from chatcore.analytics import Query, Report
from chatcore.archive import Selection, Verdict
from chatcore.ports import Clock
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres import auditing, erasing, examine, export, import_sqlite, schema
from chatcore.stores.postgres.database import connect, fault
from chatcore.stores.postgres.examine_redis import Found
from chatcore.stores.postgres.reports import read_report

Exporting = AbstractContextManager[tuple[int, Iterable[tuple[str, Iterator[str]]]]]


class Commands(NamedTuple):
    """What `main_postgres.py` can do beside serving."""

    migrate: Callable[[PostgresSettings, Clock], str]
    report: Callable[[PostgresSettings, Query], Report]
    exporting: Callable[[PostgresSettings, Selection, str, Clock], Exporting]
    messages_of: Callable[[PostgresSettings, Iterable[str]], Mapping[str, int]]
    sessions_of: Callable[[PostgresSettings, str], Sequence[str]]
    erase: Callable[[PostgresSettings, str, str, Clock], tuple[bool, int]]
    verify_audit: Callable[[PostgresSettings, str | None], Verdict]
    import_sqlite: Callable[[PostgresSettings, Path, str, Clock], Mapping[str, int]]
    examine: Callable[[PostgresSettings, Clock], Sequence[Found]]


def report(settings: PostgresSettings, query: Query) -> Report:
    """Add up the figures, at the database that answers reports. Raises `StoreFaultError`."""
    with connect(settings.read_url) as connection:
        try:
            return read_report(connection, query)
        except psycopg.Error as error:
            raise fault(error) from error


COMMANDS = Commands(
    schema.migrate,
    report,
    export.exporting,
    erasing.messages_of,
    erasing.sessions_of,
    erasing.erase,
    auditing.verify,
    import_sqlite.import_file,
    examine.examine,
)
