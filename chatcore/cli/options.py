"""The options and subcommands of the mains, as argparse reads them."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from chatcore import __version__
from chatcore.settings import Mode

SETTINGS = {"host": "API_HOST", "port": "API_PORT", "log_level": "LOG_LEVEL", "db": "SQLITE_DB_PATH"}
"""Options that stand for a setting, which they override."""

NAMES: Mapping[Mode, str] = {"stateless": "stateless", "sqlite": "SQLite", "postgres": "PostgreSQL"}
"""The modes as people write them."""

_UNSET = argparse.SUPPRESS
_Add = Callable[[str, str], argparse.ArgumentParser]


def parser(mode: Mode) -> argparse.ArgumentParser:
    """Make the parser of one main."""
    top = argparse.ArgumentParser(
        prog=f"main_{mode}.py",
        description=f"A chat proxy between a public website and an n8n webhook, in {NAMES[mode]} mode.",
        epilog="All settings are environment variables, or lines of a .env file: see docs/settings.md.",
        allow_abbrev=False,
    )
    _common(top)
    top.set_defaults(workers=1, demo=False)
    top.add_argument("--version", action="version", version=f"chatcore {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands; without one: serve")
    # The options of `top` are accepted behind a command too, where they must not undo what stands before it.
    common = argparse.ArgumentParser(add_help=False, argument_default=_UNSET)
    _common(common)
    of_file = argparse.ArgumentParser(add_help=False, argument_default=_UNSET)
    _env_file(of_file)

    def add(name: str, text: str, parent: argparse.ArgumentParser = of_file) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[parent], allow_abbrev=False)

    looked = "look at all settings, ask n8n whether it answers"
    add("check", f"{looked}{', check the file' if mode == 'sqlite' else ''}, then end", common)
    if mode == "sqlite":
        _of_file(add)
    return top


def _of_file(add: _Add) -> None:
    database = "the file to read, instead of SQLITE_DB_PATH: a backup or a replica, for example"
    stats = add("stats", "show sessions, messages, errors and reply times; works while a server serves the file")
    stats.add_argument("--db", metavar="PATH", help=database)
    stats.add_argument("--days", metavar="NUMBER", type=int, help="how many days to show; 7 if nothing is said")
    stats.add_argument("--from", dest="begin", metavar="TIME", help="begin here: 2026-01-31 or 2026-01-31T08:00:00Z")
    stats.add_argument("--to", dest="end", metavar="TIME", help="end before this; now if nothing is said")
    stats.add_argument("--interval", choices=["hour", "day"], help="what one bar stands for")
    stats.add_argument("--bot", metavar="NAME", help="count this bot alone")
    stats.add_argument("--json", action="store_true", help="write the document that the HTTP API gives")
    backup = add("backup", "copy the file, also while a server serves it")
    backup.add_argument("destination", metavar="DEST", type=Path, help="a path, or a folder that exists")
    add("cleanup", "delete now what was kept long enough, also while a server serves the file")


def _common(to: argparse.ArgumentParser) -> None:
    to.add_argument("--host", metavar="ADDRESS", help="address to listen on, instead of API_HOST")
    to.add_argument("--port", metavar="NUMBER", help="port to listen on, instead of API_PORT; 0: any free one")
    to.add_argument("--workers", metavar="NUMBER", type=_count, help="number of processes", default=_UNSET)
    _env_file(to)
    to.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    to.add_argument("--demo", action="store_true", help="no n8n needed: a stand-in answers", default=_UNSET)


def _env_file(to: argparse.ArgumentParser) -> None:
    to.add_argument("--env-file", metavar="PATH", type=Path, help="read this file, not the .env beside the main")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len("9999") and int(text)):
        raise argparse.ArgumentTypeError("expected a whole number from 1 to 9999")
    return int(text)
