"""The database file: opened by one server at a time, checked before anything is written to it, brought up to date."""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from errno import EROFS
from importlib import resources
from pathlib import Path

from chatcore.ports import StoreFaultError
from chatcore.stores.file_lock import Lock

APPLICATION_ID = 0x63686174
"""`chat`, in SQLite's header: what tells a file of ours from other programs' (PRAGMA application_id)."""

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
BUSY_MS = 3000
CHECKED_WHOLE_BYTES = 16 << 20
"""Files up to this size are checked from end to end at each start (some 0.1 s); larger ones by `check`."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100  # https://www.sqlite.org/fileformat.html#the_database_header
_PRIVATE = 0o600
_AS_IT_LIES = "mode=ro&immutable=1"  # without a look for a log or a lock
_ANOTHER = "Set SQLITE_DB_PATH to a file of its own. Nothing was changed."
_RESTORE = "Restore a backup, or set SQLITE_DB_PATH to a new file. Nothing was changed."


def take(path: Path) -> Lock:
    """Check that `path` may be served, and take its lock. Raises `StoreFaultError`; the file stays as it is."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreFaultError(
            f"Python brings SQLite {sqlite3.sqlite_version}", "3.37 or newer is needed: use a newer Python or system."
        )
    with _permitted(path):
        need_folder(path.parent)
        look(path)
        return Lock(path, "SQLITE_DB_PATH")


def need_folder(folder: Path) -> None:
    """Refuse a folder that is not there. Raises `StoreFaultError`."""
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise StoreFaultError(f"the folder {folder} {problem}", f"Make it: mkdir -p {folder}")


@contextlib.contextmanager
def _permitted(path: Path) -> Iterator[None]:
    """Turn what the system refuses into words for the file's owner."""
    try:
        yield
    except PermissionError as error:
        raise StoreFaultError(
            f"{error.filename or path} cannot be written: {error.strerror}",
            f"Let the server's user write {path} and its folder, which also holds the log and the lock.",
        ) from None
    except OSError as error:
        advice = "Mount its folder so that it may be written." if error.errno == EROFS else "See SQLITE_DB_PATH."
        raise StoreFaultError(f"{path} cannot be used: {error.strerror}", advice) from None


def look(path: Path) -> None:
    """Look at what is there without SQLite, which would write beside it. Raises `StoreFaultError`."""
    with _permitted(path):
        try:
            kind = path.stat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(kind):
            raise StoreFaultError(f"{path} is not a file", "Set SQLITE_DB_PATH to the path of a file.")
        if not os.access(path, os.W_OK):
            raise PermissionError(13, "it is read-only for this user", str(path))
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    if header and not header.startswith(_MAGIC):
        raise StoreFaultError(f"{path} is not a SQLite database", _RESTORE)
    if len(header) == _HEADER_BYTES:
        _refuse_strange(path, int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big"))


def is_ours(path: Path) -> bool:
    """Tell by its header whether a file is a database of ours, a backup for example."""
    with path.open("rb") as opened:
        header = opened.read(_HEADER_BYTES)
    return header.startswith(_MAGIC) and int.from_bytes(header[68:72], "big") == APPLICATION_ID


def _refuse_strange(path: Path, application: int, version: int) -> None:
    """Refuse a file of another program or of a newer version, by what its header or SQLite tells of it."""
    if application not in {0, APPLICATION_ID}:
        raise StoreFaultError(f"{path} is the database of another program", _ANOTHER)
    newest = len(migrations())
    if application == APPLICATION_ID and version > newest:
        raise StoreFaultError(
            f"{path} was written by a newer chatcore: its tables have version {version}, this one knows {newest}",
            "Start the newer chatcore again, or restore a backup from before it. Nothing was changed.",
        )


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what SQLite says while a file is opened into words for its owner."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            who = holders(path)
            raise StoreFaultError(
                f"{path} is locked by another program{f': {who}' if who else ''}", "End that program, then start again."
            ) from error
        if "unable to open" in text:
            raise StoreFaultError(
                f"{path} cannot be opened ({text})", "Let this user read it, and the server's user write its folder."
            ) from error
        if "readonly" in text:
            raise StoreFaultError(
                f"{path} cannot be written ({text})", "Let the server's user write the file and its folder."
            ) from error
        if "full" in text or "disk I/O" in text:
            raise StoreFaultError(
                f"{path} cannot be written ({text})", "Free some space on its disk, or look whether the disk is sound."
            ) from error
        raise StoreFaultError(f"{path} is damaged ({text})", _RESTORE) from error


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open one connection with the settings that all of ours share. Transactions are begun by hand."""
    return _connect(path, "mode=ro" if read_only else "mode=rwc", read_only=read_only)


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a connection for one who looks at a file and goes again; nothing is left beside it.

    Even to read, SQLite makes a log where there is none, and only who may write removes it again.
    """
    log, may_write = path.with_name(f"{path.name}-wal"), os.access(path, os.W_OK)
    if bytes_of(log) or (log.exists() and not may_write):
        return connect(path, read_only=True)
    if not may_write:
        return _connect(path, _AS_IT_LIES, read_only=True)
    connection = _connect(path, "mode=rw", read_only=True)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if "readonly" not in str(error) and "unable to open" not in str(error):
            raise
        return _connect(path, _AS_IT_LIES, read_only=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, how: str, *, read_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=128,
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        connection.execute("PRAGMA foreign_keys = ON")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -16384")
    except BaseException:
        connection.close()
        raise
    return connection


def bytes_of(path: Path) -> int:
    """Give the size of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def prepare(path: Path) -> None:
    """Check a file and bring its tables up to date, or make it. Raises `StoreFaultError`, then nothing was changed."""
    is_new = not path.exists() or path.stat().st_size == 0
    if is_new:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE))
    else:
        examine(path)
    with told(path), contextlib.closing(connect(path)) as connection:
        if is_new:
            # Half of SQLite's own page: a message changes a few bytes of some pages, and all of each goes to the log.
            connection.execute("PRAGMA page_size = 2048")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if journal != "wal":
            raise StoreFaultError(
                f"{path} is on a file system without shared memory (SQLite answers {journal!r})",
                "Put it on a local disk: SQLite's log does not work over a network.",
            )
        _migrate(connection)


def examine(path: Path) -> None:
    """Refuse what is not ours, not for this version, or not sound. Writes nothing. Raises `StoreFaultError`."""
    with told(path), contextlib.closing(connect_to_read(path)) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _refuse_strange(path, application, version)
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application == 0 and tables:
            raise StoreFaultError(f"{path} is the database of another program", _ANOTHER)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        if pages * page_bytes <= CHECKED_WHOLE_BYTES:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise StoreFaultError(f"{path} is damaged ({said})", _RESTORE)


def migrations() -> list[str]:
    """Give the numbered SQL files; the version of a file is how many it has been through."""
    folder = resources.files(__package__) / "migrations"
    return [one.read_text("utf-8") for one in sorted(folder.iterdir(), key=lambda one: one.name)]


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, text in enumerate(migrations()[version:], start=version + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {text}; PRAGMA user_version = {number}; "
                f"PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def holders(path: Path) -> str:
    """Name the processes that have a file open, as far as this user may see them: `datasette (812)`."""
    ours, found = os.getpid(), []
    try:
        wanted = path.stat()
    except OSError:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == ours:
            continue
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.path.samestat(descriptor.stat(), wanted):
                        found.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
                        break
    return ", ".join(found[:5])
