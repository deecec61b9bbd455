"""Ended spans on their way to a collector: OTLP over HTTP with protobuf; the only file with opentelemetry.

A thread of its own sends them, so that a collector which is slow, silent or gone holds up nothing: spans wait in a
bounded queue, and those that find it full, or cannot be delivered, are dropped and counted.

OpenTelemetry's SDK (1.45) is not used: it brings fifteen more packages, its stop waits for a silent collector (9.7 s
were seen), it tells by private means alone how many spans it drops, and takes headers and proxies from the
environment that settings did not name.
"""

import contextlib
import http.client
import queue
import ssl
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from chatcore import __version__
from chatcore.metrics import Counts
from chatcore.observe import Crashed, Observe, TracesChanged
from chatcore.ports import Clock
from chatcore.settings import TracingSettings
from chatcore.spans import Kind, Span

QUEUED_SPANS = 4096
BATCH_SPANS = 512
BATCH_SECONDS = 1.0
"""How long a span waits for others that go with it."""

POST_SECONDS = 5.0
"""How long the collector may take to connect, and for each part of its answer."""

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before each new try of a batch that the collector may take later."""

CLOSE_SECONDS = 2.0
"""How long a stop waits for the last spans to leave."""

_KEPT_ATTRIBUTES = 1024  # most are the same in many spans, and making one costs more than copying it
_OK = range(200, 300)
_LATER = frozenset({429, 502, 503, 504})  # as OTLP has it (1.5, "Failures")
_FAILED = otlp.Status(code=otlp.Status.STATUS_CODE_ERROR)
_KINDS: Mapping[Kind, otlp.Span.SpanKind.ValueType] = {
    "server": otlp.Span.SPAN_KIND_SERVER,
    "internal": otlp.Span.SPAN_KIND_INTERNAL,
    "client": otlp.Span.SPAN_KIND_CLIENT,
}


class SpanExport:
    """Takes ended spans from any thread; `close` sends what is left."""

    def __init__(self, settings: TracingSettings, clock: Clock, dropped: Counts, observe: Observe) -> None:
        """Start the thread."""
        self._settings = settings
        self._clock = clock
        self._observe = observe
        # One thread alone adds to each.
        self._full, self._undelivered = dropped.labels("queue_full"), dropped.labels("not_delivered")
        self._waiting: queue.Queue[Span | None] = queue.Queue(QUEUED_SPANS)
        self._closing = threading.Event()
        self._failing = False
        self._resource = resource(settings.service_name, clock.token_bytes(16).hex())
        self._thread = threading.Thread(target=self._run, name="span-export", daemon=True)
        self._thread.start()

    def __call__(self, span: Span) -> None:
        """Take an ended span; never waits."""
        try:
            self._waiting.put_nowait(span)
        except queue.Full:
            self._full.inc()

    def close(self) -> None:
        """Send what waits, within `CLOSE_SECONDS`; what takes longer is given up with the process."""
        self._closing.set()
        with contextlib.suppress(queue.Full):  # a full queue wakes the thread as well
            self._waiting.put_nowait(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while not (self._closing.is_set() and self._waiting.empty()):
            batch = self._batch()
            try:
                if batch:
                    self._deliver(batch)
            except Exception as error:  # noqa: BLE001 - a bug must not end the thread
                self._observe(Crashed("traces", error))

    def _batch(self) -> Sequence[Span]:
        """Wait for a span, and a little for others."""
        batch: list[Span] = []
        until: float | None = None
        while len(batch) < BATCH_SPANS:
            left = None if until is None else max(0.0, until - self._clock.monotonic())
            try:
                span = self._waiting.get(timeout=0 if self._closing.is_set() else left)
            except queue.Empty:
                break
            if span is None:
                continue
            batch.append(span)
            if until is None:
                until = self._clock.monotonic() + BATCH_SECONDS
        return batch

    def _deliver(self, batch: Sequence[Span]) -> None:
        body = encode(self._resource, batch)
        problem, later = send(self._settings, body, POST_SECONDS)
        for pause in PAUSES:
            if not later or self._closing.wait(pause):
                break
            problem, later = send(self._settings, body, POST_SECONDS)
        if problem:
            self._undelivered.inc(len(batch))
        self._tell(problem)

    def _tell(self, problem: str) -> None:
        if bool(problem) is not self._failing:
            self._failing = bool(problem)
            self._observe(TracesChanged("not_delivered" if problem else "delivered", problem))


def send(settings: TracingSettings, body: bytes, seconds: float) -> tuple[str, bool]:
    """Send one request to the collector; gives what went wrong (nothing: empty), and whether it may go well later."""
    address = urlsplit(settings.url)
    host = address.hostname or ""
    headers = {**settings.headers, "Content-Type": "application/x-protobuf", "User-Agent": f"chatcore/{__version__}"}
    connection = (
        http.client.HTTPSConnection(host, address.port, timeout=seconds, context=ssl.create_default_context())
        if address.scheme == "https"
        else http.client.HTTPConnection(host, address.port, timeout=seconds)
    )
    try:
        connection.request("POST", address.path, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, True
    finally:
        connection.close()
    return ("", False) if status in _OK else (f"status {status}", status in _LATER)


def encode(of: Resource, spans: Sequence[Span]) -> bytes:
    """Give the body of one request."""
    scope = otlp.ScopeSpans(
        scope=InstrumentationScope(name="chatcore", version=__version__), spans=[_message(span) for span in spans]
    )
    traces = otlp.ResourceSpans(resource=of, scope_spans=[scope])
    return bytes(ExportTraceServiceRequest(resource_spans=[traces]).SerializeToString())


def resource(service_name: str, instance: str) -> Resource:
    """Give what all spans of this process have in common."""
    return Resource(
        attributes=_attributes(
            {"service.name": service_name, "service.version": __version__, "service.instance.id": instance}
        )
    )


def _message(span: Span) -> otlp.Span:
    attributes = span.attributes if span.error is None else {**span.attributes, "error.type": span.error}
    return otlp.Span(
        trace_id=span.context.trace_id,
        span_id=span.context.span_id,
        parent_span_id=span.parent_id,
        trace_state=span.context.state,
        name=span.name,
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.began,
        end_time_unix_nano=span.ended,
        attributes=_attributes(attributes),
        events=[otlp.Span.Event(name=event.name, time_unix_nano=event.at) for event in span.events],
        links=[otlp.Span.Link(trace_id=link.trace_id, span_id=link.span_id) for link in span.links],
        status=None if span.error is None else _FAILED,
    )


def _attributes(values: Mapping[str, str | int]) -> list[KeyValue]:
    return [_attribute(key, value) for key, value in values.items()]


@lru_cache(_KEPT_ATTRIBUTES)
def _attribute(key: str, value: str | int) -> KeyValue:
    told = AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
    return KeyValue(key=key, value=told)
