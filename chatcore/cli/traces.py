"""Starts and stops the traces of a process, and says what is missing for them."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from chatcore.ports import Clock
from chatcore.settings import TracingSettings

if TYPE_CHECKING:  # slow to import, and a fault or --help should not wait for it
    from chatcore.observe import Observer
    from chatcore.tracing import Tracer

MISSING = (
    "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the package that traces need is not installed.\n"
    "  what to do: .venv/bin/pip install -r requirements-tracing.txt (an image: build it with "
    "--build-arg TRACES=yes), or leave the variable empty."
)


def installed() -> bool:
    """Tell whether traces could be sent; loads nothing."""
    try:
        return find_spec("opentelemetry.proto.collector") is not None
    except ModuleNotFoundError:
        return False


def start(
    settings: TracingSettings | None, clock: Clock, observer: "Observer"
) -> tuple["Tracer | None", Callable[[], None]]:
    """Give a tracer where traces are wanted, and what ends them: it sends what is left."""
    if settings is None:
        return None, lambda: None
    from chatcore.span_export import SpanExport  # noqa: PLC0415 - brings packages that are needed for traces alone
    from chatcore.tracing import Tracer  # noqa: PLC0415 - same

    export = SpanExport(settings, clock, observer.metrics.spans_dropped, observer)
    return Tracer(settings, clock, export), export.close
