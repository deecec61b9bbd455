"""A stand-in for n8n that is much faster than what is measured: answers at once, or in paced lines.

It speaks n8n's wire format (n8n 2.41: heads, chunking and lines as recorded). The message tells what to answer:

    bench json NONCE                one JSON object, {"output": "NONCE …"}
    bench stream COUNT MS NONCE     COUNT item lines, one every MS milliseconds (0: all at once); NONCE in the first
    bench hold NONCE                one item line, then silence until POST /release

Below /webhook/checked a bearer token is required that differs from the connection's last one; /webhook/open takes
anybody. Run as `python -m bench.upstream PORT CORE`; says `ready` on standard output.
"""

import asyncio
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import cast

import uvloop

TEXT = (
    "Your order was handed to the carrier this morning and should reach you on Thursday. "
    "You can follow it with the number that we sent by e-mail; if it is not there by Friday, "
    "write to us again and we will look into it at once."
)

_MESSAGE = re.compile(rb'"chatInput": ?"bench ([a-z0-9 ]+)"')
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")
_BEARER = re.compile(rb"(?i)\r\nauthorization: *bearer ([^\r]+)\r\n")
_HEAD_JSON = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Security-Policy: sandbox allow-downloads allow-forms allow-modals allow-orientation-lock "
    b"allow-pointer-lock allow-popups allow-popups-to-escape-sandbox allow-presentation allow-scripts "
    b"allow-top-navigation-by-user-activation allow-top-navigation-to-custom-protocols\r\n"
    b"Content-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b'ETag: W/"18-Qb7a+uAcp92pM+c9YEmkz3k3Y9c"\r\n'
    b"Vary: Accept-Encoding\r\n"
    b"Date: Sun, 22 Nov 2026 19:14:54 GMT\r\n"
    b"Connection: keep-alive\r\n"
    b"Keep-Alive: timeout=5\r\n\r\n"
)
_HEAD_STREAM = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: application/json; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n"
    b"Cache-Control: no-cache\r\n"
    b"Connection: keep-alive\r\n"
    b"Vary: Accept-Encoding\r\n"
    b"Date: Sun, 22 Nov 2026 19:15:01 GMT\r\n\r\n"
)
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
_DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
_METADATA = (
    b'"metadata":{"nodeId":"ee7ca520-9f50-55db-9fc4-2f6e576e98d1","nodeName":"AI Agent",'
    b'"itemIndex":0,"runIndex":0,"timestamp":%d}}\n'
)
_LAST_CHUNK = b"0\r\n\r\n"

held: "set[Answering]" = set()


def words(count: int, nonce: str) -> Iterator[str]:
    """Give the texts of a stream's items."""
    yield nonce
    for number in range(1, count):
        yield f" word{number}"


class Answering(asyncio.Protocol):
    """One connection from the server under test."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._last_token = b""
        self._timer: asyncio.Handle | None = None
        self._due = 0.0
        self._rest: Iterator[str] = iter(())
        self._interval = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Stop answering."""
        held.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer when a request is whole; its body ends what was received, since nobody pipelines."""
        if self._buffer:
            data = self._buffer + data
        head_end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head_end + 2) if head_end >= 0 else None
        if head_end < 0 or (length is not None and len(data) < head_end + 4 + int(length[1])):
            self._buffer = data
            return
        self._buffer = b""
        self._answer(data, data[: head_end + 2])

    def _answer(self, data: bytes, head: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        if head.startswith(b"POST /release"):
            for waiting in tuple(held):
                waiting.finish()
            transport.write(_DONE)
            return
        message = _MESSAGE.search(data)
        if message is None or (head.startswith(b"POST /webhook/checked") and not self._has_fresh_token(head)):
            transport.write(_REFUSED)
            return
        kind, *arguments = message[1].split(b" ")
        if kind == b"json":
            body = b'{"output":"%b %b"}' % (arguments[0], TEXT.encode())
            transport.write(_HEAD_JSON % len(body) + body)
            return
        nonce = arguments[-1].decode()
        count, interval = (1, 0.0) if kind == b"hold" else (int(arguments[0]), int(arguments[1]) / 1000)
        transport.write(_HEAD_STREAM + _chunk(b'{"type":"begin",' + _METADATA % _now()))
        self._rest = words(count, nonce)
        self._interval = interval
        if kind == b"hold":
            held.add(self)
            self._loop.call_soon(transport.write, _item(next(self._rest)))
        elif interval:
            self._due = self._loop.time()
            self._timer = self._loop.call_soon(self._next)
        else:
            for text in self._rest:
                transport.write(_item(text))
            self.finish()

    def _has_fresh_token(self, head: bytes) -> bool:
        found = _BEARER.search(head)
        if found is None or found[1] == self._last_token:
            return False
        self._last_token = found[1]
        return True

    def _next(self) -> None:
        if self._transport is None:
            return
        text = next(self._rest, None)
        if text is None:
            self.finish()
            return
        self._transport.write(_item(text))
        self._due += self._interval  # from the plan, not from now: a late chunk does not delay the rest
        self._timer = self._loop.call_at(self._due, self._next)

    def finish(self) -> None:
        """End a stream."""
        held.discard(self)
        if self._transport is not None:
            self._transport.write(_chunk(b'{"type":"end",' + _METADATA % _now()))
            self._transport.write(_LAST_CHUNK)


def _now() -> int:
    return int(time.time() * 1000)


def _item(text: str) -> bytes:
    return _chunk(b'{"type":"item","content":"' + text.encode() + b'",' + _METADATA % _now())


def _chunk(line: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(line), line)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", port, backlog=4096)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[2])})
    uvloop.run(_serve(int(sys.argv[1])))
