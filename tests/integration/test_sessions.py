"""Sessions as a client meets them: issue, look, refresh, erase, and every token that must not pass."""

import asyncio
import base64
import json
import time
from datetime import datetime

import httpx
import pytest
from jose import jwt

from tests.conftest import MakeClient, StartServer
from tests.support.answers import Answer, answer_json, answer_text
from tests.support.client import USER_AGENT, ChatClient
from tests.support.n8n import Request, ScriptedN8n
from tests.support.server import JWT_SECRET, ChatServer

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)


async def look(client: ChatClient, token: str | None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return await client.http.get("/api/v1/session", headers=headers)


async def test_a_session_is_issued_looked_at_and_refreshed(visitor: ChatClient) -> None:
    answer = await visitor.session()
    assert answer.status_code == 201
    document = answer.json()
    assert document["features"] == {"history": False, "resume": True, "uploads": False}
    assert document["expires_in_seconds"] == 24 * 3600
    issued_at, expires_at = (datetime.fromisoformat(document[name]) for name in ("issued_at", "expires_at"))
    assert (expires_at - issued_at).total_seconds() == 24 * 3600
    assert abs(issued_at.timestamp() - time.time()) < 10
    shown = await look(visitor, visitor.token)
    assert shown.json() == {name: document[name] for name in ("session_id", "issued_at", "expires_at")}
    refreshed = await visitor.refresh()
    assert refreshed.status_code == 200
    assert refreshed.json()["session_id"] == document["session_id"]
    assert set(refreshed.json()) == set(document)


async def test_the_token_says_what_the_contract_says(visitor: ChatClient) -> None:
    claims = jwt.decode(str(visitor.token), JWT_SECRET, algorithms=["HS256"], options={"require_exp": True})
    assert set(claims) == {"iss", "typ", "sub", "iat", "exp", "sst", "fp"}
    assert (claims["iss"], claims["typ"], claims["sub"]) == ("chatcore", "session", visitor.session_id)
    assert claims["exp"] - claims["iat"] == 24 * 3600
    assert claims["sst"] == claims["iat"]


async def test_a_token_of_another_instance_with_the_same_secret_is_good(
    visitor: ChatClient, n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    other = make_client(start_server(n8n))
    assert (await look(other, visitor.token)).status_code == 200


async def test_tokens_that_must_not_pass(visitor: ChatClient) -> None:
    good = str(visitor.token)
    head, body, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    now = int(time.time())

    def sign(secret: str = JWT_SECRET, algorithm: str = "HS256", **changed: object) -> str:
        return str(jwt.encode({**claims, **changed}, secret, algorithm=algorithm))

    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    forged = {
        "alg none": f"{none}.{body}.",
        "alg none with a signature": f"{none}.{body}.{signature}",
        "another secret": sign(secret="x" * 40),
        "another algorithm": sign(algorithm="HS512"),
        "another type": sign(typ="n8n"),
        "another issuer": sign(iss="someone"),
        "another session form": sign(sub="w_" + "a" * 43),
        "no dates": jwt.encode({k: v for k, v in claims.items() if k not in {"iat", "exp"}}, JWT_SECRET),
        "a date as text": sign(exp=str(now + 100)),
        "a date that is true": sign(exp=True),
        "cut": good[:-5],
        "swapped": f"{body}.{head}.{signature}",
        "not a token": "hello",
        "unicode": "\u00fc\u00fc\u00fc",
        "very long": "a" * 20_000,
    }
    for name, token in forged.items():
        answer = await visitor.http.get(
            "/api/v1/session", headers=[(b"authorization", b"Bearer " + token.encode("utf-8"))]
        )
        assert answer.status_code == 401, name
        assert answer.json()["code"] in {"token_invalid", "token_missing"}, name
        assert answer.headers["www-authenticate"] == "Bearer"
    missing = await look(visitor, None)
    assert (missing.status_code, missing.json()["code"]) == (401, "token_missing")


async def test_a_token_in_another_browser_is_refused(
    server: ChatServer, visitor: ChatClient, make_client: MakeClient
) -> None:
    thief = make_client(server, user_agent=CHROME)
    thief.token = visitor.token
    answer = await look(thief, visitor.token)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert (await thief.refresh()).status_code == 401
    updated = make_client(server, user_agent=USER_AGENT.replace("140.0", "152.0"))
    assert (await look(updated, visitor.token)).status_code == 200, "an update of the same browser"


async def test_an_expired_token_is_refreshed_within_its_time(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    client = make_client(start_server(n8n, {"SESSION_TTL_HOURS": "0.001"}))
    await client.session()
    old = str(client.token)
    await asyncio.sleep(4.2)
    expired = await look(client, old)
    assert (expired.status_code, expired.json()["code"]) == (401, "token_expired")
    assert (await client.chat("Hi")).json()["code"] == "token_expired"
    refreshed = await client.refresh()
    assert refreshed.status_code == 200
    assert (await client.chat("Hi")).status_code == 200


async def test_a_session_is_not_refreshed_for_ever(visitor: ChatClient) -> None:
    claims = jwt.decode(str(visitor.token), JWT_SECRET, algorithms=["HS256"], options={"require_exp": True})
    now = int(time.time())
    day = 86400

    async def refresh(**changed: int) -> httpx.Response:
        token = jwt.encode({**claims, **changed}, JWT_SECRET, algorithm="HS256")
        return await visitor.http.post("/api/v1/session/refresh", headers={"Authorization": f"Bearer {token}"})

    assert (await refresh(sst=now - 40 * day, iat=now - 30 * day, exp=now - 29 * day)).status_code == 200
    late = await refresh(sst=now - 40 * day, iat=now - 33 * day, exp=now - 31 * day)
    assert (late.status_code, late.json()["code"]) == (401, "token_expired")
    old = await refresh(sst=now - 91 * day, iat=now - 3 * day, exp=now - 2 * day)
    assert (old.status_code, old.json()["code"]) == (401, "token_expired")


async def test_the_previous_secret_still_verifies(
    visitor: ChatClient, n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    rotated = {"JWT_SECRET_KEY": "a-new-secret-that-signs-from-now-on", "JWT_SECRET_KEY_PREVIOUS": JWT_SECRET}
    client = make_client(start_server(n8n, rotated))
    client.token = visitor.token
    assert (await client.chat("Hi")).status_code == 200
    assert (await client.refresh()).status_code == 200
    assert (await client.chat("Hi")).status_code == 200
    assert (await look(visitor, client.token)).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", None),
        (b"[]", None),
        (b'{"bot": 5}', "bot"),
        (b'{"bot": "nobody"}', "bot"),
        (b'{"page_url": "javascript:alert(1)"}', "page_url"),
        (b'{"nonsense": 1}', "nonsense"),
    ],
)
async def test_a_bad_body_names_its_field(visitor: ChatClient, body: bytes, field: str | None) -> None:
    answer = await visitor.http.post("/api/v1/session", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    if field is not None:
        assert field in {fault["field"] for fault in answer.json()["errors"]}


async def test_a_challenge_is_asked_and_its_endpoint_decides(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    with ScriptedN8n() as verifier:

        def verdict(request: Request) -> Answer:
            passed = b"response=good" in request.body and b"secret=top" in request.body
            return answer_json({"success": passed})

        verifier.answer(verdict)
        server = start_server(n8n, {"CHALLENGE_VERIFY_URL": verifier.url, "CHALLENGE_SECRET": "top"})
        client = make_client(server)
        assert (await client.session({"challenge_token": "good"})).status_code == 201
        for body in ({}, {"challenge_token": "bad"}):
            answer = await client.session(body)
            assert (answer.status_code, answer.json()["code"]) == (403, "challenge_failed")
        verifier.answer(answer_text("broken", 500))
        assert (await client.session({"challenge_token": "good"})).json()["code"] == "challenge_failed"
        verifier.refuse()
        assert (await client.session({"challenge_token": "good"})).json()["code"] == "challenge_failed"
