"""Options and subcommands of the mains; starts the server."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from chatcore import __version__
from chatcore.clock import SystemClock
from chatcore.settings import Fault, Mode, Settings, SettingsError, load

if TYPE_CHECKING:  # what serving needs is slow to import, and a fault or --help should not wait for it
    from chatcore.app import Stores
    from chatcore.observe import Happening, Observe
    from chatcore.ports import Clock

EXIT_WRONG = 2
OpenStores = Callable[[Settings, "Clock", "Observe"], "Stores"]

_OPTIONS = {"host": "API_HOST", "port": "API_PORT", "log_level": "LOG_LEVEL"}
_ONE_PROCESS = (
    "{mode} mode runs in one process, so --workers {workers} is refused. It scales by more instances on more ports "
    "(--port): limits and resumption are then per instance, so route by the header X-Chat-Session."
)


def main(mode: Mode, open_stores: OpenStores, argv: Sequence[str], environ: Mapping[str, str], home: Path) -> int:
    """Do what `argv` (without the program's name) asks for; give the exit status: 2 where settings are wrong.

    `home` is where `.env` is looked for unless `--env-file` names another.
    """
    try:
        options = _parser(mode).parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return EXIT_WRONG if end.code else 0
    if options.workers != 1 and mode != "postgres":
        _complain(_ONE_PROCESS.format(mode=mode.capitalize(), workers=options.workers))
        return EXIT_WRONG
    try:
        settings = load(
            environ,
            mode,
            env_file=_env_file(options.env_file, home),
            overrides={_OPTIONS[name]: value for name, value in vars(options).items() if name in _OPTIONS and value},
            random_bytes=SystemClock.token_bytes,
            demo=options.demo,
        )
    except SettingsError as error:
        _complain(report(error, f"main_{mode}.py"))
        return EXIT_WRONG
    if options.command == "check":
        from chatcore.cli.check import check  # noqa: PLC0415 - brings an HTTP client and TLS that only it needs

        return check(settings)
    return _serve(settings, open_stores)


def report(error: SettingsError, program: str) -> str:
    """Tell all faults, and besides what looked odd, since a misspelled name is often the cause."""
    count = len(error.faults)
    said = "a setting is wrong" if count == 1 else f"{count} settings are wrong"
    blocks = [f"{program} cannot start: {said}.", *(_told(fault) for fault in error.faults)]
    blocks += [f"warning: {warning}" for warning in error.warnings]
    return "\n\n".join(blocks)


def _told(fault: Fault) -> str:
    return f"FAULT {fault}.\n  expected: {fault.expected}\n  for example: {fault.example}"


def _parser(mode: Mode) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"main_{mode}.py",
        description=f"A chat proxy between a public website and an n8n webhook, in {mode} mode.",
        epilog="All settings are environment variables, or lines of a .env file: see docs/settings.md.",
        allow_abbrev=False,
    )
    commands = "check: look at all settings, ask n8n whether it answers, then end. Without it: serve"
    parser.add_argument("command", nargs="?", choices=["check"], help=commands)
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on, instead of API_HOST")
    parser.add_argument("--port", metavar="NUMBER", help="port to listen on, instead of API_PORT; 0: any free one")
    parser.add_argument("--workers", metavar="NUMBER", type=_count, default=1, help="number of processes")
    parser.add_argument("--env-file", metavar="PATH", type=Path, help="read this file, not the .env beside the main")
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    parser.add_argument("--demo", action="store_true", help="no n8n needed: a stand-in answers")
    parser.add_argument("--version", action="version", version=f"chatcore {__version__}")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len("9999") and int(text)):
        raise argparse.ArgumentTypeError("expected a whole number from 1 to 9999")
    return int(text)


def _env_file(named: Path | None, home: Path) -> Path | None:
    """A file that is named must exist; the usual one need not."""
    usual = home / ".env"
    if named is not None:
        return named
    return usual if usual.exists() else None


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _serve(settings: Settings, open_stores: OpenStores) -> int:
    """Put everything together and serve until told to stop."""
    from chatcore.app import Application  # noqa: PLC0415 - slow to import, see above
    from chatcore.observe import Observer, SetupSuspicious  # noqa: PLC0415 - same
    from chatcore.serve import serve  # noqa: PLC0415 - same

    observer, clock = Observer(settings.log), SystemClock()
    for warning in settings.warnings:
        observer(SetupSuspicious(warning, severe=False))

    announced = _announcing(settings, observer)
    before = None
    if settings.demo:
        from chatcore.demo import Demo  # noqa: PLC0415 - same

        standin = Demo()
        settings = before_standin(settings, standin.url)
        before = standin.listen
    app = Application(settings, open_stores(settings, clock, observer), clock, observer)
    try:
        return serve(app, settings.server, app, announced, before=before)
    finally:
        observer.close()


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
