"""deploy/nginx.conf in a real nginx before three instances of stateless mode: what visitors notice of it."""

import asyncio
import subprocess
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.support import instances
from tests.support.answers import Wait, answer_bytes, answer_json, answer_stream, line, stall
from tests.support.background import Gate
from tests.support.certificates import certificates
from tests.support.n8n import ScriptedN8n
from tests.support.nginx import Nginx, Visitor, trust
from tests.support.postgres_mode import metric, until
from tests.support.rawhttp import RawClient, request
from tests.support.server import ChatServer
from tests.support.uploads import BOUNDARY, FORM, PNG, file, form, message

MIB = 1 << 20
SILENT = "Be silent for longer than nginx waits"
SILENCE_SECONDS = 18.0


READ_TIMEOUT = {"proxy_read_timeout 60s;": "proxy_read_timeout 17s;"}
"""A little longer than chatcore is ever silent."""

Site = instances.Site[Nginx]


@pytest.fixture(name="site", scope="module")
def _site() -> Iterator[Site]:
    settings = {"UPLOAD_MAX_BYTES": str(32 * MIB), "PUBLIC_URL": "https://chat.example.com"}
    with (
        instances.three_instances(**settings) as (n8n, servers),
        Nginx([server.port for server in servers], READ_TIMEOUT) as nginx,
    ):
        nginx.start()
        yield Site(n8n, servers, nginx)
        assert not [told for told in nginx.log.splitlines() if "upstream" in told or "temporary file" in told]


@pytest.fixture(name="visitor")
async def _visitor(site: Site) -> AsyncIterator[Visitor]:
    async with Visitor(site.proxy.url) as visitor:
        assert (await visitor.session()).status_code == 201
        yield visitor


class InBackground:
    """A reply that says something and is then silent for long; it is asked for while other tests run."""

    def __init__(self, site: Site) -> None:
        self.said = b""
        self._site = site
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._site.proxy.url, verify=trust(), trust_env=False, timeout=30) as client:
            session = client.post("/api/v1/session").json()
            headers = {"Authorization": f"Bearer {session['token']}", "Accept": "text/event-stream"}
            self.said = client.post("/api/v1/chat", json={"message": SILENT}, headers=headers).content

    def wait(self) -> None:
        """Wait until it has ended."""
        self._thread.join(60)


@pytest.fixture(name="silent", scope="module", autouse=True)
def _silent(site: Site) -> Iterator[InBackground]:
    site.n8n.next(
        answer_bytes(line("begin"), line("item", "One"), Wait(SILENCE_SECONDS), line("item", " two"), line("end"))
    )
    asked = InBackground(site)
    while not site.n8n.requests:
        threading.Event().wait(0.01)
    yield asked
    asked.wait()


async def test_text_comes_as_it_is_said(site: Site, visitor: Visitor) -> None:
    gate = Gate()
    site.n8n.next(answer_stream(["One ", "two"], gate))
    async with visitor.stream("Count") as stream:
        assert (await stream.next("delta")).data == {"content": "One "}
        gate.open()
        assert (await stream.next("delta")).data == {"content": "two"}
        assert (await stream.next("done")).data["finish_reason"] == "complete"
    answer = await visitor.chat("Hi")
    assert answer.json()["content"] == "Echo: Hi"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_calls_about_a_reply_reach_the_instance_that_has_it(site: Site) -> None:
    """Many sessions at once: each reply is resumed over a new connection, its message sent again, and it is stopped."""
    count = 30
    before = [metric(server, 'chatcore_messages_total{bot="default"}') for server in site.servers]
    asked = len(site.n8n.requests)

    async def converse(number: int) -> None:
        async with Visitor(site.proxy.url, address=f"127.0.0.{number + 10}") as visitor:
            await visitor.session()
            site.n8n.answer(stall("Once upon"))
            message_id = str(uuid.uuid4())
            async with visitor.stream("A story", message_id=message_id) as stream:
                await stream.next("delta")
        async with visitor.again(address=f"127.0.0.{number + 110}") as later:
            async with later.follow(message_id, after=1) as stream:
                assert (await stream.next("delta")).data["content"] == "Once upon"
            assert (await later.document(message_id)).status_code == 202
            assert (await later.stop(message_id)).status_code == 204
            again = await later.chat("A story", message_id=message_id)
            assert (again.status_code, again.json()["finish_reason"]) == (200, "stopped")

    try:
        await asyncio.gather(*(converse(number) for number in range(count)))
    finally:
        site.n8n.answer(lambda said: answer_json({"output": f"Echo: {said.text}"}))
    assert len(site.n8n.requests) == asked + count, "no message ran twice"
    after = [metric(server, 'chatcore_messages_total{bot="default"}') for server in site.servers]
    assert all(later > earlier for earlier, later in zip(before, after, strict=True)), "all instances have some"


async def test_a_reply_is_found_in_an_instance_that_the_session_does_not_lead_to(site: Site) -> None:
    """As after an instance came or went: the reply is in one, and the session's name leads to another."""
    for server in site.servers:
        async with Visitor(server.url) as visitor:
            await visitor.session()
            message_id = (await visitor.chat("Remember this")).json()["message_id"]
            async with Visitor(site.proxy.url) as later:
                later.token, later.session_id = visitor.token, visitor.session_id
                assert (await later.document(message_id)).json()["content"] == "Echo: Remember this"
                gone = await later.document(str(uuid.uuid4()))
                assert (gone.status_code, gone.json()["code"]) == (404, "reply_gone")


async def test_a_client_that_leaves_is_seen_to_leave(site: Site, visitor: Visitor) -> None:
    before = site.readers()
    site.n8n.next(stall("Once upon"))
    message_id = str(uuid.uuid4())
    async with visitor.stream("A story", message_id=message_id) as stream:
        await stream.next("delta")
        assert site.readers() == before + 1
    await until(lambda: site.readers() <= before)
    assert (await visitor.stop(message_id)).status_code == 204


async def test_files_pass_through_and_never_lie_on_nginx_s_disk(site: Site, visitor: Visitor) -> None:
    def nothing_is_spooled() -> None:
        assert site.proxy.spooled == []

    data = bytes(range(256)) * (31 * MIB // 256)
    whole = form(message("What is this?"), file(PNG + data, "a.png", "image/png"))
    site.n8n.next(answer_json({"output": "A picture"}))
    with instances.in_two_halves(site.n8n, whole, nothing_is_spooled) as (body, taken):
        answer = await _upload(visitor, body, {"Content-Length": str(len(whole))})
    assert answer.json()["content"] == "A picture"
    assert PNG + data in b"".join(taken)
    nothing_is_spooled()


async def test_what_is_too_large_is_refused_in_chatcore_s_words(visitor: Visitor) -> None:
    begun = form(message(), file(b"x")).removesuffix(f"--{BOUNDARY}--\r\n".encode())

    async def body() -> AsyncIterator[bytes]:
        yield begun
        for _ in range(36):
            yield b"x" * MIB

    for more in ({}, {"Content-Length": str(len(begun) + 36 * MIB)}):
        answer = await _upload(visitor, body(), more)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def _upload(visitor: Visitor, body: AsyncIterator[bytes], more: Mapping[str, str]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {visitor.token}", "Content-Type": FORM, **more}
    return await visitor.http.post("/api/v1/chat", content=body, headers=headers)


def test_http_2_and_tls(site: Site, tmp_path: Path) -> None:
    curl = ("curl", "--silent", "--cacert", str(certificates().authority), "--output", "/dev/null")
    told = ("--write-out", "%{http_version} %{http_code} %{redirect_url}")
    health = f"{site.proxy.url}/health"

    def asked(*more: str) -> str:
        return subprocess.run([*curl, *told, *more], capture_output=True, text=True, check=False, timeout=20).stdout

    assert asked("--http2", health) == "2 200 "
    assert asked("--http1.1", health) == "1.1 200 "
    assert asked("--tls-max", "1.2", health) == "2 200 "
    redirect = f"http://127.0.0.1:{site.proxy.plain_port}/widget/x?y"
    assert asked("-X", "POST", redirect) == "1.1 308 https://127.0.0.1/widget/x?y"
    session = httpx.post(
        f"{site.proxy.url}/api/v1/session", verify=trust(), trust_env=False, headers={"User-Agent": "curl"}
    )
    (tmp_path / "a.png").write_bytes(PNG + bytes(8 * MIB))
    head = ("-A", "curl", "-H", f"Authorization: Bearer {session.json()['token']}")
    files = ("-F", 'request={"message": "What is this?"}', "-F", f"files=@{tmp_path}/a.png")
    site.n8n.next(answer_json({"output": "A picture"}))
    assert asked("--http2", *head, *files, f"{site.proxy.url}/api/v1/chat") == "2 200 "
    assert site.n8n.requests[-1].body.count(PNG + bytes(8 * MIB)) == 1


async def test_the_access_log_has_the_request_s_id_and_nobody_s_address(site: Site) -> None:
    async with Visitor(site.proxy.url, address="127.0.0.77") as visitor:
        answer = await visitor.session(headers={"X-Request-ID": "from-the-page", "X-Forwarded-For": "203.0.113.9"})
    assert answer.headers["x-request-id"] == "from-the-page"
    await until(lambda: "from-the-page" in site.proxy.access_log.read_text())
    [told] = [line for line in site.proxy.access_log.read_text().splitlines() if "from-the-page" in line]
    assert '201 "POST /api/v1/session HTTP/1.1"' in told
    assert "127.0.0.77" not in told
    assert "203.0.113.9" not in told


@pytest.mark.parametrize("path", ["/metrics", "//metrics", "/%6detrics", "/x/../metrics", "/metrics?x"])
async def test_nobody_sees_one_instance_s_metrics(site: Site, path: str) -> None:
    assert _status(site, path) == 404


@pytest.mark.parametrize("path", ["/admin", "/api/v1/admin/analytics", "//admin", "/%61dmin", "/api/v1//admin/audit"])
async def test_the_operators_page_is_not_for_the_public(site: Site, path: str) -> None:
    assert _status(site, path, "127.0.0.5") == 403
    assert _status(site, path) != 403


def _status(site: Site, path: str, address: str = "127.0.0.1") -> int:
    """Ask for a path as it is written; clients would tidy it up."""
    asked = ("curl", "--silent", "--path-as-is", "--interface", address, "--cacert", str(certificates().authority))
    told = ("--output", "/dev/null", "--write-out", "%{http_code}")
    done = subprocess.run(
        [*asked, *told, site.proxy.url + path], capture_output=True, text=True, check=True, timeout=20
    )
    return int(done.stdout)


@pytest.fixture(name="limited")
def _limited(n8n: ScriptedN8n, start_server: StartServer) -> ChatServer:
    return start_server(n8n, {"RATE_LIMIT_PER_MINUTE": "3"})


FORGED = (
    [("X-Forwarded-For", "203.0.113.1")],
    [("X-Forwarded-For", "203.0.113.2, 203.0.113.3")],
    [("X-Forwarded-For", "203.0.113.4"), ("X-Forwarded-For", "203.0.113.5")],
    [("X-Forwarded-For", "127.0.0.1")],
    [("X-Forwarded-For", "")],
    [("X-Real-IP", "203.0.113.6")],
    [("Forwarded", "for=203.0.113.7")],
    [("x-forwarded-for", "203.0.113.8"), ("X_Forwarded_For", "203.0.113.9")],
    [("CF-Connecting-IP", "203.0.113.10"), ("True-Client-IP", "203.0.113.11")],
)


async def test_no_forged_header_dodges_the_limit_of_an_address(limited: ChatServer) -> None:
    with Nginx([limited.port] * 3) as nginx:
        nginx.start()
        async with (
            Visitor(nginx.url, address="127.0.0.21") as greedy,
            Visitor(nginx.url, address="127.0.0.22") as other,
        ):
            assert [(await greedy.session()).status_code for _ in range(4)] == [201, 201, 201, 429]
            for headers in FORGED:
                answer = await greedy.http.post("/api/v1/session", headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited"), headers
            assert (await other.session()).status_code == 201, "others have limits of their own"
            assert (await other.http.get("/health")).json()["status"] == "ok"


async def test_behind_a_cdn_the_address_is_what_the_cdn_saw(limited: ChatServer) -> None:
    lines = {"#set_real_ip_from 192.0.2.0/24;": "set_real_ip_from 127.0.0.31;"}
    lines |= {"#real_ip_header": "real_ip_header", "#real_ip_recursive": "real_ip_recursive"}
    with Nginx([limited.port] * 3, lines) as nginx:
        nginx.start()
        async with Visitor(nginx.url, address="127.0.0.31") as cdn, Visitor(nginx.url, address="127.0.0.32") as forger:

            async def comes(by: Visitor, forwarded: str) -> int:
                return (await by.session(headers={"X-Forwarded-For": forwarded})).status_code

            assert [await comes(cdn, "203.0.113.1") for _ in range(4)] == [201, 201, 201, 429]
            assert await comes(cdn, "198.51.100.7, 203.0.113.1") == 429, "what the visitor wrote is on the left"
            assert await comes(cdn, "203.0.113.2") == 201
            assert [await comes(forger, f"203.0.113.{number}") for number in range(3, 7)] == [201, 201, 201, 429]


def test_a_head_without_an_end_is_not_waited_for(limited: ChatServer) -> None:
    lines = {"client_header_timeout 10s;": "client_header_timeout 1s;"}
    with Nginx([limited.port] * 3, lines, tls=False) as nginx:
        nginx.start()
        with RawClient(nginx.url) as client:
            client.send(request("GET", "/health")[:-2])
            assert client.ended()


def test_heartbeats_keep_a_silent_reply_alive(silent: InBackground) -> None:
    """The last test: what was asked for before the first one has to be there by now, or soon."""
    silent.wait()
    assert b": ping\n\n" in silent.said
    assert b'"content":" two"' in silent.said
    assert b'"finish_reason":"complete"' in silent.said
