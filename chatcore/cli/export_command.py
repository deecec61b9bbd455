"""The `export` subcommand: what is asked for, where it goes, and how far it is."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

from chatcore.analytics_query import time_of
from chatcore.archive import Selection
from chatcore.archive_query import is_session_id
from chatcore.cli import export_files
from chatcore.errors import Refusal
from chatcore.fields import Faults
from chatcore.ports import Clock

EXIT_DONE = 0
EXIT_WRONG = 2

Exporting = AbstractContextManager[tuple[int, Iterable[tuple[str, Iterator[str]]]]]
"""How many documents there are, and each as a session's id and the pieces of its text."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_BAR_COLUMNS = 30
_DRAWN_EVERY_SECONDS = 0.2


class Progress:
    """A bar on a terminal that says how many of `total` sessions are written; nothing where there is no terminal."""

    def __init__(self, total: int, clock: Clock, *, shown: bool) -> None:
        self._total = total
        self._clock = clock
        self._shown = shown and total > 0
        self._done = 0
        self._next = 0.0

    def one_more(self) -> None:
        """Count one; draws a few times a second at most."""
        self._done += 1
        now = self._clock.monotonic()
        if self._shown and (now >= self._next or self._done == self._total):
            self._next = now + _DRAWN_EVERY_SECONDS
            filled = _BAR_COLUMNS * self._done // self._total
            bar = "#" * filled + "-" * (_BAR_COLUMNS - filled)
            sys.stderr.write(f"\r[{bar}] {self._done} of {self._total} sessions")
            sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._shown and self._done:
            sys.stderr.write("\n")


def write(options: argparse.Namespace, exporting: Callable[[Selection], Exporting], clock: Clock) -> int:
    """Write what the options ask for; gives the exit status. Raises `StoreFaultError`."""
    try:
        selection = selection_of(options)
    except Refusal as refusal:
        for fault in refusal.errors or ():
            sys.stderr.write(f"FAULT: --{fault.field} {fault.message}.\n")
        return EXIT_WRONG
    if options.format == "json" and options.output is None:
        sys.stderr.write("FAULT: --output must name a folder, which gets a file for each session.\n")
        return EXIT_WRONG
    place = export_files.folder(options.output) if options.format == "json" else export_files.lines(options.output)
    shown = sys.stderr.isatty() and not (options.output is None and sys.stdout.isatty())
    try:
        with place as write_one, exporting(selection) as (total, documents):
            progress = Progress(total, clock, shown=shown)
            for session_id, pieces in documents:
                write_one(session_id, pieces)
                progress.one_more()
            progress.end()
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    sys.stderr.write(f"{total} {'session' if total == 1 else 'sessions'}.\n")
    return EXIT_DONE


def selection_of(options: argparse.Namespace) -> Selection:
    """Read the options that choose. Raises `Refusal`, whose `errors` have the options' names as fields."""
    faults = Faults()
    if options.session is not None and not is_session_id(options.session):
        faults.add("session", "must be a session's id, such as s_0123456789ABCDEFGHIJKL")
    begin, end = (
        None if value is None else time_of(name, f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value, faults)
        for name, value in (("from", options.begin), ("to", options.end))
    )
    if begin is not None and end is not None and begin >= end:
        faults.add("from", "must be before to")
    if faults:
        faults.refuse()
    return Selection(session_id=options.session, user=options.user, bot=options.bot, begin=begin, end=end)
