"""The fields of request bodies, one reader each: decoded JSON -> checked value, or a fault with its place and reason.

The limits are those of the HTTP contract. Lengths are in code points, sizes in bytes as sent.
"""

import re
from collections.abc import Callable
from math import isinf
from typing import Any, NoReturn

from chatcore.errors import INVALID_REQUEST, FieldFault, Refusal
from chatcore.model import HistoryEntry

MAX_METADATA_MEMBERS = 20
MAX_METADATA_BYTES = 4096
MAX_METADATA_DEPTH = 3
MAX_HISTORY_ENTRIES = 50
MAX_HISTORY_BYTES = 65536
MAX_PAGE_URL_CHARS = 2048
MAX_TOKEN_CHARS = 8192
MAX_COMMENT_CHARS = 2000
_MAX_FAULTS = 10
_SHOWN_NAME_CHARS = 64

_UUID = re.compile(r"([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})", re.ASCII)
_PAGE = re.compile(
    r"(https?)://(?:[^/?#\\@\s]*@)?([\w.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?"
    r"(/[^?#\\\s\x00-\x1f\x7f-\x9f\ud800-\udfff]*)?(?:[?#].*)?",
    re.IGNORECASE | re.DOTALL,
)
_MAX_PORT = 65535
_BOT = re.compile(r"[a-z][a-z0-9]{0,31}")
_FORBIDDEN = re.compile(r"[\x00\ud800-\udfff]")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Faults:
    """Collects what is wrong with one body, the first ten faults."""

    def __init__(self) -> None:
        self._found: list[FieldFault] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, field: str, message: str) -> None:
        """Note that `field` (as `history[3].role`) is wrong; `message` continues a sentence that begins with it."""
        if len(self._found) < _MAX_FAULTS:
            self._found.append(FieldFault(field, message))

    def refuse(self) -> NoReturn:
        """Raise all of them; the first one is also what a visitor reads."""
        first = self._found[0]
        detail = f"The request is not valid: {first.field} {first.message}."
        raise Refusal(INVALID_REQUEST, detail, errors=tuple(self._found))


Reader = Callable[[str, Any, Faults], Any]


def shown(name: str) -> str:
    """Give a stranger's member name as a message may hold it: short, and nothing that does not print."""
    if len(name) <= _SHOWN_NAME_CHARS and name.isprintable():
        return name
    return ascii(name[:_SHOWN_NAME_CHARS])[1:-1]


def canonical_uuid(text: str) -> str | None:
    """Give a UUID of any version in lower case with hyphens (RFC 9562, section 4), `None` for anything else."""
    match = _UUID.fullmatch(text.lower())
    return None if match is None else "-".join(match.groups())


def canonical_page(url: str) -> str | None:
    """Give origin and path of an http(s) address; query, fragment and credentials are dropped. `None` if it is none."""
    match = _PAGE.fullmatch(url) if len(url) <= MAX_PAGE_URL_CHARS else None
    if match is None:
        return None
    scheme, host, port, path = match.groups()
    if port is not None and int(port) > _MAX_PORT:
        return None
    scheme = scheme.lower()
    authority = host.lower() if port is None or port == _DEFAULT_PORTS[scheme] else f"{host.lower()}:{port}"
    return f"{scheme}://{authority}{path or '/'}"


def is_text(field: str, value: Any, most: int, faults: Faults) -> bool:
    """Tell whether a value is a string of at most `most` characters without NUL and lone surrogates."""
    if not isinstance(value, str):
        faults.add(field, "must be a string")
    elif len(value) > most:
        faults.add(field, f"must have at most {most} characters")
    elif (match := _FORBIDDEN.search(value)) is not None:
        faults.add(field, _forbidden(match[0]))
    else:
        return True
    return False


def message_id(field: str, value: Any, faults: Faults) -> str | None:
    """Read a UUID."""
    canonical = canonical_uuid(value) if isinstance(value, str) else None
    if canonical is None:
        faults.add(field, "must be a UUID")
    return canonical


def page_url(field: str, value: Any, faults: Faults) -> str | None:
    """Read the address of the page the visitor is on."""
    if not is_text(field, value, MAX_PAGE_URL_CHARS, faults):
        return None
    canonical = canonical_page(value)
    if canonical is None:
        faults.add(field, "must be an http or https address")
    return canonical


def bot(field: str, value: Any, faults: Faults) -> str | None:
    """Read a bot's name, configured or not."""
    if isinstance(value, str) and _BOT.fullmatch(value):
        return value
    faults.add(field, "must be the name of a bot: a lower-case letter, then at most 31 letters and digits")
    return None


def token(field: str, value: Any, faults: Faults) -> str | None:
    """Read an opaque token of another service."""
    if not is_text(field, value, MAX_TOKEN_CHARS, faults):
        return None
    if value and value.isascii() and value.isprintable():
        return str(value)
    faults.add(field, "must be printable ASCII and not empty")
    return None


def comment(field: str, value: Any, faults: Faults) -> str | None:
    """Read what a visitor remarks on a reply."""
    return value if is_text(field, value, MAX_COMMENT_CHARS, faults) else None


def metadata(field: str, value: Any, faults: Faults) -> dict[str, Any] | None:
    """Read the page's own data: an object of few members and levels, forwarded as it is."""
    if not isinstance(value, dict):
        faults.add(field, "must be an object")
    elif len(value) > MAX_METADATA_MEMBERS:
        faults.add(field, f"must have at most {MAX_METADATA_MEMBERS} members")
    else:
        _check_data(field, value, 1, faults)
        return value
    return None


def history(field: str, value: Any, faults: Faults) -> list[HistoryEntry] | None:
    """Read the earlier messages of a conversation."""
    if not isinstance(value, list):
        faults.add(field, "must be an array")
        return None
    if len(value) > MAX_HISTORY_ENTRIES:
        faults.add(field, f"must have at most {MAX_HISTORY_ENTRIES} entries")
        return None
    entries = []
    for index, entry in enumerate(value):
        place = f"{field}[{index}]"
        if not isinstance(entry, dict) or entry.keys() != {"role", "content"}:
            faults.add(place, 'must be an object with "role" and "content" alone')
            continue
        role, content = entry["role"], entry["content"]
        if role not in {"user", "assistant"} if isinstance(role, str) else True:
            faults.add(f"{place}.role", 'must be "user" or "assistant"')
        if is_text(f"{place}.content", content, MAX_HISTORY_BYTES, faults):
            entries.append(HistoryEntry(role, content))
    return entries


def _check_data(place: str, value: Any, depth: int, faults: Faults) -> None:
    """Check strings, numbers and levels of any JSON value. A level is an object or an array."""
    if isinstance(value, str):
        is_text(place, value, MAX_METADATA_BYTES, faults)
    elif isinstance(value, float):
        if isinf(value):
            faults.add(place, "is a number out of range")
    elif isinstance(value, dict | list):
        if depth > MAX_METADATA_DEPTH:
            faults.add(place, f"is nested more than {MAX_METADATA_DEPTH} levels deep")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                _check_data(f"{place}[{index}]", item, depth + 1, faults)
        else:
            for name, member in value.items():
                inner = f"{place}.{shown(name)}"
                if (match := _FORBIDDEN.search(name)) is not None:
                    faults.add(inner, _forbidden(match[0]))
                _check_data(inner, member, depth + 1, faults)


def _forbidden(character: str) -> str:
    return "must not contain NUL" if character == "\0" else "must not contain lone surrogates"
