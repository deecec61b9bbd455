"""Options and subcommands of the mains; starts the server."""

import argparse
import importlib
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from chatcore.cli import traces
from chatcore.cli.options import NAMES, SETTINGS, parser
from chatcore.clock import SystemClock
from chatcore.ports import StoreFaultError
from chatcore.settings import Fault, Mode, Settings, SettingsError, load, load_postgres, load_sqlite

if TYPE_CHECKING:  # what serving needs is slow to import, and a fault or --help should not wait for it
    from chatcore.app import Stores
    from chatcore.cli.database_commands import DatabaseCommands
    from chatcore.cli.file_commands import FileCommands
    from chatcore.happenings import Happening, Observe
    from chatcore.ports import Clock
    from chatcore.serve.workers import Place

EXIT_WRONG = 2
OpenStores = Callable[[Settings, "Clock", "Observe"], "Stores"]

_ONE_PROCESS = (
    "{mode} mode runs in one process, so --workers {workers} is refused. It scales by more instances on more ports "
    "(--port): limits and resumption are then per instance, so route by the header X-Chat-Session."
)


def main(
    mode: Mode,
    open_stores: OpenStores,
    argv: Sequence[str],
    environ: Mapping[str, str],
    home: Path,
    commands: "FileCommands | DatabaseCommands | None" = None,
) -> int:
    """Do what `argv` (without the program's name) asks for; give the exit status: 2 where settings are wrong.

    `home` is where `.env` is looked for unless `--env-file` names another; `commands` is what a mode with a file
    or databases can do with them.
    """
    try:
        options = parser(mode).parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return EXIT_WRONG if end.code else 0
    if options.workers != 1 and mode != "postgres":
        _complain(_ONE_PROCESS.format(mode=NAMES[mode][:1].upper() + NAMES[mode][1:], workers=options.workers))
        return EXIT_WRONG
    env_file = _env_file(options.env_file, home)
    overrides = {SETTINGS[name]: value for name, value in vars(options).items() if name in SETTINGS and value}
    try:
        if commands is not None and options.command not in {None, "check"}:
            return _command(mode, options, (environ, env_file, overrides), commands)
        settings = load(
            environ,
            mode,
            env_file=env_file,
            overrides=overrides,
            random_bytes=SystemClock.token_bytes,
            demo=options.demo,
        )
    except SettingsError as error:
        _complain(report(error, f"main_{mode}.py"))
        return EXIT_WRONG
    if settings.tracing is not None and not traces.installed():
        _complain(f"main_{mode}.py cannot start: {traces.MISSING}")
        return EXIT_WRONG
    return _run(settings, open_stores, options, commands)


def _command(
    mode: Mode,
    options: argparse.Namespace,
    sources: tuple[Mapping[str, str], Path | None, Mapping[str, str]],
    commands: "FileCommands | DatabaseCommands",
) -> int:
    """Do what a subcommand says; a main brings the commands of its own mode."""
    environ, env_file, overrides = sources
    if mode == "postgres":
        from chatcore.cli import database_commands  # noqa: PLC0415 - only what is asked for is loaded

        databases = load_postgres(environ, env_file=env_file, overrides=overrides)
        return database_commands.run(options, databases, cast("DatabaseCommands", commands))
    from chatcore.cli import file_commands  # noqa: PLC0415 - same

    file = load_sqlite(environ, env_file=env_file, overrides=overrides)
    return file_commands.run(options, file, cast("FileCommands", commands))


def report(error: SettingsError, program: str) -> str:
    """Tell all faults, and besides what looked odd, since a misspelled name is often the cause."""
    count = len(error.faults)
    said = "a setting is wrong" if count == 1 else f"{count} settings are wrong"
    blocks = [f"{program} cannot start: {said}.", *(_told(fault) for fault in error.faults)]
    blocks += [f"warning: {warning}" for warning in error.warnings]
    return "\n\n".join(blocks)


def _told(fault: Fault) -> str:
    return f"FAULT {fault}.\n  expected: {fault.expected}\n  for example: {fault.example}"


def _env_file(named: Path | None, home: Path) -> Path | None:
    """A file that is named must exist; the usual one need not."""
    usual = home / ".env"
    if named is not None:
        return named
    return usual if usual.exists() else None


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _run(
    settings: Settings,
    open_stores: OpenStores,
    options: argparse.Namespace,
    commands: "FileCommands | DatabaseCommands | None",
) -> int:
    """Serve, or check whether that would go well."""
    if options.command == "check":
        from chatcore.cli.check import check  # noqa: PLC0415 - brings an HTTP client and TLS that only it needs

        return check(settings, commands)
    return _serve(settings, open_stores, options.workers)


def _serve(settings: Settings, open_stores: OpenStores, workers: int) -> int:
    """Serve until told to stop, in this process or in several that this one starts."""
    if workers == 1:
        return _serve_here(settings, open_stores, None)
    importlib.import_module("chatcore.app")  # loaded now, it is shared by all
    from chatcore.serve import workers as several  # noqa: PLC0415 - one process needs none of it

    if workers > several.MAX_WORKERS:
        _complain(f"--workers {workers} is refused: at most {several.MAX_WORKERS} processes share an address.")
        return EXIT_WRONG

    def work(place: "Place") -> int:
        return _serve_here(settings_of_worker(settings, place.number), open_stores, place)

    return several.run(settings.server, settings.log, workers, work, SystemClock())


def _serve_here(settings: Settings, open_stores: OpenStores, place: "Place | None") -> int:
    """Put everything together and serve until told to stop; as one of several workers where there is a `place`."""
    from chatcore.app import Application  # noqa: PLC0415 - slow to import, see above
    from chatcore.observe import Observer, SetupSuspicious  # noqa: PLC0415 - same
    from chatcore.serve import serve  # noqa: PLC0415 - same

    observer, clock = Observer(settings.log), SystemClock()
    tells = place is None or place.number == 1  # what is the same for all workers
    for warning in settings.warnings if tells else ():
        observer(SetupSuspicious(warning, severe=False))

    announced = _announcing(settings, observer) if tells else observer
    before: list[Callable[[], Awaitable[None]]] = []
    if place is not None:
        before.append(partial(place.metrics.join, place.number, observer.metrics))
    if settings.demo:
        from chatcore.demo import Demo  # noqa: PLC0415 - same

        standin = Demo()
        settings = before_standin(settings, standin.url)
        before.append(standin.listen)
    try:
        stores = open_stores(settings, clock, observer)
    except StoreFaultError as error:
        _complain(f"main_{settings.mode}.py cannot start: {error.problem}.\n  what to do: {error.advice}")
        observer.close()
        return EXIT_WRONG
    tracer, stop_traces = traces.start(settings.tracing, clock, observer)
    app = Application(settings, stores, clock, observer, tracer)
    try:
        return serve(app, settings.server, app, announced, before=before, place=place)
    finally:
        stores.release()
        stop_traces()
        observer.close()


def settings_of_worker(settings: Settings, number: int) -> Settings:
    """Give the settings of worker `number`: from the second on each has a journal of its own, `spool.2.db`."""
    told = settings.postgres
    if told is None or number == 1:
        return settings
    own = told.spool_path.with_name(f"{told.spool_path.stem}.{number}{told.spool_path.suffix}")
    return msgspec.structs.replace(settings, postgres=msgspec.structs.replace(told, spool_path=own))


def before_standin(settings: Settings, url: str) -> Settings:
    """Give the settings with every bot at the stand-in's `url`; no credential of n8n is sent there."""
    bots = {
        name: msgspec.structs.replace(bot, url=url, basic_auth=None, api_key=None)
        for name, bot in settings.upstream.bots.items()
    }
    return msgspec.structs.replace(settings, upstream=msgspec.structs.replace(settings.upstream, bots=bots))


def _announcing(settings: Settings, observe: "Observe") -> "Observe":
    """Say where the server listens even where the log's level would not; JSON logs hold nothing but JSON."""
    if settings.log.format == "json" or settings.log.level in {"DEBUG", "INFO"}:
        return observe

    def announced(happening: "Happening") -> None:
        detail = getattr(happening, "detail", "")
        if getattr(happening, "what", "") == "listening":
            sys.stderr.write(f"chatcore listens on {detail}\n")
        observe(happening)

    return announced
