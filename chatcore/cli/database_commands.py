"""The subcommands for PostgreSQL mode's databases. They need no n8n, and no server to be stopped."""

import argparse
import os
import pwd
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from chatcore.analytics import Query, Report
from chatcore.archive import Selection, Verdict
from chatcore.archive_query import is_session_id
from chatcore.cli import export_command, stats_command
from chatcore.cli.export_command import Exporting
from chatcore.cli.probe import State
from chatcore.clock import SystemClock
from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import PostgresSettings

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_WRONG = 2


class DatabaseCommands(Protocol):
    """What a main's variant of stores can do with its databases. All raise `StoreFaultError`.

    A text among the arguments says who does it, for the audit log.
    """

    @property
    def migrate(self) -> Callable[[PostgresSettings, Clock], str]:
        """Bring the schema to this program's version; tells what was done."""
        ...

    @property
    def report(self) -> Callable[[PostgresSettings, Query], Report]:
        """Add up the figures, at the database that answers reports."""
        ...

    @property
    def exporting(self) -> Callable[[PostgresSettings, Selection, str, Clock], Exporting]:
        """Give the conversations that are asked for, as documents that browsers import."""
        ...

    @property
    def messages_of(self) -> Callable[[PostgresSettings, Iterable[str]], Mapping[str, int]]:
        """Count the messages of those sessions that there are."""
        ...

    @property
    def sessions_of(self) -> Callable[[PostgresSettings, str], Sequence[str]]:
        """Give the ids of a verified user's sessions, by `sub`."""
        ...

    @property
    def erase(self) -> Callable[[PostgresSettings, str, str, Clock], tuple[bool, int]]:
        """Erase a session for good; gives whether there was anything, and how many messages."""
        ...

    @property
    def verify_audit(self) -> Callable[[PostgresSettings, str | None], Verdict]:
        """Check the audit log from end to end, and that a head noted earlier (`number:hash`) is still in it."""
        ...

    @property
    def import_sqlite(self) -> Callable[[PostgresSettings, Path, str, Clock], Mapping[str, int]]:
        """Take over a file of SQLite mode, once; gives how many rows were read of which table."""
        ...

    @property
    def examine(self) -> Callable[[PostgresSettings, Clock], Sequence[tuple[State, str, str]]]:
        """Look at everything that serving needs; gives state, subject and text of each thing looked at."""
        ...


def run(options: argparse.Namespace, settings: PostgresSettings, commands: DatabaseCommands) -> int:
    """Do what `options.command` says; give the exit status, 2 where it cannot be done."""
    clock = SystemClock()
    try:
        match options.command:
            case "migrate":
                sys.stdout.write(f"{commands.migrate(settings, clock)}.\n")
            case "stats":
                return stats_command.show(options, lambda query: commands.report(settings, query))
            case "export":
                return export_command.write(
                    options, lambda selection: commands.exporting(settings, selection, actor(), clock), clock
                )
            case "erase":
                return _erase(options, settings, commands, clock)
            case "verify-audit":
                return _verify(commands.verify_audit(settings, options.head), options.head)
            case _:
                counts = commands.import_sqlite(settings, options.file, actor(), clock)
                told = ", ".join(f"{table} {count}" for table, count in counts.items())
                sys.stdout.write(f"{options.file} was taken over. Rows: {told}.\n")
    except StoreFaultError as error:
        sys.stderr.write(f"FAULT: {error.problem}.\n  what to do: {error.advice}\n")
        return EXIT_WRONG
    return EXIT_DONE


def actor() -> str:
    """Name the person at the terminal as the audit log has it."""
    number = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(number).pw_name}"
    except KeyError:  # as in a container with a user of one's own
        return f"cli:{number}"


def _erase(options: argparse.Namespace, settings: PostgresSettings, commands: DatabaseCommands, clock: Clock) -> int:
    if options.user is not None:
        sessions = list(commands.sessions_of(settings, options.user))
        if not sessions:
            sys.stdout.write("There is no session of this user.\n")
            return EXIT_DONE
    else:
        sessions = list(dict.fromkeys(options.sessions))
    wrong = [session for session in sessions if not is_session_id(session)]
    if wrong:
        sys.stderr.write(f"FAULT: {wrong[0]!r} is no session's id, such as s_0123456789ABCDEFGHIJKL.\n")
        return EXIT_WRONG
    if not options.yes:
        known = commands.messages_of(settings, sessions)
        for session in sessions:
            said = f"{known[session]} messages" if session in known else "not known; its tokens would be refused"
            sys.stdout.write(f"{session}: {said}\n")
        if not _agreed(f"Erase {'it' if len(sessions) == 1 else 'them'} for good? [y/N] "):
            return EXIT_WRONG
    for session in sessions:
        existed, count = commands.erase(settings, session, actor(), clock)
        said = f"erased, {count} messages" if existed else "was not known; its tokens are refused from now on"
        sys.stdout.write(f"{session}: {said}\n")
    return EXIT_DONE


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        sys.stderr.write("FAULT: nobody can be asked here. Say --yes. Nothing was erased.\n")
        return False
    sys.stdout.write(question)
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return True
    sys.stderr.write("Nothing was erased.\n")
    return False


def _verify(verdict: Verdict, noted: str | None) -> int:
    if verdict.fault is not None:
        sys.stdout.write(f"FAULT: {verdict.fault}.\n")
        if verdict.entries:
            sys.stdout.write(f"Up to entry {verdict.entries} all is as it was written.\n")
        return EXIT_FAULT
    if not verdict.entries:
        sys.stdout.write("The audit log is empty.\n")
        return EXIT_DONE
    since = " and go on from the head that was noted" if noted else ""
    sys.stdout.write(f"All entries up to number {verdict.entries} are as they were written{since}.\n")
    if verdict.others:
        said = "They can be verified as long as that secret is set"
        sys.stdout.write(f"{verdict.others} of them were made with an earlier key. {said}.\n")
    sys.stdout.write(f"Note down the head, somewhere else: {verdict.head}\n")
    return EXIT_DONE
