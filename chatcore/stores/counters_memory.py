"""Counters of the rate limits in this process's memory: GCRA buckets and fixed windows, bounded.

When `max_keys` buckets (or windows) are held and another key comes, one is forgotten: the first that no longer holds
anything back (a full bucket, a closed window) among the least recently used few, else the least recently used one.
Whoever commands so many addresses may thus win back one allowance; memory stays bounded, and keys in use keep their
counts.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

import msgspec

from chatcore.ports import Clock, Level

# A hundred additions of an interval may miss their product by some nanoseconds; nobody waits for a microsecond.
_TOLERANCE_SECONDS = 1e-6
_EVICTION_LOOK = 16


class _Window(msgspec.Struct, gc=False):
    """One fixed window: how many were counted, and when it ends (epoch seconds)."""

    used: int
    until: float


class MemoryCounters:
    """Implements `ports.CounterStore` for one process. Nothing here waits, so calls never interleave."""

    def __init__(self, clock: Clock, max_keys: int = 100_000) -> None:
        """Hold at most `max_keys` buckets and as many windows."""
        self._clock = clock
        self._max_keys = max_keys
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at) + len(self._windows)

    async def take(self, key: str, interval: float, burst: int) -> Level:
        """Admit one cell by GCRA (the leaky bucket as a meter, ITU-T I.371).

        All that is kept of a bucket is the moment at which it is full again: admitting moves that by `interval`, and
        it may never lie more than `burst` intervals ahead.
        """
        now = self._clock.monotonic()
        buckets = self._full_at
        if key not in buckets:
            self._missed(key)
        full_at = max(now, buckets.get(key, now)) + interval
        full_after = full_at - now
        capacity = interval * burst
        over = full_after - capacity
        if over > _TOLERANCE_SECONDS:
            if key in buckets:
                buckets.move_to_end(key)
            return Level(admitted=False, remaining=0, retry_after=over, full_after=full_after - interval)
        if len(buckets) >= self._max_keys and key not in buckets:
            self._evict_bucket(now)
        buckets[key] = full_at
        buckets.move_to_end(key)
        self._touched(key)
        remaining = int((capacity - full_after + _TOLERANCE_SECONDS) / interval)
        return Level(admitted=True, remaining=remaining, retry_after=0.0, full_after=full_after)

    async def give_back(self, key: str, interval: float) -> None:
        """Undo one `take`. A bucket that has filled up, or was forgotten, meanwhile stays full."""
        if key not in self._full_at:
            self._missed(key)
        full_at = self._full_at.get(key)
        if full_at is None:
            return
        self._touched(key)
        full_at -= interval
        if full_at > self._clock.monotonic():
            self._full_at[key] = full_at
        else:
            del self._full_at[key]

    async def count(self, key: str, limit: int, until: float) -> Level:
        """Count one in the window that ends at `until`, unless `limit` is reached. A closed window starts at zero."""
        now = self._clock.now()
        windows = self._windows
        if key not in windows:
            self._missed(key)
        window = windows.get(key)
        if window is None:
            if len(windows) >= self._max_keys:
                self._evict_window(now)
            window = windows[key] = _Window(0, until)
        elif window.until <= now:
            window.used, window.until = 0, until
        windows.move_to_end(key)
        left = max(window.until - now, 0.0)
        if window.used >= limit:
            return Level(admitted=False, remaining=0, retry_after=left, full_after=left)
        window.used += 1
        self._touched(key)
        return Level(admitted=True, remaining=limit - window.used, retry_after=0.0, full_after=left)

    async def uncount(self, key: str) -> None:
        """Undo one `count`."""
        if key not in self._windows:
            self._missed(key)
        window = self._windows.get(key)
        if window is not None and window.used > 0:
            window.used -= 1
            self._touched(key)

    def restore_bucket(self, key: str, full_at: float) -> None:
        """Put in a bucket of an earlier run, full again at `full_at` (monotonic seconds)."""
        if len(self._full_at) >= self._max_keys:
            self._evict_bucket(self._clock.monotonic())
        self._full_at[key] = full_at

    def restore_window(self, key: str, used: int, until: float) -> None:
        """Put in a window of an earlier run that ends at `until` (epoch seconds)."""
        if len(self._windows) >= self._max_keys:
            self._evict_window(self._clock.now())
        self._windows[key] = _Window(used, until)

    def sweep(self, look: int = 10_000) -> Sequence[str]:
        """Forget what holds nothing back among the `look` least recently used of each kind; gives their keys.

        For a timer: it frees the memory of a flood that has passed. One call costs at most a millisecond or two.
        """
        now = self._clock.monotonic()
        full = [key for key, full_at in islice(self._full_at.items(), look) if full_at <= now]
        for key in full:
            del self._full_at[key]
        now = self._clock.now()
        closed = [key for key, window in islice(self._windows.items(), look) if window.until <= now]
        for key in closed:
            del self._windows[key]
        return full + closed

    def _missed(self, key: str) -> None:
        """Hear that a key comes which is not held; a store that has it from an earlier run restores it."""

    def _touched(self, key: str) -> None:
        """Hear that a key's count has changed."""

    def _evict_bucket(self, now: float) -> None:
        for key, full_at in islice(self._full_at.items(), _EVICTION_LOOK):
            if full_at <= now:
                del self._full_at[key]
                return
        self._full_at.popitem(last=False)

    def _evict_window(self, now: float) -> None:
        for key, window in islice(self._windows.items(), _EVICTION_LOOK):
            if window.until <= now or window.used == 0:
                del self._windows[key]
                return
        self._windows.popitem(last=False)
