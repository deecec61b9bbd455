"""`@n8n/chat` as far as the wire is concerned: what it sends, and what it would show of the answer (read in 1.37.0)."""

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.client import NO_TLS, USER_AGENT

NOTHING = (
    "[No response received. This could happen if streaming is enabled in the trigger but disabled in agent node(s)]"
)
FAILED = "Error: Failed to receive response"
STREAMING = {"Accept": "text/plain"}


@dataclass
class Shown:
    """One exchange: the answer as it came, and the bubbles that a visitor sees of it."""

    answer: httpx.Response
    bubbles: list[str]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.answer.status_code


@dataclass
class Bubbles:
    """The widget's view of a stream: each run of a node is a bubble, which its first text opens."""

    shown: list[str] = field(default_factory=list)
    _runs: dict[str, int] = field(default_factory=dict)
    _places: dict[tuple[str, int], int] = field(default_factory=dict)
    _heard: bool = False

    def take(self, line: bytes) -> None:
        """Take one line without its end. Raises where the widget would show the line itself, or die of it."""
        if not line.strip():
            return
        event = json.loads(line)
        assert isinstance(event, dict), "a line that is no object kills the reply"
        node = f"{event['metadata']['nodeId']}-{event['metadata']['runIndex']}" if "metadata" in event else "unknown"
        kind, content = event["type"], event.get("content") or ""
        if kind == "begin":
            self._runs[node] = self._runs.get(node, -1) + 1
        elif kind in ("item", "error"):
            self._heard = True
            self._say(node, f"Error: {content}" if kind == "error" else content)
        else:
            assert kind == "end", f"the widget does not know {kind!r}"

    def _say(self, node: str, text: str) -> None:
        place = (node, self._runs.get(node, -1))
        if place not in self._places:
            self._places[place] = len(self.shown)
            self.shown.append("")
        self.shown[self._places[place]] += text

    def close(self) -> list[str]:
        """Give what is shown at the end."""
        return self.shown if self._heard else [NOTHING]


class N8nWidget:
    """One visitor with the widget on a page. `headers` is `webhookConfig.headers`, which the page may change."""

    def __init__(self, url: str, path: str = "/chat", *, origin: str | None = None, session: str | None = None) -> None:
        self.session = session or str(uuid.uuid4())
        self.path = path
        self.headers: dict[str, str] = {}
        told = {"User-Agent": USER_AGENT} | ({"Origin": origin} if origin else {})
        self.http = httpx.AsyncClient(base_url=url, headers=told, timeout=30.0, trust_env=False, verify=NO_TLS)

    def message(self, text: str, **members: Any) -> dict[str, Any]:
        """Give the body of a message."""
        return {"action": "sendMessage", "sessionId": self.session, "chatInput": text, **members}

    async def send(self, text: str, *, streaming: bool = False, **members: Any) -> Shown:
        """Send a message and give what is shown of its answer; `members` are added to the body."""
        return await self.post(self.message(text, **members), streaming=streaming)

    async def post(self, body: Mapping[str, Any] | bytes, *, streaming: bool = False) -> Shown:
        """Send a body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(STREAMING if streaming else {}), **self.headers}
        answer = await self.http.post(self.path, content=content, headers=headers)
        return Shown(answer, shown_of(answer, streaming=streaming))

    @asynccontextmanager
    async def stream(self, text: str) -> AsyncIterator[httpx.Response]:
        """Send a message and read its lines as they come; leaving the block hangs up."""
        headers = {**STREAMING, **self.headers}
        async with self.http.stream("POST", self.path, json=self.message(text), headers=headers) as response:
            yield response

    async def previous(self, **members: Any) -> list[tuple[str, str]]:
        """Ask for the earlier messages, as at the start, and give who said what."""
        body = {"action": "loadPreviousSession", "sessionId": self.session, **members}
        answer = await self.http.post(self.path, json=body, headers=self.headers)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"data"}
        said = []
        for message in answer.json()["data"]:
            assert (message["lc"], message["type"], set(message)) == (1, "constructor", {"lc", "type", "id", "kwargs"})
            who = "user" if "HumanMessage" in message["id"] else "bot"
            assert message["id"][:2] == ["langchain_core", "messages"]
            said.append((who, message["kwargs"]["content"]))
        return said

    async def close(self) -> None:
        """Close all connections."""
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def shown_of(answer: httpx.Response, *, streaming: bool) -> list[str]:
    """Give the bubbles that the widget makes of an answer."""
    if not streaming:
        document = answer.json()  # the status is ignored
        for member in ("output", "text", "message"):
            if member in document:
                assert document[member], "an empty text would be shown as raw JSON"
                return [document[member]]
        raise AssertionError(f"shown as raw JSON: {document}")
    if not answer.is_success:
        return [FAILED]
    bubbles = Bubbles()
    *lines, rest = answer.content.split(b"\n")
    assert rest == b"", "the last line ends too"
    for line in lines:
        bubbles.take(line)
    return bubbles.close()
