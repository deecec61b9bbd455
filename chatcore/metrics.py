"""The Prometheus families that chatcore exports, and nothing about when they change."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The Prometheus families. Every label has a bounded set of values: routes, codes and bots are configured."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="chatcore", registry=self.registry)
        self.requests = self._counter("requests", "Requests answered.", "method", "route", "status")
        self.refusals = self._counter("refusals", "Requests refused, by error code.", "code")
        self.request_seconds = self._histogram("request_seconds", "Time until a response ended.", "route")
        self.replies = self._counter("replies", "Replies that ended.", "bot", "finish_reason")
        self.reply_errors = self._counter("reply_errors", "Replies that ended with an error.", "bot", "code")
        self.reply_seconds = self._histogram("reply_seconds", "Time from a message to its reply's end.", "bot")
        self.first_text_seconds = self._histogram(
            "first_text_seconds", "Time from a message to its reply's first text.", "bot"
        )
        self.messages = self._counter("messages", "Messages accepted.", "bot")
        self.joined = self._counter("replies_joined", "Readers of a reply that already existed.", "how")
        self.evicted = self._counter("replies_evicted", "Kept replies dropped early for lack of memory.")
        self.stalled = self._counter("readers_stalled", "Clients disconnected because they stopped reading.")
        self.sessions = self._counter("sessions", "Sessions issued, refreshed and erased.", "bot", "what")
        self.feedback = self._counter("feedback", "Ratings given.", "bot", "rating")
        self.server = self._counter("server_events", "Transport limits met, and life of the server.", "what")
        self.crashes = self._counter("crashes", "Unexpected exceptions.", "where")
        self.lines_dropped = self._counter("log_lines_dropped", "Log lines lost because nobody read them.")
        self.circuit_open = Gauge(
            "chatcore_circuit_open", "1 while no connection to n8n is attempted.", ["bot"], registry=self.registry
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"chatcore_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"chatcore_{name}", text, labels, buckets=_SECONDS, registry=self.registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Register a gauge that is read when it is asked for."""
        Gauge(f"chatcore_{name}", text, registry=self.registry).set_function(value)
