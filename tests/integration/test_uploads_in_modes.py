"""Files in every mode: the same is accepted, and a kept reply keeps nothing of the request that brought them."""

import asyncio
import gc
import json
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chatcore.app import Application, Stores
from chatcore.asgi import Message, Receive
from chatcore.clock import SystemClock
from chatcore.observe import Observer
from chatcore.settings import BotSettings, Settings, SqliteSettings
from chatcore.stores import sqlite, stateless
from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_json
from tests.support.databases import Database, RedisDatabase
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import Mode
from tests.support.server import ChatServer
from tests.support.settings import settings_with
from tests.support.uploads import FORM, ON, PNG, file, form, message, received, send

SAID = answer_json({"output": "Got them"})


async def accepts_files(client: Any, n8n: ScriptedN8n) -> None:
    """Send files and a retry, see them arrive once, and a lie refused and then corrected under its id."""
    n8n.answer(SAID)
    await client.session()
    parts = [message(message_id=str(uuid.uuid4())), file("abc"), file(PNG, "a.png", "image/png")]
    for _ in range(2):
        answer = await send(client, *parts)
        assert (answer.status_code, answer.json()["content"]) == (200, "Got them")
    (request,) = n8n.requests
    assert [data for _, _, data in received(request).files] == [b"abc", PNG]
    corrected = message(message_id=str(uuid.uuid4()))
    refused = await send(client, corrected, file("abc", "a.png", "image/png"))
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (415, "files[0]")
    assert (await send(client, corrected, file("abc"))).status_code == 200


async def test_sqlite_mode_takes_files(
    start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient, tmp_path: Path
) -> None:
    environment = {**ON, "SQLITE_DB_PATH": str(tmp_path / "chat.db")}
    await accepts_files(make_client(start_server(n8n, environment, main="main_sqlite.py")), n8n)


@pytest.fixture(name="postgres")
def _postgres(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, tmp_path: Path
) -> Iterator[ChatServer]:
    with Mode(n8n, database, redis_server.url, tmp_path, **ON) as mode:
        yield mode.start()


async def test_postgres_mode_takes_files(postgres: ChatServer, n8n: ScriptedN8n, make_client: MakeClient) -> None:
    await accepts_files(make_client(postgres), n8n)


class Client:
    """Whoever sends one request; nobody but the server may hold on to it."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._asked = False

    async def receive(self) -> Message:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": self._body}


async def call(app: Application, method: str, path: str, receive: Receive, headers: dict[str, str]) -> Any:
    """Make one request without a server between; gives the answer's JSON."""
    said: list[Message] = []

    async def send_message(part: Message) -> None:
        said.append(part)

    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": given, "client": ("127.0.0.1", 1)}
    await app(scope, receive, send_message)
    return json.loads(b"".join(part.get("body", b"") for part in said))


@asynccontextmanager
async def running(app: Application) -> AsyncIterator[None]:
    """Run the application's lifespan."""
    news: asyncio.Queue[Message] = asyncio.Queue()
    told: asyncio.Queue[Message] = asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan", "state": {}}, news.get, told.put))
    await news.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    yield
    await news.put({"type": "lifespan.shutdown"})
    await life


Open = Callable[[Settings, SystemClock, Observer], Stores]


@pytest.mark.parametrize(
    ("mode", "open_stores"), [("stateless", stateless.open_stores), ("sqlite", sqlite.open_stores)]
)
async def test_a_kept_reply_keeps_nothing_of_its_request(
    n8n: ScriptedN8n, tmp_path: Path, mode: str, open_stores: Open
) -> None:
    n8n.answer(SAID)
    settings = settings_with(
        mode=mode,
        upstream={"bots": {"default": BotSettings(name="default", url=n8n.url)}},
        uploads={"max_bytes": 1 << 20},
        sqlite=SqliteSettings(path=tmp_path / "chat.db") if mode == "sqlite" else None,
    )
    clock, observer = SystemClock(), Observer(settings.log)
    stores = open_stores(settings, clock, observer)
    app = Application(settings, stores, clock, observer)
    async with running(app):
        session = await call(app, "POST", "/api/v1/session", Client(b"").receive, {"Host": "x"})
        head = {"Host": "x", "Authorization": f"Bearer {session['token']}", "Content-Type": FORM}
        client = Client(form(message(), file(b"x" * 100_000)))
        gone = weakref.ref(client)
        answer = await call(app, "POST", "/api/v1/chat", client.receive, head)
        assert answer["content"] == "Got them"
        del client
        gc.collect()
        assert gone() is None
        kept = await call(app, "GET", f"/api/v1/chat/{answer['message_id']}", Client(b"").receive, head)
        assert kept["content"] == "Got them"
    stores.release()
    observer.close()
