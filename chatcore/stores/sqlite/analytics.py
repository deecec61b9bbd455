"""The figures, added up in the reader's thread; ratings go to the writer."""

import sqlite3
from typing import Literal

from chatcore.analytics import Query, Report
from chatcore.model import TurnKey
from chatcore.ports import StoreUnavailableError
from chatcore.stores.sqlite.connection import Connection
from chatcore.stores.sqlite.entries import Rated
from chatcore.stores.sqlite.reports import read_report
from chatcore.stores.sqlite.writer import Writer


class SqliteAnalytics:
    """Implements `ports.Analytics`."""

    def __init__(self, writer: Writer) -> None:
        self.reader: Connection | None = None
        self._writer = writer

    async def report(self, query: Query) -> Report:
        """Add up what the query asks for; all that was `done` before is in it."""
        if self.reader is None:
            raise StoreUnavailableError
        try:
            return await self.reader.run(read_report, query)
        except sqlite3.Error as error:
            raise StoreUnavailableError from error

    async def rate(self, key: TurnKey, rating: Literal["up", "down"], comment: str | None) -> None:  # noqa: ARG002 - a text, which this mode never keeps
        """Count a rating of a message of the last day."""
        self._writer.put(Rated(key, rating))
        saved = self._writer.saved()
        if saved is not None:
            await saved
