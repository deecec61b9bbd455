"""Requests with files as clients write them, whole and broken, and the reading of what n8n was sent."""

import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from multipart import MultipartParser, parse_options_header

from tests.support.client import SSE, ChatClient
from tests.support.n8n import Request

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + b"stream " * 100
ON = {"UPLOAD_MAX_BYTES": "1048576"}


@dataclass(frozen=True)
class Part:
    """One part of a form; one with a `filename` is a file. `head` replaces all of its headers."""

    name: str
    data: bytes | str
    filename: str | None = None
    content_type: str | None = None
    head: bytes | None = None

    def render(self) -> bytes:
        """Give the part as browsers write it."""
        data = self.data.encode() if isinstance(self.data, str) else self.data
        if self.head is not None:
            return self.head + b"\r\n\r\n" + data
        head = f'Content-Disposition: form-data; name="{_quoted(self.name)}"'
        if self.filename is not None:
            head += f'; filename="{_quoted(self.filename)}"'
        if self.content_type is not None:
            head += f"\r\nContent-Type: {self.content_type}"
        return head.encode() + b"\r\n\r\n" + data


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def message(text: str = "See these", **members: Any) -> Part:
    """Give the part that holds the message."""
    return Part("request", json.dumps({"message": text, **members}))


def file(data: bytes | str, name: str = "a.txt", content_type: str | None = "text/plain") -> Part:
    """Give a part that holds a file."""
    return Part("files", data, name, content_type)


def form(*parts: Part, boundary: str = BOUNDARY) -> bytes:
    """Give a whole form."""
    mark = f"--{boundary}".encode()
    return b"".join(mark + b"\r\n" + part.render() + b"\r\n" for part in parts) + mark + b"--\r\n"


async def send(
    client: ChatClient,
    *parts: Part,
    body: bytes | AsyncIterator[bytes] | None = None,
    content_type: str = FORM,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Send a form and ask for one JSON answer; `body` replaces what `parts` make."""
    asked = {"Authorization": f"Bearer {client.token}", "Content-Type": content_type, **(headers or {})}
    content = form(*parts) if body is None else body
    return await client.http.post("/api/v1/chat", content=content, headers=asked)


async def send_for_stream(client: ChatClient, *parts: Part) -> httpx.Response:
    """Send a form and read the stream of events to its end."""
    return await send(client, *parts, headers=SSE)


@dataclass(frozen=True)
class Received:
    """What n8n got: its fields by name, and its files as name, type and bytes, in order."""

    fields: Mapping[str, str]
    files: Sequence[tuple[str, str, bytes]]


def received(request: Request) -> Received:
    """Read a request with files as n8n does."""
    return read_form(request.headers["content-type"], request.body)


def read_form(content_type: str, body: bytes) -> Received:
    """Read a form; a part that is neither a field nor one of `files` fails."""
    kind, options = parse_options_header(content_type)
    assert kind == "multipart/form-data"
    fields: dict[str, str] = {}
    files = []
    for part in MultipartParser(_Once(body), options["boundary"], strict=True, memory_limit=1 << 30):
        if part.filename is None:
            assert part.name not in fields, f"{part.name} twice"
            fields[part.name] = part.raw.decode()
        else:
            assert part.name == "files"
            files.append((part.filename, part.content_type, part.raw))
    assert re.search(rb"--\r\n\Z", body), "the form is whole"
    return Received(fields, files)


class _Once:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def read(self, most: int) -> bytes:
        given, self._body = self._body[:most], self._body[most:]
        return given


async def slowly(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Give a body piece by piece, so that it goes out in chunks."""
    for piece in pieces:
        yield piece
