"""PostgreSQL and Redis go away, hang, are slow or read-only: chat goes on as declared, and recovery needs no hand."""

import asyncio
import contextlib
import json
import resource
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.answers import answer_json
from tests.support.client import ChatClient
from tests.support.databases import PostgresServer, RedisServer
from tests.support.faultproxy import FaultProxy
from tests.support.n8n import ScriptedN8n
from tests.support.postgres import APP_PASSWORD, OWNER_PASSWORD
from tests.support.postgres_mode import (
    AS_OPS,
    Mode,
    check_figures,
    health,
    is_well,
    messages_of,
    metric,
    taken_connections,
    until,
)
from tests.support.server import ChatServer

SECRET = "what-only-visitors-know"
PASSWORD = "what-only-operators-know"


class Place:
    """PostgreSQL and Redis of a test's own, PostgreSQL behind a proxy that can be slow, and one visitor."""

    def __init__(self, n8n: ScriptedN8n, postgres: PostgresServer, redis: RedisServer, folder: Path) -> None:
        self.n8n = n8n
        self.postgres = postgres
        self.redis = redis
        self.database = postgres.new_database()
        self.between = FaultProxy(postgres.port)
        self.database.url = self.database.url.replace(f":{postgres.port}/", f":{self.between.port}/")
        self.mode = Mode(n8n, self.database, redis.url, folder)
        self.said: list[tuple[str, str]] = []
        self._client: ChatClient | None = None
        self._numbers = iter(range(10**6))

    async def start(self, **environment: str) -> ChatServer:
        """Start an instance, or start it again; the visitor stays the same."""
        server = await asyncio.to_thread(self.mode.start, 0, environment)
        client = ChatClient(server.url)
        if self._client is None:
            assert (await client.session()).status_code == 201
        else:
            await self._client.close()
            client.token, client.session_id = self._client.token, self._client.session_id
        self._client = client
        return server

    @property
    def client(self) -> ChatClient:
        assert self._client is not None
        return self._client

    async def say(self, *, within: float = 5.0) -> str:
        """Send a message that must be answered, in time; gives its id."""
        message_id = str(uuid.uuid4())
        text = f"{SECRET} {next(self._numbers)}"
        self.said.append((message_id, text))  # also where it is refused, so that a check finds it missing
        began = time.monotonic()
        answer = await self.client.chat(text, message_id=message_id)
        took = time.monotonic() - began
        assert (answer.status_code, answer.json().get("content")) == (200, f"Echo: {text}"), answer.text
        assert took < within, f"it took {took:.1f} s"
        return message_id

    async def say_many(self, count: int, *, within: float = 5.0) -> None:
        """Send messages one after the other."""
        for _ in range(count):
            await self.say(within=within)

    async def say_again(self, message_id: str) -> httpx.Response:
        """Send a message once more."""
        return await self.client.chat(dict(self.said)[message_id], message_id=message_id)

    async def get(self, path: str) -> httpx.Response:
        """Ask as the visitor, or below `/api/v1/admin` as an operator."""
        headers = AS_OPS if "/admin/" in path else {"Authorization": f"Bearer {self.client.token}"}
        return await self.client.http.get(path, headers=headers)

    async def erase(self) -> int:
        """Erase the visitor's session; gives the status."""
        headers = {"Authorization": f"Bearer {self.client.token}"}
        return (await self.client.http.delete("/api/v1/session", headers=headers)).status_code

    def check(self, server: ChatServer) -> None:
        """Everything that was said is in the database once, in order, with its reply; nothing private was told."""
        rows = messages_of(self.database, str(self.client.session_id))
        expected = [(one, role, text if role == 0 else f"Echo: {text}") for one, text in self.said for role in (0, 1)]
        refused = {
            str(row[0]) for row in self.database.sql("SELECT message_id FROM chatcore.turns WHERE state = 'released'")
        }
        rows = [row for row in rows if row[0] not in refused]
        assert rows == expected
        check_figures(self.database)
        assert [request.text for request in self.n8n.requests] == [text for _, text in self.said]
        self.check_told(server)

    def check_told(self, server: ChatServer) -> None:
        """Neither the log nor `/health` tells what is private, and no bug shows."""
        told = server.log
        shown = str(health(server))
        for secret in (SECRET, PASSWORD, APP_PASSWORD, OWNER_PASSWORD, APP_PASSWORD.replace(" ", "%20")):
            assert secret not in told + shown
        assert "127.0.0.1" not in shown
        assert "Traceback" not in told
        assert "Crashed" not in told

    async def close(self) -> None:
        """End all but the servers of others."""
        if self._client is not None:
            await self._client.close()
        self.between.stop()


@pytest.fixture
async def place(n8n: ScriptedN8n, tmp_path: Path) -> AsyncIterator[Place]:
    with PostgresServer() as postgres, RedisServer(password=PASSWORD) as redis:
        postgres.start()
        redis.start()
        one = Place(n8n, postgres, redis, tmp_path)
        with one.mode:
            yield one
        await one.close()


async def until_told(server: ChatServer, part: str, status: str = "degraded") -> dict[str, Any]:
    """Wait until `/health` tells of a part's trouble; gives all that it says."""
    await until(lambda: health(server)["checks"][part]["status"] == status)
    return health(server)


async def refused(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


async def test_redis_that_is_killed_costs_shared_limits_and_nothing_else(place: Place) -> None:
    server = await place.start(SESSION_RATE_LIMIT_PER_MINUTE="4")
    for _ in range(2):  # with Redis, then without
        await place.say_many(4)
        answer = await place.client.chat("one more")
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        if place.redis.running:
            await asyncio.to_thread(place.redis.kill)
    told = await until_told(server, "redis")
    assert (told["http"], told["status"]) == (200, "degraded")
    assert "limits are counted by each process alone" in told["checks"]["redis"]["detail"]
    assert metric(server, "chatcore_redis_up") == 0
    assert (await place.client.resume(place.said[-1][0])).text == f"Echo: {place.said[-1][1]}", "it is its own"

    await asyncio.to_thread(place.redis.start)
    await until(lambda: is_well(server))
    assert metric(server, "chatcore_redis_up") == 1
    assert metric(server, 'chatcore_redis_events_total{what="returned"}') == 1
    await place.say_many(4)
    assert (await place.client.chat("one more")).status_code == 429, "counted in Redis again, which forgot all"
    assert server.log.count('"RedisChanged"') == 2
    place.check(server)


async def test_redis_that_hangs_holds_nobody_up_for_long(place: Place) -> None:
    server = await place.start()
    await place.say()
    await asyncio.to_thread(place.redis.pause)
    await place.say(within=4.0)
    await until_told(server, "redis")
    began = time.monotonic()
    await place.say_many(10)
    assert time.monotonic() - began < 3.0
    await asyncio.to_thread(place.redis.resume)
    await until(lambda: is_well(server))
    await place.say()
    place.check(server)


@pytest.mark.parametrize("how", ["killed", "stopped", "hangs"])
async def test_without_postgresql_chat_goes_on_and_all_is_written_when_it_is_back(place: Place, how: str) -> None:
    server = await place.start()
    await place.say_many(2)
    known = place.said[-1][0]
    away = {"killed": place.postgres.kill, "stopped": place.postgres.stop, "hangs": place.postgres.pause}[how]
    await asyncio.to_thread(away)
    first = await place.say(within=12.0 if how == "hangs" else 5.0)
    told = await until_told(server, "postgres")
    assert (told["http"], told["status"]) == (200, "degraded")
    assert "wait in the journal" in told["checks"]["postgres"]["detail"]
    await place.say_many(3, within=2.0)  # nobody waits for a server that hangs once that is known
    assert (await place.say_again(first)).json()["content"].startswith("Echo"), "it is still in memory"
    assert (await place.say_again(known)).status_code == 200
    paths = ("/api/v1/history", "/api/v1/admin/sessions", "/api/v1/admin/analytics", "/api/v1/admin/audit")
    for answer in await asyncio.gather(*(place.get(path) for path in paths)):
        assert await refused(answer), answer.request.url.path
    assert await place.erase() == 503
    assert metric(server, 'chatcore_store_events_total{what="not_writable"}') == 1

    await asyncio.to_thread(place.postgres.resume if how == "hangs" else place.postgres.start)
    await until(lambda: is_well(server))
    await place.say()
    await asyncio.to_thread(place.check, server)
    assert metric(server, 'chatcore_store_events_total{what="writable"}') == 1
    told_changes = [json.loads(line)["what"] for line in server.log.splitlines() if '"StoreChanged"' in line]
    # Where all this takes long, the first clean-up falls into it.
    assert [what for what in told_changes if not what.startswith("clean")] == ["not_writable", "writable"]
    assert len((await place.get("/api/v1/history?limit=100")).json()["messages"]) == 2 * len(place.said)
    assert [message["content"] for message in (await place.get("/api/v1/history?limit=2")).json()["messages"]] == [
        place.said[-1][1],
        f"Echo: {place.said[-1][1]}",
    ]
    assert await place.erase() == 204
    assert messages_of(place.database, str(place.client.session_id)) == []


async def test_a_slow_postgresql_makes_chat_slower_and_nothing_else(place: Place) -> None:
    server = await place.start()
    place.between.delay = 0.1
    await asyncio.gather(*(place.say(within=15.0) for _ in range(20)))
    assert is_well(server)
    place.between.delay = 0.0
    await place.say()
    place.said.sort(key=lambda one: [message_id for message_id, _, _ in _kept(place)].index(one[0]))
    place.n8n.requests.sort(key=lambda request: [text for _, text in place.said].index(request.text))
    place.check(server)


def _kept(place: Place) -> list[tuple[str, int, str]]:
    return messages_of(place.database, str(place.client.session_id))


async def test_a_network_that_swallows_everything_is_an_outage_too(place: Place) -> None:
    server = await place.start()
    await place.say()
    place.between.frozen = True
    await place.say(within=12.0)
    await until_told(server, "postgres")
    await place.say_many(3)
    place.between.frozen = False
    await until(lambda: is_well(server))
    await place.say()
    place.check(server)


async def test_a_postgresql_without_free_connections_is_waited_for(n8n: ScriptedN8n, tmp_path: Path) -> None:
    few = {"max_connections": "8", "superuser_reserved_connections": "3"}
    with PostgresServer(settings=few) as postgres, RedisServer(password=PASSWORD) as redis:
        postgres.start()
        redis.start()
        place = Place(n8n, postgres, redis, tmp_path)
        with place.mode, contextlib.closing(place.between.background):
            server = await place.start(DATABASE_POOL_SIZE="4")
            await place.say()
            with contextlib.ExitStack() as taken:
                well = True
                while well:  # the server may be quicker to take a place that has just become free
                    place.between.cut()
                    taken.enter_context(taken_connections(place.database, leave=0))
                    await place.say()
                    well = await asyncio.to_thread(is_well, server, "postgres")
                told = await until_told(server, "postgres")
                assert "no connection left" in told["checks"]["postgres"]["detail"]
                await place.say_many(2)
            await until(lambda: is_well(server))
            await place.say()
            await asyncio.to_thread(place.check, server)
            await place.close()


async def test_a_database_that_became_read_only_is_waited_for(place: Place) -> None:
    server = await place.start()
    await place.say()
    name = place.database.name
    place.postgres.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    place.between.cut()
    await place.say()
    told = await until_told(server, "postgres")
    assert "read-only" in told["checks"]["postgres"]["detail"]
    await place.say_many(2)
    assert len((await place.get("/api/v1/history")).json()["messages"]) == 2, "what is there can be read"
    assert await place.erase() == 503
    assert await refused(await place.get("/api/v1/admin/sessions")), "nothing is read that is not recorded"
    place.postgres.sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    place.between.cut()
    await until(lambda: is_well(server))
    await place.say()
    place.check(server)


async def test_a_failover_to_a_replica_is_waited_for(place: Place) -> None:
    server = await place.start()
    await place.say()
    with await asyncio.to_thread(place.postgres.replica) as replica:
        await place.say()
        rows = place.database.sql("SELECT count(*) FROM chatcore.messages")
        new = type(place.database)(replica, place.database.name)
        await until(lambda: new.sql("SELECT count(*) FROM chatcore.messages") == rows)
        await asyncio.to_thread(place.postgres.kill)
        place.between.target = replica.port
        await place.say()
        await until_told(server, "postgres")
        await until(lambda: "read-only" in health(server)["checks"]["postgres"]["detail"])
        await place.say_many(2)
        await asyncio.to_thread(replica.promote)
        await until(lambda: is_well(server))
        await place.say()
        place.database = new
        place.check(server)


async def test_without_both_each_instance_goes_on_alone(place: Place) -> None:
    server = await place.start(SESSION_RATE_LIMIT_PER_MINUTE="30")
    await place.say()
    await asyncio.to_thread(place.redis.kill)
    await asyncio.to_thread(place.postgres.kill)
    message_id = await place.say()
    told = await until_told(server, "postgres")
    assert told["checks"]["redis"]["status"] == "degraded"
    assert (told["http"], told["status"]) == (200, "degraded")
    await place.say_many(3)
    assert (await place.say_again(message_id)).status_code == 200
    answer = await place.client.chat("another text", message_id=message_id)
    assert answer.json()["code"] == "message_id_reused"
    reply = await place.client.resume(str(uuid.uuid4()))
    assert (reply.status, reply.problem["code"]) == (503, "store_unavailable"), "another instance may have it"
    await asyncio.to_thread(place.postgres.start)
    await until(lambda: is_well(server, "postgres"))
    await asyncio.to_thread(place.redis.start)
    await until(lambda: is_well(server))
    await place.say()
    place.check(server)


async def test_a_message_that_only_the_journal_knows_is_not_run_again(place: Place) -> None:
    server = await place.start()
    await place.say()
    await asyncio.to_thread(place.redis.kill)
    await asyncio.to_thread(place.postgres.kill)
    message_id = await place.say()
    server.kill()
    server = await place.start()
    answer = await place.say_again(message_id)
    assert (answer.status_code, answer.json()["code"]) == (404, "reply_gone")
    answer = await place.client.chat("another text", message_id=message_id)
    assert answer.json()["code"] == "message_id_reused"
    await asyncio.to_thread(place.redis.start)
    await asyncio.to_thread(place.postgres.start)
    await until(lambda: is_well(server))
    assert (await place.say_again(message_id)).status_code == 200, "it is stored now"
    place.check(server)


async def test_an_instance_killed_with_a_full_hand_writes_all_back_also_when_it_starts_without_postgresql(
    place: Place,
) -> None:
    server = await place.start()
    await place.say_many(2)
    await asyncio.to_thread(place.postgres.kill)
    await place.say_many(3)
    for _ in range(2):
        server.kill()
        server = await place.start()
        assert place.mode.journal().stat().st_mode & 0o777 == 0o600
        assert (await until_told(server, "postgres"))["http"] == 200
        await place.say_many(3)
    await asyncio.to_thread(place.postgres.start)
    await until(lambda: is_well(server))
    await place.say()
    place.check(server)
    assert (await place.say_again(place.said[2][0])).json()["content"] == f"Echo: {place.said[2][1]}"
    assert server.stop() == 0


async def test_an_instance_that_stops_while_postgresql_is_away_leaves_it_to_the_next_start(place: Place) -> None:
    server = await place.start()
    await place.say()
    await asyncio.to_thread(place.postgres.kill)
    await place.say_many(3)
    assert await asyncio.to_thread(server.stop, 40.0) == 0
    await asyncio.to_thread(place.postgres.start)
    server = await place.start()
    await until(lambda: is_well(server))
    await place.say()
    place.check(server)


async def test_a_first_start_without_postgresql_says_so_and_ends(place: Place) -> None:
    await asyncio.to_thread(place.postgres.kill)
    server = place.mode.start(wait=False)
    assert await asyncio.to_thread(server.wait, 30.0) == 2
    assert "PostgreSQL" in server.log
    assert "Traceback" not in server.log
    assert APP_PASSWORD not in server.log


async def test_a_full_journal_refuses_new_messages_until_it_was_written_back(place: Place) -> None:
    server = await place.start(SPOOL_MAX_BYTES=str(1 << 20))
    await place.say()
    await asyncio.to_thread(place.postgres.kill)
    size = 100_000
    place.n8n.answer(answer_json({"output": "x" * size}))
    answers = [await place.client.chat("a long answer, please") for _ in range(13)]
    asked = [answer.status_code for answer in answers].index(503)
    assert asked in range(10, 13), "about what fits"
    assert await refused(answers[asked])
    ran = len(place.n8n.requests)
    assert await refused(await place.client.chat("and another"))
    assert len(place.n8n.requests) == ran, "n8n is not asked in vain"
    told = await until_told(server, "postgres", "unavailable")
    assert (told["http"], told["status"]) == (503, "unavailable")
    assert "full" in told["checks"]["postgres"]["detail"]
    await asyncio.to_thread(place.postgres.start)
    await until(lambda: is_well(server))
    assert (await place.client.chat("and another")).status_code == 200
    kept = place.database.sql("SELECT count(*) FROM chatcore.messages WHERE length(content) = %s", size)
    assert kept == [(asked + 1,)]
    check_figures(place.database)
    place.check_told(server)


async def test_a_journal_that_cannot_be_written_says_done_to_nobody(place: Place) -> None:
    server = await place.start()
    await place.say()
    await asyncio.to_thread(place.postgres.kill)
    await place.say()
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, hard))
    unsaved = await place.client.reply("not to be kept")
    assert unsaved.finish_reason != "complete"
    told = await until_told(server, "postgres", "unavailable")
    assert "journal cannot be written" in told["checks"]["postgres"]["detail"]
    ran = len(place.n8n.requests)
    assert await refused(await place.client.chat("nor this"))
    assert len(place.n8n.requests) == ran
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    await until(lambda: health(server)["http"] == 200)
    await place.say()
    await asyncio.to_thread(place.postgres.start)
    await until(lambda: is_well(server))
    await place.say()
    for message_id, text in place.said:
        assert (message_id, 1, f"Echo: {text}") in _kept(place)
    check_figures(place.database)


async def test_strict_recording_refuses_at_once_and_asks_nobody(place: Place) -> None:
    server = await place.start(PERSIST_STRICT="true")
    await place.say_many(3)
    await asyncio.to_thread(place.postgres.kill)
    for number in range(3):
        began = time.monotonic()
        assert await refused(await place.client.chat(f"not answered {number}"))
        assert time.monotonic() - began < 3.0
    told = await until_told(server, "postgres", "unavailable")
    assert (told["http"], "PERSIST_STRICT" in told["checks"]["postgres"]["detail"]) == (503, True)
    await asyncio.to_thread(place.postgres.start)
    await until(lambda: is_well(server))
    await place.say()
    place.check(server)
