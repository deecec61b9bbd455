"""Several bots behind one server: each has its webhook, its limits, its websites, its sessions and its figures."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support import warm
from tests.support.answers import answer_json
from tests.support.client import ChatClient
from tests.support.databases import Database, RedisDatabase
from tests.support.n8n import ScriptedN8n
from tests.support.openai_sdk import KEY, KEYS, program
from tests.support.postgres_mode import AS_OPS, OPS, Mode
from tests.support.server import ChatServer

SHOP, DESK = "https://shop.example", "https://desk.example"


@pytest.fixture(name="desk_n8n")
def _desk_n8n() -> Iterator[ScriptedN8n]:
    with ScriptedN8n() as scripted:
        yield scripted


async def test_a_session_speaks_to_its_bot_alone(
    n8n: ScriptedN8n, desk_n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    environment = {
        "N8N_WEBHOOK_URL_DESK": desk_n8n.url,
        "N8N_API_KEY_DESK": "desk-key",
        "ALLOWED_ORIGINS": SHOP,
        "ALLOWED_ORIGINS_DESK": DESK,
    }
    server = start_server(n8n, environment)

    async def visitor(origin: str, **body: str) -> ChatClient:
        client = make_client(server, origin=origin)
        answer = await client.session(body)
        assert answer.status_code == 201
        return client

    shop, desk = await visitor(SHOP), await visitor(DESK, bot="desk")
    assert (await shop.chat("to the shop")).status_code == 200
    assert (await desk.chat("to the desk")).status_code == 200
    assert [request.text for request in n8n.requests] == ["to the shop"]
    assert [request.text for request in desk_n8n.requests] == ["to the desk"]
    assert desk_n8n.requests[0].headers["x-n8n-api-key"] == "desk-key"
    assert "x-n8n-api-key" not in n8n.requests[0].headers

    wrong_site = await make_client(server, origin=SHOP).session({"bot": "desk"})
    assert (wrong_site.status_code, wrong_site.json()["code"]) == (403, "origin_not_allowed")
    moved = make_client(server, origin=DESK)
    moved.token = shop.token
    assert (await moved.chat("Hi")).json()["code"] == "origin_not_allowed"
    refreshed = await moved.refresh()
    assert (refreshed.status_code, refreshed.json()["code"]) == (403, "origin_not_allowed")
    unknown = await make_client(server, origin=SHOP).session({"bot": "nobody"})
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (400, "bot")


async def test_a_token_of_a_bot_that_is_gone_is_refused(
    n8n: ScriptedN8n, desk_n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    client = make_client(start_server(n8n, {"N8N_WEBHOOK_URL_DESK": desk_n8n.url}))
    await client.session({"bot": "desk"})
    later = make_client(start_server(n8n))
    later.token = client.token
    answer = await later.chat("Hi")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert n8n.requests == []


async def test_a_bot_s_own_rate_counts_instead_of_the_common_one(
    n8n: ScriptedN8n, desk_n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    environment = {
        "N8N_WEBHOOK_URL_DESK": desk_n8n.url,
        "RATE_LIMIT_PER_MINUTE": "3",
        "RATE_LIMIT_PER_MINUTE_DESK": "5",
    }
    server = start_server(n8n, environment)
    desk = make_client(server)
    assert (await desk.session({"bot": "desk"})).status_code == 201
    assert [(await desk.chat("Hi")).status_code for _ in range(5)] == [200, 200, 200, 200, 429]
    shop = make_client(server)
    assert (await shop.session()).status_code == 201, "the desk's messages cost the common bucket nothing"
    assert [(await shop.chat("Hi")).status_code for _ in range(3)] == [200, 200, 429]


async def widget(client: ChatClient, path: str, headers: dict[str, str] | None = None, session: str = "abc") -> Any:
    """Send a message as n8n's own widget does."""
    body = {"action": "sendMessage", "sessionId": session, "chatInput": "Hi"}
    return await client.http.post(path, json=body, headers=headers)


async def test_a_session_of_one_bot_is_of_no_use_with_another(
    n8n: ScriptedN8n, desk_n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {**KEYS, "N8N_WEBHOOK_URL_DESK": desk_n8n.url})
    shop, desk = make_client(server), make_client(server)
    await shop.session()
    await desk.session({"bot": "desk"})
    as_shop, as_desk = ({"Authorization": f"Bearer {client.token}"} for client in (shop, desk))
    for path, headers in (("/chat/desk", as_shop), ("/chat", as_desk), ("/chat/default", as_desk)):
        answer = await widget(shop, path, headers)
        assert (answer.status_code, set(answer.json())) == (401, {"message"})
    assert n8n.requests == desk_n8n.requests == []
    assert (await shop.chat("Hi", bot="desk")).status_code == 400, "a message does not choose"

    reply = (await desk.chat("Hi")).json()
    assert (await shop.document(reply["message_id"])).json()["code"] == "reply_gone"
    assert (await shop.stop(reply["message_id"])).json()["code"] == "reply_gone"
    assert (await desk.refresh()).status_code == 200
    assert desk.token is not None
    claims = desk.token.split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["bot"] == "desk"

    for path in ("/chat", "/chat/default", "/chat/desk"):
        assert (await widget(shop, path)).status_code == 200
    async with program(server) as sdk:
        for model in ("default", "desk"):
            await sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], user="abc")
    of_shop, of_desk = (
        {request.json["sessionId"] for request in one.requests if request.json["sessionId"][:2] != "s_"}
        for one in (n8n, desk_n8n)
    )
    assert (len(of_shop), len(of_desk)) == (2, 2)
    assert not of_shop & of_desk, "the same name is another session at each bot"


async def test_there_is_no_bot_of_another_name(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    client = make_client(start_server(n8n, {"N8N_WEBHOOK_URL_DESK": n8n.url}))
    for name in ("nobody", "DESK", "desk/", "desk%2f", "..%2fchat", "%00", "d" * 40):
        answer = await widget(client, f"/chat/{name}")
        assert answer.status_code == 404, name
    for name in ("nobody", "DESK", "", "d" * 40, "desk\n"):
        assert (await client.session({"bot": name})).json()["errors"][0]["field"] == "bot"
    assert n8n.requests == []


async def test_each_bot_has_its_own_key_and_the_common_one_otherwise(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    environment = {
        "N8N_API_KEY": "common-key",
        "N8N_WEBHOOK_URL_DESK": n8n.url,
        "N8N_API_KEY_DESK": "desk-key",
        "N8N_WEBHOOK_URL_SHOP": n8n.url,
    }
    server = start_server(n8n, environment)
    for bot in ("default", "desk", "shop"):
        client = make_client(server)
        await client.session({"bot": bot})
        await client.chat("Hi")
    assert [one.headers["x-n8n-api-key"] for one in n8n.requests] == ["common-key", "desk-key", "common-key"]


async def test_days_are_counted_for_each_bot(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    environment = {
        "N8N_WEBHOOK_URL_DESK": n8n.url,
        "N8N_WEBHOOK_URL_SHOP": n8n.url,
        "DAILY_MESSAGE_LIMIT": "3",
        "DAILY_MESSAGE_LIMIT_DESK": "1",
        "DAILY_MESSAGE_LIMIT_PER_ADDRESS": "0",
    }
    server = start_server(n8n, environment)
    for bot, most in (("desk", 1), ("default", 3), ("shop", 3)):
        client = make_client(server)
        await client.session({"bot": bot})
        told = [(await client.chat("Hi")).json().get("code") for _ in range(most + 1)]
        assert told == [None] * most + ["daily_limit_reached"]


async def test_a_program_s_rate_is_that_of_the_bot(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    environment = {
        **KEYS,
        "N8N_WEBHOOK_URL_DESK": n8n.url,
        "RATE_LIMIT_PER_MINUTE": "2",
        "RATE_LIMIT_PER_MINUTE_DESK": "3",
    }
    client = make_client(start_server(n8n, environment))

    async def ask(model: str) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"Authorization": f"Bearer {KEY}"}
        return (await client.http.post("/v1/chat/completions", json=body, headers=headers)).status_code

    assert [await ask("desk") for _ in range(4)] == [200, 200, 200, 429]
    assert [await ask("default") for _ in range(3)] == [200, 200, 429]


async def test_a_bot_that_is_away_is_the_only_one(
    n8n: ScriptedN8n, desk_n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"N8N_WEBHOOK_URL_DESK": desk_n8n.url})
    shop, desk = make_client(server), make_client(server)
    await shop.session()
    await desk.session({"bot": "desk"})
    desk_n8n.refuse()
    codes = [(await desk.chat("Hi")).json()["code"] for _ in range(10)]
    assert set(codes) == {"upstream_unavailable"}
    assert (await shop.chat("Hi")).status_code == 200
    health = await shop.http.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["checks"]["n8n"]["detail"].endswith(": desk")
    metrics = (await shop.http.get("/metrics")).text
    assert '\nchatcore_circuit_open{bot="desk"} 1.0\n' in metrics
    assert 'chatcore_circuit_open{bot="default"} 1.0' not in metrics


async def say(server: ChatServer, make_client: MakeClient, n8n: ScriptedN8n) -> None:
    """Say one thing to the bot `default` and two to `desk`, one of which fails."""
    for bot, count in (("default", 1), ("desk", 2)):
        client = make_client(server)
        await client.session({"bot": bot})
        for number in range(count):
            n8n.next(answer_json({"message": "Error in workflow"}, 500) if number else answer_json({"output": "Yes"}))
            await client.chat("Hi")


async def figures(client: ChatClient, bot: str | None) -> tuple[int, int, int, int]:
    """Give sessions, messages, replies and errors."""
    query = {} if bot is None else {"bot": bot}
    answer = await client.http.get("/api/v1/admin/analytics", params=query, headers=AS_OPS)
    totals = answer.json()["totals"]
    return totals["sessions"], totals["messages"], totals["replies"], totals["errors"]


OF_BOTS = {None: (2, 3, 2, 1), "default": (1, 1, 1, 0), "desk": (1, 2, 1, 1)}


async def test_figures_are_told_by_bot(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient, tmp_path: Path
) -> None:
    path = str(tmp_path / "chat.db")
    environment = {"N8N_WEBHOOK_URL_DESK": n8n.url, "SQLITE_DB_PATH": path, "ADMIN_TOKENS": f"ops:{OPS}"}
    server = start_server(n8n, environment, main="main_sqlite.py")
    await say(server, make_client, n8n)
    client = make_client(server)
    assert {bot: await figures(client, bot) for bot in OF_BOTS} == OF_BOTS
    metrics = (await client.http.get("/metrics")).text
    for line in (
        'messages_total{bot="default"} 1.0',
        'messages_total{bot="desk"} 2.0',
        'sessions_total{bot="desk",what="issued"} 1.0',
        'replies_total{bot="default",finish_reason="complete"} 1.0',
        'replies_total{bot="desk",finish_reason="error"} 1.0',
        'reply_errors_total{bot="desk",code="upstream_error"} 1.0',
        'reply_seconds_count{bot="desk"} 2.0',
    ):
        assert f"\nchatcore_{line}\n" in metrics
    server.stop()
    for bot, counts in OF_BOTS.items():
        argv = ["stats", "--json", *(["--bot", bot] if bot else [])]
        settings = {"SQLITE_DB_PATH": path}
        done = await asyncio.to_thread(warm.run, "main_sqlite.py", argv, environment=settings, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        totals = json.loads(done.stdout)["totals"]
        assert (totals["sessions"], totals["messages"], totals["replies"], totals["errors"]) == counts


async def test_figures_and_conversations_are_told_by_bot_in_postgresql_mode(
    n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase, make_client: MakeClient, tmp_path: Path
) -> None:
    with Mode(n8n, database, redis_server.url, tmp_path, N8N_WEBHOOK_URL_DESK=n8n.url, **KEYS) as mode:
        server = await asyncio.to_thread(mode.start)
        await say(server, make_client, n8n)
        client = make_client(server)
        assert {bot: await figures(client, bot) for bot in OF_BOTS} == OF_BOTS
        async with program(server) as sdk:
            await sdk.chat.completions.create(
                model="desk", messages=[{"role": "user", "content": "Hi"}], user="anna", stream=False
            )
        listed = (await client.http.get("/api/v1/admin/sessions?bot=desk", headers=AS_OPS)).json()["sessions"]
        assert {(one["bot"], one["session_id"][:2]) for one in listed} == {("desk", "s_"), ("desk", "o_")}
        program_s = next(one["session_id"] for one in listed if one["session_id"].startswith("o_"))
        erased = await client.http.delete(f"/api/v1/admin/sessions/{program_s}", headers=AS_OPS)
        assert erased.status_code == 204
        body = {"model": "desk", "messages": [{"role": "user", "content": "Hi"}], "user": "anna"}
        answer = await client.http.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "user")
        listed = (await client.http.get("/api/v1/admin/sessions?bot=desk", headers=AS_OPS)).json()["sessions"]
        assert [one["session_id"][:2] for one in listed] == ["s_"]
