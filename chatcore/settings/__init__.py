"""Environment -> frozen `Settings`, split by consumer; every fault at once."""

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
    "IntakeSettings",
    "LimitSettings",
    "LogSettings",
    "Mode",
    "OperationsSettings",
    "ReplySettings",
    "ServerSettings",
    "Settings",
    "TokenSettings",
    "UpstreamSettings",
]
