"""JSON from strangers, read without mercy: what RFC 8259 leaves open is refused, and the fault has a name.

Slower than msgspec; for tokens, which are read once, and for bodies that need an explanation. Unlike both msgspec and
Python by default it tells a name that comes twice, and it lets lone surrogates through, so that the caller can say
in which field they are.
"""

import json
from typing import Any, NoReturn

# The largest double has 309 digits: no reader that works with doubles (n8n does) can hold a longer whole number.
_MAX_DIGITS = 308


class NotJsonError(ValueError):
    """These bytes are not JSON in UTF-8."""


class NestedTooDeepError(ValueError):
    """The document has more levels than anybody needs."""


class DuplicateNameError(ValueError):
    """One object has two members of one name."""

    def __init__(self, name: str) -> None:
        super().__init__("a member comes twice")
        self.name = name


def decode(raw: bytes) -> Any:
    """Decode one document. A number that a double cannot hold becomes an infinity.

    Raises `NotJsonError`, `NestedTooDeepError`, `DuplicateNameError`: all of them `ValueError`, with texts that hold
    nothing of the document.
    """
    try:
        return _DECODER.decode(raw.decode())
    except UnicodeDecodeError:
        raise NotJsonError("not UTF-8") from None
    except json.JSONDecodeError as fault:
        raise NotJsonError(f"character {fault.pos + 1}") from None
    except RecursionError:
        raise NestedTooDeepError("nested too deeply") from None


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        seen: set[str] = set()
        for name, _ in members:
            if name in seen:
                raise DuplicateNameError(name)
            seen.add(name)
    return value


def _whole(text: str) -> int | float:
    if len(text) > _MAX_DIGITS:
        return float("-inf" if text[0] == "-" else "inf")
    return int(text)


def _no_constant(_name: str) -> NoReturn:
    raise NotJsonError("NaN and Infinity are no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_whole, parse_constant=_no_constant)
