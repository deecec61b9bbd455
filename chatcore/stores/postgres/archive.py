"""Kept messages as visitors and operators read them: a session's messages page by page, and the search for sessions."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.engine import Row

from chatcore.archive import (
    MATCHES_A_PARTITION,
    FoundSession,
    Mark,
    Message,
    MessagePage,
    SessionPage,
    SessionQuery,
    terms,
)
from chatcore.stores.postgres.database import Database
from chatcore.stores.postgres.search import HINTS, LAST_MARK, Candidates, Search, bounds
from chatcore.stores.postgres.statements import statement

EXCERPT_CHARS = 200
_LEAD_CHARS = 60
_SECONDS = 10.0
_MILLION = 1_000_000
_LAST_UUID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_ENDED = {"complete": "complete", "stopped": "stopped", "error": "error", "released": "error", "cut": "error"}
_CUT_CODE = "reply_gone"


class PostgresArchive:
    """Implements `ports.Archive`."""

    def __init__(self, database: Database, reading: Database, most: int = MATCHES_A_PARTITION) -> None:
        """`reading` answers searches; it may be a replica. A visitor's history is read where it is written.

        `most` is how many sessions, or matches of a month, a search looks at.
        """
        self._database = database
        self._reading = reading
        self._most = most
        self._history = statement("history")
        self._shown = statement("sessions_shown")

    async def history(self, session_id: str, before: Mark | None, limit: int) -> MessagePage:
        """Give the last messages of a session, those before a mark where one is given."""
        mark = before or Mark(LAST_MARK.seen_us, _LAST_UUID, 1)
        asked = {
            "session": session_id,
            "accepted_us": mark.accepted_us,
            "message": mark.message_id,
            "role": mark.role,
            "most": limit + 1,
        }
        rows = await self._database.rows(self._history, asked)
        kept = rows[:limit]
        more = Mark(kept[-1].accepted_us, kept[-1].message_id, kept[-1].role) if len(rows) > limit else None
        return MessagePage(tuple(_message(row) for row in reversed(kept)), more)

    async def search(self, query: SessionQuery) -> SessionPage:
        """Give the sessions that are asked for, the latest first."""
        async with self._reading.transaction(seconds=_SECONDS) as connection:
            await connection.execute(HINTS)
            search = Search(connection, query, self._most)
            found = await (search.seen() if query.words is None else search.said(query.words))
            asked = {**_parameters(query, found), "length": EXCERPT_CHARS, "lead": _LEAD_CHARS}
            rows = (await connection.execute(self._shown, asked)).all() if found.sessions else ()
        by_id = {row.id: _session(row) for row in rows}
        # Who was erased meanwhile is not there any more.
        sessions = tuple(by_id[mark.session_id] for mark in found.sessions if mark.session_id in by_id)
        return SessionPage(sessions, found.before, found.truncated)


def _parameters(query: SessionQuery, found: Candidates) -> Mapping[str, Any]:
    marks = [{"id": mark.session_id, "at": mark.seen_us} for mark in found.sessions]
    return {
        "found": msgspec.json.encode(marks).decode(),
        "words": query.words,
        "terms": msgspec.json.encode(terms(query.words or "")).decode(),
        "end_us": bounds(query)[1],
    }


def _message(row: Row[Any]) -> Message:
    return Message(
        message_id=row.message_id,
        role="assistant" if row.role else "user",
        content=row.content,
        created_at=row.created_us / _MILLION,
        finish_reason=_ENDED.get(row.state),
        error_code=_CUT_CODE if row.state == "cut" else row.error_code,
        duration_ms=row.duration_ms,
        rating=row.rating,
        comment=row.comment,
    )


def _session(row: Row[Any]) -> FoundSession:
    return FoundSession(
        session_id=row.id,
        bot=row.bot,
        origin=row.origin,
        page=row.page,
        client=row.client,
        created_at=row.created_us / _MILLION,
        seen_at=row.seen_us / _MILLION,
        messages=row.messages,
        replies=row.replies,
        errors=row.errors,
        feedback_up=row.feedback_up,
        feedback_down=row.feedback_down,
        user=row.visitor,
        excerpt=None if row.piece is None else excerpt(row.piece, before=row.cut_before, after=row.cut_after),
    )


def excerpt(piece: str, *, before: bool, after: bool) -> str:
    """Give a piece of a text on one line; where it was cut, without the word that was cut, and with an ellipsis."""
    if before:
        piece = _behind_space(piece)
    if after:
        piece = _behind_space(piece[::-1])[::-1]
    said = " ".join(piece.split())
    return f"{'…' if before else ''}{said}{'…' if after else ''}"


def _behind_space(piece: str) -> str:
    """Leave out what stands before the first white space, where that is near."""
    rest = piece.lstrip() if piece[:1].isspace() else " ".join(piece.split(maxsplit=1)[1:])
    return rest if len(piece) - len(rest) <= _LEAD_CHARS // 2 else piece
