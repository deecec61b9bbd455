"""The token that n8n checks, the token by which a site vouches for its user, and the kinds of browsers."""

from typing import Any

import pytest
from jose import jwt

from chatcore.errors import Refusal
from chatcore.keyed import browser
from chatcore.model import User
from chatcore.settings import TokenSettings
from chatcore.tokens import Tokens
from tests.support.clock import START, ManualClock
from tests.support.jwts import forge, read

N8N = "n8n-secret-of-at-least-32-bytes-for-tests"
SITE = "site-secret-of-at-least-32-bytes-for-tests"
NOW = int(START)
DAY = 86400


def make(identity_secret: str | None = SITE) -> Tokens:
    settings = TokenSettings(jwt_secrets=("j" * 32,), session_secret=N8N, identity_secret=identity_secret)
    return Tokens(settings, ManualClock())


def test_n8n_gets_a_short_token_that_any_jwt_library_reads() -> None:
    token = make().for_n8n("s_abc", "0b9f4ac2-1111-4111-8111-111111111111")
    assert read(token, 0) == {"alg": "HS256", "typ": "JWT"}
    claims = jwt.decode(token, N8N, algorithms=["HS256"], audience="n8n", options={"verify_exp": False})
    assert claims == {
        "iss": "chatcore",
        "typ": "n8n",
        "aud": "n8n",
        "sub": "s_abc",
        "jti": "0b9f4ac2-1111-4111-8111-111111111111",
        "iat": NOW,
        "exp": NOW + 60,
    }


def test_a_token_for_an_upload_is_good_for_as_long_as_told() -> None:
    claims = read(make().for_n8n("s_abc", "m", 600.5))
    assert (claims["iat"], claims["exp"]) == (NOW, NOW + 601)


@pytest.mark.parametrize(
    ("claims", "user"),
    [
        ({"sub": "u", "exp": NOW + 60}, User("u")),
        ({"sub": "u", "name": "Ännchen 😀", "email": "a@b.c", "exp": NOW + 60}, User("u", "Ännchen 😀", "a@b.c")),
        ({"sub": "u" * 256, "name": None, "exp": NOW + DAY}, User("u" * 256)),
        ({"sub": "u", "exp": NOW + 60.5, "nbf": NOW - 0.5, "iat": NOW, "aud": "x", "role": "admin"}, User("u")),
        ({"sub": "u", "exp": NOW + 60, "nbf": NOW + 30}, User("u")),
    ],
)
def test_a_site_vouches_for_its_user(claims: dict[str, Any], user: User) -> None:
    assert make().identity(forge(claims, SITE)) == user


FAULTS: dict[str, dict[str, Any]] = {
    "no exp": {"exp": None},
    "exp past": {"exp": NOW},
    "exp too far": {"exp": NOW + DAY + 61},
    "exp true": {"exp": True},
    "exp a string": {"exp": str(NOW + 60)},
    "exp absurd": {"exp": 10**400},
    "exp infinite": {"exp": float("inf")},
    "nbf ahead": {"nbf": NOW + 61},
    "nbf null": {"nbf": None},
    "sub missing": {"sub": None},
    "sub empty": {"sub": ""},
    "sub a number": {"sub": 7},
    "sub too long": {"sub": "u" * 257},
    "sub with NUL": {"sub": "u\0"},
    "name a list": {"name": ["Ann"]},
    "name with a line feed": {"name": "Ann\nAdmin: true"},
    "name with a lone surrogate": {"name": "\ud800"},
    "name with C1": {"name": "\x9b"},
    "email too long": {"email": "e" * 257},
}


@pytest.mark.parametrize("change", FAULTS.values(), ids=FAULTS.keys())
def test_what_a_site_must_not_say(change: dict[str, Any]) -> None:
    claims = {"sub": "u", "exp": NOW + 60} | change
    with pytest.raises(Refusal) as refused:
        make().identity(forge(claims, SITE))
    assert refused.value.kind.code == "identity_invalid"


def test_only_the_sites_own_signature_counts() -> None:
    claims = {"sub": "u", "exp": NOW + 60}
    good = forge(claims, SITE)
    forged = [
        forge(claims, "j" * 32),
        forge(claims, N8N),
        forge(claims, SITE, algorithm="HS512"),
        forge(claims, SITE, {"alg": "none"}),
        forge(claims, SITE, {"alg": "HS256", "crit": ["x"]}),
        good[:-1],
        "",
        "x" * 9000,
    ]
    for token in forged:
        with pytest.raises(Refusal) as refused:
            make().identity(token)
        assert refused.value.kind.code == "identity_invalid"
    with pytest.raises(Refusal) as refused:
        make(identity_secret=None).identity(good)
    assert refused.value.kind.code == "identity_invalid"


WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
ANDROID = "Mozilla/5.0 (Linux; Android 10; K)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "kind"),
    [
        (f"{WINDOWS} {WEBKIT} Chrome/126.0.0.0 Safari/537.36", ("chrome", "desktop")),
        (f"{WINDOWS} {WEBKIT} Chrome/126.0.0.0 Safari/537.36 Edg/126.0.2592.87", ("edge", "desktop")),
        (f"{ANDROID} {WEBKIT} Chrome/126.0.0.0 Mobile Safari/537.36", ("chrome", "mobile")),
        (f"{ANDROID} {WEBKIT} Chrome/126.0.0.0 Mobile Safari/537.36 EdgA/126.0", ("edge", "mobile")),
        (f"{IPHONE} CriOS/126.0 Mobile/15E148 Safari/604.1", ("chrome", "mobile")),
        (f"{IPHONE} FxiOS/127.0 Mobile/15E148 Safari/605.1.15", ("firefox", "mobile")),
        (f"{IPHONE} Version/17.5 Mobile/15E148 Safari/604.1", ("safari", "mobile")),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15",
            ("safari", "desktop"),
        ),
        ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", ("firefox", "desktop")),
        ("curl/8.5.0", ("other", "other")),
        ("", ("other", "other")),
    ],
)
def test_browsers_are_told_apart_coarsely(user_agent: str, kind: tuple[str, str]) -> None:
    assert browser(user_agent) == kind
