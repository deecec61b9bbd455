"""Which origins may speak, and the headers that say so (the Fetch standard's CORS protocol, RFC 6454 origins).

An absent `Origin` is served: servers, apps and curl send none, and a browser cannot leave it out where it matters. An
allowed origin and the service's own are echoed exactly; anything else, `null` included, is refused.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from chatcore.settings import CorsSettings

HeaderLines = list[tuple[bytes, bytes]]

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]{0,31})://([a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([1-9][0-9]{0,4}))?")
_HOST = re.compile(r"([a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([1-9][0-9]{0,4}))?")
_HEADER_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_ORIGIN = 330  # the longest that can match: scheme, ://, host, port
_CACHED = 1024
_MOST_ASKED_HEADERS = 20

_VARY = (b"vary", b"Origin")
_EXPOSE = (
    b"access-control-expose-headers",
    b"X-Request-ID, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset",
)
_METHODS = (b"access-control-allow-methods", b"GET, POST, DELETE")
_MAX_AGE = (b"access-control-max-age", b"7200")  # the most that Chromium accepts
_ALLOW = b"access-control-allow-headers"
_OUR_HEADERS = (
    _ALLOW,
    b"Authorization, Content-Type, Last-Event-ID, X-Request-ID, X-Chat-Session, traceparent, tracestate",
)
_VARY_ANY = (b"vary", b"Origin, Access-Control-Request-Headers")


class Decision(msgspec.Struct, frozen=True):
    """Whether a request's origin may speak. `origin` is the one to echo: `None` where there was none, or it is refused.

    `headers` go on every answer to it, errors too; the echo comes first. A refused request is answered 403,
    a preflight as well.
    """

    served: bool
    origin: str | None
    headers: HeaderLines


class _Place(msgspec.Struct, frozen=True):
    """An origin in comparable form: lower case, the default port spelled out (0 where a scheme has none)."""

    scheme: str
    host: str
    port: int


_ABSENT = Decision(served=True, origin=None, headers=[_VARY])
_REFUSED = Decision(served=False, origin=None, headers=[_VARY])


class Origins:
    """The origins of one service, or of one bot that has a list of its own (one object each)."""

    def __init__(self, settings: CorsSettings) -> None:
        """Parse the settings. Raises `ValueError` for an entry that is neither an origin nor a pattern."""
        self._any = "*" in settings.allowed_origins
        self._exact: set[_Place] = set()
        self._below: set[_Place] = set()
        for entry in settings.allowed_origins:
            if entry == "*":
                continue
            parent = entry.replace("://*.", "://", 1)
            (self._exact if parent == entry else self._below).add(_configured(parent))
        self._own = None if settings.public_url is None else _configured(settings.public_url)
        # The cache's keys are short by the check in `decide`; a flood of made-up origins pushes out, it does not grow.
        self._decided = lru_cache(_CACHED)(self._decide)

    def decide(self, origin: bytes | None, host: bytes | None) -> Decision:
        """Decide about a request's `Origin`, given its `Host`. Several `Origin` lines: pass them joined by `, `."""
        if origin is None:
            return _ABSENT
        if len(origin) > _LONGEST_ORIGIN:
            return _REFUSED
        if host is not None and (self._own is not None or len(host) > _LONGEST_ORIGIN):
            host = None
        return self._decided(origin, host)

    def headers(self, decision: Decision) -> HeaderLines:
        """Give the header lines for any answer but a preflight's. Shared: copy before adding to it."""
        return decision.headers

    def preflight(
        self, decision: Decision, requested_headers: bytes | None, *, any_header: bool = False
    ) -> HeaderLines:
        """Give the header lines for the 204 that answers a preflight (for the 403, if the origin is refused).

        `any_header` (the drop-in, whose pages choose their own) allows what the browser asked for, at most 20 names.
        """
        if decision.origin is None:
            return decision.headers
        echo = decision.headers[0]
        if not any_header:
            return [echo, _VARY, _METHODS, _MAX_AGE, _OUR_HEADERS]
        asked = _names(requested_headers or b"")
        allow = (_ALLOW, b", ".join(asked)) if asked else _OUR_HEADERS
        return [echo, _VARY_ANY, _METHODS, _MAX_AGE, allow]

    def _decide(self, origin: bytes, host: bytes | None) -> Decision:
        text = origin.decode("latin-1")
        place = _place(text)
        if place is None or not (self._any or self._is_allowed(place) or self._is_own(place, host)):
            return _REFUSED
        echo = (b"access-control-allow-origin", origin)
        return Decision(served=True, origin=text, headers=[echo, _VARY, _EXPOSE])

    def _is_allowed(self, place: _Place) -> bool:
        if place in self._exact:
            return True
        return any(
            place.scheme == parent.scheme
            and place.port == parent.port
            and place.host.endswith("." + parent.host)
            and not place.host.startswith(".")
            for parent in self._below
        )

    def _is_own(self, place: _Place, host: bytes | None) -> bool:
        if self._own is not None:
            return place == self._own
        default = _DEFAULT_PORTS.get(place.scheme)
        if host is None or default is None:
            return False
        match = _HOST.fullmatch(host.decode("latin-1").lower())
        return match is not None and (place.host, place.port) == (match[1], int(match[2] or default))


def _place(text: str) -> _Place | None:
    """Read an `Origin` header's value; `None` for `null` and whatever else is not one origin."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    return _Place(scheme, host, int(port) if port else _DEFAULT_PORTS.get(scheme, 0))


def _configured(text: str) -> _Place:
    """Read an origin from the settings: as a person writes it, with a trailing path or an umlaut perhaps."""
    scheme, separator, rest = text.strip().partition("://")
    authority, _, _ = rest.partition("/")
    name, colon, port = authority.partition(":")
    if not name.isascii():
        name = name.encode("idna").decode()
    place = _place(f"{scheme}{separator}{name}{colon}{port}")
    if place is None:
        raise ValueError(f"not an origin: {text!r}")
    return place


def _names(asked: bytes) -> Sequence[bytes]:
    """Give the valid names of an `Access-Control-Request-Headers` line, each once, the first 20."""
    names: dict[bytes, None] = {}
    for part in asked[:4096].split(b","):
        name = part.strip()
        if _HEADER_NAME.fullmatch(name):
            names[name] = None
        if len(names) == _MOST_ASKED_HEADERS:
            break
    return list(names)
