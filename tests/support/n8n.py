"""A scripted n8n over real HTTP: it answers what a test wrote, to the byte, and remembers what it was sent."""

import asyncio
import json
import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from math import inf
from types import TracebackType
from typing import Any, Self

from tests.support.answers import Answer, Close, Reset, Send, Stall, Until, Wait, answer_bytes, answer_stream
from tests.support.background import BackgroundLoop, Gate
from tests.support.ports import free_port

PATH = "/webhook/chat"
HIGH_WATER = 1 << 18
LINGER_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of zero: closing sends a RST."""


@dataclass(frozen=True)
class Request:
    """One request as it came; header names are in lower case, `raw_head` is byte for byte."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    raw_head: bytes
    connection: int

    @property
    def json(self) -> Any:
        """The body as JSON; raises `ValueError` where it is none."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The visitor's message."""
        return str(self.json["chatInput"])


Script = Callable[[Request], Answer]


@dataclass(frozen=True)
class Taking:
    """How a body in chunks is taken: each piece is handed over and forgotten, so that `Request.body` is empty.

    After `most` bytes the rest is dropped and the answer begins, which has to end the connection then. With `gate`
    nothing is read before that is open.
    """

    each: Callable[[bytes], object] = len
    most: float = inf
    gate: Gate | None = None


def echo(request: Request) -> Answer:
    """Answer as an agent that repeats what was said, in two pieces."""
    return answer_stream(["Echo: ", request.text])


def published(request: Request) -> Answer:
    """Answer as `echo`, and as a webhook that takes POST to the question of `check`."""
    if request.method != "OPTIONS":
        return echo(request)
    told = {"Access-Control-Allow-Methods": "OPTIONS, GET, POST", "Date": formatdate(usegmt=True)}
    return answer_bytes(status=204, content_type=None, headers=told, framing="length")


class ScriptedN8n:
    """A server on a loopback port, in a thread of its own. `answer` and `next` tell it what to say.

    `requests` holds all that was asked, `connections` counts those accepted, `open_connections` those that live,
    `hangups` the answers whose client left before their end, `sent_bytes` what was written, `faults` what went wrong
    in a script itself. `cut_bodies` counts the requests whose body never came to its end. With `taking` set, bodies
    in chunks are taken as it says.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.hangups = 0
        self.cut_bodies = 0
        self.taking: Taking | None = None
        self.faults: list[Exception] = []
        self.sent_bytes = 0
        self.port = free_port()  # ours alone also while it refuses
        self.background = BackgroundLoop("scripted-n8n")
        self._next: deque[Answer | Script] = deque()
        self._usual: Answer | Script = echo
        self._peers: set[_Peer] = set()
        self._server: asyncio.Server | None = None
        self.listen()

    @property
    def url(self) -> str:
        """The webhook."""
        return f"http://127.0.0.1:{self.port}{PATH}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._peers)

    def answer(self, answer: Answer | Script) -> None:
        """Give this answer, or what this function makes of the request, from now on."""
        self._usual = answer

    def next(self, *answers: Answer | Script) -> None:
        """Give these answers first, one for each request."""
        self._next.extend(answers)

    def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self.background.call(self._listen())

    def refuse(self) -> None:
        """Let the system refuse new connections; those that are open live on."""
        if self._server is not None:
            self.background.loop.call_soon_threadsafe(self._server.close)
            self.background.call(asyncio.sleep(0))

    def disconnect(self, *, reset: bool = False) -> None:
        """End every open connection."""
        self.background.call(self._disconnect(reset=reset))

    def stop(self) -> None:
        """Close everything; idempotent."""
        if not self.background.loop.is_closed():
            self.refuse()
            self.disconnect()
            self.background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _listen(self) -> None:
        self._server = await self.background.loop.create_server(
            lambda: _Peer(self), "127.0.0.1", self.port, backlog=4096, reuse_address=True
        )

    async def _disconnect(self, *, reset: bool) -> None:
        for peer in tuple(self._peers):
            peer.end(reset=reset)
        await asyncio.sleep(0)

    def pick(self, request: Request) -> Answer:
        """Remember the request and choose its answer."""
        self.requests.append(request)
        chosen = self._next.popleft() if self._next else self._usual
        return chosen if isinstance(chosen, Answer) else chosen(request)

    def joined(self, peer: "_Peer") -> int:
        """Count a connection in and number it."""
        self._peers.add(peer)
        self.connections += 1
        return self.connections

    def left(self, peer: "_Peer") -> None:
        """Count a connection out."""
        self._peers.discard(peer)


class _Peer(asyncio.Protocol):
    """One connection: a buffer that fills, and a task that reads requests from it and answers them."""

    def __init__(self, n8n: ScriptedN8n) -> None:
        self._n8n = n8n
        self._buffer = bytearray()
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._lost = False
        self._deaf = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._number = self._n8n.joined(self)
        self._writable.set()
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._buffer += data
        if len(self._buffer) > HIGH_WATER:
            self._transport.pause_reading()
        self._changed.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost = True
        self._n8n.left(self)
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def end(self, *, reset: bool) -> None:
        """Close the connection, with a RST where asked."""
        if reset:
            peer = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            self._transport.abort()
        else:
            self._transport.close()

    async def _serve(self) -> None:
        try:
            while await self._exchange():
                pass
        except Exception as fault:  # noqa: BLE001 - whatever a script of a test raises is shown to that test
            self._n8n.faults.append(fault)
        self.end(reset=False)

    async def _exchange(self) -> bool:
        """Read one request and answer it; tell whether another may follow."""
        head = await self._until(b"\r\n\r\n")
        if head is None:
            return False
        method, target, headers = _parse(head)
        body = await self._body(headers)
        if body is None:
            self._n8n.cut_bodies += 1
            return False
        return await self._play(self._n8n.pick(Request(method, target, headers, body, head, self._number)))

    async def _play(self, answer: Answer) -> bool:
        """Take the steps; tell whether another request may follow."""
        steps = asyncio.create_task(self._take(answer))
        left = asyncio.create_task(self._hung_up())
        await asyncio.wait((steps, left), return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        if steps.done():
            return steps.result()
        self._n8n.hangups += 1
        steps.cancel()
        return False

    async def _take(self, answer: Answer) -> bool:
        for step in answer.steps:
            match step:
                case Send(data):
                    self._transport.write(data)
                    self._n8n.sent_bytes += len(data)
                    await self._writable.wait()
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                case Until(gate):
                    await gate.passed()
                case Stall():
                    await asyncio.Event().wait()
                case Close() | Reset():
                    self.end(reset=isinstance(step, Reset))
                    return False
        return True

    async def _hung_up(self) -> None:
        while not self._lost:
            self._changed.clear()
            await self._changed.wait()

    async def _until(self, mark: bytes) -> bytes | None:
        """Take the buffer's bytes up to and with `mark`; nothing when the client leaves first."""
        while mark not in self._buffer:
            if not await self._more():
                return None
        return self._cut(self._buffer.index(mark) + len(mark))

    async def _exactly(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            if not await self._more():
                return None
        return self._cut(count)

    async def _more(self) -> bool:
        if self._lost:
            return False
        self._changed.clear()
        self._transport.resume_reading()
        await self._changed.wait()
        return not self._lost

    def _cut(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _body(self, headers: Mapping[str, str]) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await self._exactly(int(headers.get("content-length", "0")))
        if self._n8n.taking is not None:
            return await self._take_chunks(self._n8n.taking)
        whole = b""
        while (size := await self._until(b"\r\n")) is not None:
            piece = await self._exactly(int(size, 16) + 2)
            if piece is None:
                return None
            if piece == b"\r\n":
                return whole
            whole += piece[:-2]
        return None

    async def _take_chunks(self, taking: Taking) -> bytes | None:
        if taking.gate is not None:
            await taking.gate.passed()
        taken = 0
        while taken < taking.most:
            size = await self._until(b"\r\n")
            piece = None if size is None else await self._exactly(int(size, 16) + 2)
            if piece is None:
                return None
            if piece == b"\r\n":
                break
            taking.each(piece[:-2])
            taken += len(piece) - 2
        else:
            self._deaf = True
            self._transport.resume_reading()
        return b""


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    matched = re.fullmatch(r"(\S+) (\S+) HTTP/1\.[01]", first)
    assert matched, f"not a request: {first!r}"
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
    return matched[1], matched[2], headers
