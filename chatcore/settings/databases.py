"""The forms of the addresses of PostgreSQL and Redis, written as their own libraries read them; pure."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from chatcore.settings.addresses import authority, decoded, need_uri
from chatcore.settings.faults import BadValueError
from chatcore.settings.forms import Form

_PARTS = re.compile(r"([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.ASCII)
_NOT_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
_NAME = re.compile(r"[a-z][a-z_]{0,39}", re.ASCII)
_MASTER = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_INDEX = re.compile(r"[0-9]{1,5}", re.ASCII)
_POSTGRES = "postgresql://"
_POSTGRES_TOO = (_POSTGRES, "postgres://", "postgresql+psycopg://")
_REDIS, _REDIS_TLS, _SENTINEL = "redis://", "rediss://", "redis+sentinel://"

Words = Mapping[str, tuple[str, ...]]
"""Parameters by name, with the words that each may be; none: any text."""

# PostgreSQL 17, section 32.1.2, without those that stand elsewhere in the address or are the program's own.
_OF_LIBPQ: Words = {
    **dict.fromkeys(
        (
            "host",
            "hostaddr",
            "port",
            "passfile",
            "connect_timeout",
            "options",
            "application_name",
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
            "tcp_user_timeout",
            "sslcert",
            "sslkey",
            "sslpassword",
            "sslrootcert",
            "sslcrl",
            "sslcrldir",
            "sslsni",
            "requirepeer",
            "require_auth",
            "ssl_min_protocol_version",
            "ssl_max_protocol_version",
            "krbsrvname",
            "gsslib",
        ),
        (),
    ),
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "sslcertmode": ("disable", "allow", "require"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "load_balance_hosts": ("disable", "random"),
}
_TLS_OF_REDIS: Words = {
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"), ()),
    "ssl_cert_reqs": ("none", "optional", "required"),
    "ssl_check_hostname": ("true", "false"),
}
_OF_SENTINEL: Words = {**_TLS_OF_REDIS, "ssl": ("true", "false"), "sentinel_username": (), "sentinel_password": ()}
_OF_REDIS: Mapping[str, Words] = {_REDIS: {}, _REDIS_TLS: _TLS_OF_REDIS, _SENTINEL: _OF_SENTINEL}


class _Address(NamedTuple):
    """An address in its parts, percent-encoded as it was written; `login` ends in `@` where there is one."""

    login: str
    hosts: tuple[str, ...]
    path: str
    parameters: tuple[tuple[str, str], ...]

    def under(self, scheme: str, path: str) -> str:
        """Put it together again."""
        query = "&".join(f"{name}={value}" for name, value in self.parameters)
        return f"{scheme}{self.login}{','.join(self.hosts)}/{path}{'?' if query else ''}{query}"


def _take_apart(text: str, scheme: str, words: Words) -> _Address:
    """Take apart what stands behind the scheme. Raises `BadValueError`."""
    need_uri(text)
    if _NOT_ENCODED.search(text):
        raise BadValueError("has a % that begins no percent-encoded character; a % itself is written %25")
    parts = _PARTS.fullmatch(text[len(scheme) :])
    login, at, place = ("", "", "") if parts is None else parts[1].rpartition("@")
    if parts is None or "@" in login or ("@" in text and not at):
        raise BadValueError("has an @ / ? or # in a user name or password; write %40 %2F %3F %23")
    decoded(login)
    parameters = tuple(_parameter(pair, words) for pair in (parts[3] or "").split("&") if pair)
    if len({name for name, _ in parameters}) < len(parameters):
        raise BadValueError("has a parameter twice behind the ?")
    return _Address(login + at, tuple(place.split(",")), parts[2].removeprefix("/"), parameters)


def _parameter(pair: str, words: Words) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    if name not in words:
        named = f": {name}" if _NAME.fullmatch(name) else ""  # anything else may be a piece of a password
        raise BadValueError(f"has a parameter behind the ? that is not known{named}")
    if not value or "=" in value:
        raise BadValueError(f"has a parameter behind the ? without one value: {name}")
    if words[name] and value not in words[name]:
        raise BadValueError(f"has a parameter {name} that is none of {', '.join(words[name])}")
    return name, value


def _host_of_postgres(text: str) -> str:
    """Give `host[:port]`; a socket's folder stays as it is."""
    return text if decoded(text).startswith("/") else authority("postgresql", text)


def _parse_postgres(text: str) -> str:
    lowered = text.lower()
    scheme = next((known for known in _POSTGRES_TOO if lowered.startswith(known)), None)
    if scheme is None:
        raise BadValueError("does not begin with postgresql://")
    address = _take_apart(text, scheme, _OF_LIBPQ)
    elsewhere = any(name in {"host", "hostaddr"} for name, _ in address.parameters)
    if not (address.hosts == ("",) and elsewhere):
        address = address._replace(hosts=tuple(_host_of_postgres(host) for host in address.hosts))
    if not address.login.rstrip("@").partition(":")[0]:
        raise BadValueError("names no user")
    if not address.path:
        raise BadValueError("names no database")
    if "/" in address.path:
        raise BadValueError("has more than the database's name behind the host")
    decoded(address.path)
    return address.under(_POSTGRES, address.path)


def _parse_redis(text: str) -> str:
    lowered = text.lower()
    scheme = next((known for known in _OF_REDIS if lowered.startswith(known)), None)
    if scheme is None:
        raise BadValueError("does not begin with redis://, rediss:// or redis+sentinel://")
    address = _take_apart(text, scheme, _OF_REDIS[scheme])
    if address.login and ":" not in address.login:
        raise BadValueError("has a user name without a password; a password alone is written :password@")
    if len(address.hosts) > 1 and scheme != _SENTINEL:
        raise BadValueError("names several hosts, which only redis+sentinel:// may")
    address = address._replace(hosts=tuple(authority("redis", host) for host in address.hosts))
    master, path = "", address.path
    if scheme == _SENTINEL:
        master, _, path = path.partition("/")
        if not _MASTER.fullmatch(master):
            raise BadValueError("does not name the master behind the hosts")
        if ("ssl", "true") not in address.parameters and any(name in _TLS_OF_REDIS for name, _ in address.parameters):
            raise BadValueError("says how to use TLS, but not ssl=true, so that nothing would be encrypted")
        master += "/"
    if path and not _INDEX.fullmatch(path):
        raise BadValueError("has a database that is no number")
    return address.under(scheme, f"{master}{int(path or '0')}")


POSTGRES = Form(
    _parse_postgres,
    "postgresql://user:password@host:port/database, perhaps several hosts and ?sslmode=… as libpq takes them; "
    "percent-encode what is special in user and password",
    "postgresql://chatcore:password@db.example.com:5432/chatcore",
    "url",
    file=True,
)
REDIS = Form(
    _parse_redis,
    "redis://user:password@host:port/0, rediss:// for TLS, or redis+sentinel://host:26379,host:26379/master/0; "
    "percent-encode what is special in user and password",
    "redis://redis.example.com:6379/0",
    "url",
    file=True,
)
