"""The counters in memory keep the contract of all counters."""

import pytest

from chatcore.ports import CounterStore
from chatcore.stores.counters_memory import MemoryCounters
from tests.contracts.counters import CounterContract
from tests.support.clock import ManualClock


class TestMemoryCounters(CounterContract):
    """Runs the contract."""

    @pytest.fixture(autouse=True)
    def _clock(self) -> None:
        self.clock = ManualClock()

    async def make(self) -> CounterStore:
        return MemoryCounters(self.clock)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def now(self) -> float:
        return self.clock.now()
