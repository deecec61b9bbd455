"""Several bots behind one server: each has its webhook, its limits, its websites."""

from collections.abc import Iterator

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.client import ChatClient
from tests.support.n8n import ScriptedN8n

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
