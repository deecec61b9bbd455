"""SQLite mode as visitors and operators meet it: what lasts through a stop and a kill, and what is never written."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MakeClient, StartServer
from tests.support import warm
from tests.support.answers import answer_json, answer_stream, cut
from tests.support.background import Gate, eventually
from tests.support.client import NO_TLS, ChatClient
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer

OPS = "ops-may-look-at-all-the-figures-0001"
AS_OPS = {"Authorization": f"Bearer {OPS}"}
FOUND_OUT = 30.0
"""How long to wait for what the server does by itself, on a busy machine."""

Serve = Callable[..., ChatServer]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "data" / "chat.db"


@pytest.fixture
def serve(start_server: StartServer, n8n: ScriptedN8n, database: Path) -> Serve:
    """Give `serve(**environment)`: a server of SQLite mode, each time on the same file."""
    database.parent.mkdir()

    def start(**environment: str | None) -> ChatServer:
        settings = {"SQLITE_DB_PATH": str(database), "ADMIN_TOKENS": f"ops:{OPS}", **environment}
        return start_server(n8n, settings, main="main_sqlite.py")

    return start


def end(server: ChatServer, how: str) -> None:
    """Stop the server properly, or kill it."""
    if how == "kill":
        server.kill()
    else:
        assert server.stop() == 0


def again(make_client: MakeClient, client: ChatClient, server: ChatServer) -> ChatClient:
    """Give the same visitor as a client of the server that was started meanwhile."""
    returned: ChatClient = make_client(server)
    returned.token, returned.session_id = client.token, client.session_id
    return returned


def rows(database: Path, question: str, *values: object) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(question, values).fetchall()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def around_now() -> tuple[str, str]:
    """Give the bounds of two days that end tomorrow, so that two questions ask for the same."""
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    return f"{tomorrow - timedelta(days=2)}T00:00:00Z", f"{tomorrow}T00:00:00Z"


async def figures(server: ChatServer, bounds: tuple[str, str] | None = None) -> dict[str, Any]:
    begin, until = bounds or around_now()
    async with ChatClient(server.url) as operator:
        answer = await operator.http.get("/api/v1/admin/analytics", params={"from": begin, "to": until}, headers=AS_OPS)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def run(*argv: str, database: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command of the main to its end."""
    settings = {} if database is None else {"SQLITE_DB_PATH": str(database)}
    done = warm.run("main_sqlite.py", [*argv, "--env-file", "/dev/null"], environment=settings)
    assert done.returncode == 0, done.stderr
    return done


def stats(database: Path, bounds: tuple[str, str]) -> dict[str, Any]:
    done = run("stats", "--json", "--db", str(database), "--from", bounds[0], "--to", bounds[1])
    document: dict[str, Any] = json.loads(done.stdout)
    return document


async def look(client: ChatClient) -> httpx.Response:
    return await client.http.get("/api/v1/session", headers={"Authorization": f"Bearer {client.token}"})


def metric(server: ChatServer, sample: str) -> float:
    """Give one sample; 0 where it is not there."""
    text = httpx.get(f"{server.url}/metrics", trust_env=False, verify=NO_TLS).text
    found = [line for line in text.splitlines() if line.startswith(f"{sample} ")]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


SECRETS_OF_VISITORS = {
    "a question": "what-only-the-visitor-knows",
    "a reply": "what-only-the-workflow-knows",
    "a query": "query-of-a-page",
    "metadata": "metadata-of-a-message",
    "a comment": "comment-on-a-reply",
    "an address": "203.0.113.77",
    "a browser": "Gecko/20100101 Firefox/140.0.7351",
}


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_no_text_no_address_and_no_browser_is_ever_written(
    serve: Serve, n8n: ScriptedN8n, make_client: MakeClient, database: Path, how: str
) -> None:
    secret = SECRETS_OF_VISITORS
    server = serve(TRUSTED_PROXIES="127.0.0.1", LOG_LEVEL="DEBUG", JWT_SECRET_KEY=None)
    client = make_client(server, user_agent=f"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) {secret['a browser']}")
    seen_from = {"X-Forwarded-For": secret["an address"]}
    assert (await client.session(headers=seen_from)).status_code == 201
    message_id = str(uuid.uuid4())
    more = {"page_url": f"https://shop.test/a?b={secret['a query']}"}
    n8n.next(answer_stream([secret["a reply"], " in two pieces"]), answer_json({"output": secret["a reply"]}))
    n8n.next(cut(secret["a reply"]))
    said = secret["a question"]
    metadata = {"note": secret["metadata"]}
    assert (await client.reply(said, headers=seen_from, metadata=metadata, **more)).finish_reason == "complete"
    assert (await client.chat(said, headers=seen_from, message_id=message_id, **more)).status_code == 200
    assert (await client.reply(said, headers=seen_from)).finish_reason == "error"
    rated = await client.http.post(
        f"/api/v1/chat/{message_id}/feedback",
        json={"rating": "up", "comment": secret["a comment"]},
        headers={"Authorization": f"Bearer {client.token}"},
    )
    assert rated.status_code == 204
    copy = database.with_name("backup.db")
    run("backup", str(copy), database=database)
    written = everything_below(database.parent)
    assert {path.name for path in written} >= {"chat.db", "chat.db-wal", "chat.db.secrets", "backup.db"}
    end(server, how)
    written |= {Path(f"{path}, afterwards"): data for path, data in everything_below(database.parent).items()}
    for what, text in secret.items():
        for path, data in written.items():
            assert text.encode() not in data, f"{what} is in {path}"
        assert text not in server.log, f"{what} is in the log"
    assert b"https://shop.test/a" in b"".join(written.values()), "a page's address is, so it was looked for rightly"


def everything_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_the_address_s_limit_lasts(serve: Serve, make_client: MakeClient, how: str) -> None:
    limits = {"TRUSTED_PROXIES": "127.0.0.1", "RATE_LIMIT_PER_MINUTE": "1"}
    server = serve(**limits)
    client = make_client(server)
    one, two, three = ({"X-Forwarded-For": f"203.0.113.{number}"} for number in (1, 2, 3))
    assert (await client.session(headers=one)).status_code == 201
    assert (await client.chat("Hi", headers=one)).status_code == 429
    assert (await client.chat("Hi", headers=two)).status_code == 200
    end(server, how)
    client = again(make_client, client, serve(**limits))
    for seen_from in (one, two):
        refused = await client.chat("Hi", headers=seen_from)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 1 <= refused.json()["retry_after"] <= 60
    assert (await client.chat("Hi", headers=three)).status_code == 200


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_the_session_s_limit_and_the_address_s_day_last(serve: Serve, make_client: MakeClient, how: str) -> None:
    limits = {"TRUSTED_PROXIES": "127.0.0.1", "SESSION_RATE_LIMIT_PER_MINUTE": "2", "DAILY_MESSAGE_LIMIT": "30"}
    server = serve(**limits)
    clients = {name: make_client(server) for name in "abc"}
    for client in clients.values():
        assert (await client.session()).status_code == 201

    async def said(session: str, address: int) -> str:
        """Say something in a session from an address; gives what the answer was."""
        answer = await clients[session].chat("Hi", headers={"X-Forwarded-For": f"203.0.113.{address}"})
        return str(answer.json().get("code", answer.status_code))

    assert [await said("a", 1) for _ in range(2)] == ["200", "200"]
    assert [await said("b", 1) for _ in range(2)] == ["200", "daily_limit_reached"], "a tenth of the day is one's own"
    assert await said("a", 2) == "rate_limited"
    end(server, how)
    server = serve(**limits)
    clients = {name: again(make_client, client, server) for name, client in clients.items()}
    assert await said("a", 2) == "rate_limited"
    assert await said("c", 1) == "daily_limit_reached"
    assert [await said("c", 2) for _ in range(2)] == ["200", "200"]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_the_day_of_all_lasts(serve: Serve, make_client: MakeClient, how: str) -> None:
    limits = {"TRUSTED_PROXIES": "127.0.0.1", "DAILY_MESSAGE_LIMIT": "3"}
    server = serve(**limits)
    client = make_client(server)
    await client.session()

    async def sent(number: int) -> int:
        return (await client.chat("Hi", headers={"X-Forwarded-For": f"203.0.113.{number}"})).status_code

    assert [await sent(number) for number in range(4)] == [200, 200, 200, 429]
    end(server, how)
    client = again(make_client, client, serve(**limits))
    assert await sent(5) == 429


async def test_tokens_last_with_two_settings_alone(serve: Serve, make_client: MakeClient, database: Path) -> None:
    nothing_set = {"JWT_SECRET_KEY": None, "SESSION_SECRET_KEY": None, "ADMIN_TOKENS": None}
    server = serve(**nothing_set)
    client = make_client(server)
    await client.session()
    secrets = database.with_name("chat.db.secrets")
    assert mode_of(secrets) == 0o600
    assert mode_of(database) == 0o600
    kept = secrets.read_bytes()
    for how in ("kill", "stop"):
        end(server, how)
        server = serve(**nothing_set)
        client = again(make_client, client, server)
        assert (await look(client)).status_code == 200
        assert (await client.chat("Hi")).status_code == 200
        assert (await client.refresh()).status_code == 200
        assert secrets.read_bytes() == kept


async def test_a_session_of_stateless_mode_gets_its_row_with_its_next_message(
    serve: Serve, start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient, database: Path
) -> None:
    before = make_client(start_server(n8n))
    await before.session()
    server = serve()
    client = make_client(server)
    client.token = before.token
    assert (await look(client)).status_code == 200
    assert rows(database, "SELECT * FROM sessions") == []
    assert (await client.reply("Hi")).finish_reason == "complete"
    question = "SELECT id, messages, replies, client FROM sessions"
    assert rows(database, question) == [(before.session_id, 1, 1, "firefox desktop")]
    assert (await figures(server))["totals"]["sessions"] == 1


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_an_erased_session_stays_dead(
    serve: Serve, n8n: ScriptedN8n, make_client: MakeClient, database: Path, how: str
) -> None:
    server = serve()
    client, other = make_client(server), make_client(server)
    await client.session()
    await other.session()
    assert (await other.chat("Hi")).status_code == 200
    assert (await client.chat("Hi")).status_code == 200
    gate = Gate()
    n8n.next(answer_stream(["first ", "second"], gap=gate))
    async with client.stream("Hi") as stream:
        await stream.next("delta")
        bearer = {"Authorization": f"Bearer {client.token}"}
        erased = await client.http.delete("/api/v1/session", headers=bearer)
        assert (erased.status_code, erased.content) == (204, b"")
        done = await stream.next("done")
    assert done.data["finish_reason"] == "stopped"
    await eventually(lambda: n8n.hangups == 1)
    gate.open()
    before = (await figures(server))["totals"]

    async def check() -> None:
        """Its token is worth nothing, its rows are gone, the figures hold what they held."""
        for answer in (await look(client), await client.chat("Hi"), await client.refresh()):
            assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
        assert rows(database, "SELECT id FROM sessions") == [(other.session_id,)]
        assert rows(database, "SELECT DISTINCT session_id FROM turns") == [(other.session_id,)]
        assert (await figures(server))["totals"] == before
        assert (await look(other)).status_code == 200

    assert before | {"messages": 3, "replies": 3, "errors": 0, "sessions": 2} == before
    await check()
    end(server, how)
    server = serve()
    client, other = (again(make_client, one, server) for one in (client, other))
    await check()


async def test_a_message_is_not_answered_twice_though_its_reply_is_gone(
    serve: Serve, n8n: ScriptedN8n, make_client: MakeClient, database: Path
) -> None:
    server = serve()
    client = make_client(server)
    await client.session()
    done, cut_off = str(uuid.uuid4()), str(uuid.uuid4())
    assert (await client.chat("Hi", message_id=done)).status_code == 200
    assert (await client.chat("Hi", message_id=done)).status_code == 200, "it is kept"
    for how in ("stop", "kill"):
        end(server, how)
        server = serve()
        client = again(make_client, client, server)
        for _ in range(2):
            told = await client.chat("Hi", message_id=done)
            assert (told.status_code, told.json()["code"]) == (404, "reply_gone")
            streamed = await client.reply("Hi", message_id=done)
            assert (streamed.status, streamed.problem["code"]) == (404, "reply_gone")
        told = await client.chat("Ho", message_id=done)
        assert (told.status_code, told.json()["code"]) == (409, "message_id_reused")
        assert (await client.document(done)).status_code == 404
        assert (await client.resume(done)).status == 404
    assert len(n8n.requests) == 1
    stranger = make_client(server)
    await stranger.session()
    assert (await stranger.chat("Hi", message_id=done)).status_code == 200, "ids are each session's own"

    n8n.answer(answer_stream(["first ", "second"], gap=Gate()))
    async with client.stream("Hi", message_id=cut_off) as stream:
        await stream.next("delta")
        await eventually(lambda: rows(database, "SELECT * FROM turns WHERE message_id = ?", cut_off))
        server.kill()
        with contextlib.suppress(httpx.TransportError):
            await stream.next("done")
    server = serve()
    client = again(make_client, client, server)
    told = await client.chat("Hi", message_id=cut_off)
    assert (told.status_code, told.json()["code"]) == (404, "reply_gone")
    assert (await figures(server))["totals"]["errors"] == 1


async def test_what_n8n_never_got_may_be_sent_again_at_once_and_after_a_restart(
    serve: Serve, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    server = serve()
    client = make_client(server)
    await client.session()
    ids = [str(uuid.uuid4()) for _ in range(4)]
    n8n.refuse()
    n8n.disconnect()
    for message_id in ids * 10:
        refused = await client.chat("Hi", message_id=message_id)
        assert (refused.status_code, refused.json()["code"]) == (503, "upstream_unavailable")
    n8n.listen()
    await eventually(lambda: metric(server, 'chatcore_circuit_open{bot="default"}') == 0, within=FOUND_OUT)
    assert (await client.chat("Hi", message_id=ids[0])).status_code == 200
    assert (await client.chat("another text", message_id=ids[1])).status_code == 200
    for message_id, how in zip(ids[2:], ("stop", "kill"), strict=True):
        end(server, how)
        server = serve()
        client = again(make_client, client, server)
        assert (await client.chat("Hi", message_id=message_id)).status_code == 200
    assert len(n8n.requests) == 4
    totals = (await figures(server))["totals"]
    assert (totals["messages"], totals["replies"], totals["errors"]) == (44, 4, 40)


async def test_ratings_are_counted_also_after_a_restart(serve: Serve, make_client: MakeClient) -> None:
    server = serve()
    client = make_client(server)
    await client.session()
    message_id = str(uuid.uuid4())
    assert (await client.chat("Hi", message_id=message_id)).status_code == 200

    async def rate(rating: str) -> tuple[int, int]:
        path = f"/api/v1/chat/{message_id}/feedback"
        bearer = {"Authorization": f"Bearer {client.token}"}
        assert (await client.http.post(path, json={"rating": rating}, headers=bearer)).status_code == 204
        totals = (await figures(server))["totals"]
        return totals["feedback_up"], totals["feedback_down"]

    assert await rate("up") == (1, 0)
    server.kill()
    server = serve()
    client = again(make_client, client, server)
    assert await rate("up") == (1, 0)
    assert await rate("down") == (0, 1)


async def test_health_tells_of_the_store(serve: Serve, make_client: MakeClient) -> None:
    client = make_client(serve())
    answer = await client.http.get("/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["mode"]) == (200, "ok", "sqlite")
    assert answer.json()["checks"]["store"] == {"status": "ok"}


async def test_a_clean_stop_leaves_one_file_that_is_all_there_is(
    serve: Serve, n8n: ScriptedN8n, make_client: MakeClient, database: Path, tmp_path: Path
) -> None:
    server = serve(JWT_SECRET_KEY=None)
    clients = [make_client(server) for _ in range(3)]
    for count, client in enumerate(clients, 1):
        await client.session()
        for _ in range(count):
            assert (await client.chat("Hi", page_url="https://shop.test/a")).status_code == 200
    n8n.next(cut("half"))
    await clients[0].chat("Hi")
    bounds = around_now()
    before = await figures(server, bounds)
    assert before["totals"]["messages"] == 7
    assert server.stop() == 0
    assert names_in(database.parent) == ["chat.db", "chat.db.secrets"]
    copy = tmp_path / "copy.db"
    shutil.copyfile(database, copy)
    assert stats(copy, bounds) == before
    assert stats(database, bounds) == before
    assert names_in(database.parent) == ["chat.db", "chat.db.secrets"]
    assert "reader_in_the_way" not in server.log


@contextlib.contextmanager
def reader_of(database: Path) -> Iterator[int]:
    """Hold a transaction that reads open in another process, whose id is given."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN');"
        "print(c.execute('SELECT count(*) FROM sessions').fetchone()[0], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        yield process.pid
        process.stdin.close()


async def test_a_reader_that_is_in_the_way_of_a_stop_is_named_and_nothing_is_lost(
    serve: Serve, make_client: MakeClient, database: Path, tmp_path: Path
) -> None:
    server = serve()
    client = make_client(server)
    await client.session()
    assert (await client.chat("Hi")).status_code == 200
    with reader_of(database) as process:
        for _ in range(3):
            assert (await client.chat("Hi")).status_code == 200
        bounds = around_now()
        before = await figures(server, bounds)
        assert server.stop(30) == 0
        (warning,) = [json.loads(line) for line in server.log.splitlines() if "in the way" in line]
        assert warning["level"] == "WARNING"
        assert f"({process})" in warning["message"]
        assert "chat.db-wal" in warning["message"]
        for name in ("chat.db", "chat.db-wal"):
            shutil.copyfile(database.with_name(name), tmp_path / name)
    assert before["totals"]["messages"] == 4
    assert stats(tmp_path / "chat.db", bounds) == before
    assert stats(database, bounds) == before
    server = serve()
    assert await figures(server, bounds) == before


async def test_sessions_kept_long_enough_go_while_it_serves_and_figures_stay(
    serve: Serve, make_client: MakeClient, database: Path
) -> None:
    server = serve(CLEANUP_INTERVAL_HOURS="0.0003", SESSION_RETENTION_DAYS="0.00001")
    client = make_client(server)
    await client.session()
    assert (await client.chat("Hi")).status_code == 200
    before = await figures(server)
    assert before["totals"]["sessions"] == 1
    await eventually(lambda: rows(database, "SELECT * FROM sessions") == [], within=FOUND_OUT)
    assert (await figures(server))["totals"] == before["totals"]
    assert metric(server, 'chatcore_store_events_total{what="cleaned"}') >= 1
    assert (await client.chat("Hi")).status_code == 200, "its token is as good as before"
    totals = (await figures(server))["totals"]
    assert (totals["messages"], totals["replies"]) == (2, 2)
    assert rows(database, "SELECT count(*) FROM turns") == [(2,)], "ids are known for a day"


def zone_where_it_is(hour: int) -> str:
    """Give a TZ in which it is that hour now."""
    ahead = (hour - datetime.now(UTC).hour + 12) % 24 - 12
    return f"HERE{-ahead:+d}"


async def test_a_backup_is_made_once_a_night_and_seven_nights_are_kept(
    serve: Serve, make_client: MakeClient, tmp_path: Path
) -> None:
    nights = tmp_path / "nights"
    nights.mkdir()
    for day in range(1, 10):
        (nights / f"chat-2020-01-{day:02}.db").write_bytes(b"an old one")
    (nights / "chat-notes.db").write_bytes(b"something else")
    zone = zone_where_it_is(12)
    first = serve(JWT_SECRET_KEY=None)
    client = make_client(first)
    await client.session()
    assert (await client.chat("Hi")).status_code == 200
    bounds = around_now()
    before = await figures(first, bounds)
    first.stop()

    server = serve(BACKUP_DIR=str(nights), TZ=zone)
    await eventually(lambda: metric(server, 'chatcore_store_events_total{what="backed_up"}') == 1, within=FOUND_OUT)
    assert (await make_client(server).http.get("/health")).json()["status"] == "ok"
    found = names_in(nights)
    assert found[:6] == [f"chat-2020-01-{day:02}.db" for day in range(4, 10)]
    assert found[7:] == ["chat-notes.db"]
    backup = nights / found[6]
    assert mode_of(backup) == 0o600
    assert stats(backup, bounds) == before
    made = backup.stat().st_mtime_ns
    server.stop()
    server = serve(BACKUP_DIR=str(nights), TZ=zone)
    await eventually(lambda: "is there already" in server.log, within=FOUND_OUT)
    assert backup.stat().st_mtime_ns == made
    assert names_in(nights) == found


async def test_a_backup_that_fails_is_told_and_harms_nobody(
    serve: Serve, make_client: MakeClient, tmp_path: Path
) -> None:
    server = serve(BACKUP_DIR=str(tmp_path / "none"), TZ=zone_where_it_is(12))
    await eventually(lambda: "backup failed" in server.log, within=FOUND_OUT)
    (said,) = [json.loads(line) for line in server.log.splitlines() if "backup failed" in line]
    assert said["level"] == "ERROR"
    assert f"mkdir -p {tmp_path / 'none'}" in said["message"]
    assert metric(server, 'chatcore_store_events_total{what="backup_failed"}') == 1
    client = make_client(server)
    await client.session()
    assert (await client.chat("Hi")).status_code == 200
    assert (await client.http.get("/health")).json()["status"] == "ok"


async def test_at_night_before_three_nothing_is_due(serve: Serve, tmp_path: Path) -> None:
    server = serve(BACKUP_DIR=str(tmp_path), TZ=zone_where_it_is(0), CLEANUP_INTERVAL_HOURS="0.0001")
    until = time.monotonic() + 1
    await eventually(
        lambda: time.monotonic() > until and metric(server, 'chatcore_store_events_total{what="cleaned"}') >= 2,
        within=FOUND_OUT,
    )
    assert names_in(tmp_path) == ["data"]
