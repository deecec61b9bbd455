"""What PostgreSQL does for each statement of reading: an index finds what is asked for, no table is read through."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import psycopg
import pytest

from chatcore.analytics import DAY_SECONDS, Query
from chatcore.stores.postgres import search
from chatcore.stores.postgres.reports import parameters
from chatcore.stores.postgres.statements import for_psycopg
from tests.support.clock import START
from tests.support.databases import Database
from tests.support.kept_messages import prepare, session_id

TURNS = 20_000
LARGE = (
    "turns",
    "messages_other",
    "messages_2026_0[89]",
    "sessions",
    "audit_log",
    "hours",
    "reply_times",
    "origins",
    "pages",
)

# Five turns a session, over sixty days that end with the tests' clock; one message in 500 has a word of its own.
FILL = f"""
INSERT INTO chatcore.turns (session_id, message_id, bot, digest, accepted_at, state)
SELECT 's_' || lpad((n / 5)::text, 22, '0'), lpad(to_hex(n), 32, '0')::uuid, 'default', '', to_timestamp({START:.0f})
    - interval '60 days' * (1 - n / {TURNS}.0), 'complete'
FROM generate_series(0, {TURNS} - 1) AS n;
INSERT INTO chatcore.sessions (id, bot, created_at, seen_at, origin, page, client)
SELECT session_id, 'default', min(accepted_at), max(accepted_at), '', '', '' FROM chatcore.turns GROUP BY 1;
INSERT INTO chatcore.messages
SELECT session_id, accepted_at, message_id, role, accepted_at, 'a text of w' || right(message_id::text, 2)
    || CASE role WHEN 0 THEN ' common' ELSE '' END
    || CASE WHEN right(message_id::text, 3) IN ('007', '107') THEN ' zebra' ELSE '' END
FROM chatcore.turns, generate_series(0, 1) AS role;
INSERT INTO chatcore.hours (hour, bot, shard)
SELECT {START - START % 3600:.0f}::bigint - h * 3600, 'default', s
FROM generate_series(0, 9599) AS h, generate_series(0, 2) AS s;
INSERT INTO chatcore.reply_times
SELECT {START - START % 3600:.0f}::bigint - h * 3600, 'default', b, 0, 1
FROM generate_series(0, 1439) AS h, generate_series(1, 20) AS b;
INSERT INTO chatcore.origins
SELECT {START - START % 86400:.0f}::bigint - d * 86400, 'default', n::text, 0, 1, n
FROM generate_series(0, 199) AS d, generate_series(1, 100) AS n;
INSERT INTO chatcore.pages SELECT * FROM chatcore.origins;
INSERT INTO chatcore.audit_log
SELECT n, now(), 'admin:anna', 'audit_read', NULL, '', '{{}}', '', '' FROM generate_series(1, 20000) AS n;
"""  # noqa: S608 - numbers of ours

NOW_US = round(START * 1_000_000)
WINDOW = {"begin_us": NOW_US - 20 * DAY_SECONDS * 1_000_000, "end_us": NOW_US}
EVERYWHERE = {"before_us": NOW_US + 1, "before_id": "z", "bot": None, "origin": None, "limit": 21}
SOME = msgspec.json.encode([{"id": session_id(n), "at": NOW_US - 10**13} for n in range(20)]).decode()
MIDNIGHT = round(START - START % DAY_SECONDS)
WEEK = parameters(Query(MIDNIGHT - 7 * DAY_SECONDS, MIDNIGHT, "day"))

# What an index has to do for each; a search's own settings hold for its statements.
STATEMENTS: Mapping[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "history": (
        {"session": session_id(9), "accepted_us": NOW_US, "message": "f" * 32, "role": 1, "most": 51},
        ("messages_2026_09_pkey", "turns_pkey"),
    ),
    "sessions_seen": ({**WINDOW, **EVERYWHERE, "most": 10_000}, ("sessions_seen",)),
    "months": ({}, ("turns_accepted",)),
    "search_words": ({**WINDOW, **EVERYWHERE, "most": 10_001, "words": "zebra"}, ("messages_2026_09_words_idx",)),
    "search_turns": (
        {**WINDOW, **EVERYWHERE, "most": 500, "words": "text"},
        ("turns_accepted", "messages_2026_09_pkey", "sessions_pkey"),
    ),
    "search_newer": ({"found": SOME, "words": "text", "end_us": NOW_US}, ("messages_2026_09_pkey",)),
    "sessions_shown": (
        {"found": SOME, "words": "text", "terms": '["text"]', "length": 200, "lead": 60},
        ("sessions_pkey", "messages_2026_09_pkey"),
    ),
    "audit_last": ({}, ("audit_log_pkey",)),
    "audit_page": ({"before": 9000, "most": 51}, ("audit_log_pkey",)),
    "audit_links": ({"after": 9000, "most": 1000}, ("audit_log_pkey",)),
    "report": (WEEK, ("hours_pkey", "reply_times_pkey", "origins_pkey", "pages_pkey")),
    "cohorts": (WEEK, ("turns_accepted",)),
}


@pytest.fixture(scope="module", name="filled")
def _filled(database_of_module: Database) -> Database:
    prepare(database_of_module)
    with psycopg.connect(database_of_module.superuser_url, autocommit=True) as connection:
        connection.execute(FILL.encode())
        connection.execute("VACUUM ANALYZE")
    return database_of_module


def plan(database: Database, name: str, asked: Mapping[str, Any]) -> str:
    with psycopg.connect(database.url, prepare_threshold=None) as connection:
        if name.startswith(("search_", "sessions_")):
            connection.execute(str(search.HINTS).encode())
        if name == "cohorts":
            connection.execute("SET LOCAL enable_seqscan = off")
        rows = connection.execute(b"EXPLAIN " + for_psycopg(name), asked).fetchall()
    return "\n".join(str(row[0]) for row in rows)


@pytest.mark.parametrize("name", STATEMENTS)
def test_an_index_finds_what_is_asked_for(filled: Database, name: str) -> None:
    asked, indexes = STATEMENTS[name]
    told = plan(filled, name, asked)
    for index in indexes:
        assert re.search(rf"\b{index}\b", told), told
    assert not re.search(rf"Seq Scan on ({'|'.join(LARGE)})\b", told), told


def test_a_month_is_asked_for_alone(filled: Database) -> None:
    midnight = MIDNIGHT * 1_000_000
    asked = {**EVERYWHERE, "begin_us": midnight - 86_400_000_000, "end_us": midnight, "most": 10_001, "words": "zebra"}
    told = plan(filled, "search_words", asked)
    assert set(re.findall(r"messages_(?:other|\d{4}_\d\d)", told)) == {"messages_2026_09"}


def test_a_common_word_is_looked_up_too(filled: Database) -> None:
    asked = {**WINDOW, **EVERYWHERE, "most": 10_001, "words": "common"}
    assert "words_idx" in plan(filled, "search_words", asked)
