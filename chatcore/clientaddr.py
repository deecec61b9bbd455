"""The visitor's address behind trusted proxies: what limits count by, and what logs may show.

`X-Forwarded-For` is a list to which every proxy adds the peer it sees, on the right. Whatever a visitor sends himself
is thus on the left, so it is read from the right: trusted proxies are skipped, the first other address is the visitor.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import msgspec

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Addresses that a proxy of ours may have, rather than a visitor from the Internet (RFC 1918, 4193, 3927, 6598 …).
# Python's `is_private` also has the networks for documentation, which are nobody's.
_PRIVATE = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10",
        "fc00::/7", "fe80::/10", "::1/128",
    )
)  # fmt: skip
_MOST_HOPS = 32
_LONGEST_ENTRY = 64  # an IPv6 address with brackets, zone and port
_LONGEST_CACHED = 256
_CACHED = 4096


class Client(msgspec.Struct, frozen=True, gc=False):
    """A visitor's address: whole, as limits count it (IPv6 by its /64), and as logs may show it (/24, /48).

    `suspicious`: forwarding headers came from a private address that is not trusted, so `TRUSTED_PROXIES` most
    likely lacks a proxy and all visitors share one limit.
    """

    address: str
    limit_key: str
    masked: str
    suspicious: bool = False


_UNKNOWN = Client("unknown", "unknown", "unknown")


class Addresses:
    """Finds visitors' addresses, given the networks of the proxies that are believed."""

    def __init__(self, trusted: Iterable[Network]) -> None:
        """Believe forwarding headers from `trusted`, and from nobody else."""
        self._trusted = tuple(trusted)
        self._peers = lru_cache(_CACHED)(self._peer)
        self._clients = lru_cache(_CACHED)(self._client)

    def of(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> Client:
        """Give the visitor's address of a request.

        `peer` is the connection's address (`None` where there is none, a Unix socket: `unknown`), `headers` are
        ASGI's pairs, names in lower case. Never raises: what cannot be read is not believed.
        """
        if peer is None:
            return _UNKNOWN
        direct, trusted, private = self._peers(peer[:_LONGEST_ENTRY])
        if not (trusted or private):
            return direct
        forwarded: list[bytes] = []
        real: list[bytes] = []
        for name, value in headers:
            if name == b"x-forwarded-for":
                forwarded.append(value)
            elif name == b"x-real-ip":
                real.append(value)
        if not (forwarded or real):
            return direct
        if not trusted:
            return Client(direct.address, direct.limit_key, direct.masked, suspicious=True)
        joined = forwarded[0] if len(forwarded) == 1 else b",".join(forwarded)
        if not joined.strip(b", \t"):
            # Two lines of X-Real-IP contradict each other; joined they are no address, so none is believed.
            joined = b" ".join(real)
        if len(joined) > _LONGEST_CACHED:
            return self._client(direct.address, joined)
        return self._clients(direct.address, joined)

    def trusts(self, peer: str | None) -> bool:
        """Tell whether the connection's address is one whose forwarding headers are believed."""
        return peer is not None and self._peers(peer)[1]

    def _peer(self, peer: str) -> tuple[Client, bool, bool]:
        address = _parse(peer)
        if address is None:
            return _UNKNOWN, False, False
        return _describe(address), _within(address, self._trusted), _within(address, _PRIVATE)

    def _client(self, peer: str, forwarded: bytes) -> Client:
        """Walk from the right. Junk ends the walk: what lies left of it was never seen by a proxy that is trusted."""
        believed = ip_address(peer)
        # More hops than any real path has are not looked at: the work is bounded, whatever the header's length.
        for entry in reversed(forwarded.rsplit(b",", _MOST_HOPS)[-_MOST_HOPS:]):
            address = _parse(entry.decode("latin-1"))
            if address is None:
                break
            believed = address
            if not _within(address, self._trusted):
                break
        return _describe(believed)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _parse(entry: str) -> Address | None:
    """Read `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]:80`, `fe80::1%eth0`; `None` for anything else.

    IPv4 inside IPv6 (`::ffff:1.2.3.4`) is the IPv4 address it is: otherwise one visitor would have two limits.
    """
    text = entry.strip(" \t")
    if not text.isascii() or len(text) > _LONGEST_ENTRY:
        return None
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or not _is_port(port):
            return None
    elif text.count(":") == 1:
        text, colon, port = text.partition(":")
        if not _is_port(colon + port):
            return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))  # without its zone, which means nothing elsewhere


def _is_port(text: str) -> bool:
    return not text or (text[0] == ":" and text[1:].isdigit())


def _describe(address: Address) -> Client:
    text = str(address)
    if isinstance(address, IPv4Address):
        return Client(text, text, str(IPv4Network((address, 24), strict=False)))
    return Client(text, str(IPv6Network((address, 64), strict=False)), str(IPv6Network((address, 48), strict=False)))
