"""The settings of SQLite mode: its file, how long it keeps what, and the secrets that it keeps."""

from pathlib import Path
from typing import Any

import pytest

from chatcore.settings import Fault, SettingsError, load_sqlite
from tests.support import told
from tests.support.told import KEYS, NEEDED

NUMBERS = ("CLEANUP_INTERVAL_HOURS", "SESSION_RETENTION_DAYS", "ANALYTICS_RETENTION_DAYS")


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


def one_fault(environ: dict[str, str]) -> Fault:
    return told.one_fault({**NEEDED, **environ}, mode="sqlite")


def keep(path: Path, text: str, mode: int = 0o600) -> Path:
    """Put a file of secrets beside the database."""
    secrets = path.with_name(f"{path.name}.secrets")
    secrets.write_text(text, "utf-8")
    secrets.chmod(mode)
    return secrets


def test_nothing_needs_to_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = told.read(NEEDED, mode="sqlite")
    assert settings.mode == "sqlite"
    assert settings.sqlite is not None
    assert settings.sqlite.path == Path("chat_sessions.db")
    assert settings.sqlite.secrets_path == Path("chat_sessions.db.secrets")
    assert settings.sqlite.session_retention_days == 7
    assert settings.sqlite.analytics_retention_days == 400
    assert settings.sqlite.cleanup_interval_hours == 24
    assert settings.sqlite.erased_days == 91
    assert settings.sqlite.backup_dir is None
    assert not list(tmp_path.iterdir()), "reading settings writes nothing"


def test_stateless_mode_has_none_of_it() -> None:
    assert told.read(NEEDED).sqlite is None


def test_what_is_set_is_taken(path: Path) -> None:
    environ = {
        "SQLITE_DB_PATH": str(path),
        "CLEANUP_INTERVAL_HOURS": "0.5",
        "SESSION_RETENTION_DAYS": "30",
        "ANALYTICS_RETENTION_DAYS": "1000",
        "BACKUP_DIR": str(path.parent),
        "SESSION_MAX_DAYS": "10",
    }
    settings = told.read({**NEEDED, **environ}, mode="sqlite").sqlite
    assert settings is not None
    assert settings.path == path
    assert (settings.cleanup_interval_hours, settings.session_retention_days) == (0.5, 30.0)
    assert (settings.analytics_retention_days, settings.backup_dir) == (1000.0, path.parent)
    assert settings.erased_days == 11, "as long as a token of an erased session may be valid, and a day"


@pytest.mark.parametrize("text", ["/var/lib/chatcore/", "data/", ".", "..", "/", "data/.."])
def test_a_path_of_a_folder_is_refused(text: str) -> None:
    fault = one_fault({"SQLITE_DB_PATH": text})
    assert fault.variable == "SQLITE_DB_PATH"
    assert fault.problem == "names a folder, not a file"
    assert fault.value == text
    assert "chat_sessions.db" in fault.example


@pytest.mark.parametrize("text", ["file:chat.db", "file:///data/chat.db?mode=memory", ":memory:"])
def test_what_only_sqlite_takes_for_a_path_is_refused(text: str) -> None:
    fault = one_fault({"SQLITE_DB_PATH": text})
    assert fault.variable == "SQLITE_DB_PATH"
    assert fault.problem == "is no path of a file"


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["0", "-1", "seven", "1e3", "1000000", "7 days", "nan", "inf"])
def test_numbers_out_of_range_are_refused(name: str, text: str) -> None:
    fault = one_fault({name: text})
    assert fault.variable == name
    assert fault.value == text
    assert fault.example.startswith(f"{name}=")


def test_all_faults_are_told_at_once() -> None:
    environ = {**NEEDED, "SQLITE_DB_PATH": ":memory:"} | dict.fromkeys(NUMBERS, "x")
    found = told.faults(environ, mode="sqlite")
    assert {fault.variable for fault in found} == {"SQLITE_DB_PATH", *NUMBERS}


def test_secrets_of_an_earlier_run_serve(path: Path) -> None:
    keep(path, f"# a comment\n\nSESSION_SECRET_KEY={KEYS[1]}\nJWT_SECRET_KEY={KEYS[0]}\n")
    settings = told.read({**NEEDED, "SQLITE_DB_PATH": str(path)}, mode="sqlite")
    assert settings.tokens.jwt_secrets == (KEYS[0],)
    assert settings.tokens.session_secret == KEYS[1]
    assert settings.sqlite is not None
    assert not settings.sqlite.new_secrets
    assert not [warning for warning in settings.warnings if "JWT_SECRET_KEY is not set" in warning]
    for key in KEYS[:2]:
        assert key not in repr(settings)


def test_what_is_set_wins_over_what_is_kept(path: Path) -> None:
    keep(path, f"JWT_SECRET_KEY={KEYS[0]}\nSESSION_SECRET_KEY={KEYS[1]}\n")
    environ = {**NEEDED, "SQLITE_DB_PATH": str(path), "JWT_SECRET_KEY": KEYS[2], "SESSION_SECRET_KEY": KEYS[3]}
    settings = told.read(environ, mode="sqlite")
    assert settings.tokens.jwt_secrets == (KEYS[2],)
    assert settings.tokens.session_secret == KEYS[3]
    assert settings.sqlite is not None
    assert not settings.sqlite.new_secrets


def test_what_is_neither_set_nor_kept_is_made_and_is_to_be_kept(path: Path) -> None:
    keep(path, f"SESSION_SECRET_KEY={KEYS[1]}\n")
    settings = told.read({**NEEDED, "SQLITE_DB_PATH": str(path)}, mode="sqlite")
    assert settings.sqlite is not None
    assert settings.sqlite.new_secrets == {"JWT_SECRET_KEY": settings.tokens.jwt_secrets[0]}
    assert settings.tokens.jwt_secrets[0] not in repr(settings.sqlite)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"JWT_SECRET_KEY={KEYS[0]}\nJWT_SECRET_KEY={KEYS[1]}\n", "line 2"),
        (f"# x\nADMIN_TOKENS={KEYS[0]}\n", "line 2"),
        ("hello\n", "line 1"),
        ("JWT_SECRET_KEY=too-short\n", "has 9 bytes"),
        ("JWT_SECRET_KEY=\n", "has 0 bytes"),
        ("JWT_SECRET_KEY\n", "has 0 bytes"),
        (f"JWT_SECRET_KEY=your-secret-{KEYS[0]}\n", "placeholder"),
        ("# " + "x" * 70_000, "larger than"),
    ],
)
def test_a_file_of_secrets_that_is_not_as_it_was_written_is_one_fault(path: Path, text: str, problem: str) -> None:
    secrets = keep(path, text)
    fault = one_fault({"SQLITE_DB_PATH": str(path)})
    assert fault.variable == "SQLITE_DB_PATH"
    assert fault.value == str(secrets)
    assert secrets.name in fault.problem
    assert problem in fault.problem
    assert "backup" in fault.example
    for key in KEYS:
        assert key not in str(fault) + fault.expected + fault.example


def test_a_file_of_secrets_that_is_no_text_is_one_fault(path: Path) -> None:
    path.with_name("chat.db.secrets").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in one_fault({"SQLITE_DB_PATH": str(path)}).problem


def test_a_folder_in_the_place_of_the_secrets_is_one_fault(path: Path) -> None:
    path.with_name("chat.db.secrets").mkdir()
    assert "cannot be read" in one_fault({"SQLITE_DB_PATH": str(path)}).problem


@pytest.mark.parametrize("secrets", [f"JWT_SECRET_KEY={KEYS[0]}\nSESSION_SECRET_KEY={KEYS[0]}\n"])
def test_kept_secrets_must_differ_like_others(path: Path, secrets: str) -> None:
    keep(path, secrets)
    assert "is equal to" in one_fault({"SQLITE_DB_PATH": str(path)}).problem


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_secrets_that_others_may_read_are_warned_of(path: Path, mode: int, *, warned: bool) -> None:
    keep(path, f"JWT_SECRET_KEY={KEYS[0]}\nSESSION_SECRET_KEY={KEYS[1]}\n", mode)
    settings = told.read({**NEEDED, "SQLITE_DB_PATH": str(path)}, mode="sqlite")
    assert any("chmod 600" in warning for warning in settings.warnings) is warned


def load_alone(environ: dict[str, str], **overrides: str) -> Any:
    return load_sqlite(environ, env_file=None, overrides=overrides)


def test_commands_need_no_n8n(path: Path) -> None:
    settings = load_alone({"SQLITE_DB_PATH": str(path), "SESSION_MAX_DAYS": "20"})
    assert settings.path == path
    assert settings.erased_days == 21
    assert not settings.new_secrets
    assert load_alone({}, SQLITE_DB_PATH="other.db").path == Path("other.db")


def test_commands_refuse_what_a_start_refuses() -> None:
    with pytest.raises(SettingsError) as refused:
        load_alone({"SQLITE_DB_PATH": "data/", "SESSION_RETENTION_DAYS": "0"})
    assert [fault.variable for fault in refused.value.faults] == ["SQLITE_DB_PATH", "SESSION_RETENTION_DAYS"]
