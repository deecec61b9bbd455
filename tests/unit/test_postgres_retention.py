"""What PostgreSQL mode deletes, when and by whom; and which indexes its statements use on tables that are full."""

import functools
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql.psycopg import dialect

from chatcore.analytics import DAY_SECONDS, HOUR_SECONDS
from chatcore.happenings import StoreChanged
from chatcore.stores.postgres import erased, recorder, retention, sessions, statements, turns, upkeep
from chatcore.stores.postgres.retention import clean_up
from chatcore.stores.postgres.schema import add_partitions
from chatcore.stores.postgres.upkeep import Upkeep
from tests.support import postgres_bench
from tests.support.background import eventually
from tests.support.clock import ManualClock
from tests.support.databases import Database
from tests.support.postgres_bench import WITHIN_SECONDS, PostgresBench, numbered, settings_of, uuid_of, whole

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(name="target")
def _target() -> Iterator[Database]:
    database = postgres_bench.migrated()
    yield database
    database.drop()


@pytest.fixture(name="bench")
async def _bench(target: Database, tmp_path: Path) -> AsyncIterator[PostgresBench]:
    clock = ManualClock(NOW.timestamp())
    async with postgres_bench.running(target, tmp_path / "journal.db", clock) as bench:
        yield bench


def cleaned(database: Database, now: float = NOW.timestamp(), since: float = 0.0, **changes: Any) -> Any:
    return clean_up(settings_of(database, **changes), now, unless_since=since, stop=lambda: False)


async def write_days_ago(bench: PostgresBench, *days: float) -> None:
    for position, ago in enumerate(days):
        at = NOW.timestamp() - ago * DAY_SECONDS
        entries = numbered(whole(f"m{ago}", f"s{ago}", at), 2 * position + 1)
        assert not (await bench.recorder.record(bench.recorder.run, entries)).lost


def count(database: Database, table: str) -> int:
    return len(database.sql(f"TABLE chatcore.{table}"))


async def test_what_was_kept_long_enough_goes_and_the_rest_stays(bench: PostgresBench) -> None:
    with psycopg.connect(bench.target.admin_url, autocommit=True) as owner:
        for ago in (95, 65, 35):
            add_partitions(owner, NOW.timestamp() - ago * DAY_SECONDS)
    await write_days_ago(bench, 0, 29, 31, 70, 99, 200)
    result = cleaned(bench.target, message_retention_days=30.0, analytics_retention_days=80.0)
    assert result is not None
    assert result.months == ["messages_2026_07", "messages_2026_08", "messages_2026_09"]
    assert str(result).startswith("dropped messages_2026_07, messages_2026_08, messages_2026_09; deleted ")
    left = bench.rows("SELECT id FROM chatcore.sessions ORDER BY seen_at")
    assert left == [("s29",), ("s0",)]
    assert count(bench.target, "turns") == 2
    kept = bench.rows("SELECT DISTINCT session_id FROM chatcore.messages ORDER BY 1")
    assert kept == [("s0",), ("s29",), ("s31",)], "a month goes as a whole, when all of it is old enough"
    for table in ("hours", "reply_times", "origins", "pages"):
        assert count(bench.target, table) == 4, table
    months = bench.rows("SELECT count(*) FROM pg_inherits WHERE inhparent = 'chatcore.messages'::regclass")
    assert months == [(6,)], "October to February and the table for all others"


async def test_more_than_a_batch_goes_too(bench: PostgresBench) -> None:
    bench.rows(
        "INSERT INTO chatcore.turns SELECT 's' || n, gen_random_uuid(), 'b', '', now() - interval '400 days' "
        "FROM generate_series(1, 11000) AS n"
    )
    result = cleaned(bench.target)
    assert result is not None
    assert result.rows == 11_000
    assert count(bench.target, "turns") == 0


async def test_a_clean_up_that_is_stopped_ends_between_two_batches(bench: PostgresBench) -> None:
    bench.rows(
        "INSERT INTO chatcore.turns SELECT 's' || n, gen_random_uuid(), 'b', '', now() - interval '400 days' "
        "FROM generate_series(1, 11000) AS n"
    )
    asked = iter((False, False, True))
    result = clean_up(settings_of(bench.target), NOW.timestamp(), unless_since=0.0, stop=lambda: next(asked, True))
    assert result is not None
    assert result.rows == 5000


async def test_a_session_that_is_seen_while_it_is_cleaned_away_stays(bench: PostgresBench) -> None:
    await write_days_ago(bench, 400)
    with psycopg.connect(bench.target.url) as other, ThreadPoolExecutor(1) as thread:
        other.execute("UPDATE chatcore.sessions SET seen_at = %s", (NOW,))
        cleaning = thread.submit(cleaned, bench.target)
        await eventually(
            lambda: bench.rows("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == [(1,)],
            WITHIN_SECONDS,
        )
        other.commit()
        assert cleaning.result(WITHIN_SECONDS) is not None
    assert bench.rows("SELECT id FROM chatcore.sessions") == [("s400",)]


async def test_tombstones_outlive_the_tokens_of_their_sessions(bench: PostgresBench) -> None:
    for ago in (90, 92):
        bench.rows("INSERT INTO chatcore.erased VALUES (%s, %s)", f"s{ago}", NOW - timedelta(days=ago))
    cleaned(bench.target, erased_days=91.0)
    assert bench.rows("SELECT session_id FROM chatcore.erased") == [("s90",)]


def test_one_instance_cleans_in_each_interval(target: Database) -> None:
    now = NOW.timestamp()
    since = now - DAY_SECONDS
    ready = threading.Barrier(6)

    def instance(_: int) -> object:
        ready.wait()
        return cleaned(target, now, since)

    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(instance, range(6)))
    assert len([result for result in results if result is not None]) == 1
    assert cleaned(target, now + 3600, now + 3600 - DAY_SECONDS) is None
    assert cleaned(target, now + DAY_SECONDS + 1, now + 1) is not None


def test_a_month_that_is_being_read_waits_and_the_rest_goes(target: Database) -> None:
    with psycopg.connect(target.admin_url, autocommit=True) as owner:
        add_partitions(owner, NOW.timestamp() - 500 * DAY_SECONDS)
    target.sql("INSERT INTO chatcore.erased VALUES ('s', '2020-01-01')")
    with psycopg.connect(target.superuser_url) as other:
        other.execute("LOCK TABLE chatcore.messages_2025_07 IN ACCESS SHARE MODE")
        result = cleaned(target)
    assert result is not None
    assert "messages_2025_07" not in result.months
    assert "messages_2025_08" in result.months
    assert count(target, "erased") == 0
    result = cleaned(target, since=NOW.timestamp())
    assert result is not None
    assert result.months == ["messages_2025_07"]


def test_a_clean_up_that_failed_is_tried_again(target: Database) -> None:
    target.sql("ALTER TABLE chatcore.erased RENAME TO hidden")
    now = NOW.timestamp()
    with pytest.raises(psycopg.Error):
        cleaned(target, now, now - DAY_SECONDS)
    target.sql("ALTER TABLE chatcore.hidden RENAME TO erased")
    assert cleaned(target, now + 600, now + 600 - DAY_SECONDS) is not None


async def test_upkeep_cleans_half_a_minute_after_the_start_and_tells(bench: PostgresBench) -> None:
    await write_days_ago(bench, 500)
    keeper = Upkeep(bench.settings, bench.database, 600.0, bench.clock, bench.happened.append)
    keeper.tick(0.0)
    keeper.tick(29.0)
    assert not bench.of(StoreChanged)
    keeper.tick(30.0)
    await eventually(lambda: bench.of(StoreChanged), WITHIN_SECONDS)
    (change,) = bench.of(StoreChanged)
    assert (change.what, change.detail) == ("cleaned", "deleted 8 rows that were kept long enough")
    await keeper.close()


async def test_upkeep_tells_where_cleaning_fails(bench: PostgresBench) -> None:
    wrong = settings_of(bench.target, admin_url=bench.target.url)
    bench.rows("DROP TABLE chatcore.messages_2026_11")
    keeper = Upkeep(wrong, bench.database, 600.0, bench.clock, bench.happened.append)
    keeper.tick(0.0)
    keeper.tick(30.0)
    await eventually(lambda: bench.of(StoreChanged), WITHIN_SECONDS)
    (change,) = bench.of(StoreChanged)
    assert change.what == "cleanup_failed"
    assert "permission denied" in change.detail or "must be owner" in change.detail
    await keeper.close()


class Plans:
    """A connection that tells the plan of every statement it runs, also of those inside functions."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._told: list[str] = []
        connection.execute("LOAD 'auto_explain'")
        for name, value in (
            ("log_min_duration", "0"),
            ("log_nested_statements", "on"),
            ("log_format", "json"),
            ("log_level", "notice"),
        ):
            connection.execute("SELECT set_config(%s, %s, false)", (f"auto_explain.{name}", value))
        connection.add_notice_handler(lambda notice: self._told.append(notice.message_primary or ""))

    def of(self, statement: TextClause | bytes, told: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run a statement, and give all nodes of all plans that touch a table of ours."""
        self._told.clear()
        sql = statement if isinstance(statement, bytes) else _for_psycopg(statement)
        self._connection.execute(sql, told)
        nodes: list[dict[str, Any]] = []
        for message in self._told:
            _, found, plan = message.partition("plan:\n")
            if found:
                nodes += _nodes(msgspec.json.decode(plan)["Plan"])
        return [node for node in nodes if "Scan" in node["Node Type"] and "Relation Name" in node]


def _for_psycopg(statement: TextClause) -> bytes:
    return str(statement.compile(dialect=dialect())).encode()  # type: ignore[no-untyped-call]  # as the library has it


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def unaided(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Give those that look at more rows of a table than they need; of the months one is full."""
    return [
        f"{node['Node Type']} on {node['Relation Name']}"
        for node in nodes
        if node["Node Type"] not in ("Bitmap Heap Scan", "Tid Scan")
        and "Index Cond" not in node
        and not (node["Relation Name"].startswith("messages_") and node["Relation Name"] != "messages_2026_11")
    ]


FILL = """
CREATE TEMP TABLE n AS
    SELECT n, n * 3600::bigint AS hour, n * 86400::bigint AS day, chatcore.moment(n * 1000000::bigint) AS at
    FROM generate_series(1, 30000) AS n;
INSERT INTO chatcore.sessions SELECT 'f' || n, 'b', at, at, '', '', '' FROM n;
INSERT INTO chatcore.turns (session_id, message_id, bot, digest, accepted_at, state)
    SELECT 's' || n % 10000, gen_random_uuid(), 'b', '', timestamptz '2026-11-20 12:00+00' - n * interval '1 second',
        CASE WHEN n % 1000 = 0 THEN 'open' ELSE 'complete' END FROM n;
INSERT INTO chatcore.messages SELECT session_id, accepted_at, message_id, 0, accepted_at, 'x' FROM chatcore.turns
    WHERE bot = 'b';
INSERT INTO chatcore.erased SELECT 'e' || n, at FROM n;
INSERT INTO chatcore.hours SELECT hour, 'b', 0 FROM n;
INSERT INTO chatcore.reply_times SELECT hour, 'b', 0, 0, 1 FROM n;
INSERT INTO chatcore.origins SELECT day, 'b', '', 0, 1, 1 FROM n;
INSERT INTO chatcore.pages SELECT day, 'b', '', 0, 1, 1 FROM n;
ANALYZE
"""


RECORD = recorder.RECORD


def record_told(number: int) -> dict[str, Any]:
    entries = numbered([*whole(f"a{number}", "s1"), *whole(f"b{number}", f"new{number}")])
    parts: dict[str, list[Any]] = {"opened": [], "closed": [], "rated": [], "released": []}
    for _, entry in entries:
        parts["opened" if "d" in msgspec.to_builtins(entry) else "closed"].append(entry)
    parts["closed"].append(postgres_bench.closed("x", "s2"))
    parts["rated"].append(postgres_bench.rated("x", "s2"))
    parts["released"].append(postgres_bench.released("x", "s2"))
    document = msgspec.json.encode(parts).decode()
    return {"run": uuid_of("run"), "first": number * 9 + 1, "last": number * 9 + 9, "shard": 0, "entries": document}


def test_recording_uses_indexes_also_where_it_was_planned_for_empty_tables(target: Database) -> None:
    with psycopg.connect(target.superuser_url, autocommit=True) as early:
        plans = Plans(early)
        nodes = plans.of(RECORD, record_told(1))
        assert len(nodes) >= 8
        assert not unaided(nodes)
    target.sql(FILL)
    with psycopg.connect(target.superuser_url, autocommit=True) as late:
        nodes = Plans(late).of(RECORD, record_told(2))
        assert len(nodes) >= 8
        assert not unaided(nodes)


def test_all_other_statements_use_indexes_on_full_tables(target: Database) -> None:
    target.sql(FILL)
    keys = msgspec.json.encode([{"s": "s1", "m": uuid_of(str(number))} for number in range(20)]).decode()
    now = round(NOW.timestamp() * 1e6)
    asked: list[tuple[TextClause | bytes, Mapping[str, Any]]] = [
        (turns.KNOWN, {"keys": keys}),
        (erased.SINCE, {"at": datetime.fromtimestamp(29_900, UTC), "id": "", "most": 5000}),
        (erased.IS_ERASED, {"id": "e5"}),
        (upkeep.CUT, {"before": now - 5_000_000_000, "after": now - 8_000_000_000, "most": 5000}),
        *((statements.statement(name), {"id": "s77"}) for name in sessions.ERASE),
    ]
    limits = {
        "messages": datetime.fromtimestamp(100, UTC),
        "erased": datetime.fromtimestamp(100, UTC),
        "journals": datetime.fromtimestamp(100, UTC),
        "figures": 100 * HOUR_SECONDS,
    }
    few_rows = ("messages_other", "journals")
    asked += [
        (retention.deletion(table, condition), limits)
        for table, condition in retention.BATCHES
        if table not in few_rows
    ]
    with psycopg.connect(target.superuser_url, autocommit=True) as connection:
        plans = Plans(connection)
        for statement, told in asked:
            assert not unaided(plans.of(statement, told)), statement


async def test_what_is_cut_is_bounded_and_goes_on(bench: PostgresBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_MOST_CUT", 3)
    await write_days_ago(bench, 0)
    at = NOW - timedelta(hours=5)
    bench.rows("INSERT INTO chatcore.turns SELECT 's0', gen_random_uuid(), 'b', '', %s FROM generate_series(1, 8)", at)
    keeper = Upkeep(bench.settings, bench.database, 600.0, bench.clock, bench.happened.append)

    def cut_by(step: int) -> int:
        keeper.tick(float(step))  # does nothing again before the next step
        ((errors,),) = bench.rows("SELECT errors FROM chatcore.sessions")
        return int(errors)

    for step, cut in ((0, 3), (60, 6), (120, 8), (180, 8)):
        bench.clock.advance(60)  # type: ignore[attr-defined]  # it is the clock of the tests
        await eventually(functools.partial(lambda step, cut: cut_by(step) == cut, step, cut), WITHIN_SECONDS)
    await keeper.close()
