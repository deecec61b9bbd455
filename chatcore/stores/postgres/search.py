"""The search for sessions: by when they were last seen, or by words that their messages have, month by month.

What is looked at is bounded, so that no question takes longer than an answer may. Where the bound is met the answer
says so (`truncated`), and its mark leads on to where the looking ended.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from chatcore.archive import SessionMark, SessionQuery
from chatcore.stores.postgres.statements import statement

LAST_MARK = SessionMark(4_102_444_800_000_000 * 2, "\U0010ffff")
"""Behind everything: in the year 2230."""

_AT_ONCE = 500
_MILLION = 1_000_000

# For the whole of a search: an index is always worth asking, and a bitmap of a month's matches fits into so much
# memory. Nothing is compiled: that would take longer than the statement.
HINTS = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('work_mem', '16MB', true), "
    "set_config('jit', 'off', true)"
)


class Candidates(msgspec.Struct, frozen=True):
    """The sessions that were found, the latest first; `before` and `truncated` as in `SessionPage`."""

    sessions: Sequence[SessionMark]
    before: SessionMark | None
    truncated: bool


class Search:
    """One search, in a transaction of its own."""

    def __init__(self, connection: AsyncConnection, query: SessionQuery, most: int) -> None:
        """`most` is how many sessions, or matches of a month, are looked at."""
        self._connection = connection
        self._query = query
        self._begin_us, self._end_us = bounds(query)
        self._before = query.before or LAST_MARK
        self._found: list[SessionMark] = []
        self._most = most
        self._looked_at = 0

    async def seen(self) -> Candidates:
        """Find sessions by when they were last seen."""
        picky = self._query.bot is not None or self._query.origin is not None
        most = self._most if picky else self._query.limit + 1
        rows = await self._rows("sessions_seen", self._begin_us, self._end_us, self._before, most)
        found = [SessionMark(row.at_us, row.id) for row in rows if row.id is not None]
        truncated = any(picky and row.looked_at >= self._most for row in rows)
        last = next((SessionMark(row.at_us, row.last_id) for row in rows if row.id is None), None)
        return self._candidates(found, last if truncated else None)

    async def said(self, words: str) -> Candidates:
        """Find sessions by words of their messages, in the order of the latest message that has them."""
        row = (await self._connection.execute(statement("months"))).one()
        if row.first_us is None:
            return Candidates((), None, truncated=False)
        begin = max(self._begin_us, row.first_us)
        end = min(self._end_us, row.last_us + 1, self._before.seen_us + 1)
        for month_begin, month_end in months(begin, end):
            stopped = await self._month(words, month_begin, month_end)
            if len(self._found) > self._query.limit:
                break
            if stopped is not None:
                return self._candidates(self._found, stopped)
        return self._candidates(self._found, None)

    def _candidates(self, found: Sequence[SessionMark], stopped: SessionMark | None) -> Candidates:
        limit = self._query.limit
        if len(found) > limit:
            return Candidates(found[:limit], found[limit - 1], truncated=False)
        return Candidates(found, stopped, truncated=stopped is not None)

    async def _month(self, words: str, begin: int, end: int) -> SessionMark | None:
        """Find what a month has; gives where the looking ended if that is before the month's beginning."""
        before = self._before
        while True:
            rows = await self._rows("search_words", begin, end, before, self._most + 1, words)
            if rows[0].matches > self._most:
                return await self._newest(words, begin, end)
            marks = [SessionMark(row.at_us, row.id) for row in rows if row.id is not None]
            await self._keep(words, marks)
            if len(marks) <= self._query.limit or len(self._found) > self._query.limit:
                return None
            before = marks[-1]  # some had been told of before

    async def _newest(self, words: str, begin: int, end: int) -> SessionMark | None:
        """Find words that very many messages of a month have, by reading its turns from the end on."""
        before = self._before
        while len(self._found) <= self._query.limit:
            if self._looked_at >= self._most:
                return before
            most = min(_AT_ONCE, self._most - self._looked_at)
            rows = await self._rows("search_turns", begin, end, before, most, words)
            self._looked_at += len(rows)
            await self._keep(words, [SessionMark(row.at_us, row.id) for row in rows if row.matches])
            if len(rows) < most:
                return None
            before = SessionMark(rows[-1].at_us, rows[-1].id)
        return None

    async def _keep(self, words: str, marks: Sequence[SessionMark]) -> None:
        """Keep those that are not yet told of, neither here nor on an earlier page."""
        if not marks:
            return
        asked = {
            "found": msgspec.json.encode([{"id": mark.session_id, "at": mark.seen_us} for mark in marks]).decode(),
            "words": words,
            "end_us": self._end_us,
        }
        told = {row.id for row in await self._connection.execute(statement("search_newer"), asked)}
        told |= {mark.session_id for mark in self._found}
        for mark in marks:
            if mark.session_id not in told:
                told.add(mark.session_id)
                self._found.append(mark)

    async def _rows(
        self, name: str, begin_us: int, end_us: int, before: SessionMark, most: int, words: str | None = None
    ) -> Sequence[Row[Any]]:
        asked: Mapping[str, Any] = {
            "begin_us": begin_us,
            "end_us": end_us,
            "before_us": before.seen_us,
            "before_id": before.session_id,
            "bot": self._query.bot,
            "origin": self._query.origin,
            "most": most,
            "limit": self._query.limit + 1,
            "words": words,
        }
        return (await self._connection.execute(statement(name), asked)).all()


def bounds(query: SessionQuery) -> tuple[int, int]:
    """Give the time that is asked for in epoch microseconds, half-open."""
    begin = 0 if query.begin is None else round(query.begin * _MILLION)
    return begin, LAST_MARK.seen_us if query.end is None else round(query.end * _MILLION)


def months(begin_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    """Give the parts of a time that lie in one UTC month each, the last one first."""
    while begin_us < end_us:
        last = datetime.fromtimestamp((end_us - 1) // _MILLION, UTC)
        first = max(begin_us, int(datetime(last.year, last.month, 1, tzinfo=UTC).timestamp()) * _MILLION)
        yield first, end_us
        end_us = first
