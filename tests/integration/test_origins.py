"""Which websites may speak, tried from outside: every kind of origin, preflights, errors that a browser may read."""

import json
from collections.abc import Iterator

import pytest

from tests.conftest import StartServer
from tests.support.answers import answer_json
from tests.support.n8n import ScriptedN8n
from tests.support.rawhttp import Answer, RawClient, request
from tests.support.refused import AGENT, JSON, SOME_ID, ask, left_as_it_was, new_bearer, problem
from tests.support.server import ChatServer

SITE = "https://shop.example.com"
ALLOWED = f"{SITE}, https://*.example.org,http://localhost:3000 , https://xn--bcher-kva.example"
PREFLIGHT = "Access-Control-Request-Method: POST"
EXPOSED = {"x-request-id", "retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}
MESSAGE = b'{"message": "a"}'
GUARDED = [
    ("POST", "/api/v1/session"),
    ("GET", "/api/v1/session"),
    ("POST", "/api/v1/session/refresh"),
    ("DELETE", "/api/v1/session"),
    ("POST", "/api/v1/chat"),
    ("GET", f"/api/v1/chat/{SOME_ID}"),
    ("DELETE", f"/api/v1/chat/{SOME_ID}"),
    ("POST", f"/api/v1/chat/{SOME_ID}/feedback"),
    ("GET", "/api/v1/history"),
    ("GET", "/api/v1/admin/analytics"),
    ("OPTIONS", "/api/v1/chat"),
    ("PUT", "/api/v1/chat"),
    ("GET", "/api/v1/nothing"),
]
EXEMPT = ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"]

SERVED = [
    SITE,
    "HTTPS://Shop.Example.COM",
    f"{SITE}:443",
    "https://a.example.org",
    "https://a.b.example.org",
    "http://localhost:3000",
    "https://xn--bcher-kva.example",
]
FOREIGN = [
    "null",
    "NULL",
    "",
    "*",
    "https://evil.test",
    "http://shop.example.com",
    "https://shop.example.com:8443",
    "https://shop.example.com.evil.test",
    "https://evilshop.example.com",
    "https://shop.example.com@evil.test",
    "https://evil.test#https://shop.example.com",
    "https://shop.example.com/",
    "https://shop.example.com/path",
    "https://shop.example.com?x",
    "https://shop.example.com:443:443",
    "https://shop.example.com:0443",
    "https://example.org",
    "https://evilexample.org",
    "https://.example.org",
    "https://a.example.org.evil.test",
    "http://a.example.org",
    "https://a_b\\.example.org",
    "https://*.example.org",
    "http://localhost",
    "http://localhost:30000",
    "http://127.0.0.1:3000",
    "https://b\xfccher.example",
    f"{SITE} https://evil.test",
    f"{SITE}, {SITE}",
    f"https://evil.test, {SITE}",
    "shop.example.com",
    "file://",
    "chrome-extension://abcdef",
    "javascript:alert(1)",
    "https://" + "a" * 5000 + ".example.org",
]


@pytest.fixture(scope="module")
def n8n() -> Iterator[ScriptedN8n]:
    """Give one scripted n8n for all tests here."""
    with ScriptedN8n() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def server(n8n: ScriptedN8n) -> Iterator[ChatServer]:
    """Give one server that three websites may use."""
    environment = {"N8N_WEBHOOK_URL": n8n.url, "ALLOWED_ORIGINS": ALLOWED}
    with ChatServer(environment) as started, left_as_it_was(started):
        yield started


@pytest.fixture(scope="module")
def bearer(server: ChatServer) -> str:
    """Give the header line of a session's token."""
    return new_bearer(server)


def session(server: ChatServer, *lines: str, host: str = "chat.test") -> Answer:
    """Ask for a session as a page of some origin does."""
    head = "\r\n".join(["POST /api/v1/session HTTP/1.1", f"Host: {host}", AGENT, *lines, "", ""])
    return ask(server, head.encode("latin-1"))


def metric(server: ChatServer, name: str) -> float:
    """Give the sum of a family's values."""
    lines = ask(server, request("GET", "/metrics")).body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def may_read(answer: Answer, origin: str) -> None:
    """Check that a page of `origin` may read the answer, and no other."""
    assert answer.headers["access-control-allow-origin"] == origin
    assert set(answer.headers["access-control-expose-headers"].lower().split(", ")) == EXPOSED
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("origin", SERVED)
def test_allowed_origins_are_echoed_exactly(server: ChatServer, n8n: ScriptedN8n, bearer: str, origin: str) -> None:
    answer = session(server, f"Origin: {origin}")
    assert answer.status == 201
    may_read(answer, origin)
    lines = (AGENT, bearer, JSON, f"Origin: {origin}")
    answer = ask(server, request("POST", "/api/v1/chat", *lines, body=MESSAGE))
    assert answer.status == 200
    may_read(answer, origin)
    assert n8n.requests[-1].json["context"]["origin"] == origin
    answer = ask(server, request("POST", "/api/v1/chat", *lines, "Accept: text/event-stream", body=MESSAGE))
    assert answer.headers["content-type"].startswith("text/event-stream")
    may_read(answer, origin)


@pytest.mark.parametrize("origin", FOREIGN)
def test_foreign_origins_get_no_session_and_reach_nobody(
    server: ChatServer, n8n: ScriptedN8n, bearer: str, origin: str
) -> None:
    asked, issued = len(n8n.requests), metric(server, "chatcore_sessions_total")
    problem(session(server, f"Origin: {origin}"), 403, "origin_not_allowed")
    chat = request("POST", "/api/v1/chat", AGENT, bearer, JSON, f"Origin: {origin}", body=MESSAGE)
    problem(ask(server, chat), 403, "origin_not_allowed")
    assert len(n8n.requests) == asked
    assert metric(server, "chatcore_sessions_total") == issued


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_the_origin_is_decided_before_anything_else(server: ChatServer, method: str, path: str) -> None:
    lines = ("Origin: https://evil.test", "Authorization: Bearer x", "Content-Length: 999999999")
    with RawClient(server.url) as client:
        client.send(request(method, path, *lines))
        answer = client.answer()
    problem(answer, 403, "origin_not_allowed")
    assert "allow" not in answer.headers
    assert "ratelimit-limit" not in answer.headers


def test_several_origin_headers_are_foreign(server: ChatServer) -> None:
    for lines in ([SITE, SITE], [SITE, "https://evil.test"], ["https://evil.test", SITE], ["null", SITE]):
        answer = session(server, *(f"Origin: {origin}" for origin in lines))
        problem(answer, 403, "origin_not_allowed")


def test_without_an_origin_it_serves(server: ChatServer) -> None:
    answer = session(server)
    assert answer.status == 201
    assert answer.headers["vary"] == "Origin"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("chat.test", "http://chat.test", 201),
        ("chat.test", "https://chat.test", 201),
        ("chat.test:80", "http://chat.test", 201),
        ("chat.test:443", "https://chat.test", 201),
        ("chat.test", "http://chat.test:80", 201),
        ("chat.test", "https://chat.test:443", 201),
        ("chat.test:8000", "http://chat.test:8000", 201),
        ("chat.test:8000", "https://chat.test:8000", 201),
        ("Chat.Test", "https://chat.test", 201),
        ("[::1]:8000", "http://[::1]:8000", 201),
        ("chat.test:8000", "http://chat.test", 403),
        ("chat.test", "http://chat.test:8000", 403),
        ("chat.test:443", "http://chat.test", 403),
        ("chat.test:80", "https://chat.test", 403),
        ("chat.test", "https://a.chat.test", 403),
        ("a.chat.test", "https://chat.test", 403),
        ("chat.test", "ftp://chat.test", 403),
        ("chat.test", "chat.test", 403),
        ("", "http://", 403),
        ("evil.test/", "http://evil.test", 403),
        ("x@evil.test", "http://evil.test", 403),
        ("chat.test, evil.test", "http://evil.test", 403),
    ],
)
def test_the_own_origin_is_that_of_host(server: ChatServer, host: str, origin: str, status: int) -> None:
    answer = session(server, f"Origin: {origin}", host=host)
    assert answer.status == status
    assert answer.headers.get("access-control-allow-origin") == (origin if status == 201 else None)


def test_public_url_fixes_the_own_origin(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, {"PUBLIC_URL": "https://chat.example.net/"})
    for host in ("chat.example.net", "10.0.0.5:8000", "elsewhere.test"):
        assert session(server, "Origin: https://chat.example.net", host=host).status == 201
        assert session(server, f"Origin: http://{host}", host=host).status == 403
    assert session(server, f"Origin: {SITE}").status == 403


@pytest.mark.parametrize("path", [path for _, path in GUARDED])
@pytest.mark.parametrize("asked", [None, "authorization,content-type", "x-evil, x-more"])
def test_preflights(server: ChatServer, path: str, asked: str | None) -> None:
    lines = [PREFLIGHT, *([] if asked is None else [f"Access-Control-Request-Headers: {asked}"])]
    answer = ask(server, request("OPTIONS", path, f"Origin: {SITE}", *lines))
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == SITE
    assert set(answer.headers["access-control-allow-methods"].split(", ")) == {"GET", "POST", "DELETE"}
    allowed = "Authorization, Content-Type, Last-Event-ID, X-Request-ID, X-Chat-Session, traceparent, tracestate"
    assert answer.headers["access-control-allow-headers"] == allowed
    assert 600 <= int(answer.headers["access-control-max-age"]) <= 7200
    assert answer.headers["vary"] == "Origin"
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-credentials" not in answer.headers
    assert "content-length" not in answer.headers
    assert "ratelimit-limit" not in answer.headers
    refused = ask(server, request("OPTIONS", path, "Origin: https://evil.test", *lines))
    problem(refused, 403, "origin_not_allowed")
    assert not [name for name in refused.headers if name.startswith("access-control-")]


def test_options_that_is_no_preflight_is_405(server: ChatServer) -> None:
    answer = ask(server, request("OPTIONS", "/api/v1/chat", f"Origin: {SITE}"))
    problem(answer, 405, "method_not_allowed", origin=SITE)
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", EXEMPT)
def test_operations_are_for_any_origin(server: ChatServer, path: str) -> None:
    for origin in ("https://evil.test", "null", SITE):
        answer = ask(server, request("GET", path, f"Origin: {origin}"))
        assert answer.status == 200
        assert answer.headers.get("access-control-allow-origin") in {None, "*"}


@pytest.mark.parametrize("path", ["/healthy", "/metrics-of-others", "/openapi.json.bak", "/metrics/x"])
def test_paths_that_begin_like_operations_are_not_exempt(server: ChatServer, path: str) -> None:
    answer = ask(server, request("GET", path, "Origin: https://evil.test"))
    assert answer.status in {403, 404}
    assert "access-control-allow-origin" not in answer.headers


def test_browser_modules_are_for_any_page(server: ChatServer) -> None:
    for origin in ("https://evil.test", "null", SITE):
        for path, status in (("/widget/demo.js", 200), ("/widget/nothing.js", 404)):
            answer = ask(server, request("GET", path, f"Origin: {origin}"))
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


def test_errors_may_be_read_by_the_page_that_met_them(
    server: ChatServer, n8n: ScriptedN8n, bearer: str, start_server: StartServer
) -> None:
    line = f"Origin: {SITE}"
    problem(ask(server, request("GET", "/api/v1/session", line)), 401, "token_missing", origin=SITE)
    problem(ask(server, request("GET", "/api/v1/nothing", line)), 404, "not_found", origin=SITE)
    gone = ask(server, request("GET", f"/api/v1/chat/{SOME_ID}", line, AGENT, bearer))
    problem(gone, 404, "reply_gone", origin=SITE)
    head = (AGENT, bearer, line)
    problem(ask(server, request("POST", "/api/v1/chat", *head, JSON, body=b"{")), 400, "invalid_json", origin=SITE)
    problem(ask(server, request("POST", "/api/v1/chat", *head, body=b"{}")), 415, "unsupported_media_type", origin=SITE)
    large = ask(server, request("POST", "/api/v1/chat", *head, JSON, "Content-Length: 300000"))
    problem(large, 413, "body_too_large", origin=SITE)
    for kind in ((), ("Accept: text/event-stream",)):
        n8n.next(answer_json({"message": "Error in workflow"}, status=500))
        failed = ask(server, request("POST", "/api/v1/chat", *head, JSON, *kind, body=MESSAGE))
        problem(failed, 502, "upstream_error", origin=SITE)
    limits = {"ALLOWED_ORIGINS": ALLOWED, "RATE_LIMIT_PER_MINUTE": "1"}
    strict = start_server("http://127.0.0.1:9/webhook/x", limits)
    lines = (AGENT, bearer, line, JSON)
    away = ask(strict, request("POST", "/api/v1/chat", *lines, body=MESSAGE))
    problem(away, 503, "upstream_unavailable", "retry_after", origin=SITE)
    limited = ask(strict, request("POST", "/api/v1/chat", *lines, body=MESSAGE))
    document = problem(limited, 429, "rate_limited", "retry_after", origin=SITE)
    assert int(limited.headers["retry-after"]) == document["retry_after"] >= 1
    assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"} <= set(limited.headers)


def test_any_origin_only_with_the_demo(start_server: StartServer) -> None:
    server = start_server(None, {"ALLOWED_ORIGINS": "*"}, options=["--demo"])
    answer = session(server, "Origin: https://anywhere.test")
    assert answer.status == 201
    may_read(answer, "https://anywhere.test")
    assert json.loads(session(server, "Origin: null").body)["code"] == "origin_not_allowed"
