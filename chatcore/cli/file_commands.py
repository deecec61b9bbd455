"""The subcommands for a database file: stats, backup, cleanup. They need no n8n, and no server to be stopped."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from chatcore.analytics import Query, Report
from chatcore.cli import stats_command
from chatcore.clock import SystemClock
from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import SqliteSettings

EXIT_DONE = 0
EXIT_WRONG = 2


class FileCommands(Protocol):
    """What a main's variant of stores can do with its file. All raise `StoreFaultError`."""

    @property
    def report(self) -> Callable[[Path, Query], Report]:
        """Add up the figures of a file."""
        ...

    @property
    def back_up(self) -> Callable[[SqliteSettings, Path], tuple[Path, int]]:
        """Copy the file to a path or into a folder; gives where, and how many bytes."""
        ...

    @property
    def clean_up(self) -> Callable[[SqliteSettings, Clock], str]:
        """Delete what was kept long enough; tells what went."""
        ...

    @property
    def examine(self) -> Callable[[SqliteSettings], str]:
        """Check the file from end to end; tells what is there."""
        ...


def run(options: argparse.Namespace, settings: SqliteSettings, commands: FileCommands) -> int:
    """Do what `options.command` says; give the exit status, 2 where it cannot be done."""
    try:
        match options.command:
            case "stats":
                return stats_command.show(options, lambda query: commands.report(settings.path, query))
            case "backup":
                where, size = commands.back_up(settings, options.destination)
                sys.stdout.write(f"{where}: {size} bytes, complete and sound.\n")
                if settings.secrets_path.exists():
                    sys.stdout.write(f"Keep a copy of {settings.secrets_path} too: it holds the keys of the tokens.\n")
            case _:
                sys.stdout.write(f"{commands.clean_up(settings, SystemClock())}.\n")
    except StoreFaultError as error:
        sys.stderr.write(f"{told(error)}\n")
        return EXIT_WRONG
    return EXIT_DONE


def told(error: StoreFaultError) -> str:
    """Tell what is wrong with a file and what to do."""
    return f"FAULT: {error.problem}.\n  what to do: {error.advice}"
