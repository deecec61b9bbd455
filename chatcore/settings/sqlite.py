"""The settings of SQLite mode, and the secrets that nobody set: made once, kept in a file beside the data."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from chatcore.settings.faults import BadValueError, Fault, shown_path
from chatcore.settings.forms import Form, file_path, number
from chatcore.settings.keys import KEY
from chatcore.settings.reader import Reader
from chatcore.settings.sources import text_of
from chatcore.settings.values import SqliteSettings, TokenSettings

KEPT = ("JWT_SECRET_KEY", "SESSION_SECRET_KEY")
"""The secrets that may be kept, as lines `NAME=secret`."""

_DEFAULT_PATH = "chat_sessions.db"
MOST_DAYS = 36500
"""How long anything may be kept: a century."""


FILE = file_path("the database file", _DEFAULT_PATH)
INTERVAL_HOURS = number(0.0001, 8760, 24)
ANALYTICS_DAYS = number(0.01, MOST_DAYS, 400)
FOLDER = Form(Path, "the path of an existing folder", "/var/backups/chatcore")


def read(reader: Reader) -> SqliteSettings:
    """Read what SQLite mode needs; `new_secrets` come with `settle`."""
    return SqliteSettings(
        path=reader.take("SQLITE_DB_PATH", FILE, default=Path(_DEFAULT_PATH)),
        cleanup_interval_hours=reader.take("CLEANUP_INTERVAL_HOURS", INTERVAL_HOURS, default=24.0),
        session_retention_days=reader.take("SESSION_RETENTION_DAYS", number(0.00001, MOST_DAYS, 7), default=7.0),
        analytics_retention_days=reader.take("ANALYTICS_RETENTION_DAYS", ANALYTICS_DAYS, default=400.0),
        backup_dir=reader.take("BACKUP_DIR", FOLDER, default=None),
    )


def kept_secrets(reader: Reader, settings: SqliteSettings) -> Mapping[str, str]:
    """Read the secrets of earlier runs; a file that does not exist holds none."""
    path = settings.secrets_path
    try:
        if not path.exists():
            return {}
    except PermissionError:  # a folder that may not be entered: who opens the database says so
        return {}
    try:
        kept = _parse(text_of(path))
    except OSError as error:
        _refuse(reader, path, f"leads to {path.name}, which cannot be read: {error.strerror}")
        return {}
    except BadValueError as error:
        _refuse(reader, path, f"leads to {path.name}, which {error.problem}")
        return {}
    if path.stat().st_mode & 0o077:
        reader.warn(f"{shown_path(str(path))} holds secrets and may be read by others: chmod 600 it.")
    return kept


def settle(
    settings: SqliteSettings, kept: Mapping[str, str], tokens: TokenSettings, given: Mapping[str, str]
) -> SqliteSettings:
    """Give the settings with the secrets that are neither set nor kept yet."""
    serving = dict(zip(KEPT, (tokens.jwt_secrets[0], tokens.session_secret), strict=True))
    new = {name: secret for name, secret in serving.items() if name not in given and name not in kept}
    return msgspec.structs.replace(settings, new_secrets=new, erased_days=tokens.session_max_days + 1)


def _parse(text: str) -> dict[str, str]:
    kept: dict[str, str] = {}
    for number_of_line, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, secret = line.partition("=")
        if name not in KEPT or name in kept:
            raise BadValueError(f"has a line {number_of_line} that is none of ours")
        kept[name] = KEY.parse(secret)
    return kept


def _refuse(reader: Reader, path: Path, problem: str) -> None:
    reader.faults.append(
        Fault(
            variable="SQLITE_DB_PATH",
            value=shown_path(str(path)),
            problem=problem,
            expected="beside the database file, the file of secrets as it was written, readable",
            example="restore it from a backup, or remove it: all visitors then start a new session",
        )
    )
