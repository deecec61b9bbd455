"""What operators ask of the figures and what they get: the question, the report, and how reply times are added up.

Pure. Reply times are counted in buckets that grow by a tenth each, so counts of any hours can be added and a
percentile read from the sum; it is at most 5 % off.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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

GROUPS_OF_MESSAGES = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, None))
"""Sessions are grouped by how many messages they have: from, to; the last group has no bound."""

HOURS_OF_A_DAY = 24

Sums = Sequence[int]
"""Sessions, messages, replies, errors, ratings up, ratings down."""

_NOTHING = (0,) * 6
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


class Cohorts(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions by what they did in some time, and messages by the UTC hour of the day.

    `new_sessions` began in it, `returning_sessions` have a message in it on a later UTC day than their first of all.
    One can be both. `sessions` has for each of `GROUPS_OF_MESSAGES` how many sessions have so many messages.
    """

    new_sessions: int
    returning_sessions: int
    mean: float | None
    p50: int | None
    p95: int | None
    sessions: tuple[int, ...]
    busiest_hours: tuple[int, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: `series` has a slot for every interval, empty ones too; places are the busiest first, at most 20.

    Places are kept by the day: they are those of every UTC day that the query touches. `cohorts` is None where no
    single messages are kept.
    """

    query: Query
    totals: Figures
    series: tuple[Slot, ...]
    top_origins: tuple[Place, ...]
    top_pages: tuple[Place, ...]
    cohorts: Cohorts | None = None


def bucket_of(milliseconds: float) -> int:
    """Give the number of the bucket that counts a reply time."""
    return min(max(ceil(log(milliseconds) / _GROWTH), 0), _LAST_BUCKET) if milliseconds > 1 else 0


def milliseconds_of(bucket: int) -> int:
    """Give the time that stands for a bucket: the geometric middle of its bounds."""
    return max(round(exp(_GROWTH * (bucket - 0.5))), 1)


def percentile(counts: Mapping[int, int], fraction: float) -> int | None:
    """Give the time below which `fraction` of the replies ended, from counts by bucket; None where there are none."""
    bucket = _at(counts, fraction)
    return None if bucket is None else milliseconds_of(bucket)


def report_of(
    query: Query,
    sums: Mapping[int, Sums],
    times: Mapping[int, Mapping[int, int]],
    origins: tuple[Place, ...],
    pages: tuple[Place, ...],
    cohorts: Cohorts | None = None,
) -> Report:
    """Put a report together. `sums` and `times` (how many replies in each bucket) are by the starts of intervals."""
    series = []
    of_all = Counter[int]()
    totals: Sums = _NOTHING
    for start in slots(query):
        of_slot = times.get(start, {})
        figures = sums.get(start, _NOTHING)
        totals = [total + one for total, one in zip(totals, figures, strict=True)]
        of_all.update(of_slot)
        series.append(Slot(start=start, **_figures(figures, of_slot)))
    return Report(
        query=query,
        totals=Figures(**_figures(totals, of_all)),
        series=tuple(series),
        top_origins=origins,
        top_pages=pages,
        cohorts=cohorts,
    )


def cohorts_of(counts: Mapping[int, tuple[int, int, int]], busiest_hours: Mapping[int, int]) -> Cohorts:
    """Add up cohorts: by number of messages how many sessions have them, began in this time, and came back."""
    by_messages = {messages: sessions for messages, (sessions, _, _) in counts.items()}
    sessions = sum(by_messages.values())
    messages = sum(each * count for each, count in by_messages.items())
    return Cohorts(
        new_sessions=sum(fresh for _, fresh, _ in counts.values()),
        returning_sessions=sum(returning for _, _, returning in counts.values()),
        mean=round(messages / sessions, 2) if sessions else None,
        p50=_at(by_messages, 0.5),
        p95=_at(by_messages, 0.95),
        sessions=tuple(
            sum(count for each, count in by_messages.items() if least <= each and (most is None or each <= most))
            for least, most in GROUPS_OF_MESSAGES
        ),
        busiest_hours=tuple(busiest_hours.get(hour, 0) for hour in range(HOURS_OF_A_DAY)),
    )


def slots(query: Query) -> Iterable[int]:
    """Give the starts of all intervals of a query."""
    return range(query.begin, query.end, query.step)


def document(report: Report) -> dict[str, Any]:
    """Give a report as the HTTP contract has it: times in RFC 3339, `from` and `to` being what was counted."""
    query = report.query
    cohorts = {} if report.cohorts is None else {"cohorts": _cohorts(report.cohorts)}
    return {
        "from": _time(query.begin),
        "to": _time(query.end),
        "interval": query.interval,
        "totals": msgspec.structs.asdict(report.totals),
        "series": [_slot(slot) for slot in report.series],
        "top_origins": [_place("origin", place) for place in report.top_origins],
        "top_pages": [_place("page", place) for place in report.top_pages],
        **cohorts,
    }


def _figures(sums: Sums, times: Mapping[int, int]) -> dict[str, Any]:
    sessions, messages, replies, errors, up, down = sums
    return {
        "sessions": sessions,
        "messages": messages,
        "replies": replies,
        "errors": errors,
        "reply_ms_p50": percentile(times, 0.5),
        "reply_ms_p95": percentile(times, 0.95),
        "feedback_up": up,
        "feedback_down": down,
    }


def _at(counts: Mapping[int, int], fraction: float) -> int | None:
    """Give the least key up to which `fraction` of all that is counted lies; None where nothing is."""
    total = sum(counts.values())
    if not total:
        return None
    wanted, seen, key = ceil(fraction * total), 0, 0
    for key in sorted(counts):
        seen += counts[key]
        if seen >= wanted:
            break
    return key


def _cohorts(cohorts: Cohorts) -> dict[str, Any]:
    return {
        "new_sessions": cohorts.new_sessions,
        "returning_sessions": cohorts.returning_sessions,
        "messages_per_session": {
            "mean": cohorts.mean,
            "p50": cohorts.p50,
            "p95": cohorts.p95,
            "counts": [
                {"messages": _group(least, most), "sessions": count}
                for (least, most), count in zip(GROUPS_OF_MESSAGES, cohorts.sessions, strict=True)
            ],
        },
        "busiest_hours": cohorts.busiest_hours,
    }


def _group(least: int, most: int | None) -> str:
    return f"{least}+" if most is None else str(least) if least == most else f"{least}-{most}"


def _slot(slot: Slot) -> dict[str, Any]:
    figures = msgspec.structs.asdict(slot)
    return {"start": _time(figures.pop("start")), **figures}


def _place(member: str, place: Place) -> dict[str, Any]:
    return {member: place.name, "sessions": place.sessions, "messages": place.messages}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
