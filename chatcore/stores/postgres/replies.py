"""Replies that all instances share: one runs a reply and has it in memory, any other follows or stops it.

Whoever claims a message's id in Redis first runs it; where Redis is down, whoever opens the turn in PostgreSQL. What an
id was used for is asked of both at once, since each may have what the other has not (or no longer, or not yet).
"""

import asyncio
import contextlib

import msgspec

from chatcore.errors import MESSAGE_ID_REUSED, REPLY_GONE, Refusal
from chatcore.happenings import Observe
from chatcore.model import Turn, TurnKey
from chatcore.ports import Clock, ReplyText, StoreUnavailableError
from chatcore.stores.postgres.copies import CopiedReply, StoredReply, outcome_of
from chatcore.stores.postgres.entries import Released
from chatcore.stores.postgres.followers import Followers
from chatcore.stores.postgres.mirror import Mirror
from chatcore.stores.postgres.peers import RedisPeers
from chatcore.stores.postgres.redis_link import RedisLink
from chatcore.stores.postgres.streams import LEASE_MS, Holder, Look, claim_key, lease_key, name_of
from chatcore.stores.postgres.turns import KnownTurn, Turns
from chatcore.stores.postgres.writer import Writer
from chatcore.stores.replies_memory import MemoryRecord, MemoryReplies

RENEW_SECONDS = 2.0
MOST_UNFORGOTTEN = 10_000
"""So many sessions that were dropped while Redis was away are removed there once it is back."""


class _Facts(msgspec.Struct, frozen=True):
    """What is known of a message: by Redis, unless it is down, and by the database, if `database` says it answered."""

    look: Look | None
    turn: KnownTurn | None
    database: bool

    @property
    def holder(self) -> Holder | None:
        return None if self.look is None else self.look.holder

    @property
    def digest(self) -> str | None:
        """The keyed hash of the message's text."""
        if self.holder is not None:
            return self.holder.digest
        return None if self.turn is None else self.turn.digest or None  # imported turns have none


class PostgresReplies:
    """Implements `ports.ReplyLog` over the replies in memory; `peers` are the other instances."""

    def __init__(
        self,
        memory: MemoryReplies,
        link: RedisLink,
        turns: Turns,
        writer: Writer,
        instance: str,
        keep_seconds: float,
        clock: Clock,
        observe: Observe,
        *,
        strict: bool = False,
    ) -> None:
        """`instance` names this one, 16 hex digits, fresh at each start; `strict`: no reply runs unrecorded."""
        self._memory = memory
        self._link = link
        self._turns = turns
        self._writer = writer
        self._instance = instance
        self._strict = strict
        # Channels belong to no database of Redis, so the name says whose it is.
        channel = f"chatcore:peers:{link.client.connection_pool.connection_kwargs.get('db') or 0}"
        self._mirror = Mirror(link, instance, keep_seconds, observe)
        self._followers = Followers(memory, link, turns, channel, instance, clock, observe)
        self._clock = clock
        self.peers = RedisPeers(link, self._followers, channel, instance, clock, observe)
        self._claiming: dict[TurnKey, asyncio.Future[None]] = {}
        self._unforgotten: dict[str, None] = {}
        self._renew_at = 0.0
        self._chores: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Tell that this instance lives, and listen to the others; the link is open already."""
        self._followers.returned()
        self._link.on_return(self._returned)
        await self._renew()
        await self.peers.open(self._show)

    async def close(self) -> None:
        """Write what is left to Redis and take leave of the others."""
        for task in tuple(self._chores):
            task.cancel()
        await self._followers.close()
        await self.peers.close()
        await self._mirror.close()
        with contextlib.suppress(StoreUnavailableError):
            await self._link.call("release", lease_key(self._instance))

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds)."""
        self._mirror.tick(now)
        if now >= self._renew_at:
            self._renew_at = now + RENEW_SECONDS
            self._start_renewing()

    async def claim(self, turn: Turn) -> MemoryRecord | None:
        """Make a record for `turn`, or None where its key is taken.

        Raises `Refusal` (`overloaded`) when full, `StoreUnavailableError` where the turn must be recorded and cannot.
        """
        key = turn.key
        claiming = self._claiming.get(key)
        if claiming is not None:
            await asyncio.wait({claiming})
            return None
        if await self._memory.find(key) is not None:
            return None
        done = self._claiming[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._claim(turn)
        finally:
            del self._claiming[key]
            done.set_result(None)

    async def find(self, key: TurnKey, text: str | None = None) -> ReplyText | None:
        """Give the reply of `key`, whoever runs it or ran it.

        Raises `Refusal`: `message_id_reused` where it was made for another text, `reply_gone` for a message (`text`)
        whose reply was cut off and is not kept. Raises `StoreUnavailableError` where nobody here can know.
        """
        found = await self._in_memory(key, text)
        if found is not None:
            return found
        facts = await self._ask(key)
        found = await self._in_memory(key, text)
        if found is not None:
            return found
        if facts.look is not None and facts.holder is None and facts.turn is not None and facts.turn.state == "open":
            facts = await self._ask(key)  # it may have been claimed between the two answers
            found = await self._in_memory(key, text)
            if found is not None:
                return found
        return await self._elsewhere(key, text, facts)

    async def drop(self, key: TurnKey | str) -> None:
        """Forget a reply, and that its message came; or all replies of a session."""
        if isinstance(key, str):
            await self._drop_session(key)
            return
        record = await self._memory.find(key)
        self._followers.forget(key)
        await self._memory.drop(key)
        if record is not None and not isinstance(record, CopiedReply):
            self._writer.put(Released(session_id=key[0], message_id=key[1]))
            await self._mirror.release(record)

    def sweep(self, now: float) -> None:
        """Forget what was kept long enough."""
        self._memory.sweep(now)

    async def _claim(self, turn: Turn) -> MemoryRecord | None:
        if self._writer.full:  # what the reply says would have no place
            raise StoreUnavailableError
        if self._strict and not await self._turns.claim(turn):
            return None
        holder = str(Holder(self._instance, self._turns.digest(turn.text)))
        name = name_of(turn.key)
        try:
            other = await self._link.call("reply_claim", claim_key(name), holder, self._mirror.running_ms, name)
        except StoreUnavailableError:
            if not self._strict and not await self._turns.claim(turn):
                return None
        else:
            if other and not self._strict:
                return None
        try:
            record = await self._memory.claim(turn)
        except Refusal:
            if self._turns.opening(turn) is None:  # it is open in the database
                self._writer.put(Released(session_id=turn.session_id, message_id=turn.message_id))
            with contextlib.suppress(StoreUnavailableError):
                await self._mirror.give_up_claim(turn.key, holder)
            raise
        if record is not None:
            self._mirror.add(record, holder)
        return record

    async def _in_memory(self, key: TurnKey, text: str | None) -> MemoryRecord | None:
        claiming = self._claiming.get(key)
        if claiming is not None:
            await asyncio.wait({claiming})
        record = await self._memory.find(key, text)
        if isinstance(record, CopiedReply):
            record.touched = self._clock.monotonic()
        return record

    async def _ask(self, key: TurnKey) -> _Facts:
        look, turn, database = None, None, True
        looking = asyncio.ensure_future(self._followers.look(key))
        try:
            turn = await self._turns.known(key)
        except StoreUnavailableError:
            database = False
        except BaseException:
            looking.cancel()
            raise
        with contextlib.suppress(StoreUnavailableError):
            look = await looking
        if turn is not None and turn.state == "released" and look is not None and look.holder is None:
            turn = None  # as if it had never been
        return _Facts(look, turn, database)

    async def _elsewhere(self, key: TurnKey, text: str | None, facts: _Facts) -> ReplyText | None:
        """Give a reply that is not in memory here, by what Redis and the database say."""
        look, holder, turn = facts.look, facts.holder, facts.turn
        if text is not None and facts.digest not in (None, self._turns.digest(text)):
            raise Refusal(MESSAGE_ID_REUSED)
        if look is not None and holder is not None and look.entries:
            return await self._followers.follow(key, holder, look.entries)
        outcome = None if turn is None else outcome_of(turn)
        if turn is not None and outcome is not None:
            return StoredReply(key, turn.text or "", outcome, self._clock.monotonic())
        if look is not None and holder is not None and (look.alive or not self._is_gone(holder)):
            return await self._followers.follow(key, holder, ())
        if self._may_be_somewhere(facts, text):
            raise StoreUnavailableError
        if text is not None and (holder is not None or turn is not None):
            raise Refusal(REPLY_GONE)  # it was cut off, and is not answered a second time
        return None

    def _is_gone(self, holder: Holder) -> bool:
        return holder.instance == self._instance or self._followers.certain

    def _may_be_somewhere(self, facts: _Facts, text: str | None) -> bool:
        """Tell whether one that did not answer might know of the reply. A new message is not held up by that."""
        if facts.turn is None:
            return not facts.database and (text is None or facts.holder is not None)
        # Without Redis nobody knows who runs it; just back, its owner is about to claim it again.
        return facts.turn.state == "open" and facts.holder is None and not (facts.look and self._followers.certain)

    async def _drop_session(self, session_id: str) -> None:
        records = self._memory.of_session(session_id)
        for record in records:
            self._mirror.forget(record.turn_key)
        self._followers.forget(session_id)
        await self._memory.drop(session_id)
        try:
            await self._forget(session_id, *[record.turn_key[1] for record in records])
        except StoreUnavailableError:
            if len(self._unforgotten) < MOST_UNFORGOTTEN:
                self._unforgotten[session_id] = None

    async def _forget(self, session_id: str, *messages: str) -> None:
        await self._link.call("reply_forget", f"chatcore:s:{session_id}", session_id, *messages)

    async def _show(self, key: TurnKey) -> None:
        """Write a reply of this instance, because another one follows it."""
        record = await self._memory.find(key)
        if record is not None and not isinstance(record, CopiedReply):
            self._mirror.show(record)

    def _returned(self) -> None:
        self._followers.returned()
        self._start_renewing()
        self._mirror.returned()
        self.peers.returned()

    def _start_renewing(self) -> None:
        if self._link.up and not self._chores:
            task = asyncio.get_running_loop().create_task(self._renew())
            self._chores.add(task)
            task.add_done_callback(self._chores.discard)

    async def _renew(self) -> None:
        with contextlib.suppress(StoreUnavailableError):
            await self._link.call("lease", lease_key(self._instance), LEASE_MS)
            while self._unforgotten:
                session_id = next(iter(self._unforgotten))
                await self._forget(session_id)
                self._unforgotten.pop(session_id, None)
