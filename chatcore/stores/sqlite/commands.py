"""What can be done with the file from a terminal, also while a server serves it."""

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from chatcore.analytics import Query, Report
from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import SqliteSettings
from chatcore.stores.sqlite import backup, cleanup, file
from chatcore.stores.sqlite.reports import read_report


class Commands(NamedTuple):
    """What `main_sqlite.py` can do beside serving."""

    report: Callable[[Path, Query], Report]
    back_up: Callable[[SqliteSettings, Path], tuple[Path, int]]
    clean_up: Callable[[SqliteSettings, Clock], str]
    examine: Callable[[SqliteSettings], str]


def report(path: Path, query: Query) -> Report:
    """Add up the figures of a file, a backup or a replica, which is only read. Raises `StoreFaultError`."""
    _must_exist(path)
    file.examine(path)
    with file.told(path), contextlib.closing(file.connect_to_read(path)) as connection:
        return read_report(connection, query)


def back_up(settings: SqliteSettings, destination: Path) -> tuple[Path, int]:
    """Copy the file to a path, or into a folder under its own name; gives where and how many bytes."""
    if destination.is_dir():
        destination = destination / settings.path.name
    _must_exist(settings.path)
    file.examine(settings.path)
    return destination, backup.back_up(settings.path, destination)


def clean_up(settings: SqliteSettings, clock: Clock) -> str:
    """Delete what was kept long enough and give the space back; tells what went. Raises `StoreFaultError`."""
    _must_exist(settings.path)
    file.look(settings.path)
    file.examine(settings.path)
    limits = cleanup.limits_of(settings, clock.now())
    sweep = cleanup.Sweep(limits)
    with file.told(settings.path), contextlib.closing(file.connect(settings.path)) as connection:
        while sweep.step(connection):
            time.sleep(cleanup.PAUSE_SECONDS)
        cleanup.finished(connection, limits.now)
    return str(sweep.cleaned)


def examine(settings: SqliteSettings) -> str:
    """Check the file from end to end; tells what is there. Raises `StoreFaultError`."""
    path = settings.path
    if not path.exists():
        file.need_folder(path.parent)
        return f"{path} will be made."
    file.look(path)
    file.examine(path)
    with file.told(path), contextlib.closing(file.connect_to_read(path)) as connection:
        (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise sqlite3.DatabaseError(said)
        (sessions,) = connection.execute("SELECT count(*) FROM sessions").fetchone()
    return f"{path} is sound, {path.stat().st_size} bytes, {sessions} sessions."


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise StoreFaultError(f"{path} does not exist", "Name the file by SQLITE_DB_PATH or, for stats, by --db.")


COMMANDS = Commands(report, back_up, clean_up, examine)
