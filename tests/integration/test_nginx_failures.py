"""deploy/nginx.conf where instances fail: what is sent once, what goes to another instance, what clients are told."""

import asyncio
import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import StartServer
from tests.support import processes
from tests.support.answers import answer_json, answer_stream, cut, drop_before_head, stall
from tests.support.background import Gate, eventually
from tests.support.client import ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.nginx import Nginx, Visitor
from tests.support.ports import free_port
from tests.support.postgres_mode import metric, until

REPLY = "/api/v1/chat/0b7f9c3e-9d2a-4c1e-8f0b-3a5d7e9c1b2f"
GONE = answer_json({"code": "reply_gone"}, status=404)
HURRY = {"proxy_read_timeout 60s;": "proxy_read_timeout 1s;"}


@pytest.fixture(name="instances")
def _instances() -> Iterator[list[ScriptedN8n]]:
    """Give three servers that stand in the place of instances and fail in ways in which chatcore does not when told."""
    with ScriptedN8n() as one, ScriptedN8n() as other, ScriptedN8n() as third:
        yield [one, other, third]


def ports(instances: list[ScriptedN8n]) -> list[int]:
    return [instance.port for instance in instances]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("path", ["/api/v1/chat", "/chat", "/v1/chat/completions", f"{REPLY}/feedback"])
async def test_a_message_is_sent_once_though_its_instance_breaks_off(
    instances: list[ScriptedN8n], path: str, *, reset: bool
) -> None:
    for instance in instances:
        instance.answer(drop_before_head(reset=reset))
    with Nginx(ports(instances), tls=False) as nginx:
        nginx.start()
        async with ChatClient(nginx.url) as client:
            answer = await client.http.post(path, json={"message": "Hi"})
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    told = answer.json()
    assert (told["status"], told["code"]) == (502, "http_502")
    assert "Please try again" in told["detail"]
    assert sum(len(instance.requests) for instance in instances) == 1


async def test_a_message_is_sent_once_though_its_instance_hangs(instances: list[ScriptedN8n]) -> None:
    for instance in instances:
        instance.answer(stall())
    with Nginx(ports(instances), HURRY, tls=False) as nginx:
        nginx.start()
        async with ChatClient(nginx.url) as client:
            answer = await client.http.post("/api/v1/chat", json={"message": "Hi"})
            assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (504, 504, "http_504")
            assert sum(len(instance.requests) for instance in instances) == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_question_about_a_reply_goes_from_one_instance_to_the_next(
    instances: list[ScriptedN8n], method: str
) -> None:
    for instance in instances:
        instance.answer(drop_before_head())
    with Nginx(ports(instances), tls=False) as nginx:
        nginx.start()
        async with ChatClient(nginx.url) as client:
            answer = await client.http.request(method, REPLY)
            assert (answer.status_code, answer.json()["code"]) == (502, "http_502")
            assert [len(instance.requests) for instance in instances] == [1, 1, 1]
            for finder in instances:
                for instance in instances:
                    instance.answer(GONE)
                finder.answer(answer_json({"content": "Here"}))
                answer = await client.http.request(method, REPLY)
                assert (answer.status_code, answer.json()) == (200, {"content": "Here"})


async def test_connections_to_instances_are_used_again(instances: list[ScriptedN8n]) -> None:
    with Nginx(ports(instances), tls=False) as nginx:
        nginx.start()
        for instance in instances:
            instance.answer(answer_json({}))
        async with ChatClient(nginx.url) as client:
            for _ in range(40):
                assert (await client.http.post("/api/v1/session")).status_code == 200
    [asked] = [instance for instance in instances if instance.requests]
    assert len(asked.requests) == 40
    assert asked.connections <= 2, "one for each worker of nginx"
    assert b"connection:" not in asked.requests[0].raw_head.lower()


async def test_an_instance_that_is_gone_is_passed_over(n8n: ScriptedN8n, start_server: StartServer) -> None:
    serving = start_server(n8n)
    with Nginx([free_port(), serving.port, free_port()]) as nginx:
        nginx.start()
        for number in range(10):
            async with Visitor(nginx.url, address=f"127.0.0.{number + 40}") as visitor:
                assert (await visitor.session()).status_code == 201
                assert (await visitor.chat("Hi")).json()["content"] == "Echo: Hi"
        assert "Connection refused" in nginx.log
    assert len(n8n.requests) == 10


async def test_an_instance_that_is_marked_ends_its_replies_while_new_messages_go_elsewhere(
    n8n: ScriptedN8n, start_server: StartServer
) -> None:
    """The steps of a rolling restart, where instances share nothing."""
    servers = [start_server(n8n) for _ in range(3)]
    gate = Gate()
    n8n.next(answer_stream(["One ", "two"], gate))
    with Nginx([server.port for server in servers]) as nginx:
        nginx.start()
        async with Visitor(nginx.url) as visitor:
            await visitor.session()
            async with visitor.stream("Count") as stream:
                message_id = (await stream.next("start")).data["message_id"]
                await stream.next("delta")
                [owner] = [server for server in servers if metric(server, "chatcore_readers")]
                marked = nginx.file.read_text("utf-8").replace(f":{owner.port} ", f":{owner.port} down ")
                processes.write_for_servers(nginx.file, marked)
                nginx.reload()
                async with visitor.again() as later:
                    # Each of its two old processes says so. Until then it may still take a call.
                    await eventually(lambda: nginx.log.count("gracefully shutting down") == 2)
                    owner.send_signal(signal.SIGTERM)
                    for _ in range(9):
                        assert (await later.chat("Hi")).json()["content"] == "Echo: Hi"
                    assert (await later.document(message_id)).json()["code"] == "reply_gone"
                gate.open()
                assert (await stream.next("done")).data["finish_reason"] == "complete"
            assert await asyncio.to_thread(owner.wait) == 0


async def test_what_a_visitor_sees_whose_instance_is_killed(n8n: ScriptedN8n, start_server: StartServer) -> None:
    servers = [start_server(n8n) for _ in range(3)]
    n8n.next(stall("Once upon"))
    with Nginx([server.port for server in servers]) as nginx:
        nginx.start()
        async with Visitor(nginx.url) as visitor:
            await visitor.session()
            async with visitor.stream("A story") as stream:
                message_id = (await stream.next("start")).data["message_id"]
                await stream.next("delta")
                [owner] = [server for server in servers if metric(server, "chatcore_readers")]
                owner.kill()
                with pytest.raises(httpx.RemoteProtocolError):
                    await stream.next("done")
            assert (await visitor.document(message_id)).json()["code"] == "reply_gone"
            again = await visitor.chat("A story", message_id=message_id)
            assert again.json()["content"] == "Echo: A story", "in stateless mode it runs again"
            assert (await visitor.reply("Hi")).text == "Echo: Hi"


async def test_one_address_cannot_take_all_connections(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n)
    lines = {"limit_conn chatcore_visitors 100;": "limit_conn chatcore_visitors 2;"}
    n8n.answer(stall("Once upon"))
    with Nginx([server.port] * 3, lines) as nginx:
        nginx.start()
        async with (
            Visitor(nginx.url, address="127.0.0.61") as greedy,
            Visitor(nginx.url, address="127.0.0.62") as other,
        ):
            await greedy.session()
            await other.session()
            async with greedy.stream("One") as one, greedy.stream("Two") as two:
                await one.next("delta")
                await two.next("delta")
                refused = await greedy.chat("Three")
                assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
                assert refused.headers["content-type"] == "application/problem+json"
                assert int(refused.headers["retry-after"]) > 0
                async with other.stream("Me") as served:
                    assert served.status == 200
                    await served.next("delta")
            n8n.answer(answer_json({"output": "at last"}))

            async def served_again() -> bool:
                return (await greedy.chat("Four")).status_code == 200

            async with asyncio.timeout(10):
                while not await served_again():
                    await asyncio.sleep(0.02)


async def test_errors_of_chatcore_pass_as_they_are(n8n: ScriptedN8n, start_server: StartServer) -> None:
    n8n.answer(cut())
    with Nginx([start_server(n8n).port] * 3) as nginx:
        nginx.start()
        async with Visitor(nginx.url) as visitor:
            await visitor.session()
            failed = await visitor.chat("Hi")
            assert (failed.status_code, failed.json()["code"]) == (502, "upstream_invalid")
            n8n.refuse()
            n8n.disconnect()
            await until(lambda: n8n.open_connections == 0)
            failed = await visitor.chat("Hi")
            assert (failed.status_code, failed.json()["code"]) == (503, "upstream_unavailable")
            visitor.token = "forged"
            assert (await visitor.chat("Hi")).json()["code"] == "token_invalid"
