"""Which origins may speak, and the headers that say so."""

import pytest

from chatcore.cors import Origins
from chatcore.settings import CorsSettings

HOST = b"chat.example.org"


def origins(*allowed: str, public_url: str | None = None) -> Origins:
    return Origins(CorsSettings(allowed_origins=allowed, public_url=public_url))


LISTED = origins(
    "https://shop.example.com",
    "http://localhost:3000",
    "https://*.Example.NET",
    "https://*.example.com:8443",
    "https://bücher.example/",
    "capacitor://localhost",
    "http://[2001:DB8::1]:8080",
)


@pytest.mark.parametrize(
    "origin",
    [
        b"https://shop.example.com",
        b"https://shop.example.com:443",
        b"https://SHOP.example.com",
        b"HTTPS://shop.example.com",
        b"http://localhost:3000",
        b"https://a.example.net",
        b"https://a.b.c.example.net",
        b"https://a.example.com:8443",
        b"https://xn--bcher-kva.example",
        b"capacitor://localhost",
        b"http://[2001:db8::1]:8080",
    ],
)
def test_allowed_origins_are_echoed_exactly(origin: bytes) -> None:
    decision = LISTED.decide(origin, HOST)
    assert decision.served
    assert decision.origin == origin.decode()
    assert LISTED.headers(decision) == [
        (b"access-control-allow-origin", origin),
        (b"vary", b"Origin"),
        (
            b"access-control-expose-headers",
            b"X-Request-ID, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset",
        ),
    ]


@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"null",
        b"*",
        b"https://evil.example",
        b"http://shop.example.com",
        b"https://shop.example.com:444",
        b"https://shop.example.com.",
        b"https://shop.example.com.evil.example",
        b"https://shop.example.com@evil.example",
        b"https://shop.example.com/",
        b"https://shop.example.com ",
        b"https://shop.example.com\n",
        b"https://shop.example.com, https://evil.example",
        b"https://shop.example.com https://evil.example",
        b"https://shop.example.com:0443",
        b"https://shop.example.com:",
        b"shop.example.com",
        b"//shop.example.com",
        b"https://example.net",
        b"https://.example.net",
        b"https://evilexample.net",
        b"https://a.example.net:8443",
        b"http://a.example.net",
        b"https://a.example.com",
        b"https://*.example.net",
        b"https://b\xc3\xbccher.example",
        b"http://localhost",
        b"http://localhost:3001",
        b"https://" + b"a" * 400 + b".example.net",
        b"\xff\x00",
    ],
)
def test_all_others_are_refused(origin: bytes) -> None:
    decision = LISTED.decide(origin, HOST)
    assert not decision.served
    assert decision.origin is None
    assert LISTED.headers(decision) == [(b"vary", b"Origin")]


def test_no_origin_is_served() -> None:
    for service in (origins(), LISTED, origins(public_url="https://chat.example.org")):
        decision = service.decide(None, HOST)
        assert (decision.served, decision.origin) == (True, None)
        assert service.headers(decision) == [(b"vary", b"Origin")]


@pytest.mark.parametrize(
    ("origin", "host", "served"),
    [
        (b"https://chat.example.org", b"chat.example.org", True),
        (b"http://chat.example.org", b"chat.example.org", True),
        (b"https://chat.example.org", b"CHAT.example.org:443", True),
        (b"http://chat.example.org", b"chat.example.org:80", True),
        (b"http://chat.example.org:8000", b"chat.example.org:8000", True),
        (b"http://[::1]:8000", b"[::1]:8000", True),
        (b"https://chat.example.org", b"chat.example.org:80", False),
        (b"http://chat.example.org", b"chat.example.org:8000", False),
        (b"http://chat.example.org:8000", b"chat.example.org", False),
        (b"http://chat.example.org", b"example.org", False),
        (b"ftp://chat.example.org", b"chat.example.org", False),
        (b"http://chat.example.org", None, False),
        (b"http://chat.example.org", b"", False),
        (b"http://chat.example.org", b"chat.example.org, chat.example.org", False),
        (b"http://chat.example.org", b"h" * 5000, False),
        (b"null", b"null", False),
    ],
)
def test_the_own_origin_is_the_host_asked_for(origin: bytes, host: bytes | None, served: bool) -> None:
    assert origins().decide(origin, host).served is served


def test_a_public_url_fixes_the_own_origin() -> None:
    service = origins(public_url="https://Chat.example.org/start")
    assert service.decide(b"https://chat.example.org", b"10.0.0.5:8000").served
    assert not service.decide(b"http://10.0.0.5:8000", b"10.0.0.5:8000").served
    assert not service.decide(b"http://chat.example.org", b"chat.example.org").served


def test_a_star_admits_every_origin_but_null() -> None:
    service = origins("*")
    assert service.decide(b"https://any.example", HOST).origin == "https://any.example"
    assert not service.decide(b"null", HOST).served
    assert not service.decide(b"https://a, https://b", HOST).served


@pytest.mark.parametrize("entry", ["", "example.com", "https://", "https://*", "https://a b", "null", "https://a:x"])
def test_settings_that_are_no_origins_are_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        origins(entry)


def test_a_preflight_is_answered_in_full() -> None:
    lines = LISTED.preflight(LISTED.decide(b"https://shop.example.com", HOST), b"x-evil")
    assert lines == [
        (b"access-control-allow-origin", b"https://shop.example.com"),
        (b"vary", b"Origin"),
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-max-age", b"7200"),
        (
            b"access-control-allow-headers",
            b"Authorization, Content-Type, Last-Event-ID, X-Request-ID, X-Chat-Session, traceparent, tracestate",
        ),
    ]


def test_a_refused_preflight_allows_nothing() -> None:
    for any_header in (False, True):
        lines = LISTED.preflight(LISTED.decide(b"https://evil.example", HOST), b"x-a", any_header=any_header)
        assert lines == [(b"vary", b"Origin")]


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (b"authorization,x-shop", b"authorization, x-shop"),
        (b" x-a , x-a,, x-b ", b"x-a, x-b"),
        (b"x-good, x bad, x\r\nset-cookie: a, x:y", b"x-good"),
        (b",".join(b"x-%d" % n for n in range(40)), b", ".join(b"x-%d" % n for n in range(20))),
        (b"", b"Authorization, Content-Type, Last-Event-ID, X-Request-ID, X-Chat-Session, traceparent, tracestate"),
        (None, b"Authorization, Content-Type, Last-Event-ID, X-Request-ID, X-Chat-Session, traceparent, tracestate"),
        (b"\xff", b"Authorization, Content-Type, Last-Event-ID, X-Request-ID, X-Chat-Session, traceparent, tracestate"),
    ],
)
def test_a_drop_in_preflight_allows_what_was_asked_for(asked: bytes | None, allowed: bytes) -> None:
    lines = dict(LISTED.preflight(LISTED.decide(b"https://shop.example.com", HOST), asked, any_header=True))
    assert lines[b"access-control-allow-headers"] == allowed
    assert lines[b"vary"] == b"Origin, Access-Control-Request-Headers"
