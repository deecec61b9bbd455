"""Recordings of a real n8n (`tests/captures`) taken apart: status, headers, body in pieces with times."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CAPTURES = Path(__file__).parent.parent / "captures"
_INTERIM = range(100, 200)


@dataclass(frozen=True)
class Capture:
    """One recorded answer.

    `raw` is as received, HTTP framing included. `pieces` are the body's bytes, free of it and inflated, each with the
    seconds since the request. `complete`: the body ended as HTTP says; the others were still open at the end.
    """

    name: str
    note: str
    status: int
    headers: Mapping[str, str]
    raw: bytes
    pieces: tuple[tuple[float, bytes], ...]
    complete: bool

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(data for _, data in self.pieces)

    @property
    def content_type(self) -> str | None:
        """The media type with its parameters."""
        return self.headers.get("content-type")


def names() -> list[str]:
    """Give the names of all recordings."""
    return sorted(path.stem for path in CAPTURES.glob("*.json"))


def load(name: str) -> Capture:
    """Take one recording apart."""
    document = json.loads((CAPTURES / f"{name}.json").read_text("utf-8"))
    received = [(at / 1000.0, data.encode("latin-1")) for at, data in document["recv"]]
    raw = b"".join(data for _, data in received)
    status, headers, body_at = _head(raw)
    body = _cut_off(received, body_at)
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunk(body)
    if headers.get("content-encoding") == "gzip":
        inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        body = [(at, inflate.decompress(data)) for at, data in body]
    complete = not document["end"].startswith(("TIMEOUT", "client closed"))
    pieces = tuple((at, data) for at, data in body if data)
    return Capture(document["name"], document["note"], status, headers, raw, pieces, complete)


def _head(raw: bytes, begin: int = 0) -> tuple[int, dict[str, str], int]:
    end = raw.index(b"\r\n\r\n", begin)
    first, *lines = raw[begin:end].decode("latin-1").split("\r\n")
    status = int(first.split(" ", 2)[1])
    if status in _INTERIM:
        return _head(raw, end + 4)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return status, headers, end + 4


def _cut_off(received: list[tuple[float, bytes]], count: int) -> list[tuple[float, bytes]]:
    """Drop the first `count` bytes."""
    kept = []
    for at, data in received:
        kept.append((at, data[count:]))
        count = max(count - len(data), 0)
    return kept


def _unchunk(received: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Undo the chunked coding (RFC 9112, section 7.1), each chunk at the time when its last byte came."""
    pieces: list[tuple[float, bytes]] = []
    pending = b""
    for at, data in received:
        pending += data
        while b"\r\n" in pending:
            size, rest = pending.split(b"\r\n", 1)
            length = int(size, 16)
            if len(rest) < length + 2:
                break
            pieces.append((at, rest[:length]))
            pending = rest[length + 2 :]
    return pieces
