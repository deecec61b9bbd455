"""The figures of a report on a terminal, or as the document that the HTTP API gives."""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from chatcore.analytics import DAY_SECONDS, HOUR_SECONDS, NOWHERE, Cohorts, Figures, Place, Query, Report, document
from chatcore.analytics_query import DEFAULT_DAYS, MAX_DAYS, query_from
from chatcore.errors import INVALID_REQUEST, FieldFault, Refusal
from chatcore.fields import Faults

MIN_COLUMNS = 40
_INDENT = "  "
_LABEL = 10
_WIDEST_BAR = 6
_WIDEST_BOT = 24
_NUMBER = 11
_BARS = ("▁▂▃▄▅▆▇█", ".:-=+*#@")
_SECOND, _MINUTE = 1000, 60_000

# What drives a terminal (ECMA-48): control strings, control sequences, other escapes; in 7 bits and in 8.
_ESCAPES = re.compile(
    r"(?:\x1b[P\]X^_]|[\x90\x98\x9d-\x9f]).*?(?:\x1b\\|[\x07\x9c]|$)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

Style = Literal["bold", "dim", "red"]
_CODES: Mapping[Style, str] = {"bold": "1", "dim": "2", "red": "31"}


class _Span(msgspec.Struct, frozen=True):
    """A piece of a line; `style` where the terminal has colours."""

    text: str
    style: Style | None = None


def query_of(
    bots: Collection[str],
    now: float,
    *,
    days: int | None = None,
    begin: str | None = None,
    end: str | None = None,
    interval: str | None = None,
    bot: str | None = None,
) -> Query:
    """Make a query of the options `--days`, `--from`, `--to`, `--interval` and `--bot`.

    Times are as in the API, or a day alone (its beginning, UTC). Raises `Refusal`, whose `errors` have the options'
    names without the dashes as fields.
    """
    options = {"from": begin, "to": end, "interval": interval, "bot": bot}
    values = {
        name: f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value
        for name, value in options.items()
        if value is not None
    }
    if days is not None and not 1 <= days <= MAX_DAYS["day"]:
        raise _refusal(f"must be from 1 to {MAX_DAYS['day']}")
    if days is not None and begin is not None:
        raise _refusal("cannot be given together with from")
    return query_from(values, bots, now, Faults(), DEFAULT_DAYS if days is None else days)


def as_json(report: Report) -> bytes:
    """Give the document of `GET /api/v1/admin/analytics`."""
    return msgspec.json.encode(document(report))


def render(report: Report, columns: int, *, colour: bool, unicode: bool) -> str:
    """Give the report as lines of at most `columns` (40 at least), the last one unended; `unicode` false: in ASCII."""
    return _Page(max(columns, MIN_COLUMNS), colour=colour, unicode=unicode).of(report)


def printable(name: str) -> str:
    """Give a name from outside without what would drive a terminal or not be seen."""
    return "".join(character for character in _ESCAPES.sub("", name) if character.isprintable())


def width_of(text: str) -> int:
    """Give the most columns that a text can take: two for each wide character (Unicode annex 11)."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


class _Page:
    """One report's lines as they are written."""

    def __init__(self, columns: int, *, colour: bool, unicode: bool) -> None:
        self._columns = columns
        self._colour = colour
        self._unicode = unicode
        self._lines: list[str] = []

    def of(self, report: Report) -> str:
        """Write all of it."""
        query = report.query
        self._line(_Span(f"{_time(query.begin)} to {_time(query.end)} UTC", "bold"))
        bots = "all bots" if query.bot is None else f"bot {self._fitting(query.bot, _WIDEST_BOT)}"
        self._line(_Span(f"by the {query.interval}, {bots}"))
        self._line()
        for label, text in (*_told(report.totals), *_cohorts(report.cohorts)):
            self._line(_Span(_labelled(label) + text))
        if report.cohorts is not None and any(report.cohorts.busiest_hours):
            hours = "".join(self._bars(report.cohorts.busiest_hours))
            self._line(_Span(f"{_labelled('by hour')}{hours}  messages from 0 to 23 h, UTC"))
        self._line()
        self._charts(report)
        for title, places in (("Origins", report.top_origins), ("Pages", report.top_pages)):
            if places:
                self._line()
                self._table(title, places)
        return "\n".join(self._lines)

    def _charts(self, report: Report) -> None:
        """Draw one line for each of three figures; neighbours share a bar where there is no room for all."""
        series = report.series
        charted = {
            "sessions": [slot.sessions for slot in series],
            "messages": [slot.messages for slot in series],
            "errors": [slot.errors for slot in series],
        }
        tail = max(len(_most(sum(values))) for values in charted.values())
        margin = len(_labelled(""))
        room = max(self._columns - margin - tail, 1)
        together = -(-len(series) // room)
        bars = -(-len(series) // together)
        wide = min(room // bars, _WIDEST_BAR)
        for label, values in charted.items():
            sums = [sum(values[first : first + together]) for first in range(0, len(values), together)]
            chart = "".join(bar * wide for bar in self._bars(sums))
            self._line(
                _Span(_labelled(label)), _Span(chart, "red" if label == "errors" else None), _Span(_most(max(sums)))
            )
        first, last = (_time(bound)[: len("2026-01-31")] for bound in (report.query.begin, report.query.end - 1))
        gap = bars * wide - len(first) - len(last)
        self._line(_Span(" " * margin + (f"{first}{' ' * gap}{last}" if gap > 0 else first), "dim"))
        self._line(_Span(f"{' ' * margin}a bar is {_span(together * report.query.step)}", "dim"))

    def _bars(self, values: Sequence[int]) -> list[str]:
        """Give a character for each value, a space for none."""
        marks = _BARS[0 if self._unicode else 1]
        most = max(values)
        return [marks[-(-value * len(marks) // most) - 1] if value else " " for value in values]

    def _table(self, title: str, places: Sequence[Place]) -> None:
        room = self._columns - 2 * _NUMBER
        self._line(_Span(f"{title:<{room}}{'sessions':>{_NUMBER}}{'messages':>{_NUMBER}}", "bold"))
        for place in places:
            name = _INDENT + self._fitting(place.name, room - len(_INDENT) - 1)
            padding = " " * (room - width_of(name))
            self._line(_Span(f"{name}{padding}{place.sessions:>{_NUMBER},}{place.messages:>{_NUMBER},}"))

    def _fitting(self, name: str, room: int) -> str:
        """Give a place's name in `room` columns; it is shortened in its middle, for addresses differ at their ends."""
        text = "(not told)" if name == NOWHERE else printable(name)
        if not self._unicode:
            text = text.encode("ascii", "replace").decode()
        if width_of(text) <= room:
            return text
        dots = "…" if self._unicode else "..."
        head = _cut(text, (room - len(dots)) // 2)
        return head + dots + _cut(text[::-1], room - len(dots) - width_of(head))[::-1]

    def _line(self, *spans: _Span) -> None:
        """Write a line; what has no room is left out."""
        left, line = self._columns, ""
        for span in spans:
            text = _cut(span.text, left)
            left -= width_of(text)
            if self._colour and span.style is not None and text.strip():
                text = f"\x1b[{_CODES[span.style]}m{text}\x1b[0m"
            line += text
        self._lines.append(line.rstrip(" "))


def _told(totals: Figures) -> list[tuple[str, str]]:
    """Give the totals as labels and texts."""
    ended = totals.replies + totals.errors
    share = f"  ({totals.errors / ended:.1%} of {ended:,} that ended)" if totals.errors else ""
    p50, p95 = totals.reply_ms_p50, totals.reply_ms_p95
    times = "none yet" if p50 is None or p95 is None else f"p50 {_duration(p50)}, p95 {_duration(p95)}"
    return [
        ("sessions", f"{totals.sessions:,}"),
        ("messages", f"{totals.messages:,}"),
        ("replies", f"{totals.replies:,}"),
        ("errors", f"{totals.errors:,}{share}"),
        ("reply time", times),
        ("feedback", f"{totals.feedback_up:,} up, {totals.feedback_down:,} down"),
    ]


def _cohorts(cohorts: Cohorts | None) -> list[tuple[str, str]]:
    """Give the sessions by what they did, in a mode that knows."""
    if cohorts is None:
        return []
    told = [
        ("visitors", f"{cohorts.new_sessions:,} new, {cohorts.returning_sessions:,} on a later day than their first")
    ]
    if cohorts.mean is not None:
        told.append(("a session", f"{cohorts.mean:g} messages on average, p50 {cohorts.p50}, p95 {cohorts.p95}"))
    return told


def _labelled(label: str) -> str:
    return f"{_INDENT}{label:<{_LABEL}}  "


def _most(value: int) -> str:
    return f"  max {value:,}"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _span(seconds: int) -> str:
    count, unit = (seconds // DAY_SECONDS, "day") if seconds % DAY_SECONDS == 0 else (seconds // HOUR_SECONDS, "hour")
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _duration(milliseconds: int) -> str:
    if milliseconds < _SECOND:
        return f"{milliseconds} ms"
    seconds = milliseconds / _SECOND
    return f"{seconds:.1f} s" if milliseconds < _MINUTE else f"{seconds / 60:.1f} min"


def _cut(text: str, room: int) -> str:
    """Give the beginning of a text that fits."""
    used = 0
    for index, character in enumerate(text):
        used += width_of(character)
        if used > room:
            return text[:index]
    return text


def _refusal(problem: str) -> Refusal:
    return Refusal(INVALID_REQUEST, f"The request is not valid: days {problem}.", errors=[FieldFault("days", problem)])
