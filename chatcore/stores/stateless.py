"""The stores of stateless mode: no sessions, counters and replies in this process's memory."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from chatcore.ports import Analytics, Archive, AuditTrail, Clock, Peers, ReplyLog, SessionStore, Trouble
from chatcore.settings import Settings
from chatcore.stores.counters_memory import MemoryCounters
from chatcore.stores.replies_memory import MemoryReplies
from chatcore.stores.sessions_none import NoSessions

if TYPE_CHECKING:  # brings the metrics library, which a main that only reports faults does without
    from chatcore.observe import Observe


SWEEP_SECONDS = 5.0


class Stores(msgspec.Struct):
    """What this variant plugs in for the core's ports."""

    sessions: SessionStore
    counters: MemoryCounters
    replies: ReplyLog
    analytics: Analytics | None = None
    archive: Archive | None = None
    audit: AuditTrail | None = None
    peers: Peers | None = None
    swept_at: float = 0.0

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""

    def troubles(self) -> Mapping[str, Trouble | None]:
        """Tell nothing: there is nothing to break."""
        return {}

    def tick(self, now: float) -> None:
        """Give back the memory of counters that hold nothing back any more."""
        if now >= self.swept_at + SWEEP_SECONDS:
            self.swept_at = now
            self.counters.sweep()


def open_stores(settings: Settings, clock: Clock, observe: "Observe") -> Stores:
    """Make empty stores; there is nothing to close."""
    from chatcore.observe import RepliesEvicted  # noqa: PLC0415 - see above

    return Stores(
        sessions=NoSessions(),
        counters=MemoryCounters(clock),
        replies=MemoryReplies(settings.replies, clock, lambda count: observe(RepliesEvicted(count))),
    )
