"""Every JSON Web Token: session tokens, the short token n8n checks, a site's identity token; the only file with jose.

All are HS256 (RFC 7515, 7518, 7519). python-jose makes and checks the signatures, always with `algorithms=["HS256"]`.
The rest is checked here, since python-jose takes an empty secret, ignores `crit`, needs no `exp`, reads sloppy
base64url (one signature, four spellings) and lets the last of two members with one name win.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import Any

import msgspec
from jose import jwk, jws
from jose.exceptions import JOSEError

from chatcore import keyed, strictjson
from chatcore.errors import IDENTITY_INVALID, TOKEN_EXPIRED, TOKEN_INVALID, Refusal
from chatcore.model import Caller, User
from chatcore.ports import Clock
from chatcore.settings import TokenSettings

MAX_TOKEN_CHARS = 8192
_LEEWAY_SECONDS = 60  # how far two clocks may disagree
N8N_SECONDS = 60
_IDENTITY_SECONDS = 86400
_DAY_SECONDS = 86400
_LATEST = 1 << 40  # the year 36812: past any honest date, safe to calculate with
_MAX_USER_TEXT = 256
_CACHED_TOKENS = 10_000
_CACHED_BROWSERS = 1024
_READ_OF_USER_AGENT = 512  # browsers name themselves well within this

# 32 bytes are 43 characters, of which the last holds four bits: only 16 of the 64 are a canonical spelling.
_TOKEN = re.compile(r"([A-Za-z0-9_-]{1,2000})\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
_SESSION_ID = re.compile(r"s_[A-Za-z0-9_-]{22}")
_BOT = re.compile(r"[a-z][a-z0-9]{0,31}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HEADER = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")


class Issued(msgspec.Struct, frozen=True):
    """A new session token. Times are whole epoch seconds."""

    session_id: str
    token: str
    issued_at: int
    expires_at: int


class Verified(msgspec.Struct, frozen=True):
    """What a session token says, its signature and form checked. Times are whole epoch seconds."""

    caller: Caller
    issued_at: int
    expires_at: int
    started_at: int


class _SessionClaims(msgspec.Struct, frozen=True, omit_defaults=True):
    iss: str
    typ: str
    sub: str
    iat: int
    exp: int
    sst: int
    fp: str
    bot: str | None = None
    usr: str | None = None


class _N8nClaims(msgspec.Struct, frozen=True, gc=False):
    iss: str
    typ: str
    aud: str
    sub: str
    jti: str
    iat: int
    exp: int


class _Checked(msgspec.Struct, frozen=True):
    """What does not change between two looks at one token. `fingerprints` are those of the secret that verified it."""

    verified: Verified
    fp: str
    fingerprints: Mapping[keyed.Browser, str]


class _Secret:
    """One secret and what is derived from it."""

    def __init__(self, secret: str) -> None:
        raw = secret.encode()
        if not raw:
            raise ValueError("a signing secret is empty")
        # As a JWK, since python-jose refuses plain secrets that look like a PEM file or an SSH key.
        self.key = jwk.construct({"kty": "oct", "k": urlsafe_b64encode(raw).decode()}, "HS256")
        self._raw = raw
        self.user_key = self.derive("session user")
        self.fingerprints = keyed.fingerprints(self.derive("session fingerprint"))

    def derive(self, label: str) -> bytes:
        """Give 32 bytes for one purpose."""
        return keyed.derive(self._raw, label)

    def sign(self, claims: msgspec.Struct) -> str:
        """Give the compact JWT of `claims`."""
        signed = _HEADER + b"." + urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=")
        signature: bytes = self.key.sign(signed)
        return (signed + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode()


class Tokens:
    """Makes and checks all tokens. A refusal's `__cause__` says why, for the log; it holds nothing of the token."""

    def __init__(self, settings: TokenSettings, clock: Clock) -> None:
        """Prepare all keys. Raises `ValueError` for an empty secret."""
        self._clock = clock
        self._secrets = [_Secret(secret) for secret in settings.jwt_secrets]
        self._current = self._secrets[0]
        self._n8n = _Secret(settings.session_secret)
        self._identity = [_Secret(settings.identity_secret)] if settings.identity_secret else []
        self._ttl = max(1, int(settings.session_ttl_hours * 3600))
        self._refresh = int(settings.session_refresh_days * _DAY_SECONDS)
        self._longest = max(1, int(settings.session_max_days * _DAY_SECONDS))
        self._several_bots = settings.several_bots
        self._browser = lru_cache(_CACHED_BROWSERS)(keyed.browser)
        # What raises is not cached, so forged tokens can push nothing out.
        self._checked = lru_cache(_CACHED_TOKENS)(self._check)

    def issue(
        self,
        user_agent: str,
        bot: str,
        user: User | None,
        *,
        session_id: str | None = None,
        started_at: int | None = None,
    ) -> Issued:
        """Make a session token, of a new session unless `session_id` and `started_at` continue one."""
        now = int(self._clock.now())
        started = now if started_at is None else min(started_at, now)
        expires = min(now + self._ttl, started + self._longest)
        session_id = session_id or "s_" + keyed.base64url(self._clock.token_bytes(16))
        claims = _SessionClaims(
            iss="chatcore",
            typ="session",
            sub=session_id,
            iat=now,
            exp=expires,
            sst=started,
            fp=self._current.fingerprints[self._browser(user_agent[:_READ_OF_USER_AGENT])],
            bot=bot if self._several_bots else None,
            usr=None if user is None else keyed.seal(user, self._current.user_key, self._clock.token_bytes(16)),
        )
        return Issued(session_id, self._current.sign(claims), now, expires)

    def verify(self, token: str, user_agent: str) -> Verified:
        """Check a session token. Raises `Refusal` `token_invalid` or `token_expired`.

        A bot that the token names may have been removed from the settings since: that is for the caller to check.
        """
        verified = self._of_this_browser(token, user_agent)
        if self._clock.now() >= verified.expires_at:
            raise Refusal(TOKEN_EXPIRED)
        return verified

    def refreshable(self, token: str, user_agent: str) -> Verified:
        """As `verify`, but also for a token that expired less than `SESSION_REFRESH_DAYS` ago.

        `token_expired` from `SESSION_MAX_DAYS` after the session's start on.
        """
        verified = self._of_this_browser(token, user_agent)
        if self._clock.now() >= min(verified.expires_at + self._refresh, verified.started_at + self._longest):
            raise Refusal(TOKEN_EXPIRED)
        return verified

    def refresh(self, token: str, user_agent: str) -> Issued:
        """Make a new token for the same session, bot and user, under the current secret."""
        verified = self.refreshable(token, user_agent)
        caller = verified.caller
        return self.issue(
            user_agent, caller.bot, caller.user, session_id=caller.session_id, started_at=verified.started_at
        )

    def for_n8n(self, session_id: str, message_id: str, seconds: float = N8N_SECONDS) -> str:
        """Make the token that n8n checks for one message: good for `seconds`, signed by `SESSION_SECRET_KEY`."""
        now = int(self._clock.now())
        until = now + ceil(seconds)
        return self._n8n.sign(_N8nClaims("chatcore", "n8n", "n8n", session_id, message_id, now, until))

    def identity(self, token: str) -> User:
        """Read the token by which a site vouches for its user. Raises `Refusal` `identity_invalid`.

        `exp` is required and at most 24 h ahead; it and `nbf` may be fractions (RFC 7519, NumericDate), since many
        sites divide milliseconds. Without `IDENTITY_SECRET_KEY` no such token is valid.
        """
        try:
            claims, _ = _open(token, self._identity)
            return _user(claims, self._clock.now())
        except ValueError as fault:
            raise Refusal(IDENTITY_INVALID) from fault

    def derive(self, label: str) -> bytes:
        """Give 32 bytes for keyed hashes of another consumer, derived from the current `JWT_SECRET_KEY`."""
        return self._current.derive("consumer " + label)

    def _of_this_browser(self, token: str, user_agent: str) -> Verified:
        if len(token) > MAX_TOKEN_CHARS:
            raise Refusal(TOKEN_INVALID) from ValueError("the token is too long")
        checked = self._checked(token)
        if checked.fp != checked.fingerprints[self._browser(user_agent[:_READ_OF_USER_AGENT])]:
            raise Refusal(TOKEN_INVALID) from ValueError("the token belongs to another kind of browser")
        return checked.verified

    def _check(self, token: str) -> _Checked:
        try:
            claims, secret = _open(token, self._secrets)
            return self._read(claims, secret)
        except ValueError as fault:
            raise Refusal(TOKEN_INVALID) from fault

    def _read(self, claims: dict[str, Any], secret: _Secret) -> _Checked:
        if claims.get("iss") != "chatcore" or claims.get("typ") != "session":
            raise ValueError("iss or typ is not a session token's")
        sub, fp, bot, usr = claims.get("sub"), claims.get("fp"), claims.get("bot", "default"), claims.get("usr")
        if not (isinstance(sub, str) and _SESSION_ID.fullmatch(sub)):
            raise ValueError("sub is not a session id")
        if not (isinstance(bot, str) and _BOT.fullmatch(bot)):
            raise ValueError("bot is not a name")
        if not (isinstance(fp, str) and (usr is None or isinstance(usr, str))):
            raise ValueError("fp or usr is not a string")
        iat, exp, sst = (_whole_date(claims, name) for name in ("iat", "exp", "sst"))
        if iat > self._clock.now() + _LEEWAY_SECONDS:
            raise ValueError("iat is ahead")
        if not sst <= iat < exp <= sst + self._longest:
            raise ValueError("iat, exp and sst contradict one another or SESSION_MAX_DAYS")
        user = None if usr is None else keyed.unseal(usr, secret.user_key)
        return _Checked(Verified(Caller(sub, bot, user), iat, exp, sst), fp, secret.fingerprints)


def _open(token: str, secrets: Sequence[_Secret]) -> tuple[dict[str, Any], _Secret]:
    """Give the claims of a well-formed HS256 token, and which secret signed it. Raises `ValueError`."""
    shape = _TOKEN.fullmatch(token) if len(token) <= MAX_TOKEN_CHARS else None
    if shape is None:
        raise ValueError("not a compact JWT with a 32-byte signature")
    header = _members(keyed.unbase64url(shape[1]))
    if header.get("alg") != "HS256" or "crit" in header:
        raise ValueError("the header asks for another algorithm or for extensions")
    for secret in secrets:
        try:
            payload = jws.verify(token, secret.key, algorithms=["HS256"])
        except JOSEError:
            continue
        return _members(payload), secret
    raise ValueError("no secret of ours made this signature")


def _members(raw: bytes) -> dict[str, Any]:
    value = strictjson.decode(raw)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one kind of fault, whatever is wrong with a token
    return value


def _whole_date(claims: dict[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 < value < _LATEST:  # bool is an int to Python, not to RFC 7519
        raise ValueError(f"{name} is not a whole date")
    return value


def _date(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:  # so not NaN either
        raise ValueError(f"{name} is not a date")
    return float(value)


def _user(claims: dict[str, Any], now: float) -> User:
    if not now < _date(claims, "exp") <= now + _IDENTITY_SECONDS + _LEEWAY_SECONDS:
        raise ValueError("exp is past or more than a day ahead")
    if "nbf" in claims and _date(claims, "nbf") > now + _LEEWAY_SECONDS:
        raise ValueError("nbf is ahead")
    for name in ("sub", "name", "email"):
        text = claims.get(name)
        if text is None and name != "sub":
            continue
        if not isinstance(text, str) or len(text) > _MAX_USER_TEXT or _UNPRINTABLE.search(text):
            raise ValueError(f"{name} is not a text of at most {_MAX_USER_TEXT} characters")
    if not claims["sub"]:
        raise ValueError("sub is empty")
    return User(sub=claims["sub"], name=claims.get("name"), email=claims.get("email"))
