"""What is put around stores and observer where there are traces, so that each reply has a span of its own.

It begins when the message's id is claimed, in the request that brought it, and ends with the reply, in the reply's own
task. Requests that come for a reply which is there already are linked to it.
"""

from collections import OrderedDict
from collections.abc import Awaitable
from contextvars import ContextVar

from chatcore.happenings import Happening, Observe, ReplyEnded, ReplyStarted
from chatcore.model import Actor, Outcome, Turn, TurnKey
from chatcore.ports import ReplyLog, ReplyRecord, ReplyText, SessionStore
from chatcore.spans import Context, Span, current
from chatcore.tracing import Tracer

MOST_LINKED = 10_000
"""The last so many replies of this process can be linked to."""

_claimed: ContextVar[Span | None] = ContextVar("claimed", default=None)


def traced(
    replies: ReplyLog, sessions: SessionStore, observe: Observe, tracer: Tracer | None
) -> tuple[ReplyLog, SessionStore, Observe]:
    """Give what replies are made with, as it is where there are no traces."""
    if tracer is None:
        return replies, sessions, observe
    return _Replies(replies, tracer), _Sessions(sessions, tracer), _observed(observe, tracer)


class _Replies:
    """A reply log that begins a span with each reply, and links requests for it to that."""

    def __init__(self, log: ReplyLog, tracer: Tracer) -> None:
        self._log = log
        self._tracer = tracer
        self._contexts: OrderedDict[TurnKey, Context] = OrderedDict()

    async def claim(self, turn: Turn) -> ReplyRecord | None:
        record = await self._log.claim(turn)
        if record is not None:
            span = self._tracer.begin("reply", "internal", current.get(), {"chatcore.bot": turn.bot})
            _claimed.set(span)  # the reply's task inherits it
            self._contexts[turn.key] = span.context
            if len(self._contexts) > MOST_LINKED:
                self._contexts.popitem(last=False)
        return record

    async def find(self, key: TurnKey, text: str | None = None) -> ReplyText | None:
        record = await self._log.find(key, text)
        span, context = current.get(), self._contexts.get(key)
        if record is not None and span is not None and context is not None and context not in span.links:
            span.links.append(context)
        return record

    async def drop(self, key: TurnKey | str) -> None:
        for one in [one for one in self._contexts if one[0] == key] if isinstance(key, str) else [key]:
            self._contexts.pop(one, None)
        await self._log.drop(key)

    def sweep(self, now: float) -> None:
        self._log.sweep(now)


class _Sessions:
    """A session store that notes in the reply's span how long its end waits to be written."""

    def __init__(self, store: SessionStore, tracer: Tracer) -> None:
        self._store = store
        self._tracer = tracer
        self.open_turn = store.open_turn

    def close_turn(self, turn: Turn, outcome: Outcome, reply: ReplyRecord) -> Awaitable[object] | None:
        closed = self._store.close_turn(turn, outcome, reply)
        span = current.get()
        return closed if closed is None or span is None else self._written(closed, span)

    async def _written(self, closed: Awaitable[object], span: Span) -> None:
        self._tracer.event(span, "chatcore.store.writing")
        await closed
        self._tracer.event(span, "chatcore.store.written")

    async def erase(self, session_id: str, by: Actor) -> None:
        await self._store.erase(session_id, by)

    async def is_erased(self, session_id: str) -> bool:
        return await self._store.is_erased(session_id)


def _observed(observe: Observe, tracer: Tracer) -> Observe:
    """Give what the proxy tells of its replies to `observe`, inside the reply's span, and end that with the reply."""

    def observed(happening: Happening) -> None:
        if isinstance(happening, ReplyStarted):
            current.set(_claimed.get())
        observe(happening)
        span = current.get()
        if isinstance(happening, ReplyEnded) and span is not None:
            span.attributes["chatcore.finish_reason"] = happening.finish_reason
            if happening.first_text_seconds is not None:
                tracer.event(span, "chatcore.first_text", happening.first_text_seconds)
            tracer.end(span, happening.code)

    return observed
