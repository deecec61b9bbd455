"""For any environment and any file: settings or faults, never another exception."""

import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcore.settings import Settings, SettingsError
from tests.support.told import NEEDED, read

COMMON = """
    API_HOST API_PORT PUBLIC_URL TRUSTED_PROXIES MAX_CONNECTIONS SHUTDOWN_GRACE_SECONDS LOG_LEVEL DEMO_PAGE
    N8N_WEBHOOK_URL N8N_WEBHOOK_URL_FILE N8N_API_KEY N8N_API_KEY_HEADER N8N_TOTAL_TIMEOUT_SECONDS ALLOWED_ORIGINS
    N8N_IDLE_TIMEOUT_SECONDS SESSION_TTL_HOURS SESSION_MAX_DAYS JWT_SECRET_KEY JWT_SECRET_KEY_PREVIOUS ADMIN_TOKENS
    ADMIN_TOKEN CHALLENGE_VERIFY_URL CHALLENGE_SECRET METRICS_TOKEN REPLY_MAX_BYTES REPLY_MEMORY_BYTES
    ACCEPT_HISTORY DAILY_MESSAGE_LIMIT
"""
ODD = ("N8N_WEBHOOK_URL_B", "ALLOWED_ORIGINS_B", "N8N_API_KEY_B_FILE", "N8N_WEBHOOK_URL_", "_", "api_port", "")
PIECES = st.sampled_from(
    [
        *(
            "http",
            "https",
            "://",
            ":",
            "/",
            "?",
            "#",
            "@",
            "[",
            "]",
            "%",
            "%00",
            "%zz",
            "::1",
            "1.2.3.4",
            "/8",
            "*.",
            "*",
        ),
        *("n8n.example", ",", "-", "+", ".", "0", "1", "99999", "1e9", "nan", "inf", "true", "\n", "\0", "\udcff", "ä"),
    ]
)
TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=40),
    st.lists(PIECES, max_size=8).map("".join),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(str),
)
ENVIRONMENTS = st.dictionaries(st.sampled_from([*COMMON.split(), *ODD]), TEXTS, max_size=12)


def outcome(environ: dict[str, str], env_file: Path | None = None, *, demo: bool = False) -> Settings | SettingsError:
    try:
        return read(environ, demo=demo, env_file=env_file)
    except SettingsError as error:
        return error


@given(ENVIRONMENTS, st.sampled_from(["bare", "webhook", "demo"]))
def test_any_environment_gives_settings_or_faults(environ: dict[str, str], start: str) -> None:
    found = outcome({**(NEEDED if start == "webhook" else {}), **environ}, demo=start == "demo")
    assert repr(found)
    if isinstance(found, SettingsError):
        assert found.faults
        for fault in found.faults:
            assert fault.variable
            assert fault.problem
            assert fault.expected
            assert f"{fault} {fault.expected} {fault.example}".isprintable()


@given(st.binary(max_size=300) | st.text(string.printable, max_size=300).map(str.encode))
def test_any_file_gives_settings_or_faults(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        assert repr(outcome(NEEDED, Path(file.name)))


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "/dev/null", "/dev/zero", "."])
def test_any_path_gives_settings_or_faults(path: str) -> None:
    assert isinstance(outcome({**NEEDED, "JWT_SECRET_KEY_FILE": path}), SettingsError)
