"""n8n's own widget at `/chat`: whose session it is, what binds it, what reaches n8n, and clear words for the rest."""

import base64
import hashlib
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_json
from tests.support.jwts import forge, read
from tests.support.n8n import ScriptedN8n
from tests.support.n8n_widget import N8nWidget
from tests.support.server import JWT_SECRET, N8N_SECRET, ChatServer

SHOP, DESK = "https://shop.example", "https://desk.example"
OPS = "ops-may-look-at-all-the-figures-0001"
ISSUED = re.compile(r"s_[A-Za-z0-9_-]{22}")


def named(origin: str, bot: str, session: str) -> str:
    """Give the session that the contract names."""
    digest = hashlib.sha256(f"{origin}\n{bot}\n{session}".encode()).digest()
    return "w_" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.fixture(name="desk_n8n")
def _desk_n8n() -> Iterator[ScriptedN8n]:
    with ScriptedN8n() as scripted:
        yield scripted


async def test_only_what_is_known_reaches_n8n(server: ChatServer, n8n: ScriptedN8n) -> None:
    async with N8nWidget(server.url) as widget:
        shown = await widget.send("Hi", metadata={"plan": "pro"}, context={"user": "root"}, history=[], system="x")
        assert shown.bubbles == ["Echo: Hi"]
    body = n8n.requests[0].json
    assert set(body) == {"action", "sessionId", "chatInput", "metadata", "context"}
    assert (body["action"], body["chatInput"], body["metadata"]) == ("sendMessage", "Hi", {"plan": "pro"})
    assert set(body["context"]) == {"message_id", "received_at"}
    claims = read(n8n.requests[0].headers["x-session-token"])
    assert claims["sub"] == body["sessionId"]


async def test_a_page_without_a_token_names_its_session(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": f"{SHOP},{DESK}"})
    session = str(uuid.uuid4())
    for origin in (SHOP, DESK, None):
        async with N8nWidget(server.url, origin=origin, session=session) as widget:
            await widget.send("Hi")
            await widget.send("Hi", streaming=True)
    told = [request.json["sessionId"] for request in n8n.requests]
    assert told[::2] == told[1::2] == [named(origin, "default", session) for origin in (SHOP, DESK, "")]


async def test_a_named_session_is_none_that_was_issued(
    server: ChatServer, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    victim = make_client(server)
    await victim.session()
    assert victim.session_id is not None
    message_id = (await victim.chat("mine")).json()["message_id"]
    for session in (victim.session_id, named("", "default", victim.session_id)):
        async with N8nWidget(server.url, session=session) as widget:
            assert (await widget.send("Hi")).status == 200
    assert len({request.json["sessionId"] for request in n8n.requests}) == 3
    assert not [request for request in n8n.requests[1:] if ISSUED.fullmatch(request.json["sessionId"])]
    assert (await victim.document(message_id)).json()["content"] == "Echo: mine"


async def test_a_token_s_session_counts_and_not_the_named_one(
    server: ChatServer, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    client = make_client(server)
    await client.session()
    async with N8nWidget(server.url) as widget:
        widget.headers["Authorization"] = f"Bearer {client.token}"
        assert (await widget.send("Hi")).bubbles == ["Echo: Hi"]
        without = {"action": "sendMessage", "chatInput": "Ho"}
        assert (await widget.post(without, streaming=True)).bubbles == ["Echo: Ho"]
        odd = await widget.send("Hi", sessionId="not/an id")
        assert odd.status == 400, "what is sent must have its form, needed or not"
    assert [request.json["sessionId"] for request in n8n.requests] == [client.session_id] * 2


@pytest.mark.parametrize("authorization", ["Bearer forged", "Bearer", "bearer x.y.z", "forged", "Token x", ""])
async def test_a_wrong_token_is_refused_and_never_tokenless(
    server: ChatServer, n8n: ScriptedN8n, authorization: str
) -> None:
    async with N8nWidget(server.url) as widget:
        widget.headers["Authorization"] = authorization
        shown = await widget.send("Hi")
        assert (shown.status, set(shown.answer.json())) == (401, {"message"})
        assert "www-authenticate" not in shown.answer.headers
        lines = await widget.send("Hi", streaming=True)
        assert (lines.status, len(lines.bubbles)) == (200, 1)
        assert lines.bubbles[0].startswith("Error: ")
        assert await widget.previous() == []
    assert n8n.requests == []


async def test_an_expired_token_is_refused_until_the_page_changes_the_header(
    server: ChatServer, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    client = make_client(server)
    await client.session()
    assert client.token is not None
    now = int(time.time())  # the server's clock is the real one
    claims = {**read(client.token), "iat": now - 100, "sst": now - 100, "exp": now - 10}
    async with N8nWidget(server.url) as widget:
        widget.headers["Authorization"] = f"Bearer {forge(claims, JWT_SECRET)}"
        expired = await widget.send("Hi")
        assert (expired.status, "expired" in expired.bubbles[0]) == (401, True)
        assert await widget.previous() == []
        widget.headers["Authorization"] = f"Bearer {client.token}"
        assert (await widget.send("Hi")).bubbles == ["Echo: Hi"]
        widget.headers["Authorization"] = f"Bearer {forge(claims, N8N_SECRET)}"
        assert (await widget.send("Hi")).status == 401
    assert len(n8n.requests) == 1


async def test_basic_auth_is_meant_for_somebody_else(server: ChatServer, n8n: ScriptedN8n) -> None:
    async with N8nWidget(server.url) as widget:
        widget.headers["Authorization"] = "Basic dXNlcjpwYXNz"
        assert (await widget.send("Hi")).bubbles == ["Echo: Hi"]
        assert n8n.requests[0].json["sessionId"] == named("", "default", widget.session)
    assert "dXNlcjpwYXNz" not in n8n.requests[0].raw_head.decode()


async def test_a_token_can_be_required(n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient) -> None:
    server = start_server(n8n, {"REQUIRE_TOKEN": "true"})
    client = make_client(server)
    await client.session()
    async with N8nWidget(server.url) as widget:
        refused = await widget.send("Hi")
        assert (refused.status, "needs a session token" in refused.bubbles[0]) == (401, True)
        assert "needs a session token" in (await widget.send("Hi", streaming=True)).bubbles[0]
        assert await widget.previous() == []
        widget.headers["Authorization"] = f"Bearer {client.token}"
        assert (await widget.send("Hi")).status == 200
    assert len(n8n.requests) == 1


async def test_who_is_to_be_human_needs_a_token(n8n: ScriptedN8n, start_server: StartServer) -> None:
    challenge = {
        "CHALLENGE_VERIFY_URL": f"http://127.0.0.1:{n8n.port}/siteverify",
        "CHALLENGE_SECRET": "of-the-provider",
    }
    async with N8nWidget(start_server(n8n, challenge).url) as widget:
        assert (await widget.send("Hi")).status == 401
        assert await widget.previous() == []
    assert n8n.requests == []


async def test_a_path_names_the_bot_and_a_session_does_not_cross(
    n8n: ScriptedN8n, desk_n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(
        n8n, {"N8N_WEBHOOK_URL_DESK": desk_n8n.url, "ALLOWED_ORIGINS": SHOP, "ALLOWED_ORIGINS_DESK": f"{DESK},{SHOP}"}
    )
    session = str(uuid.uuid4())
    for path, asked in (("/chat", n8n), ("/chat/default", n8n), ("/chat/desk", desk_n8n)):
        async with N8nWidget(server.url, path, origin=SHOP, session=session) as widget:
            assert (await widget.send(path)).bubbles == [f"Echo: {path}"]
            assert asked.requests[-1].text == path
    told = [request.json["sessionId"] for request in (*n8n.requests, *desk_n8n.requests)]
    assert told == [named(SHOP, bot, session) for bot in ("default", "default", "desk")]
    tokens = {}
    for bot in ("default", "desk"):
        client = make_client(server, origin=SHOP)
        await client.session({"bot": bot})
        tokens[bot] = client.token
    for path, bot, status in (
        ("/chat", "default", 200),
        ("/chat/desk", "desk", 200),
        ("/chat", "desk", 401),
        ("/chat/desk", "default", 401),
    ):
        async with N8nWidget(server.url, path, origin=SHOP) as widget:
            widget.headers["Authorization"] = f"Bearer {tokens[bot]}"
            assert (await widget.send("Hi")).status == status, (path, bot)
    async with N8nWidget(server.url, origin=DESK) as widget:
        refused = await widget.send("Hi")
        assert (refused.status, refused.bubbles) == (403, ["This website is not allowed to use this chat."])
        assert refused.answer.headers["access-control-allow-origin"] == DESK, "the page may read why"
        assert (await widget.send("Hi", streaming=True)).bubbles == [f"Error: {refused.bubbles[0]}"]


async def test_a_website_that_nobody_allows_is_refused(server: ChatServer, n8n: ScriptedN8n) -> None:
    async with N8nWidget(server.url, origin="https://evil.test") as widget:
        refused = await widget.send("Hi")
        assert (refused.status, set(refused.answer.json())) == (403, {"message"})
        assert "access-control-allow-origin" not in refused.answer.headers
    assert n8n.requests == []


async def test_a_preflight_allows_what_the_page_wants_to_send(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": SHOP})
    async with N8nWidget(server.url, origin=SHOP) as widget:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-shop"}
        for path in ("/chat", "/chat/desk"):
            answer = await widget.http.options(path, headers=asked)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, SHOP)
            assert answer.headers["access-control-allow-headers"] == "authorization, x-shop"


async def test_limits_are_told_in_the_shape_that_the_widget_shows(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, {"RATE_LIMIT_PER_MINUTE": "4"})
    async with N8nWidget(server.url) as widget:
        for _ in range(10):
            assert await widget.previous() == []  # costs nothing
        first = await widget.send("Hi")
        assert (first.answer.headers["ratelimit-limit"], first.answer.headers["ratelimit-remaining"]) == ("4", "3")
        assert (await widget.send("", streaming=True)).answer.headers["ratelimit-remaining"] == "2", "a fault costs too"
        assert (await widget.send("Hi")).status == 200
        assert (await widget.send("Hi")).status == 200
        over = await widget.send("Hi")
        assert (over.status, over.bubbles) == (429, ["Too many messages in a short time. Please wait a moment."])
        assert int(over.answer.headers["retry-after"]) >= 1
        lines = await widget.send("Hi", streaming=True)
        assert (lines.status, lines.bubbles) == (200, [f"Error: {over.bubbles[0]}"])
        assert (await widget.send("", streaming=True)).bubbles == lines.bubbles, "the limit comes first"
        assert await widget.previous() == [], "the widget has an input box all the same"
    assert len(n8n.requests) == 3


async def test_the_session_s_limit_binds_a_named_session(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, {"SESSION_RATE_LIMIT_PER_MINUTE": "2"})
    async with N8nWidget(server.url) as one, N8nWidget(server.url) as two:
        assert [(await one.send("Hi")).status for _ in range(3)] == [200, 200, 429]
        assert (await two.send("Hi")).status == 200


async def test_the_day_ends_for_the_widget_too(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, {"DAILY_MESSAGE_LIMIT": "2", "DAILY_MESSAGE_LIMIT_PER_ADDRESS": "0"})
    async with N8nWidget(server.url) as widget:
        assert [(await widget.send("Hi")).status for _ in range(2)] == [200, 200]
        assert (await widget.send("Hi")).bubbles == ["The limit of messages for today is reached."]


async def test_a_bot_s_own_rate_counts(n8n: ScriptedN8n, desk_n8n: ScriptedN8n, start_server: StartServer) -> None:
    environment = {"N8N_WEBHOOK_URL_DESK": desk_n8n.url, "RATE_LIMIT_PER_MINUTE_DESK": "2"}
    server = start_server(n8n, {**environment, "RATE_LIMIT_PER_MINUTE": "1"})
    async with N8nWidget(server.url, "/chat/desk") as desk, N8nWidget(server.url) as shop:
        for _ in range(5):
            assert await desk.previous() == []
        assert [(await desk.send("Hi")).status for _ in range(3)] == [200, 200, 429]
        assert [(await shop.send("Hi")).status for _ in range(2)] == [200, 429]


async def test_a_wrong_address_or_method_says_so_in_the_same_shape(server: ChatServer) -> None:
    async with N8nWidget(server.url, "/chat/nobody") as widget:
        unknown = await widget.send("Hi")
        assert (unknown.status, unknown.bubbles) == (404, ["There is no bot of this name."])
        assert (await widget.send("Hi", streaming=True)).bubbles == ["Error: There is no bot of this name."]
        for path in ("/chat/", "/chat/a/b", "/chat/Default", "/chat/%2e%2e"):
            answer = await widget.http.post(path, json=widget.message("Hi"))
            assert (answer.status_code, set(answer.json())) == (404, {"message"}), path
        for path in ("/chat?action=sendMessage&sessionId=x&chatInput=Hi", "/chat/default"):
            got = await widget.http.get(path)
            assert (got.status_code, got.headers["allow"]) == (405, "POST")
            assert "'method'" in got.json()["message"]


async def test_replies_of_the_widget_can_be_read_with_the_token_alone(
    server: ChatServer, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    client, stranger = make_client(server), make_client(server)
    await client.session()
    await stranger.session()
    async with N8nWidget(server.url) as widget:
        widget.headers["Authorization"] = f"Bearer {client.token}"
        await widget.send("Hi")
    message_id = n8n.requests[0].json["context"]["message_id"]
    assert (await client.document(message_id)).json()["content"] == "Echo: Hi"
    assert (await stranger.document(message_id)).status_code == 404


async def test_messages_of_the_widget_are_counted(n8n: ScriptedN8n, start_server: StartServer, tmp_path: Path) -> None:
    settings = {"SQLITE_DB_PATH": str(tmp_path / "chat.db"), "ADMIN_TOKENS": f"ops:{OPS}", "ALLOWED_ORIGINS": SHOP}
    server = start_server(n8n, settings, main="main_sqlite.py")
    async with N8nWidget(server.url, origin=SHOP) as one, N8nWidget(server.url, origin=SHOP) as two:
        for widget in (one, one, two):
            assert await widget.previous() == []
            assert (await widget.send("Hi", streaming=True)).bubbles == ["Echo: Hi"]
        n8n.next(answer_json({}, 500))
        assert (await two.send("Hi")).status == 502
        figures = await one.http.get("/api/v1/admin/analytics", headers={"Authorization": f"Bearer {OPS}"})
    totals = figures.json()["totals"]
    assert {name: totals[name] for name in ("sessions", "messages", "replies", "errors")} == {
        "sessions": 2,
        "messages": 4,
        "replies": 3,
        "errors": 1,
    }
    assert figures.json()["top_origins"] == [{"origin": SHOP, "sessions": 2, "messages": 4}]
