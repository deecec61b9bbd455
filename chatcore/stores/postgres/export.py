"""Gives kept conversations as documents that browsers import, piece by piece: no session has to fit into memory.

A document is what `importData` (chatcore/browser/history-document.js) reads as `chatcore-session`. How turns ended and
were rated has no room in its messages and stands in its member `session`.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg

from chatcore.archive import Deed, Selection
from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres import auditing
from chatcore.stores.postgres.database import connect, fault
from chatcore.stores.postgres.statements import for_psycopg

SESSIONS_AT_ONCE = 200
ROWS_AT_ONCE = 64
"""How many messages are fetched at once. Each may have REPLY_MAX_BYTES, and has a thousandth of that as a rule."""

Document = tuple[str, Iterator[str]]
"""A session's id, and its document in pieces: to be read to its end before the next one is asked for."""

_SNAPSHOT = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",  # whoever reads what is written may take their time
)
_CANCELLED = ("57014", "40001")


class _Rows:
    """Rows that begin with a session's id, in the order of the sessions; given session by session."""

    def __init__(self, cursor: psycopg.ServerCursor[tuple[Any, ...]], name: str, wanted: Mapping[str, Any]) -> None:
        cursor.itersize = ROWS_AT_ONCE
        self._rows = iter(cursor.execute(for_psycopg(name), wanted))
        self._next = next(self._rows, None)

    def of(self, session_id: str) -> Iterator[str]:
        """Give the documents of a session's rows, a comma between them."""
        comma = ""
        while self._next is not None and self._next[0] == session_id:
            yield f"{comma}{self._next[1]}"
            comma = ","
            self._next = next(self._rows, None)


@contextlib.contextmanager
def exporting(
    settings: PostgresSettings, selection: Selection, by: str, clock: Clock
) -> Iterator[tuple[int, Iterable[Document]]]:
    """Give how many sessions there are to export, and their documents, all as they are at one moment.

    Before anything is given, `by` is written into the audit log. Raises `StoreFaultError`.
    """
    wanted = _wanted(selection)
    try:
        with connect(settings.read_url) as connection, connection.transaction():
            for statement in _SNAPSHOT:
                connection.execute(statement)
            (count,) = connection.execute(for_psycopg("export_count"), wanted).fetchone() or (0,)
            auditing.record(settings, _deed(selection, by, count), clock)
            yield count, _documents(connection, wanted)
    except psycopg.Error as error:
        raise _told(error) from error


def _wanted(selection: Selection) -> dict[str, Any]:
    begin, end = selection.begin, selection.end
    return {
        "session": selection.session_id,
        "user": selection.user,
        "bot": selection.bot,
        "timed": begin is not None or end is not None,
        "begin": "-infinity" if begin is None else _moment(begin),
        "end": "infinity" if end is None else _moment(end),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _deed(selection: Selection, by: str, count: int) -> Deed:
    # That it was one user's, and not whose: the log is kept for ever.
    told = {"bot": selection.bot, "user": selection.user is not None, "from": selection.begin, "to": selection.end}
    detail = {name: _moment(value) if isinstance(value, float) else value for name, value in told.items() if value}
    return Deed(actor=by, action="exported", session_id=selection.session_id, detail={**detail, "sessions": count})


def _documents(connection: psycopg.Connection[tuple[Any, ...]], wanted: Mapping[str, Any]) -> Iterator[Document]:
    with connection.cursor("export_sessions") as sessions:
        sessions.execute(for_psycopg("export_sessions"), wanted)
        while batch := sessions.fetchmany(SESSIONS_AT_ONCE):
            some = {"ids": [row[0] for row in batch], "begin": wanted["begin"], "end": wanted["end"]}
            with connection.cursor("export_turns") as of_turns, connection.cursor("export_messages") as of_messages:
                turns = _Rows(of_turns, "export_turns", some)
                messages = _Rows(of_messages, "export_messages", some)
                for session_id, about in batch:
                    yield session_id, _pieces(about, turns.of(session_id), messages.of(session_id))


def _pieces(about: str, turns: Iterator[str], messages: Iterator[str]) -> Iterator[str]:
    yield f'{{"format":"chatcore-session","version":1,"session":{about.removesuffix("}")},"turns":['
    yield from turns
    yield ']},"messages":['
    yield from messages
    yield "]}"


def _told(error: psycopg.Error) -> StoreFaultError:
    if error.sqlstate in _CANCELLED:
        return StoreFaultError(
            "PostgreSQL cancelled the export, as a replica does with a long one when its rows are cleaned up",
            "Set max_standby_streaming_delay or hot_standby_feedback there, or DATABASE_READ_URL to the primary.",
        )
    return fault(error)
