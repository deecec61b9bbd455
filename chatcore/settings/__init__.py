"""Environment -> frozen `Settings`, split by consumer; every fault at once."""

from chatcore.settings.faults import Fault, SettingsError
from chatcore.settings.load import load
from chatcore.settings.values import (
    BotSettings,
    ChallengeSettings,
    CorsSettings,
    IntakeSettings,
    LimitSettings,
    LogSettings,
    Mode,
    OperationsSettings,
    ReplySettings,
    ServerSettings,
    Settings,
    TokenSettings,
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
    "ReplySettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "TokenSettings",
    "UpstreamSettings",
    "load",
]
