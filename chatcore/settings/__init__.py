"""Environment -> frozen `Settings`, split by consumer; every fault at once."""

from chatcore.settings.faults import Fault, SettingsError
from chatcore.settings.load import load, load_postgres, load_sqlite
from chatcore.settings.values import (
    BotSettings,
    ChallengeSettings,
    CorsSettings,
    IntakeSettings,
    LimitSettings,
    LogSettings,
    Mode,
    OperationsSettings,
    PostgresSettings,
    ReplySettings,
    ServerSettings,
    Settings,
    SqliteSettings,
    TokenSettings,
    TracingSettings,
    UploadSettings,
    UpstreamSettings,
)

__all__ = [
    "BotSettings",
    "ChallengeSettings",
    "CorsSettings",
    "Fault",
    "IntakeSettings",
    "LimitSettings",
    "LogSettings",
    "Mode",
    "OperationsSettings",
    "PostgresSettings",
    "ReplySettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "SqliteSettings",
    "TokenSettings",
    "TracingSettings",
    "UploadSettings",
    "UpstreamSettings",
    "load",
    "load_postgres",
    "load_sqlite",
]
