"""Opens connections to the file of SQLite mode, each with a thread of its own."""

from pathlib import Path

from chatcore.stores import sqlite_thread
from chatcore.stores.sqlite import file
from chatcore.stores.sqlite_thread import Connection

__all__ = ["Connection", "open_connection"]


async def open_connection(path: Path, *, read_only: bool = False) -> Connection:
    """Connect in a thread of its own. Raises `sqlite3.Error`."""
    return await sqlite_thread.open_connection(lambda: file.connect(path, read_only=read_only))
