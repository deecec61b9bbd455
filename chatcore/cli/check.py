"""The `check` subcommand: is everything there that serving will need? Prints one line for each thing looked at."""

import queue
import resource
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from chatcore.cli.database_commands import DatabaseCommands
from chatcore.cli.file_commands import FileCommands
from chatcore.cli.options import NAMES
from chatcore.cli.probe import Finding, ask
from chatcore.clock import SystemClock
from chatcore.ports import StoreFaultError
from chatcore.settings import BotSettings, PostgresSettings, ServerSettings, Settings, SqliteSettings, TracingSettings

EXIT_FINE = 0
EXIT_FAULT = 1
MAX_SECONDS = 10.0
_SLACK_SECONDS = 5.0


def check(settings: Settings, commands: FileCommands | DatabaseCommands | None = None) -> int:
    """Check what `settings` need, the file or databases of the mode too. Gives 1 where a fault was found, else 0.

    `commands` are those of the mode that the settings are of.
    """
    findings = [settled(settings)]
    findings += [Finding("warning", "settings", warning) for warning in settings.warnings]
    if settings.sqlite is not None and commands is not None:
        findings.append(file(settings.sqlite, cast("FileCommands", commands)))
    if settings.postgres is not None and commands is not None:
        findings += databases(settings.postgres, cast("DatabaseCommands", commands))
    if settings.demo:
        findings.append(Finding("ok", "n8n", "not asked: with --demo a stand-in answers in its place."))
    else:
        seconds = min(settings.upstream.connect_timeout_seconds, MAX_SECONDS)
        findings += ask_all(settings.upstream.bots, seconds, SystemClock().now)
    if settings.tracing is not None:
        findings.append(collector(settings.tracing))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    findings.append(descriptors(settings.server, None if hard == resource.RLIM_INFINITY else hard))
    write(findings)
    return EXIT_FAULT if any(finding.state == "FAULT" for finding in findings) else EXIT_FINE


def settled(settings: Settings) -> Finding:
    """Tell what the settings come to."""
    server, bots = settings.server, settings.upstream.bots
    text = f"{NAMES[settings.mode]} mode, listens on host {server.host} port {server.port}, bots: {', '.join(bots)}."
    return Finding("ok", "settings", text)


def file(settings: SqliteSettings, commands: FileCommands) -> Finding:
    """Look whether the database file is there, ours and sound."""
    try:
        return Finding("ok", "file", commands.examine(settings))
    except StoreFaultError as error:
        return Finding("FAULT", "file", f"{error.problem}. {error.advice}")


def databases(settings: PostgresSettings, commands: DatabaseCommands) -> list[Finding]:
    """Look whether PostgreSQL and Redis are as serving needs them."""
    try:
        return [Finding(*found) for found in commands.examine(settings, SystemClock())]
    except StoreFaultError as error:
        return [Finding("FAULT", "database", f"{error.problem}. {error.advice}")]


def ask_all(bots: Mapping[str, BotSettings], seconds: float, now: Callable[[], float]) -> list[Finding]:
    """Ask the webhooks of all bots at once. `seconds` bounds each wait; one that trickles is given up later."""
    answers: queue.SimpleQueue[list[Finding]] = queue.SimpleQueue()
    for bot in bots.values():
        # Daemons, so that a name server that does not answer cannot keep the process from ending.
        threading.Thread(target=lambda asked: answers.put(ask(asked, seconds, now)), args=(bot,), daemon=True).start()
    findings: list[Finding] = []
    for _ in bots:
        try:
            findings += answers.get(timeout=seconds + _SLACK_SECONDS)
        except queue.Empty:
            findings.append(Finding("FAULT", "n8n", "some webhook does not answer in time. Is the network slow?"))
            break
    return sorted(findings, key=lambda finding: finding.subject)


def collector(settings: TracingSettings) -> Finding:
    """Send the collector no span at all: whether it would take some."""
    from chatcore.span_export import send  # noqa: PLC0415 - brings packages that are needed for traces alone

    problem, _ = send(settings, b"", MAX_SECONDS)
    if not problem:
        return Finding("ok", "traces", f"{settings.url} takes them.")
    advice = "Is a collector there, for OTLP over HTTP (mostly port 4318), and are the headers right?"
    return Finding("FAULT", "traces", f"{settings.url} does not take them: {problem}. {advice}")


def descriptors(server: ServerSettings, hard_limit: int | None) -> Finding:
    """Compare the most descriptors this process may open with what the settings allow to be open."""
    wanted = server.descriptors_wanted
    if hard_limit is None or hard_limit >= wanted:
        allowed = "any number" if hard_limit is None else str(hard_limit)
        return Finding("ok", "descriptors", f"{wanted} may be needed, {allowed} may be had.")
    advice = (
        f"Raise it (ulimit -Hn {wanted}, systemd LimitNOFILE={wanted}, docker --ulimit nofile={wanted}), "
        "or lower MAX_CONNECTIONS or MAX_REPLIES_IN_FLIGHT."
    )
    return Finding("FAULT", "descriptors", f"{wanted} may be needed, the hard limit is {hard_limit}. {advice}")


def write(findings: Iterable[Finding]) -> None:
    """Print one line for each finding."""
    for finding in findings:
        sys.stdout.write(f"{finding.state:<8} {finding.subject}: {finding.text}\n")
