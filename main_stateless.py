"""Runs chatcore in stateless mode: nothing is stored, one process, `python main_stateless.py --help` tells the rest."""

import os
import sys
from pathlib import Path

from chatcore import cli
from chatcore.stores import stateless

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.exit(cli.main("stateless", stateless.open_stores, sys.argv[1:], os.environ, here))  # noqa: TID251 - a main
