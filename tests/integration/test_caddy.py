"""deploy/Caddyfile in a real Caddy before three instances: streams, routing, addresses, files, instances that go."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import StartServer
from tests.support import instances
from tests.support.answers import Answer, answer_json, answer_stream, drop_before_head, stall
from tests.support.background import Gate
from tests.support.caddy import Caddy
from tests.support.n8n import Request, ScriptedN8n, echo
from tests.support.nginx import Visitor
from tests.support.postgres_mode import metric, until
from tests.support.uploads import FORM, PNG, file, form, message

MIB = 1 << 20
LEAST = "lb_policy least_conn"


Site = instances.Site[Caddy]


@pytest.fixture(name="site", scope="module")
def _site() -> Iterator[Site]:
    with (
        instances.three_instances(UPLOAD_MAX_BYTES=str(32 * MIB)) as (n8n, servers),
        Caddy([server.port for server in servers]) as caddy,
    ):
        caddy.start()
        yield Site(n8n, servers, caddy)


@pytest.fixture(name="visitor")
async def _visitor(site: Site) -> AsyncIterator[Visitor]:
    site.n8n.answer(echo)
    async with Visitor(site.proxy.url) as visitor:
        assert (await visitor.session()).status_code == 201
        yield visitor


async def test_text_comes_as_it_is_said(site: Site, visitor: Visitor) -> None:
    gate = Gate()
    site.n8n.next(answer_stream(["One ", "two"], gate))
    async with visitor.stream("Count") as stream:
        assert (await stream.next("delta")).data == {"content": "One "}
        gate.open()
        assert (await stream.next("done")).data["finish_reason"] == "complete"
    answer = await visitor.chat("Hi")
    assert answer.json()["content"] == "Echo: Hi"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_calls_about_a_reply_reach_the_instance_that_has_it(site: Site) -> None:
    count = 20
    site.n8n.answer(stall("Once upon"))
    asked = len(site.n8n.requests)

    async def converse() -> None:
        async with Visitor(site.proxy.url) as visitor:
            await visitor.session()
            message_id = str(uuid.uuid4())
            async with visitor.stream("A story", message_id=message_id) as stream:
                await stream.next("delta")
            async with visitor.again() as later:
                async with later.follow(message_id, after=1) as stream:
                    assert (await stream.next("delta")).data["content"] == "Once upon"
                assert (await later.stop(message_id)).status_code == 204
                again = await later.chat("A story", message_id=message_id)
                assert (again.status_code, again.json()["finish_reason"]) == (200, "stopped")

    await asyncio.gather(*(converse() for _ in range(count)))
    assert len(site.n8n.requests) == asked + count, "no message ran twice"
    assert all(metric(server, 'chatcore_messages_total{bot="default"}') for server in site.servers)


async def test_a_client_that_leaves_is_seen_to_leave(site: Site, visitor: Visitor) -> None:
    site.n8n.next(stall("Once upon"))
    message_id = str(uuid.uuid4())
    async with visitor.stream("A story", message_id=message_id) as stream:
        await stream.next("delta")
        assert site.readers() == 1
    await until(lambda: site.readers() == 0)
    assert (await visitor.stop(message_id)).status_code == 204


async def test_files_pass_through_while_they_come(site: Site, visitor: Visitor) -> None:
    data = bytes(range(256)) * (31 * MIB // 256)
    whole = form(message("What is this?"), file(PNG + data, "a.png", "image/png"))
    site.n8n.next(answer_json({"output": "A picture"}))
    headers = {"Authorization": f"Bearer {visitor.token}", "Content-Type": FORM}
    with instances.in_two_halves(site.n8n, whole, lambda: None) as (body, taken):
        answer = await visitor.http.post("/api/v1/chat", content=body, headers=headers)
    assert answer.json()["content"] == "A picture"
    assert PNG + data in b"".join(taken)


async def test_what_is_not_for_the_public(site: Site) -> None:
    async with Visitor(site.proxy.url) as here, Visitor(site.proxy.url, address="127.0.0.5") as there:
        for path in ("/metrics", "/%6detrics"):
            assert (await here.http.get(path)).status_code == 404
        for path in ("/admin", "/%61dmin", "/api/v1/admin/audit", "/api/v1/admin%2Faudit"):
            assert (await there.http.get(path)).status_code == 403
            assert (await here.http.get(path)).status_code == 404, "there is none in stateless mode"


async def test_no_forged_header_dodges_the_limit_of_an_address(n8n: ScriptedN8n, start_server: StartServer) -> None:
    limited = start_server(n8n, {"RATE_LIMIT_PER_MINUTE": "3"})
    with Caddy([limited.port] * 3) as caddy:
        caddy.start()
        async with Visitor(caddy.url, address="127.0.0.21") as one, Visitor(caddy.url, address="127.0.0.22") as other:
            assert [(await one.session()).status_code for _ in range(4)] == [201, 201, 201, 429]
            for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP"):
                assert (await one.session(headers={name: "203.0.113.1"})).status_code == 429, name
            assert (await other.session()).status_code == 201


async def test_behind_a_cdn_the_address_is_what_the_cdn_saw(n8n: ScriptedN8n, start_server: StartServer) -> None:
    limited = start_server(n8n, {"RATE_LIMIT_PER_MINUTE": "3", "TRUSTED_PROXIES": "127.0.0.1,127.0.0.31"})
    lines = {"#trusted_proxies 192.0.2.0/24": "trusted_proxies 127.0.0.31", "lb_policy header X-Chat-Session": LEAST}
    with Caddy([limited.port] * 3, lines) as caddy:
        caddy.start()
        async with Visitor(caddy.url, address="127.0.0.31") as cdn, Visitor(caddy.url, address="127.0.0.32") as forger:

            async def comes(by: Visitor, forwarded: str) -> int:
                return (await by.session(headers={"X-Forwarded-For": forwarded})).status_code

            assert [await comes(cdn, "203.0.113.1") for _ in range(4)] == [201, 201, 201, 429]
            assert await comes(cdn, "198.51.100.7, 203.0.113.1") == 429, "what the visitor wrote is on the left"
            assert await comes(cdn, "203.0.113.2") == 201
            assert [await comes(forger, f"203.0.113.{number}") for number in range(3, 7)] == [201, 201, 201, 429]


@pytest.mark.parametrize("reset", [False, True])
async def test_a_message_is_sent_once_though_its_instance_breaks_off(*, reset: bool) -> None:
    def answers(said: Request) -> Answer:
        return answer_json({}) if said.target == "/health/ready" else drop_before_head(reset=reset)

    with ScriptedN8n() as one, ScriptedN8n() as other, ScriptedN8n() as third:
        instances = (one, other, third)
        for instance in instances:
            instance.answer(answers)
        with Caddy([instance.port for instance in instances]) as caddy:
            caddy.start()
            async with Visitor(caddy.url) as visitor:
                answer = await visitor.http.post("/api/v1/chat", json={"message": "Hi"})
        assert answer.status_code == 502
        sent = [said for instance in instances for said in instance.requests if said.target == "/api/v1/chat"]
        assert len(sent) == 1


async def test_an_instance_that_stops_gets_no_messages_while_its_replies_go_on(
    n8n: ScriptedN8n, start_server: StartServer
) -> None:
    servers = [start_server(n8n, {"SHUTDOWN_DELAY_SECONDS": "3"}) for _ in range(3)]
    with Caddy([server.port for server in servers]) as caddy:
        caddy.start()
        gate = Gate()
        async with Visitor(caddy.url) as visitor:
            await visitor.session()
            n8n.next(answer_stream(["One ", "two"], gate))
            async with visitor.stream("Count") as stream:
                await stream.next("delta")
                [owner] = [server for server in servers if metric(server, "chatcore_readers")]
                owner.send_signal(signal.SIGTERM)
                while owner.process.poll() is None and "new_refused" not in owner.log:
                    assert (await visitor.chat("Hi")).status_code == 200
                sent = metric(owner, 'chatcore_messages_total{bot="default"}')
                for _ in range(20):
                    assert (await visitor.chat("Hi")).status_code == 200
                assert metric(owner, 'chatcore_messages_total{bot="default"}') == sent
                gate.open()
                assert (await stream.next("done")).data["finish_reason"] == "complete"
            assert await asyncio.to_thread(owner.wait) == 0
            assert (await visitor.chat("Hi")).status_code == 200
