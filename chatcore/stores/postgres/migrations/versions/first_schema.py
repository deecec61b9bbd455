"""Revision 0001: all tables and functions of the first release."""

from pathlib import Path

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_FOLDER = Path(__file__).resolve().parent.parent
_FILES = ("0001_words.sql", "0001.sql", "0001_record.sql")
_SCHEMA_OF = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'unaccent'"


def upgrade() -> None:
    """Make everything; the key of keyed hashes is made by the database."""
    connection = op.get_bind()
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS unaccent WITH SCHEMA chatcore"))
    unaccent = connection.execute(text(_SCHEMA_OF)).scalar_one()
    for name in _FILES:
        sql = (_FOLDER / name).read_text("utf-8")
        if name == "0001_words.sql":
            sql = sql.format(unaccent=unaccent)
        # By the driver itself: a file is many statements, and its colons are no parameters.
        connection.connection.driver_connection.execute(sql)  # type: ignore[union-attr]  # it is psycopg's
    connection.execute(
        text(
            "INSERT INTO chatcore.meta (name, value) VALUES "
            "('hash_key', replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''))"
        )
    )
