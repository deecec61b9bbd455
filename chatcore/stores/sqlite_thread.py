"""A SQLite connection with a thread of its own that runs whole functions: many statements, one change of threads."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import aiosqlite

P = ParamSpec("P")
T = TypeVar("T")


class Connection(aiosqlite.Connection):
    """aiosqlite's connection and thread. Its own methods change threads once a statement, which costs more than it."""

    def run(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Begin to run `function(connection, …)` in the thread; what it gives or raises is the future's."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((future, lambda: function(self._conn, *args, **kwargs)))
        return future


async def open_connection(connect: Callable[[], sqlite3.Connection]) -> Connection:
    """Call `connect` in a thread of its own, which the connection keeps. Raises `sqlite3.Error`."""
    connection = Connection(connect, iter_chunk_size=64)
    _ = await connection
    return connection
