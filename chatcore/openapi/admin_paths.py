"""The figures in the description: their path for operators with an admin token, and the schemas of the answer."""

from typing import Any

from chatcore import errors as kinds
from chatcore.analytics import (
    DAY_SECONDS,
    HOURS_OF_A_DAY,
    TOP_PLACES,
    Figures,
    Place,
    Query,
    Report,
    Slot,
    cohorts_of,
    document,
)
from chatcore.analytics_query import DEFAULT_DAYS, MAX_DAYS
from chatcore.openapi.archive_paths import archive_paths
from chatcore.openapi.responses import CHECKED_ORIGIN, answer, errors, json, schema
from chatcore.settings import Settings

_COUNT = {"type": "integer", "minimum": 0}
_TIME = {"type": "string", "format": "date-time"}
_MIDNIGHT = 1_769_817_600  # 2026-01-31


def admin_paths(settings: Settings) -> dict[str, Any]:
    """Give the paths for operators."""
    return {"/api/v1/admin/analytics": {"get": _analytics(settings)}, **archive_paths(settings)}


def admin_schemas() -> dict[str, Any]:
    """Give the schemas of what operators get."""
    milliseconds = {"type": ["integer", "null"], "minimum": 0}
    figures = {
        "sessions": {**_COUNT, "description": "Sessions with their first accepted message in this time."},
        "messages": {**_COUNT, "description": "Accepted messages."},
        "replies": {**_COUNT, "description": "Replies that ended `complete` or `stopped`, by the message's time."},
        "errors": {**_COUNT, "description": "Replies that ended `error`."},
        "reply_ms_p50": {**milliseconds, "description": "Half of the replies took no longer; at most 5 % off."},
        "reply_ms_p95": {**milliseconds, "description": "95 % of the replies took no longer; at most 5 % off."},
        "feedback_up": _COUNT,
        "feedback_down": _COUNT,
    }
    report = {
        "from": {**_TIME, "description": "What was counted: the bounds asked for, widened to whole intervals."},
        "to": _TIME,
        "interval": {"enum": ["hour", "day"]},
        "totals": schema("Figures"),
        "series": {"type": "array", "minItems": 1, "items": schema("FiguresOfInterval")},
        "top_origins": _places("origin"),
        "top_pages": _places("page"),
    }
    counts = {"messages": {"type": "string", "description": "How many messages: `3-5`, `21+`."}, "sessions": _COUNT}
    per_session = {
        "mean": {"type": ["number", "null"], "minimum": 0},
        "p50": milliseconds,
        "p95": milliseconds,
        "counts": {"type": "array", "items": _object(counts)},
    }
    cohorts = {
        "new_sessions": {**_COUNT, "description": "Sessions of this time that began in it."},
        "returning_sessions": {
            **_COUNT,
            "description": "Sessions with a message in this time on a later UTC day than their first.",
        },
        "messages_per_session": _object(per_session),
        "busiest_hours": {
            "type": "array",
            "minItems": HOURS_OF_A_DAY,
            "maxItems": HOURS_OF_A_DAY,
            "items": _COUNT,
            "description": "Messages by the UTC hour of the day.",
        },
    }
    known = {
        **_object(report),
        "properties": {**report, "cohorts": {**schema("Cohorts"), "description": "In PostgreSQL mode."}},
    }
    return {
        "Figures": _object(figures),
        "FiguresOfInterval": _object({"start": _TIME, **figures}),
        "Cohorts": _object(cohorts),
        "Analytics": known,
    }


def _analytics(settings: Settings) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": "analytics",
        "tags": ["operations"],
        "summary": "Figures about sessions and messages",
        "parameters": [
            _parameter("from", _TIME, f"The beginning, included; {DEFAULT_DAYS} days before `to` if absent."),
            _parameter("to", _TIME, "The end, not included; the present if absent."),
            _parameter(
                "interval",
                {"enum": ["hour", "day"]},
                f"`hour` for at most {MAX_DAYS['hour']} days, `day` for at most {MAX_DAYS['day']}. "
                "If absent: up to two days by the hour, more by the day.",
            ),
            _parameter("bot", {"enum": sorted(settings.upstream.bots)}, "Only this bot; all of them if absent."),
        ],
    }
    if settings.mode == "stateless":
        described["description"] = "Stateless mode stores none, and asks for no token to say so."
        described["responses"] = errors((*CHECKED_ORIGIN, kinds.NOT_STORED))
        return described
    described["description"] = "404 `not_found` where the operator set no admin token."
    if settings.mode == "postgres":
        described["description"] += " `cohorts` are told of as many days as messages are kept for."
    described["security"] = [{"admin": []}]
    described["responses"] = {
        "200": answer("The figures.", json("Analytics", _example(settings)), "Cache-Control"),
        **errors(
            (
                *CHECKED_ORIGIN,
                kinds.TOKEN_MISSING,
                kinds.TOKEN_INVALID,
                kinds.NOT_FOUND,
                kinds.RATE_LIMITED,
                kinds.STORE_UNAVAILABLE,
            )
        ),
    }
    return described


def _parameter(name: str, described: dict[str, Any], said: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": said, "schema": described}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _places(name: str) -> dict[str, Any]:
    place = _object({name: {"type": "string"}, "sessions": _COUNT, "messages": _COUNT})
    said = (
        f"The busiest {name}s of every UTC day that is touched; `(other)` is beyond a day's first 1,000, empty: none."
    )
    return {"type": "array", "maxItems": TOP_PLACES, "items": place, "description": said}


def _example(settings: Settings) -> dict[str, Any]:
    of_day = {"sessions": 41, "messages": 120, "replies": 118, "errors": 2, "reply_ms_p50": 1920, "reply_ms_p95": 6250}
    has_cohorts = settings.mode == "postgres"
    report = Report(
        query=Query(_MIDNIGHT, _MIDNIGHT + DAY_SECONDS, "day"),
        totals=Figures(**of_day, feedback_up=9, feedback_down=1),
        series=(Slot(**of_day, feedback_up=9, feedback_down=1, start=_MIDNIGHT),),
        top_origins=(Place("https://www.example.com", 41, 120),),
        top_pages=(Place("https://www.example.com/prices", 30, 84),),
        cohorts=cohorts_of({1: (10, 10, 0), 3: (30, 24, 6), 20: (1, 1, 0)}, {9: 70, 10: 50}) if has_cohorts else None,
    )
    return document(report)
