"""What can happen: one union of frozen values, for `observe` to log and count.

Nothing here ever sees message texts, tokens or whole addresses: the values have no room for them.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from chatcore.model import FinishReason


class ServerHappened(msgspec.Struct, frozen=True):
    """The server's transport or life did something."""

    what: Literal[
        "listening",
        "drain_begun",
        "new_refused",
        "stopped",
        "connection_limit",
        "head_timeout",
        "body_timeout",
        "head_too_large",
        "not_http",
        "descriptor_limit_low",
    ]
    detail: str = ""


class SetupSuspicious(msgspec.Struct, frozen=True):
    """Something about the set-up may not do what its owner expects; `severe` where visitors suffer from it."""

    detail: str
    severe: bool = True


class Decided(msgspec.Struct, frozen=True):
    """One decision on a request, for `LOG_LEVEL=DEBUG` alone."""

    stage: str
    what: str


class RequestEnded(msgspec.Struct, frozen=True, gc=False):
    """A request was answered. `route` is the route's template, never the path; `code` is set for errors."""

    method: str
    route: str
    status: int
    seconds: float
    code: str | None = None


class Crashed(msgspec.Struct, frozen=True):
    """A bug of ours: an exception that nobody declared."""

    where: str
    error: BaseException


class SessionHappened(msgspec.Struct, frozen=True):
    """A session was issued, refreshed or erased."""

    what: Literal["issued", "refreshed", "erased"]
    bot: str


class ReplyStarted(msgspec.Struct, frozen=True, gc=False):
    """A message was accepted and goes to n8n."""

    bot: str


class ReplyEnded(msgspec.Struct, frozen=True, gc=False):
    """A reply came to its end. Seconds count from acceptance; `first_text_seconds` is None where no text came.

    `reason` says why it failed, in words for the operator: shapes and names of settings, never values.
    """

    bot: str
    finish_reason: FinishReason
    seconds: float
    first_text_seconds: float | None = None
    code: str | None = None
    reason: str = ""


class AnswerOdd(msgspec.Struct, frozen=True):
    """Something of n8n's answer was left out; `detail` names shapes and members, never values."""

    bot: str
    detail: str


class ReplyJoined(msgspec.Struct, frozen=True):
    """A reader came to a reply that already existed: a retry, or a resumption."""

    how: Literal["retry", "resume"]


class RepliesEvicted(msgspec.Struct, frozen=True):
    """Kept replies were dropped before their time because memory ran short."""

    count: int


class ReaderStalled(msgspec.Struct, frozen=True):
    """A client stopped reading for too long and was disconnected; its reply goes on."""


class CircuitChanged(msgspec.Struct, frozen=True):
    """n8n could not be connected to repeatedly, or can be again."""

    bot: str
    state: Literal["open", "closed"]


class FeedbackGiven(msgspec.Struct, frozen=True):
    """A visitor rated a reply."""

    bot: str
    rating: Literal["up", "down"]


class AdminRefused(msgspec.Struct, frozen=True):
    """Somebody came with a wrong admin token; `address` is masked."""

    address: str


class KeyRefused(msgspec.Struct, frozen=True):
    """A program came with a wrong key for OpenAI's API; `address` is masked."""

    address: str


class StoreChanged(msgspec.Struct, frozen=True):
    """The store did something its operator may want to know, or is in trouble."""

    what: Literal[
        "opened",
        "not_writable",
        "writable",
        "cleaned",
        "cleanup_failed",
        "backed_up",
        "backup_failed",
        "reader_in_the_way",
        "journal_failed",
    ]
    detail: str = ""


class StoreLost(msgspec.Struct, frozen=True):
    """So many messages could not be recorded, since the store could not be written for too long."""

    count: int


class StoreWrote(msgspec.Struct, frozen=True, gc=False):
    """One transaction was written."""

    seconds: float


class RedisChanged(msgspec.Struct, frozen=True):
    """Redis was reached for the first time, was lost, is back, or has lost its data meanwhile."""

    what: Literal["connected", "lost", "returned", "emptied"]
    detail: str = ""


class TracesChanged(msgspec.Struct, frozen=True):
    """The collector of traces takes no spans, or takes them again."""

    what: Literal["not_delivered", "delivered"]
    detail: str = ""


Happening = (
    ServerHappened
    | SetupSuspicious
    | Decided
    | RequestEnded
    | Crashed
    | SessionHappened
    | ReplyStarted
    | ReplyEnded
    | AnswerOdd
    | ReplyJoined
    | RepliesEvicted
    | ReaderStalled
    | CircuitChanged
    | FeedbackGiven
    | AdminRefused
    | KeyRefused
    | StoreChanged
    | StoreLost
    | StoreWrote
    | RedisChanged
    | TracesChanged
)
Observe = Callable[[Happening], None]
