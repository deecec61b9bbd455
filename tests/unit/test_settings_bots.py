"""Several bots: their names, and what each has of its own."""

import pytest

from tests.support.told import NEEDED, URL, faults, one_fault, read


def test_a_bot_takes_the_common_values_unless_it_has_its_own() -> None:
    settings = read(
        {
            **NEEDED,
            "N8N_WEBHOOK_URL_SALES": "https://n8n.example.com/webhook/sales",
            "N8N_WEBHOOK_URL_HELP2": "https://n8n.example.com/webhook/help",
            "N8N_API_KEY": "common",
            "N8N_API_KEY_SALES": "own",
            "ALLOWED_ORIGINS": "https://a.example",
            "ALLOWED_ORIGINS_SALES": "https://sales.example",
            "RATE_LIMIT_PER_MINUTE_SALES": "5",
            "DAILY_MESSAGE_LIMIT": "100",
            "DAILY_MESSAGE_LIMIT_SALES": "7",
        }
    )
    default, helping, sales = settings.upstream.bots.values()
    assert [bot.name for bot in (default, helping, sales)] == ["default", "help2", "sales"]
    assert (default.api_key, helping.api_key, sales.api_key) == ("common", "common", "own")
    assert sales.allowed_origins == ("https://sales.example",)
    assert helping.allowed_origins == default.allowed_origins == ("https://a.example",)
    assert settings.cors.allowed_origins == ("https://a.example", "https://sales.example")
    assert (default.rate_limit_per_minute, sales.rate_limit_per_minute) == (60, 5)
    assert (default.daily_message_limit, default.daily_message_limit_per_address) == (100, 10)
    assert (sales.daily_message_limit, sales.daily_message_limit_per_address) == (7, 1)
    assert settings.tokens.several_bots
    assert not read(NEEDED).tokens.several_bots


@pytest.mark.parametrize(("given", "expected"), [("0", 0), ("3", 3)])
def test_the_daily_limit_of_an_address_may_be_set_for_all(given: str, expected: int) -> None:
    settings = read({**NEEDED, "DAILY_MESSAGE_LIMIT": "100", "DAILY_MESSAGE_LIMIT_PER_ADDRESS": given})
    assert settings.upstream.bots["default"].daily_message_limit_per_address == expected


def test_without_a_daily_limit_an_address_has_none() -> None:
    assert read(NEEDED).upstream.bots["default"].daily_message_limit_per_address == 0


@pytest.mark.parametrize("name", ["HEADER", "PREVIOUS", "DEFAULT", "sales", "SALES_TEAM", "2ND", "", "A" * 33, "Ä"])
def test_a_name_that_no_bot_can_have_is_refused(name: str) -> None:
    assert one_fault({**NEEDED, f"N8N_WEBHOOK_URL_{name}": URL}).variable == f"N8N_WEBHOOK_URL_{name}"


def test_reserved_names_mean_what_they_mean() -> None:
    settings = read({**NEEDED, "N8N_API_KEY": "k", "N8N_API_KEY_HEADER": "X-Key"})
    assert list(settings.upstream.bots) == ["default"]
    assert settings.upstream.bots["default"].api_key_header == "X-Key"


@pytest.mark.parametrize("prefix", ["N8N_API_KEY", "ALLOWED_ORIGINS", "RATE_LIMIT_PER_MINUTE", "DAILY_MESSAGE_LIMIT"])
def test_a_value_for_a_bot_that_does_not_exist_is_refused(prefix: str) -> None:
    fault = one_fault({**NEEDED, f"{prefix}_SALES": "1"})
    assert fault.variable == f"{prefix}_SALES"
    assert fault.example.startswith("N8N_WEBHOOK_URL_SALES=")


def test_an_empty_value_for_a_bot_is_as_none() -> None:
    assert read({**NEEDED, "N8N_WEBHOOK_URL_SALES": "", "N8N_API_KEY_OTHER": " "}) == read(NEEDED)


def test_each_bot_is_checked() -> None:
    wrong = {"N8N_WEBHOOK_URL": "x", "N8N_WEBHOOK_URL_A": "y", "RATE_LIMIT_PER_MINUTE_A": "z"}
    assert [fault.variable for fault in faults(wrong)] == [
        "N8N_WEBHOOK_URL",
        "N8N_WEBHOOK_URL_A",
        "RATE_LIMIT_PER_MINUTE_A",
    ]
