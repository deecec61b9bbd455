"""The reader's half of shared replies: copies of replies that other instances run, fed from Redis' streams.

One loop reads all of them, often while there are few. What stays silent is looked into: its instance may have died, or
ended the reply without writing it. While Redis is away readers wait; after `PATIENCE_SECONDS` they are told an error,
unless the database says how the reply ended.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from chatcore.errors import REPLY_GONE, STORE_UNAVAILABLE, Kind, Refusal
from chatcore.happenings import Crashed, Observe
from chatcore.model import Delta, Outcome, TurnKey
from chatcore.ports import Clock, StoreUnavailableError
from chatcore.stores.postgres.copies import LONGEST_LOOK_SECONDS, CopiedReply, Followed, outcome_of
from chatcore.stores.postgres.redis_link import RedisLink
from chatcore.stores.postgres.streams import (
    ROOM_BYTES,
    START,
    Holder,
    Look,
    claim_key,
    decode,
    holder_of,
    name_of,
    pairs,
)
from chatcore.stores.postgres.turns import KnownTurn, Turns, storable
from chatcore.stores.replies_memory import MemoryReplies
from chatcore.wire.encode_document import join_text

POLL_SECONDS = 0.05
POLL_SECONDS_EACH = 0.0001
"""With many replies the loop takes its time: for each of them so much."""

AT_ONCE = 200
"""How many streams are read with one operation."""

PATIENCE_SECONDS = 10.0
GRACE_SECONDS = 5.0
"""So long after Redis came back, instances may still have to renew their leases and claims."""

UNREAD_SECONDS = 30.0
"""A copy that nobody reads for so long is let go."""

_ALL = 1 << 40


class Followers:
    """All replies of other instances that somebody reads here."""

    def __init__(
        self,
        memory: MemoryReplies,
        link: RedisLink,
        turns: Turns,
        channel: str,
        instance: str,
        clock: Clock,
        observe: Observe,
    ) -> None:
        """`channel` is where instances are asked to write what they have."""
        self._memory = memory
        self._link = link
        self._turns = turns
        self._channel = channel
        self._instance = instance
        self._clock = clock
        self._observe = observe
        self._followed: dict[TurnKey, Followed] = {}
        self._task: asyncio.Task[None] | None = None
        self._lost_since: float | None = None
        self._certain_at = 0.0

    def returned(self) -> None:
        """Be patient with claims and leases that are missing: Redis has just come back."""
        self._certain_at = self._clock.monotonic() + GRACE_SECONDS

    @property
    def certain(self) -> bool:
        """Whether what Redis does not have is gone for certain."""
        return self._clock.monotonic() >= self._certain_at

    async def look(self, key: TurnKey, after: int = START) -> Look:
        """Ask Redis for a reply; an instance that has it and has written nothing is asked to. May raise."""
        name = name_of(key)
        found = await self._link.call("reply_look", claim_key(name), name, after, ROOM_BYTES, self._channel)
        if not found[0]:
            return Look(None, alive=False, entries=())
        holder = holder_of(found[0])
        # What this instance runs it has in memory and would not look for here.
        return Look(holder, alive=bool(found[1]) and holder.instance != self._instance, entries=found[2])

    async def ended(self, key: TurnKey, seconds: float) -> None:
        """Wait, not longer than that, until a copy has ended."""
        followed = self._followed.get(key)
        if followed is None:
            return
        changed = asyncio.Event()
        followed.copy.watch(changed.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while followed.copy.outcome is None:
                    changed.clear()
                    await changed.wait()
        followed.copy.unwatch(changed.set)

    async def follow(self, key: TurnKey, holder: Holder, entries: Sequence[Any]) -> CopiedReply:
        """Give a copy of a reply that has all that its stream has now. Raises `Refusal` (`overloaded`) when full."""
        before = self._followed.get(key)
        if before is not None:
            if not before.copy.forgotten:  # two asked at the same moment
                return before.copy
            self._give_up(before, REPLY_GONE)  # or those who read it would wait for ever
        now = self._clock.monotonic()
        copy = CopiedReply(key, holder.digest, self._turns.digest, now, self._memory)
        self._memory.take_in(copy)
        followed = self._followed[key] = Followed(copy, now)
        try:
            while entries and copy.outcome is None:
                self._apply(followed, entries)
                if copy.outcome is None:
                    (entries,) = await self._read([followed])
        except StoreUnavailableError:
            pass  # the loop goes on with it
        if self._task is None and self._followed:
            self._task = asyncio.get_running_loop().create_task(self._follow_all())
        return copy

    def forget(self, key: TurnKey | str) -> None:
        """Follow one reply no more, or all of a session; whoever reads is told that it is gone. Memory still has it."""
        keys = [one for one in self._followed if one[0] == key] if isinstance(key, str) else [key]
        for one in keys:
            followed = self._followed.get(one)
            if followed is not None:
                self._give_up(followed, REPLY_GONE, keep=True)

    async def close(self) -> None:
        """Follow nothing any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        for followed in list(self._followed.values()):
            self._give_up(followed, STORE_UNAVAILABLE)

    async def _follow_all(self) -> None:
        try:
            while self._followed:
                await asyncio.sleep(max(POLL_SECONDS, len(self._followed) * POLL_SECONDS_EACH))
                try:
                    await self._round()
                except StoreUnavailableError:
                    await self._without_redis()
                else:
                    self._lost_since = None
                self._let_go_unread()
        except Exception as error:  # noqa: BLE001 - a bug must not leave readers waiting for ever
            self._observe(Crashed("followers", error))
            for followed in list(self._followed.values()):
                self._give_up(followed, STORE_UNAVAILABLE)
        finally:
            if self._task is asyncio.current_task():
                self._task = None
                self._lost_since = None

    async def _round(self) -> None:
        everything = list(self._followed.values())
        now = self._clock.monotonic()
        for begin in range(0, len(everything), AT_ONCE):
            some = everything[begin : begin + AT_ONCE]
            for followed, entries in zip(some, await self._read(some), strict=True):
                if entries:
                    followed.rest(now)
                    self._apply(followed, entries)
                    self._to_the_end(followed)
        silent = [one for one in everything if one.look_at <= now and one.copy.outcome is None]
        for begin in range(0, len(silent), AT_ONCE):
            await asyncio.gather(*[self._look_into(one) for one in silent[begin : begin + AT_ONCE]])

    def _to_the_end(self, followed: Followed) -> None:
        """Have it read last next time, so that those who come after it in a full answer get their turn."""
        key = followed.copy.turn_key
        if self._followed.get(key) is followed:
            self._followed[key] = self._followed.pop(key)

    async def _read(self, some: Sequence[Followed]) -> Sequence[Any]:
        arguments: list[str | int] = [ROOM_BYTES]
        for followed in some:
            arguments += (followed.name, followed.position)
        answer: Sequence[Any] = await self._link.call("reply_read", "chatcore:r", *arguments)
        return answer

    def _apply(self, followed: Followed, entries: Sequence[Any]) -> None:
        """Add what came; what is there already is passed over (a look and a read may have crossed)."""
        copy, deltas, end = followed.copy, list[Delta](), None
        for number, text in pairs(entries):
            if number <= followed.position or end is not None or copy.outcome is not None:
                continue
            what = decode(text)
            if isinstance(what, Outcome):
                end = what
            else:  # an owner who fills in cuts its text into other entries than before
                deltas += what[max(followed.position - number + len(what), 0) :]
            followed.position = number
        try:
            if deltas:
                copy.append(deltas)
        except Refusal as refusal:  # no room for it here
            self._give_up(followed, refusal.kind)
            return
        if end is not None:
            self._finish(followed, end, keep=end.sent)  # what n8n never got may run again

    async def _look_into(self, followed: Followed) -> None:
        """Find out why nothing comes."""
        key = followed.copy.turn_key
        followed.be_patient(self._clock.monotonic())
        look = await self.look(key, followed.position)
        if look.entries:
            self._apply(followed, look.entries)
        elif look.alive and followed.position > START:
            return  # it thinks
        elif await self._ended_in_database(followed) or look.alive or not self.certain:
            return
        else:
            self._give_up(followed, REPLY_GONE)

    async def _without_redis(self) -> None:
        now = self._clock.monotonic()
        if self._lost_since is None:
            self._lost_since = now
        impatient = now - self._lost_since >= PATIENCE_SECONDS
        due = [one for one in self._followed.values() if impatient or one.look_at <= now]
        for begin in range(0, len(due), AT_ONCE):
            some = due[begin : begin + AT_ONCE]
            for one in some:
                one.look_at = now + LONGEST_LOOK_SECONDS
            ended = await asyncio.gather(*[self._ended_in_database(one) for one in some])
            if impatient:
                for one in (one for one, has in zip(some, ended, strict=True) if not has):
                    self._give_up(one, STORE_UNAVAILABLE)

    async def _ended_in_database(self, followed: Followed) -> bool:
        """End a reply as the database knows it, where it does."""
        copy = followed.copy
        try:
            known = await self._turns.known(copy.turn_key)
        except StoreUnavailableError:
            return False
        outcome = None if known is None else outcome_of(known)
        if known is None or outcome is None or self._followed.get(copy.turn_key) is not followed:
            return False
        return self._complete(followed, known, outcome)

    def _complete(self, followed: Followed, known: KnownTurn, outcome: Outcome) -> bool:
        copy = followed.copy
        said, text = storable(join_text(copy.read(0, _ALL))), known.text or ""
        if not text.startswith(said):
            return False
        try:
            if len(text) > len(said):
                copy.append([Delta(text[len(said) :])])
        except Refusal as refusal:
            self._give_up(followed, refusal.kind)
        else:
            # Not kept: its events may have other numbers than the owner gave them, and the message may run again.
            self._finish(followed, outcome, keep=False)
        return True

    def _finish(self, followed: Followed, outcome: Outcome, *, keep: bool) -> None:
        """End a copy; one that is not kept is for those who read it now, others look anew."""
        copy = followed.copy
        if self._followed.get(copy.turn_key) is followed:
            del self._followed[copy.turn_key]
        copy.finish(outcome)
        if not keep:
            self._memory.let_go(copy)

    def _give_up(self, followed: Followed, kind: Kind, *, keep: bool = False) -> None:
        duration_ms = round((self._clock.monotonic() - followed.copy.created) * 1000)
        outcome = Outcome(finish_reason="error", duration_ms=duration_ms, refusal=Refusal(kind))
        self._finish(followed, outcome, keep=keep)

    def _let_go_unread(self) -> None:
        now = self._clock.monotonic()
        for followed in list(self._followed.values()):
            copy = followed.copy
            if copy.watched:
                copy.touched = now
            if copy.forgotten or copy.touched <= now - UNREAD_SECONDS:
                self._give_up(followed, REPLY_GONE)
