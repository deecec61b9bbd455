"""The stores of stateless mode: no sessions, counters and replies in this process's memory."""

from typing import TYPE_CHECKING

import msgspec

from chatcore.ports import Clock, CounterStore, ReplyLog, SessionStore
from chatcore.settings import Settings
from chatcore.stores.counters_memory import MemoryCounters
from chatcore.stores.replies_memory import MemoryReplies
from chatcore.stores.sessions_none import NoSessions

if TYPE_CHECKING:  # brings the metrics library, which a main that only reports faults does without
    from chatcore.observe import Observe


class Stores(msgspec.Struct):
    """What this variant plugs in for the core's ports."""

    sessions: SessionStore
    counters: CounterStore
    replies: ReplyLog


def open_stores(settings: Settings, clock: Clock, observe: "Observe") -> Stores:
    """Make empty stores; there is nothing to close."""
    from chatcore.observe import RepliesEvicted  # noqa: PLC0415 - see above

    return Stores(
        sessions=NoSessions(),
        counters=MemoryCounters(clock),
        replies=MemoryReplies(settings.replies, clock, lambda count: observe(RepliesEvicted(count))),
    )
