"""Several instances of PostgreSQL mode behave as one: limits, replies, ids, erasing, restarts one after the other."""

import asyncio
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.answers import Answer, answer_stream, stall
from tests.support.background import Gate
from tests.support.client import ChatClient
from tests.support.crowd import Crowd, at_all_paces, check_kept
from tests.support.databases import PostgresServer, RedisServer, shared_postgres
from tests.support.n8n import Request, ScriptedN8n, echo
from tests.support.postgres_mode import AS_OPS, Balancer, Mode, check_figures, is_well, messages_of, until
from tests.support.server import ChatServer

COUNT = 3
PER_MINUTE = 60


class Cluster:
    """Three instances that started at the same moment on an empty database, and the n8n before which they stand."""

    def __init__(self, n8n: ScriptedN8n, mode: Mode) -> None:
        self.n8n = n8n
        self.mode = mode
        self.servers: list[ChatServer] = mode.start_all(COUNT, SESSION_RATE_LIMIT_PER_MINUTE=str(PER_MINUTE))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    database = shared_postgres().new_database()
    with RedisServer() as redis, ScriptedN8n() as n8n:
        redis.start()
        with Mode(n8n, database, redis.url, tmp_path_factory.mktemp("journals")) as mode:
            yield Cluster(n8n, mode)
        assert n8n.faults == []
    database.drop()


@pytest.fixture
async def visitor(cluster: Cluster) -> AsyncIterator[list[ChatClient]]:
    """Give one visitor as a client of each instance."""
    cluster.n8n.answer(echo)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(ChatClient(server.url)) for server in cluster.servers]
        assert (await clients[0].session()).status_code == 201
        for client in clients[1:]:
            client.token, client.session_id = clients[0].token, clients[0].session_id
        yield clients


def test_instances_that_start_together_migrate_once(cluster: Cluster) -> None:
    assert cluster.mode.database.sql("SELECT count(*) FROM chatcore.alembic_version") == [(1,)]
    assert cluster.mode.database.sql("SELECT count(*) FROM chatcore.meta WHERE name = 'hash_key'") == [(1,)]
    for server in cluster.servers:
        assert is_well(server)
        assert "Traceback" not in server.log


async def test_a_thousand_messages_at_once_meet_one_limit(cluster: Cluster, visitor: list[ChatClient]) -> None:
    asked = len(cluster.n8n.requests)
    began = time.monotonic()
    with Balancer(cluster.servers) as balancer:
        async with ChatClient(balancer.url) as client:
            client.token = visitor[0].token
            client.http.headers["Connection"] = "close"
            answers = await asyncio.gather(*(client.chat(f"at once {number}") for number in range(1000)))
    refilled = (time.monotonic() - began) * PER_MINUTE / 60
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}
    assert PER_MINUTE <= statuses[200] <= PER_MINUTE + refilled + 1
    assert len(cluster.n8n.requests) - asked == statuses[200]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 429} == {"rate_limited"}


async def test_a_reply_is_resumed_from_other_instances_with_the_same_events(
    cluster: Cluster, visitor: list[ChatClient]
) -> None:
    one, other, third = visitor
    gate = Gate()
    cluster.n8n.next(answer_stream(["One ", "two ", "three"], gate))
    message_id = str(uuid.uuid4())
    async with one.stream("Count, please", message_id=message_id) as here:
        first = await here.next("delta")
        async with other.follow(message_id) as there:
            assert there.status == 200
            again = await there.next("delta")
            assert (again.id, again.data) == (first.id, first.data)
            gate.open()
            rest = [(event.name, event.id, event.data) async for event in here]
            assert [(event.name, event.id, event.data) async for event in there] == rest
    assert rest[-1][0] == "done"
    resumed = await third.resume(message_id, after=first.id)
    assert [(event.name, event.id, event.data) for event in resumed.events] == rest
    assert (await other.document(message_id)).json()["content"] == "One two three"


async def test_a_reply_is_stopped_from_another_instance(cluster: Cluster, visitor: list[ChatClient]) -> None:
    one, other, third = visitor
    cluster.n8n.next(stall("It was a dark and stormy night"))
    message_id = str(uuid.uuid4())
    async with one.stream("A story, please", message_id=message_id) as here:
        await here.next("delta")
        assert (await other.stop(message_id)).status_code == 204
        done = await here.next("done", within=3.0)
    assert done.data["finish_reason"] == "stopped"
    reply = await third.resume(message_id)
    assert (reply.text, reply.finish_reason) == ("It was a dark and stormy night", "stopped")
    assert messages_of(cluster.mode.database, str(one.session_id)) == [
        (message_id, 0, "A story, please"),
        (message_id, 1, "It was a dark and stormy night"),
    ]


async def test_a_retry_joins_the_reply_of_another_instance(cluster: Cluster, visitor: list[ChatClient]) -> None:
    one, other, third = visitor
    gate = Gate()
    cluster.n8n.next(answer_stream(["Only ", "once"], gate))
    asked = len(cluster.n8n.requests)
    message_id = str(uuid.uuid4())
    async with one.stream("Do it once", message_id=message_id) as here:
        await here.next("delta")
        joining = asyncio.create_task(other.reply("Do it once", message_id=message_id))
        reused = await third.chat("Something else", message_id=message_id)
        assert (reused.status_code, reused.json()["code"]) == (409, "message_id_reused")
        gate.open()
        joined = await joining
        await here.next("done")
    assert (joined.text, joined.finish_reason) == ("Only once", "complete")
    later = await third.chat("Do it once", message_id=message_id)
    assert later.json()["content"] == "Only once"
    assert len(cluster.n8n.requests) == asked + 1


async def test_one_id_at_once_on_all_instances_runs_once(cluster: Cluster, visitor: list[ChatClient]) -> None:
    asked = len(cluster.n8n.requests)
    ids = [str(uuid.uuid4()) for _ in range(9)]
    sent = [client.chat(f"once: {message_id}", message_id=message_id) for message_id in ids for client in visitor * 2]
    answers = await asyncio.gather(*sent)
    assert [answer.status_code for answer in answers] == [200] * len(sent)
    for answer in answers:
        assert answer.json()["content"] == f"Echo: once: {answer.json()['message_id']}"
    assert len(cluster.n8n.requests) - asked == len(ids)
    assert len(messages_of(cluster.mode.database, str(visitor[0].session_id))) == 2 * len(ids)


async def test_a_session_that_is_erased_is_dead_on_all_instances_and_its_replies_stop(
    cluster: Cluster, visitor: list[ChatClient]
) -> None:
    one, other, _ = visitor
    assert (await one.chat("Remember this")).status_code == 200
    cluster.n8n.next(stall("I am "))
    hangups = cluster.n8n.hangups
    async with one.stream("A story, please") as here:
        await here.next("delta")
        path = f"/api/v1/admin/sessions/{one.session_id}"
        assert (await other.http.delete(path, headers=AS_OPS)).status_code == 204
        for client in visitor:
            answer = await client.chat("Are you there?")
            assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
        ended = [event async for event in here]
    assert ended[-1].name == "done"
    assert ended[-1].data["finish_reason"] != "complete"
    await until(lambda: cluster.n8n.hangups == hangups + 1)
    assert messages_of(cluster.mode.database, str(one.session_id)) == []
    kept = "SELECT count(*) FROM chatcore.turns WHERE session_id = %s"
    assert cluster.mode.database.sql(kept, one.session_id) == [(0,)]


async def test_a_reply_whose_instance_dies_ends_for_those_who_follow_it_elsewhere(
    cluster: Cluster, visitor: list[ChatClient]
) -> None:
    _, other, _ = visitor
    doomed = await asyncio.to_thread(cluster.mode.start, COUNT)
    async with ChatClient(doomed.url) as client:
        client.token = other.token
        cluster.n8n.next(stall("Once upon"))
        message_id = str(uuid.uuid4())
        async with client.stream("A story, please", message_id=message_id) as here, other.follow(message_id) as there:
            await here.next("delta")
            await there.next("delta")
            doomed.kill()
            error = await there.next("error", within=25.0)
            done = await there.next("done")
    assert (error.data["code"], done.data["finish_reason"]) == ("reply_gone", "error")
    asked = len(cluster.n8n.requests)
    again = await other.chat("A story, please", message_id=message_id)
    assert (again.status_code, again.json()["code"]) == (404, "reply_gone")
    assert len(cluster.n8n.requests) == asked, "a message that was cut off is not run a second time"


def slowly_for_some(request: Request) -> Answer:
    """Answer most at all paces, and some over seconds."""
    if request.text.startswith("b"):
        return answer_stream(["Echo: ", request.text[:3], request.text[3:]], gap=0.6)
    return at_all_paces(request)


async def test_a_rolling_restart_under_load_fails_no_request_and_loses_nothing(
    n8n: ScriptedN8n, tmp_path: Path
) -> None:
    n8n.answer(slowly_for_some)
    crowd = Crowd(random.Random(), keep_alive=False)  # noqa: S311 - which message is sent when
    with PostgresServer() as postgres, RedisServer() as redis:
        postgres.start()
        redis.start()
        with Mode(n8n, postgres.new_database(), redis.url, tmp_path, SHUTDOWN_DELAY_SECONDS="0.5") as mode:
            servers = await asyncio.to_thread(mode.start_all, COUNT)
            with Balancer(servers) as balancer:
                await crowd.meet(balancer.url)
                crowd.begin()
                for number in range(COUNT):
                    servers[number].send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(servers[number].wait) == 0
                    assert "Traceback" not in servers[number].log
                    balancer.remove(servers[number])
                    servers[number] = await asyncio.to_thread(mode.start, number)
                    balancer.add(servers[number])
                    await until(lambda: balancer.ready == COUNT)
                await crowd.end()
            assert len(crowd.acknowledged) == len(crowd.messages) > 50
            check_kept(mode.database, crowd, n8n)
            check_figures(mode.database)
            await crowd.leave()


def test_one_journal_belongs_to_one_instance(cluster: Cluster) -> None:
    second = cluster.mode.start(0, wait=False)
    assert second.wait(30.0) == 2
    assert "SPOOL_PATH" in second.log
