"""What operators ask of the figures and what they get: the question, the report, and how reply times are added up.

Pure. Reply times are counted in buckets that grow by a tenth each, so counts of any hours can be added and a
percentile read from the sum; it is at most 5 % off.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import ceil, exp, log
from typing import Any, Literal

import msgspec

Interval = Literal["hour", "day"]

HOUR_SECONDS = 3600
DAY_SECONDS = 86400
OTHER = "(other)"
"""What stands for origins and pages beyond the first `MOST_PLACES` of a day."""

NOWHERE = ""
"""The origin or page of messages that named none: servers, apps, curl."""

MOST_PLACES = 1000
TOP_PLACES = 20
"""How many origins and pages a report names."""

_GROWTH = log(1.1)
_LAST_BUCKET = 200  # some 52 hours


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in some time. Percentiles are None where no reply ended well."""

    sessions: int = 0
    messages: int = 0
    replies: int = 0
    errors: int = 0
    reply_ms_p50: int | None = None
    reply_ms_p95: int | None = None
    feedback_up: int = 0
    feedback_down: int = 0


class Slot(Figures, frozen=True, kw_only=True):
    """The figures of one interval; `start` in epoch seconds."""

    start: int


class Place(msgspec.Struct, frozen=True):
    """An origin or a page, how many sessions began there, and how many messages came from it."""

    name: str
    sessions: int
    messages: int


class Query(msgspec.Struct, frozen=True):
    """Which time is asked for: epoch seconds, half-open, both on bounds of the `interval` (UTC). `bot` None: all."""

    begin: int
    end: int
    interval: Interval
    bot: str | None = None

    @property
    def step(self) -> int:
        """The interval in seconds."""
        return HOUR_SECONDS if self.interval == "hour" else DAY_SECONDS


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: `series` has a slot for every interval, empty ones too; places are the busiest first, at most 20.

    Places are kept by the day: they are those of every UTC day that the query touches.
    """

    query: Query
    totals: Figures
    series: tuple[Slot, ...]
    top_origins: tuple[Place, ...]
    top_pages: tuple[Place, ...]


def bucket_of(milliseconds: float) -> int:
    """Give the number of the bucket that counts a reply time."""
    return min(max(ceil(log(milliseconds) / _GROWTH), 0), _LAST_BUCKET) if milliseconds > 1 else 0


def milliseconds_of(bucket: int) -> int:
    """Give the time that stands for a bucket: the geometric middle of its bounds."""
    return max(round(exp(_GROWTH * (bucket - 0.5))), 1)


def percentile(counts: Mapping[int, int], fraction: float) -> int | None:
    """Give the time below which `fraction` of the replies ended, from counts by bucket; None where there are none."""
    total = sum(counts.values())
    if not total:
        return None
    wanted, seen, bucket = ceil(fraction * total), 0, 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= wanted:
            break
    return milliseconds_of(bucket)


def slots(query: Query) -> Iterable[int]:
    """Give the starts of all intervals of a query."""
    return range(query.begin, query.end, query.step)


def document(report: Report) -> dict[str, Any]:
    """Give a report as the HTTP contract has it: times in RFC 3339, `from` and `to` being what was counted."""
    query = report.query
    return {
        "from": _time(query.begin),
        "to": _time(query.end),
        "interval": query.interval,
        "totals": msgspec.structs.asdict(report.totals),
        "series": [_slot(slot) for slot in report.series],
        "top_origins": [_place("origin", place) for place in report.top_origins],
        "top_pages": [_place("page", place) for place in report.top_pages],
    }


def _slot(slot: Slot) -> dict[str, Any]:
    figures = msgspec.structs.asdict(slot)
    return {"start": _time(figures.pop("start")), **figures}


def _place(member: str, place: Place) -> dict[str, Any]:
    return {member: place.name, "sessions": place.sessions, "messages": place.messages}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
