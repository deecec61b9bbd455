"""A text cut at its stop sequences is the same however it comes in pieces, and little is held back meanwhile."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chatcore.model import Delta, Outcome
from chatcore.wire.encode_openai import Chunks, Completion
from chatcore.wire.stop_sequences import StopSearch, cut

TEXTS = st.text("abcü", max_size=30)
STOPS = st.lists(st.text("abcü", min_size=1, max_size=5), max_size=4)
CUTS = st.lists(st.integers(0, 30), max_size=8)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
    return [text[begin:end] for begin, end in pairwise(places)]


def first_complete(text: str, stops: list[str]) -> str:
    """Say it naively: the first prefix that ends in a stop sequence, without the longest that it ends in."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@given(TEXTS, STOPS, CUTS)
def test_any_split_gives_the_same(text: str, stops: list[str], cuts: list[int]) -> None:
    search = StopSearch(stops)
    shown = fed = ""
    for piece in pieces(text, cuts):
        shown += search.feed(piece)
        fed += piece
        if not search.found:
            assert len(fed) - len(shown) < max(map(len, stops), default=1)
    shown += search.rest()
    assert shown == cut(text, stops) == first_complete(text, stops)
    assert search.found is any(stop in text for stop in stops)


@given(TEXTS, STOPS, CUTS, st.lists(st.booleans(), min_size=9, max_size=9))
def test_chunks_say_the_same_in_whatever_batches(
    text: str, stops: list[str], cuts: list[int], ends: list[bool]
) -> None:
    """Delivery asks once for each batch (tests/unit/test_delivery.py), which has one piece or several."""
    about = Completion("id", "default", 0, 0, tuple(stops))
    whole, chunks = Chunks(about), Chunks(about)
    said = b""
    first, waiting = 2, list[Delta]()
    for piece, is_end in zip(pieces(text, cuts), ends, strict=False):
        waiting.append(Delta(piece))
        if is_end:
            said += chunks.deltas(first, waiting)
            first, waiting = first + len(waiting), []
    if waiting:
        said += chunks.deltas(first, waiting)
    done = Outcome(finish_reason="complete", duration_ms=1)
    said += chunks.end(99, done)
    assert _text(said) == _text(whole.deltas(2, [Delta(text)]) + whole.end(99, done)) == cut(text, stops)


def _text(stream: bytes) -> str:

    chunks = [json.loads(one[6:]) for one in stream.decode().split("\n\n") if one and one != "data: [DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
