"""deploy/nginx.conf before three instances of PostgreSQL mode: restarts under load, and instances that die."""

import asyncio
import os
import random
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import documented
from tests.support.answers import answer_stream, hold, stall
from tests.support.background import Gate
from tests.support.client import ChatClient
from tests.support.crowd import Crowd, at_all_paces, check_kept
from tests.support.databases import RedisServer, shared_postgres
from tests.support.n8n import ScriptedN8n, echo
from tests.support.nginx import Nginx, Visitor
from tests.support.postgres_mode import FOUND_OUT, Mode, check_figures, health, messages_of, metric, until
from tests.support.server import ChatServer

ANY_INSTANCE = {
    "    hash $chat_key consistent;": "    #hash $chat_key consistent;",
    "    #least_conn;": "    least_conn;",
}

DELAY = {"SHUTDOWN_DELAY_SECONDS": "1"}


class Site:
    """Instances by number, nginx before them, and the n8n behind."""

    def __init__(self, n8n: ScriptedN8n, mode: Mode) -> None:
        self.n8n = n8n
        self.mode = mode
        self.servers = mode.start_all(3)
        self.nginx = Nginx([server.port for server in self.servers], ANY_INSTANCE, tls=False)

    def owner(self) -> ChatServer:
        """The instance that runs the only reply in flight."""
        [server] = [one for one in self.servers if metric(one, "chatcore_replies_in_flight")]
        return server

    def readers(self) -> float:
        """How many clients wait for replies, in all instances."""
        return sum(metric(server, "chatcore_readers") for server in self.servers)

    def replace(self, server: ChatServer) -> None:
        """Start an instance in the place of one that has ended, at its port."""
        number = self.servers.index(server)
        self.servers[number] = self.mode.start(number, port=server.port)


@pytest.fixture(name="site", scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    database = shared_postgres().new_database()
    with RedisServer() as redis, ScriptedN8n() as n8n:
        redis.start()
        with Mode(n8n, database, redis.url, tmp_path_factory.mktemp("journals"), **DELAY) as mode:
            site = Site(n8n, mode)
            with site.nginx as nginx:
                nginx.start()
                yield site
            for server in site.servers:
                assert not server.crashes
        assert n8n.faults == []
    database.drop()


@pytest.fixture(name="commands_folder")
def _commands_folder(site: Site, tmp_path: Path) -> Iterator[Path]:
    """Give a folder with nginx and a `systemctl` by which instances restart as a service manager restarts them."""
    calls, answers, folder = tmp_path / "calls", tmp_path / "answers", tmp_path / "bin"
    folder.mkdir()
    os.mkfifo(calls)
    os.mkfifo(answers)
    site.nginx.command(folder)
    (folder / "systemctl").write_text(f'#!/bin/sh\necho "$@" > {calls}\nread done < {answers}\n', "utf-8")
    (folder / "systemctl").chmod(0o755)

    def serve() -> None:
        while call := calls.read_text("utf-8").split():
            verb, port = call[0], int(call[1].removeprefix("chatcore@"))
            [server] = [one for one in site.servers if one.port == port]
            assert (verb, server.stop(60)) == ("restart", 0)
            site.replace(server)
            answers.write_text("done\n", "utf-8")

    manager = threading.Thread(target=serve, daemon=True)
    manager.start()
    yield folder
    calls.write_text("\n", "utf-8")
    manager.join(60)


async def test_the_documented_rolling_restart_fails_no_request_and_loses_nothing(
    site: Site, commands_folder: Path, tmp_path: Path
) -> None:
    before = [server.process.pid for server in site.servers]
    site.n8n.answer(at_all_paces)
    crowd = Crowd(random.Random(), keep_alive=False)  # noqa: S311 - which message is sent when
    await crowd.meet(site.nginx.url)
    crowd.begin()
    (tmp_path / "place").mkdir()
    place = documented.Place(tmp_path / "place")
    place.environment["PATH"] = f"{commands_folder}:{place.environment['PATH']}"
    text = documented.commands("docs/scaling.md", "Restart one after the other")
    ours = {"/etc/nginx/conf.d/chatcore.conf": str(site.nginx.file)}
    ours["8001 8002 8003"] = " ".join(str(server.port) for server in site.servers)
    configured = site.nginx.file.read_text("utf-8")
    await asyncio.to_thread(place.run, text, ours, seconds=120)
    await crowd.end()
    assert not set(before) & {server.process.pid for server in site.servers}
    assert site.nginx.file.read_text("utf-8") == configured
    assert len(crowd.acknowledged) == len(crowd.messages) > 50
    check_kept(site.mode.database, crowd, site.n8n)
    check_figures(site.mode.database)
    await crowd.leave()
    async with Visitor(site.nginx.url) as visitor:
        await visitor.session()
        assert [(await visitor.chat(f"a{number}")).status_code for number in range(9)] == [200] * 9
    assert all(metric(server, 'chatcore_messages_total{bot="default"}') for server in site.servers), "all take part"


async def test_a_reply_outlives_the_stop_of_its_instance_and_is_resumed_elsewhere(site: Site) -> None:
    gate = Gate()
    site.n8n.next(answer_stream(["One ", "two"], gate))
    message_id = str(uuid.uuid4())
    async with Visitor(site.nginx.url) as visitor, Visitor(site.nginx.url) as later:
        await visitor.session()
        later.token, later.session_id = visitor.token, visitor.session_id
        async with visitor.stream("Count", message_id=message_id) as stream:
            first = await stream.next("delta")
            owner = site.owner()
            owner.send_signal(signal.SIGTERM)
            resumed = asyncio.create_task(later.resume(message_id, after=first.id))
            await until(lambda: site.readers() == 2)
            gate.open()
            there = await resumed
            assert (there.text, there.finish_reason) == ("two", "complete")
            assert (await stream.next("done")).data["finish_reason"] == "complete"
        assert await asyncio.to_thread(owner.wait) == 0
        site.n8n.answer(echo)
        assert [(await later.chat(f"Hi {number}")).status_code for number in range(9)] == [200] * 9
    site.replace(owner)
    assert len(messages_of(site.mode.database, str(visitor.session_id))) == 20


async def test_what_a_visitor_sees_whose_instance_is_killed(site: Site) -> None:
    site.n8n.next(stall("Once upon"))
    message_id = str(uuid.uuid4())
    async with Visitor(site.nginx.url) as visitor:
        await visitor.session()
        async with visitor.stream("A story", message_id=message_id) as stream:
            await stream.next("delta")
            owner = site.owner()
            async with ChatClient(next(one.url for one in site.servers if one is not owner)) as elsewhere:
                elsewhere.token = visitor.token
                async with elsewhere.follow(message_id) as there:
                    await there.next("delta")  # others have the text some 50 ms after its reader
            owner.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                await stream.next("done")
        asked = len(site.n8n.requests)
        async with visitor.follow(message_id) as again:
            assert (await again.next("delta")).data == {"content": "Once upon"}
            assert (await again.next("error", within=25.0)).data["code"] == "reply_gone"
            assert (await again.next("done")).data["finish_reason"] == "error"
        retried = await visitor.chat("A story", message_id=message_id)
        assert (retried.status_code, retried.json()["code"]) == (404, "reply_gone")
        assert len(site.n8n.requests) == asked, "a message that was cut off is not run a second time"
        assert (await visitor.chat("Hi")).status_code == 200
    site.replace(owner)


async def test_while_an_instance_drains_that_nginx_still_sends_to_messages_are_refused_and_run_nowhere(
    site: Site,
) -> None:
    """What the documented way spares visitors: 503 for what meets the instance that stops, never a second run."""
    gate = Gate()
    site.n8n.next(answer_stream(["One ", "two"], gate))
    async with Visitor(site.nginx.url) as visitor:
        await visitor.session()
        async with visitor.stream("Count") as stream:
            await stream.next("delta")
            owner = site.owner()
            owner.send_signal(signal.SIGTERM)
            await until(lambda: health(owner)["status"] == "unavailable")
            asked = len(site.n8n.requests)
            site.n8n.answer(hold(gate))
            ids = [str(uuid.uuid4()) for _ in range(12)]
            sent = [asyncio.create_task(visitor.chat("Hi", message_id=one)) for one in ids]
            async with asyncio.timeout(FOUND_OUT):
                while not any(one.done() for one in sent):
                    await asyncio.sleep(0.1)  # nginx may pass an instance over for 10 s that was gone a moment ago
                    ids.append(str(uuid.uuid4()))
                    sent.append(asyncio.create_task(visitor.chat("Hi", message_id=ids[-1])))
            gate.open()
            answers = [await one for one in sent]
            refused = [answer for answer in answers if answer.status_code != 200]
            for answer in refused:
                assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
                assert int(answer.headers["retry-after"]) > 0
            assert len(site.n8n.requests) - asked == len(answers) - len(refused) > 0
            assert (await stream.next("done")).data["finish_reason"] == "complete"
        assert await asyncio.to_thread(owner.wait) == 0
        again = [await visitor.chat("Hi", message_id=one) for one in ids]
        assert [answer.status_code for answer in again] == [200] * len(ids)
        assert len(site.n8n.requests) - asked == len(ids), "sent again, each has run once"
    site.replace(owner)
