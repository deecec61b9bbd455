"""Keys of programs that speak OpenAI's API: their forms, their names, and what is refused."""

from hashlib import sha256
from pathlib import Path

import pytest

from chatcore.settings import SettingsError
from tests.support.told import KEYS, NEEDED, faults, one_fault, read

LONG = "sk-a-key-of-a-program-that-is-long-enough"
MORE = "sk-a-key-of-another-that-is-long-enough-too"


def keys(text: str) -> dict[str, str]:
    return dict(read({**NEEDED, "OPENAI_API_KEYS": text}).operations.openai_api_keys)


def test_none_are_set_by_default() -> None:
    assert dict(read(NEEDED).operations.openai_api_keys) == {}


def test_a_key_may_have_a_name_or_none() -> None:
    nameless = "#" + sha256(MORE.encode()).hexdigest()[:32]
    assert keys(f"webui:{LONG}, {MORE},") == {"webui": LONG, nameless: MORE}


def test_they_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"webui:{LONG}\n", "utf-8")
    settings = read({**NEEDED, "OPENAI_API_KEYS_FILE": str(tmp_path / "keys")})
    assert dict(settings.operations.openai_api_keys) == {"webui": LONG}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (",", "holds no entry"),
        (f"{LONG},:{MORE}", "entry 2 is neither"),
        (f"a b:{LONG}", "entry 1 is neither"),
        (f"webui:{LONG} x", "entry 1 is neither"),
        (f"webui:{LONG},webui:{MORE}", "entry 2 repeats"),
        (f"webui:{LONG},{LONG}", "entry 2 repeats"),
        (f"{LONG},{LONG}", "entry 2 repeats"),
    ],
)
def test_what_is_no_list_of_keys_is_refused(text: str, problem: str) -> None:
    fault = one_fault({**NEEDED, "OPENAI_API_KEYS": text})
    assert fault.variable == "OPENAI_API_KEYS"
    assert fault.problem.startswith(problem)
    assert LONG not in repr(fault)


def test_a_short_key_gives_a_warning_and_a_placeholder_is_refused() -> None:
    warnings = [told for told in read({**NEEDED, "OPENAI_API_KEYS": "sk-short"}).warnings if "OPENAI" in told]
    assert len(warnings) == 1
    assert "OPENAI_API_KEYS (entry 1) has fewer than 32 bytes" in warnings[0]
    assert "sk-short" not in warnings[0]
    fault = one_fault({**NEEDED, "OPENAI_API_KEYS": "webui:your-api-key-of-at-least-32-characters"})
    assert "placeholder" in fault.problem


@pytest.mark.parametrize(
    "name", ["JWT_SECRET_KEY", "SESSION_SECRET_KEY", "METRICS_TOKEN", "ADMIN_TOKEN", "N8N_API_KEY"]
)
def test_a_key_serves_no_other_purpose(name: str) -> None:
    found = faults({**NEEDED, name: KEYS[0], "OPENAI_API_KEYS": f"webui:{LONG},{KEYS[0]}"})
    assert any("is equal to" in fault.problem for fault in found)
    assert KEYS[0] not in repr(found)


def test_no_key_is_ever_shown() -> None:
    settings = read({**NEEDED, "OPENAI_API_KEYS": f"webui:{LONG},{MORE}"})
    assert LONG not in repr(settings)
    assert MORE not in repr(settings)
    with pytest.raises(SettingsError) as refused:
        read({"OPENAI_API_KEYS": f"webui:{LONG}"})
    assert LONG not in str(refused.value)
