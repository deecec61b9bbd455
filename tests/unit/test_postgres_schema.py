"""The schema of PostgreSQL mode at start: made once, by whoever may; refused where it is not ours to serve."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from chatcore.ports import StoreFaultError
from chatcore.stores.postgres import schema
from chatcore.stores.postgres.recorder import Recorder
from chatcore.stores.postgres.schema import DatabaseAwayError, State, migrate, prepare
from tests.support import postgres_bench
from tests.support.clock import START, ManualClock
from tests.support.databases import Database
from tests.support.ports import free_port
from tests.support.postgres import APP_PASSWORD, OWNER_PASSWORD
from tests.support.postgres_bench import settings_of, whole


def tables(database: Database) -> list[str]:
    return [
        name for (name,) in database.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'chatcore' ORDER BY 1")
    ]


def objects(database: Database) -> list[tuple[Any, ...]]:
    """Give what there is in the schema, and who may do what with it."""
    return database.sql(
        "SELECT relname, relkind, relacl::text FROM pg_class WHERE relnamespace = to_regnamespace('chatcore') "
        "UNION ALL SELECT proname, 'f', proacl::text FROM pg_proc WHERE pronamespace = to_regnamespace('chatcore') "
        "UNION ALL SELECT name, 'm', value FROM chatcore.meta ORDER BY 1, 2"
    )


def test_the_first_start_makes_everything_and_later_ones_change_nothing(database: Database) -> None:
    first = prepare(settings_of(database), ManualClock())
    assert first.revision == schema.HEAD
    assert len(first.hash_key) == 32
    before = objects(database)
    assert prepare(settings_of(database), ManualClock()) == first
    assert migrate(settings_of(database), ManualClock()) == f"The schema is up to date (revision {schema.HEAD})"
    assert objects(database) == before


def test_one_role_for_both_needs_no_grants(database: Database) -> None:
    state = prepare(settings_of(database, url=database.admin_url), ManualClock())
    assert len(state.hash_key) == 32
    asyncio.run(a_turn(database.admin_url))
    assert database.sql("SELECT count(*) FROM chatcore.messages") == [(2,)]


async def a_turn(url: str) -> None:
    pool = postgres_bench.pool(url)
    recorder = Recorder(pool, postgres_bench.uuid_of("run"), 0, lambda _: None)
    assert not (await recorder.record(recorder.run, postgres_bench.numbered(whole()))).lost
    await pool.close()


def test_the_command_migrates_and_the_serving_role_can_serve(database: Database) -> None:
    told = migrate(settings_of(database), ManualClock())
    assert told == f"The schema was brought from nothing to revision {schema.HEAD}"
    asyncio.run(a_turn(database.url))
    no_owner = settings_of(database, admin_url=database.url)
    assert isinstance(prepare(no_owner, ManualClock()), State), "a start needs no owner where nothing is to be done"


def test_many_that_start_at_once_migrate_once(database: Database) -> None:
    ready = threading.Barrier(8)
    given: list[object] = []

    def start() -> None:
        ready.wait()
        try:
            given.append(prepare(settings_of(database), ManualClock()))
        except Exception as error:  # noqa: BLE001 - told by the test
            given.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 8
    assert isinstance(given[0], State), given
    assert set(given) == {given[0]}
    assert database.sql("SELECT count(*) FROM chatcore.meta WHERE name = 'hash_key'") == [(1,)]


def test_a_newer_schema_is_refused_and_left_as_it_is(database: Database) -> None:
    prepare(settings_of(database), ManualClock())
    database.sql("UPDATE chatcore.alembic_version SET version_num = '0099'")
    before = objects(database)
    for start in (prepare, migrate):
        with pytest.raises(StoreFaultError) as refused:
            start(settings_of(database), ManualClock())
        assert "newer" in refused.value.problem
        assert "0099" in refused.value.problem
        assert "newer version" in refused.value.advice
    assert objects(database) == before


def test_the_serving_role_adds_to_the_audit_log_and_does_nothing_else_to_it(database: Database) -> None:
    prepare(settings_of(database), ManualClock())
    refused = (
        "UPDATE chatcore.audit_log SET actor = 'x'",
        "DELETE FROM chatcore.audit_log",
        "TRUNCATE chatcore.audit_log",
        "ALTER TABLE chatcore.audit_log DISABLE TRIGGER ALL",
        "DROP TABLE chatcore.audit_log",
        "TRUNCATE chatcore.messages",
        "DROP TABLE chatcore.messages_other",
        "CREATE TABLE chatcore.mine (a int)",
        "DROP FUNCTION chatcore.day_of(timestamptz)",
        "INSERT INTO chatcore.alembic_version VALUES ('0002')",
        "UPDATE chatcore.alembic_version SET version_num = '0002'",
        "CREATE SCHEMA mine",
    )
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("INSERT INTO chatcore.audit_log VALUES (1, now(), 'a', 'b', 's', '', '{}', 'k', '\\x00')")
        assert connection.execute("SELECT count(*) FROM chatcore.audit_log").fetchone() == (1,)
        for statement in refused:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def months(database: Database) -> list[str]:
    return [name for name in tables(database) if name.startswith("messages_2")]


def test_months_are_made_ahead_and_messages_go_there(database: Database) -> None:
    clock = ManualClock(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp())
    prepare(settings_of(database), clock)
    names = ["messages_2026_10", "messages_2026_11", "messages_2026_12", "messages_2027_01", "messages_2027_02"]
    assert months(database) == names
    clock.advance(2)
    migrate(settings_of(database), clock)
    assert months(database) == [*names, "messages_2027_03"]
    bounds = {
        "messages_2026_11": ("2026-11-01T00:00:00", "2026-11-30T23:59:59.999999"),
        "messages_2026_12": ("2026-12-01T00:00:00", "2026-12-31T23:59:59.999999"),
    }
    for number, at in enumerate(at for pair in bounds.values() for at in pair):
        told = (f"s{number}", f"{at}+00:00", postgres_bench.uuid_of("m"))
        database.sql("INSERT INTO chatcore.messages VALUES (%s, %s, %s, 0, now(), 'x')", *told)
    placed = database.sql("SELECT tableoid::regclass::text, count(*) FROM chatcore.messages GROUP BY 1 ORDER BY 1")
    assert placed == [(f"chatcore.{name}", 2) for name in bounds]


def test_a_month_whose_messages_a_wrong_clock_brought_too_early_is_left_out(database: Database) -> None:
    prepare(settings_of(database), ManualClock())
    later = datetime.fromtimestamp(START, UTC).replace(year=2027, month=6, day=5)
    told = ("s1", later, postgres_bench.uuid_of("m"))
    database.sql("INSERT INTO chatcore.messages VALUES (%s, %s, %s, 0, now(), 'x')", *told)
    migrate(settings_of(database), ManualClock(later.timestamp()))
    assert "messages_2027_06" not in months(database)
    assert "messages_2027_07" in months(database)


def test_a_role_that_may_not_create_is_told(database: Database) -> None:
    with pytest.raises(StoreFaultError) as refused:
        prepare(settings_of(database, admin_url=database.url), ManualClock())
    assert "may not make or change its schema" in refused.value.problem
    assert "DATABASE_ADMIN_URL" in refused.value.advice
    assert tables(database) == []


def test_a_serving_role_that_was_changed_gets_its_rights_at_the_next_start(database: Database) -> None:
    prepare(settings_of(database), ManualClock())
    database.sql("REVOKE ALL ON ALL TABLES IN SCHEMA chatcore FROM chatcore_app")
    database.sql("REVOKE ALL ON SCHEMA chatcore FROM chatcore_app")
    prepare(settings_of(database), ManualClock())
    asyncio.run(a_turn(database.url))


def test_an_old_server_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_OLDEST_SERVER", 990000)
    with pytest.raises(StoreFaultError) as refused:
        prepare(settings_of(database), ManualClock())
    assert refused.value.problem.startswith("the server is PostgreSQL 1")
    assert refused.value.advice == "PostgreSQL 15 or newer is needed."
    assert tables(database) == []


def test_a_lost_key_is_told_and_not_made_anew(database: Database) -> None:
    prepare(settings_of(database), ManualClock())
    database.sql("DELETE FROM chatcore.meta")
    with pytest.raises(StoreFaultError, match="hash_key"):
        prepare(settings_of(database), ManualClock())


def no_server(database: Database) -> str:
    return database.url.replace(f":{database.url.rsplit(':', 1)[1].split('/')[0]}/", f":{free_port()}/")


def wrong_password(database: Database) -> str:
    return database.url.replace(APP_PASSWORD.replace(" ", "%20"), quote("wrong secret"))


def no_database(database: Database) -> str:
    return database.url.replace(f"/{database.name}", "/missing")


@pytest.mark.parametrize(
    ("url_of", "said"),
    [(no_server, "cannot be reached"), (wrong_password, "does not let"), (no_database, "does not exist")],
)
def test_a_database_that_does_not_let_us_in_is_told_without_a_password(
    database: Database, url_of: Callable[[Database], str], said: str
) -> None:
    with pytest.raises(DatabaseAwayError) as away:
        prepare(settings_of(database, url=url_of(database)), ManualClock())
    told = f"{away.value} {away.value.fault.problem} {away.value.fault.advice}"
    assert said in told
    for secret in (APP_PASSWORD, OWNER_PASSWORD, "wrong secret", quote("wrong secret")):
        assert secret not in told


def test_an_owner_who_is_not_let_in_is_told_without_a_password(database: Database) -> None:
    wrong = database.admin_url.replace(OWNER_PASSWORD.replace(" ", "%20"), "another")
    with pytest.raises(StoreFaultError) as refused:
        prepare(settings_of(database, admin_url=wrong), ManualClock())
    assert "does not let" in refused.value.problem
    assert "another" not in refused.value.problem
