"""Fills PostgreSQL mode's tables with made-up conversations, and measures over HTTP what operators and visitors ask.

    python bench/fill_postgres.py --messages 10000000 --days 300

Starts servers of its own (PostgreSQL, Redis, chatcore) in a temporary folder, fills the tables by statements that the
database runs itself, builds the index of words last, and asks each question several times. 10,000,000 messages need
8 GB of disk and some ten minutes. Needs the packages of bench/requirements.txt.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import psycopg

from chatcore.clock import SystemClock
from chatcore.settings import PostgresSettings, TokenSettings
from chatcore.stores.postgres import schema
from chatcore.tokens import Tokens
from tests.support.databases import Database, PostgresServer, RedisServer
from tests.support.server import JWT_SECRET, N8N_SECRET, ChatServer

ADMIN = "bench-admin-token-bench-admin-token-01"
TURNS_OF_A_SESSION = 5
RARE = "zanzibar"
"""A word in one of 2,000 messages."""

SESSION = "'s_' || left(translate(encode(sha256((n / {turns})::text::bytea), 'base64'), '+/', '-_'), 22)"
MOMENT = "timestamptz '{begin}' + n * interval '{step} microseconds'"
WORDS = """(SELECT string_agg('w' || floor(30000 * power(random(), 3))::integer, ' ') FROM generate_series(1, 12)
    WHERE n >= 0) || CASE WHEN n % 2000 = {offset} THEN ' {rare}' ELSE '' END"""
FILL = (
    """INSERT INTO chatcore.turns (session_id, message_id, bot, digest, accepted_at, state, duration_ms)
SELECT {session}, md5('m' || n)::uuid, 'default', '\\x00', {moment}, 'complete', 500 + n % 4000
FROM generate_series({first}, {last}) AS n""",
    """INSERT INTO chatcore.messages (session_id, accepted_at, message_id, role, created_at, content)
SELECT {session}, {moment}, md5('m' || n)::uuid, role, {moment} + role * interval '2 seconds', {words}
FROM generate_series({first}, {last}) AS n, generate_series(0, 1) AS role""",
)
FIGURES = (
    """INSERT INTO chatcore.sessions (id, bot, created_at, seen_at, origin, page, client, messages, replies, reply_ms)
SELECT session_id, 'default', min(accepted_at), max(accepted_at), 'https://shop.example.com', '/p', 'chrome desktop',
    count(*), count(*), sum(duration_ms) FROM chatcore.turns GROUP BY 1""",
    """INSERT INTO chatcore.hours (hour, bot, shard, sessions, messages, replies)
SELECT chatcore.hour_of(accepted_at), bot, 0, count(*) / 5, count(*), count(*) FROM chatcore.turns GROUP BY 1, 2""",
    """INSERT INTO chatcore.reply_times (hour, bot, bucket, shard, count)
SELECT chatcore.hour_of(accepted_at), bot, ceil(ln(duration_ms) / ln(1.1)), 0, count(*)
FROM chatcore.turns GROUP BY 1, 2, 3""",
    """INSERT INTO chatcore.pages (day, bot, name, shard, sessions, messages)
SELECT chatcore.day_of(accepted_at), bot, '/p' || duration_ms % 300, 0, count(*) / 5, count(*)
FROM chatcore.turns GROUP BY 1, 2, 3""",
    """INSERT INTO chatcore.origins (day, bot, name, shard, sessions, messages)
SELECT chatcore.day_of(accepted_at), bot, 'https://shop.example.com', 0, count(*) / 5, count(*)
FROM chatcore.turns GROUP BY 1, 2""",
)
BATCH = 250_000


def fill(database: Database, messages: int, days: int) -> None:
    """Put in so many messages, the last one about now."""
    end = datetime.now(UTC)
    begin = end - timedelta(days=days)
    turns = messages // 2
    parts = {
        "session": SESSION.format(turns=TURNS_OF_A_SESSION),
        "moment": MOMENT.format(begin=begin.isoformat(), step=round(days * 86400 * 1e6 / turns)),
        "words": WORDS.format(rare=RARE, offset=7),
    }
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        for day in range(0, days + 1, 20):
            schema.add_partitions(connection, (begin + timedelta(days=day)).timestamp())
        connection.execute("SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'; SET synchronous_commit = off")
        index = connection.execute("SELECT pg_get_indexdef('chatcore.messages_words'::regclass)").fetchone()
        assert index is not None
        connection.execute("DROP INDEX chatcore.messages_words")
        for first in range(0, turns, BATCH):
            for statement in FILL:
                connection.execute(statement.format(first=first, last=min(first + BATCH, turns) - 1, **parts))
            _say(f"{min(first + BATCH, turns) * 2:,} messages")
        for statement in FIGURES:
            connection.execute(statement)
        _say("building the index of words")
        connection.execute(index[0].replace(" ON ONLY ", " ON "))
        connection.execute("VACUUM ANALYZE")


def measure(database: Database, redis_url: str) -> None:
    """Ask over HTTP and print how long answers take."""
    environment = {
        "DATABASE_URL": database.url,
        "DATABASE_ADMIN_URL": database.admin_url,
        "REDIS_URL": redis_url,
        "AUDIT_KEY": "bench-audit-key-bench-audit-key-bench-01",
        "ADMIN_TOKENS": f"bench:{ADMIN}",
        "N8N_WEBHOOK_URL": "http://127.0.0.1:9/webhook/none",
    }
    session_id = str(database.sql("SELECT id FROM chatcore.sessions ORDER BY seen_at DESC OFFSET 1000 LIMIT 1")[0][0])
    tokens = Tokens(TokenSettings(jwt_secrets=(JWT_SECRET,), session_secret=N8N_SECRET), SystemClock())
    token = tokens.issue("", "default", None, session_id=session_id, started_at=int(time.time())).token
    today = datetime.now(UTC).strftime("%Y-%m-%dT00:00:00Z")
    yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT00:00:00Z")
    admin, own = {"Authorization": f"Bearer {ADMIN}"}, {"Authorization": f"Bearer {token}"}
    questions: list[tuple[str, str, dict[str, str]]] = [
        ("a page of a session's history", "/api/v1/history?limit=50", own),
        ("the latest sessions", "/api/v1/admin/sessions", admin),
        ("sessions that say a rare word", f"/api/v1/admin/sessions?q={RARE}", admin),
        ("sessions that say a common word", "/api/v1/admin/sessions?q=w1", admin),
        ("sessions that say two words", "/api/v1/admin/sessions?q=w1+w20", admin),
        ("a word that nobody says", "/api/v1/admin/sessions?q=nobodysaysthis", admin),
        ("a day's analytics", f"/api/v1/admin/analytics?from={yesterday}&to={today}", admin),
        ("a week's analytics", "/api/v1/admin/analytics", admin),
        ("the audit log", "/api/v1/admin/audit", admin),
    ]
    with ChatServer(environment, main="main_postgres.py") as server, httpx.Client(base_url=server.url) as client:
        for name, path, headers in questions:
            _say(f"{name}: {_timed(lambda path=path, headers=headers: client.get(path, headers=headers, timeout=60))}")


def _timed(ask: Callable[[], httpx.Response]) -> str:
    times = []
    for _ in range(9):
        began = time.perf_counter()
        ask().raise_for_status()
        times.append((time.perf_counter() - began) * 1000)
    return (
        f"first {times[0]:.0f} ms, then median {statistics.median(times[1:]):.0f} ms, longest {max(times[1:]):.0f} ms"
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")
    sys.stdout.flush()


def main() -> None:
    """Fill and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=300)
    wanted = parser.parse_args()
    settings: dict[str, Any] = {"shared_buffers": "1GB", "max_wal_size": "8GB", "max_parallel_workers_per_gather": "0"}
    with PostgresServer(settings=settings) as postgres, RedisServer() as redis:
        postgres.start()
        redis.start()
        database = postgres.new_database()
        told = PostgresSettings(url=database.url, admin_url=database.admin_url, read_url=database.url, redis_url="")
        schema.prepare(told, SystemClock())
        fill(database, wanted.messages, wanted.days)
        measure(database, redis.url)


if __name__ == "__main__":
    main()
