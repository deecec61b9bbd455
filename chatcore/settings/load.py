"""Reads everything a main is told, in one pass, and compares what must fit together."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from chatcore.settings import bots, keys, postgres, sqlite, tracing
from chatcore.settings.addresses import BIND_HOST, PUBLIC_URL, VERIFY_URL
from chatcore.settings.faults import SettingsError
from chatcore.settings.forms import MEDIA_TYPES, NETWORKS, Form, choice, number, switch, whole
from chatcore.settings.names import warn_of_unread
from chatcore.settings.reader import Reader
from chatcore.settings.sources import Layer, read_env_file
from chatcore.settings.values import (
    BotSettings,
    CorsSettings,
    IntakeSettings,
    LimitSettings,
    LogSettings,
    Mode,
    PostgresSettings,
    RandomBytes,
    ReplySettings,
    ServerSettings,
    Settings,
    SqliteSettings,
    TokenSettings,
    UploadSettings,
    UpstreamSettings,
)

# Listening sockets, logs, the event loop, name look-ups and connections that are about to be refused.
DESCRIPTORS_BESIDES = 128
LONGEST_UTF8 = 4
_DAY_HOURS = 24
_DAY_SECONDS = 86400
_N8N_MAX_BODY_BYTES = 16 << 20  # what n8n takes out of the box
_GIBIBYTE = 1 << 30
_TEBIBYTE = 1 << 40
_MANY = 1000

_LEVEL: Form[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]] = choice(
    "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", example="INFO"
)
_FORMAT: Form[Literal["text", "json"]] = choice("text", "json", example="json")
_SESSION_MAX_DAYS = number(0.001, 3650, 90)

N = TypeVar("N", int, float)


def load(
    environ: Mapping[str, str],
    mode: Mode,
    *,
    env_file: Path | None,
    overrides: Mapping[str, str],
    random_bytes: RandomBytes,
    demo: bool = False,
) -> Settings:
    """Read and check all settings.

    `overrides` (variable -> value, from options) win over `environ`, that wins over `env_file`, which must exist where
    it is named. `random_bytes` makes the keys that are not set. Apart from `env_file`, files named by `NAME_FILE` and
    the kept secrets of SQLite mode nothing is read. With `demo`, bots have an empty `url` for the caller to fill in.
    Raises `SettingsError` with every fault.
    """
    reader = _reader(environ, env_file, overrides)
    settings = _read(reader, mode, random_bytes, demo=demo)
    of_values = len(reader.warnings)
    warn_of_unread(reader)
    if reader.faults:
        raise SettingsError(reader.faults, reader.warnings[of_values:])
    return msgspec.structs.replace(settings, warnings=tuple(reader.warnings))


def load_sqlite(environ: Mapping[str, str], *, env_file: Path | None, overrides: Mapping[str, str]) -> SqliteSettings:
    """Read the settings of SQLite mode's file alone, for commands that need no n8n. Raises `SettingsError`."""
    reader = _reader(environ, env_file, overrides)
    settings = sqlite.read(reader)
    days = reader.take("SESSION_MAX_DAYS", _SESSION_MAX_DAYS, default=90.0)
    if reader.faults:
        raise SettingsError(reader.faults, reader.warnings)
    return msgspec.structs.replace(settings, erased_days=days + 1)


def load_postgres(
    environ: Mapping[str, str], *, env_file: Path | None, overrides: Mapping[str, str]
) -> PostgresSettings:
    """Read the settings of PostgreSQL mode's stores alone, for commands that need no n8n. Raises `SettingsError`.

    Keys of tokens may be missing, and Redis too.
    """
    reader = _reader(environ, env_file, overrides)
    settings = postgres.read(reader, serving=False)
    current, previous = keys.signing(reader)
    # A former key alone is none to derive the audit log's from: it would pass for the present one.
    secrets = tuple(secret for secret in (current, previous) if current and secret)
    days = reader.take("SESSION_MAX_DAYS", _SESSION_MAX_DAYS, default=90.0)
    if reader.faults:
        raise SettingsError(reader.faults, reader.warnings)
    return postgres.settle(settings, secrets, days)


def _reader(environ: Mapping[str, str], env_file: Path | None, overrides: Mapping[str, str]) -> Reader:
    layers = [Layer("options", overrides), Layer("environment", environ)]
    file_layer, faults = (None, []) if env_file is None else read_env_file(env_file)
    return Reader(layers if file_layer is None else [*layers, file_layer], faults)


def _read(reader: Reader, mode: Mode, random_bytes: RandomBytes, *, demo: bool) -> Settings:
    all_bots = bots.read(reader, demo=demo)
    replies = _replies(reader)
    file = sqlite.read(reader) if mode == "sqlite" else None
    kept = None if file is None else sqlite.kept_secrets(reader, file)
    databases = postgres.read(reader, serving=True) if mode == "postgres" else None
    keyed = keys.tokens(
        reader, random_bytes, kept, several_bots=len(all_bots) > 1, demo=demo, shared=databases is not None
    )
    tokens = _lifetimes(reader, keyed)
    challenge = keys.challenge(reader, reader.take("CHALLENGE_VERIFY_URL", VERIFY_URL, default=None))
    operations = keys.operations(reader, demo_page=reader.take("DEMO_PAGE", switch(example=True), default=True))
    api_keys = [(bots.variable("N8N_API_KEY", bot.name), bot.api_key) for bot in all_bots.values()]
    keys.refuse_equal(
        reader, tokens, challenge, operations, api_keys, None if databases is None else databases.audit_key
    )
    if databases is not None and not demo:
        postgres.warn(reader, databases)
    upstream = _upstream(reader, all_bots, replies)
    if upstream.load_previous and databases is not None:
        reader.warn("N8N_LOAD_PREVIOUS has no effect in PostgreSQL mode, which keeps the messages itself.")
    return Settings(
        mode=mode,
        demo=demo,
        server=_server(reader, replies, 0 if databases is None else postgres.descriptors(databases)),
        log=_log(reader),
        upstream=upstream,
        tokens=tokens,
        cors=_cors(reader, all_bots),
        limits=_limits(reader, all_bots),
        intake=_intake(reader),
        replies=replies,
        uploads=_uploads(reader),
        challenge=challenge,
        operations=operations,
        sqlite=file and sqlite.settle(file, kept or {}, tokens, reader.given),
        postgres=databases and postgres.settle(databases, tokens.jwt_secrets, tokens.session_max_days),
        tracing=tracing.read(reader),
    )


def _server(reader: Reader, replies: ReplySettings, of_stores: int) -> ServerSettings:
    connections = reader.take("MAX_CONNECTIONS", whole(1, 1_000_000, 10000), default=10000)
    return ServerSettings(
        host=reader.take("API_HOST", BIND_HOST, default=ServerSettings().host),
        port=reader.take("API_PORT", whole(0, 65535, 8000), default=8000),
        max_connections=connections,
        shutdown_delay_seconds=reader.take("SHUTDOWN_DELAY_SECONDS", number(0, 3600, 10), default=0.0),
        shutdown_grace_seconds=reader.take("SHUTDOWN_GRACE_SECONDS", number(0, _DAY_SECONDS, 30), default=30.0),
        descriptors_wanted=connections + replies.max_replies_in_flight + DESCRIPTORS_BESIDES + of_stores,
    )


def _log(reader: Reader) -> LogSettings:
    return LogSettings(
        level=reader.take("LOG_LEVEL", _LEVEL, default="WARNING"),
        format=reader.take("LOG_FORMAT", _FORMAT, default="text"),
    )


def _upstream(reader: Reader, all_bots: Mapping[str, BotSettings], replies: ReplySettings) -> UpstreamSettings:
    name = "N8N_TOTAL_TIMEOUT_SECONDS"
    total = reader.take(name, number(0.01, _DAY_SECONDS, 600), default=600.0)

    def seconds(part: str, default: float) -> float:
        value = reader.take(part, number(0.01, _DAY_SECONDS, default), default=default)
        return _at_most(reader, part, value, (name, total))

    return UpstreamSettings(
        bots=all_bots,
        connect_timeout_seconds=seconds("N8N_CONNECT_TIMEOUT_SECONDS", 5.0),
        first_byte_timeout_seconds=seconds("N8N_FIRST_BYTE_TIMEOUT_SECONDS", 600.0),
        idle_timeout_seconds=seconds("N8N_IDLE_TIMEOUT_SECONDS", 180.0),
        total_timeout_seconds=total,
        show_raw_json=reader.take("SHOW_RAW_JSON", switch(example=True), default=False),
        load_previous=reader.take("N8N_LOAD_PREVIOUS", switch(example=True), default=False),
        reply_max_bytes=replies.reply_max_bytes,
        max_replies_in_flight=replies.max_replies_in_flight,
    )


def _lifetimes(reader: Reader, tokens: TokenSettings) -> TokenSettings:
    days = reader.take("SESSION_MAX_DAYS", _SESSION_MAX_DAYS, default=90.0)
    hours = reader.take("SESSION_TTL_HOURS", number(0.001, 3650 * _DAY_HOURS, 24), default=24.0)
    refresh = reader.take("SESSION_REFRESH_DAYS", number(0, 3650, 30), default=30.0)
    return msgspec.structs.replace(
        tokens,
        session_ttl_hours=_at_most(reader, "SESSION_TTL_HOURS", hours, ("SESSION_MAX_DAYS", days), _DAY_HOURS),
        session_refresh_days=_at_most(reader, "SESSION_REFRESH_DAYS", refresh, ("SESSION_MAX_DAYS", days)),
        session_max_days=days,
    )


def _cors(reader: Reader, all_bots: Mapping[str, BotSettings]) -> CorsSettings:
    every = dict.fromkeys(origin for bot in all_bots.values() for origin in bot.allowed_origins)
    return CorsSettings(
        allowed_origins=("*",) if "*" in every else tuple(every),
        public_url=reader.take("PUBLIC_URL", PUBLIC_URL, default=None),
    )


def _limits(reader: Reader, all_bots: Mapping[str, BotSettings]) -> LimitSettings:
    proxies = reader.take("TRUSTED_PROXIES", NETWORKS, default=NETWORKS.parse("127.0.0.1,::1"))
    if any(network.prefixlen == 0 for network in proxies):
        reader.warn("TRUSTED_PROXIES trusts every address, so visitors can choose the address they are limited by.")
    return LimitSettings(
        trusted_proxies=proxies,
        rate_limit_per_minute=all_bots[bots.DEFAULT].rate_limit_per_minute,
        session_rate_limit_per_minute=reader.take("SESSION_RATE_LIMIT_PER_MINUTE", bots.RATE, default=20),
    )


def _intake(reader: Reader) -> IntakeSettings:
    chars = reader.take("MAX_MESSAGE_CHARS", whole(1, 1_000_000, 10000), default=10000)
    size = reader.take("MAX_BODY_BYTES", whole(1, _N8N_MAX_BODY_BYTES, 262144), default=262144)
    if size < chars * LONGEST_UTF8:
        reader.warn(
            f"MAX_BODY_BYTES ({size}) does not hold every message of MAX_MESSAGE_CHARS ({chars}): "
            f"a character may take {LONGEST_UTF8} bytes."
        )
    return IntakeSettings(
        max_message_chars=chars,
        max_body_bytes=size,
        accept_history=reader.take("ACCEPT_HISTORY", switch(example=True), default=False),
        require_token=reader.take("REQUIRE_TOKEN", switch(example=True), default=False),
    )


def _uploads(reader: Reader) -> UploadSettings:
    usual = UploadSettings()
    return UploadSettings(
        max_bytes=reader.take("UPLOAD_MAX_BYTES", whole(0, _TEBIBYTE, 20 << 20), default=usual.max_bytes),
        max_files=reader.take("UPLOAD_MAX_FILES", whole(1, 100, usual.max_files), default=usual.max_files),
        types=reader.take("UPLOAD_TYPES", MEDIA_TYPES, default=usual.types),
    )


def _replies(reader: Reader) -> ReplySettings:
    memory = reader.take("REPLY_MEMORY_BYTES", whole(1, _TEBIBYTE, 256 << 20), default=256 << 20)
    largest = reader.take("REPLY_MAX_BYTES", whole(1, _GIBIBYTE, 4 << 20), default=4 << 20)
    return ReplySettings(
        max_replies_in_flight=reader.take("MAX_REPLIES_IN_FLIGHT", whole(1, 1_000_000, 2000), default=2000),
        reply_keep_seconds=reader.take("REPLY_KEEP_SECONDS", number(0, 30 * _DAY_SECONDS, 3600), default=3600.0),
        reply_max_bytes=_at_most(reader, "REPLY_MAX_BYTES", largest, ("REPLY_MEMORY_BYTES", memory)),
        reply_memory_bytes=memory,
    )


def _at_most(reader: Reader, name: str, value: N, other: tuple[str, N], per_unit: int = 1) -> N:
    """Hold `value` to the `other` setting, of which one unit is `per_unit` of this one's.

    A default gives way in silence; what was set is refused.
    """
    bound_name, bound = other
    limit = bound * per_unit
    if value <= limit:
        return value
    if name in reader.given and not reader.is_faulty(bound_name):
        enough = f"{bound_name}={_plain(value / per_unit)}"
        problem = f"is more than {bound_name} ({_plain(bound)}) allows, so it would never be reached"
        reader.refuse(name, problem, f"{_plain(limit)} or less, or a larger {bound_name}", enough, _plain(value))
    return limit


def _plain(value: float) -> str:
    """Write a number as a setting would be written: rounded up to whole ones where it has many digits."""
    return str(ceil(value)) if value >= _MANY or value == ceil(value) else f"{value:.3f}".rstrip("0")
