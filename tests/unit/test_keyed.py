"""What is derived from a secret, beside a second reading of the standards."""

import base64
import hashlib
import hmac

import msgspec

from chatcore import keyed
from chatcore.model import User


def sha256(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def test_a_key_for_one_purpose_is_hkdf() -> None:
    # RFC 5869: PRK = HMAC(salt, IKM); T(1) = HMAC(PRK, info || 0x01).
    assert keyed.derive(b"secret", "label") == sha256(sha256(b"chatcore", b"secret"), b"label\x01")


def test_a_user_is_enciphered_by_a_keystream_that_never_repeats() -> None:
    user = User("u" * 200)
    key, nonce = b"k" * 32, bytes(range(16))
    sealed = base64.urlsafe_b64decode(keyed.seal(user, key, nonce) + "==")
    assert sealed[:16] == nonce
    enciphered = sealed[16:]
    assert len(enciphered) % 64 == 0
    plain = msgspec.json.encode(user).ljust(len(enciphered))
    blocks = []
    for start in range(0, len(plain), 32):
        counter = (start // 32 + 1).to_bytes(4, "big")
        stream = sha256(key, counter + b"usr\0" + nonce + (len(plain) * 8).to_bytes(4, "big"))
        blocks.append(stream)
        assert enciphered[start : start + 32] == bytes(a ^ b for a, b in zip(plain[start:], stream, strict=False))
    assert len(set(blocks)) == len(blocks) > 6


def test_every_kind_of_browser_has_its_own_fingerprint() -> None:
    prints = keyed.fingerprints(b"k" * 32)
    assert len(prints) == len(set(prints.values())) == 15
    assert not set(prints.values()) & set(keyed.fingerprints(b"l" * 32).values())
