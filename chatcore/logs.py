"""How log lines look (text or JSON) and how they leave: by a bounded queue to a thread, never from the event loop."""

import contextvars
import logging
import logging.handlers
import queue
import select
import sys
import time
from collections.abc import Mapping
from typing import IO, Any, Literal, Protocol

import msgspec

from chatcore import spans

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")

QUEUED_LINES = 10_000
"""Log lines that may wait for a slow reader of standard error; further ones are dropped and counted."""


class Counted(Protocol):
    """What counts the lines that are lost."""

    def inc(self) -> None:
        """Add one."""
        ...


class _UtcFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)  # RFC 3339 in UTC, as all times of ours
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


class _TextFormatter(_UtcFormatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(request_id)s %(message)s")


class _JsonFormatter(_UtcFormatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "request_id": getattr(record, "request_id", "-"),
            "event": getattr(record, "event", record.name),
            "message": record.getMessage(),
            **getattr(record, "span", {}),
        }
        line.update(getattr(record, "members", {}))
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def _formatter(form: Literal["text", "json"]) -> logging.Formatter:
    return _JsonFormatter() if form == "json" else _TextFormatter()


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    """Hands lines to a thread, so that a slow reader of standard error never holds the event loop."""

    def __init__(self, lines: "queue.Queue[logging.LogRecord]", dropped: Counted) -> None:
        super().__init__(lines)
        self._dropped = dropped

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
            record.span = spans.ids()
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped.inc()


def start(
    level: str, form: Literal["text", "json"], dropped: Counted, stream: IO[str] | None
) -> tuple[logging.Logger, logging.handlers.QueueListener]:
    """Set up the logger `chatcore` and the root logger; the listener's `stop()` writes what is still queued."""
    log = logging.getLogger("chatcore")
    log.setLevel(level)
    log.propagate = False
    output = logging.StreamHandler(stream or sys.stderr)
    output.setFormatter(_formatter(form))
    lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUED_LINES)
    handler = _BoundedQueueHandler(lines, dropped)
    log.handlers = [handler]
    # What libraries say (asyncio's slow callbacks, aiohttp's warnings) takes the same way out.
    libraries = logging.getLogger()
    libraries.handlers = [handler]
    libraries.setLevel(max(logging.WARNING, log.level))
    listener = logging.handlers.QueueListener(lines, output)
    listener.start()
    return log, listener


def write_line(
    level: str, form: Literal["text", "json"], severity: str, text: str, members: Mapping[str, object]
) -> None:
    """Write one line to standard error at once, for a process that has no thread to do it.

    Lost where `level` is above its severity, and where nobody reads: such a process must not wait.
    """
    number = logging.getLevelNamesMapping()[severity]
    if number < logging.getLevelNamesMapping()[level]:
        return
    record = logging.LogRecord("chatcore", number, __file__, 0, text, None, None)
    record.request_id, record.event, record.members = "-", "WorkerChanged", members
    if select.select([], [sys.stderr], [], 0)[1]:
        sys.stderr.write(_formatter(form).format(record) + "\n")
        sys.stderr.flush()
