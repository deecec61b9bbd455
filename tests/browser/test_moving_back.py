"""A visitor goes along by the other ways between the modes; what SQLite mode made itself is taken along or missed."""

from pathlib import Path

from tests.support.databases import Database, RedisDatabase
from tests.support.documented import commands
from tests.support.moving import Move, begins, looks_well, moves, moves_unseen, sessions_seen, travelling
from tests.support.n8n import ScriptedN8n
from tests.support.site import Website

TO_POSTGRES = Move(
    "postgres",
    before=[
        commands("docs/moving-stateless-to-postgres.md", "Before", 0),
        commands("docs/moving-stateless-to-postgres.md", "Before", 1),
    ],
    start=commands("docs/moving-stateless-to-postgres.md", "Move"),
    after=[commands("docs/moving-stateless-to-postgres.md", "After")],
)
POSTGRES_TO_SQLITE = Move(
    "sqlite",
    before=[commands("docs/moving-postgres-to-sqlite.md", "Before")],
    start=commands("docs/moving-postgres-to-sqlite.md", "Move"),
    after=[commands("docs/moving-postgres-to-sqlite.md", "After", 0)],
)
SQLITE_TO_STATELESS = Move(
    "stateless",
    before=[commands("docs/moving-sqlite-to-stateless.md", "Before")],
    start=commands("docs/moving-sqlite-to-stateless.md", "Move"),
    after=[commands("docs/moving-sqlite-to-stateless.md", "After")],
)


async def test_from_stateless_over_postgres_and_sqlite_back_to_stateless(
    tmp_path: Path, site: Website, n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase
) -> None:
    async with travelling(tmp_path, site, n8n, database, redis_server.url) as (journey, profile):
        tokens = await begins(journey, profile, SQLITE_TO_STATELESS.start)
        await moves(journey, TO_POSTGRES, profile)
        await looks_well(journey, TO_POSTGRES, profile)
        await moves(journey, POSTGRES_TO_SQLITE, profile)
        await looks_well(journey, POSTGRES_TO_SQLITE, profile)
        await journey.runs(commands("docs/moving-postgres-to-sqlite.md", "After", 1))
        assert len((tmp_path / "place" / "all.jsonl").read_text("utf-8").splitlines()) == 2
        await moves_unseen(journey, SQLITE_TO_STATELESS, profile)
        await looks_well(journey, SQLITE_TO_STATELESS, profile)
        assert await profile.tokens() == tokens
        assert sessions_seen(journey, profile) == [{session} for session, _ in tokens]


async def test_keys_that_sqlite_mode_made_are_taken_along_or_visitors_get_new_sessions(
    tmp_path: Path, site: Website, n8n: ScriptedN8n, database: Database, redis_server: RedisDatabase
) -> None:
    async with travelling(tmp_path, site, n8n, database, redis_server.url) as (journey, profile):
        journey.forgets("JWT_SECRET_KEY", "SESSION_SECRET_KEY")
        await journey.starts(POSTGRES_TO_SQLITE.start, "sqlite")
        await profile.open()
        await profile.begins()
        tokens = await profile.tokens()
        await journey.stops()
        await journey.runs(commands("docs/moving.md", "Keys that SQLite mode made"))
        await journey.starts(SQLITE_TO_STATELESS.start, "stateless")
        await profile.one.chats("with the keys")
        assert await profile.tokens() == tokens
        await journey.stops()
        journey.forgets("JWT_SECRET_KEY", "SESSION_SECRET_KEY")
        await journey.starts(SQLITE_TO_STATELESS.start, "stateless")
        await profile.one.chats("without the keys")
        await profile.holds_all()
        [(first, _), (second, _)] = tokens
        seen = sessions_seen(journey, profile)
        assert first in seen[0]
        assert (len(seen[0]), seen[1]) == (2, {second})
        assert profile.unexpected() == []
