"""What visitors get of their earlier messages: in PostgreSQL mode all of their own, else a clear answer."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types

from chatcore import openapi
from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_json, cut
from tests.support.client import ChatClient
from tests.support.databases import Database, RedisDatabase
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import Mode
from tests.support.server import ChatServer
from tests.support.settings import settings_with

PATH = "/api/v1/history"


@pytest.fixture(scope="module", name="keeping_n8n")
def _keeping_n8n() -> Iterator[ScriptedN8n]:
    with ScriptedN8n() as scripted:
        yield scripted


@pytest.fixture(scope="module", name="keeping")
def _keeping(
    keeping_n8n: ScriptedN8n,
    database_of_module: Database,
    redis_server: RedisDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ChatServer]:
    folder: Path = tmp_path_factory.mktemp("history")
    with Mode(keeping_n8n, database_of_module, redis_server.url, folder, RATE_LIMIT_PER_MINUTE="10000") as mode:
        yield mode.start()


@pytest.fixture(name="guest")
async def _guest(keeping: ChatServer, make_client: MakeClient) -> ChatClient:
    client = make_client(keeping)
    await client.session()
    return client


async def history(client: ChatClient, query: str = "", **headers: str) -> httpx.Response:
    return await client.http.get(PATH + query, headers={"Authorization": f"Bearer {client.token}", **headers})


async def told(client: ChatClient, query: str = "") -> dict[str, Any]:
    answer = await history(client, query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    document: dict[str, Any] = answer.json()
    described = openapi.document(settings_with(mode="postgres"))
    Draft202012Validator({"$ref": "#/components/schemas/History", "components": described["components"]}).validate(
        document
    )
    return document


async def test_what_is_done_is_in_the_history(guest: ChatClient) -> None:
    assert await told(guest) == {"messages": [], "next_before": None}
    expected = []
    for text in ("Guten Tag ☀️", "a\u202eb\n\n<b>"):
        message_id = str(uuid.uuid4())
        reply = await guest.reply(text, message_id=message_id)
        assert reply.finish_reason == "complete"
        expected += [(message_id, "user", text), (message_id, "assistant", reply.text)]
        document = await told(guest)
        assert [(it["message_id"], it["role"], it["content"]) for it in document["messages"]] == expected
    document = await told(guest)
    assert document["next_before"] is None
    times = [it["created_at"] for it in document["messages"]]
    assert times == sorted(times)
    assert all(len(time) == 24 and time.endswith("Z") for time in times)


async def test_pages_are_the_last_first_and_each_in_order(guest: ChatClient) -> None:
    for number in range(7):
        await guest.chat(f"message {number}")
    whole = (await told(guest))["messages"]
    assert [it["content"] for it in whole[::2]] == [f"message {number}" for number in range(7)]
    for limit in (1, 3, 14, 200):
        pages: list[Any] = []
        mark = ""
        while True:
            document = await told(guest, f"?limit={limit}{mark}")
            pages.insert(0, document["messages"])
            if document["next_before"] is None:
                break
            mark = f"&before={document['next_before']}"
        assert [it for page in pages for it in page] == whole
        assert len(pages) == -(-14 // limit)
        assert all(len(page) == limit for page in pages[1:])


async def test_a_failed_reply_leaves_what_was_said(guest: ChatClient, keeping_n8n: ScriptedN8n) -> None:
    keeping_n8n.next(cut("half"))
    await guest.reply("first")
    keeping_n8n.next(answer_json({"message": "Error in workflow"}, status=500))
    await guest.chat("second")
    said = [(it["role"], it["content"]) for it in (await told(guest))["messages"]]
    assert said == [("user", "first"), ("assistant", "half"), ("user", "second")]


async def test_nobody_reads_the_history_of_another(
    guest: ChatClient, keeping: ChatServer, make_client: MakeClient
) -> None:
    await guest.chat("mine")
    await guest.chat("mine too")
    other = make_client(keeping)
    await other.session()
    assert (await told(other))["messages"] == []
    mark = (await told(guest, "?limit=1"))["next_before"]
    assert (await told(other, f"?before={mark}"))["messages"] == []
    assert (await guest.http.get(PATH)).json()["code"] == "token_missing"
    assert (await guest.http.get(PATH, headers={"Authorization": "Bearer x"})).json()["code"] == "token_invalid"
    evil = await history(guest, "", Origin="https://evil.test")
    assert (evil.status_code, evil.json()["code"]) == (403, "origin_not_allowed")


async def test_an_erased_session_has_none(guest: ChatClient) -> None:
    await guest.chat("forget this")
    deleted = await guest.http.delete("/api/v1/session", headers={"Authorization": f"Bearer {guest.token}"})
    assert deleted.status_code == 204
    answer = await history(guest)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


@pytest.mark.parametrize(
    ("query", "field"),
    [("?limit=0", "limit"), ("?limit=201", "limit"), ("?before=x", "before"), ("?offset=1", "offset")],
)
async def test_what_cannot_be_asked_is_named(guest: ChatClient, query: str, field: str) -> None:
    answer = await history(guest, query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_other_modes_say_that_they_keep_none(
    start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient, tmp_path: Path
) -> None:
    sqlite = {"SQLITE_DB_PATH": str(tmp_path / "chat.db")}
    for main, environment in (("main_stateless.py", {}), ("main_sqlite.py", sqlite)):
        client = make_client(start_server(n8n, environment, main=main))
        await client.session()
        for query in ("", "?limit=x"):
            answer = await history(client, query)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_stored")


async def test_head_is_answered_without_a_body(guest: ChatClient) -> None:
    answer = await guest.http.head(PATH, headers={"Authorization": f"Bearer {guest.token}"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert json.loads((await history(guest)).content)["messages"] == []
