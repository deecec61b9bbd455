"""Looks at Redis before it is served from, and judges what any server is judged by: its clock, its connection."""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from chatcore.ports import Clock, StoreFaultError
from chatcore.stores.postgres.redis_address import RedisAddress

Found = tuple[Literal["ok", "warning", "FAULT"], str, str]
"""State, subject and text of what was looked at."""

MOST_CLOCK_SECONDS = 2.0
_OLDEST_REDIS = 7
_SUBJECT = "REDIS_URL"
_MILLION = 1_000_000


def look_at_redis(url: str, clock: Clock) -> Sequence[Found]:
    """Ask Redis what it is and how it is set. What is wrong is told, never raised."""
    try:
        return asyncio.run(_look(url, clock))
    except StoreFaultError as error:
        return [("FAULT", _SUBJECT, f"{error.problem}. {error.advice}")]
    except (RedisError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        return [("FAULT", _SUBJECT, f"Redis does not answer ({said}). Does it run there, and does it let us in?")]


async def _look(url: str, clock: Clock) -> list[Found]:
    address = RedisAddress(url)
    client: Any = address.client
    try:
        told: dict[str, Any] = await client.info("server")
        memory: dict[str, Any] = await client.info("memory")
        before = clock.now()
        seconds, micros = await client.time()
        theirs, middle = seconds + micros / _MILLION, (before + clock.now()) / 2
    finally:
        await address.close()
    version = str(told.get("redis_version", "0"))
    if int(version.partition(".")[0]) < _OLDEST_REDIS:
        return [("FAULT", _SUBJECT, f"{address.shown} is Redis {version}; {_OLDEST_REDIS} or newer is needed.")]
    found: list[Found] = [("ok", _SUBJECT, f"{address.shown} answers: Redis {version}.")]
    policy = str(memory.get("maxmemory_policy", ""))
    if policy == "noeviction":
        found.append(("ok", _SUBJECT, "maxmemory-policy is noeviction."))
    else:
        said = f"maxmemory-policy is {policy}: limits and replies in flight may vanish. Set noeviction."
        found.append(("warning", _SUBJECT, said))
    found.append(_encryption(url))
    found.append(compare_clocks(f"{_SUBJECT}, clock", theirs - middle, "Redis"))
    return found


def _encryption(url: str) -> Found:
    parts = urlsplit(url)
    if parts.scheme == "rediss" or "ssl=true" in parts.query:
        return ("ok", _SUBJECT, "the connection is encrypted by TLS.")
    hosts = [one.rpartition("@")[2] for one in parts.netloc.rpartition("@")[2].split(",")]
    if all(is_here(urlsplit(f"//{host}").hostname or "") for host in hosts):
        return ("ok", _SUBJECT, "the connection is not encrypted and does not leave this machine.")
    return ("warning", _SUBJECT, "the connection is not encrypted: texts and passwords can be read on their way.")


def is_here(host: str) -> bool:
    """Tell whether a host is this machine: the folder of a socket, `localhost`, an address of the loopback."""
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def compare_clocks(subject: str, ahead: float, whose: str) -> Found:
    """Judge how far a server's clock is `ahead` of ours, in seconds."""
    if abs(ahead) <= MOST_CLOCK_SECONDS:
        return ("ok", subject, f"agrees with {whose}'s to {abs(ahead):.1f} s.")
    side = "ahead of" if ahead > 0 else "behind"
    return ("warning", subject, f"{whose}'s is {abs(ahead):.1f} s {side} this machine's. Set both by NTP.")
