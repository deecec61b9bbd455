"""Chores beside serving: the log's checkpoints, the clean-up, the nightly backup. One at a time, none in the way."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path

from chatcore.happenings import Crashed, Observe, StoreChanged
from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import SqliteSettings
from chatcore.stores.sqlite import cleanup
from chatcore.stores.sqlite.backup import nightly
from chatcore.stores.sqlite.connection import Connection
from chatcore.stores.sqlite.file import bytes_of, holders

LOOK_SECONDS = 5.0
LOG_BYTES = 4 << 20
"""From this size on the log is folded into the file, beside the writer and not in its way."""

LONG_LOG_BYTES = 64 << 20
"""From this size on the writer itself does it, since the log never came to rest."""

RETRY_SECONDS = 3600.0
"""When a clean-up or backup that failed is tried again."""

BACKUP_HOUR = 3
"""The hour, local time, from which on a day's backup is due."""


class Upkeep:
    """Decides on every tick what is due; `writer` and `keeper` are connections with threads of their own."""

    def __init__(self, settings: SqliteSettings, cleaned_at: float, clock: Clock, observe: Observe) -> None:
        self._settings = settings
        self._clock = clock
        self._observe = observe
        self._interval = settings.cleanup_interval_hours * 3600
        self._clean_at = cleaned_at + self._interval
        self._backed_up = ""
        self._back_up_at = 0.0
        self._looked_at = 0.0
        self._log = settings.path.with_name(f"{settings.path.name}-wal")
        self._task: asyncio.Task[None] | None = None
        self._writer: Connection | None = None
        self._keeper: Connection | None = None

    def start(self, writer: Connection, keeper: Connection) -> None:
        """Begin to look after the file."""
        self._writer, self._keeper = writer, keeper

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds)."""
        if self._writer is None or self._keeper is None or (self._task is not None and not self._task.done()):
            return
        chore = self._due(now, self._writer, self._keeper)
        if chore is not None:
            self._task = asyncio.get_running_loop().create_task(self._do(chore))

    async def close(self) -> None:
        """Leave off, and leave one file behind."""
        writer, self._writer = self._writer, None
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        if writer is not None:
            await self._fold(writer)

    def _due(self, now: float, writer: Connection, keeper: Connection) -> Coroutine[None, None, None] | None:
        today = self._clock.now()
        if today >= self._clean_at:
            return self._clean(writer, keeper)
        if now < self._looked_at + LOOK_SECONDS:
            return None
        self._looked_at = now
        if bytes_of(self._log) >= LOG_BYTES:
            return self._shorten(writer, keeper)
        folder = self._settings.backup_dir
        local = datetime.fromtimestamp(today).astimezone()
        day = f"{local:%Y-%m-%d}"
        if folder is not None and local.hour >= BACKUP_HOUR and day != self._backed_up and today >= self._back_up_at:
            return self._back_up(keeper, folder, day)
        return None

    async def _do(self, chore: Coroutine[None, None, None]) -> None:
        try:
            await chore
        except Exception as error:  # noqa: BLE001 - a chore that fails must not end the others
            self._observe(Crashed("upkeep", error))

    async def _clean(self, writer: Connection, keeper: Connection) -> None:
        now = self._clock.now()
        sweep = cleanup.Sweep(cleanup.limits_of(self._settings, now))
        self._clean_at = now + min(self._interval, RETRY_SECONDS)
        try:
            while await writer.run(sweep.step):
                await self._pause(writer, keeper)
            await writer.run(cleanup.finished, now)
        except sqlite3.Error as error:
            self._observe(StoreChanged("cleanup_failed", str(error)))
        else:
            self._clean_at = now + self._interval
            self._observe(StoreChanged("cleaned", str(sweep.cleaned)))

    async def _back_up(self, keeper: Connection, folder: Path, day: str) -> None:
        self._back_up_at = self._clock.now() + RETRY_SECONDS
        try:
            done = await keeper.run(lambda _: nightly(self._settings.path, folder, day))
        except StoreFaultError as error:
            self._observe(StoreChanged("backup_failed", f"{error.problem}. {error.advice}"))
        else:
            self._backed_up = day
            self._observe(StoreChanged("backed_up", done))

    async def _pause(self, writer: Connection, keeper: Connection) -> None:
        """Leave the file to messages for a moment, and the log no longer than it has to be."""
        if bytes_of(self._log) >= LONG_LOG_BYTES // 2:
            await self._shorten(writer, keeper)
        await asyncio.sleep(cleanup.PAUSE_SECONDS)

    async def _shorten(self, writer: Connection, keeper: Connection) -> None:
        """Fold the log into the file, so that it is written from its beginning again."""
        very_long = bytes_of(self._log) >= LONG_LOG_BYTES
        with contextlib.suppress(sqlite3.Error):  # the next look tries again
            await keeper.run(checkpoint, "PASSIVE")
            if very_long:
                await writer.run(checkpoint, "TRUNCATE")

    async def _fold(self, writer: Connection) -> None:
        """Leave one file: fold the log in. A reader may be in the way; its name is told."""
        try:
            if await writer.run(checkpoint, "TRUNCATE"):
                return
        except sqlite3.Error as error:
            self._observe(StoreChanged("not_writable", f"the log stays beside {self._settings.path}: {error}"))
            return
        who = holders(self._settings.path)
        self._observe(
            StoreChanged(
                "reader_in_the_way",
                f"the log could not be folded into {self._settings.path}, so copy {self._log.name} along with it"
                + (f"; it is open in: {who}" if who else ""),
            )
        )


def checkpoint(connection: sqlite3.Connection, kind: str) -> bool:
    """Fold the log into the file; false where somebody was in the way."""
    busy, _, _ = connection.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
    return not busy
