"""Which traces are recorded, and what becomes of spans that nobody takes: the parts without a server."""

import threading
from collections.abc import Callable, Iterator

import pytest

from chatcore import span_export
from chatcore.clock import SystemClock
from chatcore.metrics import Metrics
from chatcore.observe import Happening
from chatcore.settings import TracingSettings
from chatcore.span_export import BATCH_SPANS, QUEUED_SPANS, SpanExport
from chatcore.spans import Context, Span
from chatcore.tracing import Tracer
from tests.support.background import eventually
from tests.support.clock import ManualClock
from tests.support.collector import Collector

LOW, HIGH = bytes(15) + b"\x01", b"\xff" * 16
"""The ids that samplers which go by the id would always, and never, record."""

Made = Callable[..., tuple[Tracer, list[Span]]]


@pytest.fixture
def make() -> Made:
    """Give `make(ratio, sampler)`: a tracer whose chance is the same in each run, and the spans that it exports."""

    def made(ratio: float, sampler: str = "traceidratio") -> tuple[Tracer, list[Span]]:
        exported: list[Span] = []
        settings = TracingSettings(url="http://x", sampler=sampler, ratio=ratio)  # type: ignore[arg-type]  # two words
        return Tracer(settings, ManualClock(), exported.append), exported

    return made


@pytest.mark.parametrize("trace_id", [LOW, HIGH])
@pytest.mark.parametrize("sampled", [True, False])
def test_who_asks_cannot_decide(make: Made, trace_id: bytes, sampled: bool) -> None:
    tracer, exported = make(0.25)
    for _ in range(2000):
        tracer.end(tracer.begin("a", "server", Context(trace_id, b"12345678", sampled)))
    assert 400 < len(exported) < 600
    assert {span.context.trace_id for span in exported} == {trace_id}


def test_who_is_trusted_decides(make: Made) -> None:
    tracer, exported = make(0.25, "parentbased_traceidratio")
    for sampled in (True, False) * 100:
        tracer.end(tracer.begin("a", "server", Context(HIGH, b"12345678", sampled)))
    assert len(exported) == 100
    for _ in range(2000):
        tracer.end(tracer.begin("a", "server", None))
    assert 400 < len(exported) - 100 < 600


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_all_of_a_trace_or_nothing_is_recorded(make: Made, sampler: str, ratio: float) -> None:
    tracer, exported = make(ratio, sampler)
    for _ in range(100):
        top = tracer.begin("a", "server", None)
        below = tracer.begin("b", "internal", top)
        tracer.end(below)
        tracer.end(top)
        assert below.context.trace_id == top.context.trace_id
        assert (below.parent_id, top.parent_id) == (top.context.span_id, b"")
    assert len(exported) == 200 * ratio


def test_no_two_spans_have_one_id(make: Made) -> None:
    tracer, _ = make(1.0)
    spans = [tracer.begin("a", "server", None) for _ in range(1000)]
    assert len({span.context.trace_id for span in spans}) == len({span.context.span_id for span in spans}) == 1000
    assert spans[0].events is not spans[1].events


class _Silent(Collector):
    """Takes requests and answers none before it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self.respond = lambda: 200 if self.answers.wait(30) else 500


@pytest.fixture
def silent() -> Iterator[_Silent]:
    """Give a collector that answers nothing until told."""
    with _Silent() as collector:
        yield collector
        collector.answers.set()


def _ended(tracer: Tracer, count: int) -> None:
    for _ in range(count):
        tracer.end(tracer.begin("a", "server", None))


async def test_a_full_queue_drops_and_counts(silent: _Silent) -> None:
    metrics, told = Metrics(), list[Happening]()
    settings = TracingSettings(url=f"{silent.url}/v1/traces")
    export = SpanExport(settings, SystemClock(), metrics.spans_dropped, told.append)
    tracer = Tracer(settings, SystemClock(), export)
    _ended(tracer, BATCH_SPANS)
    await eventually(lambda: silent.requests)  # the thread waits for an answer
    _ended(tracer, QUEUED_SPANS + 5)
    assert metrics.spans_dropped.labels("queue_full").value == 5
    silent.answers.set()
    await eventually(lambda: len(silent.spans) == BATCH_SPANS + QUEUED_SPANS, within=30)
    assert metrics.spans_dropped.labels("not_delivered").value == 0
    assert not told
    export.close()


async def test_a_stop_does_not_wait_for_a_silent_collector(silent: _Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_export, "POST_SECONDS", 60.0)
    settings = TracingSettings(url=f"{silent.url}/v1/traces")
    export = SpanExport(settings, SystemClock(), Metrics().spans_dropped, lambda _: None)
    _ended(Tracer(settings, SystemClock(), export), BATCH_SPANS)
    await eventually(lambda: silent.requests)
    export.close()
    assert not silent.answers.is_set()
    assert "span-export" in {thread.name for thread in threading.enumerate()}, "it waited until the thread gave up"
    silent.answers.set()
    await eventually(lambda: "span-export" not in {thread.name for thread in threading.enumerate()}, within=30)
