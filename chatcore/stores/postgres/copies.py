"""Replies that another instance runs or ran, for readers here: a copy that grows, and one that has ended."""

from collections.abc import Callable, Sequence

from chatcore.errors import INTERNAL_ERROR, KINDS, Refusal
from chatcore.model import Delta, FinishReason, Outcome, TurnKey
from chatcore.stores.postgres.streams import START, name_of
from chatcore.stores.postgres.turns import KnownTurn
from chatcore.stores.replies_memory import MemoryRecord, MemoryReplies

_ENDED: dict[str, FinishReason] = {"complete": "complete", "stopped": "stopped", "error": "error"}


FIRST_LOOK_SECONDS = 0.2
LONGEST_LOOK_SECONDS = 2.0
"""A silent reply is looked into after so long, then twice as long, up to the longest."""


class CopiedReply(MemoryRecord):
    """A reply in memory as its stream tells it, with the same numbers of events. `touched`: when it was asked for."""

    __slots__ = ("_digest_of", "_digest_told", "touched")

    def __init__(
        self, key: TurnKey, digest: str, digest_of: Callable[[str], str], created: float, memory: MemoryReplies
    ) -> None:
        super().__init__(key, b"", created, memory)
        self._digest_told = digest
        self._digest_of = digest_of
        self.touched = created

    def is_for(self, text: str) -> bool:
        """Tell whether the reply answers `text`."""
        return self._digest_of(text) == self._digest_told

    @property
    def watched(self) -> bool:
        """Whether anybody reads it."""
        return bool(self._watchers)


class Followed:
    """A reply that is followed; `position`: the number of the last event that came."""

    __slots__ = ("copy", "look_at", "name", "pause", "position")

    def __init__(self, copy: CopiedReply, now: float) -> None:
        self.copy = copy
        self.name = name_of(copy.turn_key)
        self.position = START
        self.pause = FIRST_LOOK_SECONDS
        self.look_at = now + self.pause

    def be_patient(self, now: float) -> None:
        """Note that it was looked into, and is not soon again."""
        self.pause = min(self.pause * 2, LONGEST_LOOK_SECONDS)
        self.look_at = now + self.pause

    def rest(self, now: float) -> None:
        """Note that there was news: no look into it is needed for a while."""
        self.pause = FIRST_LOOK_SECONDS
        self.look_at = now + self.pause


class StoredReply:
    """Implements `ports.ReplyText` for a reply that has ended, as the database has it: all its text is one delta.

    It is not kept: whoever asks is given one of its own.
    """

    def __init__(self, key: TurnKey, text: str, outcome: Outcome, created: float) -> None:
        self.turn_key = key
        self.created = created
        self.outcome: Outcome | None = outcome
        self._deltas = (Delta(text),) if text else ()

    def read(self, after: int, max_chars: int) -> Sequence[Delta]:  # noqa: ARG002 - the port's signature
        """Give the text to whoever has not got it."""
        return self._deltas if after <= START else ()

    def count(self) -> int:
        """Tell how many deltas there are."""
        return len(self._deltas)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Do nothing: nothing changes any more."""

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Do nothing."""


def outcome_of(known: KnownTurn) -> Outcome | None:
    """Give how a turn ended that the database knows; None where it has not, or may run again."""
    reason = _ENDED.get(known.state)
    if reason is None:
        return None
    refusal = None
    if reason == "error":
        refusal = Refusal(KINDS.get(known.error_code or "", INTERNAL_ERROR))
    return Outcome(finish_reason=reason, duration_ms=known.duration_ms or 0, refusal=refusal)
