"""Where a text ends that is to be cut at a stop sequence, however it comes in pieces."""

from collections.abc import Sequence


class StopSearch:
    """Takes a text piece by piece and gives what may be shown of it. `found` once a stop sequence was in it.

    The sequence that is complete first ends the text; of two that end at the same place, the longer one. What may be
    the beginning of one is held back until the next piece or the end: less than the longest sequence.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self.found = False
        self._sequences = tuple(sequences)
        self._longest = max(map(len, sequences), default=0)
        self._held = ""

    def feed(self, text: str) -> str:
        """Give what may be shown now."""
        if self.found:
            return ""
        if not self._sequences:
            return text
        text = self._held + text
        begin = self._first(text)
        if begin is not None:
            self.found = True
            self._held = ""
            return text[:begin]
        held = self._unsure(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """Give what was held back: the text has ended."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> int | None:
        """Give where the sequence begins that is complete first."""
        places = [(place + len(one), place) for one in self._sequences if (place := text.find(one)) >= 0]
        return min(places)[1] if places else None

    def _unsure(self, text: str) -> int:
        """Give how many of the last characters may be the beginning of a sequence."""
        for count in range(min(len(text), self._longest - 1), 0, -1):
            if any(one.startswith(text[-count:]) for one in self._sequences):
                return count
        return 0


def cut(text: str, sequences: Sequence[str]) -> str:
    """Give a whole text up to its first stop sequence."""
    search = StopSearch(sequences)
    return search.feed(text) + search.rest()
