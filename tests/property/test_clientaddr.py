"""Nothing a visitor sends decides his address."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from chatcore.clientaddr import Addresses

ADDRESSES = Addresses((ip_network("127.0.0.1"), ip_network("10.0.0.0/8")))
WILD = st.lists(
    st.binary(max_size=40)
    | st.ip_addresses().map(lambda address: str(address).encode())
    | st.sampled_from([b"10.0.0.1", b"127.0.0.1", b",", b"unknown"]),
    max_size=8,
).map(b",".join)
VISITORS = st.ip_addresses().filter(
    lambda address: (
        address not in ip_network("10.0.0.0/8")
        and address not in ip_network("127.0.0.1")
        and getattr(address, "ipv4_mapped", None) is None
    )
)
HOPS = st.lists(st.sampled_from([b"10.0.0.1", b"10.255.0.9:80", b" 127.0.0.1"]), max_size=4)


@given(sent=st.lists(WILD, max_size=3), real=st.none() | WILD, visitor=VISITORS, hops=HOPS)
def test_what_the_first_trusted_proxy_saw_is_the_address(
    sent: list[bytes], real: bytes | None, visitor: object, hops: list[bytes]
) -> None:
    last = b",".join([str(visitor).encode(), *hops])
    headers = [(b"x-forwarded-for", value) for value in [*sent, last]]
    if real is not None:
        headers.append((b"x-real-ip", real))
    assert ADDRESSES.of("127.0.0.1", headers).address == str(visitor)


@given(sent=st.lists(WILD, max_size=3), visitor=VISITORS)
def test_headers_of_strangers_mean_nothing(sent: list[bytes], visitor: object) -> None:
    assert ADDRESSES.of(str(visitor), [(b"x-forwarded-for", value) for value in sent]).address == str(visitor)


@given(peer=st.none() | st.text(max_size=60) | st.ip_addresses().map(str), sent=st.lists(st.binary(max_size=300)))
def test_it_never_breaks_and_always_masks(peer: str | None, sent: list[bytes]) -> None:
    client = ADDRESSES.of(peer, [(b"x-forwarded-for", value) for value in sent])
    if client.address == "unknown":
        assert client.limit_key == client.masked == "unknown"
    else:
        assert ip_address(client.address) in ip_network(client.masked)
        assert len(client.limit_key) < 50
