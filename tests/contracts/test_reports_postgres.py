"""Reports from PostgreSQL: the figures of a plain count over the turns, added up over all shards, and cohorts."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from chatcore.analytics import (
    DAY_SECONDS,
    HOUR_SECONDS,
    Cohorts,
    Figures,
    Place,
    Query,
    Report,
    document,
    milliseconds_of,
)
from chatcore.stores.postgres.database import Database as Pool
from chatcore.stores.postgres.database import connect
from chatcore.stores.postgres.reports import parameters, read_report, report_from
from chatcore.stores.postgres.statements import statement
from tests.support.databases import Database
from tests.support.kept_messages import BEGIN, Said, keep, prepare

MIDNIGHT = BEGIN - BEGIN % DAY_SECONDS
TURNS = tuple(
    Said(
        session=number % 17,
        number=number + 1,
        at=MIDNIGHT + number * 7 * HOUR_SECONDS // 2 + 0.5,
        bot="shop" if number % 17 % 3 == 0 else "default",
        origin=f"https://{number % 5}.test",
        page=f"https://{number % 5}.test/{number % 23}",
        state="error" if number % 9 == 0 else "stopped" if number % 7 == 0 else "complete",
    )
    for number in range(90)
)
QUERIES = [
    Query(MIDNIGHT, MIDNIGHT + 14 * DAY_SECONDS, "day"),
    Query(MIDNIGHT, MIDNIGHT + 14 * DAY_SECONDS, "day", "shop"),
    Query(MIDNIGHT + 3 * DAY_SECONDS, MIDNIGHT + 5 * DAY_SECONDS, "day"),
    Query(MIDNIGHT + 3 * HOUR_SECONDS, MIDNIGHT + 30 * HOUR_SECONDS, "hour"),
    Query(MIDNIGHT + 30 * HOUR_SECONDS, MIDNIGHT + 31 * HOUR_SECONDS, "hour", "default"),
    Query(MIDNIGHT - 9 * DAY_SECONDS, MIDNIGHT - 5 * DAY_SECONDS, "day"),
    Query(MIDNIGHT - 300 * DAY_SECONDS, MIDNIGHT + 300 * DAY_SECONDS, "day"),
]


@pytest.fixture(scope="module", name="kept")
def _kept(database_of_module: Database) -> Database:
    prepare(database_of_module)
    keep(database_of_module, TURNS)
    # Two shards more, as other instances would have written them.
    for table in ("hours", "reply_times", "origins", "pages"):
        columns = ", ".join(
            name
            for (name,) in database_of_module.sql(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'chatcore' "
                "AND table_name = %s AND column_name <> 'shard' ORDER BY ordinal_position",
                table,
            )
        )
        database_of_module.sql(
            f"INSERT INTO chatcore.{table} ({columns}, shard) "  # noqa: S608 - names of ours
            f"SELECT {columns}, n FROM chatcore.{table}, generate_series(1, 2) AS n"
        )
    return database_of_module


def counted(query: Query) -> Report:
    """Give what a report must tell of the turns, which count three times."""
    asked = [one for one in TURNS if query.bot in {None, one.bot}]
    first: dict[int, float] = {}
    for one in asked:
        first.setdefault(one.session, one.at)
    of_time = [one for one in asked if query.begin <= one.at < query.end]
    begun = [one for one in of_time if first[one.session] == one.at]
    hours = Counter(datetime.fromtimestamp(one.at, UTC).hour for one in of_time)
    each = Counter(one.session for one in of_time)
    came_back = {one.session for one in of_time if one.at // DAY_SECONDS > first[one.session] // DAY_SECONDS}
    sizes = sorted(each.values())
    cohorts = Cohorts(
        new_sessions=len(begun),
        returning_sessions=len(came_back),
        mean=round(sum(sizes) / len(sizes), 2) if sizes else None,
        p50=sizes[-(-len(sizes) // 2) - 1] if sizes else None,
        p95=sizes[-(-len(sizes) * 95 // 100) - 1] if sizes else None,
        sessions=tuple(
            sum(least <= size <= most for size in sizes)
            for least, most in ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 999))
        ),
        busiest_hours=tuple(3 * hours[hour] for hour in range(24)),
    )
    failed = sum(one.state == "error" for one in of_time)
    return Report(
        query=query,
        totals=_totals(3 * len(begun), 3 * len(of_time), 3 * (len(of_time) - failed), 3 * failed),
        series=(),
        top_origins=_places(query, "origin"),
        top_pages=_places(query, "page"),
        cohorts=cohorts,
    )


def _totals(sessions: int, messages: int, replies: int, errors: int) -> Figures:
    time = milliseconds_of(77) if replies else None
    return Figures(
        sessions=sessions,
        messages=messages,
        replies=replies,
        errors=errors,
        reply_ms_p50=time,
        reply_ms_p95=time,
    )


def _places(query: Query, member: str) -> tuple[Place, ...]:
    begin = query.begin - query.begin % DAY_SECONDS
    end = -(-query.end // DAY_SECONDS) * DAY_SECONDS
    asked = [one for one in TURNS if query.bot in {None, one.bot} and begin <= one.at < end]
    first: dict[int, int] = {}
    for one in TURNS:
        first.setdefault(one.session, one.number)
    messages = Counter(getattr(one, member) for one in asked)
    sessions = Counter(getattr(one, member) for one in asked if first[one.session] == one.number)
    places = [Place(name, 3 * sessions[name], 3 * count) for name, count in messages.items()]
    return tuple(sorted(places, key=lambda place: (-place.messages, place.name))[:20])


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_a_report_is_what_was_counted(kept: Database, query: Query) -> None:
    with connect(kept.url) as connection:
        report = read_report(connection, query)
    wanted = counted(query)
    assert report.totals == wanted.totals
    assert report.cohorts == wanted.cohorts
    assert report.top_origins == wanted.top_origins
    assert report.top_pages == wanted.top_pages
    starts = [slot.start for slot in report.series]
    assert starts == list(range(query.begin, query.end, query.step))
    for slot in report.series:
        of_slot = counted(Query(slot.start, slot.start + query.step, query.interval, query.bot)).totals
        assert (slot.sessions, slot.messages, slot.replies, slot.errors, slot.reply_ms_p50) == (
            of_slot.sessions,
            of_slot.messages,
            of_slot.replies,
            of_slot.errors,
            of_slot.reply_ms_p50,
        )


@pytest.fixture(name="pool")
async def _pool(kept: Database) -> AsyncIterator[Pool]:
    pool = Pool(kept.url, pool_size=1)
    yield pool
    await pool.close()


async def test_a_server_and_a_command_tell_the_same(kept: Database, pool: Pool) -> None:
    for query in QUERIES:
        asked = parameters(query)
        parts = await pool.rows(statement("report"), asked)
        served = report_from(query, parts, await pool.rows(statement("cohorts"), asked))
        with connect(kept.url) as connection:
            assert read_report(connection, query) == served
        assert document(served)["cohorts"]["messages_per_session"]["counts"][-1]["messages"] == "21+"
