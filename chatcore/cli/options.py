"""The options and subcommands of the mains, as argparse reads them."""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from chatcore import __version__
from chatcore.settings import Mode

SETTINGS = {"host": "API_HOST", "port": "API_PORT", "log_level": "LOG_LEVEL", "db": "SQLITE_DB_PATH"}
"""Options that stand for a setting, which they override."""

NAMES: Mapping[Mode, str] = {"stateless": "stateless", "sqlite": "SQLite", "postgres": "PostgreSQL"}
"""The modes as people write them."""

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
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
    also = {"stateless": "", "sqlite": ", check the file", "postgres": ", look at PostgreSQL and Redis"}[mode]
    add("check", f"{looked}{also}, then end", common)
    if mode == "sqlite":
        _of_file(add)
    elif mode == "postgres":
        _of_databases(add)
    return top


def _of_file(add: _Add) -> None:
    database = "the file to read, instead of SQLITE_DB_PATH: a backup or a replica, for example"
    stats = add("stats", "show sessions, messages, errors and reply times; works while a server serves the file")
    stats.add_argument("--db", metavar="PATH", help=database)
    _of_stats(stats)
    backup = add("backup", "copy the file, also while a server serves it")
    backup.add_argument("destination", metavar="DEST", type=Path, help="a path, or a folder that exists")
    add("cleanup", "delete now what was kept long enough, also while a server serves the file")


def _of_databases(add: _Add) -> None:
    add("migrate", "make the tables, or bring them to this version, as the user of DATABASE_ADMIN_URL; then end")
    _of_stats(add("stats", "show sessions, messages, errors and reply times; reads from DATABASE_READ_URL"))
    export = add("export", "write conversations out; reads from DATABASE_READ_URL, also while servers run")
    export.add_argument(
        "--format",
        choices=["jsonl", "json"],
        default="jsonl",
        help="jsonl: a line for each session; json: a file for each session; browsers import both",
    )
    to = "a file for jsonl (standard output if nothing or - is said), a folder for json"
    export.add_argument("--output", metavar="PATH", type=_output, default=None, help=to)
    export.add_argument("--session", metavar="ID", default=None, help="this session alone")
    export.add_argument("--user", metavar="SUB", default=None, help="this verified user's sessions alone")
    export.add_argument("--bot", metavar="NAME", default=None, help="this bot's sessions alone")
    _of_time(export, end="end before this")
    erase = add("erase", "erase everything that sessions hold; an entry without texts stays in the audit log")
    which = erase.add_mutually_exclusive_group(required=True)
    which.add_argument("sessions", metavar="SESSION", nargs="*", default=(), help="the session's id")
    which.add_argument("--user", metavar="SUB", default=None, help="all sessions of this verified user")
    erase.add_argument("--yes", action="store_true", default=False, help="do not ask")
    verify = add(
        "verify-audit", "check the audit log from end to end; ends with 1 where an entry was changed or is gone"
    )
    verify.add_argument(
        "--head",
        metavar="ID:HASH",
        type=_head,
        default=None,
        help="the last entry as an earlier run told it, which must still be there",
    )
    of_file = add("import-sqlite", "take over the figures of SQLite mode")
    of_file.add_argument("file", metavar="FILE", type=Path, help="the database file, which is only read")


def _of_stats(stats: argparse.ArgumentParser) -> None:
    stats.add_argument("--days", metavar="NUMBER", type=int, help="how many days to show; 7 if nothing is said")
    _of_time(stats, end="end before this; now if nothing is said")
    stats.add_argument("--interval", choices=["hour", "day"], help="what one bar stands for")
    stats.add_argument("--bot", metavar="NAME", help="count this bot alone")
    stats.add_argument("--json", action="store_true", help="write the document that the HTTP API gives")


def _of_time(to: argparse.ArgumentParser, end: str) -> None:
    begin = "begin here: 2026-01-31 or 2026-01-31T08:00:00Z"
    to.add_argument("--from", dest="begin", metavar="TIME", default=None, help=begin)
    to.add_argument("--to", dest="end", metavar="TIME", default=None, help=end)


def _common(to: argparse.ArgumentParser) -> None:
    workers = "number of processes; only PostgreSQL mode takes more than one"
    to.add_argument("--host", metavar="ADDRESS", help="address to listen on, instead of API_HOST")
    to.add_argument("--port", metavar="NUMBER", help="port to listen on, instead of API_PORT; 0: any free one")
    to.add_argument("--workers", metavar="NUMBER", type=_count, help=workers, default=_UNSET)
    _env_file(to)
    to.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    to.add_argument("--demo", action="store_true", help="no n8n needed: a stand-in answers", default=_UNSET)


def _env_file(to: argparse.ArgumentParser) -> None:
    to.add_argument("--env-file", metavar="PATH", type=Path, help="read this file, not the .env beside the main")


def _output(text: str) -> Path | None:
    return None if text == "-" else Path(text)


def _head(text: str) -> str:
    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdigit() and _HASH.fullmatch(digest)):
        raise argparse.ArgumentTypeError("expected the number and the hash of an entry, such as 4711:9f86d081…")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len("9999") and int(text)):
        raise argparse.ArgumentTypeError("expected a whole number from 1 to 9999")
    return int(text)
