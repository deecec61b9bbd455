"""What can happen (one union of frozen values) and the one place that logs and counts it.

Nothing here ever sees message texts, tokens or whole addresses: the values have no room for them.
"""

import logging
from collections.abc import Callable
from typing import IO, Any, Literal

import msgspec

from chatcore import logs
from chatcore.metrics import Count, Durations, Metrics
from chatcore.model import FinishReason
from chatcore.settings import LogSettings


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
    """Something about the set-up may not do what its owner expects; `severe` where visitors suffer from it."""

    detail: str
    severe: bool = True


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


class AnswerOdd(msgspec.Struct, frozen=True):
    """Something of n8n's answer was left out; `detail` names shapes and members, never values."""

    bot: str
    detail: str


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
    | AnswerOdd
    | ReplyJoined
    | RepliesEvicted
    | ReaderStalled
    | CircuitChanged
    | FeedbackGiven
)
Observe = Callable[[Happening], None]


class Observer:
    """Logs and counts. Call it with what happened; `debugging` tells whether `Decided` is worth making."""

    def __init__(self, settings: LogSettings, stream: IO[str] | None = None) -> None:
        self.metrics = Metrics()
        self.debugging = settings.level == "DEBUG"
        self._log, self._listener = logs.start(settings.level, settings.format, self.metrics.lines_dropped, stream)
        self._children: dict[tuple[object, ...], Any] = {}
        self._pairs: dict[tuple[object, ...], tuple[Count, Durations]] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            ServerHappened: self._server,
            SetupSuspicious: lambda it: self._say(logging.ERROR if it.severe else logging.WARNING, it, it.detail),
            Decided: lambda it: self._say(logging.DEBUG, it, f"{it.stage}: {it.what}"),
            RequestEnded: self._request,
            Crashed: self._crashed,
            SessionHappened: self._session,
            ReplyStarted: lambda it: self._child(self.metrics.messages, it.bot).inc(),
            ReplyEnded: self._reply,
            AnswerOdd: lambda it: self._say(logging.WARNING, it, f"answer of bot {it.bot}: {it.detail}"),
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
        key = (it.method, it.route, it.status)
        pair = self._pairs.get(key)
        if pair is None:
            pair = self._pairs[key] = (
                self.metrics.requests.labels(it.method, it.route, str(it.status)),
                self.metrics.request_seconds.labels(it.route),
            )
        pair[0].inc()
        pair[1].observe(it.seconds)
        if it.code is not None:
            self._child(self.metrics.refusals, it.code).inc()
        if self._log.isEnabledFor(logging.INFO):
            code = "" if it.code is None else f" {it.code}"
            self._say(logging.INFO, it, f"{it.method} {it.route} {it.status}{code} {it.seconds * 1000:.1f} ms")

    def _crashed(self, it: Crashed) -> None:
        self._child(self.metrics.crashes, it.where).inc()
        self._say(logging.ERROR, it, f"unexpected exception in {it.where}", it.error)

    def _session(self, it: SessionHappened) -> None:
        self._child(self.metrics.sessions, it.bot, it.what).inc()
        self._say(logging.INFO, it, f"session {it.what}")

    def _reply(self, it: ReplyEnded) -> None:
        key = (it.bot, it.finish_reason)
        pair = self._pairs.get(key)
        if pair is None:
            pair = self._pairs[key] = (
                self.metrics.replies.labels(it.bot, it.finish_reason),
                self.metrics.reply_seconds.labels(it.bot),
            )
        pair[0].inc()
        pair[1].observe(it.seconds)
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
