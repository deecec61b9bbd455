"""Puts SQLite mode together: which file, which connections, and what plugs into which port."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chatcore import keyed
from chatcore.ports import Archive, AuditTrail, Clock, Peers, StoreFaultError, Trouble
from chatcore.settings import Settings, SqliteSettings
from chatcore.stores.file_lock import Lock
from chatcore.stores.replies_memory import MemoryReplies
from chatcore.stores.seen import Seen
from chatcore.stores.sqlite import file, questions
from chatcore.stores.sqlite.analytics import SqliteAnalytics
from chatcore.stores.sqlite.connection import Connection, open_connection
from chatcore.stores.sqlite.counters import SqliteCounters
from chatcore.stores.sqlite.entries import KEPT_TURN_SECONDS
from chatcore.stores.sqlite.replies import SqliteReplies
from chatcore.stores.sqlite.sessions import SqliteSessions
from chatcore.stores.sqlite.state import State, take_over
from chatcore.stores.sqlite.upkeep import Upkeep
from chatcore.stores.sqlite.writer import Writer

if TYPE_CHECKING:
    from chatcore.happenings import Observe

SWEEP_SECONDS = 5.0
_USED_BITS = 1 << 23
_ERASED_BITS = 1 << 20
_ROWS_AT_ONCE = 2_000
_PRIVATE = 0o600


class Stores:
    """What this variant plugs in for the core's ports."""

    def __init__(self, settings: Settings, lock: Lock, state: State, clock: Clock, observe: "Observe") -> None:
        from chatcore.happenings import RepliesEvicted  # noqa: PLC0415 - brings the metrics library

        told = settings.sqlite or SqliteSettings(path=Path())
        self._path = told.path
        self._lock = lock
        self._connections: list[Connection] = []
        self._loading: asyncio.Task[None] | None = None
        self._swept_at = 0.0
        digest_key = keyed.derive(state.hash_key, "message digest")
        self._used = Seen(_USED_BITS, KEPT_TURN_SECONDS)
        self._erased = Seen(_ERASED_BITS, float("inf"))
        self.counters = SqliteCounters(clock, keyed.derive(state.hash_key, "limited key"), state.limits)
        self._writer = Writer(self.counters.changed, self.counters.again, clock, observe)
        self._upkeep = Upkeep(told, state.cleaned_at, clock, observe)
        memory = MemoryReplies(settings.replies, clock, lambda count: observe(RepliesEvicted(count)))
        self.replies = SqliteReplies(memory, self._writer, self._used, digest_key, clock)
        self.sessions = SqliteSessions(self._writer, self._erased, digest_key, clock)
        self.analytics = SqliteAnalytics(self._writer)
        self.archive: Archive | None = None
        self.audit: AuditTrail | None = None
        self.peers: Peers | None = None

    async def open(self) -> None:
        """Connect. Raises `sqlite3.Error`."""
        try:
            writer, keeper, reader = await self._connect(), await self._connect(), await self._connect(read_only=True)
            await writer.run(_without_checkpoints)
        except BaseException:
            await self._disconnect()  # a thread that is left behind would keep the process from ending
            raise
        self.replies.reader = self.sessions.reader = self.analytics.reader = reader
        self._writer.start(writer)
        self._upkeep.start(writer, keeper)
        self._loading = asyncio.get_running_loop().create_task(self._load(reader))

    async def close(self) -> None:
        """Write what is left and leave one file behind."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait({self._loading})
        await self._writer.close()
        await self._disconnect(but=1)
        await self._upkeep.close()
        await self._disconnect()
        self.release()

    def release(self) -> None:
        """Let another server have the file."""
        self._lock.release()

    def troubles(self) -> Mapping[str, Trouble | None]:
        """Tell what is wrong with the file."""
        said = self._writer.trouble()
        return {"store": None if said is None else Trouble(said)}

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._writer.tick(now)
        self._upkeep.tick(now)
        self._used.tick(now)
        if now >= self._swept_at + SWEEP_SECONDS:
            self._swept_at = now
            self.counters.sweep()

    async def _disconnect(self, but: int = 0) -> None:
        """Close all connections but the first ones."""
        while len(self._connections) > but:
            await self._connections.pop().close()

    async def _connect(self, *, read_only: bool = False) -> Connection:
        connection = await open_connection(self._path, read_only=read_only)
        self._connections.append(connection)
        return connection

    async def _load(self, reader: Connection) -> None:
        """Learn which messages and erased sessions the file knows; until then the file is asked each time."""
        key, session_id = ("", ""), ""
        with contextlib.suppress(sqlite3.Error):  # then it goes on being asked
            while keys := await reader.run(questions.turns_after, key, _ROWS_AT_ONCE):
                for key in keys:
                    self._used.add(key)
            self._used.complete = True
            while found := await reader.run(questions.erased_after, session_id, _ROWS_AT_ONCE):
                for session_id in found:
                    self._erased.add(session_id)
            self._erased.complete = True


def open_stores(settings: Settings, clock: Clock, observe: "Observe") -> Stores:
    """Take the file and bring it up to date. Raises `StoreFaultError` with what to do; then it is as it was."""
    told = settings.sqlite
    if told is None:
        raise StoreFaultError("no file is set", "Set SQLITE_DB_PATH.")
    lock = file.take(told.path)
    try:
        file.prepare(told.path)
        with file.told(told.path), contextlib.closing(file.connect(told.path)) as connection:
            state = take_over(connection, clock)
        _keep_secrets(told)
    except BaseException:
        lock.release()
        raise
    return Stores(settings, lock, state, clock, observe)


def _keep_secrets(settings: SqliteSettings) -> None:
    """Put the secrets that nobody set where the next start finds them; all or nothing."""
    if not settings.new_secrets:
        return
    path: Path = settings.secrets_path
    part = path.with_name(f".{path.name}.part")
    try:
        text = path.read_text("utf-8") if path.exists() else _HEADING
        if not text.endswith("\n"):
            text += "\n"
        text += "".join(f"{name}={secret}\n" for name, secret in settings.new_secrets.items())
        part.unlink(missing_ok=True)
        opened = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE)
        with os.fdopen(opened, "w", encoding="utf-8") as written:
            written.write(text)
            written.flush()
            os.fsync(opened)
        part.replace(path)
    except OSError as error:
        raise StoreFaultError(
            f"{path} cannot be written: {error.strerror}",
            "Let the server's user write that folder, or set JWT_SECRET_KEY and SESSION_SECRET_KEY.",
        ) from None


_HEADING = (
    "# Secrets that chatcore made because they are not set. Keep them with the database: without them all visitors\n"
    "# start a new session, and n8n no longer knows the tokens it is sent.\n"
)


def _without_checkpoints(connection: sqlite3.Connection) -> None:
    # A checkpoint waits for the disk; the keeper does it, so that no message has to.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
