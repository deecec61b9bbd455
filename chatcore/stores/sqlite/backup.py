"""Copies of the file while it is being served: SQLite's online backup, checked, put in place at once or not at all."""

import contextlib
import os
import sqlite3
from pathlib import Path

from chatcore.ports import StoreFaultError
from chatcore.stores.sqlite import file

BACKUPS_KEPT = 7
"""How many nights are kept."""

_PRIVATE = 0o600
_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"


def back_up(source: Path, destination: Path) -> int:
    """Copy `source` as it is at one moment to the file `destination`; gives its size in bytes.

    A backup that stands there is replaced, nothing else is. Raises `StoreFaultError`; then what was there still is.
    """
    _look(source, destination)
    part = destination.with_name(f".{destination.name}.part")
    try:
        with file.told(source), contextlib.closing(file.connect_to_read(source)) as connection:
            part.unlink(missing_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE))
            with file.told(part), contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy:
                connection.backup(copy)
                # One file, with no log beside it, that can be read where nothing may be written.
                copy.execute("PRAGMA journal_mode = DELETE").fetchone()
                (said,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise StoreFaultError(f"the copy of {source} is damaged ({said})", "Look whether the disk is sound.")
        _settle(part)
        part.replace(destination)
        _settle(destination.parent)
    except OSError as error:
        raise StoreFaultError(
            f"{destination} cannot be written: {error.strerror}", "Choose a folder with room that may be written."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return destination.stat().st_size


def nightly(source: Path, folder: Path, day: str) -> str:
    """Put the backup of a day (`2026-01-31`) into a folder, unless it is there, and drop those of long ago.

    Tells what was done. Raises `StoreFaultError`.
    """
    destination = folder / f"{source.stem}-{day}.db"
    if destination.exists():
        return f"{destination} is there already"
    size = back_up(source, destination)
    for old in sorted(folder.glob(f"{source.stem}-{_DAY}.db"))[:-BACKUPS_KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()
    return f"{destination}, {size} bytes"


def _look(source: Path, destination: Path) -> None:
    if not source.is_file():
        raise StoreFaultError(f"{source} does not exist", "See SQLITE_DB_PATH.")
    file.need_folder(destination.parent)
    if destination.exists() and destination.samefile(source):
        raise StoreFaultError(f"{destination} is the file itself", "Name another file.")
    log = destination.with_name(f"{destination.name}-wal")
    if log.exists():  # SQLite would take it for the copy's own
        raise StoreFaultError(
            f"{destination} was served, or still is: {log.name} is there", "Remove that one, or name another file."
        )
    if not destination.exists():
        return
    if not file.is_ours(destination):
        raise StoreFaultError(f"{destination} exists and is no backup of ours", "Remove it, or name another file.")


def _settle(path: Path) -> None:
    """Wait until the disk has it."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
