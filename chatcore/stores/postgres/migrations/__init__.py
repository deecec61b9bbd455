"""The schema's versions: Alembic scripts in `versions`, each running SQL files of this folder."""
