"""What a scripted n8n can be told to answer: lists of steps down to the byte, and short ways to the usual ones."""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from tests.support.background import Gate

Framing = Literal["chunked", "length", "close"]
JSON_TYPE = "application/json; charset=utf-8"
RECORDINGS = Path(__file__).parent.parent / "captures"


@dataclass(frozen=True)
class Send:
    """Put these bytes on the wire, as they are."""

    data: bytes


@dataclass(frozen=True)
class Wait:
    """Let real time pass, in seconds."""

    seconds: float


@dataclass(frozen=True)
class Until:
    """Wait for the test to open a gate."""

    gate: Gate


@dataclass(frozen=True)
class Stall:
    """Say nothing more and keep the connection open, until the client leaves or the server stops."""


@dataclass(frozen=True)
class Close:
    """End the connection with a FIN."""


@dataclass(frozen=True)
class Reset:
    """End the connection with a RST."""


Step = Send | Wait | Until | Stall | Close | Reset


@dataclass(frozen=True)
class Answer:
    """One answer: steps taken after the request was read whole.

    Unless a step ended it, the connection stays open for another request after the last one.
    """

    steps: tuple[Step, ...]


def head(status: int = 200, headers: Mapping[str, str] | None = None, framing: str = "") -> Send:
    """Give a response's head; `framing` is a header line or nothing."""
    lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [framing] if framing else []
    return Send(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8"))


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"


def chunk(data: bytes) -> Send:
    """Give one HTTP chunk; an empty one is the last."""
    return Send(b"%x\r\n%b\r\n" % (len(data), data))


def line(kind: str, content: str | None = None, node: str = "ee7ca520") -> bytes:
    """Give one line of n8n's stream."""
    document: dict[str, Any] = {"type": kind}
    if content is not None:
        document["content"] = content
    if kind != "keepalive":
        document["metadata"] = {"nodeId": node, "nodeName": "AI Agent", "itemIndex": 0, "runIndex": 0}
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def answer_bytes(
    *parts: bytes | Step,
    status: int = 200,
    content_type: str | None = JSON_TYPE,
    headers: Mapping[str, str] | None = None,
    framing: Framing = "chunked",
    zipped: bool = False,
) -> Answer:
    """Answer with a body made of `parts`, steps other than bytes taken in between.

    `chunked` sends every part as one chunk; `length` counts them; `close` ends the body with the connection.
    `zipped` compresses the body with gzip, flushed after every part.
    """
    all_headers = {} if content_type is None else {"Content-Type": content_type}
    all_headers.update(headers or {})
    steps: list[bytes | Step] = list(parts)
    if zipped:
        all_headers["Content-Encoding"] = "gzip"
        steps = _zipped(steps)
    if framing == "chunked":
        body = [chunk(part) if isinstance(part, bytes) else part for part in steps if part != b""]
        begin = head(status, all_headers, "Transfer-Encoding: chunked")
        return Answer((begin, *body, chunk(b"")))
    body = [Send(part) if isinstance(part, bytes) else part for part in steps]
    if framing == "close":
        return Answer((head(status, all_headers, "Connection: close"), *body, Close()))
    length = sum(len(step.data) for step in body if isinstance(step, Send))
    return Answer((head(status, all_headers, f"Content-Length: {length}"), *body))


def _zipped(parts: Iterable[bytes | Step]) -> list[bytes | Step]:
    packer = zlib.compressobj(wbits=31)

    def press(part: bytes) -> bytes:
        return packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)

    return [*[press(part) if isinstance(part, bytes) else part for part in parts], packer.flush()]


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with one JSON document of a stated length."""
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return answer_bytes(body, status=status, headers=headers, framing="length")


def answer_text(text: str, status: int = 200, content_type: str | None = "text/html; charset=utf-8") -> Answer:
    """Answer with text, as a Respond node does."""
    return answer_bytes(text.encode(), status=status, content_type=content_type, framing="length")


def answer_empty(status: int = 200) -> Answer:
    """Answer with no body at all."""
    return answer_bytes(status=status, content_type=None, framing="length")


def stream_parts(texts: Sequence[str], gap: float | Gate = 0.0) -> list[bytes | Step]:
    """Give the lines of one segment; `gap` (seconds, or a gate) stands before every item but the first."""
    parts: list[bytes | Step] = [line("begin")]
    for index, text in enumerate(texts):
        if index and gap:
            parts.append(Until(gap) if isinstance(gap, Gate) else Wait(gap))
        parts.append(line("item", text))
    return [*parts, line("end")]


def answer_stream(texts: Sequence[str], gap: float | Gate = 0.0) -> Answer:
    """Answer with n8n's stream of one segment, one chunk for each line."""
    return answer_bytes(*stream_parts(texts, gap))


def answer_segments(*segments: Sequence[str]) -> Answer:
    """Answer with a stream of several begin … end pairs."""
    return answer_bytes(*(part for texts in segments for part in stream_parts(texts)))


def answer_error(*texts: str) -> Answer:
    """Answer with a stream that fails after some text, as n8n does: no `end`, then the end of the body."""
    return answer_bytes(*stream_parts(texts)[:-1], line("error", "provider said no: key sk-secret at 10.0.0.7"))


def answer_sse(*data: str) -> Answer:
    """Answer with server-sent events, one for each of `data`."""
    events = [b"data: " + one.encode() + b"\n\n" for one in data]
    return answer_bytes(*events, content_type="text/event-stream")


def hold(gate: Gate, then: Answer | None = None) -> Answer:
    """Say nothing, not even a head, until `gate` opens; then answer `then` (a short document)."""
    rest = then or answer_json({"output": "at last"})
    return Answer((Until(gate), *rest.steps))


def stall(*texts: str) -> Answer:
    """Answer with a stream that says `texts` and then never another byte (nothing at all without texts)."""
    if not texts:
        return Answer((Stall(),))
    return answer_bytes(*stream_parts(texts)[:-1], Stall())


def drop_before_head(*, reset: bool = False) -> Answer:
    """Read the request and leave without a word."""
    return Answer((Reset() if reset else Close(),))


def cut(*texts: str, reset: bool = False) -> Answer:
    """Answer with a stream that is cut after `texts`, without its last chunk."""
    return answer_bytes(*stream_parts(texts)[:-1], Reset() if reset else Close())


@dataclass(frozen=True)
class Recording:
    """One exchange recorded from a real n8n: bytes as they came, with the milliseconds since the request.

    `end` tells in words how the recording ended.
    """

    name: str
    note: str
    request: bytes
    received: tuple[tuple[float, bytes], ...]
    end: str

    @property
    def data(self) -> bytes:
        """All that came, head and framing included."""
        return b"".join(data for _, data in self.received)


@cache
def recording(name: str) -> Recording:
    """Give the recording of that file name (without `.json`)."""
    raw = json.loads((RECORDINGS / f"{name}.json").read_text("utf-8"))
    received = tuple((at, data.encode("latin-1")) for at, data in raw["recv"])
    return Recording(name, raw["note"], raw["request"].encode(), received, raw["end"])


def recordings() -> list[str]:
    """Give the names of all recordings."""
    return sorted(path.stem for path in RECORDINGS.glob("*.json"))


def replay(name: str, *, speed: float = 100.0, longest_wait: float = 0.2) -> Answer:
    """Answer as the recorded n8n did, `speed` times faster; no pause is longer than `longest_wait` seconds.

    A recording that ended because the client gave up stalls at its end; one that n8n closed is closed.
    """
    played = recording(name)
    steps: list[Step] = []
    before = 0.0
    for at, data in played.received:
        steps += [Wait(min((at - before) / 1000.0 / speed, longest_wait)), Send(data)]
        before = at
    if played.end.startswith("closed by n8n") or b"\r\nConnection: close\r\n" in played.data.partition(b"\r\n\r\n")[0]:
        steps.append(Close())
    elif played.end.startswith(("TIMEOUT", "client closed")):
        steps.append(Stall())
    return Answer(tuple(steps))
