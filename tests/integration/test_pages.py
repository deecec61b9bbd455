"""Pages as a browser gets them from the running main: headers, codings, HEAD, other origins, paths that climb."""

import gzip
import re

import httpx
import pytest

from tests.conftest import StartServer
from tests.support.client import NO_TLS
from tests.support.rawhttp import RawClient
from tests.support.server import ChatServer

ELSEWHERE = {"Origin": "https://elsewhere.test"}
PAGES = ["/", "/openapi.json", "/widget/demo.js"]


def get(server: ChatServer, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, f"{server.url}{path}", headers=lines, trust_env=False, verify=NO_TLS)


def test_the_page_comes_with_its_policy_and_the_headers_of_every_answer(server: ChatServer) -> None:
    answer = get(server, "/")
    assert answer.status_code == 200
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-request-id"]
    assert sorted(re.split(", ?", answer.headers["vary"])) == ["Accept-Encoding", "Origin"]
    assert f'src="{server.url}/widget/chat-widget-define.js"' in answer.text
    assert f"{server.url}/api" not in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_the_body(server: ChatServer, path: str) -> None:
    for coding in ("gzip", "identity"):
        whole = get(server, path, accept_encoding=coding)
        head = get(server, path, "HEAD", accept_encoding=coding)
        assert (head.status_code, head.content) == (200, b"")
        own = ("x-request-id", "date")
        assert {n: v for n, v in head.headers.items() if n not in own} == {
            n: v for n, v in whole.headers.items() if n not in own
        }


@pytest.mark.parametrize("path", PAGES)
def test_an_answer_304_leaves_the_connection_usable(server: ChatServer, path: str) -> None:
    with httpx.Client(base_url=server.url, trust_env=False, verify=NO_TLS) as client:
        etag = client.get(path).headers["etag"]
        again = client.get(path, headers={"If-None-Match": etag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in again.headers
        assert client.get(path).status_code == 200


def test_modules_may_be_loaded_by_any_page_and_the_page_by_its_own_alone(server: ChatServer) -> None:
    module = get(server, "/widget/demo.js", **ELSEWHERE)
    assert module.status_code == 200
    assert module.headers["access-control-allow-origin"] == "*"
    assert module.headers["cross-origin-resource-policy"] == "cross-origin"
    refused = get(server, "/", **ELSEWHERE)
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")


@pytest.mark.parametrize(
    "target",
    [
        "/widget/",
        "/widget/../chatcore/app.py",
        "/widget/../../main_stateless.py",
        "/widget/..%2f..%2fmain_stateless.py",
        "/widget/%2e%2e/routes/pages.py",
        "/widget//etc/passwd",
        "/widget/%00",
        "/widget/demo.html",
        "/widget/..\\demo.js",
    ],
)
def test_paths_that_climb_find_nothing(server: ChatServer, target: str) -> None:
    with RawClient(server.url) as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
        answer = client.answer()
    assert answer.status == 404
    assert b'"code":"not_found"' in answer.body


def test_a_host_made_up_by_an_attacker_is_not_repeated(server: ChatServer) -> None:
    with RawClient(server.url) as client:
        client.send(b'GET / HTTP/1.1\r\nHost: x"><script>alert(1)</script>\r\nAccept-Encoding: gzip\r\n\r\n')
        answer = client.answer()
    assert answer.status == 400 or b"alert" not in gzip.decompress(answer.body)


def test_a_proxy_that_is_trusted_tells_the_scheme(start_server: StartServer) -> None:
    webhook = "http://127.0.0.1:9/webhook/x"
    trusting = start_server(webhook)
    told = {"Host": "chat.example.com", "X-Forwarded-Proto": "https"}
    assert 'src="https://chat.example.com/widget/' in get(trusting, "/", **told).text
    wary = start_server(webhook, {"TRUSTED_PROXIES": "192.0.2.1"})
    assert 'src="http://chat.example.com/widget/' in get(wary, "/", **told).text


def test_the_page_can_be_switched_off(start_server: StartServer) -> None:
    server = start_server("http://127.0.0.1:9/webhook/x", {"DEMO_PAGE": "false"})
    assert get(server, "/").status_code == 404
    assert get(server, "/widget/demo.js").status_code == 200
