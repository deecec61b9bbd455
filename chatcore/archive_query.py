"""What is asked of kept messages, sessions and the audit log, as text -> values, or a fault for each wrong parameter.

A mark says where a page ends and the next one goes on. It travels as opaque text, which only this file makes and reads.
"""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from chatcore import fields, keyed
from chatcore.analytics_query import parameters_of, time_of
from chatcore.archive import MAX_MESSAGES, MAX_SESSIONS, Mark, SessionMark, SessionQuery, terms
from chatcore.fields import Faults

DEFAULT_MESSAGES = 50
DEFAULT_SESSIONS = 20
MAX_WORDS_CHARS = 200
MAX_ORIGIN_CHARS = 512
SESSION_PARAMETERS = ("q", "origin", "bot", "from", "to", "before", "limit")
PAGE_PARAMETERS = ("before", "limit")

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_SESSION_ID = re.compile(r"s_[A-Za-z0-9_-]{22}|[wo]_[A-Za-z0-9_-]{43}", re.ASCII)
_MOST_MICROSECONDS = 10**16
_MAX_MARK_CHARS = 128
_NO_MARK = "must be what an answer gave as next_before"

M = TypeVar("M", Mark, SessionMark)


def parse_messages(query_string: bytes) -> tuple[Mark | None, int]:
    """Read which page of a session's messages is asked for. Raises `Refusal` `invalid_request` with every fault."""
    faults = Faults()
    values = parameters_of(query_string, PAGE_PARAMETERS, faults)
    mark = _mark(values, Mark, faults)
    if mark is not None and (mark.role not in {0, 1} or fields.canonical_uuid(mark.message_id) != mark.message_id):
        faults.add("before", _NO_MARK)
    limit = _limit(values, DEFAULT_MESSAGES, MAX_MESSAGES, faults)
    if faults:
        faults.refuse()
    return mark, limit


def parse_entries(query_string: bytes) -> tuple[int | None, int]:
    """Read which page of the audit log is asked for, as `parse_messages`."""
    faults = Faults()
    values = parameters_of(query_string, PAGE_PARAMETERS, faults)
    before = values.get("before")
    if before is not None and not _NUMBER.fullmatch(before):
        faults.add("before", "must be the number of an entry")
    limit = _limit(values, DEFAULT_MESSAGES, MAX_SESSIONS, faults)
    if faults:
        faults.refuse()
    return None if before is None else int(before), limit


def parse_sessions(query_string: bytes, bots: Collection[str]) -> SessionQuery:
    """Read which sessions are asked for, as `parse_messages`."""
    faults = Faults()
    values = parameters_of(query_string, SESSION_PARAMETERS, faults)
    words = _words(values, faults)
    origin = _text(values, "origin", MAX_ORIGIN_CHARS, faults)
    bot = values.get("bot")
    if bot is not None and bot not in bots:
        faults.add("bot", "must be the name of a bot of this server")
    begin, end = (time_of(name, values[name], faults) if name in values else None for name in ("from", "to"))
    if begin is not None and end is not None and begin >= end:
        faults.add("from", "must be before to")
    before = _mark(values, SessionMark, faults)
    if before is not None and not _SESSION_ID.fullmatch(before.session_id):
        faults.add("before", _NO_MARK)
    limit = _limit(values, DEFAULT_SESSIONS, MAX_SESSIONS, faults)
    if faults:
        faults.refuse()
    return SessionQuery(words=words, origin=origin, bot=bot, begin=begin, end=end, before=before, limit=limit)


def is_session_id(value: str) -> bool:
    """Tell whether a text has the form of a session id."""
    return _SESSION_ID.fullmatch(value) is not None


def mark_text(mark: Mark | SessionMark | None) -> str | None:
    """Give a mark as clients get it and give it back."""
    return None if mark is None else keyed.base64url(msgspec.json.encode(msgspec.structs.astuple(mark)))


def time_text(seconds: float) -> str:
    """Give a moment (epoch seconds) in RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _mark(values: Mapping[str, str], kind: type[M], faults: Faults) -> M | None:
    value = values.get("before")
    mark = None if value is None else _read_mark(value, kind)
    if value is not None and mark is None:
        faults.add("before", _NO_MARK)
    return mark


def _read_mark(value: str, kind: type[M]) -> M | None:
    if len(value) > _MAX_MARK_CHARS:
        return None
    try:
        parts = msgspec.json.decode(keyed.unbase64url(value), type=list[int | str])
        mark = msgspec.convert(dict(zip(kind.__struct_fields__, parts, strict=True)), kind)
    except ValueError:  # msgspec's errors are such, and binascii's
        return None
    microseconds: int = msgspec.structs.astuple(mark)[0]
    return mark if 0 <= microseconds < _MOST_MICROSECONDS else None


def _limit(values: Mapping[str, str], default: int, most: int, faults: Faults) -> int:
    value = values.get("limit")
    if value is None:
        return default
    if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= most:
        faults.add("limit", f"must be a number from 1 to {most}")
        return default
    return int(value)


def _words(values: Mapping[str, str], faults: Faults) -> str | None:
    words = _text(values, "q", MAX_WORDS_CHARS, faults)
    if words is not None and not terms(words):
        faults.add("q", "must have a word to look for, not only words that are excluded")
    return words


def _text(values: Mapping[str, str], name: str, most: int, faults: Faults) -> str | None:
    value = values.get(name)
    return value if value is not None and fields.is_text(name, value, most, faults) else None
