"""The session store of SQLite mode: the contract, and what only a file promises."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chatcore.model import Turn
from chatcore.ports import SessionStore, StoreUnavailableError
from tests.contracts.sessions import (
    DONE,
    FAILED,
    SOMEBODY,
    Counts,
    LastingSessionContract,
    play,
    reply_of,
    settled,
    turn,
)
from tests.support import sqlite_bench
from tests.support.clock import START, ManualClock
from tests.support.sqlite_bench import SqliteBench

SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)


class FileBench:
    """A store over a real file; `killed` opens a copy of it."""

    def __init__(self, file: SqliteBench, stack: AsyncExitStack) -> None:
        self.file = file
        self.store: SessionStore = file.sessions
        self._stack = stack

    async def counts(self, session_id: str) -> Counts | None:
        found = self.file.rows("SELECT messages, replies, errors, reply_ms FROM sessions WHERE id = ?", session_id)
        return Counts(*found[0]) if found else None

    async def killed(self) -> "FileBench":
        left = sqlite_bench.as_killed(self.file.path)
        opened = await self._stack.enter_async_context(sqlite_bench.opened(left, self.file.clock))
        return FileBench(opened, self._stack)


@pytest.fixture(name="bench")
async def _bench(tmp_path: Path) -> AsyncIterator[FileBench]:
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(sqlite_bench.opened(tmp_path / "chat.db", ManualClock()))
        yield FileBench(opened, stack)


class TestSqliteSessions(LastingSessionContract):
    """The port's promises."""


def asked_from(origin: str | None, page: str | None, agent: str = "", **changes: str) -> Turn:
    return Turn(
        session_id=changes.get("session_id", "s1"),
        bot="shop",
        message_id=changes.get("message_id", "m1"),
        text="my card number is 4711",
        received_at=START,
        origin=origin,
        page_url=page,
        user_agent=agent,
    )


async def test_opening_costs_no_wait(bench: FileBench) -> None:
    assert bench.store.open_turn(turn()) is None


async def test_a_session_keeps_where_it_began_and_no_text(bench: FileBench) -> None:
    await play(bench.store, asked_from("https://a.test", "https://a.test/prices", SAFARI))
    await play(bench.store, asked_from("https://b.test", "https://b.test/", message_id="m2"))
    kept = bench.file.rows("SELECT bot, created_at, origin, page, client FROM sessions")
    assert kept == [("shop", START, "https://a.test", "https://a.test/prices", "safari mobile")]
    for path in bench.file.path.parent.glob("chat.db*"):
        content = path.read_bytes()
        for secret in (b"4711", b"my card", b"iPhone", b"AppleWebKit"):
            assert secret not in content


async def test_a_session_from_nowhere_is_kept_too(bench: FileBench) -> None:
    await play(bench.store, asked_from(None, None))
    assert bench.file.rows("SELECT origin, page, client FROM sessions") == [("", "", "other other")]


async def test_very_long_names_are_cut(bench: FileBench) -> None:
    await play(bench.store, asked_from("o" * 9000, "p" * 9000))
    assert bench.file.rows("SELECT length(origin), length(page) FROM sessions") == [(512, 512)]


async def test_a_turn_that_a_kill_left_open_is_an_error_and_only_once(bench: FileBench) -> None:
    await play(bench.store, turn())
    await settled(bench.store.open_turn(turn("m2")))
    await play(bench.store, turn("m1", "s2"), FAILED)  # resolves when all before it is durable
    await asyncio.sleep(0)
    async with asyncio.timeout(sqlite_bench.WITHIN_SECONDS):
        while (await bench.counts("s1") or Counts(0, 0, 0, 0)).messages < 2:
            await asyncio.sleep(0.005)
    left = await bench.killed()
    assert await left.counts("s1") == Counts(2, 1, 1, 120)
    assert await left.counts("s2") == Counts(1, 0, 1, 0)
    again = await left.killed()
    assert await again.counts("s1") == Counts(2, 1, 1, 120)
    assert again.file.rows("SELECT messages, replies, errors FROM hours") == [(3, 1, 2)]


async def test_a_session_whose_erasing_must_wait_is_dead_meanwhile(bench: FileBench) -> None:
    await play(bench.store, turn())
    bench.file.erased.complete = True
    await bench.file.write_with("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailableError):
        await bench.store.erase("s1", SOMEBODY)
    assert await bench.store.is_erased("s1")
    await bench.file.write_with("PRAGMA query_only = OFF")
    bench.file.clock.advance(2)
    bench.file.writer.tick(bench.file.clock.monotonic())
    async with asyncio.timeout(sqlite_bench.WITHIN_SECONDS):
        while bench.file.writer.trouble() is not None:
            await asyncio.sleep(0.005)
    assert await bench.counts("s1") is None
    assert await (await bench.killed()).store.is_erased("s1")


async def test_a_session_is_looked_up_once_all_are_known_only_where_it_may_be_erased(bench: FileBench) -> None:
    await bench.store.erase("s1", SOMEBODY)
    bench.file.erased.complete = True
    bench.file.sessions.reader = None  # nobody to ask
    assert not await bench.store.is_erased("s2")
    bench.file.sessions.reader = bench.file.reader
    assert await bench.store.is_erased("s1")


async def test_a_file_that_cannot_be_read_is_told_as_the_port_says(bench: FileBench) -> None:
    await bench.file.write_with("DROP TABLE erased")
    with pytest.raises(StoreUnavailableError):
        await bench.store.is_erased("s1")


async def test_an_awaitable_that_resolved_means_the_file_has_it(bench: FileBench) -> None:
    for number in range(30):
        asked = turn(f"m{number}")
        bench.store.open_turn(asked)
        await settled(bench.store.close_turn(asked, DONE, await reply_of(asked)))
        assert bench.file.rows("SELECT count(*) FROM turns WHERE NOT open") == [(number + 1,)]
