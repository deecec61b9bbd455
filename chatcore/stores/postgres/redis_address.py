"""Redis' address becomes a client: one server, one with TLS, or the master that Sentinels name.

Connections are bounded, and nothing is ever sent twice: what a lost connection had been told may have been done.
"""

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from chatcore.ports import StoreFaultError

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 1.0
MOST_CONNECTIONS = 16
"""Of the client's pool; `RedisLink` has one of its own besides."""

_SENTINEL_SECONDS = 0.5
_SENTINEL_PORT = 26379
_FROM_URL = ("ssl_", "db", "host", "port", "username", "password", "connection_class", "client_name")
_ADVICE = "Write REDIS_URL as redis://, rediss:// or redis+sentinel://host:26379,host:26379/name/0."
_NO_WRITES = ("readonly", "read only", "oom", "misconf", "noreplicas", "loading", "masterdown")


class RedisAddress:
    """The client, where it leads (for operators: no secrets), and the end of both."""

    def __init__(self, url: str) -> None:
        """Connects to nothing yet. Raises `StoreFaultError` where the address is none."""
        self._sentinel: Sentinel | None = None
        try:
            parts = urlsplit(url)
            if parts.scheme == "redis+sentinel":
                self.client, self.shown = self._through_sentinels(parts)
            else:
                self.client, self.shown = _directly(url, parts)
        except ValueError as error:
            raise StoreFaultError(f"Redis' address is not usable: {error}", _ADVICE) from None

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    def _through_sentinels(self, parts: SplitResult) -> tuple[Redis, str]:
        """Ask the Sentinels for the master before every new connection.

        User and password of the address are those of Redis; `sentinel_username` and `sentinel_password` in its query
        those of the Sentinels; `ssl=true` in it means TLS to both.
        """
        login, _, hosts = parts.netloc.rpartition("@")
        name, _, database = parts.path.strip("/").partition("/")
        if not name:
            raise ValueError("the name of the master is missing")
        given: dict[str, Any] = dict(parse_url(f"redis://h?{parts.query}"))
        del given["host"]
        secure = str(given.pop("ssl", "")).lower() in {"true", "1", "yes"}
        sentinel_login = {one: given.pop(f"sentinel_{one}", None) for one in ("username", "password")}
        tls = {"ssl": True, **_checked(given)} if secure else {}
        user, _, password = login.partition(":")
        of_redis: dict[str, Any] = {"db": int(database or 0), **tls, **_bounds()}
        if login:
            of_redis |= {"username": unquote(user) or None, "password": unquote(password) or None}
        of_sentinels = {**sentinel_login, **tls, **_bounds(), "socket_timeout": _SENTINEL_SECONDS}
        of_sentinels["socket_connect_timeout"] = _SENTINEL_SECONDS
        addresses = [_host_and_port(one) for one in hosts.split(",")]
        self._sentinel = Sentinel(addresses, sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]  # the library's
        return self._sentinel.master_for(name, **of_redis), f"{name} of the Sentinels {hosts}"


def _directly(url: str, parts: SplitResult) -> tuple[Redis, str]:
    if parts.scheme not in {"redis", "rediss"}:
        raise ValueError(f"{parts.scheme or 'no scheme'}: is not known")
    given = _checked(dict(parse_url(url)))
    pool = ConnectionPool(**given, **_bounds())
    return Redis.from_pool(pool), f"{given.get('host', 'localhost')}:{given.get('port', 6379)}"


def _bounds() -> dict[str, Any]:
    """What holds for every connection, whatever the address says."""
    return {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "max_connections": MOST_CONNECTIONS,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
    }


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name in given if not name.startswith(_FROM_URL)]
    if unknown:
        raise ValueError(f"{unknown[0]} cannot be set by it")
    return given


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(_SENTINEL_PORT)
    host = host.strip("[]")
    if not host:
        raise ValueError("a Sentinel has no host")
    return host, int(port)


def publicly(reason: str) -> str:
    """Tell why Redis is lost without an address: `/health` is read by everybody, the log by operators."""
    lowered = reason.lower()
    if "password" in lowered or "auth" in lowered:
        return "Redis does not accept the password"
    if "certificate" in lowered:
        return "Redis' certificate is not accepted"
    if any(
        word in lowered for word in ("readonly", "read only", "oom", "misconf", "noreplicas", "loading", "masterdown")
    ):
        return "Redis takes no writes"
    return "Redis cannot be reached, or does not answer in time"
