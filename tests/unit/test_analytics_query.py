"""What operators may ask for, and how each fault is told."""

import re
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcore.analytics import DAY_SECONDS, HOUR_SECONDS
from chatcore.analytics_query import parse_query
from chatcore.errors import Refusal

BOTS = ("default", "shop")
INDIA = timezone(timedelta(hours=5, minutes=30))
NOW = datetime(2026, 1, 31, 9, 30, 15, tzinfo=UTC).timestamp()


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def faults(query_string: str) -> dict[str, str]:
    with pytest.raises(Refusal) as refused:
        parse_query(query_string.encode(), BOTS, NOW)
    assert refused.value.kind.code == "invalid_request"
    assert refused.value.errors
    return {fault.field: fault.message for fault in refused.value.errors}


@pytest.mark.parametrize(
    ("asked", "counted"),
    [
        ("", "2026-01-24 2026-02-01 day"),
        ("bot=shop", "2026-01-24 2026-02-01 day shop"),
        ("interval=hour", "2026-01-24T09:00 2026-01-31T10:00 hour"),
        ("from=2026-01-30T00:00:00Z", "2026-01-30T00:00 2026-01-31T10:00 hour"),
        ("to=2026-01-08T00:00:00Z", "2026-01-01 2026-01-08 day"),
        ("from=2026-01-01T00:00:00Z&to=2026-01-03T00:00:00Z", "2026-01-01 2026-01-03 hour"),
        ("from=2026-01-01T00:00:00Z&to=2026-01-03T00:00:01Z", "2026-01-01 2026-01-04 day"),
        ("from=2026-01-01T01:30:00%2B02:00&to=2026-01-01T00:00:00.5z", "2025-12-31T23:00 2026-01-01T01:00 hour"),
        ("from=2026-01-01T01:30:00+02:00&to=2026-01-01t00:00:00-00:00", "2025-12-31T23:00 2026-01-01T00:00 hour"),
        ("from=2025-01-01T00:00:00Z&to=2025-02-01T00:00:00Z&interval=hour&", "2025-01-01 2025-02-01 hour"),
        ("from=2023-11-01T00:00:00Z&to=2026-01-09T00:00:00Z&interval=day", "2023-11-01 2026-01-09 day"),
        ("from=2016-12-31T23:59:60Z&to=2017-01-01T00:00:01Z", "2017-01-01 2017-01-01T01:00 hour"),
        ("from=2000-01-01T00:00:00Z&to=2000-01-01T00:00:00.1Z&interval=day", "2000-01-01 2000-01-02 day"),
        ("from=2100-12-31T23:00:00Z&to=2100-12-31T23:59:59Z&interval=day", "2100-12-31 2101-01-01 day"),
    ],
)  # fmt: skip
def test_a_question_becomes_whole_intervals(asked: str, counted: str) -> None:
    query = parse_query(asked.encode(), BOTS, NOW)
    begin, end, interval, *bot = counted.split()
    assert msgspec.structs.astuple(query) == (at(begin), at(end), interval, bot[0] if bot else None)


@pytest.mark.parametrize(
    ("asked", "field", "said"),
    [
        ("from=yesterday", "from", "RFC 3339"),
        ("from=", "from", "RFC 3339"),
        ("from", "from", "RFC 3339"),
        ("to=2026-01-01", "to", "RFC 3339"),
        ("to=2026-01-01T00:00:00", "to", "RFC 3339"),
        ("to=2026-01-01T00:00Z", "to", "RFC 3339"),
        ("to=2026-01-01T00:00:00%2B24:00", "to", "RFC 3339"),
        ("to=1767225600", "to", "RFC 3339"),
        ("to=%D9%A2%D9%A0%D9%A2%D9%A6-01-01T00:00:00Z", "to", "RFC 3339"),
        ("to=2026-01-01T00:00:00Z%0A", "to", "RFC 3339"),
        ("to=%FF%00", "to", "RFC 3339"),
        ("to=2026-02-29T00:00:00Z", "to", "exists"),
        ("to=2026-01-01T24:00:00Z", "to", "exists"),
        ("to=2026-01-01T00:00:61Z", "to", "exists"),
        ("to=0000-01-01T00:00:00Z", "to", "exists"),
        ("to=0001-01-01T00:00:00%2B01:00", "to", "exists"),
        ("to=9999-12-31T23:59:59-01:00", "to", "exists"),
        ("from=1999-12-31T23:59:59Z", "from", "2000 to 2100"),
        ("from=2000-01-01T00:00:00%2B00:01", "from", "2000 to 2100"),
        ("to=2101-01-01T00:00:00Z", "to", "2000 to 2100"),
        ("from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from", "before to"),
        ("from=2026-01-31T09:30:15Z", "from", "before to"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z&interval=day", "from", "before to"),
        ("from=2025-01-01T00:00:00Z&to=2025-02-01T00:00:01Z&interval=hour", "from", "31 days"),
        ("from=2023-11-01T00:00:00Z&to=2026-01-09T00:00:01Z&interval=day", "from", "800 days"),
        ("from=2001-01-01T00:00:00Z", "from", "800 days"),
        ("interval=week", "interval", '"hour" or "day"'),
        ("interval=Hour", "interval", '"hour" or "day"'),
        ("bot=nobody", "bot", "a bot of this server"),
        ("bot=", "bot", "a bot of this server"),
        ("until=2026-01-01T00:00:00Z", "until", "not known"),
        ("=1", "", "not known"),
        ("FROM=2026-01-01T00:00:00Z", "FROM", "not known"),
        ("a%1B%5Bb=1", "a\\x1b[b", "not known"),
        (f"{'a' * 5000}=1", "a" * 64, "not known"),
        ("bot=shop&bot=shop", "bot", "once"),
        ("bot=shop&b%6Ft=shop", "bot", "once"),
        (f"bot={'a' * 65}", "bot", "64 characters"),
        (f"to={'1' * 30000}", "to", "64 characters"),
        ("&".join("a=1" for _ in range(9000)), "query", "20 parameters"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_parameter(asked: str, field: str, said: str) -> None:
    assert said in faults(asked)[field]


def test_all_faults_are_told_at_once() -> None:
    assert set(faults("from=x&to=y&interval=z&bot=q")) == {"from", "to", "interval", "bot"}
    assert set(faults("more=1&less=2&bot=shop&bot=default")) == {"more", "less", "bot"}


MOMENTS = st.integers(int(NOW) - 400 * DAY_SECONDS, int(NOW) + 100 * DAY_SECONDS)
ANY_MOMENTS = st.integers(0, 2**32)
PIECE = st.one_of(
    st.sampled_from(
        ["from", "to", "interval", "bot", "hour", "day", "shop", "2026-01-01T00:00:00Z", "", "=", "&", "%"]
    ),
    ANY_MOMENTS.map(lambda moment: datetime.fromtimestamp(moment, UTC).isoformat()),
    st.text(max_size=20).map(quote),
)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "from": MOMENTS.map(lambda moment: datetime.fromtimestamp(moment, INDIA).isoformat()),
        "to": MOMENTS.map(lambda moment: datetime.fromtimestamp(moment, UTC).isoformat()),
        "interval": st.sampled_from(["hour", "day"]),
        "bot": st.sampled_from(BOTS),
    },
)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(PIECE, max_size=12).map(lambda pieces: "".join(pieces).encode()),
        PARAMETERS.map(lambda parameters: urlencode(parameters).encode()),
    )
)
def test_any_question_is_a_query_or_a_refusal(query_string: bytes) -> None:
    query, refused = None, None
    try:
        query = parse_query(query_string, BOTS, NOW)
    except Refusal as refusal:
        refused = refusal
    if query is None:
        assert refused is not None
        assert refused.kind.code == "invalid_request"
        assert refused.errors
        assert all(re.fullmatch(r"[^\x00-\x1f]*", fault.field) for fault in refused.errors)
        return
    assert query.step == (HOUR_SECONDS if query.interval == "hour" else DAY_SECONDS)
    assert query.begin % query.step == query.end % query.step == 0
    assert query.begin < query.end
    assert (query.end - query.begin) // query.step <= (31 * 24 + 1 if query.interval == "hour" else 801)
    assert query.bot in {None, *BOTS}
