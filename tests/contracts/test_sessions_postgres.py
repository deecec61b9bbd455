"""The session store of PostgreSQL mode: the contract, and what only a database with every message promises."""

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from chatcore.model import Actor, Delta, Outcome, Turn, User
from chatcore.ports import ReplyRecord, StoreUnavailableError
from chatcore.stores.postgres.sessions import PostgresSessions
from tests.contracts.sessions import DONE, SOMEBODY, Counts, LastingSessionContract, play, reply_of, settled, turn
from tests.support import postgres_bench
from tests.support.background import eventually
from tests.support.databases import Database
from tests.support.postgres_bench import WITHIN_SECONDS, PostgresBench, uuid_of

SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)


class Named:
    """The store for the contract's turns, whose ids are short names: it sees UUIDs, as from the routes."""

    def __init__(self, sessions: PostgresSessions) -> None:
        self._sessions = sessions

    def open_turn(self, asked: Turn) -> Awaitable[object] | None:
        return self._sessions.open_turn(_with_uuid(asked))

    def close_turn(self, asked: Turn, outcome: Outcome, reply: ReplyRecord) -> Awaitable[object] | None:
        return self._sessions.close_turn(_with_uuid(asked), outcome, reply)

    async def erase(self, session_id: str, by: Actor) -> None:
        await self._sessions.erase(session_id, by)

    async def is_erased(self, session_id: str) -> bool:
        return await self._sessions.is_erased(session_id)


def _with_uuid(asked: Turn) -> Turn:
    return replace(asked, message_id=uuid_of(asked.message_id))


class DatabaseBench:
    """A store over a real database; `killed` opens another one over the same, with the journal as it was left."""

    def __init__(self, instance: PostgresBench, folder: Path, stack: AsyncExitStack) -> None:
        self.instance = instance
        self.store = Named(instance.sessions)
        self._folder = folder
        self._stack = stack

    async def counts(self, session_id: str) -> Counts | None:
        found = self.instance.rows(
            "SELECT messages, replies, errors, reply_ms FROM chatcore.sessions WHERE id = %s", session_id
        )
        return Counts(*found[0]) if found else None

    async def killed(self) -> "DatabaseBench":
        number = len(list(self._folder.glob("*.db")))
        path = self._folder / f"{number}.db"
        instance = await self._stack.enter_async_context(postgres_bench.running(self.instance.target, path))
        return DatabaseBench(instance, self._folder, self._stack)


@pytest.fixture(name="target", scope="module")
def _target() -> Iterator[Database]:
    database = postgres_bench.migrated()
    yield database
    database.drop()


@pytest.fixture(name="bench")
async def _bench(target: Database, tmp_path: Path) -> AsyncIterator[DatabaseBench]:
    postgres_bench.emptied(target)
    async with AsyncExitStack() as stack:
        instance = await stack.enter_async_context(postgres_bench.running(target, tmp_path / "0.db"))
        yield DatabaseBench(instance, tmp_path, stack)


class TestPostgresSessions(LastingSessionContract):
    """The port's promises."""


async def test_opening_costs_no_wait(bench: DatabaseBench) -> None:
    assert bench.store.open_turn(turn()) is None


async def test_a_session_keeps_where_it_began_and_who_it_is(bench: DatabaseBench) -> None:
    first = Turn(
        session_id="s1",
        bot="shop",
        message_id="m1",
        text="hello",
        received_at=turn().received_at,
        origin="https://a.test",
        page_url="https://a.test/prices",
        user_agent=SAFARI,
    )
    await play(bench.store, first)
    await play(bench.store, replace(first, message_id="m2", page_url="https://a.test/b", user=User("visitor 7")))
    kept = bench.instance.rows("SELECT bot, origin, page, client, visitor FROM chatcore.sessions")
    assert kept == [("shop", "https://a.test", "https://a.test/prices", "safari mobile", "visitor 7")]


async def test_messages_are_kept_in_their_order_with_segments_apart(bench: DatabaseBench) -> None:
    for number in range(3):
        asked = turn(f"m{number}", text=f"question {number}", at=turn().received_at + number)
        reply = await reply_of(asked)
        reply.append([Delta("one "), Delta("two"), Delta("three", opens_segment=True)])
        bench.store.open_turn(asked)
        await settled(bench.store.close_turn(asked, DONE, reply))
    kept = bench.instance.rows("SELECT content FROM chatcore.messages ORDER BY accepted_at, message_id, role")
    assert [content for (content,) in kept] == [
        said for number in range(3) for said in (f"question {number}", "one two\n\nthree")
    ]


async def test_very_long_names_are_cut_and_what_cannot_be_stored_is_replaced(bench: DatabaseBench) -> None:
    asked = replace(turn(text="a\0b"), origin="o" * 9000, page_url="ä\0" * 9000, user=User("\ud83d"))
    reply = await reply_of(asked)
    reply.append([Delta("\0")])
    bench.store.open_turn(asked)
    await settled(bench.store.close_turn(asked, DONE, reply))
    assert bench.instance.rows("SELECT length(origin), length(page), visitor FROM chatcore.sessions") == [
        (512, 512, "?")
    ]
    assert bench.instance.rows("SELECT content FROM chatcore.messages ORDER BY role") == [("a\ufffdb",), ("\ufffd",)]


async def test_an_awaitable_that_resolved_means_the_database_has_it(bench: DatabaseBench) -> None:
    for number in range(30):
        asked = turn(f"m{number}")
        bench.store.open_turn(asked)
        await settled(bench.store.close_turn(asked, DONE, await reply_of(asked)))
        assert bench.instance.rows("SELECT count(*) FROM chatcore.turns WHERE state <> 'open'") == [(number + 1,)]


async def test_an_erasure_is_audited_without_texts(bench: DatabaseBench) -> None:
    await play(bench.store, turn(text="a secret"))
    await bench.store.erase("s1", SOMEBODY)
    ((row,),) = bench.instance.rows("SELECT row_to_json(a) FROM chatcore.audit_log AS a")
    assert (row["actor"], row["action"], row["session_id"]) == ("visitor", "session_erased", "s1")
    assert SOMEBODY.address not in str(row)
    assert "secret" not in str(row)


async def test_a_session_that_cannot_be_erased_lives_on(bench: DatabaseBench) -> None:
    await play(bench.store, turn())
    bench.instance.rows("REVOKE DELETE ON chatcore.messages FROM chatcore_app")
    try:
        with pytest.raises(StoreUnavailableError):
            await bench.store.erase("s1", SOMEBODY)
    finally:
        bench.instance.rows("GRANT DELETE ON chatcore.messages TO chatcore_app")
    assert not await bench.store.is_erased("s1")
    assert await bench.counts("s1") == Counts(1, 1, 0, 120)
    assert bench.instance.rows("SELECT count(*) FROM chatcore.audit_log") == [(0,)]


async def test_other_instances_hear_of_an_erasure_by_looking(bench: DatabaseBench) -> None:
    other = await bench.killed()
    erased = other.instance.erased
    erased.tick(1.0)
    await eventually(lambda: not erased.looking, WITHIN_SECONDS)
    other.instance.rows(
        "ALTER TABLE chatcore.erased RENAME TO hidden"
    )  # who is not known to be erased is not asked for
    assert not await other.store.is_erased("s1")
    other.instance.rows("ALTER TABLE chatcore.hidden RENAME TO erased")
    await bench.store.erase("s1", SOMEBODY)
    erased.tick(1.5)
    assert not erased.looking
    erased.tick(2.1)
    await eventually(lambda: not erased.looking, WITHIN_SECONDS)
    assert await other.store.is_erased("s1")
    assert not await other.store.is_erased("s2")
