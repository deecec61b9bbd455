"""A clock that tests move by hand, with fresh bytes that are the same in every run."""

import hashlib

START = 1_790_000_000.0


class ManualClock:
    """Implements `ports.Clock`: stands still until `advance`. `now` and `monotonic` move together."""

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._drawn = 0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def token_bytes(self, count: int) -> bytes:
        """Bytes that differ from call to call, and not from run to run."""
        self._drawn += 1
        return hashlib.shake_256(self._drawn.to_bytes(8, "big")).digest(count)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        self._monotonic += seconds
