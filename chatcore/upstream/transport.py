"""What an exchange needs of a connection to n8n: one POST, its answer as it comes, and how either can fail."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol


class TransportError(Exception):
    """The exchange failed; the message names a class of failure, no host and no text."""


class NotConnectedError(TransportError):
    """No connection came about: nothing was sent."""


class HungUpError(TransportError):
    """The connection ended before the answer began; the request may have been taken."""


class NotHttpError(TransportError):
    """What came is no HTTP."""


class CutError(TransportError):
    """The body ended before its end, or cannot be decoded."""


class Answer(Protocol):
    """A response whose head has come. `read` gives what is there, b"" at the end; `release` ends its use."""

    status: int
    content_type: str | None

    @property
    def broken(self) -> bool:
        """Whether the body can no longer come to its end: aiohttp 3.14 lets `read` wait for ever after a bad chunk."""
        ...

    async def read(self) -> bytes:
        """Wait for more of the body. Raises `CutError`."""
        ...

    def release(self) -> None:
        """Give the connection back if the body was read to its end, close it otherwise. Idempotent."""
        ...


Post = Callable[[Mapping[str, str], bytes | AsyncIterator[bytes]], Awaitable[Answer]]
"""Sends a request to one address, once: headers beside those that never change or in their place, and the body.

A body that is iterated goes out in chunks, as fast as the other side takes them; an answer may come before its end.
Where iterating it fails, or the answer is released early, the connection is closed without the last chunk.
Raises `NotConnectedError`, `HungUpError`, `NotHttpError`.
"""


async def ask(post: Post, headers: Mapping[str, str], body: bytes, most_bytes: int) -> tuple[int, bytes] | None:
    """Send one request and read its whole answer: status and body. None where it fails or has more bytes than that."""
    try:
        answer = await post(headers, body)
    except TransportError:
        return None
    try:
        whole = bytearray()
        while data := await answer.read():
            whole += data
            if len(whole) > most_bytes:
                return None
    except TransportError:
        return None
    finally:
        answer.release()
    return answer.status, bytes(whole)


class Transport(Protocol):
    """A pool of connections."""

    def to(self, url: str, headers: Mapping[str, str]) -> Post:
        """Prepare an address and the headers that every request to it has."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
