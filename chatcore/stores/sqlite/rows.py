"""Many rows in few statements.

Python's driver lets go of the interpreter's lock for every step of a statement and waits for it again afterwards, while
the event loop is busy with it. `executemany` does so for each row; a statement of many rows does it once.
"""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

_AT_ONCE = (64, 32, 16, 8, 4, 2, 1)
"""How many rows a statement takes: few kinds, so that they stay prepared."""


def write_rows(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[object]]) -> None:
    """Run `sql` for all rows; in it `{}` stands for their values: `INSERT … VALUES {}`, `… IN (VALUES {})`."""
    done = 0
    for count in _AT_ONCE:
        while len(rows) - done >= count:
            some = rows[done : done + count]
            connection.execute(_with_marks(sql, count, len(some[0])), tuple(chain.from_iterable(some)))
            done += count


@lru_cache(maxsize=128)
def _with_marks(sql: str, count: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return sql.format(", ".join([row] * count))
