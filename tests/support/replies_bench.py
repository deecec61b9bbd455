"""Instances of PostgreSQL mode's replies in one process, over a real PostgreSQL and a real Redis."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from chatcore.clock import SystemClock
from chatcore.happenings import Happening
from chatcore.model import Delta, Outcome, Turn
from chatcore.ports import Clock, ReplyText
from chatcore.settings import PostgresSettings, ReplySettings
from chatcore.stores.postgres import schema
from chatcore.stores.postgres.certainty import certainly
from chatcore.stores.postgres.database import Database
from chatcore.stores.postgres.entries import Closed
from chatcore.stores.postgres.journal import Journal
from chatcore.stores.postgres.recorder import Recorder
from chatcore.stores.postgres.redis_link import RedisLink
from chatcore.stores.postgres.replies import PostgresReplies
from chatcore.stores.postgres.turns import Turns
from chatcore.stores.postgres.writer import Writer
from chatcore.stores.replies_memory import MemoryRecord, MemoryReplies
from chatcore.wire.encode_document import join_text
from tests.support.databases import Database as TestDatabase

ALL = 1 << 40
TICK_SECONDS = 0.1


class Instance:
    """One instance; `log` is its reply log, `clock` the one it was given."""

    def __init__(
        self, database: TestDatabase, redis_url: str, folder: Path, settings: ReplySettings, clock: Clock
    ) -> None:
        self.clock = clock
        self.seen: list[Happening] = []
        self.id = uuid.uuid4().hex[:16]
        self.database = Database(database.url, pool_size=3)
        self.journal = Journal(folder / f"{self.id}.db", 10_000_000)
        recorder = Recorder(self.database, str(uuid.uuid4()), 0, self.seen.append)
        self.writer = Writer(recorder, self.journal, clock, self.seen.append, away=False)
        self.turns = Turns(self.database, self.writer, b"k" * 32)
        self.link = RedisLink(redis_url, clock, self.seen.append)
        self.memory = MemoryReplies(settings, clock, lambda _: None)
        self.log = PostgresReplies(
            self.memory,
            self.link,
            self.turns,
            self.writer,
            self.id,
            settings.reply_keep_seconds,
            clock,
            self.seen.append,
        )
        self._ticking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.writer.open()
        await self.link.open()
        await self.log.open()
        self._ticking = asyncio.create_task(self._tick())

    async def close(self) -> None:
        self._stop_ticking()
        await self.log.close()
        await self._disconnect()

    async def die(self) -> None:
        """End as by SIGKILL: nothing more is written to Redis, and the lease runs out by itself."""
        self._stop_ticking()
        await self.link.close()
        await self.close()

    async def start(self, turn: Turn) -> MemoryRecord:
        """Begin a reply as the proxy does."""
        record = await self.log.claim(turn)
        assert record is not None
        opened = self.turns.opening(turn)
        if opened is not None:
            self.writer.put(opened)
        return record

    async def end(self, turn: Turn, record: MemoryRecord, outcome: Outcome) -> None:
        """End a reply as the proxy does."""
        await self.save(turn, record, outcome)
        record.finish(outcome)
        if not outcome.sent:
            await self.log.drop(turn.key)

    async def save(self, turn: Turn, record: MemoryRecord, outcome: Outcome) -> None:
        """Have the end of a reply in the database."""
        self.writer.put(
            Closed(
                session_id=turn.session_id,
                message_id=turn.message_id,
                finish_reason=outcome.finish_reason,
                error_code=None if outcome.refusal is None else outcome.refusal.kind.code,
                duration_ms=outcome.duration_ms,
                bucket=0,
                at_us=round(self.clock.now() * 1_000_000),
                text=join_text(record.read(0, ALL)),
            )
        )
        await certainly(self.writer.saved())

    def _stop_ticking(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()

    async def _disconnect(self) -> None:
        await self.writer.close()
        await self.link.close()
        await self.database.close()
        self.journal.release()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self.clock.monotonic()
            self.link.tick(now)
            self.writer.tick(now)
            self.log.tick(now)


@contextlib.asynccontextmanager
async def instances(
    count: int,
    database: TestDatabase,
    redis_url: str,
    folder: Path,
    settings: ReplySettings | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Sequence[Instance]]:
    """Give instances that are open."""
    prepare(database)
    opened: list[Instance] = []
    try:
        for _ in range(count):
            one = Instance(database, redis_url, folder, settings or ReplySettings(), clock or SystemClock())
            opened.append(one)
            await one.open()
        yield opened
    finally:
        for one in opened:
            await one.close()


def prepare(database: TestDatabase) -> None:
    """Make the tables."""
    told = PostgresSettings(
        url=database.url, admin_url=database.admin_url, read_url=database.url, redis_url="", audit_key="k" * 32
    )
    schema.prepare(told, SystemClock())


async def read_whole(reply: ReplyText, after: int = 1, seconds: float = 20.0) -> tuple[list[Delta], Outcome]:
    """Read as a client's stream does: all events behind one, and the end."""
    deltas: list[Delta] = []
    changed = asyncio.Event()
    reply.watch(changed.set)
    try:
        async with asyncio.timeout(seconds):
            while True:
                changed.clear()
                while some := reply.read(after + len(deltas), 100):
                    deltas += some
                if reply.outcome is not None:
                    return deltas, reply.outcome
                await changed.wait()
    finally:
        reply.unwatch(changed.set)


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
