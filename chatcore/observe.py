"""What can happen (one union of frozen values) and the one place that logs and counts it.

Nothing here ever sees message texts, tokens or whole addresses: the values have no room for them.
"""

import contextvars
import logging
import logging.handlers
import queue
import sys
from collections.abc import Callable
from typing import IO, Any, Literal

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from chatcore.model import FinishReason
from chatcore.settings import LogSettings

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")

QUEUED_LINES = 10_000
"""Log lines that may wait for a slow reader of standard error; further ones are dropped and counted."""


class ServerHappened(msgspec.Struct, frozen=True):
    """The server's transport or life did something."""

    what: Literal[
        "listening",
        "drain_begun",
        "new_refused",
        "stopped",
        "connection_limit",
        "head_timeout",
        "body_timeout",
        "head_too_large",
        "not_http",
        "descriptor_limit_low",
    ]
    detail: str = ""


class SetupSuspicious(msgspec.Struct, frozen=True):
    """Something about the set-up will not do what its owner expects."""

    detail: str


class Decided(msgspec.Struct, frozen=True):
    """One decision on a request, for `LOG_LEVEL=DEBUG` alone."""

    stage: str
    what: str


class RequestEnded(msgspec.Struct, frozen=True, gc=False):
    """A request was answered. `route` is the route's template, never the path; `code` is set for errors."""

    method: str
    route: str
    status: int
    seconds: float
    code: str | None = None


class Crashed(msgspec.Struct, frozen=True):
    """A bug of ours: an exception that nobody declared."""

    where: str
    error: BaseException


class SessionHappened(msgspec.Struct, frozen=True):
    """A session was issued, refreshed or erased."""

    what: Literal["issued", "refreshed", "erased"]
    bot: str


class ReplyStarted(msgspec.Struct, frozen=True, gc=False):
    """A message was accepted and goes to n8n."""

    bot: str


class ReplyEnded(msgspec.Struct, frozen=True, gc=False):
    """A reply came to its end. Seconds count from acceptance; `first_text_seconds` is None where no text came.

    `reason` says why it failed, in words for the operator: shapes and names of settings, never values.
    """

    bot: str
    finish_reason: FinishReason
    seconds: float
    first_text_seconds: float | None = None
    code: str | None = None
    reason: str = ""


class ReplyJoined(msgspec.Struct, frozen=True):
    """A reader came to a reply that already existed: a retry, or a resumption."""

    how: Literal["retry", "resume"]


class RepliesEvicted(msgspec.Struct, frozen=True):
    """Kept replies were dropped before their time because memory ran short."""

    count: int


class ReaderStalled(msgspec.Struct, frozen=True):
    """A client stopped reading for too long and was disconnected; its reply goes on."""


class CircuitChanged(msgspec.Struct, frozen=True):
    """n8n could not be connected to repeatedly, or can be again."""

    bot: str
    state: Literal["open", "closed"]


class FeedbackGiven(msgspec.Struct, frozen=True):
    """A visitor rated a reply."""

    bot: str
    rating: Literal["up", "down"]


Happening = (
    ServerHappened
    | SetupSuspicious
    | Decided
    | RequestEnded
    | Crashed
    | SessionHappened
    | ReplyStarted
    | ReplyEnded
    | ReplyJoined
    | RepliesEvicted
    | ReaderStalled
    | CircuitChanged
    | FeedbackGiven
)
Observe = Callable[[Happening], None]

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


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(request_id)s %(message)s")
        self.default_msec_format = "%s.%03d"


class _JsonFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self.default_time_format = "%Y-%m-%dT%H:%M:%S"
        self.default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "request_id": getattr(record, "request_id", "-"),
            "event": getattr(record, "event", record.name),
            "message": record.getMessage(),
        }
        line.update(getattr(record, "members", {}))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    """Hands lines to a thread, so that a slow reader of standard error never holds the event loop."""

    def __init__(self, lines: "queue.Queue[logging.LogRecord]", dropped: Counter) -> None:
        super().__init__(lines)
        self._dropped = dropped

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped.inc()


class Observer:
    """Logs and counts. Call it with what happened; `debugging` tells whether `Decided` is worth making."""

    def __init__(self, settings: LogSettings, stream: IO[str] | None = None) -> None:
        self.metrics = Metrics()
        self.debugging = settings.level == "DEBUG"
        self._log = logging.getLogger("chatcore")
        self._log.setLevel(settings.level)
        self._log.propagate = False
        output = logging.StreamHandler(stream or sys.stderr)
        output.setFormatter(_JsonFormatter() if settings.format == "json" else _TextFormatter())
        lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUED_LINES)
        handler = _BoundedQueueHandler(lines, self.metrics.lines_dropped)
        self._listener = logging.handlers.QueueListener(lines, output)
        self._log.handlers = [handler]
        # What libraries say (asyncio's slow callbacks, aiohttp's warnings) takes the same way out.
        libraries = logging.getLogger()
        libraries.handlers = [handler]
        libraries.setLevel(max(logging.WARNING, self._log.level))
        self._listener.start()
        self._children: dict[tuple[object, ...], Any] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            ServerHappened: self._server,
            SetupSuspicious: lambda it: self._say(logging.ERROR, it, it.detail),
            Decided: lambda it: self._say(logging.DEBUG, it, f"{it.stage}: {it.what}"),
            RequestEnded: self._request,
            Crashed: self._crashed,
            SessionHappened: self._session,
            ReplyStarted: lambda it: self._child(self.metrics.messages, it.bot).inc(),
            ReplyEnded: self._reply,
            ReplyJoined: lambda it: self._child(self.metrics.joined, it.how).inc(),
            RepliesEvicted: self._evicted,
            ReaderStalled: self._stalled,
            CircuitChanged: self._circuit,
            FeedbackGiven: lambda it: self._child(self.metrics.feedback, it.bot, it.rating).inc(),
        }

    def __call__(self, happening: Happening) -> None:
        """Log and count `happening`."""
        self._handlers[type(happening)](happening)

    def close(self) -> None:
        """Write what is still queued."""
        self._listener.stop()

    def _child(self, family: Any, *labels: str) -> Any:
        # `labels()` of the library takes a lock and builds strings; the sets are small, so they are kept.
        key = (family, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*labels)
        return child

    def _say(self, level: int, happening: Happening, text: str, error: BaseException | None = None) -> None:
        if not self._log.isEnabledFor(level):
            return
        members = {} if error else {k: v for k, v in msgspec.structs.asdict(happening).items() if v not in (None, "")}
        self._log.log(level, text, exc_info=error, extra={"event": type(happening).__name__, "members": members})

    def _server(self, it: ServerHappened) -> None:
        self._child(self.metrics.server, it.what).inc()
        level = logging.INFO if it.what in ("listening", "drain_begun", "new_refused", "stopped") else logging.WARNING
        if it.what in ("head_timeout", "body_timeout", "head_too_large", "not_http"):
            level = logging.INFO  # the internet is full of them
        self._say(level, it, f"{it.what.replace('_', ' ')} {it.detail}".rstrip())

    def _request(self, it: RequestEnded) -> None:
        self._child(self.metrics.requests, it.method, it.route, str(it.status)).inc()
        self._child(self.metrics.request_seconds, it.route).observe(it.seconds)
        if it.code is not None:
            self._child(self.metrics.refusals, it.code).inc()
        if self._log.isEnabledFor(logging.INFO):
            self._say(
                logging.INFO, it, f"{it.method} {it.route} {it.status} {it.code or ''} {it.seconds * 1000:.1f} ms"
            )

    def _crashed(self, it: Crashed) -> None:
        self._child(self.metrics.crashes, it.where).inc()
        self._say(logging.ERROR, it, f"unexpected exception in {it.where}", it.error)

    def _session(self, it: SessionHappened) -> None:
        self._child(self.metrics.sessions, it.bot, it.what).inc()
        self._say(logging.INFO, it, f"session {it.what}")

    def _reply(self, it: ReplyEnded) -> None:
        self._child(self.metrics.replies, it.bot, it.finish_reason).inc()
        self._child(self.metrics.reply_seconds, it.bot).observe(it.seconds)
        if it.first_text_seconds is not None:
            self._child(self.metrics.first_text_seconds, it.bot).observe(it.first_text_seconds)
        if it.code is not None:
            self._child(self.metrics.reply_errors, it.bot, it.code).inc()
            self._say(logging.WARNING, it, f"reply of bot {it.bot} failed: {it.code}: {it.reason}")
        elif self._log.isEnabledFor(logging.INFO):
            self._say(logging.INFO, it, f"reply of bot {it.bot} {it.finish_reason} after {it.seconds:.3f} s")

    def _evicted(self, it: RepliesEvicted) -> None:
        self.metrics.evicted.inc(it.count)
        self._say(logging.WARNING, it, f"{it.count} kept replies dropped early: REPLY_MEMORY_BYTES is too small")

    def _stalled(self, it: ReaderStalled) -> None:
        self.metrics.stalled.inc()
        self._say(logging.INFO, it, "a client stopped reading and was disconnected")

    def _circuit(self, it: CircuitChanged) -> None:
        self._child(self.metrics.circuit_open, it.bot).set(1 if it.state == "open" else 0)
        level = logging.ERROR if it.state == "open" else logging.WARNING
        said = "cannot be reached; new messages are refused at once" if it.state == "open" else "can be reached again"
        self._say(level, it, f"n8n of bot {it.bot} {said}")
