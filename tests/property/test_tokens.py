"""Whatever is done to a token, it is the one that was issued or none."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore.errors import Refusal
from chatcore.keyed import seal, unseal
from chatcore.model import User
from chatcore.settings import TokenSettings
from chatcore.tokens import Tokens
from tests.support.clock import ManualClock
from tests.support.jwts import forge

SECRET = "s" * 32
TOKENS = Tokens(
    TokenSettings(jwt_secrets=(SECRET, "t" * 32), session_secret="n" * 32, identity_secret="i" * 32), ManualClock()
)
TOKEN = TOKENS.issue("curl", "default", User("u", "Ann")).token
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=256)


def refused(token: str) -> str:
    with pytest.raises(Refusal) as refusal:
        TOKENS.verify(token, "curl")
    return refusal.value.kind.code


@given(at=st.integers(0, len(TOKEN) - 1), put=st.characters())
def test_no_changed_character_verifies(at: int, put: str) -> None:
    changed = TOKEN[:at] + put + TOKEN[at + 1 :]
    if changed != TOKEN:
        assert refused(changed) == "token_invalid"


@given(st.integers(0, len(TOKEN)), st.integers(0, len(TOKEN)), st.text(max_size=5))
def test_no_cut_or_inserted_piece_verifies(start: int, end: int, put: str) -> None:
    changed = TOKEN[:start] + put + TOKEN[end:]
    if changed != TOKEN:
        assert refused(changed) == "token_invalid"


@given(st.text())
def test_no_other_text_verifies(text: str) -> None:
    assert refused(text) == "token_invalid"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["iss", "typ", "sub", "iat", "exp", "sst", "fp", "bot", "usr"])


@settings(deadline=None)
@given(claims=JSON | st.dictionaries(NAMES, JSON | st.sampled_from(["chatcore", "session", "s_" + "a" * 22])))
def test_signed_nonsense_is_refused_and_never_breaks(claims: object) -> None:
    assert refused(forge(claims, SECRET)) == "token_invalid"
    with pytest.raises(Refusal) as refusal:
        TOKENS.identity(forge(claims, "j" * 32))
    assert refusal.value.kind.code == "identity_invalid"


@settings(deadline=None)
@given(claims=st.dictionaries(st.sampled_from(["sub", "name", "email", "exp", "nbf"]), JSON))
def test_identity_is_a_user_or_refused(claims: dict[str, object]) -> None:
    with contextlib.suppress(Refusal):
        assert 0 < len(TOKENS.identity(forge(claims, "i" * 32)).sub) <= 256


@given(sub=TEXT, name=st.none() | TEXT, email=st.none() | TEXT, nonce=st.binary(min_size=16, max_size=16))
def test_a_sealed_user_is_read_again_with_its_key_alone(
    sub: str, name: str | None, email: str | None, nonce: bytes
) -> None:
    user = User(sub, name, email)
    sealed = seal(user, b"k" * 32, nonce)
    assert unseal(sealed, b"k" * 32) == user
    with contextlib.suppress(ValueError):
        assert unseal(sealed, b"l" * 32) != user
