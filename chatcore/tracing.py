"""Begins and ends spans: their ids and times, and which traces are recorded."""

from collections.abc import Callable

from chatcore.ports import Clock
from chatcore.settings import TracingSettings
from chatcore.spans import Context, Event, Kind, Span

_RATIO_BYTES = 7  # as many as a float holds exactly


class Tracer:
    """Makes spans and hands those that are recorded to `export` when they end."""

    def __init__(self, settings: TracingSettings, clock: Clock, export: Callable[[Span], None]) -> None:
        self._follows = settings.sampler == "parentbased_traceidratio"
        self._bound = settings.ratio * (1 << 8 * _RATIO_BYTES)
        self._clock = clock
        self._export = export

    def begin(
        self, name: str, kind: Kind, parent: Span | Context | None, attributes: dict[str, str | int] | None = None
    ) -> Span:
        """Begin a span below `parent`: one of ours, or the context that a request brought; None begins a trace."""
        above = parent.context if isinstance(parent, Span) else parent
        sampled = above.sampled if above and (self._follows or isinstance(parent, Span)) else self._draw()
        trace_id = self._clock.token_bytes(16) if above is None else above.trace_id
        context = Context(trace_id, self._clock.token_bytes(8), sampled, "" if above is None else above.state)
        return Span(name, kind, context, b"" if above is None else above.span_id, self._now(), attributes or {})

    def event(self, span: Span, name: str, seconds: float | None = None) -> None:
        """Note what happened just now, or so many seconds after the span's beginning."""
        span.events.append(Event(name, self._now() if seconds is None else span.began + round(seconds * 1e9)))

    def end(self, span: Span, error: str | None = None) -> None:
        """End a span; `error` where its work failed."""
        span.ended, span.error = max(self._now(), span.began), error
        if span.context.sampled:
            self._export(span)

    def _draw(self) -> bool:
        """Decide by chance, never by the trace's id: whoever asks chooses that."""
        return int.from_bytes(self._clock.token_bytes(_RATIO_BYTES)) < self._bound

    def _now(self) -> int:
        return round(self._clock.now() * 1e9)
