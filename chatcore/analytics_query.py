"""What an operator asks of the figures, as text -> a `Query`, or a fault for each parameter that is not as it must be.

Bounds are widened outward to whole intervals: nothing that was asked for is left out, and the report says what it
counts.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from math import ceil
from urllib.parse import parse_qsl

from chatcore.analytics import DAY_SECONDS, HOUR_SECONDS, Interval, Query
from chatcore.fields import Faults, shown

DEFAULT_DAYS = 7
MAX_DAYS: Mapping[Interval, int] = {"hour": 31, "day": 800}
"""How much time a report may cover, by its interval."""

MAX_VALUE_CHARS = 64
PARAMETERS = ("from", "to", "interval", "bot")
FIRST_YEAR, LAST_YEAR = 2000, 2100
_INTERVALS: Mapping[str, Interval] = {"hour": "hour", "day": "day"}
_HOURS_UP_TO_DAYS = 2
_MAX_PARAMETERS = 20

# RFC 3339, 5.6. A `+` that was not escaped arrives as a space, so that stands for it.
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d+)?(?:[Zz]|([+ -])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
_LEAP = 60


def parse_query(query_string: bytes, bots: Collection[str], now: float) -> Query:
    """Read the query string of a request. Raises `Refusal` `invalid_request` with every fault."""
    faults = Faults()
    return query_from(parameters_of(query_string, PARAMETERS, faults), bots, now, faults)


def parameters_of(query_string: bytes, known: Sequence[str], faults: Faults) -> dict[str, str]:
    """Give the parameters of a query string by name, each at most once."""
    values: dict[str, str] = {}
    try:
        # Latin-1 loses nothing: whatever is not ASCII was either escaped or is wrong anyway.
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        faults.add("query", f"must have at most {_MAX_PARAMETERS} parameters")
        faults.refuse()
    for name, value in pairs:
        if name not in known:
            faults.add(shown(name), f"is not known; there are {', '.join(known)}")
        elif name in values:
            faults.add(name, "must be given once")
        else:
            values[name] = value
    return values


def query_from(
    values: Mapping[str, str], bots: Collection[str], now: float, faults: Faults, days: int = DEFAULT_DAYS
) -> Query:
    """Make a query of parameters by name, any of which may be absent. Raises `Refusal` with all that is wrong.

    Without `to` it ends `now`, without `from` it begins `days` before its end; without `interval` up to two days are
    told by the hour, more by the day.
    """
    for name, value in values.items():
        if len(value) > MAX_VALUE_CHARS:
            faults.add(name, f"must have at most {MAX_VALUE_CHARS} characters")
    if faults:
        faults.refuse()
    end = time_of("to", values["to"], faults) if "to" in values else now
    begin = time_of("from", values["from"], faults) if "from" in values else (end or now) - days * DAY_SECONDS
    interval = _interval(values.get("interval"), faults)
    bot = values.get("bot")
    if bot is not None and bot not in bots:
        faults.add("bot", "must be the name of a bot of this server")
    if begin is not None and end is not None:
        if begin >= end:
            faults.add("from", "must be before to, which is the present where it is not given")
        elif interval is None:
            interval = "hour" if end - begin <= _HOURS_UP_TO_DAYS * DAY_SECONDS else "day"
        if interval is not None and end - begin > MAX_DAYS[interval] * DAY_SECONDS:
            faults.add("from", f"must be at most {MAX_DAYS[interval]} days before to, by the {interval}")
    if faults or begin is None or end is None or interval is None:
        faults.refuse()
    step = HOUR_SECONDS if interval == "hour" else DAY_SECONDS
    return Query(int(begin // step) * step, ceil(end / step) * step, interval, bot)


def _interval(value: str | None, faults: Faults) -> Interval | None:
    interval = None if value is None else _INTERVALS.get(value)
    if value is not None and interval is None:
        faults.add("interval", 'must be "hour" or "day"')
    return interval


def time_of(field: str, value: str, faults: Faults) -> float | None:
    """Read a moment as epoch seconds, None where it is none."""
    match = _TIME.fullmatch(value)
    if match is None:
        faults.add(field, "must be a time as RFC 3339 has it: 2026-01-31T09:30:00Z, 2026-01-31T10:30:00+01:00")
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, sign, hours, minutes = match.groups()[6:]
    zone = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        # A leap second is the first of the next minute, as POSIX counts.
        local = datetime(
            year, month, day, hour, minute, min(second, _LEAP - 1), tzinfo=timezone(-zone if sign == "-" else zone)
        )
        moment = local.astimezone(UTC)
    except (ValueError, OverflowError):
        moment = None
    if moment is None or second > _LEAP:
        faults.add(field, "must be a time that exists")
        return None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        faults.add(field, f"must be in the years {FIRST_YEAR} to {LAST_YEAR}")
        return None
    return moment.timestamp() + (second == _LEAP) + float(f"0{fraction or ''}")
