"""Counters of the rate limits that survive the process: those in memory count, the file has them for the next start.

What changed is part of every transaction, and of one a quarter of a second later where there is none. So whatever a
visitor was told is `done` stays counted through a `kill -9`. Keys are stored as keyed hashes alone.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice

from chatcore.ports import Clock
from chatcore.stores.counters_memory import MemoryCounters
from chatcore.stores.sqlite.entries import GONE, LimitRow

KEY_BYTES = 16
ROWS_AT_ONCE = 1_000
_HASHES_CACHED = 4096
LONGEST_BUCKET_SECONDS = 60.0
"""All rates are per minute, so no bucket takes longer to fill up; more would be a clock that was set back."""


class SqliteCounters(MemoryCounters):
    """Implements `ports.CounterStore` as `MemoryCounters` does; the writer takes `changed` along."""

    def __init__(self, clock: Clock, hash_key: bytes, kept: Iterable[LimitRow], max_keys: int = 100_000) -> None:
        """`kept` are the limits of earlier runs."""
        super().__init__(clock, max_keys)
        self._hash_key = hash_key
        self._hash = lru_cache(_HASHES_CACHED)(self._hash_of)
        self._changed: OrderedDict[str, None] = OrderedDict()
        self._given: list[str] = []
        self._kept = {key: (until, used) for key, until, used in kept}
        self._kept_looked_at = clock.now()

    def changed(self) -> Sequence[LimitRow]:
        """Give rows of what changed since they were given last, not all at once in a flood."""
        if not self._changed:
            return ()
        self._given = list(islice(self._changed, ROWS_AT_ONCE))
        for key in self._given:
            del self._changed[key]
        ahead = self._clock.now() - self._clock.monotonic()
        rows: list[LimitRow] = []
        for key in self._given:
            window, full_at = self._windows.get(key), self._full_at.get(key)
            if window is not None:
                rows.append((self._hash(key), window.until, window.used))
            else:
                rows.append((self._hash(key), GONE if full_at is None else full_at + ahead, None))
        return rows

    def again(self) -> None:
        """Have `changed` give once more what it gave last: it could not be written."""
        for key in self._given:
            self._touched(key)
        self._given = []

    def sweep(self, look: int = 10_000) -> Sequence[str]:
        """Forget what holds nothing back, also in the file and of what an earlier run left."""
        now = self._clock.now()
        if self._kept and now >= self._kept_looked_at + LONGEST_BUCKET_SECONDS:
            self._kept_looked_at = now
            self._kept = {key: kept for key, kept in self._kept.items() if kept[0] > now}
        forgotten = super().sweep(look)
        for key in forgotten:
            self._touched(key)
        return forgotten

    def _missed(self, key: str) -> None:
        """Take over what an earlier run counted, when the key comes for the first time."""
        if not self._kept:
            return
        kept = self._kept.pop(self._hash(key), None)
        if kept is None:
            return
        until, used = kept
        if used is None:
            wait = min(until - self._clock.now(), LONGEST_BUCKET_SECONDS)
            if wait > 0:
                self.restore_bucket(key, self._clock.monotonic() + wait)
        else:
            self.restore_window(key, used, until)

    def _touched(self, key: str) -> None:
        if len(self._changed) >= 2 * self._max_keys and key not in self._changed:
            self._changed.popitem(last=False)  # buckets and windows hold no more, so one of these is forgotten already
        self._changed[key] = None

    def _hash_of(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), key=self._hash_key, digest_size=KEY_BYTES).digest()
