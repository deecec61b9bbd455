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
from chatcore.stores.postgres.sessions import ERASE
from chatcore.stores.postgres.statements import for_psycopg

_COUNT = """
SELECT s.id, (SELECT count(*) FROM chatcore.messages AS m WHERE m.session_id = s.id)
FROM chatcore.sessions AS s WHERE s.id = ANY (%s)
"""
_OF_USER = "SELECT id FROM chatcore.sessions WHERE visitor = %s ORDER BY id"


def messages_of(settings: PostgresSettings, session_ids: Iterable[str]) -> Mapping[str, int]:
    """Count the messages of those sessions that there are. Raises `StoreFaultError`."""
    with connect(settings.url) as connection:
        try:
            return dict(connection.execute(_COUNT, (list(session_ids),)).fetchall())
        except psycopg.Error as error:
            raise fault(error) from error


def sessions_of(settings: PostgresSettings, user: str) -> list[str]:
    """Give the sessions of a verified user. Raises `StoreFaultError`."""
    with connect(settings.url) as connection:
        try:
            return [session_id for (session_id,) in connection.execute(_OF_USER, (user,))]
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
                done = {name: connection.execute(for_psycopg(name), told) for name in ERASE}
                (known,) = done["erase_lock"].fetchone() or (False,)
                messages = done["erase_messages"].rowcount
                deed = Deed(actor=by, action="session_erased", session_id=session_id, detail={"messages": messages})
                auditing.add(connection, settings, deed, clock)
        except psycopg.Error as error:
            raise fault(error) from error
    return known, messages
