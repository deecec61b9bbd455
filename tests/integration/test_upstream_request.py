"""What reaches n8n: body, headers, the short-lived token; what never does."""

import asyncio
import time
from datetime import datetime

from jose import jwt

from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_bytes
from tests.support.client import ChatClient
from tests.support.n8n import PATH, ScriptedN8n
from tests.support.server import N8N_SECRET, ChatServer

SITE = "https://shop.example"


async def test_the_body_has_n8n_s_names_and_what_the_server_alone_may_say(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": SITE, "ACCEPT_HISTORY": "true"})
    client = make_client(server, origin=SITE)
    await client.session()
    answer = await client.chat(
        "Hällo\u2028 🙂",
        metadata={"plan": "gold", "context": {"user": "forged"}},
        page_url="https://shop.example/cart?token=secret#top",
        history=[{"role": "user", "content": "before"}, {"role": "assistant", "content": "yes"}],
    )
    assert answer.status_code == 200
    (request,) = n8n.requests
    body = request.json
    context = body.pop("context")
    assert body == {
        "action": "sendMessage",
        "sessionId": client.session_id,
        "chatInput": "Hällo\u2028 🙂",
        "metadata": {"plan": "gold", "context": {"user": "forged"}},
        "history": [{"role": "user", "content": "before"}, {"role": "assistant", "content": "yes"}],
    }
    received_at = datetime.fromisoformat(context.pop("received_at"))
    assert abs(received_at.timestamp() - time.time()) < 10
    assert received_at.utcoffset() is not None
    assert context == {
        "message_id": answer.json()["message_id"],
        "origin": SITE,
        "page_url": "https://shop.example/cart",
    }


async def test_the_request_is_plain_and_carries_the_token_n8n_checks(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    answer = await visitor.chat("Hi")
    (request,) = n8n.requests
    assert (request.method, request.target) == ("POST", PATH)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers
    assert "origin" not in request.headers
    scheme, token = request.headers["authorization"].split(" ")
    assert scheme == "Bearer"
    assert request.headers["x-session-token"] == token
    claims = jwt.decode(token, N8N_SECRET, algorithms=["HS256"], audience="n8n", options={"require_exp": True})
    issued_at = claims.pop("iat")
    assert abs(issued_at - time.time()) < 10
    assert claims.pop("exp") == issued_at + 60
    assert claims == {
        "iss": "chatcore",
        "typ": "n8n",
        "aud": "n8n",
        "sub": visitor.session_id,
        "jti": answer.json()["message_id"],
    }


async def test_basic_auth_takes_the_authorization_header(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    url = n8n.url.replace("http://", "http://ann:p%40ss%3Aword@")
    client = make_client(start_server(url))
    await client.session()
    assert (await client.chat("Hi")).status_code == 200
    (request,) = n8n.requests
    assert request.headers["authorization"] == "Basic YW5uOnBAc3M6d29yZA=="
    assert "x-session-token" in request.headers
    assert b"@" not in request.raw_head


async def test_the_api_key_goes_into_its_header(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    client = make_client(start_server(n8n, {"N8N_API_KEY": "key-1"}))
    await client.session()
    await client.chat("Hi")
    assert n8n.requests[0].headers["x-n8n-api-key"] == "key-1"
    assert n8n.requests[0].headers["authorization"].startswith("Bearer ")
    other = make_client(start_server(n8n, {"N8N_API_KEY": "key-2", "N8N_API_KEY_HEADER": "Authorization"}))
    await other.session()
    await other.chat("Hi")
    assert n8n.requests[1].headers["authorization"] == "key-2"
    assert "x-session-token" in n8n.requests[1].headers


async def test_the_site_s_verified_user_reaches_the_workflow_and_survives_refresh_and_restart(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    secret = "a-site-vouches-for-users-with-this"
    server = start_server(n8n, {"IDENTITY_SECRET_KEY": secret})
    client = make_client(server)
    identity = {"sub": "user-7", "name": "Ann", "email": "ann@shop.example", "exp": int(time.time()) + 60}
    token = jwt.encode(identity, secret, algorithm="HS256")
    assert (await client.session({"identity_token": token})).status_code == 201
    assert "Ann" not in str(client.token)
    await client.chat("Hi")
    await client.refresh()
    await client.chat("Hi")
    other = make_client(start_server(n8n, {"IDENTITY_SECRET_KEY": secret}))
    other.token = client.token
    await other.chat("Hi")
    users = [request.json["context"]["user"] for request in n8n.requests]
    assert users == [{"sub": "user-7", "name": "Ann", "email": "ann@shop.example"}] * 3


async def test_a_false_identity_is_refused(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"IDENTITY_SECRET_KEY": "a-site-vouches-for-users-with-this"})
    client = make_client(server)
    expired = {"sub": "user-7", "exp": int(time.time()) - 100}
    good = {"sub": "user-7", "exp": int(time.time()) + 60}
    for token in (
        jwt.encode(good, "another-secret-of-nobody-at-all-here", algorithm="HS256"),
        jwt.encode(expired, "a-site-vouches-for-users-with-this", algorithm="HS256"),
        jwt.encode({"sub": "user-7"}, "a-site-vouches-for-users-with-this", algorithm="HS256"),
        "not-a-token",
    ):
        answer = await client.session({"identity_token": token})
        assert (answer.status_code, answer.json()["code"]) == (403, "identity_invalid")


async def test_connections_to_n8n_are_pooled_and_dropped_before_n8n_closes_them(
    visitor: ChatClient, n8n: ScriptedN8n
) -> None:
    for _ in range(5):
        assert (await visitor.chat("Hi")).status_code == 200
    assert n8n.connections == 1
    await asyncio.sleep(5.5)  # the point of this test: real idle time of a real pool
    assert (await visitor.chat("Hi")).status_code == 200
    assert n8n.connections == 2, "one that idled so long is not used again"


async def test_a_redirect_is_not_followed(visitor: ChatClient, n8n: ScriptedN8n, server: ChatServer) -> None:
    n8n.answer(answer_bytes(b"", status=307, headers={"Location": f"{server.url}/health"}))
    answer = await visitor.chat("Hi")
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream_error")
    assert len(n8n.requests) == 1
