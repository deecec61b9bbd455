"""A tiny ASGI application behind the real server; `served` starts it in a process of its own."""

import asyncio
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from chatcore.observe import Crashed, Happening, ServerHappened
from chatcore.ports import ClientConnection
from chatcore.serve import Limits, serve
from chatcore.settings import ServerSettings

JSON = [(b"content-type", b"application/json")]


def say(**members: Any) -> None:
    """Tell the test something, as one line of JSON."""
    sys.stdout.write(json.dumps(members) + "\n")
    sys.stdout.flush()


def observe(happening: Happening) -> None:
    """Tell the test what happened."""
    if isinstance(happening, ServerHappened):
        say(what=happening.what, detail=happening.detail)
    elif isinstance(happening, Crashed):
        say(what="crashed", detail=f"{happening.where}: {happening.error}")
    else:
        say(what=type(happening).__name__)


def rss_bytes() -> int:
    """The memory of this process."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Life:
    """The lifecycle of the application: streams end with `bye` once they are settled."""

    def __init__(self, *, fails: bool = False, stubborn: bool = False) -> None:
        self.streams = 0
        self.refusing = False
        self.ending = asyncio.Event()
        self._fails = fails
        self._stubborn = stubborn

    def begin_drain(self) -> None:
        say(what="asked to drain")

    def refuse_new(self) -> None:
        self.refusing = True
        say(what="asked to refuse")

    async def settle(self, grace_seconds: float) -> None:
        say(what="asked to settle", detail=grace_seconds)
        if self._fails:
            raise ValueError("settle fails")
        if self._stubborn:
            await asyncio.Event().wait()
        waited = 0.0
        while self.streams and waited < grace_seconds:
            await asyncio.sleep(0.02)
            waited += 0.02
        self.ending.set()
        while self.streams:
            await asyncio.sleep(0.02)


class App:
    """Answers by path: each is a method of `Visit`."""

    def __init__(self, life: Life, *, startup: str) -> None:
        self.life = life
        self.startup = startup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        else:
            await getattr(Visit(self.life, scope, receive, send), scope["path"].strip("/") or "root")()

    async def lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        if self.startup == "fails":
            raise ValueError("startup fails")
        say(what="started up")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say(what="shut down")
        await send({"type": "lifespan.shutdown.complete"})


class Visit:
    """One request; what a path does is in the method of that name."""

    def __init__(self, life: Life, scope: Scope, receive: Receive, send: Send) -> None:
        self.life = life
        self.scope = scope
        self.receive = receive
        self.send = send

    async def root(self) -> None:
        await self.answer(b'{"refusing":%d}' % self.life.refusing)

    async def echo(self) -> None:
        await self.answer(await self.body())

    async def told(self) -> None:
        told = {key: repr(self.scope[key]) for key in ("method", "path", "raw_path", "query_string", "http_version")}
        told |= {
            "headers": repr(self.scope["headers"]),
            "client": repr(self.scope["client"]),
            "body": repr(await self.body()),
        }
        await self.answer(json.dumps(told).encode())

    async def memory(self) -> None:
        await self.answer(b"%d" % rss_bytes())

    async def descriptors(self) -> None:
        await self.answer(b"%d" % resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    async def too_large(self) -> None:
        await self.answer(b"too large", status=413)

    async def unread(self) -> None:
        await self.gone()
        say(what="client gone")

    async def slow(self) -> None:
        await asyncio.sleep(0.5)
        await self.answer(self.scope["query_string"])

    async def crash(self) -> None:
        raise ValueError("a secret")

    async def crash_later(self) -> None:
        await self.send({"type": "http.response.start", "status": 200, "headers": JSON})
        await self.send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("a secret")

    async def incomplete(self) -> None:
        await self.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await self.send({"type": "http.response.body", "body": b"12345", "more_body": True})

    async def overlong(self) -> None:
        await self.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await self.send({"type": "http.response.body", "body": b"12345"})

    async def injected(self) -> None:
        await self.answer(b"", extra=[(b"x-request-id", b"a\r\nset-cookie: b=c")])

    async def empty(self) -> None:
        await self.send({"type": "http.response.start", "status": 204, "headers": []})
        await self.send({"type": "http.response.body"})

    async def stream(self) -> None:
        connection: ClientConnection = self.scope["extensions"]["chatcore.connection"]
        self.life.streams += 1
        await self.send({"type": "http.response.start", "status": 200, "headers": JSON})
        await self.send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await asyncio.wait(
            {asyncio.ensure_future(self.life.ending.wait()), asyncio.ensure_future(self.gone())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        say(what="stream ends", detail=connection.lost)
        await self.send({"type": "http.response.body", "body": b"bye"})
        self.life.streams -= 1

    async def two_way(self) -> None:
        await self.send({"type": "http.response.start", "status": 200, "headers": JSON})
        while (message := await self.receive())["type"] == "http.request":
            await self.send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})

    async def aborted(self) -> None:
        await self.send({"type": "http.response.start", "status": 200, "headers": JSON})
        await self.send({"type": "http.response.body", "body": b"x" * 20_000_000, "more_body": True})
        self.scope["extensions"]["chatcore.connection"].abort()
        await self.gone()
        say(what="aborted")

    async def flood(self) -> None:
        await self.send({"type": "http.response.start", "status": 200, "headers": JSON})
        connection = self.scope["extensions"]["chatcore.connection"]
        while not connection.lost:
            await self.send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        say(what="flood ends")

    async def bulk(self) -> None:
        await self.answer(b"x" * 20_000_000)

    async def gone(self) -> None:
        """Wait until the client is gone."""
        connection: ClientConnection = self.scope["extensions"]["chatcore.connection"]
        assert connection.on_lost is None, "left over from another request"
        lost = asyncio.Event()
        connection.on_lost = lost.set
        if not connection.lost:
            await lost.wait()

    async def body(self) -> bytes:
        """Read the whole of a request's body."""
        parts: list[bytes] = []
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                say(what="disconnected")
                break
            parts.append(message["body"])
            more = message["more_body"]
        return b"".join(parts)

    async def answer(self, body: bytes, *, status: int = 200, extra: list[tuple[bytes, bytes]] | None = None) -> None:
        """Send a whole response."""
        headers = [*JSON, (b"content-length", b"%d" % len(body)), *(extra or [])]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def main() -> int:
    """Serve as the first argument, a JSON object, says."""
    options = json.loads(sys.argv[1])
    if limit := options.get("hard_limit"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 128), limit))
    settings = msgspec.convert({"host": "127.0.0.1", "port": 0, **options.get("settings", {})}, ServerSettings)
    limits = msgspec.convert(options.get("limits", {}), Limits)
    settle = options.get("settle")
    life = Life(fails=settle == "fails", stubborn=settle == "hangs")

    async def before() -> None:
        say(what="before")

    app = App(life, startup=options.get("startup", "works"))
    return serve(app, settings, life, observe, limits=limits, before=[before])


if __name__ == "__main__":
    sys.exit(main())
