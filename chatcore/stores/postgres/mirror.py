"""The owner's half of shared replies: what this instance's replies say goes to Redis, all of them in one call.

A reply that ends within its first moments with one delta at most is not written at all: the database has it, with the
same numbers of events. An entry is added only where the stream ends with the event before it, so what Redis lost while
it was away is filled in first, and what was written without our knowing is not written twice.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable

import msgspec

from chatcore.errors import REPLY_GONE, Refusal
from chatcore.happenings import Crashed, Observe
from chatcore.model import Outcome, TurnKey
from chatcore.ports import StoreUnavailableError
from chatcore.stores.postgres.redis_link import RedisLink
from chatcore.stores.postgres.streams import START, claim_key, encode_deltas, encode_end, end_number, name_of
from chatcore.stores.replies_memory import MemoryRecord

PERIOD_SECONDS = 0.025
"""Text waits for one to two of these before it is written."""

CHUNK_CHARS = 32_768
AT_ONCE = 100
"""How many replies are written with one operation; Redis does nothing else meanwhile."""

RUNNING_MS = 300_000
"""A claim outlives its reply by this if its instance dies; it is held again each `HOLD_SECONDS`."""

HOLD_SECONDS = 60.0
RECENT_SECONDS = 120.0
MOST_RECENT = 2_000
"""Replies that ended so long ago at most are written again where Redis lost them."""

MOST_RELEASES = 10_000
_SHORTEST_MS = 10_000
_PAUSE_SECONDS = 0.5
_LAST_ROUNDS = 1_000
_DROPPED = Outcome(finish_reason="error", duration_ms=0, refusal=Refusal(REPLY_GONE), sent=False)


class _Own:
    """A reply of this instance; `written`: the number of the last event that its stream has."""

    __slots__ = ("_mirror", "ended", "holder", "name", "record", "wanted", "written")

    def __init__(self, mirror: "Mirror", record: MemoryRecord, holder: str) -> None:
        self._mirror = mirror
        self.record = record
        self.holder = holder
        self.name = name_of(record.turn_key)
        self.written = START
        self.ended = False  # the stream has its end
        self.wanted = False  # somebody follows it

    def changed(self) -> None:
        """Have news written, unless the reply was short and nobody asked for it."""
        if self.record.outcome is not None:
            self.record.unwatch(self.changed)
            if self.written == START and not self.wanted and self.record.count() <= 1:
                self._mirror.forget(self.record.turn_key)
                return
        self._mirror.mark(self)


class _Part(msgspec.Struct, frozen=True, gc=False):
    """One entry on its way: the stream is to have `number` as its last event after `after`."""

    own: _Own
    after: int
    number: int
    text: bytes
    ttl_ms: int
    last: bool = False


class Mirror:
    """All replies that this instance runs, or ran a moment ago."""

    def __init__(self, link: RedisLink, instance: str, keep_seconds: float, observe: Observe) -> None:
        """`keep_seconds`: how long a reply is there after its end."""
        self._link = link
        self._instance = instance
        self._observe = observe
        self._kept_ms = max(round(keep_seconds * 1000), _SHORTEST_MS)
        self.running_ms = self._kept_ms + RUNNING_MS
        self._own: dict[TurnKey, _Own] = {}
        self._recent: OrderedDict[TurnKey, float] = OrderedDict()
        self._young: dict[_Own, None] = {}
        self._old: dict[_Own, None] = {}
        self._releases: OrderedDict[TurnKey, tuple[int, bytes]] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._now = 0.0
        self._hold_at = 0.0
        self._hold_ended = False

    def add(self, record: MemoryRecord, holder: str) -> None:
        """Write what `record` will say, and says already."""
        own = self._own[record.turn_key] = _Own(self, record, holder)
        self._releases.pop(record.turn_key, None)
        record.watch(own.changed)

    def show(self, record: MemoryRecord) -> None:
        """Write a reply, however short it was: another instance follows it."""
        own = self._own.get(record.turn_key)
        if own is None:
            if record.outcome is None:
                return
            own = self._own[record.turn_key] = _Own(self, record, "")
        own.wanted = True
        if not own.ended and (record.count() or record.outcome is not None):
            self.mark(own)

    def forget(self, key: TurnKey) -> None:
        """Write no more of a reply."""
        own = self._own.pop(key, None)
        self._recent.pop(key, None)
        if own is not None:
            own.record.unwatch(own.changed)
            self._young.pop(own, None)
            self._old.pop(own, None)

    def mark(self, own: _Own) -> None:
        """Note that a reply has news."""
        if own not in self._old:
            self._young[own] = None
        self._begin()

    async def release(self, record: MemoryRecord) -> None:
        """Let a message run again that n8n never got; done later where Redis is down."""
        key, outcome = record.turn_key, record.outcome or _DROPPED
        self.forget(key)
        self._releases[key] = (end_number(0, outcome), encode_end(outcome))
        if len(self._releases) > MOST_RELEASES:
            self._releases.popitem(last=False)
        await self._release_all()

    def give_up_claim(self, key: TurnKey, holder: str) -> Awaitable[object]:
        """Let go of a claim of which nothing came."""
        return self._link.call("release", claim_key(name_of(key)), holder)

    def returned(self) -> None:
        """Fill in what Redis is missing: it is back after an outage, or lost its data."""
        for own in self._own.values():
            own.written, own.ended = START, False
            if own.record.count() or own.record.outcome is not None:
                self._old[own] = None
        self._hold_at = self._now
        self._hold_ended = True
        self._begin()

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds)."""
        self._now = now
        while self._recent:
            key, ended_at = next(iter(self._recent.items()))
            if ended_at > now - RECENT_SECONDS and len(self._recent) <= MOST_RECENT:
                break
            self.forget(key)
        if now >= self._hold_at and self._own and self._link.up:
            self._begin()

    async def close(self) -> None:
        """Write what is left, if Redis is there."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        with contextlib.suppress(StoreUnavailableError):
            for _ in range(_LAST_ROUNDS):
                self._old |= self._young
                self._young = {}
                if not self._old:
                    return
                await self._round()

    def _begin(self) -> None:
        if self._task is None and self._link.up:
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Write until there is nothing more to write, or Redis is down; `returned` begins again."""
        try:
            await self._hold_all()
            await self._release_all()
            while self._young or self._old:
                await asyncio.sleep(PERIOD_SECONDS)
                try:
                    await self._round()
                except StoreUnavailableError:
                    if not self._link.up:
                        return
                    await asyncio.sleep(_PAUSE_SECONDS)
        except StoreUnavailableError:
            pass
        except Exception as error:  # noqa: BLE001 - a bug here must not end the replies, which readers here still have
            self._observe(Crashed("mirror", error))
            self._old.clear()
        finally:
            if self._task is asyncio.current_task():
                self._task = None

    async def _hold_all(self) -> None:
        """Hold the claims of what runs; after an outage of what has ended too, since a claim leads to its stream."""
        if self._now < self._hold_at:
            return
        self._hold_at = self._now + HOLD_SECONDS
        held = [own for own in self._own.values() if own.holder and (self._hold_ended or own.record.outcome is None)]
        for begin in range(0, len(held), AT_ONCE):
            await asyncio.gather(*[self._hold(own) for own in held[begin : begin + AT_ONCE]])
        self._hold_ended = False

    async def _hold(self, own: _Own) -> None:
        ttl_ms = self.running_ms if own.record.outcome is None else self._kept_ms
        await self._link.call("reply_hold", claim_key(own.name), own.holder, ttl_ms)

    async def _release_all(self) -> None:
        while self._releases and self._link.up:
            key, (number, text) = self._releases.popitem(last=False)
            name = name_of(key)
            try:
                await self._link.call("reply_release", claim_key(name), self._instance, name, number, text)
            except StoreUnavailableError:
                self._releases[key] = (number, text)
                return

    async def _round(self) -> None:
        """Write what waited for a whole period; what came since waits for the next round."""
        waiting, self._old, self._young = list(self._old), self._young, {}
        try:
            while waiting:
                await self._append(waiting[:AT_ONCE])
                del waiting[:AT_ONCE]
        finally:  # what was not written is not forgotten
            self._old |= dict.fromkeys(waiting)

    async def _append(self, some: list[_Own]) -> None:
        parts = [part for own in some for part in self._parts(own)]
        if not parts:
            return
        arguments: list[str | bytes | int] = []
        for part in parts:
            arguments += (part.own.name, part.after, part.number, part.text, part.ttl_ms)
        numbers = await self._link.call("reply_append", "chatcore:r", *arguments)
        for part, number in zip(parts, numbers, strict=True):
            self._appended(part, int(number))

    def _appended(self, part: _Part, number: int) -> None:
        own = part.own
        if self._own.get(own.record.turn_key) is not own:  # forgotten meanwhile
            return
        own.written = number
        if part.last and number == part.number:
            own.ended = True
            self._recent[own.record.turn_key] = self._now
        elif own.record.outcome is not None or own.written < START + own.record.count():
            self.mark(own)

    def _parts(self, own: _Own) -> list[_Part]:
        """Make the next entries of a reply: text, and the end where that comes next."""
        record = own.record
        outcome = record.outcome
        if own.ended:
            return []
        end = 0 if outcome is None else end_number(record.count(), outcome)
        if end and own.written >= end:  # it was written, and the answer was lost
            own.ended = True
            self._recent[record.turn_key] = self._now
            return []
        try:
            deltas = record.read(own.written, CHUNK_CHARS)
        except Refusal:  # dropped for lack of memory, or erased
            self.forget(record.turn_key)
            return []
        parts, after = [], own.written
        ttl_ms = self.running_ms if outcome is None else self._kept_ms
        if deltas:
            after += len(deltas)
            parts.append(_Part(own, own.written, after, encode_deltas(deltas), ttl_ms))
        if outcome is not None and after == START + record.count():
            parts.append(_Part(own, after, end, encode_end(outcome), ttl_ms, last=True))
        return parts
