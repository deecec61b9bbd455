"""What operators see of the running main: health, metrics whose labels stay bounded, logs that tell all but secrets."""

import asyncio
import base64
import json
import re
import uuid

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import answer_json, answer_text, cut
from tests.support.background import eventually
from tests.support.client import ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.rawhttp import request
from tests.support.refused import SOME_ID, ask, problem
from tests.support.server import ChatServer

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)(?: \d+)?')
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) \S+ \S.*")


def metrics(server: ChatServer, *lines: str) -> dict[str, float]:
    """Give every sample, its labels in its name."""
    answer = ask(server, request("GET", "/metrics", *lines))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = {}
    for line in answer.body.decode().splitlines():
        if line.startswith("#"):
            assert line.split(" ")[1] in {"HELP", "TYPE"}
            assert line.split(" ")[2].startswith("chatcore_")
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert match[1].startswith("chatcore_")
        samples[line.rsplit(" ", 1)[0]] = float(match[3])
    return samples


def metric(server: ChatServer, name: str) -> float:
    """Give the sum of a family's samples."""
    return sum(value for key, value in metrics(server).items() if key.split("{")[0] == name)


async def test_health_says_what_serves(server: ChatServer, visitor: ChatClient) -> None:
    answer = await visitor.http.get("/health")
    assert answer.status_code == 200
    document = answer.json()
    assert set(document) == {"status", "mode", "version", "uptime_seconds", "checks"}
    assert (document["status"], document["mode"]) == ("ok", "stateless")
    assert 0 <= document["uptime_seconds"] < 60
    assert all(check["status"] == "ok" for check in document["checks"].values())
    for path in ("/health/live", "/health/ready"):
        assert (await visitor.http.get(path)).status_code == 200
        assert (await visitor.http.head(path)).content == b""
    text = json.dumps(document)
    assert "127.0.0.1" not in text
    assert "webhook" not in text
    assert server.process.poll() is None


async def test_health_is_503_while_nobody_can_be_answered_and_recovers(
    server: ChatServer, visitor: ChatClient, n8n: ScriptedN8n
) -> None:
    n8n.refuse()
    n8n.disconnect()

    async def status() -> tuple[int, str]:
        await visitor.chat("Hi")
        answer = await visitor.http.get("/health")
        return answer.status_code, answer.json()["status"]

    async with asyncio.timeout(10):
        while await status() != (503, "unavailable"):
            await asyncio.sleep(0.02)
    refused = await visitor.chat("Hi")
    assert (refused.status_code, refused.json()["code"]) == (503, "upstream_unavailable")
    assert (await visitor.http.get("/health/ready")).status_code == 503
    assert (await visitor.http.get("/health/live")).status_code == 200
    unavailable = (await visitor.http.get("/health")).text
    assert str(n8n.port) not in unavailable
    assert "chatcore_circuit_open" in " ".join(metrics(server))
    assert metric(server, "chatcore_circuit_open") == 1
    n8n.listen()
    async with asyncio.timeout(20):
        while (await visitor.http.get("/health")).status_code != 200:
            await asyncio.sleep(0.05)
    assert (await visitor.chat("Hi")).status_code == 200
    assert metric(server, "chatcore_circuit_open") == 0


async def test_metrics_count_what_happens(server: ChatServer, visitor: ChatClient, n8n: ScriptedN8n) -> None:
    await visitor.chat("Hi")
    await visitor.reply("Hi")
    n8n.next(cut("some text"))
    await visitor.reply("Hi")
    message_id = str(uuid.uuid4())
    await visitor.chat("Hi", message_id=message_id)
    await visitor.chat("Hi", message_id=message_id)
    bearer = {"Authorization": f"Bearer {visitor.token}"}
    rated = await visitor.http.post(f"/api/v1/chat/{message_id}/feedback", json={"rating": "up"}, headers=bearer)
    assert (rated.status_code, rated.content) == (204, b"")
    found = metrics(server)
    assert found['chatcore_messages_total{bot="default"}'] == 4
    assert found['chatcore_replies_total{bot="default",finish_reason="complete"}'] == 3
    assert found['chatcore_replies_total{bot="default",finish_reason="error"}'] == 1
    assert found['chatcore_reply_errors_total{bot="default",code="upstream_invalid"}'] == 1
    assert found['chatcore_replies_joined_total{how="retry"}'] == 1
    assert found['chatcore_feedback_total{bot="default",rating="up"}'] == 1
    assert found['chatcore_sessions_total{bot="default",what="issued"}'] == 1
    assert found['chatcore_requests_total{method="POST",route="/api/v1/chat",status="200"}'] == 5
    assert found["chatcore_readers"] == 0
    assert found["chatcore_replies_in_flight"] == 0
    assert found["chatcore_process_resident_memory_bytes"] > 1_000_000


async def test_labels_stay_bounded_whatever_is_asked(server: ChatServer, visitor: ChatClient) -> None:
    async def storm(first: int) -> None:
        bearer = {"Authorization": f"Bearer {visitor.token}"}
        for number in range(first, first + 40):
            await visitor.http.get(f"/path/{number}")
            await visitor.http.get(f"/api/v1/chat/{uuid.uuid4()}", headers=bearer)
            await visitor.http.get(f"/widget/{number}.js")
            await visitor.http.request(f"{'M' * (number % 3)}-SEARCH"[-8:].lstrip("-"), f"/x{number}")
            await visitor.http.post("/api/v1/session", json={"bot": f"bot{number}"})
            await visitor.http.get("/health", headers={"X-Request-ID": f"id-{number}", "User-Agent": f"agent {number}"})
            await visitor.http.get("/api/v1/session", headers={"Origin": f"https://site{number}.test"})

    metrics(server)
    await storm(0)
    first = set(metrics(server))
    await storm(1000)
    assert set(metrics(server)) == first
    assert not [name for name in first if "site" in name or "id-" in name or "agent" in name or "/path" in name]


async def test_the_metrics_token_guards(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, {"METRICS_TOKEN": "a-token-for-the-one-who-collects"})
    for lines, code in (
        ((), "token_missing"),
        (("Authorization: Basic YTpi",), "token_missing"),
        (("Authorization: Bearer wrong",), "token_invalid"),
        (("Authorization: Bearer \xff\xfe",), "token_invalid"),
        (("Authorization: Bearer a-token-for-the-one-who-collect",), "token_invalid"),
    ):
        answer = ask(server, request("GET", "/metrics", *lines))
        assert answer.status == 401
        assert json.loads(answer.body)["code"] == code
        assert answer.headers["www-authenticate"] == "Bearer"
        assert b"chatcore_" not in answer.body
    assert metrics(server, "Authorization: Bearer a-token-for-the-one-who-collects")


async def test_what_this_mode_does_not_store(server: ChatServer, visitor: ChatClient) -> None:
    bearer = f"Authorization: Bearer {visitor.token}"
    agent = f"User-Agent: {visitor.http.headers['user-agent']}"
    problem(ask(server, request("GET", "/api/v1/history?limit=5", agent, bearer)), 404, "not_stored")
    problem(ask(server, request("GET", "/api/v1/history")), 401, "token_missing")
    for path in ("/api/v1/admin/analytics", "/api/v1/admin/analytics?from=x&to=y&interval=z"):
        problem(ask(server, request("GET", path, "Authorization: Bearer x")), 404, "not_stored")
    problem(ask(server, request("GET", "/api/v1/admin/sessions")), 404, "not_stored")
    problem(ask(server, request("POST", f"/api/v1/chat/{SOME_ID}/feedback")), 401, "token_missing")


async def _everything(server: ChatServer, client: ChatClient, n8n: ScriptedN8n) -> None:
    """Take every way a request can take, with texts that no log may hold."""
    await client.session({"page_url": "https://shop.test/secret-page"})
    await client.chat("secret-text", headers={"X-Request-ID": "the-chat"}, metadata={"a": "secret-data"})
    await client.reply("secret-text", headers={"X-Request-ID": "the-stream"})
    n8n.next(answer_json({"message": "secret-error at https://secret-host.test"}, status=500))
    await client.chat("secret-text", headers={"X-Request-ID": "the-failure"})
    n8n.next(answer_text("<html>secret-page</html>", status=502))
    await client.chat("secret-text")
    n8n.next(cut("secret-reply", reset=True))
    await client.reply("secret-text")
    await client.refresh()
    await client.chat("", headers={"X-Request-ID": "the-refused"})
    await client.http.post("/api/v1/chat", content=b'{"secret-member": 1}', headers={"X-Request-ID": "no-token"})
    header = base64.urlsafe_b64encode(b'{"alg":"secret-alg"}').decode().rstrip("=")
    for token in ("secret-token", f"{header}.secret-claims.secret-signature", "a.b.c"):
        await client.http.get("/api/v1/session", headers={"Authorization": f"Bearer {token}"})
    elsewhere = [(b"origin", b"https://evil.test\xe4"), (b"x-request-id", b"the-foreign")]
    await client.http.get("/api/v1/session", headers=elsewhere)
    await client.http.get("/api/v1/session", headers={"X-Forwarded-For": "203.0.113.77"})
    await client.http.post("/api/v1/session", headers={"X-Forwarded-For": "203.0.113.77"})
    await client.http.get("/secret-path?secret-query")
    await client.http.delete("/api/v1/session", headers={"Authorization": f"Bearer {client.token}"})
    ask(server, request("GET", "/health%0aERROR%20-%20forged", "User-Agent: a\tb"))
    n8n.refuse()
    n8n.disconnect()
    await client.chat("secret-text")


def _holds_nothing_secret(log: str, client: ChatClient, n8n: ScriptedN8n) -> None:
    assert "secret" not in log
    assert str(client.token) not in log
    assert str(client.token).split(".")[1][:40] not in log
    assert str(client.session_id) not in log
    assert "203.0.113.77" not in log
    assert str(n8n.port) not in log
    assert "/webhook" not in log
    assert "forged" not in log


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
async def test_json_logs(n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient, level: str) -> None:
    server = start_server(n8n, {"LOG_LEVEL": level})
    client = make_client(server)
    await _everything(server, client, n8n)
    await eventually(lambda: "upstream_unavailable" in server.log)
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.splitlines()]
    assert all({"time", "level", "request_id", "event", "message"} <= set(line) for line in lines)
    _holds_nothing_secret(server.log, client, n8n)
    for request_id, code in (("the-refused", "invalid_request"), ("no-token", "token_missing")):
        ended = [line for line in lines if line["request_id"] == request_id and line["event"] == "RequestEnded"]
        assert [line["code"] for line in ended] == [code]
    replies = {line["request_id"] for line in lines if line["event"] == "ReplyEnded"}
    assert {"the-chat", "the-stream", "the-failure"} <= replies, "a reply's lines have the id of its request"
    assert ("Decided" in {line["event"] for line in lines}) == (level == "DEBUG")


async def test_debug_explains_each_decision(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"LOG_LEVEL": "DEBUG", "LOG_FORMAT": "text"})
    client = make_client(server)
    await _everything(server, client, n8n)
    await eventually(lambda: "upstream_unavailable" in server.log)
    assert server.stop() == 0
    lines = server.log.splitlines()
    assert [line for line in lines if not TEXT_LINE.fullmatch(line)] == [], "whatever strangers sent"
    _holds_nothing_secret(server.log, client, n8n)
    told = "\n".join(line for line in lines if " the-chat " in line)
    for stage in (
        "origin: ",
        "address: 127.0.0.0",
        "address limit: ",
        "session and day limit: ",
        "token: session s_",
        "chat: ",
        "n8n: status 200",
    ):
        assert stage in told
    assert "the-foreign origin: 'https://evil.test\\xe4' is not allowed" in server.log
    assert "no-token refused: token_missing" in server.log
    assert "the-refused refused: invalid_request (" in server.log, "with the fields"


async def test_warnings_alone_by_default(n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient) -> None:
    server = start_server(n8n, {"LOG_LEVEL": None, "LOG_FORMAT": None})
    client = make_client(server)
    await _everything(server, client, n8n)
    await eventually(lambda: "upstream_unavailable" in server.log)
    assert server.stop() == 0
    lines = server.log.splitlines()
    lines.remove(f"chatcore listens on {server.url}")
    assert [line for line in lines if not TEXT_LINE.fullmatch(line)] == []
    assert not [line for line in lines if " INFO " in line or " DEBUG " in line]
    _holds_nothing_secret(server.log, client, n8n)
