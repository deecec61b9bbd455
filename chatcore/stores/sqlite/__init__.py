"""The stores of SQLite mode: one file with sessions, limits and figures, and never a message's text."""

from chatcore.stores.sqlite.commands import COMMANDS
from chatcore.stores.sqlite.variant import open_stores

__all__ = ["COMMANDS", "open_stores"]
