"""The forms a setting's text may have: numbers, switches, choices, tokens, header parts, networks; pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Generic, Literal, TypeVar

from chatcore.settings.faults import BadEntriesError, BadValueError, shown_text

T = TypeVar("T")
N = TypeVar("N", int, float)
C = TypeVar("C", bound=str)
Network = IPv4Network | IPv6Network

_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
_FIELD = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_BEARER = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_ADMIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# Of `application` no `*`: that would let in programs. A name is one of RFC 6838, section 4.2.
_MEDIA_TYPE = re.compile(
    r"(application|audio|font|image|model|text|video)/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}|(audio|font|image|model|text|video)/\*",
    re.ASCII,
)
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_MAPPED = IPv6Network("::ffff:0:0/96")
_IPV4_BITS = 0xFFFFFFFF

# Those the connection needs for itself (RFC 9110 section 7.6.1), those we set, and those that say where a body ends.
_TAKEN_HEADERS = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host", "expect", "content-length", "content-encoding"),
        *("accept", "accept-encoding", "content-type", "x-session-token", "traceparent", "tracestate"),
    }
)


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How a text becomes a value, and how to tell people what it should be.

    `parse` raises `BadValueError` or `BadEntriesError`. `shows` says what of a wrong value may be told, `file` whether
    the value may come by NAME_FILE.
    """

    parse: Callable[[str], T]
    expected: str
    example: str
    shows: Literal["all", "url", "nothing"] = "all"
    file: bool = False


def whole(low: int, high: int, example: int) -> Form[int]:
    """Accept a whole number in decimal digits, bounds included."""

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise BadValueError("is not a whole number")
        return _within(int(text), low, high)

    return Form(parse, f"a whole number from {low} to {high}, digits only", str(example))


def number(low: float, high: float, example: float) -> Form[float]:
    """Accept a decimal number such as `2.5`, without sign or exponent, bounds included."""

    def parse(text: str) -> float:
        if not _NUMBER.fullmatch(text):
            raise BadValueError("is not a number")
        return _within(float(text), low, high)

    return Form(parse, f"a number from {low:g} to {high:g}, such as 30 or 2.5", f"{example:g}")


def _within(value: N, low: float, high: float) -> N:
    if not low <= value <= high:
        raise BadValueError("is too small" if value < low else "is too large")
    return value


def choice(*allowed: C, example: C) -> Form[C]:
    """Accept one of some words, in any case."""
    by_word = {word.casefold(): word for word in allowed}

    def parse(text: str) -> C:
        word = by_word.get(text.casefold())
        if word is None:
            raise BadValueError("is none of the words that are understood")
        return word

    return Form(parse, "one of " + ", ".join(allowed), example)


def _parse_switch(text: str) -> bool:
    value = _SWITCH.get(text.lower())
    if value is None:
        raise BadValueError("is neither true nor false")
    return value


def switch(*, example: bool) -> Form[bool]:
    """Accept the usual words for on and off."""
    return Form(_parse_switch, "true or false (also 1/0, yes/no, on/off)", str(example).lower())


def _parse_header_name(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise BadValueError("is not the name of a header")
    if text.lower() in _TAKEN_HEADERS:
        raise BadValueError("is a header that the proxy or the connection itself needs")
    return text


HEADER_NAME = Form(
    _parse_header_name,
    "the name of a request header (RFC 9110: letters, digits and - mostly), not one HTTP needs for itself",
    "X-N8N-API-KEY",
)


def _parse_header_value(text: str) -> str:
    if not _FIELD.fullmatch(text):
        raise BadValueError("holds characters that a header cannot carry everywhere")
    return text


HEADER_VALUE = Form(
    _parse_header_value, "visible ASCII characters, spaces only between them", "the-key-n8n-knows", "nothing", file=True
)


def _parse_bearer(text: str) -> str:
    if not _BEARER.fullmatch(text):
        raise BadValueError("holds spaces, commas or characters that are not ASCII")
    return text


BEARER = Form(_parse_bearer, "visible ASCII characters without spaces and commas", "", "nothing", file=True)
SECRET = Form(str, "any text of one line", "", "nothing", file=True)


def _parse_admins(text: str) -> dict[str, str]:
    admins: dict[str, str] = {}
    for place, entry in enumerate((part.strip() for part in text.split(",")), start=1):
        if not entry:
            continue
        name, colon, secret = entry.partition(":")
        if not colon or not _ADMIN_NAME.fullmatch(name) or not _BEARER.fullmatch(secret):
            raise BadValueError(f"entry {place} is not name:secret")
        if name in admins:
            raise BadValueError(f"entry {place} repeats a name")
        admins[name] = secret
    if not admins:
        raise BadValueError("holds no entry")
    return admins


ADMINS = Form(
    _parse_admins, "name:secret, comma separated, names of letters, digits, . _ -, each once", "", "nothing", file=True
)


def _parse_api_keys(text: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for place, entry in enumerate((part.strip() for part in text.split(",")), start=1):
        if not entry:
            continue
        name, colon, secret = entry.partition(":")
        if not colon:
            name, secret = "#" + sha256(entry.encode()).hexdigest()[:32], entry
        if (colon and not _ADMIN_NAME.fullmatch(name)) or not _BEARER.fullmatch(secret):
            raise BadValueError(f"entry {place} is neither name:key nor a key alone")
        if name in keys or secret in keys.values():
            raise BadValueError(f"entry {place} repeats a name or a key")
        keys[name] = secret
    if not keys:
        raise BadValueError("holds no entry")
    return keys


API_KEYS = Form(
    _parse_api_keys,
    "name:key or keys alone, comma separated, names of letters, digits, . _ -, each once; keys without colons",
    "",
    "nothing",
    file=True,
)


def file_path(what: str, example: str) -> Form[Path]:
    """Accept the path of a file, which need not exist yet; `what` says whose it is."""

    def parse(text: str) -> Path:
        if text.endswith("/") or Path(text).name in {"", ".", ".."}:
            raise BadValueError("names a folder, not a file")
        if text.startswith("file:") or text == ":memory:":
            raise BadValueError("is no path of a file")
        return Path(text)

    return Form(parse, f"the path of {what}, which is made where it does not exist", example)


def entries(text: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """Parse what stands between commas, each entry kept once. Raises `BadEntriesError`."""
    found: dict[T, None] = {}
    errors: list[BadValueError] = []
    for entry in (piece.strip() for piece in text.split(",")):
        if entry:
            try:
                found[parse(entry)] = None
            except BadValueError as error:
                errors.append(error)
    if errors:
        raise BadEntriesError(errors)
    return tuple(found)


def _parse_networks(text: str) -> tuple[Network, ...]:
    return entries(text, _network)


def _network(text: str) -> Network:
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        raise BadValueError("is neither an address nor a CIDR range", shown=shown_text(text)) from None
    if getattr(loose.network_address, "scope_id", None):
        raise BadValueError("names a network interface", shown=shown_text(text))
    try:
        ip_network(text)
    except ValueError:
        problem = "has bits set to the right of its prefix"
        raise BadValueError(problem, shown=shown_text(text), better=str(loose)) from None
    if isinstance(loose, IPv6Network) and loose.subnet_of(_MAPPED):
        return IPv4Network((int(loose.network_address) & _IPV4_BITS, loose.prefixlen - _MAPPED.prefixlen))
    return loose


def _parse_media_types(text: str) -> tuple[str, ...]:
    found = entries(text.lower(), _media_type)
    if not found:
        raise BadValueError("holds no entry")
    return found


def _media_type(text: str) -> str:
    if not _MEDIA_TYPE.fullmatch(text):
        raise BadValueError("is not a media type", shown=shown_text(text))
    return text


MEDIA_TYPES = Form(
    _parse_media_types,
    "media types, comma separated: application/pdf, or image/* for all of a kind (audio, font, model, text, video too)",
    "image/*,application/pdf,text/plain",
)


NETWORKS = Form(_parse_networks, "addresses or CIDR ranges, comma separated", "127.0.0.1,::1,10.0.0.0/8")
