"""Puts PostgreSQL mode together: which connections there are, and what plugs into which port."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from chatcore import keyed
from chatcore.ports import Archive, AuditTrail, Clock, Peers, StoreFaultError, Trouble
from chatcore.settings import PostgresSettings, Settings
from chatcore.stores.postgres import chain, prepared, schema
from chatcore.stores.postgres.analytics import PostgresAnalytics
from chatcore.stores.postgres.archive import PostgresArchive
from chatcore.stores.postgres.audit import PostgresAudit
from chatcore.stores.postgres.counters import RedisCounters
from chatcore.stores.postgres.database import Database
from chatcore.stores.postgres.erased import Erased
from chatcore.stores.postgres.journal import Journal
from chatcore.stores.postgres.recorder import Recorder
from chatcore.stores.postgres.redis_link import RedisLink
from chatcore.stores.postgres.replies import PostgresReplies
from chatcore.stores.postgres.sessions import PostgresSessions
from chatcore.stores.postgres.turns import Turns
from chatcore.stores.postgres.upkeep import Upkeep
from chatcore.stores.postgres.writer import Writer
from chatcore.stores.replies_memory import MemoryReplies

if TYPE_CHECKING:
    from chatcore.happenings import Observe

SWEEP_SECONDS = 5.0
SHARDS = 16
"""Instances add to different rows of the figures, as far as so many suffice."""


class Stores:
    """What this variant plugs in for the core's ports."""

    def __init__(
        self,
        settings: Settings,
        told: PostgresSettings,
        journal: Journal,
        state: schema.State,
        clock: Clock,
        observe: "Observe",
        *,
        away: bool,
    ) -> None:
        """`away`: the database did not answer; `state` is what an earlier run knew of it."""
        from chatcore.happenings import RepliesEvicted  # noqa: PLC0415 - brings the metrics library

        self._journal = journal
        self._swept_at = 0.0
        self._database = Database(told.url, pool_size=told.pool_size, prepare=told.prepare)
        self._reading = (
            self._database
            if told.read_url == told.url
            else Database(told.read_url, pool_size=told.pool_size, prepare=told.prepare, read_only=True)
        )
        instance = clock.token_bytes(8).hex()
        run = str(uuid.UUID(bytes=clock.token_bytes(16), version=4))
        recorder = Recorder(self._database, run, clock.token_bytes(1)[0] % SHARDS, observe)
        self._writer = Writer(recorder, journal, clock, observe, away=away)
        self._turns = Turns(
            self._database,
            self._writer,
            keyed.derive(state.hash_key, "message digest"),
            strict=told.persist_strict,
            left=journal.left,
        )
        kept_seconds = settings.replies.reply_keep_seconds
        self._erased = Erased(self._database, clock, lambda: self._writer.unreadable, kept_seconds)
        self._upkeep = Upkeep(told, self._database, settings.upstream.total_timeout_seconds, clock, observe)
        self._link = RedisLink(told.redis_url, clock, observe)
        self.counters = RedisCounters(self._link, keyed.derive(state.hash_key, "limited key"), clock)
        memory = MemoryReplies(settings.replies, clock, lambda count: observe(RepliesEvicted(count)))
        self.replies = PostgresReplies(
            memory,
            self._link,
            self._turns,
            self._writer,
            instance,
            kept_seconds,
            clock,
            observe,
            strict=told.persist_strict,
        )
        self.replies.peers.erased = self._erased.add
        self._erased.drop = self.replies.peers.stop_here
        audit = PostgresAudit(self._database, chain.keys(told.audit_key, told.jwt_secrets)[0], state.hash_key, clock)
        self.sessions = PostgresSessions(self._database, self._writer, self._turns, self._erased, audit, clock)
        self.analytics = PostgresAnalytics(self._reading, self._writer)
        self.archive: Archive | None = PostgresArchive(self._database, self._reading)
        self.audit: AuditTrail | None = audit
        self.peers: Peers | None = self.replies.peers
        self._strict = told.persist_strict

    async def open(self) -> None:
        """Connect; neither PostgreSQL nor Redis has to answer."""
        await self._writer.open()
        await self._link.open()
        await self.replies.open()

    async def close(self) -> None:
        """Write what is left and disconnect."""
        await self.replies.close()
        await self._writer.close()
        await asyncio.gather(self._erased.close(), self._upkeep.close(), self._link.close())
        await self._database.close()
        if self._reading is not self._database:
            await self._reading.close()
        self.release()

    def release(self) -> None:
        """Let another server have the journal."""
        self._journal.release()

    def troubles(self) -> Mapping[str, Trouble | None]:
        """Tell what is wrong with PostgreSQL and with Redis."""
        postgres = self._writer.trouble()
        if postgres is not None and self._strict and self._writer.outage is not None:
            postgres = Trouble(f"{postgres.detail}; PERSIST_STRICT refuses new messages", refuses=True)
        return {"postgres": postgres, "redis": self._link.trouble()}

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._link.tick(now)
        self._writer.tick(now)
        self._erased.tick(now)
        self._upkeep.tick(now)
        self.replies.tick(now)
        if now >= self._swept_at + SWEEP_SECONDS:
            self._swept_at = now
            self.counters.sweep()


def open_stores(settings: Settings, clock: Clock, observe: "Observe") -> Stores:
    """Take the journal, bring the schema up to date. Raises `StoreFaultError` with what to do.

    Where the database does not answer, a server that knows it from an earlier run starts all the same, and records in
    the journal.
    """
    told = settings.postgres
    if told is None:
        raise StoreFaultError("no database is set", "Set DATABASE_URL and REDIS_URL.")
    journal = Journal(told.spool_path, told.spool_max_bytes)
    try:
        away = False
        try:
            state = schema.prepare(told, clock)
            prepared.refuse_mixed(told)
            journal.remember(state)
        except schema.DatabaseAwayError as error:
            known = journal.known()
            if known is None or known.revision != schema.HEAD:
                raise error.fault from error
            state, away = known, True
        return Stores(settings, told, journal, state, clock, observe, away=away)
    except BaseException:
        journal.release()
        raise
