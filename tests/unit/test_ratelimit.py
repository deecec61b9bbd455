"""Who may send now, and if not, when."""

import pytest

from chatcore.errors import Refusal
from chatcore.ratelimit import Limits, Standing
from chatcore.settings import BotSettings, LimitSettings
from chatcore.stores.counters_memory import MemoryCounters
from tests.support.clock import START, ManualClock

MIDNIGHT = (START // 86400 + 1) * 86400


def limits(
    clock: ManualClock, address: int = 0, session: int = 0, day: int = 0, day_address: int = 0, sales: int | None = None
) -> Limits:
    bots = {
        "default": BotSettings(
            name="default",
            url="http://n8n",
            rate_limit_per_minute=address,
            daily_message_limit=day,
            daily_message_limit_per_address=day_address,
        ),
        "sales": BotSettings(name="sales", url="http://n8n", rate_limit_per_minute=address if sales is None else sales),
    }
    settings = LimitSettings(rate_limit_per_minute=address, session_rate_limit_per_minute=session)
    return Limits(settings, bots, MemoryCounters(clock), clock)


async def test_a_minute_means_n_at_once_then_one_each_interval() -> None:
    clock = ManualClock()
    limited = limits(clock, address=6)
    for left in range(5, -1, -1):
        assert await limited.admit_address("1.2.3.4") == Standing(6, left, 10 * (6 - left))
    clock.advance(0.5)
    with pytest.raises(Refusal) as refused:
        await limited.admit_address("1.2.3.4")
    assert refused.value.kind.code == "rate_limited"
    assert refused.value.retry_after == 10
    assert refused.value.headers == {"RateLimit-Limit": "6", "RateLimit-Remaining": "0", "RateLimit-Reset": "60"}
    clock.advance(9.5)
    assert await limited.admit_address("1.2.3.4") == Standing(6, 0, 60)
    assert await limited.admit_address("5.6.7.8") == Standing(6, 5, 10)


async def test_waiting_is_never_told_as_nothing() -> None:
    clock = ManualClock()
    limited = limits(clock, address=60)
    for _ in range(60):
        await limited.admit_address("a")
    clock.advance(0.9999)
    with pytest.raises(Refusal) as refused:
        await limited.admit_address("a")
    assert refused.value.retry_after == 1


async def test_nought_is_off() -> None:
    limited = limits(ManualClock())
    assert await limited.admit_address("a") is None
    assert await limited.admit_session("s", "default", "a") is None
    await limited.give_back_address("a")
    await limited.give_back_session("s", "default", "a")


async def test_an_address_gets_back_what_did_not_count() -> None:
    limited = limits(ManualClock(), address=1)
    for _ in range(3):
        assert await limited.admit_address("a") == Standing(1, 0, 60)
        await limited.give_back_address("a")


async def test_a_bot_may_have_a_limit_of_its_own() -> None:
    limited = limits(ManualClock(), address=5, sales=1)
    assert await limited.admit_address("a", "sales") == Standing(1, 0, 60)
    with pytest.raises(Refusal):
        await limited.admit_address("a", "sales")
    await limited.give_back_address("a", "sales")
    assert await limited.admit_address("a", "sales") == Standing(1, 0, 60)
    assert await limited.admit_address("a", "default") == Standing(5, 4, 12)
    assert await limited.admit_address("a") == Standing(5, 3, 24)


async def test_a_bot_may_be_without_limit() -> None:
    limited = limits(ManualClock(), address=5, sales=0)
    assert await limited.admit_address("a", "sales") is None


async def test_a_session_has_its_own_bucket() -> None:
    limited = limits(ManualClock(), session=2)
    assert await limited.admit_session("s1", "default", "a") == Standing(2, 1, 30)
    assert await limited.admit_session("s1", "default", "a") == Standing(2, 0, 60)
    with pytest.raises(Refusal) as refused:
        await limited.admit_session("s1", "default", "a")
    assert refused.value.kind.code == "rate_limited"
    assert await limited.admit_session("s2", "default", "a") == Standing(2, 1, 30)


async def test_the_day_is_a_utc_day() -> None:
    clock = ManualClock(MIDNIGHT - 90.5)
    limited = limits(clock, day=2)
    assert await limited.admit_session("s1", "default", "a") == Standing(2, 1, 91)
    assert await limited.admit_session("s2", "default", "b") == Standing(2, 0, 91)
    with pytest.raises(Refusal) as refused:
        await limited.admit_session("s3", "default", "c")
    assert refused.value.kind.code == "daily_limit_reached"
    assert refused.value.retry_after == 91
    assert refused.value.headers["RateLimit-Limit"] == "2"
    assert await limited.admit_session("s3", "sales", "c") is None
    clock.advance(90.5)
    assert await limited.admit_session("s3", "default", "c") == Standing(2, 1, 86400)


async def test_a_refused_day_gives_back_what_was_charged_before_it() -> None:
    clock = ManualClock()
    limited = limits(clock, session=1, day=3, day_address=1)
    await limited.admit_session("s1", "default", "a")
    for _ in range(5):
        with pytest.raises(Refusal) as refused:
            await limited.admit_session("s2", "default", "a")
        assert refused.value.kind.code == "daily_limit_reached"
        assert refused.value.headers["RateLimit-Limit"] == "1"
    assert await limited.admit_session("s2", "default", "b") is not None
    assert await limited.admit_session("s3", "default", "c") is not None
    with pytest.raises(Refusal) as refused:
        await limited.admit_session("s4", "default", "d")
    assert refused.value.headers["RateLimit-Limit"] == "3"
    assert refused.value.kind.code == "daily_limit_reached"


async def test_a_message_not_accepted_costs_nothing() -> None:
    limited = limits(ManualClock(), session=1, day=1, day_address=1)
    for _ in range(3):
        assert await limited.admit_session("s", "default", "a") is not None
        await limited.give_back_session("s", "default", "a")


async def test_the_tightest_is_told() -> None:
    clock = ManualClock(MIDNIGHT - 3600)
    limited = limits(clock, session=5, day=10, day_address=2)
    assert await limited.admit_session("s", "default", "a") == Standing(2, 1, 3600)
    assert await limited.admit_session("t", "default", "b") == Standing(2, 1, 3600)
    assert Standing(5, 3, 10).merge(Standing(60, 2, 1)) == Standing(60, 2, 1)
    assert Standing(5, 2, 10).merge(Standing(60, 2, 1)) == Standing(5, 2, 10)
    assert Standing(5, 2, 10).merge(None) == Standing(5, 2, 10)


def test_a_standing_becomes_header_lines() -> None:
    assert Standing(60, 59, 1).headers() == [
        (b"ratelimit-limit", b"60"),
        (b"ratelimit-remaining", b"59"),
        (b"ratelimit-reset", b"1"),
    ]
