"""Statements of `sql/*.sql`, for both ways to run them: SQLAlchemy while serving, psycopg itself in commands."""

from functools import cache
from pathlib import Path

from sqlalchemy import TextClause, text
from sqlalchemy.dialects.postgresql.psycopg import dialect

_FOLDER = Path(__file__).parent / "sql"


@cache
def statement(name: str) -> TextClause:
    """Read the statement of `sql/<name>.sql`; its parameters are written `:name`."""
    lines = (_FOLDER / f"{name}.sql").read_text("utf-8").splitlines()
    return text("\n".join(line for line in lines if not line.startswith("--")))


@cache
def for_psycopg(name: str) -> bytes:
    """Give the same with its parameters as psycopg has them: `%(name)s`."""
    compiled = statement(name).compile(dialect=dialect())  # type: ignore[no-untyped-call]  # as the library has it
    return str(compiled).encode()
