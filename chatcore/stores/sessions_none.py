"""The session store of a mode that stores nothing."""

from collections.abc import Awaitable

from chatcore.model import Actor, Outcome, Turn
from chatcore.ports import ReplyRecord


class NoSessions:
    """Remembers nothing; so nothing can be erased, and no session can be told dead."""

    def open_turn(self, turn: Turn) -> Awaitable[None] | None:  # noqa: ARG002 - the port's signature
        """Do nothing."""
        return None

    def close_turn(self, turn: Turn, outcome: Outcome, reply: ReplyRecord) -> Awaitable[None] | None:  # noqa: ARG002 - the port's signature
        """Do nothing."""
        return None

    async def erase(self, session_id: str, by: Actor) -> None:
        """Do nothing."""

    async def is_erased(self, session_id: str) -> bool:  # noqa: ARG002 - the port's signature
        """Tell that no session is known to be erased."""
        return False
