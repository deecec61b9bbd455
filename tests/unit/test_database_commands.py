"""The command line of PostgreSQL mode: which commands there are, what each is given, how each ends."""

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatcore import cli
from chatcore.analytics import Figures, Query, Report
from chatcore.archive import Selection, Verdict
from chatcore.cli.check import databases
from chatcore.cli.database_commands import actor
from chatcore.cli.options import parser
from chatcore.cli.probe import State
from chatcore.ports import Clock, StoreFaultError
from chatcore.settings import PostgresSettings
from chatcore.stores import stateless
from tests.support.told import DATABASES

BROKEN = StoreFaultError("the database does not answer", "Start it.")
HASH = "0123456789abcdef" * 4
SESSION, OTHER = f"s_{'a' * 22}", f"s_{'b' * 22}"

Documents = tuple[int, Iterable[tuple[str, Iterator[str]]]]


class Recording:
    """Commands that do nothing but remember what they were given."""

    def __init__(self, *, broken: bool = False, verdict: Verdict | None = None) -> None:
        self.settings: list[PostgresSettings] = []
        self.given: list[Any] = []
        self._broken = broken
        self._verdict = verdict or Verdict(2, f"2:{HASH}", 0, None)

    def _seen(self, settings: PostgresSettings, *given: Any) -> None:
        self.settings.append(settings)
        self.given += given
        if self._broken:
            raise BROKEN

    def migrate(self, settings: PostgresSettings, _: Clock) -> str:
        self._seen(settings)
        return "The schema is at version 7"

    def report(self, settings: PostgresSettings, query: Query) -> Report:
        self._seen(settings, query)
        return Report(query=query, totals=Figures(), series=(), top_origins=(), top_pages=())

    @contextlib.contextmanager
    def exporting(self, settings: PostgresSettings, selection: Selection, by: str, _: Clock) -> Iterator[Documents]:
        self._seen(settings, selection, by)
        yield 2, [(session, iter(["{", "}"])) for session in (SESSION, OTHER)]

    def messages_of(self, settings: PostgresSettings, session_ids: Iterable[str]) -> Mapping[str, int]:
        self._seen(settings, list(session_ids))
        return {SESSION: 3}

    def sessions_of(self, settings: PostgresSettings, user: str) -> Sequence[str]:
        self._seen(settings, user)
        return [SESSION, OTHER] if user == "42" else []

    def erase(self, settings: PostgresSettings, session_id: str, by: str, _: Clock) -> tuple[bool, int]:
        self._seen(settings, (session_id, by))
        return (True, 3) if session_id == SESSION else (False, 0)

    def verify_audit(self, settings: PostgresSettings, head: str | None) -> Verdict:
        self._seen(settings, head)
        return self._verdict

    def import_sqlite(self, settings: PostgresSettings, path: Path, by: str, _: Clock) -> Mapping[str, int]:
        self._seen(settings, path, by)
        return {"hours": 4, "sessions": 1}

    def examine(self, settings: PostgresSettings, clock: Clock) -> Sequence[tuple[State, str, str]]:
        self._seen(settings)
        return [("ok", "database", f"answers since {clock.now() > 0}"), ("FAULT", "redis", "does not answer")]


def run(argv: list[str], commands: Recording, environ: Mapping[str, str] = DATABASES) -> int:
    return cli.main("postgres", stateless.open_stores, argv, environ, Path("/nowhere"), commands)


def test_migrating_needs_no_n8n_and_tells_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recording()
    assert run(["migrate"], commands) == 0
    assert capsys.readouterr().out == "The schema is at version 7.\n"
    assert [settings.url for settings in commands.settings] == [DATABASES["DATABASE_URL"]]


def test_figures_are_asked_for_as_in_sqlite_mode(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recording()
    argv = ["stats", "--from", "2026-01-01", "--to", "2026-01-31", "--interval", "day", "--bot", "sales", "--json"]
    assert run(argv, commands) == 0
    (query,) = commands.given
    assert (query.end - query.begin, query.interval, query.bot) == (30 * 86400, "day", "sales")
    assert capsys.readouterr().out.startswith("{")
    assert run(["stats", "--days", "0"], commands) == 2
    assert "--days must be from 1" in capsys.readouterr().err
    assert run(["stats", "--db", "chat.db"], commands) == 2, "there is no file to name"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], Selection()),
        (["--session", SESSION, "--bot", "sales"], Selection(session_id=SESSION, bot="sales")),
        (["--user", "42"], Selection(user="42")),
        (["--user", ""], Selection(user="")),
        (["--from", "1970-01-01", "--to", "2000-01-02T00:00:00Z"], None),
        (["--from", "2000-01-01", "--to", "2000-01-02T00:00:00Z"], Selection(begin=946684800.0, end=946771200.0)),
    ],
)
def test_an_export_takes_what_its_options_choose(
    argv: list[str], expected: Selection | None, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    commands = Recording()
    assert run(["export", "--output", "-", *argv], commands) == (0 if expected else 2)
    assert commands.given == ([expected, actor()] if expected else [])
    assert capsysbinary.readouterr().out == (b"{}\n{}\n" if expected else b"")


def test_an_export_appears_whole_and_private_or_not_at_all(tmp_path: Path) -> None:
    file, folder = tmp_path / "all.jsonl", tmp_path / "all"
    file.write_text("of yesterday")
    assert run(["export", "--output", str(file)], Recording(broken=True)) == 2
    assert (file.read_text(), list(tmp_path.iterdir())) == ("of yesterday", [file])
    assert run(["export", "--output", str(file)], Recording()) == 0
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("{}\n{}\n", 0o600)
    assert run(["export", "--format", "json", "--output", str(folder)], Recording()) == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        f"{SESSION}.json": "{}\n",
        f"{OTHER}.json": "{}\n",
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    assert run(["export", "--format", "json", "--output", str(folder)], Recording()) == 2, "there is something in it"
    assert sorted(tmp_path.iterdir()) == [folder, file]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["export", "--format", "json"], "--output must name a folder"),
        (["export", "--session", "x"], "--session must be a session's id"),
        (["export", "--from", "2026-01-02", "--to", "2026-01-01"], "--from must be before to"),
        (["export", "--to", "yesterday"], "--to must be a time"),
        (["export", "--output", "/nowhere/at/all.jsonl"], "/nowhere/at/all.jsonl cannot be written"),
        (["erase", "x", "--yes"], "'x' is no session's id"),
        (["erase", SESSION], "nobody can be asked here"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_happens(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Recording()
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(argv, commands) == 2
    assert said in capsys.readouterr().err
    assert not [one for one in commands.given if isinstance(one, tuple)], "something was erased"


def test_sessions_are_erased_one_by_one_and_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recording()
    assert run(["erase", SESSION, OTHER, SESSION, "--yes"], commands) == 0
    assert commands.given == [(SESSION, actor()), (OTHER, actor())]
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{SESSION}: erased, 3 messages"
    assert "was not known" in second


def test_all_sessions_of_a_user_are_erased(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recording()
    assert run(["erase", "--user", "42", "--yes"], commands) == 0
    assert commands.given == ["42", (SESSION, actor()), (OTHER, actor())]
    assert capsys.readouterr().out.startswith(f"{SESSION}: erased, 3 messages\n{OTHER}: ")
    assert run(["erase", "--user", "43"], Recording()) == 0, "there is nothing to ask about"
    assert capsys.readouterr().out == "There is no session of this user.\n"


@pytest.mark.parametrize(
    ("verdict", "status", "said"),
    [
        (Verdict(0, "0:", 0, None), 0, "The audit log is empty"),
        (Verdict(2, f"2:{HASH}", 0, None), 0, f"Note down the head, somewhere else: 2:{HASH}"),
        (Verdict(2, f"2:{HASH}", 1, None), 0, "1 of them were made with an earlier key"),
        (Verdict(1, f"1:{HASH}", 0, "entry 2 is missing"), 1, "FAULT: entry 2 is missing."),
    ],
)
def test_what_was_found_in_the_audit_log_is_the_exit_status(
    verdict: Verdict, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = Recording(verdict=verdict)
    assert run(["verify-audit", "--head", f"4711:{HASH}"], commands) == status
    assert commands.given == [f"4711:{HASH}"]
    assert said in capsys.readouterr().out


def test_a_file_of_sqlite_mode_is_taken_over(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recording()
    assert run(["import-sqlite", "chat.db"], commands) == 0
    assert commands.given == [Path("chat.db"), actor()]
    assert capsys.readouterr().out == "chat.db was taken over. Rows: hours 4, sessions 1.\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["erase"],
        ["erase", "--yes"],
        ["erase", SESSION, "--user", "42"],
        ["import-sqlite"],
        ["import-sqlite", "a", "b"],
        ["export", "--format", "csv"],
        ["verify-audit", "--head", "latest"],
        ["verify-audit", "--head", f"x:{HASH}"],
        ["verify-audit", "--head", "1:abc"],
        ["backup", "x"],
        ["cleanup"],
        ["migrate", "now"],
    ],
)
def test_what_a_command_does_not_take_is_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recording()
    assert run(argv, commands) == 2
    assert "usage:" in capsys.readouterr().err
    assert not commands.settings


@pytest.mark.parametrize(
    "argv",
    [["migrate"], ["stats"], ["export"], ["erase", SESSION, "--yes"], ["verify-audit"], ["import-sqlite", "chat.db"]],
)
def test_a_store_that_fails_is_told_with_what_to_do(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv, Recording(broken=True)) == 2
    said = capsys.readouterr().err
    assert said == "FAULT: the database does not answer.\n  what to do: Start it.\n"


def test_settings_that_are_wrong_stop_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recording()
    assert run(["migrate"], commands, {"REDIS_URL": "nonsense"}) == 2
    said = capsys.readouterr().err
    assert said.startswith("main_postgres.py cannot start: 2 settings are wrong.")
    assert not commands.settings


def test_check_shows_what_was_found_of_the_databases() -> None:
    settings = PostgresSettings(url="u", admin_url="u", read_url="u", redis_url="r")
    found = databases(settings, Recording())
    assert [(one.state, one.subject) for one in found] == [("ok", "database"), ("FAULT", "redis")]
    (fault,) = databases(settings, Recording(broken=True))
    assert (fault.state, fault.text) == ("FAULT", "the database does not answer. Start it.")


@pytest.mark.parametrize(("mode", "also"), [("stateless", ""), ("sqlite", "file"), ("postgres", "PostgreSQL")])
def test_help_says_what_is_checked(mode: str, also: str) -> None:
    told = {"stateless": parser("stateless"), "sqlite": parser("sqlite"), "postgres": parser("postgres")}[mode]
    assert also in told.format_help()
    assert "only PostgreSQL mode takes more than one" in " ".join(told.format_help().split())
