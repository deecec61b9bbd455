"""The one place that logs and counts what happened (`happenings` has the values)."""

import logging
from collections.abc import Callable, Iterable
from typing import IO, Any, get_args

import msgspec

from chatcore import logs
from chatcore.errors import KINDS
from chatcore.happenings import (
    AdminRefused,
    AnswerOdd,
    CircuitChanged,
    Crashed,
    Decided,
    FeedbackGiven,
    Happening,
    KeyRefused,
    Observe,
    ReaderStalled,
    RedisChanged,
    RepliesEvicted,
    ReplyEnded,
    ReplyJoined,
    ReplyStarted,
    RequestEnded,
    ServerHappened,
    SessionHappened,
    SetupSuspicious,
    StoreChanged,
    StoreLost,
    StoreWrote,
    TracesChanged,
)
from chatcore.metrics import Count, Durations, Metrics
from chatcore.model import FinishReason
from chatcore.settings import LogSettings

__all__ = [
    "AdminRefused",
    "AnswerOdd",
    "CircuitChanged",
    "Crashed",
    "Decided",
    "FeedbackGiven",
    "Happening",
    "KeyRefused",
    "Observe",
    "Observer",
    "ReaderStalled",
    "RedisChanged",
    "RepliesEvicted",
    "ReplyEnded",
    "ReplyJoined",
    "ReplyStarted",
    "RequestEnded",
    "ServerHappened",
    "SessionHappened",
    "SetupSuspicious",
    "StoreChanged",
    "StoreLost",
    "StoreWrote",
    "TracesChanged",
]


CRASH_PLACES = (
    *("application", "cleanup", "followers", "mirror", "peers", "redis"),
    *("settle", "store", "tick", "traces", "turn", "upkeep", "upstream"),
)
"""What `Crashed.where` may be, beside routes."""

_STORE_LEVELS = {
    "not_writable": logging.ERROR,
    "cleanup_failed": logging.ERROR,
    "backup_failed": logging.ERROR,
    "journal_failed": logging.ERROR,
    "writable": logging.WARNING,
    "reader_in_the_way": logging.WARNING,
}


class Observer:
    """Logs and counts. Call it with what happened; `debugging` tells whether `Decided` is worth making."""

    def __init__(self, settings: LogSettings, stream: IO[str] | None = None) -> None:
        self.metrics = Metrics()
        self.debugging = settings.level == "DEBUG"
        self._log, self._listener = logs.start(settings.level, settings.format, self.metrics.lines_dropped, stream)
        self._store_seconds = self.metrics.store_seconds.labels()
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
            AdminRefused: self._admin_refused,
            KeyRefused: self._key_refused,
            StoreChanged: self._store,
            StoreLost: lambda it: self.metrics.store_lost.inc(it.count),
            StoreWrote: lambda it: self._store_seconds.observe(it.seconds),
            RedisChanged: self._redis,
            TracesChanged: self._traces,
        }

    def __call__(self, happening: Happening) -> None:
        """Log and count `happening`."""
        self._handlers[type(happening)](happening)

    def begin(self, bots: Iterable[str], routes: Iterable[str]) -> None:
        """Show counts that have not begun as zero: Prometheus sees no rise in a series that appears with a 1."""
        metrics = self.metrics
        for bot in bots:
            metrics.circuit_open.labels(bot)
            metrics.messages.labels(bot)
            for reason in get_args(FinishReason):
                metrics.replies.labels(bot, reason)
            for kind in KINDS.values():
                if kind.status >= 500:  # noqa: PLR2004 - RFC 9110, 15.6
                    metrics.reply_errors.labels(bot, kind.code)
        for family, values in (
            (metrics.refusals, (*KINDS, "client_gone")),
            (metrics.crashes, (*CRASH_PLACES, *routes, "(none)", "(preflight)")),
            (metrics.store, get_args(StoreChanged.__annotations__["what"])),
            (metrics.server, get_args(ServerHappened.__annotations__["what"])),
            (metrics.spans_dropped, ("queue_full", "not_delivered")),
        ):
            for value in values:
                family.labels(value)

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
            # What is wrong with a visitor's files is no news for operators.
            level = logging.INFO if KINDS[it.code].status < 500 else logging.WARNING  # noqa: PLR2004 - RFC 9110, 15.6
            self._say(level, it, f"reply of bot {it.bot} failed: {it.code}: {it.reason}")
        elif self._log.isEnabledFor(logging.INFO):
            self._say(logging.INFO, it, f"reply of bot {it.bot} {it.finish_reason} after {it.seconds:.3f} s")

    def _evicted(self, it: RepliesEvicted) -> None:
        self.metrics.evicted.inc(it.count)
        self._say(logging.WARNING, it, f"{it.count} kept replies dropped early: REPLY_MEMORY_BYTES is too small")

    def _stalled(self, it: ReaderStalled) -> None:
        self.metrics.stalled.inc()
        self._say(logging.INFO, it, "a client stopped reading and was disconnected")

    def _admin_refused(self, it: AdminRefused) -> None:
        self.metrics.admin_refused.inc()
        self._say(logging.WARNING, it, f"wrong admin token from {it.address}")

    def _key_refused(self, it: KeyRefused) -> None:
        self.metrics.key_refused.inc()
        self._say(logging.WARNING, it, f"wrong API key from {it.address}")

    def _store(self, it: StoreChanged) -> None:
        self._child(self.metrics.store, it.what).inc()
        level = _STORE_LEVELS.get(it.what, logging.INFO)
        self._say(level, it, f"store {it.what.replace('_', ' ')}{f': {it.detail}' if it.detail else ''}")

    def _redis(self, it: RedisChanged) -> None:
        self._child(self.metrics.redis, it.what).inc()
        self.metrics.show_redis(up=it.what != "lost")
        level = {"connected": logging.INFO, "lost": logging.ERROR}.get(it.what, logging.WARNING)
        self._say(level, it, f"redis {it.what}{f': {it.detail}' if it.detail else ''}")

    def _traces(self, it: TracesChanged) -> None:
        said = "not taken by the collector, and dropped" if it.what == "not_delivered" else "taken again"
        self._say(logging.WARNING, it, f"spans are {said}{f': {it.detail}' if it.detail else ''}")

    def _circuit(self, it: CircuitChanged) -> None:
        self._child(self.metrics.circuit_open, it.bot).set(1 if it.state == "open" else 0)
        level = logging.ERROR if it.state == "open" else logging.WARNING
        said = "cannot be reached; new messages are refused at once" if it.state == "open" else "can be reached again"
        self._say(level, it, f"n8n of bot {it.bot} {said}")
