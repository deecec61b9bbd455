"""No origin is served that the settings do not name, however it is spelled."""

from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from chatcore.cors import Origins
from chatcore.settings import CorsSettings

SERVICE = Origins(CorsSettings(allowed_origins=("https://shop.example.com", "https://*.example.net")))
PIECES = st.sampled_from(
    ["https://", "http://", "shop.", "example", ".com", ".net", "evil", "@", ":443", ":", "/", "\\", "#", "?", " ", ","]
)
SPELLINGS = st.lists(PIECES | st.characters(max_codepoint=255), max_size=8).map("".join)


@given(SPELLINGS)
def test_what_is_served_is_what_a_browser_would_call_allowed(text: str) -> None:
    decision = SERVICE.decide(text.encode("latin-1"), b"chat.example.org")
    if decision.served:
        parts = urlsplit(text)
        assert parts.scheme == "https"
        host = parts.hostname or ""
        assert host == "shop.example.com" or host.endswith(".example.net")
        assert parts.port in {None, 443}
        assert parts.username is None
        assert (parts.path, parts.query, parts.fragment) == ("", "", "")
        assert decision.origin == text


@given(st.binary(max_size=400), st.none() | st.binary(max_size=400), st.none() | st.binary(max_size=400))
def test_no_bytes_break_it_or_reach_a_header(origin: bytes, host: bytes | None, asked: bytes | None) -> None:
    decision = SERVICE.decide(origin, host)
    for lines in (
        SERVICE.headers(decision),
        SERVICE.preflight(decision, asked),
        SERVICE.preflight(SERVICE.decide(b"https://shop.example.com", host), asked, any_header=True),
    ):
        for name, value in lines:
            assert name.islower()
            assert not set(value) & set(b"\r\n\0")
