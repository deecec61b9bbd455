"""The journal on disk: where turns wait, in order and certain to last, while PostgreSQL cannot be written.

One file for each instance, private, locked. An entry is durable when `append` returns (`synchronous = FULL`), and
leaves the file when its transaction in PostgreSQL is known to have happened.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from chatcore.model import TurnKey
from chatcore.ports import StoreFaultError
from chatcore.stores.file_lock import Lock
from chatcore.stores.postgres.entries import Entry
from chatcore.stores.postgres.schema import State
from chatcore.stores.sqlite_thread import Connection, open_connection

_PRIVATE = 0o600
_FORMAT = 1
_CHUNK_BYTES = 4 << 20
_TABLES = """
CREATE TABLE entries (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    run      TEXT NOT NULL,
    position INTEGER NOT NULL,
    entry    BLOB NOT NULL
) STRICT;
CREATE TABLE known (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_LEFT = """
SELECT json_extract(said, '$.s'), json_extract(said, '$.m'), json_extract(said, '$.d')
FROM (SELECT CAST(entry AS TEXT) AS said FROM entries ORDER BY id DESC LIMIT 200000)
WHERE said LIKE '{"@":"o"%' AND json_valid(said)
"""
_ANOTHER = "Set SPOOL_PATH to a file of its own. Nothing was changed."

Numbered = tuple[int, Entry]
"""An entry and its position among those of its run."""


class Chunk(msgspec.Struct, frozen=True):
    """The oldest entries of the journal that belong to one run; `last_id` is the last one's place in the file.

    `unreadable` counts those that are no entries as this program knows them.
    """

    run: str
    entries: list[Numbered]
    last_id: int
    unreadable: int = 0


class Journal:
    """Owns the file. `waiting` and `bytes` count what is in it, or is about to be.

    `left` are the messages that an earlier run left in it, with the keyed hashes of their texts: nobody else may know
    of them yet. Of very many the latest.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Take the file, made where it does not exist. Raises `StoreFaultError`."""
        self.path = path
        self.waiting = 0
        self.bytes = 0
        self.left: dict[TurnKey, str] = {}
        self._max_bytes = max_bytes
        self._connection: Connection | None = None
        self._decoder = msgspec.json.Decoder(Entry)
        self._encoder = msgspec.json.Encoder()
        folder = path.absolute().parent
        if not folder.is_dir():
            raise StoreFaultError(f"the folder {folder} of SPOOL_PATH does not exist", f"Make it: mkdir -p {folder}")
        try:
            self._lock = Lock(path, "SPOOL_PATH")
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE))
            with contextlib.closing(_connect(path)) as connection:
                _prepare(connection)
                self.waiting, self.bytes = connection.execute(
                    "SELECT count(*), coalesce(sum(length(entry)), 0) FROM entries"
                ).fetchone()
                self.left = {(session, message): digest for session, message, digest in connection.execute(_LEFT)}
        except (OSError, sqlite3.Error) as error:
            self._lock.release()
            raise _unusable(path, error) from None
        except BaseException:
            self._lock.release()
            raise

    @property
    def full(self) -> bool:
        """Whether it holds as much as `SPOOL_MAX_BYTES` allows."""
        return self.bytes >= self._max_bytes

    def known(self) -> State | None:
        """Give what an earlier run learnt of the database."""
        with contextlib.closing(_connect(self.path)) as connection:
            found = dict(connection.execute("SELECT name, value FROM known").fetchall())
        if "revision" not in found or "hash_key" not in found:
            return None
        return State(found["revision"], bytes.fromhex(found["hash_key"]))

    def remember(self, state: State) -> None:
        """Keep it for a start without the database. Raises `StoreFaultError`."""
        rows = [("revision", state.revision), ("hash_key", state.hash_key.hex())]
        try:
            with contextlib.closing(_connect(self.path)) as connection:
                if sorted(connection.execute("SELECT name, value FROM known").fetchall()) != sorted(rows):
                    connection.executemany("INSERT OR REPLACE INTO known VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from None

    async def open(self) -> None:
        """Connect in a thread of its own. Raises `sqlite3.Error`."""
        self._connection = await open_connection(lambda: _connect(self.path))

    async def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def release(self) -> None:
        """Let another server have the file."""
        self._lock.release()

    async def append(self, run: str, entries: Sequence[Numbered]) -> None:
        """Add entries, in one transaction. Raises `sqlite3.Error`; then none was added."""
        rows = [(run, position, self._encoder.encode(entry)) for position, entry in entries]
        size = sum(len(row[2]) for row in rows)
        self.waiting += len(rows)  # before anything is awaited: who asks whether it is empty is told of these
        self.bytes += size
        try:
            await self._thread.run(_append, rows)
        except BaseException:
            self.waiting -= len(rows)
            self.bytes -= size
            raise

    async def oldest(self, most: int) -> Chunk | None:
        """Give the oldest entries, at most so many of one run and some megabytes; None where there are none."""
        rows = await self._thread.run(_oldest, most)
        if not rows:
            return None
        entries: list[Numbered] = []
        for _, _, position, encoded in rows:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                entries.append((position, self._decoder.decode(encoded)))
        return Chunk(rows[0][1], entries, rows[-1][0], len(rows) - len(entries))

    async def forget(self, chunk: Chunk) -> None:
        """Remove what was written to PostgreSQL."""
        count, size = await self._thread.run(_forget, chunk.run, chunk.last_id)
        self.waiting -= count
        self.bytes -= size
        if not self.waiting:
            self.left.clear()

    @property
    def _thread(self) -> Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the journal is not open")
        return self._connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=3.0, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # what was said is not left behind in the file
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == _FORMAT:
        return
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version or tables != (0,):
        raise StoreFaultError("the file of SPOOL_PATH is no journal of this version of chatcore", _ANOTHER)
    connection.execute("PRAGMA auto_vacuum = FULL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_FORMAT}; COMMIT;")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _append(connection: sqlite3.Connection, rows: Sequence[tuple[str, int, bytes]]) -> None:
    with _transaction(connection):
        connection.executemany("INSERT INTO entries (run, position, entry) VALUES (?, ?, ?)", rows)


def _oldest(connection: sqlite3.Connection, most: int) -> list[tuple[int, str, int, bytes]]:
    rows: list[tuple[int, str, int, bytes]] = []
    size = 0
    for row in connection.execute("SELECT id, run, position, entry FROM entries ORDER BY id LIMIT ?", (most,)):
        size += len(row[3])
        if rows and (row[1] != rows[0][1] or size > _CHUNK_BYTES):
            break
        rows.append(row)
    return rows


def _forget(connection: sqlite3.Connection, run: str, last_id: int) -> tuple[int, int]:
    with _transaction(connection):
        count, size = connection.execute(
            "SELECT count(*), coalesce(sum(length(entry)), 0) FROM entries WHERE id <= ? AND run = ?", (last_id, run)
        ).fetchone()
        connection.execute("DELETE FROM entries WHERE id <= ? AND run = ?", (last_id, run))
        (more,) = connection.execute("SELECT EXISTS (SELECT 1 FROM entries)").fetchone()
    if not more:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # nor beside it
    return int(count), int(size)


def _unusable(path: Path, error: BaseException) -> StoreFaultError:
    return StoreFaultError(
        f"the journal {path} cannot be used: {error}",
        "Let the server's user write it, or set SPOOL_PATH to another file.",
    )
