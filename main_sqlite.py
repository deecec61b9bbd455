"""Runs chatcore in SQLite mode: figures and limits in one file, `python main_sqlite.py --help` tells the rest."""

import os
import sys
from pathlib import Path

from chatcore import cli
from chatcore.stores import sqlite

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.exit(cli.main("sqlite", sqlite.open_stores, sys.argv[1:], os.environ, here, sqlite.COMMANDS))  # noqa: TID251 - a main
