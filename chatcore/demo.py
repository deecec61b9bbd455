"""A stand-in n8n on a loopback port, for `--demo`: it speaks n8n's wire format, so that the same code path runs.

It answers by what the visitor says; `script` is the whole of its wit and pure, the rest is a small HTTP/1.1 server
with bounds on heads, bodies, connections and time. The shapes are those of n8n 2.41.1 (Webhook node, streaming).
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

PATH = "/webhook/demo"
HOST = "127.0.0.1"
MAX_HEAD_BYTES = 32 * 1024
MAX_BODY_BYTES = 1024 * 1024
MAX_CONNECTIONS = 256
IDLE_SECONDS = 6.0
"""n8n closes a connection on which no request came for so long."""
BODY_SECONDS = 30.0
PACE_SECONDS = (0.03, 0.05, 0.04, 0.06)
MAX_ITEMS = 150
KEEPALIVE_SECONDS = 8.0
KEEPALIVES = 3

Sleep = Callable[[float], Awaitable[Any]]

_FILE = re.compile(rb'(?:\r\n)?--[^\r\n]+\r\nContent-Disposition: form-data; name="files"; filename="([^"]*)"')
_TEXT = re.compile(rb'name="chatInput"\r\n\r\n(.*?)\r\n--', re.DOTALL)

COMMANDS = """\
- `/echo TEXT` says TEXT again
- `/slow` pauses for 24 seconds in the middle
- `/error` fails in the middle of its answer
- `/fail` fails before its answer, with status 500
- `/empty` says nothing at all
- `/json` answers at once, not as a stream
- `/help` lists these commands
"""

WELCOME = """\
## Hello from the demo

You said:

{quoted}

I am a **stand-in for n8n**, so I understand nothing; but my words take the same way as those of a real workflow:

1. your browser sends the message to the proxy,
2. the proxy checks it and calls the webhook,
3. the answer *streams* back, piece by piece.

| piece | who makes it |
|---|---|
| the text | an n8n workflow, or this demo |
| the stream | the proxy |

A workflow sends lines like this one:

```json
{{"type": "item", "content": "Hello"}}
```

Set `N8N_WEBHOOK_URL` to chat with your own workflow: see [n8n's documentation](https://docs.n8n.io/).
Other things to say here:

{commands}"""


class Answer(msgspec.Struct, frozen=True):
    """One answer of the stand-in: a status, and parts of the body, each after a pause in seconds.

    A streamed answer goes out in HTTP chunks, one for each part; else the parts are one body with a length.
    """

    status: int
    parts: tuple[tuple[float, bytes], ...]
    streamed: bool = True


def script(text: str) -> Answer:  # noqa: PLR0911 - one return for each command
    """Decide what the stand-in answers to `text`, the message of a visitor."""
    command, _, rest = text.strip().partition(" ")
    match command:
        case "/echo":
            return Answer(200, _said(rest.strip() or "(silence)"))
        case "/help":
            return Answer(200, _said(COMMANDS))
        case "/slow":
            waiting = ((KEEPALIVE_SECONDS, _line("keepalive")),) * KEEPALIVES
            return Answer(
                200, _said("Let me think about that …", end=waiting + _said(" Done: it was worth the wait.")[1:])
            )
        case "/error":
            return Answer(200, _said("This goes well until", end=((0.5, _line("error", "demo failure")),)))
        case "/fail":
            return _document(500, {"message": "Error in workflow"})
        case "/empty":
            return Answer(200, ())
        case "/json":
            return _document(200, {"output": f"This answer came as **one JSON document**. {rest.strip()}".strip()})
        case _:
            quoted = "\n".join(f"> {line}" for line in text.strip().splitlines())
            return Answer(200, _said(WELCOME.format(quoted=quoted, commands=COMMANDS)))


def _said(text: str, end: tuple[tuple[float, bytes], ...] | None = None) -> tuple[tuple[float, bytes], ...]:
    """Let a model say `text`: begin, items of a word or (in long texts) several, then `end`."""
    words = re.findall(r"\s*\S+|\s+$", text)
    size = 1 + len(words) // MAX_ITEMS
    pieces = ["".join(words[i : i + size]) for i in range(0, len(words), size)]
    items = tuple((PACE_SECONDS[i % len(PACE_SECONDS)], _line("item", piece)) for i, piece in enumerate(pieces))
    return ((PACE_SECONDS[0], _line("begin")), *items, *(((0.0, _line("end")),) if end is None else end))


def _line(kind: str, content: str | None = None) -> bytes:
    """Give one line of n8n's stream; a keepalive has neither content nor metadata."""
    line: dict[str, Any] = {"type": kind}
    if content is not None:
        line["content"] = content
    if kind != "keepalive":
        line["metadata"] = {"nodeId": "5f0d1a52-demo", "nodeName": "Demo", "itemIndex": 0, "runIndex": 0}
    return msgspec.json.encode(line) + b"\n"


def _document(status: int, value: Mapping[str, Any]) -> Answer:
    return Answer(status, ((PACE_SECONDS[-1], msgspec.json.encode(value)),), streamed=False)


class _Message(msgspec.Struct):
    """What the stand-in reads of a request."""

    chat_input: str = msgspec.field(name="chatInput")


class _Hangup(Exception):  # noqa: N818 - a peer that leaves or talks nonsense is no error of ours
    """The connection is of no more use; `status` is said first where it is not 0."""

    def __init__(self, status: int = 0) -> None:
        super().__init__(status)
        self.status = status


class Demo:
    """A stand-in on a free loopback port, taken at once; `url` is its webhook. Raises `OSError` where there is none."""

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._socket = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}{PATH}"

    async def listen(self) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket, limit=MAX_HEAD_BYTES)

    async def stop(self) -> None:
        """Stop listening and drop every connection; idempotent."""
        if self._server is None:
            self._socket.close()
        else:
            self._server.close()  # and with it the socket
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Own one connection from its first byte to its last."""
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"  # noqa: S101 - narrows the type, cannot fail
        if len(self._tasks) >= MAX_CONNECTIONS:
            writer.write(_head(HTTPStatus.SERVICE_UNAVAILABLE, "Content-Length: 0", keep=False))
            writer.close()
            return
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except _Hangup as hangup:
            if hangup.status:
                writer.write(_head(hangup.status, "Content-Length: 0", keep=False))
        except (OSError, EOFError, TimeoutError, ValueError):
            pass  # the peer left, was silent for too long, or sends a line without end
        except asyncio.CancelledError:
            writer.transport.abort()  # `stop` does not wait for slow readers
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one request and answer it; tell whether another may follow."""
        method, target, headers = await _read_head(reader)
        if headers.get("content-type", "").startswith("multipart/form-data"):
            body = await _read_form(reader)
        else:
            body = await _read_body(reader, headers)
        answer = _answer(method, target, body)
        keep = headers.get("connection", "").lower() != "close"
        if not answer.streamed:
            whole = b"".join(part for _, part in answer.parts)
            await self._sleep(sum(pause for pause, _ in answer.parts))
            writer.write(_head(answer.status, f"Content-Length: {len(whole)}", keep=keep) + whole)
            await writer.drain()
            return keep
        writer.write(_head(answer.status, "Transfer-Encoding: chunked\r\nCache-Control: no-cache", keep=keep))
        for pause, part in answer.parts:
            await self._sleep(pause)
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return keep


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    """Read a request's method, target and headers (names in lower case)."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as overrun:
        raise _Hangup(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from overrun
    first, *lines = head.decode("latin-1").split("\r\n")
    request = first.split(" ")
    if len(request) != 3 or request[2] != "HTTP/1.1":  # noqa: PLR2004 - method, target and version (RFC 9112)
        raise _Hangup(HTTPStatus.BAD_REQUEST)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
    return request[0], request[1], headers


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not re.fullmatch("[0-9]{1,12}", length):
        raise _Hangup(HTTPStatus.LENGTH_REQUIRED)
    if int(length) > MAX_BODY_BYTES:
        raise _Hangup(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    async with asyncio.timeout(BODY_SECONDS):
        return await reader.readexactly(int(length))


async def _read_form(reader: asyncio.StreamReader) -> bytes:
    """Read a message with files as it comes from us: in chunks, the head of each file one of them, the texts the last.

    Gives a message that names the files; what is in them is dropped.
    """
    names: list[str] = []
    last = b""
    while True:
        async with asyncio.timeout(BODY_SECONDS):
            size = re.fullmatch(rb"([0-9a-fA-F]{1,6})\r\n", await reader.readline())
            if size is None:
                raise _Hangup(HTTPStatus.BAD_REQUEST)
            piece = (await reader.readexactly(int(size[1], 16) + 2))[:-2]
        if not piece:
            break
        if (head := _FILE.match(piece)) is not None and len(names) < MAX_ITEMS:
            names.append(head[1].decode())
        last = piece
    text = _TEXT.search(last)
    said = "" if text is None else text[1].decode()
    return msgspec.json.encode({"chatInput": f"{said}\n\n({', '.join(names)})"})


def _answer(method: str, target: str, body: bytes) -> Answer:
    """Answer a whole request as n8n would."""
    if method != "POST" or target.partition("?")[0] != PATH:
        return _document(404, {"code": 404, "message": "The requested webhook is not registered.", "hint": ""})
    try:
        return script(msgspec.json.decode(body, type=_Message).chat_input)
    except msgspec.ValidationError:
        return _document(500, {"message": "Error in workflow"})
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _document(422, {"code": 422, "message": "Failed to parse request body"})


def _head(status: int, framing: str, *, keep: bool) -> bytes:
    """Give a response's head. A stream has the same content type as a document: n8n does not tell them apart."""
    lines = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json; charset=utf-8",
        framing,
        f"Connection: {'keep-alive' if keep else 'close'}",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def start(sleep: Sleep = asyncio.sleep) -> Demo:
    """Start a stand-in on a free loopback port of this event loop; `sleep` is how it waits, in seconds."""
    demo = Demo(sleep)
    await demo.listen()
    return demo
