"""The load: HTTP clients that cost little themselves and check every answer."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import cast

from bench.servers import ORIGIN, USER_AGENT, BenchError, Server
from bench.upstream import TEXT, words

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")
_LAST_CHUNK = b"0\r\n\r\n"
_OPENING_AT_ONCE = 50
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Target:
    """Where and how to ask: a server's port, and whether it takes n8n's own format or ours."""

    port: int
    speaks_n8n: bool
    path: str
    tokens: tuple[str, ...] = ("",)


def direct(upstream_port: int) -> Target:
    """Give the way to the stand-in itself, to know what there is without any server between."""
    return Target(upstream_port, speaks_n8n=True, path="/webhook/open")


async def target_of(server: Server, sessions: int) -> Target:
    """Give the way to a server, with tokens for so many sessions where it wants tokens."""
    if server.peer.speaks_n8n:
        return Target(server.port, speaks_n8n=True, path="/webhook/open")
    while len(server.tokens) < sessions:
        head, body = await _call(server.port, "POST", "/api/v1/session")
        if b" 201 " not in head:
            raise BenchError(f"{server.peer.title} gave no session: {head!r} {body!r}")
        server.tokens.append(json.loads(body)["token"])
    return Target(server.port, speaks_n8n=False, path="/api/v1/chat", tokens=tuple(server.tokens))


async def release(upstream_port: int) -> None:
    """End all streams that the stand-in holds open."""
    await _call(upstream_port, "POST", "/release")


class Client(asyncio.Protocol):
    """One kept connection that asks one thing at a time. `ended` is called with each answer's end."""

    def __init__(self, target: Target, number: int, ended: Callable[["Client"], None], *, stream: bool) -> None:
        """Ask for streams or for JSON; `number` chooses the session."""
        self._target = target
        self._stream = stream
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._head = _request_head(target, target.tokens[number % len(target.tokens)], stream=stream)
        self._session = f"bench-{number}"
        self._nonces = (f"{number:04x}x{turn:06x}" for turn in count())
        self._nonce = ""
        self._chunks = 0
        self._received: list[bytes] = []
        self._remaining = -1
        self._tail = b""
        self.asked_at = 0.0
        self.first_text_at = 0.0
        self.ended_at = 0.0
        self.items = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that ends in the middle of an answer is a failure."""
        if self._transport is not None and not self.ended_at > self.asked_at:
            self._fail(f"the connection ended ({exc}) after {b''.join(self._received)[-600:]!r}")

    def close(self) -> None:
        """Hang up."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def ask(self, plan: str, chunks: int = 0) -> None:
        """Send one message; `chunks` is how many items a stream will have."""
        self._nonce = nonce = next(self._nonces)
        self._chunks = chunks
        self._received.clear()
        self._remaining = -1
        self._tail = b""
        self.first_text_at = 0.0
        text = f"bench {plan} {nonce}"
        if self._target.speaks_n8n:
            body = f'{{"action":"sendMessage","sessionId":"{self._session}","chatInput":"{text}"}}'
        else:
            body = f'{{"message":"{text}","page_url":"https://shop.example.com/cart"}}'
        assert self._transport is not None
        self.asked_at = time.perf_counter()
        self._transport.write(self._head % len(body) + body.encode())

    def data_received(self, data: bytes) -> None:
        """Note when the first text came, and see whether the answer is whole."""
        received = self._received
        received.append(data)
        if not self.first_text_at and self._nonce.encode() in data:
            self.first_text_at = time.perf_counter()
        if self._stream:
            self.items += data.count(b"}\n")
        if len(received) == 1:
            head_end = data.find(b"\r\n\r\n")
            if not data.startswith(b"HTTP/1.1 200 ") or head_end < 0:
                self._fail(f"not the answer that was expected: {data[:600]!r}")
                return
            length = _LENGTH.search(data, 0, head_end + 2)
            if length is not None:
                self._remaining = head_end + 4 + int(length[1])
        if self._remaining >= 0:
            self._remaining -= len(data)
            whole = self._remaining == 0
        else:
            self._tail = (self._tail + data)[-5:] if len(data) < 5 else data[-5:]
            whole = self._tail == _LAST_CHUNK
        if whole:
            self.ended_at = time.perf_counter()
            self._check()
            self._ended(self)

    def _check(self) -> None:
        answer = b"".join(self._received)
        if self._stream:
            said = "".join(_said(answer, n8n=self._target.speaks_n8n))
            if said != "".join(words(self._chunks, self._nonce)):
                self._fail(f"the stream says something else: {answer[:600]!r}")
        elif f'"{self._nonce} {TEXT}"'.encode() not in answer:
            self._fail(f"the answer says something else: {answer[:600]!r}")

    def _fail(self, why: str) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": why, "exception": BenchError(why)})


async def connect(target: Target, connections: int, ended: Callable[[Client], None], *, stream: bool) -> list[Client]:
    """Open connections."""
    loop = asyncio.get_running_loop()
    clients = [Client(target, number, ended, stream=stream) for number in range(connections)]
    for begin in range(0, connections, _OPENING_AT_ONCE):
        some = clients[begin : begin + _OPENING_AT_ONCE]
        await asyncio.gather(*(loop.create_connection(lambda c=client: c, "127.0.0.1", target.port) for client in some))
    return clients


async def until(done: Callable[[], bool], what: str) -> None:
    """Wait for something that is soon true."""
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while not done():
        if time.perf_counter() > deadline:
            raise BenchError(f"waited {_PATIENCE_SECONDS:.0f} s in vain: {what}")
        await asyncio.sleep(0.005)


def _said(answer: bytes, *, n8n: bool) -> Iterator[str]:
    """Give the texts of a streamed answer, chunk framing and all."""
    body = b"".join(_dechunk(answer[answer.find(b"\r\n\r\n") + 4 :]))
    for line in body.split(b"\n"):
        if n8n and line:
            event = json.loads(line)
            if event["type"] == "item":
                yield event["content"]
        elif line.startswith(b'data: {"content"'):
            yield json.loads(line[6:])["content"]


def _dechunk(body: bytes) -> Iterator[bytes]:
    position = 0
    while True:
        end = body.index(b"\r\n", position)
        size = int(body[position:end], 16)
        if size == 0:
            return
        yield body[end + 2 : end + 2 + size]
        position = end + 2 + size + 2


def _request_head(target: Target, token: str, *, stream: bool) -> bytes:
    lines = [
        f"POST {target.path} HTTP/1.1",
        "Host: chat.example.com",
        f"User-Agent: {USER_AGENT}",
        f"Accept: {'text/event-stream' if stream else 'application/json'}",
        "Accept-Language: en-GB,en;q=0.9",
        "Accept-Encoding: gzip, deflate, br",
        f"Origin: {ORIGIN}",
        f"Referer: {ORIGIN}/",
        "Content-Type: application/json",
    ]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join(lines).encode() + b"\r\nContent-Length: %d\r\n\r\n"


async def _call(port: int, method: str, path: str) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: chat.example.com\r\nOrigin: {ORIGIN}\r\nUser-Agent: {USER_AGENT}\r\n"
        "Content-Length: 0\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length is not None else b""
    writer.close()
    return head, body
