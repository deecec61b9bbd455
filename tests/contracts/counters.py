"""What every `CounterStore` must do. An adapter's test subclasses `CounterContract` and gives its two hooks."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import pytest

from chatcore.ports import CounterStore, Level

DAY = 86400


class CounterContract(ABC):
    """`make` gives a fresh store, `advance` moves the clock that it reads, `now` reads that clock (epoch seconds)."""

    @abstractmethod
    async def make(self) -> CounterStore: ...

    @abstractmethod
    async def advance(self, seconds: float) -> None: ...

    @abstractmethod
    async def now(self) -> float: ...

    @pytest.fixture
    async def counters(self) -> CounterStore:
        return await self.make()

    @pytest.mark.parametrize("burst", [1, 7, 60, 1000])
    async def test_burst_is_admitted_at_once_and_no_more(self, counters: CounterStore, burst: int) -> None:
        interval = 60 / burst
        levels = [await counters.take("k", interval, burst) for _ in range(burst)]
        assert [level.admitted for level in levels] == [True] * burst
        assert [level.remaining for level in levels] == list(range(burst - 1, -1, -1))
        assert {level.retry_after for level in levels} == {0.0}
        refused = await counters.take("k", interval, burst)
        assert not refused.admitted
        assert refused.remaining == 0

    async def test_waits_are_told_exactly(self, counters: CounterStore) -> None:
        first = await counters.take("k", 10.0, 2)
        assert first.full_after == pytest.approx(10.0)
        second = await counters.take("k", 10.0, 2)
        assert second.full_after == pytest.approx(20.0)
        await self.advance(4)
        refused = await counters.take("k", 10.0, 2)
        assert refused.retry_after == pytest.approx(6.0)
        assert refused.full_after == pytest.approx(16.0)

    async def test_one_cell_comes_back_each_interval(self, counters: CounterStore) -> None:
        await self._exhaust(lambda: counters.take("k", 10.0, 3), 3)
        await self.advance(9.5)
        assert not (await counters.take("k", 10.0, 3)).admitted
        await self.advance(0.5)
        assert (await counters.take("k", 10.0, 3)).admitted
        assert not (await counters.take("k", 10.0, 3)).admitted

    async def test_a_refusal_costs_nothing(self, counters: CounterStore) -> None:
        await self._exhaust(lambda: counters.take("k", 10.0, 1), 1)
        for _ in range(50):
            assert not (await counters.take("k", 10.0, 1)).admitted
        await self.advance(10)
        assert (await counters.take("k", 10.0, 1)).admitted

    async def test_a_bucket_never_holds_more_than_its_burst(self, counters: CounterStore) -> None:
        await counters.take("k", 1.0, 3)
        await self.advance(10 * DAY)
        await self._exhaust(lambda: counters.take("k", 1.0, 3), 3)

    async def test_keys_do_not_share(self, counters: CounterStore) -> None:
        await self._exhaust(lambda: counters.take("a", 10.0, 1), 1)
        assert (await counters.take("b", 10.0, 1)).admitted
        await self._exhaust(lambda: counters.count("w", 1, 2e9), 1)
        assert (await counters.count("v", 1, 2e9)).admitted

    async def test_give_back_undoes_one_take(self, counters: CounterStore) -> None:
        await self._exhaust(lambda: counters.take("k", 10.0, 2), 2)
        await counters.give_back("k", 10.0)
        await self._exhaust(lambda: counters.take("k", 10.0, 2), 1)

    async def test_giving_back_too_much_never_overfills(self, counters: CounterStore) -> None:
        await counters.take("k", 10.0, 2)
        for _ in range(5):
            await counters.give_back("k", 10.0)
        await counters.give_back("never seen", 10.0)
        await self._exhaust(lambda: counters.take("k", 10.0, 2), 2)
        await self._exhaust(lambda: counters.take("never seen", 10.0, 2), 2)

    async def test_giving_back_after_a_refill_never_overfills(self, counters: CounterStore) -> None:
        await counters.take("k", 10.0, 2)
        await self.advance(60)
        await counters.give_back("k", 10.0)
        await self._exhaust(lambda: counters.take("k", 10.0, 2), 2)

    async def test_a_window_counts_to_its_limit(self, counters: CounterStore) -> None:
        until = await self.now() + 100
        levels = [await counters.count("w", 3, until) for _ in range(3)]
        assert [(level.admitted, level.remaining) for level in levels] == [(True, 2), (True, 1), (True, 0)]
        await self.advance(40)
        refused = await counters.count("w", 3, until)
        assert (refused.admitted, refused.remaining) == (False, 0)
        assert refused.retry_after == pytest.approx(60, abs=0.01)
        assert refused.full_after == pytest.approx(60, abs=0.01)

    async def test_a_closed_window_starts_again(self, counters: CounterStore) -> None:
        until = await self.now() + 100
        await self._exhaust(lambda: counters.count("w", 2, until), 2)
        await self.advance(100)
        later = until + 100
        await self._exhaust(lambda: counters.count("w", 2, later), 2)

    async def test_uncount_undoes_one_count(self, counters: CounterStore) -> None:
        until = await self.now() + 100
        await self._exhaust(lambda: counters.count("w", 2, until), 2)
        await counters.uncount("w")
        await self._exhaust(lambda: counters.count("w", 2, until), 1)

    async def test_uncounting_too_much_never_overfills(self, counters: CounterStore) -> None:
        until = await self.now() + 100
        await counters.count("w", 2, until)
        for _ in range(5):
            await counters.uncount("w")
        await counters.uncount("never seen")
        await self._exhaust(lambda: counters.count("w", 2, until), 2)

    async def test_a_lowered_limit_refuses_what_is_above_it(self, counters: CounterStore) -> None:
        until = await self.now() + 100
        await self._exhaust(lambda: counters.count("w", 5, until), 5)
        assert not (await counters.count("w", 3, until)).admitted

    async def test_long_keys_work(self, counters: CounterStore) -> None:
        key = "k" * 199
        await self._exhaust(lambda: counters.take(key + "a", 10.0, 1), 1)
        assert (await counters.take(key + "b", 10.0, 1)).admitted

    @staticmethod
    async def _exhaust(charge: Callable[[], Awaitable[Level]], expected: int) -> None:
        """Charge until refused; exactly `expected` must have been admitted."""
        admitted = 0
        while (await charge()).admitted:
            admitted += 1
            assert admitted <= expected
        assert admitted == expected
