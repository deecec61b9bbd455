"""What modes that store something keep of a message beside its text: a keyed hash of it, and the kind of browser."""

import hashlib
from functools import lru_cache

from chatcore import keyed

DIGEST_BYTES = 16
LONGEST_NAME = 512
"""So many characters of an origin or a page are kept."""

_READ_OF_USER_AGENT = 512
_CACHED_BROWSERS = 256


def digest(text: str, key: bytes) -> bytes:
    """Give a keyed hash of a message's text, which tells a retry from another message and nothing else."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=DIGEST_BYTES).digest()


def client_of(user_agent: str) -> str:
    """Tell the kind of browser by its User-Agent: family and platform, never more."""
    return _client_of(user_agent[:_READ_OF_USER_AGENT])


@lru_cache(_CACHED_BROWSERS)
def _client_of(user_agent: str) -> str:
    return " ".join(keyed.browser(user_agent))
