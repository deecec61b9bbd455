"""The Prometheus families that chatcore exports, and nothing about when they change."""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_BOUNDS = (*(str(float(bound)) for bound in _SECONDS), "+Inf")


class Count:
    """How often something happened. One loop does all the adding, so there is no lock (the library has one each)."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Add."""
        self.value += amount


class Counts:
    """One family of counters: a `Count` for each combination of its labels' values."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._name, self._type, self._labelnames = name, "counter", labels  # as the library's own families
        self._text = text
        self._children: dict[tuple[str, ...], Count] = {}
        if not labels:
            self.labels()  # without labels there is one from the start, at zero

    def labels(self, *values: str) -> Count:
        """Give the child of these values."""
        return self._children.setdefault(values, Count())

    def inc(self, amount: int = 1) -> None:
        """Add to the only child of a family without labels."""
        self.labels().inc(amount)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give the registry what was counted."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labelnames)
        for values, count in self._children.items():
            family.add_metric(values, count.value)
        yield family


class Durations:
    """How long something took: how many there were in each bucket, and the sum in seconds."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * len(_BOUNDS)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(_SECONDS, seconds)] += 1
        self.sum += seconds


class Histograms:
    """One family of histograms: `Durations` for each combination of its labels' values."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._name, self._type, self._labelnames = name, "histogram", labels  # as the library's own families
        self._text = text
        self._children: dict[tuple[str, ...], Durations] = {}

    def labels(self, *values: str) -> Durations:
        """Give the child of these values."""
        return self._children.setdefault(values, Durations())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Give the registry what was measured; its buckets count all that is below their bounds."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labelnames)
        for values, durations in self._children.items():
            below = list(zip(_BOUNDS, accumulate(durations.buckets), strict=True))
            family.add_metric(values, below, durations.sum)
        yield family


class States:
    """One family of gauges that are read when they are asked for: a value for each of its label's values."""

    def __init__(self, name: str, text: str, label: str) -> None:
        self._name, self._type, self._labelnames = name, "gauge", (label,)  # as the library's own families
        self._text = text
        self.read: Callable[[], Mapping[str, float]] = dict

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the registry what is so now."""
        family = GaugeMetricFamily(self._name, self._text, labels=self._labelnames)
        for value, state in self.read().items():
            family.add_metric((value,), state)
        yield family


class Metrics:
    """The Prometheus families. Every label has a bounded set of values: routes, codes and bots are configured."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.exposition: Callable[[], Awaitable[bytes]] = self._alone
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
        self.admin_refused = self._counter("admin_refused", "Requests with a wrong admin token.")
        self.key_refused = self._counter("key_refused", "Requests with a wrong key for OpenAI's API.")
        self.store = self._counter("store_events", "Troubles and chores of the store.", "what")
        self.store_lost = self._counter("store_lost", "Messages that could not be recorded.")
        self.store_seconds = self._histogram("store_write_seconds", "Time of one transaction of the store.")
        self.redis = self._counter("redis_events", "Redis reached, lost, back, or found emptied.", "what")
        self.redis_up = Gauge("chatcore_redis_up", "1 while Redis answers.", registry=None)
        self._redis_shown = False
        self.server = self._counter("server_events", "Transport limits met, and life of the server.", "what")
        self.crashes = self._counter("crashes", "Unexpected exceptions.", "where")
        self.lines_dropped = self._counter("log_lines_dropped", "Log lines lost because nobody read them.")
        self.spans_dropped = self._counter("spans_dropped", "Spans that reached no collector.", "why")
        self.circuit_open = Gauge(
            "chatcore_circuit_open", "1 while no connection to n8n is attempted.", ["bot"], registry=self.registry
        )

        self.health = States("chatcore_health", "What /health says: 0 ok, 1 degraded, 2 unavailable.", "check")
        self.registry.register(self.health)

    def show_redis(self, *, up: bool) -> None:
        """Set the gauge of Redis; programs that have no Redis show none."""
        self.redis_up.set(up)
        if not self._redis_shown:
            self._redis_shown = True
            self.registry.register(self.redis_up)

    async def _alone(self) -> bytes:
        """Give all values in Prometheus' text format; one of several workers is given what tells those of all."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counts:
        family = Counts(f"chatcore_{name}", text, labels)
        self.registry.register(family)
        return family

    def _histogram(self, name: str, text: str, *labels: str) -> Histograms:
        family = Histograms(f"chatcore_{name}", text, labels)
        self.registry.register(family)
        return family

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Register a gauge that is read when it is asked for."""
        Gauge(f"chatcore_{name}", text, registry=self.registry).set_function(value)
