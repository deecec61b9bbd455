"""When to stop knocking at a door that stays shut: a circuit breaker for one n8n address; pure.

Closed, it lets everything through. After `THRESHOLD` connection failures in a row it opens: requests are refused at
once. While open, a probe of the bare connection (no request is sent, no workflow runs) is due after one second, then
after twice as long each time up to half a minute. A probe that succeeds closes it; the next failure opens it again.
"""

THRESHOLD = 5
FIRST_PROBE_SECONDS = 1.0
LAST_PROBE_SECONDS = 30.0


class Circuit:
    """One address. Times are monotonic seconds."""

    __slots__ = ("_failures", "_probe_at", "_wait", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._failures = 0
        self._wait = FIRST_PROBE_SECONDS
        self._probe_at = 0.0

    def connected(self) -> None:
        """Note that n8n took a connection and a request."""
        self._failures = 0
        self._wait = FIRST_PROBE_SECONDS

    def failed(self, now: float) -> bool:
        """Note that no connection came about; tells whether that opened the circuit."""
        self._failures += 1
        if self.is_open or self._failures < THRESHOLD:
            return False
        self.is_open = True
        self._probe_at = now + self._wait
        return True

    def probe_due(self, now: float) -> bool:
        """Tell whether to try a connection now; the next one is due later, also while this one is under way."""
        if not self.is_open or now < self._probe_at:
            return False
        self._wait = min(self._wait * 2, LAST_PROBE_SECONDS)
        self._probe_at = now + self._wait
        return True

    def probe_succeeded(self) -> None:
        """Close again, on probation."""
        self.is_open = False
        self._failures = THRESHOLD - 1
