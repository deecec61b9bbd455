"""Settings as a test tells them: read from a dictionary, with random bytes that are the same in every run."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from chatcore.settings import Fault, Mode, Settings, SettingsError, load

URL = "https://n8n.example.com/webhook/chat"
NEEDED = {"N8N_WEBHOOK_URL": URL}
KEYS = [f"{number:02}-a-key-of-tests-that-is-long-enough" for number in range(4)]
DATABASES = {
    "DATABASE_URL": "postgresql://app:pw@db.example.com/chat",
    "REDIS_URL": "redis://redis.example.com:6379/0",
}
NEEDED_BY: Mapping[Mode, Mapping[str, str]] = {
    "stateless": NEEDED,
    "sqlite": NEEDED,
    "postgres": {**NEEDED, **DATABASES, "JWT_SECRET_KEY": KEYS[0], "SESSION_SECRET_KEY": KEYS[1]},
}
"""What must be set at least, by mode."""


def read(
    environ: Mapping[str, str],
    *,
    mode: Mode = "stateless",
    demo: bool = False,
    env_file: Path | None = None,
    **overrides: str,
) -> Settings:
    """Read the settings of a mode from `environ`."""
    made = count(1)
    return load(
        environ,
        mode,
        env_file=env_file,
        overrides=overrides,
        random_bytes=lambda size: next(made).to_bytes(size, "big"),
        demo=demo,
    )


def faults(environ: Mapping[str, str], **options: Any) -> tuple[Fault, ...]:
    """Give the faults of settings that must have some."""
    with pytest.raises(SettingsError) as refused:
        read(environ, **options)
    return refused.value.faults


def one_fault(environ: Mapping[str, str], **options: Any) -> Fault:
    """Give the only fault of settings that must have just one."""
    (fault,) = faults(environ, **options)
    return fault
