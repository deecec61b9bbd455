"""One script for each version of the schema; Alembic finds them by their revision."""
