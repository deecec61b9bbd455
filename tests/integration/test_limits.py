"""Rate limits as clients meet them: address, session, day; retries; forwarded addresses."""

import asyncio
import uuid

import httpx

from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_json
from tests.support.client import NO_TLS, ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.rawhttp import RawClient, request
from tests.support.server import ChatServer


async def test_n_at_once_then_the_next_says_when(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    client = make_client(start_server(n8n, {"RATE_LIMIT_PER_MINUTE": "6"}))
    answers = [await client.session()] + [await client.chat("Hi") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 200, 200, 429]
    remaining = [int(answer.headers["ratelimit-remaining"]) for answer in answers]
    assert remaining == [5, 4, 3, 2, 1, 0, 0]
    assert {answer.headers["ratelimit-limit"] for answer in answers} == {"6"}
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) == refused.json()["retry_after"] <= 10
    assert 50 <= int(refused.headers["ratelimit-reset"]) <= 60


async def test_the_session_s_limit_is_its_own(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"SESSION_RATE_LIMIT_PER_MINUTE": "2"})
    one, two = make_client(server), make_client(server)
    await one.session()
    await two.session()
    assert [(await one.chat("Hi")).status_code for _ in range(3)] == [200, 200, 429]
    assert (await two.chat("Hi")).status_code == 200


async def test_a_refused_message_costs_the_session_nothing(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    client = make_client(start_server(n8n, {"SESSION_RATE_LIMIT_PER_MINUTE": "2"}))
    await client.session()
    for _ in range(5):
        refused = await client.chat("")
        assert refused.status_code == 400
        assert refused.headers["ratelimit-limit"] == "100000", "the address paid for it"
    assert [(await client.chat("Hi")).status_code for _ in range(2)] == [200, 200]


async def test_a_retry_is_never_refused_by_a_limit_and_costs_nothing(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    client = make_client(start_server(n8n, {"RATE_LIMIT_PER_MINUTE": "3", "SESSION_RATE_LIMIT_PER_MINUTE": "1"}))
    await client.session()
    message_id = str(uuid.uuid4())
    assert (await client.chat("Hi", message_id=message_id)).status_code == 200
    for _ in range(5):
        assert (await client.chat("Hi", message_id=message_id)).status_code == 200
    assert (await client.chat("Ho")).status_code == 429, "the session's"
    assert (await client.chat("Ho")).json()["code"] == "rate_limited", "the address's"
    assert (await client.chat("Hi", message_id=message_id)).status_code == 200
    for _ in range(10):
        assert (await client.document(message_id)).status_code == 200
    assert len(n8n.requests) == 1


async def test_the_address_is_asked_before_the_token(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    client = make_client(start_server(n8n, {"RATE_LIMIT_PER_MINUTE": "2"}))
    client.token = "forged"
    assert [(await client.chat("Hi")).status_code for _ in range(4)] == [401, 401, 429, 429]


async def test_the_day_has_an_end(n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient) -> None:
    environment = {"DAILY_MESSAGE_LIMIT": "30", "TRUSTED_PROXIES": "127.0.0.1"}
    client = make_client(start_server(n8n, environment))
    await client.session()
    codes = [(await client.chat("Hi")).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429], "a tenth of it for one address"
    refused = await client.chat("Hi")
    assert refused.json()["code"] == "daily_limit_reached"
    assert 1 <= refused.json()["retry_after"] <= 86400
    elsewhere = {"X-Forwarded-For": "203.0.113.9"}
    assert (await client.chat("Hi", headers=elsewhere)).status_code == 200


async def test_forwarded_addresses_count_only_from_trusted_proxies_and_from_the_right(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    trusting = start_server(n8n, {"RATE_LIMIT_PER_MINUTE": "2", "TRUSTED_PROXIES": "127.0.0.1"})
    client = make_client(trusting)

    async def session(forwarded: str) -> int:
        return (await client.session(headers={"X-Forwarded-For": forwarded})).status_code

    assert [await session("203.0.113.1") for _ in range(3)] == [201, 201, 429]
    assert await session("203.0.113.2") == 201
    assert await session("203.0.113.77, 203.0.113.1") == 429, "what a client wrote on the left is not believed"
    assert [await session(f"2001:db8:1:2::{number}") for number in range(3)] == [201, 201, 429], "one /64"
    assert await session("2001:db8:1:3::1") == 201
    assert (await client.http.get("/health")).json()["status"] == "ok"

    wary = start_server(n8n, {"RATE_LIMIT_PER_MINUTE": "2", "TRUSTED_PROXIES": "192.0.2.1"})
    client = make_client(wary)
    assert [await session(f"203.0.113.{number}") for number in range(3)] == [201, 201, 429]
    health = (await client.http.get("/health")).json()
    assert health["status"] == "degraded"
    assert "TRUSTED_PROXIES" in health["checks"]["service"]["detail"]
    async with asyncio.timeout(5):
        while "TRUSTED_PROXIES" not in wary.log:
            await asyncio.sleep(0.05)
    assert "203.0.113" not in wary.log
    assert "127.0.0.1 sends" not in wary.log


def test_a_flood_of_addresses_leaves_memory_flat(n8n: ScriptedN8n, start_server: StartServer, *, long: bool) -> None:
    server = start_server(n8n, {"TRUSTED_PROXIES": "127.0.0.1", "LOG_LEVEL": "WARNING"})
    count = 150_000 if long else 20_000
    _flood(server, 0, 1000)
    before = server.rss_bytes()
    _flood(server, 1000, count)
    grown = server.rss_bytes() - before
    # Each address may cost what a bucket takes, up to the declared number of buckets (100,000).
    assert grown < min(count, 100_000) * 600 + 8_000_000
    assert httpx.get(f"{server.url}/health", trust_env=False, verify=NO_TLS).status_code == httpx.codes.OK


def _flood(server: ChatServer, first: int, count: int) -> None:
    with RawClient(server.url) as client:
        for number in range(first, first + count):
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            client.send(request("POST", "/api/v1/session/refresh", f"X-Forwarded-For: {address}", body=b""))
            assert client.answer().status == httpx.codes.UNAUTHORIZED


async def test_uncounted_calls_are_never_limited(server: ChatServer, visitor: ChatClient, n8n: ScriptedN8n) -> None:
    n8n.answer(answer_json({"output": "yes"}))
    assert server.process.poll() is None
    for _ in range(100):
        answer = await visitor.http.get("/api/v1/session", headers={"Authorization": f"Bearer {visitor.token}"})
        assert answer.status_code == 200
        assert "ratelimit-limit" not in answer.headers
