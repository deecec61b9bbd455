"""Which keys may have been seen, without asking the file: a Bloom filter over two periods of time.

"No" is certain, "perhaps" has to be looked up. So a new message, which is nearly every one, costs no question to the
file, and memory stays the same however many there are (fixed at start; the more keys, the more often "perhaps").
"""

from collections.abc import Hashable

_ROUNDS = 4
_HALF = 32
_LOW = (1 << _HALF) - 1


class Seen:
    """Keys are told apart by Python's own hash, whose secret is new in each process, so nobody can aim at it."""

    def __init__(self, bits: int, period_seconds: float) -> None:
        """Use twice `bits` (a power of two). A key is remembered for one period at least, and for two at most."""
        self._mask = bits - 1
        self._period = period_seconds
        self._turned_at: float | None = None
        self._new = bytearray(bits >> 3)
        self._old = bytearray(bits >> 3)
        self.complete = False
        """Until all that the file knows was added, everything is "perhaps"."""

    def add(self, key: Hashable) -> None:
        """Remember a key."""
        bits, mask = self._new, self._mask
        place, step = _aim(key)
        for _ in range(_ROUNDS):
            place &= mask
            bits[place >> 3] |= 1 << (place & 7)
            place += step

    def perhaps(self, key: Hashable) -> bool:
        """Tell whether the key may have been added."""
        if not self.complete:
            return True
        first, step = _aim(key)
        mask = self._mask
        for bits in (self._new, self._old):
            place = first
            for _ in range(_ROUNDS):
                place &= mask
                if not bits[place >> 3] & 1 << (place & 7):
                    break
                place += step
            else:
                return True
        return False

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds): after a period the older half is forgotten."""
        if self._turned_at is None:
            self._turned_at = now
        elif now >= self._turned_at + self._period:
            self._turned_at = now
            self._old, self._new = self._new, bytearray(len(self._new))


def _aim(key: Hashable) -> tuple[int, int]:
    """Give a first place and a step: two halves of one hash make any number of places (Kirsch, Mitzenmacher 2006)."""
    mixed = hash(key)
    return mixed & _LOW, (mixed >> _HALF & _LOW) | 1
