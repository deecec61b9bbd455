"""What each setting accepts, what it becomes, and what is refused."""

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network

import pytest

from chatcore.settings import Settings, SettingsError
from tests.support.told import KEYS, NEEDED, URL, faults, one_fault, read


def test_a_webhook_is_all_that_must_be_set() -> None:
    settings = read(NEEDED)
    assert settings.mode == "stateless"
    assert not settings.demo
    assert list(settings.upstream.bots) == ["default"]
    assert settings.upstream.bots["default"].url == URL
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 8000)  # noqa: S104 - the documented default
    assert settings.limits.trusted_proxies == (IPv4Network("127.0.0.1/32"), IPv6Network("::1/128"))
    assert settings.server.descriptors_wanted > settings.server.max_connections + settings.replies.max_replies_in_flight


def test_the_webhook_is_needed_unless_for_a_demo() -> None:
    fault = one_fault({})
    assert fault.variable == "N8N_WEBHOOK_URL"
    assert "--demo" in fault.expected
    settings = read({}, demo=True)
    assert settings.demo
    assert settings.upstream.bots["default"].url == ""
    assert settings.warnings == ()


def test_a_demo_says_that_it_does_not_use_the_webhook() -> None:
    settings = read({**NEEDED, "N8N_WEBHOOK_URL_SALES": "not looked at"}, demo=True)
    assert [warning.split()[0] for warning in settings.warnings] == ["N8N_WEBHOOK_URL", "N8N_WEBHOOK_URL_SALES"]
    assert set(settings.upstream.bots) == {"default", "sales"}


VALUES: list[tuple[str, str, Callable[[Settings], object], object]] = [
    ("API_PORT", "0", lambda s: s.server.port, 0),
    ("API_PORT", " 65535 ", lambda s: s.server.port, 65535),
    ("API_HOST", "::", lambda s: s.server.host, "::"),
    ("API_HOST", "LocalHost", lambda s: s.server.host, "localhost"),
    ("LOG_LEVEL", "debug", lambda s: s.log.level, "DEBUG"),
    ("LOG_FORMAT", "JSON", lambda s: s.log.format, "json"),
    ("DEMO_PAGE", "off", lambda s: s.operations.demo_page, False),
    ("SHOW_RAW_JSON", "Yes", lambda s: s.upstream.show_raw_json, True),
    ("ACCEPT_HISTORY", "1", lambda s: s.intake.accept_history, True),
    ("SHUTDOWN_DELAY_SECONDS", "0.5", lambda s: s.server.shutdown_delay_seconds, 0.5),
    ("SHUTDOWN_GRACE_SECONDS", "0", lambda s: s.server.shutdown_grace_seconds, 0.0),
    ("N8N_CONNECT_TIMEOUT_SECONDS", "2.5", lambda s: s.upstream.connect_timeout_seconds, 2.5),
    ("SESSION_TTL_HOURS", "1", lambda s: s.tokens.session_ttl_hours, 1.0),
    ("SESSION_RATE_LIMIT_PER_MINUTE", "7", lambda s: s.limits.session_rate_limit_per_minute, 7),
    ("REPLY_KEEP_SECONDS", "0", lambda s: s.replies.reply_keep_seconds, 0.0),
    ("MAX_MESSAGE_CHARS", "5", lambda s: s.intake.max_message_chars, 5),
    ("PUBLIC_URL", "https://Chat.Example.com:443/app/", lambda s: s.cors.public_url, "https://chat.example.com/app"),
    ("N8N_API_KEY", "Bearer abc", lambda s: s.upstream.bots["default"].api_key, "Bearer abc"),
    ("METRICS_TOKEN", KEYS[0], lambda s: s.operations.metrics_token, KEYS[0]),
    ("ADMIN_TOKEN", KEYS[0], lambda s: s.operations.admin_tokens, {"admin": KEYS[0]}),
    (
        "ADMIN_TOKENS",
        f"anna:{KEYS[0]}, ben:{KEYS[1]},",
        lambda s: s.operations.admin_tokens,
        {"anna": KEYS[0], "ben": KEYS[1]},
    ),
    ("UPLOAD_MAX_BYTES", "20971520", lambda s: (s.uploads.max_bytes, s.uploads.max_files), (20 << 20, 5)),
    ("UPLOAD_MAX_FILES", "3", lambda s: (s.uploads.max_bytes, s.uploads.max_files), (0, 3)),
    (
        "UPLOAD_TYPES",
        "Image/*, application/pdf,text/x-own+json,audio/*,image/*,",
        lambda s: s.uploads.types,
        ("image/*", "application/pdf", "text/x-own+json", "audio/*"),
    ),
    (
        "TRUSTED_PROXIES",
        "10.0.0.0/8, ::ffff:192.0.2.1, ::ffff:172.16.0.0/108,2001:db8::/32",
        lambda s: [str(network) for network in s.limits.trusted_proxies],
        ["10.0.0.0/8", "192.0.2.1/32", "172.16.0.0/12", "2001:db8::/32"],
    ),
    (
        "ALLOWED_ORIGINS",
        "https://A.Example:443, http://b.example:80,http://[2001:DB8:0::1]:8080,capacitor://l,https://*.E.org,https://a.example",
        lambda s: s.cors.allowed_origins,
        (
            "https://a.example",
            "http://b.example",
            "http://[2001:db8::1]:8080",
            "capacitor://l",
            "https://*.e.org",
        ),
    ),
]


@pytest.mark.parametrize(("name", "text", "value_in", "expected"), VALUES)
def test_a_good_value_is_read(name: str, text: str, value_in: Callable[[Settings], object], expected: object) -> None:
    assert value_in(read({**NEEDED, name: text})) == expected


@pytest.mark.parametrize("name", sorted({row[0] for row in VALUES}))
def test_an_empty_value_means_not_set(name: str) -> None:
    assert read({**NEEDED, name: "  "}) == read(NEEDED)


BAD = {
    "API_PORT": "-1 65536 80a 8000.0 0x50 \uff18\uff10 1e3 1_000 999999999999999999999 NaN",
    "API_HOST": "* [::1] host:80 http://host 300.1.1.1 a..b",
    "LOG_LEVEL": "loud 10 WARN",
    "LOG_FORMAT": "xml",
    "DEMO_PAGE": "maybe 2",
    "N8N_TOTAL_TIMEOUT_SECONDS": "0 -1 nan inf 1e999 1e2 .5 86401 1,5",
    "SESSION_MAX_DAYS": "0 3651",
    "RATE_LIMIT_PER_MINUTE": "0 -5 2.5 1000001",
    "DAILY_MESSAGE_LIMIT": "-1 lots",
    "MAX_CONNECTIONS": "0 1000001",
    "MAX_BODY_BYTES": "0 16777217",
    "UPLOAD_MAX_BYTES": "-1 20MB 1e9 1099511627777",
    "UPLOAD_MAX_FILES": "0 101",
    "UPLOAD_TYPES": "pdf .pdf * */* application/* image/ /png imgae/png image/png;q=1 image/p\u00f6g ,",
    "TRUSTED_PROXIES": "proxy 10.0.0.1/8 10.0.0.0/33 10 fe80::1%eth0",
    "PUBLIC_URL": "chat.example.com ftp://a/ https:// https://u:p@a https://a/?b https://a/#c https://ä.example",
    "N8N_API_KEY": "schlüssel",
    "N8N_API_KEY_HEADER": "Two.Words: Host content-length Connection X-Session-Token Transfer-Encoding x(y)",
    "METRICS_TOKEN": "a,b",
    "ADMIN_TOKENS": "nameless a:b,a:c :x x: ,",
    "ALLOWED_ORIGINS": "example.com null * https://a.example/ https://a.example/path https://u@a.example https:// "
    "https://*.com https://a*.example https://a.example:0 https://a.example:65536 https://a.example:x "
    "https://ä.example https://[::1%25lo] https://1.2.3 https://a..b",
    "N8N_WEBHOOK_URL": "n8n ftp://n8n.example/a http:///a https://a:99999/b https://a:b/c https://n8n.example/a#b "
    "https://[::1/a https://n8n.example/ä https://n8n.example/<id> https://a%3Ab:c@n8n.example/ https:n8n.example "
    "https://a:%ff@n8n.example/ https://a:%0d%0a@n8n.example/",
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts.split(" ")])
def test_a_bad_value_is_one_fault_that_tells_how_to_do_it(name: str, text: str) -> None:
    fault = one_fault({**NEEDED, name: text})
    assert fault.variable == name
    assert fault.source == "environment"
    assert fault.problem
    assert fault.expected
    assert fault.example.removeprefix("export ").startswith(f"{name}=")


@pytest.mark.parametrize("name", [name for name in BAD if name not in {"METRICS_TOKEN", "ADMIN_TOKENS", "N8N_API_KEY"}])
def test_the_example_in_a_fault_works(name: str) -> None:
    for text in BAD[name].split(" "):
        variable, _, value = one_fault({**NEEDED, name: text}).example.partition("=")
        read({**NEEDED, variable: value})


@pytest.mark.parametrize("text", ["line\nfeed", "nul\0", "\udcff", "tab\there", "x" * 40000])
def test_what_no_setting_can_be_is_refused(text: str) -> None:
    for name in ("LOG_LEVEL", "N8N_WEBHOOK_URL", "JWT_SECRET_KEY", "N8N_API_KEY", "ALLOWED_ORIGINS"):
        assert one_fault({**NEEDED, name: text}).variable == name


def test_all_faults_are_told_at_once() -> None:
    wrong = {"API_PORT": "x", "LOG_LEVEL": "x", "TRUSTED_PROXIES": "a,b", "JWT_SECRET_KEY": "short"}
    assert sorted(fault.variable for fault in faults(wrong)) == [
        "API_PORT",
        "JWT_SECRET_KEY",
        "LOG_LEVEL",
        "N8N_WEBHOOK_URL",
        "TRUSTED_PROXIES",
        "TRUSTED_PROXIES",
    ]


def test_an_origin_with_a_slash_is_told_without() -> None:
    fault = one_fault({**NEEDED, "ALLOWED_ORIGINS": "https://fine.example, HTTPS://Slash.example:443/"})
    assert fault.value == "HTTPS://Slash.example:443/"
    assert fault.example == "ALLOWED_ORIGINS=https://slash.example"


def test_every_website_is_allowed_in_a_demo_only() -> None:
    assert one_fault({**NEEDED, "ALLOWED_ORIGINS": "*"}).value == "*"
    assert read({"ALLOWED_ORIGINS": "*"}, demo=True).cors.allowed_origins == ("*",)
    assert one_fault({"ALLOWED_ORIGINS": "*,https://a.example"}, demo=True).variable == "ALLOWED_ORIGINS"


def test_credentials_leave_the_address() -> None:
    bot = read({"N8N_WEBHOOK_URL": "https://us%40er:p%3Aw%C3%A4@N8N.example:443/webhook/a?b=c"}).upstream.bots[
        "default"
    ]
    assert bot.url == "https://n8n.example/webhook/a?b=c"
    assert bot.basic_auth == ("us@er", "p:wä")


def test_two_things_cannot_go_into_one_header() -> None:
    both = {"N8N_WEBHOOK_URL": "https://u:p@n8n.example/webhook/a", "N8N_API_KEY": "k"}
    assert read(both).upstream.bots["default"].api_key == "k"
    assert "Authorization" in one_fault({**both, "N8N_API_KEY_HEADER": "authorization"}).problem
    alone = read({**NEEDED, "N8N_API_KEY": "k", "N8N_API_KEY_HEADER": "Authorization"})
    assert alone.upstream.bots["default"].api_key_header == "Authorization"


def test_defaults_give_way_to_what_was_set() -> None:
    settings = read(
        {**NEEDED, "N8N_TOTAL_TIMEOUT_SECONDS": "3", "SESSION_MAX_DAYS": "0.5", "REPLY_MEMORY_BYTES": "1000"}
    )
    assert settings.upstream.connect_timeout_seconds == 3
    assert settings.upstream.first_byte_timeout_seconds == 3
    assert settings.upstream.idle_timeout_seconds == 3
    assert (settings.tokens.session_ttl_hours, settings.tokens.session_refresh_days) == (12, 0.5)
    assert settings.replies.reply_max_bytes == settings.upstream.reply_max_bytes == 1000


@pytest.mark.parametrize(
    ("name", "value", "other", "bound", "example"),
    [
        ("N8N_FIRST_BYTE_TIMEOUT_SECONDS", "900", "N8N_TOTAL_TIMEOUT_SECONDS", None, "900"),
        ("N8N_IDLE_TIMEOUT_SECONDS", "2.5", "N8N_TOTAL_TIMEOUT_SECONDS", "2", "2.5"),
        ("REPLY_MAX_BYTES", "5000", "REPLY_MEMORY_BYTES", "4999", "5000"),
        ("SESSION_REFRESH_DAYS", "91", "SESSION_MAX_DAYS", None, "91"),
        ("SESSION_TTL_HOURS", "48", "SESSION_MAX_DAYS", "1", "2"),
    ],
)
def test_two_values_that_contradict_each_other_are_refused(
    name: str, value: str, other: str, bound: str | None, example: str
) -> None:
    fault = one_fault({**NEEDED, name: value, **({} if bound is None else {other: bound})})
    assert (fault.variable, fault.value, fault.example) == (name, value, f"{other}={example}")
    read({**NEEDED, name: value, other: example})


def test_a_challenge_needs_its_address_and_its_secret() -> None:
    address = {"CHALLENGE_VERIFY_URL": "https://verify.example/siteverify"}
    assert one_fault({**NEEDED, **address}).variable == "CHALLENGE_SECRET"
    assert one_fault({**NEEDED, "CHALLENGE_SECRET": "s"}).variable == "CHALLENGE_VERIFY_URL"
    challenge = read({**NEEDED, **address, "CHALLENGE_SECRET": "s"}).challenge
    assert challenge is not None
    assert (challenge.verify_url, challenge.secret) == ("https://verify.example/siteverify", "s")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"N8N_WEBHOOK_URL": "https://n8n.example.com/webhook-test/chat"}, "test address"),
        ({"N8N_WEBHOOK_URL": "https://n8n.example.com"}, "no path"),
        ({"TRUSTED_PROXIES": "0.0.0.0/0"}, "every address"),
        ({"MAX_BODY_BYTES": "100"}, "MAX_MESSAGE_CHARS"),
        ({"N8N_API_KEY_HEADER": "X-Other"}, "N8N_API_KEY is not set"),
        ({"METRICS_TOKEN": "short"}, "METRICS_TOKEN"),
        ({"N8N_WEBHOK_URL": "x"}, "Is N8N_WEBHOOK_URL meant?"),
        ({"api_port": "1"}, "Is API_PORT meant?"),
        ({"API_PORT_FILE": "x"}, "cannot be given as a file"),
    ],
)
def test_what_is_doubtful_gives_a_warning(environ: dict[str, str], said: str) -> None:
    with_keys = {"JWT_SECRET_KEY": KEYS[0], "SESSION_SECRET_KEY": KEYS[1]}
    (warning,) = read({**NEEDED, **with_keys, **environ}).warnings
    assert said in warning


def test_the_environment_at_large_gives_no_warning() -> None:
    around = {
        "PATH": "/bin",
        "HOME": "/",
        "LANG": "C",
        "HOSTNAME": "h",
        "DATABASE_URL": "x",
        "REDIS_URL": "y",
        "_": "z",
    }
    with_keys = {"JWT_SECRET_KEY": KEYS[0], "SESSION_SECRET_KEY": KEYS[1]}
    assert read({**NEEDED, **with_keys, **around}).warnings == ()


def test_a_misspelled_name_is_told_with_the_fault_it_causes() -> None:
    with pytest.raises(SettingsError) as refused:
        read({"N8N_WEBHOK_URL": URL})
    assert refused.value.faults[0].variable == "N8N_WEBHOOK_URL"
    assert refused.value.warnings == ("N8N_WEBHOK_URL is not read. Is N8N_WEBHOOK_URL meant?",)
