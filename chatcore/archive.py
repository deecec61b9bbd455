"""What is asked of kept messages and the audit log, and what comes back: marks, pages, deeds. Pure values."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

Role = Literal["user", "assistant"]

MAX_MESSAGES = 200
"""The most messages of one page."""

MAX_SESSIONS = 100
"""The most sessions, or audit entries, of one page."""

MATCHES_A_PARTITION = 10_000
"""How many matches of a search are looked at in one month of messages; more make the answer `truncated`."""

_EXCLUDED = re.compile(r'(?<![^\s(])-(?:"[^"]*"?|\w+)')
_WORD = re.compile(r"\w+")

Action = Literal[
    "analytics_read",
    "sessions_searched",
    "transcript_read",
    "session_erased",
    "audit_read",
    "exported",
    "imported",
]


class Mark(msgspec.Struct, frozen=True, order=True):
    """A place in a session's messages: by acceptance (epoch microseconds), message id, role (0 user, 1 assistant)."""

    accepted_us: int
    message_id: str
    role: int


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One kept message; times in epoch seconds. What only a reply has is None for a visitor's message."""

    message_id: str
    role: Role
    content: str
    created_at: float
    finish_reason: str | None = None
    error_code: str | None = None
    duration_ms: int | None = None
    rating: Literal["up", "down"] | None = None
    comment: str | None = None


class MessagePage(msgspec.Struct, frozen=True):
    """Messages in the order in which they were said; `before` is where an earlier page ends, if there is one."""

    messages: tuple[Message, ...]
    before: Mark | None


class SessionMark(msgspec.Struct, frozen=True, order=True):
    """A place in the list of sessions: when a session (or its match) was last seen (epoch microseconds), its id."""

    seen_us: int
    session_id: str


class SessionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions an operator asks for. `words` are searched in message texts; `begin`, `end` are epoch seconds."""

    words: str | None = None
    origin: str | None = None
    bot: str | None = None
    begin: float | None = None
    end: float | None = None
    before: SessionMark | None = None
    limit: int = 20


class FoundSession(msgspec.Struct, frozen=True, kw_only=True):
    """One session as a list shows it. `excerpt` is the latest text that matches the words of a search."""

    session_id: str
    bot: str
    origin: str
    page: str
    client: str
    created_at: float
    seen_at: float
    messages: int
    replies: int
    errors: int
    feedback_up: int
    feedback_down: int
    user: str | None = None
    excerpt: str | None = None


class SessionPage(msgspec.Struct, frozen=True):
    """Sessions, the latest first; `truncated` where a search had more matches than are looked at."""

    sessions: tuple[FoundSession, ...]
    before: SessionMark | None
    truncated: bool = False


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did and the audit log keeps. `detail` never holds a message's text.

    `address` is a limit key (see `clientaddr`), of which only a keyed hash is stored; empty at a terminal.
    """

    actor: str
    action: Action
    session_id: str | None = None
    address: str = ""
    detail: Mapping[str, Any] = {}


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the audit log. `address` is a keyed hash in hex, `at` in epoch seconds."""

    number: int
    at: float
    actor: str
    action: str
    session_id: str | None
    address: str
    detail: Mapping[str, Any]


class AuditPage(msgspec.Struct, frozen=True):
    """Audit entries, the latest first; `before` leads to older ones, if there are some."""

    entries: tuple[AuditEntry, ...]
    before: int | None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What an export takes: one session or all, of one bot or all, messages accepted from `begin` to before `end`.

    `user`: the sessions of this verified user alone, by `sub`. Times in epoch seconds. With a bound of time, sessions
    without a message in it are left out.
    """

    session_id: str | None = None
    user: str | None = None
    bot: str | None = None
    begin: float | None = None
    end: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What a check of the whole audit log found; `fault` is None where all is as it was written.

    `head` is that of the last entry that is right, `number:hash`. `others`: how many entries were made with another key
    than new ones are: the previous JWT secret, or the one that AUDIT_KEY has taken the place of.
    """

    entries: int
    head: str
    others: int
    fault: str | None


def terms(words: str) -> Sequence[str]:
    """Give the words that a search looks for: not those it excludes (`-word`, `-"two words"`), and no `or`."""
    return [word for word in _WORD.findall(_EXCLUDED.sub(" ", words)) if word.lower() != "or"]
