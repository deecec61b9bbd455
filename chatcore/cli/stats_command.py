"""The `stats` subcommand of every mode that has figures: asks for a report, prints it as the terminal can show it."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable

from chatcore.analytics import Query, Report
from chatcore.cli import stats
from chatcore.clock import SystemClock
from chatcore.errors import Refusal

EXIT_DONE = 0
EXIT_WRONG = 2


def show(options: argparse.Namespace, report_of: Callable[[Query], Report]) -> int:
    """Print the figures that the options ask for; gives the exit status. What `report_of` raises passes through."""
    try:
        query = stats.query_of(
            [options.bot] if options.bot else [],
            SystemClock().now(),
            days=options.days,
            begin=options.begin,
            end=options.end,
            interval=options.interval,
            bot=options.bot,
        )
    except Refusal as refusal:
        for fault in refusal.errors or ():
            sys.stderr.write(f"FAULT: --{fault.field} {fault.message}.\n")
        return EXIT_WRONG
    report = report_of(query)
    if options.json:
        sys.stdout.buffer.write(stats.as_json(report) + b"\n")
        return EXIT_DONE
    terminal = sys.stdout.isatty()
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    columns = shutil.get_terminal_size().columns
    try:
        sys.stdout.write(stats.render(report, columns, colour=terminal, unicode=unicode) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_DONE
