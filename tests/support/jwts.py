"""Makes tokens as strangers would: with the right secret or another, and with any header and claims."""

import base64
import hashlib
import hmac
import json
from typing import Any

_HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def part(value: Any) -> str:
    """One part of a token: `value` as JSON, or bytes as they are."""
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read(token: str, index: int = 1) -> dict[str, Any]:
    """The claims of a token (index 0: its header), unchecked."""
    text = token.split(".")[index]
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return value


def forge(claims: Any, secret: str, header: Any = None, algorithm: str = "HS256") -> str:
    """A token of these claims (or raw bytes), signed with the secret."""
    signed = f"{part(header or {'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}"
    signature = hmac.digest(secret.encode(), signed.encode(), _HASHES[algorithm])
    return f"{signed}.{part(signature)}"
