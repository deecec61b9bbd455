"""The session store of the stateless mode keeps what of the contract it can: it remembers nothing."""

import pytest

from chatcore.ports import SessionStore
from chatcore.stores.sessions_none import NoSessions
from tests.contracts.sessions import DONE, SOMEBODY, SessionBench, SessionContract, reply_of, turn


class NoneBench:
    """Nothing to look into."""

    def __init__(self) -> None:
        self.store: SessionStore = NoSessions()


@pytest.fixture(name="bench")
def _bench() -> NoneBench:
    return NoneBench()


class TestNoSessions(SessionContract):
    """The port's promises."""


async def test_nothing_is_ever_waited_for(bench: SessionBench) -> None:
    asked = turn()
    assert bench.store.open_turn(asked) is None
    assert bench.store.close_turn(asked, DONE, await reply_of(asked)) is None


async def test_no_session_is_told_dead(bench: SessionBench) -> None:
    await bench.store.erase("s1", SOMEBODY)
    assert not await bench.store.is_erased("s1")
