"""The filter of keys that may have been seen: never a wrong "no", few wrong "perhaps", forgotten in time."""

from hypothesis import given
from hypothesis import strategies as st

from chatcore.stores.seen import Seen

KEY = st.one_of(st.text(max_size=8), st.tuples(st.text(max_size=4), st.text(max_size=4)), st.integers())
PERIOD = 100.0


def filled(bits: int = 1 << 12, period: float = PERIOD) -> Seen:
    """Give a filter that was told everything a file knows: nothing."""
    seen = Seen(bits, period)
    seen.complete = True
    return seen


@given(keys=st.lists(KEY, max_size=60), bits=st.sampled_from([8, 64, 1 << 12, 1 << 20]))
def test_no_key_of_the_period_is_denied(keys: list[str], bits: int) -> None:
    seen = filled(bits)
    seen.tick(0.0)
    for key in keys:
        seen.add(key)
    assert all(seen.perhaps(key) for key in keys)
    seen.tick(PERIOD - 1)
    assert all(seen.perhaps(key) for key in keys)


@given(
    steps=st.lists(st.one_of(KEY.map(lambda key: ("add", key)), st.floats(0.1, 60).map(lambda s: ("tick", s)))),
)
def test_a_key_is_known_for_a_period_whenever_time_passes(steps: list[tuple[str, object]]) -> None:
    seen, now = filled(), 0.0
    added: dict[object, float] = {}
    seen.tick(now)
    for what, value in steps:
        if what == "add":
            seen.add(str(value))
            added[str(value)] = now
        elif isinstance(value, float):
            now += value
            seen.tick(now)
        assert all(seen.perhaps(key) for key, at in added.items() if now - at < PERIOD)


def test_a_key_is_forgotten_after_two_periods() -> None:
    seen = filled()
    seen.tick(0.0)
    for number in range(50):
        seen.add(("session", f"message {number}"))
    seen.tick(PERIOD)
    assert all(seen.perhaps(("session", f"message {number}")) for number in range(50))
    seen.tick(2 * PERIOD)
    assert not any(seen.perhaps(("session", f"message {number}")) for number in range(50))


def test_a_filter_without_an_end_forgets_nothing() -> None:
    seen = filled(period=float("inf"))
    seen.add("s")
    for year in range(50):
        seen.tick(year * 365.0 * 86400)
    assert seen.perhaps("s")


def test_until_all_is_known_everything_may_have_been_seen() -> None:
    seen = Seen(1 << 12, PERIOD)
    assert seen.perhaps("anything")
    seen.complete = True
    assert not seen.perhaps("anything")


def test_half_a_million_keys_are_told_from_others() -> None:
    seen = filled(1 << 23)
    for number in range(500_000):
        seen.add(number * 7_919)
    strangers = 20_000
    wrong = sum(seen.perhaps(("session", number)) for number in range(strangers))
    assert wrong < 0.05 * strangers
