"""What operators get of kept messages, and that nothing is given before it is in the audit log."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types

from chatcore import openapi
from tests.conftest import MakeClient, StartServer
from tests.support.client import ChatClient
from tests.support.databases import Database, RedisDatabase
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import AS_OPS, OPS, Mode
from tests.support.server import ChatServer
from tests.support.settings import settings_with

ADMIN = "/api/v1/admin"
BOSS = "boss-may-look-at-all-the-figures-002"
AS_BOSS = {"Authorization": f"Bearer {BOSS}"}
UNKNOWN = f"s_{'x' * 22}"


@pytest.fixture(scope="module", name="keeping")
def _keeping(
    database_of_module: Database, redis_server: RedisDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChatServer]:
    folder: Path = tmp_path_factory.mktemp("archive")
    environment = {"RATE_LIMIT_PER_MINUTE": "10000", "ADMIN_TOKENS": f"ops:{OPS},boss:{BOSS}"}
    with ScriptedN8n() as n8n, Mode(n8n, database_of_module, redis_server.url, folder, **environment) as mode:
        yield mode.start()


@pytest.fixture(name="guest")
async def _guest(keeping: ChatServer, make_client: MakeClient) -> ChatClient:
    client = make_client(keeping)
    await client.session()
    return client


async def ask(
    guest: ChatClient, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> httpx.Response:
    return await guest.http.request(method, ADMIN + path, headers=AS_OPS if headers is None else headers)


async def given(guest: ChatClient, path: str, described_as: str) -> dict[str, Any]:
    answer = await ask(guest, path)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    described = openapi.document(settings_with(mode="postgres"))
    schema = {"$ref": f"#/components/schemas/{described_as}", "components": described["components"]}
    Draft202012Validator(schema).validate(document)
    return document


async def latest(guest: ChatClient, count: int = 1) -> list[dict[str, Any]]:
    """Give the entries before the reading of them."""
    entries: list[dict[str, Any]] = (await given(guest, f"/audit?limit={count + 1}", "AuditList"))["entries"]
    assert entries[0]["action"] == "audit_read"
    return entries[1:]


async def test_a_session_is_found_by_what_was_said_in_it(guest: ChatClient) -> None:
    word = f"zebra{uuid.uuid4().hex[:8]}"
    await guest.chat(f"Do you have a {word}?", page_url="https://shop.test/zoo")
    await guest.chat("And something else")
    document = await given(guest, f"/sessions?q={word.upper()}", "SessionList")
    (session,) = document["sessions"]
    assert session["session_id"] == guest.session_id
    assert (session["messages"], session["replies"], session["errors"]) == (2, 2, 0)
    assert session["page"] == "https://shop.test/zoo"
    assert word in session["excerpt"]
    assert (document["next_before"], document["truncated"]) == (None, False)
    (entry,) = await latest(guest)
    assert (entry["actor"], entry["action"], entry["session_id"]) == ("admin:ops", "sessions_searched", None)
    assert entry["detail"] == {"q": word.upper(), "limit": 20}
    assert len(entry["address"]) == 32
    listed = await given(guest, "/sessions?limit=1", "SessionList")
    assert listed["sessions"][0]["session_id"] == guest.session_id
    assert listed["sessions"][0]["excerpt"] is None


async def test_pages_of_sessions_lead_to_all_of_them(
    guest: ChatClient, keeping: ChatServer, make_client: MakeClient
) -> None:
    word = f"camel{uuid.uuid4().hex[:8]}"
    ids: list[str | None] = []
    for _ in range(5):
        client = make_client(keeping)
        await client.session()
        await client.chat(f"a {word}")
        ids.insert(0, client.session_id)
    for query in (f"q={word}&", ""):
        found: list[str] = []
        mark = ""
        while len(found) < 5:
            document = await given(guest, f"/sessions?{query}limit=2{mark}", "SessionList")
            found += [session["session_id"] for session in document["sessions"]]
            mark = f"&before={document['next_before']}"
        assert found[:5] == ids


async def test_a_transcript_tells_all_of_a_turn(guest: ChatClient) -> None:
    message_id = str(uuid.uuid4())
    await guest.chat("Is it open?", message_id=message_id)
    rated = await guest.http.post(
        f"/api/v1/chat/{message_id}/feedback",
        json={"rating": "down", "comment": "Too slow <script>"},
        headers={"Authorization": f"Bearer {guest.token}"},
    )
    assert rated.status_code == 204
    document = await given(guest, f"/sessions/{guest.session_id}/messages", "Transcript")
    assert document["session_id"] == guest.session_id
    question, reply = document["messages"]
    assert (question["role"], question["content"]) == ("user", "Is it open?")
    assert (reply["role"], reply["finish_reason"], reply["error_code"]) == ("assistant", "complete", None)
    assert (reply["rating"], reply["comment"]) == ("down", "Too slow <script>")
    assert reply["duration_ms"] >= 0
    (entry,) = await latest(guest)
    assert (entry["action"], entry["session_id"], entry["detail"]) == (
        "transcript_read",
        guest.session_id,
        {"limit": 50},
    )
    first = await given(guest, f"/sessions/{guest.session_id}/messages?limit=1", "Transcript")
    assert first["messages"] == [reply]
    rest = await given(
        guest, f"/sessions/{guest.session_id}/messages?limit=1&before={first['next_before']}", "Transcript"
    )
    assert (rest["messages"], rest["next_before"]) == ([question], None)


async def test_who_looks_for_an_unknown_session_is_noted(guest: ChatClient) -> None:
    answer = await ask(guest, f"/sessions/{UNKNOWN}/messages", AS_BOSS)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    (entry,) = await latest(guest)
    assert (entry["actor"], entry["action"], entry["session_id"]) == ("admin:boss", "transcript_read", UNKNOWN)
    for path in ("/sessions/x/messages", f"/sessions/{UNKNOWN}x/messages", "/sessions//messages"):
        assert (await ask(guest, path)).status_code == 404


async def test_an_operator_erases_a_session_for_good(
    guest: ChatClient, keeping: ChatServer, database_of_module: Database
) -> None:
    secret = f"secret{uuid.uuid4().hex}"
    await guest.chat(secret)
    answer = await ask(guest, f"/sessions/{guest.session_id}", method="DELETE")
    assert (answer.status_code, answer.content) == (204, b"")
    (entry,) = await latest(guest)
    assert (entry["actor"], entry["action"], entry["session_id"]) == ("admin:ops", "session_erased", guest.session_id)
    assert (await guest.chat("hello?")).status_code == 401
    assert (await ask(guest, f"/sessions/{guest.session_id}/messages")).status_code == 404
    assert (await given(guest, f"/sessions?q={secret}", "SessionList"))["sessions"] == []
    for table in ("messages", "turns", "sessions"):
        kept = f"SELECT count(*) FROM chatcore.{table} AS t WHERE t::text LIKE %s"  # noqa: S608 - a name of ours
        assert database_of_module.sql(kept, f"%{guest.session_id}%") == [(0,)]
    for session in (guest.session_id, UNKNOWN):
        assert (await ask(guest, f"/sessions/{session}", method="DELETE")).status_code == 204
    assert (await ask(guest, "/sessions/x", method="DELETE")).status_code == 404
    assert keeping.process.poll() is None


async def test_a_visitors_own_erasing_is_an_entry_without_texts(guest: ChatClient) -> None:
    await guest.chat("my secret")
    answer = await guest.http.delete("/api/v1/session", headers={"Authorization": f"Bearer {guest.token}"})
    assert answer.status_code == 204
    (entry,) = await latest(guest)
    assert (entry["actor"], entry["action"], entry["session_id"]) == ("visitor", "session_erased", guest.session_id)
    assert entry["detail"] == {}


async def test_figures_tell_of_cohorts_and_are_noted(guest: ChatClient) -> None:
    await guest.chat("Hi")
    document = await given(guest, "/analytics?interval=hour", "Analytics")
    assert document["cohorts"]["new_sessions"] >= 1
    assert document["cohorts"]["returning_sessions"] == 0
    assert sum(document["cohorts"]["busiest_hours"]) == document["totals"]["messages"]
    (entry,) = await latest(guest)
    assert entry["action"] == "analytics_read"
    assert set(entry["detail"]) == {"from", "to", "interval"}


async def test_the_audit_log_leads_to_its_beginning(guest: ChatClient) -> None:
    for _ in range(3):
        await given(guest, "/sessions", "SessionList")
    numbers: list[int] = []
    mark: str | int = ""
    while True:
        document = await given(guest, f"/audit?limit=100{mark and f'&before={mark}'}", "AuditList")
        numbers += [entry["number"] for entry in document["entries"]]
        mark = document["next_before"]
        if mark is None:
            break
    assert numbers == list(range(numbers[0], 0, -1))


ROUTES = (
    ("GET", "/analytics"),
    ("GET", "/sessions"),
    ("GET", "/sessions?q=secret"),
    ("GET", f"/sessions/{UNKNOWN}/messages"),
    ("DELETE", f"/sessions/{UNKNOWN}"),
    ("GET", "/audit"),
)


async def test_nothing_is_given_that_cannot_be_noted(guest: ChatClient, database_of_module: Database) -> None:
    await guest.chat("secret")
    with psycopg.connect(database_of_module.superuser_url) as blocker:
        blocker.execute("REVOKE INSERT ON chatcore.audit_log FROM chatcore_app")
        blocker.commit()
        try:
            for method, path in ROUTES:
                answer = await ask(guest, path, method=method)
                assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), path
                assert "secret" not in answer.text
        finally:
            blocker.execute("GRANT INSERT ON chatcore.audit_log TO chatcore_app")
            blocker.commit()
    assert (await ask(guest, "/sessions")).status_code == 200


async def test_without_a_right_token_there_is_nothing(guest: ChatClient) -> None:
    before = (await latest(guest))[0]["number"]
    for method, path in ROUTES:
        answer = await ask(guest, path, {}, method)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
        answer = await ask(
            guest, path, {"Authorization": f"Bearer {guest.token}", "Origin": "https://evil.test"}, method
        )
        assert answer.status_code == 403
    answer = await ask(guest, "/sessions", {"Authorization": f"Bearer {guest.token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert (await latest(guest))[0]["number"] == before + 1


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/sessions?q=-a", "q"),
        ("/sessions?limit=101", "limit"),
        ("/sessions?before=x", "before"),
        ("/sessions?bot=nobody", "bot"),
        (f"/sessions/{UNKNOWN}/messages?limit=201", "limit"),
        ("/audit?before=x", "before"),
        ("/analytics?interval=week", "interval"),
    ],
)
async def test_what_cannot_be_asked_is_named(guest: ChatClient, path: str, field: str) -> None:
    answer = await ask(guest, path)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_sqlite_mode_keeps_no_messages_and_says_so_without_a_token(
    start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient, tmp_path: Path
) -> None:
    environment = {"SQLITE_DB_PATH": str(tmp_path / "chat.db"), "ADMIN_TOKENS": f"ops:{OPS}"}
    client = make_client(start_server(n8n, environment, main="main_sqlite.py"))
    for method, path in ROUTES[1:]:
        for headers in ({}, AS_OPS):
            answer = await ask(client, path, headers, method)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_stored")
    assert "cohorts" not in (await ask(client, "/analytics")).json()
