"""A reply on its way to one client: what a form is asked for, and when."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from chatcore.asgi import Message, Scope, Visit
from chatcore.delivery import Delivery
from chatcore.live import Live, Running
from chatcore.model import Delta, Outcome, Turn
from chatcore.settings import ReplySettings
from chatcore.stores.replies_memory import MemoryReplies
from tests.support.clock import ManualClock

TURN = Turn(session_id="s1", bot="default", message_id="m1", text="Hi", received_at=0.0)


class Line:
    """A client's connection whose buffer is full at the second, third … push, as one of a slow reader."""

    def __init__(self) -> None:
        self.lost = False
        self.on_lost: Callable[[], None] | None = None
        self.pushed: list[bytes] = []

    def abort(self) -> None:
        self.lost = True

    def push(self, make: Callable[[], bytes]) -> bool:
        if self.pushed:
            return False
        self.pushed.append(make())
        return True


class Counting:
    """A form that remembers how often it was asked, as one that numbers what it says."""

    headers: Sequence[tuple[bytes, bytes]] = ()
    heartbeat = b""

    def __init__(self) -> None:
        self.asked = 0

    def begin(self) -> bytes:
        return b""

    def deltas(self, first: int, deltas: Sequence[Delta]) -> bytes:  # noqa: ARG002 - the form's signature
        self.asked += len(deltas)
        return b"".join(b"%d:%b " % (self.asked, delta.content.encode()) for delta in deltas)

    def end(self, last: int, outcome: Outcome) -> bytes:
        return b"%d %b" % (last, outcome.finish_reason.encode())


async def test_a_form_is_asked_once_for_each_piece_also_where_a_push_is_declined() -> None:
    clock, line, form = ManualClock(), Line(), Counting()
    live = Live(MemoryReplies(ReplySettings(), clock, lambda _: None), 1, clock)
    said: asyncio.Queue[str | None] = asyncio.Queue()

    async def converse(_: Turn, running: Running) -> None:
        while (text := await said.get()) is not None:
            running.record.append([Delta(text)])
        running.record.finish(Outcome(finish_reason="complete", duration_ms=1))

    scope: Scope = {"path": "/chat", "method": "POST", "headers": [], "extensions": {"chatcore.connection": line}}
    scope["chatcore.visit"] = Visit(scope, lambda: "id", 0.0)
    sent: list[bytes] = []
    spoken: asyncio.Queue[None] = asyncio.Queue()

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))
        await spoken.put(None)

    record, _ = await live.start(TURN, converse)
    streaming = asyncio.create_task(Delivery(live, clock).stream(scope, send, record, form))
    said.put_nowait("a")
    await _soon(spoken.get())  # the head
    await _soon(spoken.get())
    for text in ("b", "c", "d"):
        said.put_nowait(text)
        await _until(partial(_has_left, line, sent, text))
    said.put_nowait(None)
    await _soon(streaming)
    assert b"".join(line.pushed) == b"2:b "
    assert b"".join(sent) == b"1:a 3:c 4:d 6 complete"


def _has_left(line: Line, sent: Sequence[bytes], text: str) -> bool:
    return text.encode() in b"".join([*line.pushed, *sent])


async def _soon(work: Awaitable[Any]) -> None:
    await asyncio.wait_for(work, 5)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0)
