"""Which characters a text may hold: lone surrogates and NUL are replaced, halves that meet are joined."""

import re

REPLACEMENT = "\ufffd"
_FIRST_HALF = "\ud800"
_LAST_HALF = "\udbff"
_HAS_SURROGATE = re.compile("[\ud800-\udfff]").search


def has_surrogate(text: str) -> bool:
    """Tell whether `text` holds a half of a surrogate pair, which JSON's escapes can bring (RFC 8259, section 8.2)."""
    return _HAS_SURROGATE(text) is not None


def ends_in_first_half(text: str) -> bool:
    """Tell whether the last character is the first half of a pair, so that the next text may complete it."""
    return _FIRST_HALF <= text[-1:] <= _LAST_HALF


def clean(text: str) -> str:
    """Join halves of surrogate pairs that meet, and put U+FFFD for the lone ones and for NUL."""
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    if has_surrogate(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
