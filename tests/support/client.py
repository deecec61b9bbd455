"""A client of the native API for the tests: sessions, chats, streams read event by event."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

SSE = {"Accept": "text/event-stream"}
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody: the tests' servers speak plain HTTP, and httpx would read all certificates for each client."""
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass(frozen=True)
class Event:
    """One server-sent event; `at` is when it was read (monotonic seconds). A comment is named `:`."""

    name: str
    data: Any
    id: int | None
    at: float


@dataclass
class Reply:
    """A reply as a stream told it: status, headers, events in order; `problem` where the status is an error."""

    status: int
    headers: httpx.Headers
    events: list[Event] = field(default_factory=list)
    problem: Any = None

    def named(self, name: str) -> list[Event]:
        """The events of that name."""
        return [event for event in self.events if event.name == name]

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(event.data["content"] for event in self.named("delta"))

    @property
    def finish_reason(self) -> str | None:
        """How it ended; None where no `done` came."""
        done = self.named("done")
        return done[-1].data["finish_reason"] if done else None

    @property
    def last_id(self) -> int:
        """The number of the last event read, 0 where there was none."""
        return max((event.id for event in self.events if event.id is not None), default=0)


class Stream:
    """An open stream; iterate over its events. `status` and `headers` are known from the start."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.headers = response.headers
        self._events = self._read()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def next(self, name: str, within: float = 10.0) -> Event:
        """Read on to the next event of that name. Raises `TimeoutError`, or `AssertionError` at the stream's end."""
        async with asyncio.timeout(within):
            async for event in self._events:
                if event.name == name:
                    return event
        raise AssertionError(f"the stream ended without {name!r}")

    async def _read(self) -> AsyncIterator[Event]:
        rest = b""
        async for data in self.response.aiter_raw():
            *blocks, rest = (rest + data).split(b"\n\n")
            for block in blocks:
                yield _event(block.decode("utf-8"))
        assert not rest, f"the stream ended inside an event: {rest!r}"


def _event(block: str) -> Event:
    """Read one event strictly: only fields the contract knows, data as JSON."""
    now = time.monotonic()
    if block.startswith(":"):
        return Event(":", block[1:].strip(), None, now)
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        name, colon, value = line.partition(": ")
        assert colon, f"not a field: {line!r}"
        assert name in {"id", "event", "data"}, f"an unexpected field: {line!r}"
        assert name not in fields, f"a field twice: {line!r}"
        fields[name] = value
    return Event(fields["event"], json.loads(fields["data"]), int(fields["id"]), now)


class ChatClient:
    """One visitor. `token` is that of the session made last; `http` is there for everything else."""

    def __init__(self, url: str, *, origin: str | None = None, user_agent: str = USER_AGENT) -> None:
        headers = {"User-Agent": user_agent} | ({"Origin": origin} if origin else {})
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self.http = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=30.0, trust_env=False, limits=limits, verify=NO_TLS
        )
        self.token: str | None = None
        self.session_id: str | None = None

    async def session(self, body: Any = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Create a session and keep its token."""
        answer = (
            await self.http.post("/api/v1/session", json=body, headers=headers)
            if body is not None
            else (await self.http.post("/api/v1/session", headers=headers))
        )
        if answer.status_code == httpx.codes.CREATED:
            self.token, self.session_id = answer.json()["token"], answer.json()["session_id"]
        return answer

    def _headers(self, *more: Mapping[str, str] | None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        for one in more:
            headers.update(one or {})
        return headers

    async def chat(self, message: str, headers: Mapping[str, str] | None = None, **members: Any) -> httpx.Response:
        """Send a message and ask for one JSON answer."""
        body = {"message": message, **members}
        return await self.http.post("/api/v1/chat", json=body, headers=self._headers(headers))

    @asynccontextmanager
    async def stream(
        self, message: str, headers: Mapping[str, str] | None = None, **members: Any
    ) -> AsyncIterator[Stream]:
        """Send a message and read its events as they come; leaving the block hangs up."""
        asked = self._headers(SSE, headers)
        body = {"message": message, **members}
        async with self.http.stream("POST", "/api/v1/chat", json=body, headers=asked) as response:
            yield Stream(response)

    async def reply(self, message: str, headers: Mapping[str, str] | None = None, **members: Any) -> Reply:
        """Send a message and read its stream to the end."""
        async with self.stream(message, headers, **members) as stream:
            return await _whole(stream)

    @asynccontextmanager
    async def follow(
        self, message_id: str, after: int | str | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        """Resume a reply after event number `after`, reading events as they come."""
        last = {} if after is None else {"Last-Event-ID": str(after)}
        asked = self._headers(SSE, last, headers)
        async with self.http.stream("GET", f"/api/v1/chat/{message_id}", headers=asked) as response:
            yield Stream(response)

    async def resume(
        self, message_id: str, after: int | str | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Resume a reply after event number `after` and read to its end."""
        async with self.follow(message_id, after, headers) as stream:
            return await _whole(stream)

    async def document(self, message_id: str) -> httpx.Response:
        """Ask for a reply as one JSON document."""
        return await self.http.get(f"/api/v1/chat/{message_id}", headers=self._headers())

    async def stop(self, message_id: str) -> httpx.Response:
        """Stop a reply."""
        return await self.http.delete(f"/api/v1/chat/{message_id}", headers=self._headers())

    async def refresh(self) -> httpx.Response:
        """Refresh the session and keep the new token."""
        answer = await self.http.post("/api/v1/session/refresh", headers=self._headers())
        if answer.status_code == httpx.codes.OK:
            self.token = answer.json()["token"]
        return answer

    async def close(self) -> None:
        """Close all connections."""
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _whole(stream: Stream) -> Reply:
    """Read a stream to its end, or the problem where it is none."""
    reply = Reply(stream.status, stream.headers)
    if stream.headers.get("content-type", "").startswith("text/event-stream"):
        reply.events = [event async for event in stream]
    else:
        body = await stream.response.aread()
        reply.problem = json.loads(body) if body else None
    return reply
