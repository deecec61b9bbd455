"""Erases sessions from a terminal: as a visitor's DELETE does, for good, with an entry in the audit log.

Servers that run look at the table `erased`; they stop what still runs for such a session and drop what they keep.
"""

from collections.abc import Iterable, Mapping

import psycopg

from chatcore.archive import Deed
from chatcore.ports import Clock
from chatcore.settings import PostgresSettings
from chatcore.stores.postgres import auditing
from chatcore.stores.postgres.database import connect, fault

# Whoever writes for the session waits for this row, and then sees that it is erased: `chatcore.record` locks it first.
_LOCK = """
INSERT INTO chatcore.sessions AS s (id, bot, created_at, seen_at, origin, page, client)
VALUES (%(id)s, '', now(), now(), '', '', '')
ON CONFLICT (id) DO UPDATE SET client = s.client
RETURNING xmax <> 0
"""
# By the database's clock, since servers look for what was buried after they looked last.
_BURY = "INSERT INTO chatcore.erased (session_id, erased_at) VALUES (%(id)s, clock_timestamp()) ON CONFLICT DO NOTHING"
_DELETE_MESSAGES = "DELETE FROM chatcore.messages WHERE session_id = %(id)s"
_DELETE_TURNS = "DELETE FROM chatcore.turns WHERE session_id = %(id)s"
_DELETE_SESSION = "DELETE FROM chatcore.sessions WHERE id = %(id)s"
_COUNT = """
SELECT s.id, (SELECT count(*) FROM chatcore.messages AS m WHERE m.session_id = s.id)
FROM chatcore.sessions AS s WHERE s.id = ANY (%s)
"""


def messages_of(settings: PostgresSettings, session_ids: Iterable[str]) -> Mapping[str, int]:
    """Count the messages of those sessions that there are. Raises `StoreFaultError`."""
    with connect(settings.url) as connection:
        try:
            return dict(connection.execute(_COUNT, (list(session_ids),)).fetchall())
        except psycopg.Error as error:
            raise fault(error) from error


def erase(settings: PostgresSettings, session_id: str, by: str, clock: Clock) -> tuple[bool, int]:
    """Erase one session, known or not: its tokens are refused from now on. Raises `StoreFaultError`.

    Gives whether there was anything, and how many messages.
    """
    told = {"id": session_id}
    with connect(settings.url) as connection:
        try:
            with connection.transaction():
                (known,) = connection.execute(_LOCK, told).fetchone() or (False,)
                connection.execute(_BURY, told)
                messages = connection.execute(_DELETE_MESSAGES, told).rowcount
                connection.execute(_DELETE_TURNS, told)
                connection.execute(_DELETE_SESSION, told)
                deed = Deed(actor=by, action="session_erased", session_id=session_id, detail={"messages": messages})
                auditing.add(connection, settings, deed, clock)
        except psycopg.Error as error:
            raise fault(error) from error
    return known, messages
