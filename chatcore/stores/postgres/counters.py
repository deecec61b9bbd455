"""Counters of the rate limits that all instances share: in Redis, on Redis' clock, by keyed hashes alone.

While Redis is down each instance counts in its own memory, from zero: a visitor may then have the limit once more for
each instance, and nobody is refused for the outage.
"""

import hashlib
from functools import lru_cache
from typing import Any

from chatcore.ports import Clock, Level, StoreUnavailableError
from chatcore.stores.counters_memory import MemoryCounters
from chatcore.stores.postgres.redis_link import RedisLink

_KEY_BYTES = 16
_HASHES_CACHED = 4096
_MICROS = 1_000_000


class RedisCounters:
    """Implements `ports.CounterStore`."""

    def __init__(self, link: RedisLink, hash_key: bytes, clock: Clock, prefix: str = "l:") -> None:
        """All keys begin with `prefix`; all instances have the same `hash_key`."""
        self._link = link
        self._memory = MemoryCounters(clock)
        self._hash_key = hash_key
        self._prefix = prefix
        self._bucket = lru_cache(_HASHES_CACHED)(lambda key: self._name("b", key))
        self._window = lru_cache(_HASHES_CACHED)(lambda key: self._name("w", key))

    async def take(self, key: str, interval: float, burst: int) -> Level:
        """Admit one cell by GCRA."""
        if self._link.up:
            try:
                return _level(await self._link.call("take", self._bucket(key), _micros(interval), burst))
            except StoreUnavailableError:
                pass
        return await self._memory.take(key, interval, burst)

    async def give_back(self, key: str, interval: float) -> None:
        """Undo one `take`; one that was made on the other side of an outage is not found there, and stays."""
        if self._link.up:
            try:
                await self._link.call("give_back", self._bucket(key), _micros(interval))
            except StoreUnavailableError:
                pass
            else:
                return
        await self._memory.give_back(key, interval)

    async def count(self, key: str, limit: int, until: float) -> Level:
        """Count one in the window that ends at `until`, unless `limit` is reached."""
        if self._link.up:
            try:
                return _level(await self._link.call("count", self._window(key), limit, _micros(until)))
            except StoreUnavailableError:
                pass
        return await self._memory.count(key, limit, until)

    async def uncount(self, key: str) -> None:
        """Undo one `count`."""
        if self._link.up:
            try:
                await self._link.call("uncount", self._window(key))
            except StoreUnavailableError:
                pass
            else:
                return
        await self._memory.uncount(key)

    def sweep(self) -> None:
        """Forget what holds nothing back in memory; Redis forgets by itself."""
        self._memory.sweep()

    def _name(self, kind: str, key: str) -> str:
        data = key.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, key=self._hash_key, digest_size=_KEY_BYTES).hexdigest()
        return f"{self._prefix}{kind}:{digest}"


def _micros(seconds: float) -> int:
    return max(round(seconds * _MICROS), 1)


def _level(answer: Any) -> Level:
    admitted, remaining, retry_after, full_after = answer
    return Level(
        admitted=admitted == 1,
        remaining=remaining,
        retry_after=retry_after / _MICROS,
        full_after=full_after / _MICROS,
    )
