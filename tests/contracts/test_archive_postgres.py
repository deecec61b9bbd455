"""The archive over a real PostgreSQL: every page of every question, and nothing beyond what is asked for."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest

from chatcore.archive import Mark, Message, SessionMark, SessionPage, SessionQuery
from chatcore.stores.postgres.archive import PostgresArchive, excerpt
from chatcore.stores.postgres.database import Database as Pool
from tests.support.databases import Database
from tests.support.kept_messages import BEGIN, Said, keep, prepare, session_id

DAY = 86_400
COLOURS = ("red", "green", "blue")


def conversation() -> Iterator[Said]:
    """Give turns of 40 sessions over two and a half months, some at the same moment, some sessions in two months."""
    for number in range(120):
        session = number % 40
        yield Said(
            session=session,
            number=number + 1,
            at=BEGIN + (number // 3) * 1.9 * DAY + session % 2 * 5,
            text=f"Ich hätte gern Schuhe in {COLOURS[number % 3]}, Größe {36 + number % 7}",
            reply="" if number % 11 == 0 else f"Die {'letzten' if number % 5 == 0 else 'neuen'} Schuhe sind da",
            state="error" if number % 11 == 0 else "complete",
            error="upstream_timeout" if number % 11 == 0 else None,
            origin=f"https://{'shop' if session % 4 else 'blog'}.test",
            bot="shop" if session % 5 == 0 else "default",
        )


TURNS = tuple(conversation())
BY_SESSION = {session: [one for one in TURNS if one.session == session] for session in range(40)}


@pytest.fixture(scope="module", name="kept")
def _kept(database_of_module: Database) -> Database:
    prepare(database_of_module)
    keep(database_of_module, TURNS)
    return database_of_module


@pytest.fixture(name="pool")
async def _pool(kept: Database) -> AsyncIterator[Pool]:
    pool = Pool(kept.url, pool_size=2)
    yield pool
    await pool.close()


@pytest.fixture(name="archive")
def _archive(pool: Pool) -> PostgresArchive:
    return PostgresArchive(pool, pool)


async def all_pages(archive: PostgresArchive, query: SessionQuery) -> Sequence[SessionPage]:
    pages: list[SessionPage] = []
    before: SessionMark | None = None
    while not pages or before is not None:
        asked = SessionQuery(
            **{name: getattr(query, name) for name in query.__struct_fields__ if name != "before"}, before=before
        )
        page = await archive.search(asked)
        assert len(page.sessions) <= query.limit
        pages.append(page)
        before = page.before
        assert len(pages) < 200
    return pages


def found(pages: Sequence[SessionPage]) -> list[str]:
    return [session.session_id for page in pages for session in page.sessions]


def expected(matches: Sequence[Said]) -> list[str]:
    """Give the sessions of turns that match, by the latest of them."""
    latest: dict[str, int] = {}
    for one in matches:
        latest[one.session_id] = max(latest.get(one.session_id, 0), one.at_us)
    return [session for _, session in sorted(((at, session) for session, at in latest.items()), reverse=True)]


async def test_a_history_is_every_message_in_its_order_page_by_page(archive: PostgresArchive) -> None:
    for session, turns in BY_SESSION.items():
        said = [
            (one.message_id, role, text)
            for one in turns
            for role, text in (("user", one.text), ("assistant", one.reply))
            if text
        ]
        for limit in (1, 2, 5, 200):
            told: list[Message] = []
            mark: Mark | None = None
            while True:
                page = await archive.history(session_id(session), mark, limit)
                assert len(page.messages) <= limit
                told[:0] = page.messages
                mark = page.before
                if mark is None:
                    break
            assert [(it.message_id, it.role, it.content) for it in told] == said


async def test_how_a_turn_went_stands_with_both_of_its_messages(archive: PostgresArchive, kept: Database) -> None:
    failed, good = TURNS[11], TURNS[12]
    told = {(it.message_id, it.role): it for it in (await archive.history(failed.session_id, None, 200)).messages}
    of_user = told[failed.message_id, "user"]
    assert (of_user.finish_reason, of_user.error_code, of_user.duration_ms) == ("error", "upstream_timeout", 1500)
    assert (failed.message_id, "assistant") not in told
    kept.sql("UPDATE chatcore.turns SET rating = 'down', comment = 'No.' WHERE message_id = %s::uuid", good.message_id)
    messages = (await archive.history(good.session_id, None, 200)).messages
    both = [it for it in messages if it.message_id == good.message_id]
    assert [it.role for it in both] == ["user", "assistant"]
    assert {(it.finish_reason, it.error_code, it.rating, it.comment) for it in both} == {
        ("complete", None, "down", "No.")
    }
    assert both[0].created_at == pytest.approx(good.at)
    assert both[1].created_at == pytest.approx(good.at + 1.5)


async def test_what_is_running_and_what_a_crash_cut_is_told(archive: PostgresArchive, kept: Database) -> None:
    one = Said(session=900, number=9001, at=BEGIN, text="zzrunning", reply=None)
    keep(kept, [one])
    for state, told in (("open", (None, None)), ("cut", ("error", "reply_gone")), ("released", ("error", None))):
        kept.sql("UPDATE chatcore.turns SET state = %s WHERE session_id = %s", state, one.session_id)
        (message,) = (await archive.history(one.session_id, None, 10)).messages
        assert (message.finish_reason, message.error_code) == told
    kept.sql("DELETE FROM chatcore.sessions WHERE id = %s", one.session_id)


async def test_an_unknown_session_has_no_messages(archive: PostgresArchive) -> None:
    page = await archive.history(session_id(777), None, 10)
    assert (page.messages, page.before) == ((), None)


@pytest.mark.parametrize("limit", [1, 7, 40, 100])
async def test_all_sessions_are_listed_the_latest_first(archive: PostgresArchive, limit: int) -> None:
    pages = await all_pages(archive, SessionQuery(limit=limit))
    assert found(pages) == expected(TURNS)
    assert not any(page.truncated for page in pages)
    for session in (session for page in pages for session in page.sessions):
        turns = BY_SESSION[int(session.session_id[2:])]
        assert session.created_at == pytest.approx(turns[0].at)
        assert session.seen_at == pytest.approx(turns[-1].at)
        assert (session.messages, session.replies) == (len(turns), sum(one.state == "complete" for one in turns))
        assert (session.bot, session.origin, session.page) == (turns[0].bot, turns[0].origin, turns[0].page)
        assert session.excerpt is None


async def test_a_list_is_narrowed_by_all_that_may_be_asked(archive: PostgresArchive) -> None:
    for origin, bot, days in itertools.product(
        (None, "https://blog.test", "https://none.test"), (None, "shop"), (None, (10, 30))
    ):
        begin, end = (None, None) if days is None else (BEGIN + days[0] * DAY, BEGIN + days[1] * DAY)
        wanted = []
        for turns in BY_SESSION.values():
            seen = turns[-1].at
            in_time = begin is None or end is None or begin <= seen < end
            if in_time and origin in {None, turns[0].origin} and bot in {None, turns[0].bot}:
                wanted.append(turns[-1])
        query = SessionQuery(origin=origin, bot=bot, begin=begin, end=end, limit=3)
        assert found(await all_pages(archive, query)) == expected(wanted)


WORDS: dict[str, Callable[[Said], bool]] = {
    "schuhe": lambda _: True,
    "SCHUHE große": lambda _: True,
    "hatte blue": lambda one: "blue" in one.text,
    '"schuhe in red"': lambda one: "in red" in one.text,
    '"red schuhe"': lambda _: False,
    "letzten": lambda one: "letzten" in (one.reply or ""),
    "red or blue": lambda one: "green" not in one.text,
    "37 -green": lambda one: "37" in one.text and "green" not in one.text,
    "neverheard": lambda _: False,
}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("most", [10_000, 25, 2], ids=["index", "index and reading", "reading"])
async def test_a_search_finds_every_session_once_by_its_latest_match(pool: Pool, words: str, most: int) -> None:
    archive = PostgresArchive(pool, pool, most)
    matches = [one for one in TURNS if WORDS[words](one)]
    for limit in (2, 9, 100):
        pages = await all_pages(archive, SessionQuery(words=words, limit=limit))
        assert found(pages) == expected(matches)
        assert all(page.before is not None for page in pages[:-1])
        if most == 10_000:
            assert not any(page.truncated for page in pages)


async def test_a_search_is_narrowed_too(pool: Pool) -> None:
    begin, end = BEGIN + 8 * DAY, BEGIN + 40 * DAY
    wanted = [
        one
        for one in TURNS
        if "red" in one.text
        and begin <= one.at < end
        and BY_SESSION[one.session][0].origin == "https://blog.test"
        and BY_SESSION[one.session][0].bot == "default"
    ]
    assert wanted
    query = SessionQuery(words="red", origin="https://blog.test", bot="default", begin=begin, end=end, limit=1)
    for most in (10_000, 3):
        assert found(await all_pages(PostgresArchive(pool, pool, most), query)) == expected(wanted)


async def test_where_not_all_was_looked_at_the_page_says_so_and_leads_on(pool: Pool) -> None:
    archive = PostgresArchive(pool, pool, 5)
    page = await archive.search(SessionQuery(origin="https://none.test"))
    assert (page.sessions, page.truncated) == ((), True)
    assert page.before is not None
    page = await archive.search(SessionQuery(words="schuhe", origin="https://none.test"))
    assert (page.sessions, page.truncated) == ((), True)
    assert page.before is not None


async def test_an_excerpt_shows_where_the_match_is(archive: PostgresArchive, kept: Database) -> None:
    text = "Vorher " * 60 + "stehen die Wörter ÉCLAIR und naïve, zusammen " + "nachher " * 60
    keep(kept, [Said(session=901, number=9011, at=BEGIN, text=text), Said(session=902, number=9021, at=BEGIN)])
    (session,) = (await archive.search(SessionQuery(words="eclair NAIVE"))).sessions
    assert session.excerpt is not None
    assert "Wörter ÉCLAIR und naïve, zusammen" in session.excerpt
    assert len(session.excerpt) <= 202
    assert session.excerpt.startswith("…Vorher")
    assert session.excerpt.endswith("nachher…")
    for hostile in ("' OR 1=1 --", "a & b | !c <-> (d", "\\", "%_", "':*", "(((((", "word\u202e", "😀", "a" * 200):
        page = await archive.search(SessionQuery(words=hostile))
        assert not page.truncated
    for session_number in (901, 902):
        for table, column in (("messages", "session_id"), ("turns", "session_id"), ("sessions", "id")):
            kept.sql(f"DELETE FROM chatcore.{table} WHERE {column} = %s", session_id(session_number))  # noqa: S608 - ours


@pytest.mark.parametrize(
    ("piece", "before", "after", "shown"),
    [
        ("all  of\nit", False, False, "all of it"),
        ("ginning of words", True, False, "…of words"),
        ("words and the en", False, True, "words and the…"),
        (" words ", True, True, "…words…"),
        ("x" * 200, True, True, f"…{'x' * 200}…"),
        ("", False, False, ""),
    ],
)
def test_an_excerpt_is_one_line_of_whole_words(piece: str, before: bool, after: bool, shown: str) -> None:
    assert excerpt(piece, before=before, after=after) == shown
