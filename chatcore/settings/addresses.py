"""The forms of addresses in settings: hosts, web addresses with and without credentials, origins; pure."""

import re
from ipaddress import IPv6Address, ip_address
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import msgspec

from chatcore.settings.faults import BadValueError, shown_url
from chatcore.settings.forms import Form, entries

# RFC 3986 section 2: all characters a URI may hold.
_URI = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_HOST_CHARS = 253
_MAX_PORT = 65535
_WILDCARD = "*."


class WebAddress(msgspec.Struct, frozen=True):
    """An http(s) address without credentials, and these apart, percent-decoded."""

    url: str
    basic_auth: tuple[str, str] | None = None


def _host(text: str) -> str:
    """Give a host as browsers write it: lower case, IPv6 compressed and in brackets."""
    if text.startswith("["):
        if not text.endswith("]") or "%" in text:
            raise BadValueError("has no host name that can be read")
        try:
            return f"[{IPv6Address(text[1:-1]).compressed}]"
        except ValueError:
            raise BadValueError("has no IPv6 address that can be read") from None
    host = text.lower()
    if not host.isascii():
        raise BadValueError("has an international host name; write it as browsers send it, beginning with xn--")
    labels = host.removesuffix(".").split(".")
    if len(host) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadValueError("has no host name that can be read")
    if labels[-1].isdigit():
        try:
            return str(ip_address(host))
        except ValueError:
            raise BadValueError("has no IPv4 address that can be read") from None
    return host


def authority(scheme: str, text: str) -> str:
    """Give `host[:port]` without the scheme's default port. Raises `BadValueError`."""
    bracket = text.rfind("]")
    colon = text.find(":", bracket + 1)
    host, port = (text, "") if colon < 0 else (text[:colon], text[colon + 1 :])
    if not host:
        raise BadValueError("has no host")
    if colon >= 0 and not (port.isascii() and port.isdigit() and len(port) <= len(str(_MAX_PORT))):
        raise BadValueError("has a port that is no number")
    if colon >= 0 and not 0 < int(port) <= _MAX_PORT:
        raise BadValueError("has a port that is out of range")
    name = _host(host)
    return name if colon < 0 or int(port) == _DEFAULT_PORTS.get(scheme) else f"{name}:{int(port)}"


def need_uri(text: str) -> None:
    """Refuse what holds characters that no URI may hold. Raises `BadValueError`."""
    if not text.isascii() or not _URI.fullmatch(text):
        raise BadValueError("holds characters that no address may hold; percent-encode them")


def _split(text: str) -> SplitResult:
    need_uri(text)
    try:
        parts = urlsplit(text)
    except ValueError:
        raise BadValueError("has no host name that can be read") from None
    if parts.scheme not in _DEFAULT_PORTS or not text[len(parts.scheme) :].startswith("://"):
        raise BadValueError("does not begin with http:// or https://")
    if "#" in text:
        raise BadValueError("has a # part, which is never sent")
    return parts


def decoded(text: str) -> str:
    """Give a user name or password as it was before it was percent-encoded. Raises `BadValueError`."""
    try:
        plain = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise BadValueError("has a user name or password that is not percent-encoded UTF-8") from None
    if not plain.isprintable():
        raise BadValueError("has a user name or password with control characters")
    return plain


def _parse_webhook(text: str) -> WebAddress:
    parts = _split(text)
    login, _, place = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    basic = (decoded(user), decoded(password))
    if ":" in basic[0]:
        raise BadValueError("has a user name with a colon, which Basic auth cannot carry (RFC 7617)")
    url = f"{parts.scheme}://{authority(parts.scheme, place)}{parts.path or '/'}"
    return WebAddress(f"{url}?{parts.query}" if parts.query else url, basic if any(basic) else None)


def _parse_plain(text: str) -> str:
    address = _parse_webhook(text)
    if address.basic_auth is not None:
        raise BadValueError("holds a user name or password, which has no use here")
    return address.url


def _parse_public(text: str) -> str:
    url = _parse_plain(text)
    if "?" in url:
        raise BadValueError("has a ? part")
    return url.rstrip("/")


def _parse_collector(text: str) -> str:
    url = _parse_public(text)
    if url.endswith("/v1/traces"):
        raise BadValueError("ends with /v1/traces, which is added to it", better=url.removesuffix("/v1/traces"))
    return url


WEBHOOK = Form(
    _parse_webhook,
    "http://host/path or https://host/path; https://user:password@host/path for Basic auth",
    "https://n8n.example.com/webhook/chat",
    "url",
    file=True,
)
VERIFY_URL = Form(
    _parse_plain,
    "the http(s) address of a siteverify endpoint",
    "https://challenges.cloudflare.com/turnstile/v0/siteverify",
    "url",
    file=True,
)
PUBLIC_URL = Form(
    _parse_public, "http(s)://host[:port], perhaps with a path", "https://chat.example.com", "url", file=True
)
COLLECTOR = Form(_parse_collector, "http(s)://host[:port], perhaps with a path", "http://localhost:4318", "url")


def _parse_bind_host(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        if text.startswith("["):
            raise BadValueError("has brackets around it", better=text.strip("[]")) from None
    try:
        return _host(text)
    except BadValueError:
        raise BadValueError("is neither an IP address nor a host name") from None


BIND_HOST = Form(_parse_bind_host, "an IP address or host name to listen on, without port and brackets", "0.0.0.0")  # noqa: S104 - an example of a bind address


def _with_scheme(text: str) -> str | None:
    """Guess what a host alone was to be; what is no host, `null` too, is no origin at all."""
    try:
        return _origin(f"https://{text}") if "." in text and "://" not in text else None
    except BadValueError:
        return None


def _origin(text: str) -> str:
    """Give an origin as browsers send it (RFC 6454 section 6.2), or `scheme://*.domain`."""
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or not _SCHEME.fullmatch(scheme):
        raise BadValueError("has no scheme such as https://", better=_with_scheme(text), shown=shown_url(text))
    if "@" in rest:
        raise BadValueError("holds a user name or password", shown=shown_url(text))
    place, slash, path = rest.partition("/")
    wildcard = place.startswith(_WILDCARD)
    try:
        found = authority(scheme, place.removeprefix(_WILDCARD) if wildcard else place)
    except BadValueError as error:
        raise BadValueError(error.problem, shown=shown_url(text)) from None
    if wildcard and "." not in found:
        raise BadValueError("allows a whole top-level domain", shown=shown_url(text))
    origin = f"{scheme}://{_WILDCARD if wildcard else ''}{found}"
    if slash:
        problem = "has a path; an origin ends with its host or port"
        raise BadValueError(
            problem if path else "ends with a slash; an origin does not", better=origin, shown=shown_url(text)
        )
    return origin


def origins(*, everybody: bool) -> Form[tuple[str, ...]]:
    """Accept exact origins and `https://*.example.com`, comma separated; with `everybody` also `*` alone."""

    def parse(text: str) -> tuple[str, ...]:
        found = entries(text, one)
        if "*" in found and len(found) > 1:
            raise BadValueError("has * beside other origins", shown="*")
        return found

    def one(text: str) -> str:
        if text != "*":
            return _origin(text)
        if not everybody:
            raise BadValueError("allows every website, which only --demo may", shown="*")
        return text

    expected = "origins, scheme://host[:port], comma separated; https://*.example.com for subdomains"
    return Form(parse, expected, "https://www.example.com,https://*.example.org")
