"""OpenAI's API and what no SDK would send: every refusal in its shape; and the modes that keep what was said."""

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import StartServer
from tests.support.client import NO_TLS
from tests.support.n8n import ScriptedN8n
from tests.support.openai_sdk import KEY, KEYS, program
from tests.support.rawhttp import RawClient, request
from tests.support.server import ChatServer

PATH = "/v1/chat/completions"
OPS = "ops-may-look-at-all-the-figures-0001"
HI: Any = [{"role": "user", "content": "Hi"}]
JSON = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
GOOD = json.dumps({"model": "default", "messages": HI}).encode()
MEBIBYTE = 1 << 20


@pytest.fixture(name="server")
def _server(start_server: StartServer, n8n: ScriptedN8n) -> ChatServer:
    return start_server(n8n, {**KEYS, "MAX_BODY_BYTES": "100"})


def ask(server: ChatServer, path: str, secret: str = "", method: str = "GET") -> httpx.Response:
    """Send one request with a Bearer secret, or without one."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return httpx.request(method, f"{server.url}{path}", headers=headers, trust_env=False, verify=NO_TLS)


def refused(answer: httpx.Response, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """See that it is an error as OpenAI writes them, and give what it says."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    assert answer.headers["access-control-allow-origin"] == "*"
    document = answer.json()
    assert set(document) == {"error"}
    error: dict[str, Any] = document["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["message"].endswith(".")
    return error


def test_every_refusal_has_openai_s_shape(server: ChatServer, n8n: ScriptedN8n) -> None:
    with httpx.Client(base_url=server.url, trust_env=False, verify=NO_TLS) as client:

        def post(body: bytes, **headers: str) -> httpx.Response:
            return client.post(PATH, content=body, headers={**JSON, **headers})

        refused(post(b""), 400, "invalid_json")
        refused(post(b"\xff\xfe"), 400, "invalid_json")
        refused(post(b"[" * 100_000), 400, "invalid_request", "body")
        refused(post(b"{}"), 400, "invalid_request", "model")
        refused(post(b'{"model":"default"}'), 400, "invalid_request", "messages")
        refused(post(b'{"model":"default","messages":[{"role":"user","content":7}]}'), 400, "invalid_request", HERE)
        refused(post(GOOD.replace(b"default", b"gpt-5")), 404, "model_not_found", "model")
        refused(post(GOOD.replace(b"default", b"../etc")), 404, "model_not_found", "model")
        refused(post(GOOD, **{"Content-Type": "text/plain"}), 415, "unsupported_media_type")
        refused(post(GOOD, **{"Content-Type": "multipart/form-data; boundary=x"}), 415, "unsupported_media_type")
        refused(post(GOOD, **{"Content-Encoding": "gzip"}), 415, "unsupported_media_type")
        refused(post(b" " * (4 * MEBIBYTE + 1)), 413, "body_too_large")
        refused(post(b'{"model":"default","n":2,"messages":[]}'), 400, "invalid_request", "n")
        for authorization in ("", f"Basic {KEY}", KEY, "Bearer"):
            answer = post(GOOD, Authorization=authorization)
            assert "API key" in refused(answer, 401, "token_missing")["message"]
            assert answer.headers["www-authenticate"] == "Bearer"
        refused(client.get(PATH, headers=JSON), 405, "method_not_allowed")
        refused(client.get("/v1/models/nobody", headers=JSON), 404, "model_not_found", "model")
        refused(client.get("/v1/models/%20", headers=JSON), 404, "model_not_found", "model")
        for path in ("/v1/", "/v1/models/", "/v1/models/a/b", "/v1/embeddings", "/v1/chat/completions/"):
            refused(client.post(path, content=GOOD, headers=JSON), 404, "not_found")
        assert client.head("/v1/models", headers=JSON).status_code == 200
        assert n8n.requests == []
        assert post(GOOD).status_code == 200
    assert KEY not in server.log
    assert "Traceback" not in server.log


HERE = "messages[0].content"


def test_a_header_twice_is_refused(server: ChatServer) -> None:
    line = f"Authorization: Bearer {KEY}"
    with RawClient(server.url) as raw:
        answer = raw.get("/v1/models", line, line)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["param"] == "authorization"


def test_a_conversation_of_megabytes_is_read_though_bodies_are_small(server: ChatServer, n8n: ScriptedN8n) -> None:
    turns = [{"role": "user", "content": "x" * 1000}, {"role": "assistant", "content": "y" * 1000}] * 1900
    body = json.dumps({"model": "default", "messages": [{"role": "system", "content": "rule"}, *turns, *HI]})
    assert 3.5 * MEBIBYTE < len(body) < 4 * MEBIBYTE
    answer = httpx.post(f"{server.url}{PATH}", content=body, headers=JSON, trust_env=False, verify=NO_TLS)
    assert answer.status_code == 200
    history = n8n.requests[0].json["history"]
    assert history[0] == {"role": "system", "content": "rule"}
    assert len(history) == 50


def test_any_page_may_ask_before_it_asks(server: ChatServer) -> None:
    asked = ("Origin: https://anywhere.example", "Access-Control-Request-Method: POST")
    with RawClient(server.url) as raw:
        raw.send(request("OPTIONS", PATH, *asked, "Access-Control-Request-Headers: authorization, x-session-id"))
        answer = raw.answer()
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "*")
    assert "Authorization" in answer.headers["access-control-allow-headers"]


async def test_without_keys_there_is_nothing(start_server: StartServer, n8n: ScriptedN8n) -> None:
    server = start_server(n8n)
    async with program(server) as sdk:
        for call in (sdk.models.list(), sdk.chat.completions.create(model="default", messages=HI)):
            with pytest.raises(openai.NotFoundError) as nothing:
                await call
            assert nothing.value.code == "not_found"
    token = ask(server, "/api/v1/session", method="POST").json()["token"]
    keyed = start_server(n8n, KEYS)
    refused(ask(keyed, "/v1/models", token), 401, "token_invalid")
    for path in ("/api/v1/session", "/api/v1/history"):
        answer = ask(keyed, path, KEY)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


async def test_a_program_s_messages_are_counted_where_a_mode_counts(
    start_server: StartServer, n8n: ScriptedN8n, tmp_path: Path
) -> None:
    environment = {**KEYS, "SQLITE_DB_PATH": str(tmp_path / "chat.db"), "ADMIN_TOKENS": f"ops:{OPS}"}
    server = start_server(n8n, {**environment, "N8N_WEBHOOK_URL_SALES": n8n.url}, main="main_sqlite.py")
    async with program(server) as sdk:
        for number in range(3):
            await sdk.chat.completions.create(model="sales", messages=HI, user=f"user-{number % 2}")
        stream: Any = await sdk.chat.completions.create(
            model="sales", messages=HI, stream=True, extra_headers={"Origin": "https://anywhere.example"}
        )
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
    report = ask(server, "/api/v1/admin/analytics?bot=sales", OPS).json()
    totals = report["totals"]
    assert (totals["sessions"], totals["messages"], totals["replies"], totals["errors"]) == (3, 4, 4, 0)
    assert report["top_origins"] == [{"origin": "", "sessions": 3, "messages": 4}]
    metrics = ask(server, "/metrics").text
    assert '\nchatcore_messages_total{bot="sales"} 4.0\n' in metrics
    assert KEY.encode() not in (tmp_path / "chat.db").read_bytes()
