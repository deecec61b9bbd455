"""The values that travel through a turn: who asks, what is asked, what comes back, how it ended.

All are immutable. Times are seconds since the Unix epoch (`…_at`) unless a name says otherwise.
"""

from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

import msgspec

from chatcore.errors import Refusal

FinishReason = Literal["complete", "stopped", "error"]

TurnKey = tuple[str, str]
"""What names a reply: session id and message id."""


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """A visitor whom the embedding site vouches for by its `identity_token`."""

    sub: str
    name: str | None = None
    email: str | None = None


class Caller(msgspec.Struct, frozen=True):
    """The session a verified token speaks for. `bot` is the configured bot's name (`default` when there is one)."""

    session_id: str
    bot: str
    user: User | None = None


class Actor(msgspec.Struct, frozen=True):
    """Who does something that is audited, and from where: `address` is a limit key, stored as a hash."""

    name: str
    address: str = ""


VISITOR = "visitor"
"""The name of all who hold a session's token. Operators are `admin:<name>`, people at a terminal `cli:<user>`."""


class HistoryEntry(msgspec.Struct, frozen=True):
    """One earlier message that a client sends along. Only clients of the OpenAI endpoint have `system` ones."""

    role: Literal["user", "assistant", "system"]
    content: str


class FileHead(msgspec.Struct, frozen=True):
    """A file of an upload, before its bytes. `name` is a base name without control characters."""

    name: str
    content_type: str


class Upload(Protocol):
    """The files of one message, read once while they go to n8n, never held whole.

    `refusal` says why reading ended early: a limit was passed, or the client is gone. n8n got no whole request then.
    """

    refusal: Refusal | None

    def pieces(self) -> AsyncIterator[FileHead | bytes]:
        """Give each file's head, then its bytes as they come. Raises `Refusal`, the one that `refusal` keeps."""
        ...

    async def settled(self) -> None:
        """Wait until nothing is read any more, whether all came or not."""
        ...

    async def discard(self) -> None:
        """Read what nobody wants, so that the client can read its answer. Raises `Refusal`."""
        ...

    def close(self) -> None:
        """Read no more, and let go of the request. Idempotent."""
        ...


class Turn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message on its way to n8n, checked and complete."""

    session_id: str
    bot: str
    message_id: str
    text: str
    received_at: float
    origin: str | None = None
    page_url: str | None = None
    user_agent: str = ""
    user: User | None = None
    metadata: dict[str, Any] | None = None
    history: list[HistoryEntry] | None = None
    upload: Upload | None = None

    @property
    def key(self) -> TurnKey:
        """What names this turn's reply: session and message id."""
        return (self.session_id, self.message_id)


class Delta(msgspec.Struct, frozen=True, gc=False):
    """A piece of the reply's text.

    `opens_segment`: n8n began a new segment (another node, another item) after earlier text. Clients that show one
    text put a blank line before it; clients with bubbles open a new one.
    """

    content: str
    opens_segment: bool = False


class Failed(msgspec.Struct, frozen=True):
    """The reply ends here with an error. `reason` is for the log alone: no texts, hosts or values in it.

    `sent` is false only where n8n certainly received nothing, so that the same message id may run again.
    """

    refusal: Refusal
    reason: str = ""
    sent: bool = True


ReplyEvent = Delta | Failed


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a reply ended. `duration_ms` counts from the acceptance of the message to the end of the reply."""

    finish_reason: FinishReason
    duration_ms: int
    refusal: Refusal | None = None
    sent: bool = True
