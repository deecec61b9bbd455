"""A scripted collector of traces over real HTTP: it takes OTLP as protobuf, or fails as a test wants it."""

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp


@dataclass(frozen=True)
class Seen:
    """One span as it came. Ids are in hexadecimal; `parent` is empty where it has none; times in seconds."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    state: str
    began: float
    ended: float
    attributes: Mapping[str, Any]
    events: Mapping[str, float]
    links: list[tuple[str, str]]
    failed: bool
    resource: Mapping[str, Any]


@dataclass
class Asked:
    """One request: path, headers with names in lower case, size."""

    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Collector:
    """Serves in threads of its own. `respond` gives the status for a request, and may wait as long as it likes."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.spans: list[Seen] = []
        self.requests: list[Asked] = []
        self.respond: Callable[[], int] = lambda: 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append(
                    Asked(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                )
                status = collector.respond()
                if status == 200:
                    collector.spans += _seen(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Tests have their own eyes."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def named(self, name: str, trace: str | None = None) -> list[Seen]:
        """Give the spans of that name that came so far, of one trace where it is told."""
        return [span for span in tuple(self.spans) if span.name == name and trace in (None, span.trace)]

    def wait(self, name: str, count: int = 1, trace: str | None = None, seconds: float = 15.0) -> list[Seen]:
        """Wait until so many spans of that name came. Raises `AssertionError`."""
        return self._wait(lambda: self.named(name, trace), count, seconds)

    def trace(self, trace: str, count: int) -> list[Seen]:
        """Wait for a trace of so many spans, and give them by their beginning. Raises `AssertionError`."""
        found = self._wait(lambda: [span for span in tuple(self.spans) if span.trace == trace], count)
        assert len(found) == count, [span.name for span in found]
        return sorted(found, key=lambda span: span.began)

    def _wait(self, find: Callable[[], list[Seen]], count: int, seconds: float = 15.0) -> list[Seen]:
        until = time.monotonic() + seconds
        while len(found := find()) < count:
            assert time.monotonic() < until, f"{count} spans wanted, came: {[one.name for one in self.spans]}"
            time.sleep(0.01)
        return found

    def stop(self) -> None:
        """Close it; idempotent."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _seen(request: ExportTraceServiceRequest) -> list[Seen]:
    return [
        _span(span, _attributes(part.resource.attributes))
        for part in request.resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def _span(span: otlp.Span, resource: Mapping[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        kind=otlp.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        state=span.trace_state,
        began=span.start_time_unix_nano / 1e9,
        ended=span.end_time_unix_nano / 1e9,
        attributes=_attributes(span.attributes),
        events={event.name: event.time_unix_nano / 1e9 for event in span.events},
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        failed=span.status.code == otlp.Status.STATUS_CODE_ERROR,
        resource=resource,
    )


def _attributes(pairs: Any) -> Mapping[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
