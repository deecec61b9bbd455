"""The visitor's address behind trusted proxies."""

import time
from ipaddress import ip_network

import pytest

from chatcore.clientaddr import Addresses, Client

LOCAL = Addresses((ip_network("127.0.0.1"), ip_network("::1")))
CHAIN = Addresses((ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48")))


def forwarded(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"chat.example.org"), *((b"x-forwarded-for", value) for value in values), (b"accept", b"*/*")]


def test_a_direct_visitor_is_the_peer() -> None:
    assert LOCAL.of("203.0.113.9", []) == Client("203.0.113.9", "203.0.113.9", "203.0.113.0/24")
    assert LOCAL.of("2001:db8:1:2:3::4", []) == Client("2001:db8:1:2:3::4", "2001:db8:1:2::/64", "2001:db8:1::/48")


@pytest.mark.parametrize(
    ("addresses", "values", "expected"),
    [
        (LOCAL, (b"203.0.113.9",), "203.0.113.9"),
        (LOCAL, (b"6.6.6.6, 203.0.113.9",), "203.0.113.9"),
        (LOCAL, (b"6.6.6.6", b"203.0.113.9"), "203.0.113.9"),
        (LOCAL, (b"6.6.6.6,\t203.0.113.9 ",), "203.0.113.9"),
        (CHAIN, (b"6.6.6.6, 203.0.113.9, 10.1.2.3",), "203.0.113.9"),
        (CHAIN, (b"203.0.113.9, 10.1.2.3", b"10.9.9.9"), "203.0.113.9"),
        (CHAIN, (b"203.0.113.9, 2001:db8:ffff::5, 10.1.2.3",), "203.0.113.9"),
        (CHAIN, (b"10.5.5.5, 10.1.2.3",), "10.5.5.5"),
        (CHAIN, (b"6.6.6.6, unknown, 10.1.2.3",), "10.1.2.3"),
        (CHAIN, (b"6.6.6.6, , 10.1.2.3",), "10.1.2.3"),
        (LOCAL, (b"203.0.113.9:4711",), "203.0.113.9"),
        (LOCAL, (b"[2001:db8::1]:4711",), "2001:db8::1"),
        (LOCAL, (b"[2001:db8::1]",), "2001:db8::1"),
        (LOCAL, (b"2001:DB8::1",), "2001:db8::1"),
        (LOCAL, (b"fe80::1%eth0",), "fe80::1"),
        (LOCAL, (b"::ffff:203.0.113.9",), "203.0.113.9"),
        (LOCAL, (b"[::ffff:203.0.113.9]:80",), "203.0.113.9"),
        *(
            (LOCAL, (junk,), "127.0.0.1")
            for junk in (
                b"",
                b",",
                b"6.6.6.6,",
                b"unknown",
                b"_hidden",
                b"1.2.3",
                b"1.2.3.256",
                b"01.2.3.4",
                b"1.2.3.4.5",
                b"1.2.3.4:",
                b"1.2.3.4:x",
                b"1.2.3.4%1",
                b"1.2.3.4 5.6.7.8",
                b"[1.2.3.4",
                b"[::1]x",
                b"::1::",
                b"\xff",
                b"\xb9.2.3.4",
                b"9" * 5000,
                b'"1.2.3.4"',
                b"<script>",
            )
        ),
    ],
)
def test_forwarded_addresses_are_read_from_the_right(
    addresses: Addresses, values: tuple[bytes, ...], expected: str
) -> None:
    assert addresses.of("127.0.0.1", forwarded(*values)).address == expected


@pytest.mark.parametrize("peer", ["203.0.113.9", "2001:db8::9"])
def test_visitors_cannot_choose_their_address(peer: str) -> None:
    client = CHAIN.of(peer, [(b"x-forwarded-for", b"6.6.6.6"), (b"x-real-ip", b"6.6.6.6")])
    assert client.address == peer
    assert not client.suspicious


def test_real_ip_counts_where_nothing_is_forwarded() -> None:
    assert LOCAL.of("::1", [(b"x-real-ip", b"203.0.113.9")]).address == "203.0.113.9"
    assert LOCAL.of("::1", [(b"x-real-ip", b"6.6.6.6"), (b"x-forwarded-for", b"203.0.113.9")]).address == "203.0.113.9"
    assert LOCAL.of("::1", [(b"x-real-ip", b"203.0.113.9"), (b"x-forwarded-for", b"")]).address == "203.0.113.9"
    assert LOCAL.of("::1", [(b"x-real-ip", b"6.6.6.6"), (b"x-real-ip", b"203.0.113.9")]).address == "::1"


@pytest.mark.parametrize("peer", ["10.0.0.7", "172.17.0.1", "192.168.1.1", "127.0.0.2", "fd00::1", "169.254.0.1"])
def test_a_private_peer_that_forwards_without_trust_is_suspicious(peer: str) -> None:
    for name in (b"x-forwarded-for", b"x-real-ip"):
        client = LOCAL.of(peer, [(name, b"203.0.113.9")])
        assert (client.address, client.suspicious) == (peer, True)
    assert not LOCAL.of(peer, []).suspicious


def test_one_network_has_one_limit() -> None:
    keys = {LOCAL.of(f"2001:db8:1:2:{part}::1", []).limit_key for part in range(50)}
    assert keys == {"2001:db8:1:2::/64"}
    assert LOCAL.of("::ffff:203.0.113.9", []).limit_key == LOCAL.of("203.0.113.9", []).limit_key


def test_a_peer_without_address_is_unknown() -> None:
    for peer in (None, "", "unix:", "x" * 500):
        assert LOCAL.of(peer, forwarded(b"6.6.6.6")) == Client("unknown", "unknown", "unknown")


def test_giant_headers_cost_little() -> None:
    every = Addresses((ip_network("0.0.0.0/0"),))
    before = time.process_time()
    for value in (b"1.1.1.1," * 4096, b"," * 32768, b"[" * 32768, b"1" * 32768):
        every.of("127.0.0.1", forwarded(value))
    assert time.process_time() - before < 0.1
