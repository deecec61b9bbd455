"""The stores of PostgreSQL mode: every message kept in PostgreSQL, limits and replies in flight shared by Redis."""

from chatcore.stores.postgres.commands import COMMANDS
from chatcore.stores.postgres.variant import open_stores

__all__ = ["COMMANDS", "open_stores"]
