"""What happened, as the writer is told it: small values without any text, kept until a transaction has them."""

from typing import Literal

import msgspec

from chatcore.analytics import DAY_SECONDS
from chatcore.model import FinishReason, TurnKey

KEPT_TURN_SECONDS = DAY_SECONDS
"""How long the id of a message is known."""


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A message was accepted."""

    key: TurnKey
    bot: str
    at: float
    digest: bytes
    origin: str
    page: str
    client: str


class Closed(msgspec.Struct, frozen=True, gc=False):
    """Its reply ended; `at` is when the message was accepted."""

    key: TurnKey
    bot: str
    at: float
    finish_reason: FinishReason
    duration_ms: int


class Released(msgspec.Struct, frozen=True, gc=False):
    """n8n never got the message, so its id may be used again."""

    key: TurnKey


class Rated(msgspec.Struct, frozen=True, gc=False):
    """A visitor rated a reply."""

    key: TurnKey
    rating: Literal["up", "down"]


class Erased(msgspec.Struct, frozen=True, gc=False):
    """A visitor had a session erased."""

    session_id: str
    at: float


Entry = Opened | Closed | Released | Rated | Erased
LimitRow = tuple[bytes, float, int | None]
"""A row of `limits`: keyed hash, end, and what was used where it is a window."""

GONE = 0.0
"""As the end of a limit: it holds nothing back any more."""
