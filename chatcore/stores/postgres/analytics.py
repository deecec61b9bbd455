"""The figures, added up by the database; ratings go to the writer."""

from typing import Literal

from sqlalchemy import text

from chatcore.analytics import DAY_SECONDS, Query, Report
from chatcore.model import TurnKey
from chatcore.stores.postgres.certainty import certainly
from chatcore.stores.postgres.database import Database
from chatcore.stores.postgres.entries import Rated
from chatcore.stores.postgres.reports import parameters, report_from
from chatcore.stores.postgres.statements import statement
from chatcore.stores.postgres.writer import Writer

_SECONDS = 20.0
_FEW_DAYS = 31

# Compiling takes longer than most reports. The sessions of few days are quicker looked up than read all together.
_HINTS = text("SELECT set_config('jit', 'off', true), set_config('enable_seqscan', :scan, true)")


class PostgresAnalytics:
    """Implements `ports.Analytics`."""

    def __init__(self, reading: Database, writer: Writer) -> None:
        """`reading` may be a replica; what it has not got yet is missing in a report."""
        self._reading = reading
        self._writer = writer
        self._report, self._cohorts = statement("report"), statement("cohorts")

    async def report(self, query: Query) -> Report:
        """Add up what the query asks for. Raises `StoreUnavailableError`."""
        asked = parameters(query)
        async with self._reading.transaction(seconds=_SECONDS) as connection:
            few = query.end - query.begin <= _FEW_DAYS * DAY_SECONDS
            await connection.execute(_HINTS, {"scan": "off" if few else "on"})
            parts = (await connection.execute(self._report, asked)).all()
            cohorts = (await connection.execute(self._cohorts, asked)).all()
        return report_from(query, parts, cohorts)

    async def rate(self, key: TurnKey, rating: Literal["up", "down"], comment: str | None) -> None:
        """Keep a rating and its comment; a later one of the same reply takes its place."""
        self._writer.put(Rated(session_id=key[0], message_id=key[1], rating=rating, comment=comment))
        await certainly(self._writer.saved())
