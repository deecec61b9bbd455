"""What a main was told, as frozen values, split by consumer. No value shows a secret when it is printed."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

Mode = Literal["stateless", "sqlite", "postgres"]
RandomBytes = Callable[[int], bytes]


class Discreet(msgspec.Struct, frozen=True):
    """A value whose fields named in `hidden` are printed as `***`, so that no log or trace shows them."""

    hidden: ClassVar[frozenset[str]] = frozenset()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Give the fields as they may be shown."""
        shown = []
        for field in self.__struct_fields__:
            value = getattr(self, field)
            shown.append((field, "***" if value and field in self.hidden else value))
        return shown

    def __repr__(self) -> str:
        shown = ", ".join(f"{field}={value!r}" for field, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"


class BotSettings(Discreet, frozen=True, kw_only=True):
    """One n8n webhook: where it is, how to authenticate, and its own limits.

    `url` holds no credentials: they are in `basic_auth`. `allowed_origins` as `CorsSettings.allowed_origins`.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"basic_auth", "api_key"})

    name: str
    url: str
    basic_auth: tuple[str, str] | None = None
    api_key: str | None = None
    api_key_header: str = "X-N8N-API-KEY"
    allowed_origins: tuple[str, ...] = ()
    rate_limit_per_minute: int = 60
    daily_message_limit: int = 0
    daily_message_limit_per_address: int = 0


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `serve` needs."""

    host: str = "0.0.0.0"  # noqa: S104 - a server in a container must listen on all its addresses
    port: int = 8000
    max_connections: int = 10000
    shutdown_delay_seconds: float = 0.0
    shutdown_grace_seconds: float = 30.0
    descriptors_wanted: int = 0


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `observe` needs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "WARNING"
    format: Literal["text", "json"] = "text"


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `upstream` needs: the bots by name (`default` first) and the time limits in seconds."""

    bots: Mapping[str, BotSettings]
    connect_timeout_seconds: float = 5.0
    first_byte_timeout_seconds: float = 600.0
    idle_timeout_seconds: float = 180.0
    total_timeout_seconds: float = 600.0
    show_raw_json: bool = False
    load_previous: bool = False
    reply_max_bytes: int = 4194304
    max_replies_in_flight: int = 2000


class TokenSettings(Discreet, frozen=True, kw_only=True):
    """What `tokens` needs. `jwt_secrets`: the current one signs, all verify."""

    hidden: ClassVar[frozenset[str]] = frozenset({"jwt_secrets", "session_secret", "identity_secret"})

    jwt_secrets: tuple[str, ...]
    session_secret: str
    identity_secret: str | None = None
    session_ttl_hours: float = 24.0
    session_refresh_days: float = 30.0
    session_max_days: float = 90.0
    several_bots: bool = False


class CorsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `cors` needs: exact origins and `https://*.example.com` patterns, or `*` alone with `--demo`."""

    allowed_origins: tuple[str, ...] = ()
    public_url: str | None = None


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `ratelimit` and `clientaddr` need."""

    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    rate_limit_per_minute: int = 60
    session_rate_limit_per_minute: int = 20


class IntakeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `intake` needs. `require_token`: n8n's widget may not name its session itself."""

    max_message_chars: int = 10000
    max_body_bytes: int = 262144
    accept_history: bool = False
    require_token: bool = False


class UploadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `form_data` needs. `max_bytes` of one file; 0 means that no files are accepted.

    `types`: media types as `application/pdf`, or `image/*` for all of a kind (`file_types` says what is left out).
    """

    max_bytes: int = 0
    max_files: int = 5
    types: tuple[str, ...] = ("image/*", "application/pdf", "text/plain")

    @property
    def told(self) -> Mapping[str, Any] | Literal[False]:
        """What clients are told: what a message may bring, or that it may bring nothing."""
        if not self.max_bytes:
            return False
        return {"max_bytes": self.max_bytes, "max_files": self.max_files, "types": self.types}


class ReplySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `live` and the reply log need."""

    max_replies_in_flight: int = 2000
    reply_keep_seconds: float = 3600.0
    reply_max_bytes: int = 4194304
    reply_memory_bytes: int = 268435456


class ChallengeSettings(Discreet, frozen=True, kw_only=True):
    """A `siteverify` endpoint that is asked when a session is created."""

    hidden: ClassVar[frozenset[str]] = frozenset({"secret"})

    verify_url: str
    secret: str


class OperationsSettings(Discreet, frozen=True, kw_only=True):
    """What the routes for operators and for programs need. `admin_tokens`, `openai_api_keys`: name -> secret.

    A program's key without a name has one that no operator can give: `#` and the beginning of its SHA-256.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"metrics_token", "admin_tokens", "openai_api_keys"})

    demo_page: bool = True
    metrics_token: str | None = None
    admin_tokens: Mapping[str, str] = {}
    openai_api_keys: Mapping[str, str] = {}


class SqliteSettings(Discreet, frozen=True, kw_only=True):
    """What SQLite mode needs: its file, and how long it keeps what.

    `erased_days` is how long an erased session's tokens might still be valid or refreshed.
    `new_secrets` (variable -> secret) are neither set nor in the file of kept secrets yet, where they are to be put.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"new_secrets"})

    path: Path
    cleanup_interval_hours: float = 24.0
    session_retention_days: float = 7.0
    analytics_retention_days: float = 400.0
    erased_days: float = 91.0
    backup_dir: Path | None = None
    new_secrets: Mapping[str, str] = {}

    @property
    def secrets_path(self) -> Path:
        """Where the secrets that nobody set are kept: beside the file."""
        return self.path.with_name(f"{self.path.name}.secrets")


class PostgresSettings(Discreet, frozen=True, kw_only=True):
    """What PostgreSQL mode needs: its databases, how long it keeps what, and where turns wait while none answers.

    URLs are as libpq and redis-py take them, credentials included. `admin_url` owns and migrates the schema,
    `read_url` answers reports and exports. `prepare`: statements may be prepared (not behind a pooler of transactions).
    `audit_key` None: derived from the first of `jwt_secrets`, which are those of `TokenSettings` and may be none for a
    command. `redis_url` is empty where a command was not told it. `erased_days` as in `SqliteSettings`.
    """

    hidden: ClassVar[frozenset[str]] = frozenset(
        {"url", "admin_url", "read_url", "redis_url", "audit_key", "jwt_secrets"}
    )

    url: str
    admin_url: str
    read_url: str
    redis_url: str
    pool_size: int = 10
    prepare: bool = False
    persist_strict: bool = False
    spool_path: Path = Path("spool.db")
    spool_max_bytes: int = 1073741824
    audit_key: str | None = None
    jwt_secrets: tuple[str, ...] = ()
    cleanup_interval_hours: float = 24.0
    message_retention_days: float = 365.0
    analytics_retention_days: float = 400.0
    erased_days: float = 91.0


class TracingSettings(Discreet, frozen=True, kw_only=True):
    """What `tracing` and `span_export` need: where spans go, with which headers, and how many traces of all."""

    hidden: ClassVar[frozenset[str]] = frozenset({"headers"})

    url: str
    headers: Mapping[str, str] = {}
    service_name: str = "chatcore"
    sampler: Literal["traceidratio", "parentbased_traceidratio"] = "traceidratio"
    ratio: float = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a main was told, checked."""

    mode: Mode
    demo: bool
    server: ServerSettings
    log: LogSettings
    upstream: UpstreamSettings
    tokens: TokenSettings
    cors: CorsSettings
    limits: LimitSettings
    intake: IntakeSettings
    replies: ReplySettings
    uploads: UploadSettings = UploadSettings()
    challenge: ChallengeSettings | None
    operations: OperationsSettings
    sqlite: SqliteSettings | None = None
    postgres: PostgresSettings | None = None
    tracing: TracingSettings | None = None
    warnings: tuple[str, ...] = ()

    @property
    def has_admin_page(self) -> bool:
        """Whether there are figures to show, and somebody who may see them."""
        return bool(self.operations.admin_tokens) and self.mode != "stateless"
