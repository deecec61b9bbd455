"""Session tokens made by others: whatever is not exactly ours is refused, even under the right secret."""

from typing import Any

import pytest

from chatcore.errors import Refusal
from chatcore.settings import TokenSettings
from chatcore.tokens import Issued, Tokens
from tests.support.clock import START, ManualClock
from tests.support.jwts import forge, part, read

JWT = "jwt-secret-of-at-least-32-bytes-for-tests"
N8N = "n8n-secret-of-at-least-32-bytes-for-tests"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
NOW = int(START)
DAY = 86400


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(TokenSettings(jwt_secrets=(JWT,), session_secret=N8N), ManualClock())


@pytest.fixture
def issued(tokens: Tokens) -> Issued:
    return tokens.issue(CHROME, "default", None)


def refusal(tokens: Tokens, token: str) -> str:
    with pytest.raises(Refusal) as refused:
        tokens.verify(token, CHROME)
    return refused.value.kind.code


CHANGES: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "somebody"},
    "no issuer": {"iss": None},
    "another kind": {"typ": "n8n"},
    "a session id by hand": {"sub": "s_1"},
    "a widget's session": {"sub": "w_" + "a" * 22},
    "a trailing line feed": {"sub": "s_" + "a" * 22 + "\n"},
    "a number as session": {"sub": 5},
    "iat a string": {"iat": str(NOW)},
    "iat a float": {"iat": NOW + 0.0},
    "iat true": {"iat": True},
    "iat null": {"iat": None},
    "iat negative": {"iat": -5},
    "iat ahead": {"iat": NOW + 120, "exp": NOW + DAY},
    "exp a float": {"exp": NOW + 60.0},
    "exp true": {"exp": True},
    "exp a list": {"exp": [NOW + 60]},
    "exp before iat": {"exp": NOW},
    "exp absurd": {"exp": NOW + 91 * DAY},
    "exp far out": {"exp": 10**300},
    "sst a string": {"sst": "0"},
    "sst after iat": {"sst": NOW + 1},
    "fp a number": {"fp": 1},
    "fp another's": {"fp": "A" * 22},
    "bot in capitals": {"bot": "Sales"},
    "bot null": {"bot": None},
    "bot an object": {"bot": {}},
    "usr an object": {"usr": {"sub": "u"}},
    "usr readable": {"usr": part({"sub": "u"})},
    "usr empty": {"usr": ""},
    "usr no base64": {"usr": "A"},
    "usr another alphabet": {"usr": "ü"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_wrong_claims_are_refused_though_signed(tokens: Tokens, issued: Issued, change: dict[str, Any]) -> None:
    assert refusal(tokens, forge(read(issued.token) | change, JWT)) == "token_invalid"


@pytest.mark.parametrize("name", ["iss", "typ", "sub", "iat", "exp", "sst", "fp"])
def test_every_claim_is_required(tokens: Tokens, issued: Issued, name: str) -> None:
    claims = read(issued.token)
    del claims[name]
    assert refusal(tokens, forge(claims, JWT)) == "token_invalid"


def test_a_small_disagreement_of_clocks_is_borne(tokens: Tokens, issued: Issued) -> None:
    tokens.verify(forge(read(issued.token) | {"iat": NOW + 30}, JWT), CHROME)


def test_claims_of_later_versions_are_borne(tokens: Tokens, issued: Issued) -> None:
    tokens.verify(forge(read(issued.token) | {"later": [1]}, JWT), CHROME)


HEADERS: dict[str, Any] = {
    "none": {"alg": "none", "typ": "JWT"},
    "none in capitals": {"alg": "NONE"},
    "no algorithm": {"typ": "JWT"},
    "a list": {"alg": ["HS256"]},
    "RS256": {"alg": "RS256"},
    "crit": {"alg": "HS256", "crit": ["exp"]},
    "crit empty": {"alg": "HS256", "crit": []},
    "twice": b'{"alg":"none","alg":"HS256"}',
    "an array": ["HS256"],
    "no JSON": b"alg",
    "deep": b"[" * 1400,
    "no UTF-8": b'{"alg":"HS256","x":"\xff"}',
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_headers_that_ask_for_something_else_are_refused(tokens: Tokens, issued: Issued, header: Any) -> None:
    assert refusal(tokens, forge(read(issued.token), JWT, header)) == "token_invalid"


def test_header_members_without_effect_are_borne(tokens: Tokens, issued: Issued) -> None:
    tokens.verify(forge(read(issued.token), JWT, {"kid": "1", "alg": "HS256"}), CHROME)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_other_algorithms_are_refused(tokens: Tokens, issued: Issued, algorithm: str) -> None:
    assert refusal(tokens, forge(read(issued.token), JWT, algorithm=algorithm)) == "token_invalid"


@pytest.mark.parametrize("secret", ["", "another-secret-of-at-least-32-bytes!!!!", N8N, JWT + " "])
def test_other_secrets_are_refused(tokens: Tokens, issued: Issued, secret: str) -> None:
    assert refusal(tokens, forge(read(issued.token), secret)) == "token_invalid"


def test_n8n_tokens_are_no_session_tokens(tokens: Tokens, issued: Issued) -> None:
    assert refusal(tokens, tokens.for_n8n(issued.session_id, "m")) == "token_invalid"


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 3000, b'{"exp":' + b"9" * 5000 + b"}", b'{"exp":NaN}'],
)
def test_odd_payloads_are_refused_though_signed(tokens: Tokens, payload: bytes) -> None:
    assert refusal(tokens, forge(payload, JWT)) == "token_invalid"


def test_a_claim_given_twice_is_refused(tokens: Tokens, issued: Issued) -> None:
    claims = read(issued.token)
    raw = ('{"exp":1,' + ",".join(f'"{name}":{value!r}' for name, value in claims.items()) + "}").replace("'", '"')
    assert refusal(tokens, forge(raw.encode(), JWT)) == "token_invalid"


def test_odd_shapes_are_refused(tokens: Tokens, issued: Issued) -> None:
    token = issued.token
    head, claims, signature = token.split(".")
    unsigned = f"{part({'alg': 'none'})}.{claims}."
    shapes = [
        "",
        ".",
        "..",
        "a.b.c",
        "ü.b.c",
        token + ".",
        token + "=",
        " " + token,
        token + "\n",
        token[:-1],
        unsigned,
    ]
    shapes += [f"{head}.{claims}", f"{head}.{claims}.", f"{head}..{signature}", f"{token}.{claims}", token * 2]
    for shape in shapes:
        assert refusal(tokens, shape) == "token_invalid"


def test_a_token_has_one_spelling(tokens: Tokens, issued: Issued) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [letter for letter in alphabet if letter != issued.token[-1]]
    assert {refusal(tokens, issued.token[:-1] + letter) for letter in others} == {"token_invalid"}


def test_giants_are_refused(tokens: Tokens, issued: Issued) -> None:
    assert refusal(tokens, forge(read(issued.token) | {"later": "x" * 8000}, JWT)) == "token_invalid"
    assert refusal(tokens, "a" * 5_000_000) == "token_invalid"


def test_a_refusal_tells_the_log_why_and_holds_nothing_of_the_token(tokens: Tokens, issued: Issued) -> None:
    with pytest.raises(Refusal) as refused:
        tokens.verify(forge(read(issued.token) | {"sub": "private"}, JWT), CHROME)
    assert str(refused.value.__cause__) == "sub is not a session id"


@pytest.mark.parametrize("change", [{"sst": True}, {"sst": 1.0}, {"iat": True, "sst": 1}, {"exp": 2000.0}])
def test_no_boolean_or_float_is_a_date_even_where_its_number_fits(change: dict[str, Any]) -> None:
    at_the_epoch = Tokens(TokenSettings(jwt_secrets=(JWT,), session_secret=N8N), ManualClock(1000))
    claims = read(at_the_epoch.issue(CHROME, "default", None).token) | {"exp": 2000}
    at_the_epoch.verify(forge(claims | {"sst": 1}, JWT), CHROME)
    assert refusal(at_the_epoch, forge(claims | change, JWT)) == "token_invalid"
