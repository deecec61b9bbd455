"""HTTP over a bare socket, for tests that send what no client would: byte by byte, half, too much, nonsense."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """A response as it came; header names in lower case. `body` is decoded where it was chunked."""

    status: int
    headers: dict[str, str]
    body: bytes


class EndedError(Exception):
    """The peer ended the connection before the whole answer was there; the message holds what was."""


class RawClient:
    """One connection. All waits end after `timeout` seconds with `TimeoutError`."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout)
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.socket.sendall(data)

    def send_slowly(self, data: bytes, pause: float, size: int = 1) -> int:
        """Send `size` bytes each `pause` seconds until all is sent, or the peer says something; gives how many."""
        for sent in range(0, len(data), size):
            try:
                self.socket.sendall(data[sent : sent + size])
            except OSError:
                return sent
            if self._speaks_within(pause):
                return sent + size
        return len(data)

    def _speaks_within(self, seconds: float) -> bool:
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.socket.settimeout(before)
        return True

    def get(self, path: str, *headers: str) -> Answer:
        """Send a GET with `headers` and give its answer."""
        self.send(request("GET", path, *headers))
        return self.answer()

    def answer(self, *, to_head: bool = False) -> Answer:
        """Read one response, interim ones too; `to_head` for the answer to a HEAD. Raises `EndedError`."""
        status, headers = self.head()
        if to_head or status < 200 or status in (204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join(self.chunks()))
        if "content-length" in headers:
            return Answer(status, headers, self.read(int(headers["content-length"])))
        return Answer(status, headers, self.rest())

    def head(self) -> tuple[int, dict[str, str]]:
        """Read a response's head: status and headers."""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = [line.partition(":") for line in lines[1:] if line]
        return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in headers}

    def chunks(self) -> Iterator[bytes]:
        """Read a chunked body, a chunk at a time."""
        while True:
            size = int(self.until(b"\r\n"), 16)
            data = self.read(size + 2)[:-2]
            if not size:
                return
            yield data

    def until(self, end: bytes) -> bytes:
        """Read up to and including `end`."""
        while end not in self._received:
            self._more()
        found, _, self._received = self._received.partition(end)
        return found + end

    def read(self, count: int) -> bytes:
        """Read exactly `count` bytes."""
        while len(self._received) < count:
            self._more()
        found, self._received = self._received[:count], self._received[count:]
        return found

    def rest(self) -> bytes:
        """Read until the peer ends the connection, in whatever way."""
        try:
            while data := self.socket.recv(65536):
                self._received += data
        except ConnectionResetError:
            pass
        found, self._received = self._received, b""
        return found

    def ended(self) -> bool:
        """Wait until the peer ends the connection; true when it did so without a further byte."""
        return self.rest() == b""

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EndedError(repr(self._received))
        self._received += data

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def request(method: str, path: str, *headers: str, body: bytes | None = None) -> bytes:
    """Give the bytes of a request; a `body` brings its Content-Length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


@contextmanager
def took(at_least: float, at_most: float) -> Iterator[None]:
    """Check that what is inside takes between so many seconds."""
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    assert at_least <= seconds <= at_most, f"took {seconds:.2f} s"
