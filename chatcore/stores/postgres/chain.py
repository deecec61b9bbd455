"""The chain of the audit log: each entry's hash is an HMAC over the entry and the hash before it. Pure.

So nobody without the key can change an entry, or take one out of the middle, without the entry behind it telling. What
is cut off at the end is told only by who noted the head (number and hash) before.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from chatcore import keyed

BEGINNING = b""
"""What stands for the hash before the first entry."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One entry as the chain is made of it. `at_us`: epoch microseconds; `address` is a keyed hash already."""

    number: int
    at_us: int
    actor: str
    action: str
    session_id: str | None
    address: str
    detail: Mapping[str, Any]
    key_id: str
    hash: bytes = b""


class Head(msgspec.Struct, frozen=True):
    """The last entry of a chain. Noted down somewhere else, it tells later whether the end was cut off."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.hash.hex()}"


class Key(msgspec.Struct, frozen=True):
    """A key of the chain, and the id that entries made with it bear; it tells nothing of the key."""

    id: str
    secret: bytes


class Fault(msgspec.Struct, frozen=True):
    """The first entry that is not as it was written, or that is missing; `problem` is a sentence for operators."""

    number: int
    problem: str


class Walk:
    """Goes along a chain, entry by entry; `fault` is the first thing that is wrong, `keys_used` who made how many."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.head = Head(0, BEGINNING)
        self.fault: Fault | None = None
        self.keys_used: dict[str, int] = {}
        self._keys = {key.id: key.secret for key in keys}

    def along(self, links: Iterable[Link]) -> bool:
        """Check the next entries in the order of their numbers; false from the first fault on."""
        for link in links:
            if self.fault is None:
                self.fault = self._wrong_with(link)
            if self.fault is not None:
                return False
            self.head = Head(link.number, link.hash)
            self.keys_used[link.key_id] = self.keys_used.get(link.key_id, 0) + 1
        return self.fault is None

    def _wrong_with(self, link: Link) -> Fault | None:
        expected = self.head.number + 1
        if link.number != expected:
            until = f" to {link.number - 1}" if link.number - 1 > expected else ""
            return Fault(expected, f"entry {expected}{until} is missing")
        secret = self._keys.get(link.key_id)
        if secret is None:
            return Fault(link.number, f"entry {link.number} was made with a key that is not known here ({link.key_id})")
        if not hmac.compare_digest(link.hash, digest(secret, self.head.hash, link)):
            return Fault(link.number, f"entry {link.number} was changed, or what stood before it was")
        return None


def digest(secret: bytes, before: bytes, link: Link) -> bytes:
    """Give the hash of an entry behind one whose hash is `before`."""
    return hmac.digest(secret, before + canonical(link), hashlib.sha256)


def canonical(link: Link) -> bytes:
    """Write an entry in the one way that is hashed: a JSON array, members of objects in the order of their names."""
    parts = (
        *(link.number, link.at_us, link.actor, link.action, link.session_id),
        *(link.address, link.detail, link.key_id),
    )
    return msgspec.json.encode(parts, order="sorted")


def keys(audit_key: str | None, jwt_secrets: Sequence[str]) -> tuple[Key, ...]:
    """Give the keys that entries may have been made with; new ones are made with the first.

    That is AUDIT_KEY, or where none is set what is derived from the first secret of session tokens.
    """
    secrets = [*([] if audit_key is None else [audit_key]), *jwt_secrets]
    derived = (keyed.derive(secret.encode(), "audit log") for secret in secrets)
    return tuple(Key(keyed.derive(secret, "audit key id").hex()[:8], secret) for secret in derived)


def missed(last: Head, found: bytes | None, noted: Head) -> Fault | None:
    """Compare a chain that ends with `last` with a head noted before; `found` is the hash at that head's number."""
    if last.number < noted.number:
        first = last.number + 1
        until = f" to {noted.number}" if noted.number > first else ""
        return Fault(first, f"entry {first}{until} was cut off at the end")
    if found is None or not hmac.compare_digest(found, noted.hash):
        return Fault(noted.number, f"entry {noted.number} is not the one that was noted as head")
    return None
