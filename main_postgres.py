"""Runs chatcore in PostgreSQL mode: every message kept, many instances, `python main_postgres.py --help` tells more."""

import os
import sys
from pathlib import Path

from chatcore import cli
from chatcore.stores import postgres

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.exit(cli.main("postgres", postgres.open_stores, sys.argv[1:], os.environ, here, postgres.COMMANDS))  # noqa: TID251 - a main
