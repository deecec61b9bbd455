"""One request to n8n under way, as the tick that keeps its deadlines sees it, and how it ends early."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf
from typing import Literal

from chatcore.errors import Refusal
from chatcore.model import Delta, Failed, ReplyEvent
from chatcore.upstream.transport import Answer
from chatcore.wire.decode import Decoder

Sink = Callable[[Sequence[ReplyEvent]], None]


class Exchange:
    """One request under way, as `tick` sees it. `cut` is set before its task is cancelled by us.

    A cut of `told` means that the decoder's last event was delivered and only the connection is left to close; `broken`
    that the rest of the body cannot come. `sent` is false as long as n8n cannot have the whole request.
    """

    __slots__ = ("answer", "cut", "decoder", "first_by", "last_read", "sent", "sink", "task", "total_by")

    def __init__(self, task: asyncio.Task[object], sink: Sink, first_by: float, total_by: float) -> None:
        self.task = task
        self.sink = sink
        self.first_by = first_by
        self.total_by = total_by
        self.sent = True
        self.last_read: float | None = None
        self.answer: Answer | None = None
        self.decoder: Decoder | None = None
        self.cut: Failed | Refusal | Literal["told", "broken"] | None = None

    @property
    def held(self) -> int:
        """Bytes that were read and are not text yet."""
        return 0 if self.decoder is None else self.decoder.buffered

    def carry(self, body: AsyncIterator[bytes], ended: Callable[[], float]) -> AsyncIterator[bytes]:
        """Hand on a body that comes piece by piece; `ended` is called before its last one and gives `first_by`."""
        self.sent, self.first_by = False, inf
        return self._carried(body, ended)

    async def _carried(self, body: AsyncIterator[bytes], ended: Callable[[], float]) -> AsyncIterator[bytes]:
        async for piece in body:
            yield piece
        self.sent, self.first_by = True, ended()  # what follows is the transport's last chunk

    def end(self, why: Failed | Refusal | Literal["told", "broken"]) -> None:
        """End it now, unless it was ended already."""
        if self.cut is None:
            self.cut = why
            self.task.cancel()

    def release_held(self, now: float) -> None:
        """Give the text that the decoder still held back, where the exchange ends before its answer does."""
        if self.decoder is None or self.decoder.finished:
            return
        events = self.decoder.close(now, complete=False)
        if self.cut != "broken":
            events = [event for event in events if isinstance(event, Delta)]
        if events:
            with contextlib.suppress(Refusal):  # no room for it: the reply ends either way
                self.sink(events)
