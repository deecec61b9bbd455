"""Names that look like settings but are none that is read: misspelled, for another way of running, or not as a file."""

from collections.abc import Iterable

from chatcore.settings.reader import Reader

# Variables that deployments share between ways of running chatcore; this one has no use for them.
ELSEWHERE = frozenset(
    {
        *("SQLITE_DB_PATH", "CLEANUP_INTERVAL_HOURS", "SESSION_RETENTION_DAYS", "ANALYTICS_RETENTION_DAYS"),
        *("BACKUP_DIR", "DATABASE_URL", "DATABASE_ADMIN_URL", "DATABASE_READ_URL", "DATABASE_POOL_SIZE", "REDIS_URL"),
        *("DATABASE_PREPARE", "DATABASE_URL_FILE", "DATABASE_ADMIN_URL_FILE", "DATABASE_READ_URL_FILE"),
        *("REDIS_URL_FILE", "AUDIT_KEY_FILE"),
        *("MESSAGE_RETENTION_DAYS", "PERSIST_STRICT", "SPOOL_PATH", "SPOOL_MAX_BYTES", "AUDIT_KEY"),
    }
)
_LIKENESS = 0.87


def warn_of_unread(reader: Reader) -> None:
    """Warn of what is set and close to a name that is read, but is not read. Values are never shown."""
    known = reader.asked | ELSEWHERE
    refused = {fault.variable for fault in reader.faults}
    for name in sorted(reader.names()):
        if name not in known and name not in refused:
            _warn_of_unknown(reader, name, known)


def _warn_of_unknown(reader: Reader, name: str, known: Iterable[str]) -> None:
    from difflib import get_close_matches  # noqa: PLC0415 - not needed where all names are known

    if name.removesuffix("_FILE") in known and name.endswith("_FILE"):
        reader.warn(f"{name} has no effect: {name.removesuffix('_FILE')} cannot be given as a file.")
        return
    close = get_close_matches(name.upper(), known, n=1, cutoff=_LIKENESS)
    if close:
        reader.warn(f"{name} is not read. Is {close[0]} meant?")
