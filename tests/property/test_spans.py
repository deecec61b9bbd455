"""Property tests for `spans`: whatever clients send as `traceparent` and `tracestate`, only what W3C allows counts."""

import string

from hypothesis import given
from hypothesis import strategies as st

from chatcore.spans import MAX_STATE_CHARS, Context, read_context

HEX = "0123456789abcdef"
IDS = st.tuples(st.binary(min_size=16, max_size=16).filter(any), st.binary(min_size=8, max_size=8).filter(any))
FIELD = st.text(HEX + "ABCDEFgx-_ ", max_size=40)
NEARLY = st.one_of(
    st.binary(max_size=100),
    st.tuples(FIELD, FIELD, FIELD, FIELD).map(lambda parts: "-".join(parts).encode()),
    st.tuples(
        st.text(HEX, min_size=2, max_size=2),
        st.one_of(st.text(HEX, min_size=31, max_size=33), st.just("0" * 32)),
        st.one_of(st.text(HEX, min_size=15, max_size=17), st.just("0" * 16)),
        st.text(HEX, min_size=2, max_size=2),
        st.sampled_from(["", "-", "-more", "more"]),
    ).map(lambda parts: ("-".join(parts[:4]) + parts[4]).encode()),
)
KEYS = st.text(string.ascii_lowercase, min_size=1, max_size=5)
VALUES = st.text(string.ascii_letters + string.digits + "=~ !", min_size=1, max_size=30)


def allowed(value: bytes) -> bool:
    """Judge a `traceparent` by the words of the standard (section 3.2), without a pattern."""
    parts = value.decode("latin-1").split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return False
    if any(character not in HEX for part in parts[:4] for character in part):
        return False
    version, trace_id, span_id, _ = parts[:4]
    known = version != "ff" and (version != "00" or len(parts) == 4)
    return known and set(trace_id) != {"0"} and set(span_id) != {"0"}


@given(NEARLY)
def test_a_parent_counts_if_it_is_one(value: bytes) -> None:
    context = read_context([(b"host", b"x"), (b"traceparent", value)])
    assert (context is not None) == allowed(value)
    if context is not None:
        assert f"-{context.trace_id.hex()}-{context.span_id.hex()}-" in value.decode()


@given(IDS, st.booleans(), st.dictionaries(KEYS, VALUES, max_size=5))
def test_what_is_sent_is_what_is_read(ids: tuple[bytes, bytes], sampled: bool, members: dict[str, str]) -> None:
    state = ",".join(f"{key}={value.replace('=', '').strip() or '0'}" for key, value in members.items())
    context = Context(*ids, sampled, state)
    assert read_context([(name.encode(), value.encode()) for name, value in context.headers.items()]) == context


@given(NEARLY, NEARLY)
def test_two_parents_are_none(first: bytes, second: bytes) -> None:
    assert read_context([(b"traceparent", first), (b"traceparent", second)]) is None


@given(st.lists(st.one_of(st.binary(max_size=700), st.text("ab=,@ \t*", max_size=600).map(str.encode)), max_size=3))
def test_no_state_costs_the_parent_or_gets_far(states: list[bytes]) -> None:
    parent = (b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-00")
    context = read_context([parent, *((b"tracestate", state) for state in states)])
    assert context is not None
    assert not context.sampled
    assert len(context.state) <= MAX_STATE_CHARS
    assert context.state.isprintable() or "\t" in context.state
    members = [member.strip() for member in context.state.split(",") if member.strip()]
    assert len({member.partition("=")[0] for member in members}) == len(members) <= 32
    assert context.state in {"", b",".join(states).decode("latin-1")}
