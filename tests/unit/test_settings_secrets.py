"""Secrets: which are refused, what serves where none is set, and that none is ever shown."""

import pytest

from chatcore.settings import SettingsError
from tests.support.told import KEYS, NEEDED, URL, faults, one_fault, read

FOUR = ("JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS", "SESSION_SECRET_KEY", "IDENTITY_SECRET_KEY")
GIVEN = {**NEEDED, **dict(zip(FOUR, KEYS, strict=True))}


def test_good_keys_are_taken() -> None:
    tokens = read(GIVEN).tokens
    assert tokens.jwt_secrets == (KEYS[0], KEYS[1])
    assert (tokens.session_secret, tokens.identity_secret) == (KEYS[2], KEYS[3])


def test_keys_that_are_not_set_are_random_and_that_is_told() -> None:
    settings = read(NEEDED)
    assert settings.tokens.jwt_secrets == (f"{1:064x}",)
    assert settings.tokens.session_secret == f"{2:064x}"
    jwt, session = settings.warnings
    assert "end with the process" in jwt
    assert "n8n cannot validate" in session


@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize(
    "text",
    [
        "x" * 31,
        "your-jwt-secret-key-of-at-least-32-characters",
        "please-change-this-in-production-0123456789",
        "CHANGEME-CHANGEME-CHANGEME-CHANGEME",
        "your-super-secure-secret-your-super-secure",
        "<a-secret-of-at-least-32-bytes-for-jwt>",
        "$(openssl rand -hex 32) and something more",
    ],
)
def test_a_weak_key_is_refused_with_a_line_that_makes_a_good_one(name: str, text: str) -> None:
    fault = one_fault({**GIVEN, name: text})
    assert fault.variable == name
    assert fault.value is None
    assert text not in repr(fault)
    assert fault.example == f"export {name}=$(python3 -c 'import secrets; print(secrets.token_hex(32))')"


def test_length_is_counted_in_bytes() -> None:
    assert read({**GIVEN, "JWT_SECRET_KEY": "ä" * 16}).tokens.jwt_secrets[0] == "ä" * 16


def test_white_space_around_a_key_is_refused() -> None:
    assert one_fault({**GIVEN, "JWT_SECRET_KEY": f"{KEYS[0]} "}).variable == "JWT_SECRET_KEY"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("JWT_SECRET_KEY_PREVIOUS", KEYS[0]),
        ("SESSION_SECRET_KEY", KEYS[0]),
        ("IDENTITY_SECRET_KEY", KEYS[2]),
        ("METRICS_TOKEN", KEYS[0]),
        ("ADMIN_TOKENS", f"anna:{KEYS[2]}"),
        ("N8N_API_KEY", KEYS[0]),
    ],
)
def test_equal_secrets_are_refused(name: str, text: str) -> None:
    fault = one_fault({**GIVEN, name: text})
    assert fault.variable.startswith(name)
    assert "is equal to" in fault.problem


def test_bots_may_share_a_key_of_n8n() -> None:
    read({**NEEDED, "N8N_WEBHOOK_URL_B": URL, "N8N_API_KEY": "k", "N8N_API_KEY_B": "k"})


def test_a_previous_key_needs_a_present_one() -> None:
    assert one_fault({**NEEDED, "JWT_SECRET_KEY_PREVIOUS": KEYS[0]}).variable == "JWT_SECRET_KEY_PREVIOUS"


def test_an_administrator_has_one_token() -> None:
    both = {**NEEDED, "ADMIN_TOKEN": KEYS[0], "ADMIN_TOKENS": f"admin:{KEYS[1]}"}
    assert one_fault(both).variable == "ADMIN_TOKEN"
    tokens = read({**both, "ADMIN_TOKENS": f"anna:{KEYS[1]}"}).operations.admin_tokens
    assert tokens == {"anna": KEYS[1], "admin": KEYS[0]}


def test_placeholders_of_operators_are_refused() -> None:
    assert one_fault({**NEEDED, "METRICS_TOKEN": "your-metrics-token"}).variable == "METRICS_TOKEN"
    assert one_fault({**NEEDED, "ADMIN_TOKEN": "change-me"}).variable == "ADMIN_TOKEN"


MARK = "S3cretMark"
LONG = f"{MARK}-with-enough-bytes-to-be-taken-as-a-key"
SECRETS = {
    "N8N_WEBHOOK_URL": f"https://user:{MARK}@n8n.example/webhook/a",
    "N8N_WEBHOOK_URL_B": f"https://{MARK}@n8n.example/webhook/b",
    "N8N_API_KEY": f"{MARK}-api",
    "N8N_API_KEY_B": f"{MARK}-api-b",
    "JWT_SECRET_KEY": f"{LONG}-1",
    "JWT_SECRET_KEY_PREVIOUS": f"{LONG}-2",
    "SESSION_SECRET_KEY": f"{LONG}-3",
    "IDENTITY_SECRET_KEY": f"{LONG}-4",
    "CHALLENGE_VERIFY_URL": "https://verify.example/",
    "CHALLENGE_SECRET": f"{MARK}-challenge",
    "METRICS_TOKEN": f"{MARK}-metrics",
    "ADMIN_TOKENS": f"anna:{MARK}-anna",
    "ADMIN_TOKEN": f"{MARK}-admin",
}


def test_settings_never_show_a_secret() -> None:
    settings = read(SECRETS)
    assert settings.upstream.bots["default"].basic_auth == ("user", MARK)
    parts = [settings, settings.tokens, settings.challenge, settings.operations, *settings.upstream.bots.values()]
    assert MARK not in repr(parts)
    assert MARK not in f"{settings}"
    assert MARK not in str(settings.__rich_repr__())
    assert MARK not in " ".join(settings.warnings)


@pytest.mark.parametrize("spoiled", ["{}\n", " {}", "{}ä,", "a, {}", "\udcff{}", "{}\0"])
def test_faults_never_show_a_secret(spoiled: str) -> None:
    wrong = {name: spoiled.format(value) for name, value in SECRETS.items()}
    with pytest.raises(SettingsError) as refused:
        read(wrong)
    assert MARK not in repr(refused.value.faults) + str(refused.value) + repr(refused.value.warnings)


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{MARK}@",
        f"user:{MARK}@n8n.example",
        f"https://user:{MARK}/x@n8n.example/a",
        f"https://user:{MARK}#x@n8n.example/a",
        f"https://user:{MARK}?x@n8n.example/a",
        f"https://user:{MARK}",
        f"https://n8n.example:{MARK}/a",
        f"https://n8n.example/ä?token={MARK}",
        f"ftp://n8n.example/a#{MARK}",
    ],
)
def test_an_address_is_shown_without_what_may_be_a_password(url: str) -> None:
    found = faults({"N8N_WEBHOOK_URL": url, "PUBLIC_URL": url, "ALLOWED_ORIGINS": url})
    assert {fault.variable for fault in found} >= {"N8N_WEBHOOK_URL", "PUBLIC_URL"}
    assert MARK not in repr(found)


def test_a_misspelled_secret_is_not_shown() -> None:
    (warning,) = [said for said in read({**NEEDED, "JWT_SECRET_KEI": MARK}).warnings if "KEI" in said]
    assert MARK not in warning
