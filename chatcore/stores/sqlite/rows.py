"""Many rows in few statements.

Python's driver lets go of the interpreter's lock for every step of a statement and waits for it again afterwards, while
the event loop is busy with it. `executemany` does so for each row; a statement of many rows does it once.
"""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

_MOST = 64
"""How many rows one statement takes at most."""


def write_rows(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[object]]) -> None:
    """Run `sql` for all rows; in it `{}` stands for their values: `… FROM (VALUES {})`, `… IN (VALUES {})`.

    There are statements for 1, 2, 4 … rows, so that they stay prepared; the rest is filled up with rows of nulls, which
    `sql` has to leave out (a comparison does).
    """
    for start in range(0, len(rows), _MOST):
        some = rows[start : start + _MOST]
        width = len(some[0])
        count = 1 << (len(some) - 1).bit_length()
        values = [*chain.from_iterable(some), *[None] * ((count - len(some)) * width)]
        connection.execute(_with_marks(sql, count, width), values)


@lru_cache(maxsize=128)
def _with_marks(sql: str, count: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return sql.format(", ".join([row] * count))
