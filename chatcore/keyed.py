"""What is derived from a secret: keys for one purpose each, a browser's fingerprint, a user enciphered for a token.

**Sealed users.** A session token of a verified user must lead to that user on any instance and after any restart, in
a mode that stores nothing, and must not show personal data to whoever finds it. So the user travels inside the token,
enciphered: JSON padded with spaces, XORed with a keystream of HMAC-SHA256 in counter mode (NIST SP 800-108r1, 4.1)
under a key of its own and a fresh 16-byte nonce; the token's signature authenticates it (encrypt, then MAC). A library
with AES would cost 8 MB of idle memory for these few hundred bytes.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from chatcore.model import User

Family = Literal["chrome", "firefox", "safari", "edge", "other"]
Platform = Literal["mobile", "desktop", "other"]
Browser = tuple[Family, Platform]

# Order matters: Edge calls itself Chrome too, and both call themselves Safari.
_FAMILIES: Sequence[tuple[Family, re.Pattern[str]]] = (
    ("edge", re.compile(r"Edg(e|A|iOS)?/")),
    ("firefox", re.compile(r"(Firefox|FxiOS)/")),
    ("chrome", re.compile(r"(Chrome|Chromium|CriOS)/")),
    ("safari", re.compile(r"Safari/")),
)
_PLATFORMS: Sequence[tuple[Platform, re.Pattern[str]]] = (
    ("mobile", re.compile(r"Mobi|Android|iPhone|iPad|iPod")),
    ("desktop", re.compile(r"Windows NT|Macintosh|X11|CrOS|Linux")),
)
_NONCE_BYTES = 16
_PADDED_TO = 64
_BLOCK_BYTES = 32


def derive(secret: bytes, label: str) -> bytes:
    """Give 32 bytes for one purpose: HKDF-SHA256 (RFC 5869) with a fixed salt, one block."""
    return _hmac(_hmac(b"chatcore", secret), label.encode() + b"\x01")


def browser(user_agent: str) -> Browser:
    """Tell a browser's family and platform class: what neither an update nor another network changes."""
    family: Family = next((name for name, pattern in _FAMILIES if pattern.search(user_agent)), "other")
    platform: Platform = next((name for name, pattern in _PLATFORMS if pattern.search(user_agent)), "other")
    return family, platform


def fingerprints(key: bytes) -> Mapping[Browser, str]:
    """Give the keyed hash of every kind of browser there is: 22 base64url characters each."""
    families: list[Family] = [*(name for name, _ in _FAMILIES), "other"]
    platforms: list[Platform] = [*(name for name, _ in _PLATFORMS), "other"]
    return {
        (family, platform): base64url(_hmac(key, f"{family} {platform}".encode())[:16])
        for family in families
        for platform in platforms
    }


def seal(user: User, key: bytes, nonce: bytes) -> str:
    """Encipher a user for a token that is signed. `nonce`: 16 bytes, never used twice with one key."""
    plain = msgspec.json.encode(user)
    plain += b" " * (-len(plain) % _PADDED_TO)  # a name's length does not show
    return base64url(nonce + _xor(plain, _keystream(key, nonce, len(plain))))


def unseal(sealed: str, key: bytes) -> User:
    """Decipher what `seal` made, from a token whose signature was checked. Raises `ValueError`."""
    raw = unbase64url(sealed)
    nonce, enciphered = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
    return msgspec.json.decode(_xor(enciphered, _keystream(key, nonce, len(enciphered))), type=User)


def base64url(raw: bytes) -> str:
    """Encode as RFC 7515 does: URL-safe, no padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def unbase64url(text: str) -> bytes:
    """Decode the same. Raises `ValueError`."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _keystream(key: bytes, nonce: bytes, length: int) -> bytes:
    """SP 800-108r1 counter mode: PRF(key, counter || label || 0 || context || length in bits)."""
    fixed = b"usr\x00" + nonce + (length * 8).to_bytes(4, "big")
    blocks = range(1, -(-length // _BLOCK_BYTES) + 1)
    return b"".join(_hmac(key, counter.to_bytes(4, "big") + fixed) for counter in blocks)[:length]


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)
