"""The databases that other tests lean on: they start, die, hang, fail over and vanish as they say."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg import errors
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import StartPostgres, StartRedis
from tests.support.databases import Database, PgBouncer, PostgresServer, RedisDatabase, Sentinels, given_redis
from tests.support.processes import poll, processes_in

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        server.start()
        yield server


def test_a_database_is_empty_and_its_roles_have_what_they_need(database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as serving:
        for forbidden in ("CREATE TABLE a (b int)", "CREATE TEMPORARY TABLE a (b int)", "CREATE ROLE somebody"):
            with pytest.raises(errors.InsufficientPrivilege):
                serving.execute(forbidden.encode())
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        owner.execute("CREATE EXTENSION unaccent")
        owner.execute("CREATE TABLE texts AS SELECT unaccent('Übergrößenträger')")
    assert database.sql("SELECT *, 'ß%' FROM texts") == [("Ubergrossentrager", "ß%")]
    assert database.sql("SELECT %s::int + 1", 2) == [(3,)]
    assert int(database.sql("SHOW server_version_num")[0][0]) >= 150_000


def test_a_database_can_be_a_copy_of_another(database: Database) -> None:
    database.sql("CREATE TABLE texts AS SELECT 'a' AS text")
    copy = database.server.new_database(template=database.name)
    assert copy.sql("SELECT text FROM texts") == [("a",)]
    copy.drop()
    copy.drop()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        copy.sql("SELECT 1")


def test_a_killed_postgres_keeps_what_was_committed(postgres: PostgresServer) -> None:
    database = postgres.new_database()
    with psycopg.connect(database.admin_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE numbers AS SELECT 1 AS number")
        postgres.kill()
        with pytest.raises(psycopg.OperationalError):
            owner.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(database.url)
    assert not postgres.running
    postgres.start()
    assert database.sql("SELECT number FROM numbers") == [(1,)]
    postgres.stop("immediate")
    postgres.start()
    postgres.restart()
    assert database.sql("SELECT number FROM numbers") == [(1,)]


def test_a_paused_postgres_hangs_and_goes_on(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.superuser_url, autocommit=True) as connection:
        answers: list[int] = []
        postgres.pause()
        asking = threading.Thread(target=lambda: answers.append(connection.execute("SELECT 1").rowcount))
        asking.start()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(postgres.superuser_url, connect_timeout=2)
        assert not answers
        postgres.resume()
        asking.join(10)
        assert answers == [1]


def test_a_replica_follows_and_refuses_writes_until_it_is_promoted(postgres: PostgresServer) -> None:
    database = postgres.new_database()
    with postgres.replica() as replica:
        database.sql("CREATE TABLE numbers AS SELECT 1 AS number")
        read = Database(replica, database.name)
        assert poll(lambda: bool(read.sql("SELECT 1 FROM pg_tables WHERE tablename = 'numbers'")), 10)
        with pytest.raises(errors.ReadOnlySqlTransaction):
            read.sql("INSERT INTO numbers VALUES (2)")
        replica.promote()
        read.sql("INSERT INTO numbers VALUES (2)")


def test_postgres_with_tls_proves_who_it_is_and_refuses_plain_connections(start_postgres: StartPostgres) -> None:
    server = start_postgres(tls=True, durable=True)
    database = server.new_database()
    assert database.sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]
    assert "sslmode=verify-full" in database.url
    with pytest.raises(psycopg.OperationalError, match="no pg_hba"):
        psycopg.connect(database.url, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="verify failed"):
        psycopg.connect(database.url, sslrootcert="system")


def test_pgbouncer_gives_a_connection_for_a_transaction_and_takes_it_back(postgres: PostgresServer) -> None:
    database = postgres.new_database()
    with PgBouncer(database, pool_size=1) as pooler:
        pooler.start()
        with psycopg.connect(pooler.url, autocommit=True) as one, psycopg.connect(pooler.url, autocommit=True) as other:
            of_one = one.execute("SELECT pg_backend_pid(), current_user::text").fetchall()
            assert of_one == other.execute("SELECT pg_backend_pid(), current_user::text").fetchall()
            assert of_one[0][1] == "chatcore_app"
        pooler.restart()
        postgres.restart()
        assert poll(lambda: _answers(pooler.url), 10)


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            return bool(connection.execute("SELECT 1").fetchall())
    except psycopg.OperationalError:
        return False


def test_a_redis_of_a_file_is_empty_after_a_flush(redis_server: RedisDatabase) -> None:
    with redis_server.client() as client:
        client.set("a", "ß")
        assert client.get("a") == "ß"
        redis_server.flush()
        assert client.dbsize() == 0


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_redis_comes_back_on_its_port(start_redis: StartRedis, persistent: bool) -> None:
    server = start_redis(password="a secret", tls=persistent, persistent=persistent)
    with server.client() as client:
        client.set("a", "1")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("a")
    server.start()
    with server.client() as client:
        assert client.get("a") == ("1" if persistent else None)


def test_a_paused_redis_hangs_and_goes_on(start_redis: StartRedis) -> None:
    server = start_redis()
    server.pause()
    with redis.Redis(port=server.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as client:
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()
    server.pause()
    server.stop()
    assert not server.running


def test_sentinels_name_a_new_master_and_the_old_one_follows_it() -> None:
    with Sentinels(password="secret") as sentinels:
        sentinels.start()
        first = sentinels.master()
        killed = sentinels.kill_master()
        assert killed is first
        assert poll(lambda: sentinels.master() is not killed, 20)
        with sentinels.master().client() as master:
            assert poll(lambda: master.info("replication")["role"] == "master", 20)
            master.set("a", "1")
            killed.start()
            with killed.client() as old:
                assert poll(lambda: old.info("replication")["role"] == "slave" and old.get("a") == "1", 30)


def test_processes_have_databases_of_their_own_in_a_redis_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_REDIS_URL", "rediss://:secret@redis.example:6379/2?ssl_cert_reqs=none")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw3")
    assert given_redis() == RedisDatabase("rediss://:secret@redis.example:6379/5?ssl_cert_reqs=none")
    monkeypatch.delenv("TEST_REDIS_URL")
    assert given_redis() is None


TESTS_THAT_DIE = """
from tests.support.databases import *
server = PostgresServer()
server.start()
paused = RedisServer()
paused.start()
paused.pause()
print(server.folder.parent, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["input()", "raise SystemExit"])
def test_servers_and_their_folders_end_with_the_tests_even_if_these_are_killed(end: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TESTS_THAT_DIE.format(end=end)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        told = tests.stdout.readline().strip()
        assert told, "they did not come so far"
        folder = Path(told)
        if end == "input()":
            assert processes_in(folder)
            tests.send_signal(signal.SIGKILL)
        assert poll(lambda: not processes_in(folder) and not folder.exists(), 20)
