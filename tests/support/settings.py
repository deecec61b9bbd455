"""Whole settings for tests that need all of them in the process: a plain stateless server, changed part by part."""

from ipaddress import ip_network
from typing import Any

from msgspec.structs import replace

from chatcore.settings import (
    BotSettings,
    CorsSettings,
    IntakeSettings,
    LimitSettings,
    LogSettings,
    OperationsSettings,
    ReplySettings,
    ServerSettings,
    Settings,
    TokenSettings,
    UpstreamSettings,
)

PLAIN = Settings(
    mode="stateless",
    demo=False,
    server=ServerSettings(host="127.0.0.1", port=8123),
    log=LogSettings(),
    upstream=UpstreamSettings(bots={"default": BotSettings(name="default", url="http://n8n.test/webhook/secret")}),
    tokens=TokenSettings(jwt_secrets=("j" * 32,), session_secret="s" * 32),
    cors=CorsSettings(),
    limits=LimitSettings(trusted_proxies=(ip_network("127.0.0.1/32"), ip_network("::1/128"))),
    intake=IntakeSettings(),
    replies=ReplySettings(),
    challenge=None,
    operations=OperationsSettings(),
)


def settings_with(**changes: Any) -> Settings:
    """Give plain settings with some parts changed: `operations={"demo_page": False}`, `mode="sqlite"`."""
    parts = {
        name: replace(getattr(PLAIN, name), **change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    return replace(PLAIN, **parts)
