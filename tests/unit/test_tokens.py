"""Session tokens: what is issued, what is believed, and for how long."""

import pytest

from chatcore.errors import Refusal
from chatcore.model import Caller, User
from chatcore.settings import TokenSettings
from chatcore.tokens import Issued, Tokens
from tests.support.clock import START, ManualClock
from tests.support.jwts import part, read

JWT = "jwt-secret-of-at-least-32-bytes-for-tests"
OLD = "the-secret-before-of-at-least-32-bytes!!"
N8N = "n8n-secret-of-at-least-32-bytes-for-tests"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
NEWER_CHROME = CHROME.replace("126", "141")
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
NOW = int(START)
HOUR, DAY = 3600, 86400
ANN = User(sub="u-1", name="Ann Lee", email="ann@example.com")


def make(clock: ManualClock, *secrets: str, several_bots: bool = False) -> Tokens:
    settings = TokenSettings(jwt_secrets=secrets or (JWT,), session_secret=N8N, several_bots=several_bots)
    return Tokens(settings, clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START + 0.75)


@pytest.fixture
def tokens(clock: ManualClock) -> Tokens:
    return make(clock)


@pytest.fixture
def issued(tokens: Tokens) -> Issued:
    return tokens.issue(CHROME, "default", None)


def code(refused: pytest.ExceptionInfo[Refusal]) -> str:
    return refused.value.kind.code


def refusal(tokens: Tokens, token: str, user_agent: str = CHROME) -> str:
    with pytest.raises(Refusal) as refused:
        tokens.verify(token, user_agent)
    return code(refused)


def test_a_session_token_has_the_claims_of_the_contract(issued: Issued) -> None:
    assert read(issued.token, 0) == {"alg": "HS256", "typ": "JWT"}
    claims = read(issued.token)
    fp = claims.pop("fp")
    assert len(fp) == 22
    assert claims == {
        "iss": "chatcore",
        "typ": "session",
        "sub": issued.session_id,
        "iat": NOW,
        "exp": NOW + DAY,
        "sst": NOW,
    }
    assert (issued.issued_at, issued.expires_at) == (NOW, NOW + DAY)
    assert issued.session_id.startswith("s_")
    assert len(issued.session_id) == 24


def test_sessions_differ(tokens: Tokens, issued: Issued) -> None:
    assert tokens.issue(CHROME, "default", None).session_id != issued.session_id


def test_what_is_issued_is_believed(tokens: Tokens, issued: Issued) -> None:
    for _ in range(2):  # the second look is a remembered one
        verified = tokens.verify(issued.token, CHROME)
        assert verified.caller == Caller(issued.session_id, "default")
        assert (verified.issued_at, verified.expires_at, verified.started_at) == (NOW, NOW + DAY, NOW)


def test_the_bot_travels_where_there_are_several(clock: ManualClock) -> None:
    tokens = make(clock, several_bots=True)
    issued = tokens.issue(CHROME, "sales", None)
    assert read(issued.token)["bot"] == "sales"
    assert tokens.verify(issued.token, CHROME).caller.bot == "sales"


def test_a_token_ends_though_it_is_remembered(clock: ManualClock, tokens: Tokens, issued: Issued) -> None:
    tokens.verify(issued.token, CHROME)
    clock.advance(DAY - 0.8)
    tokens.verify(issued.token, CHROME)
    clock.advance(0.1)
    assert refusal(tokens, issued.token) == "token_expired"


def test_a_token_survives_an_update_and_no_other_browser(tokens: Tokens, issued: Issued) -> None:
    tokens.verify(issued.token, NEWER_CHROME)
    assert refusal(tokens, issued.token, FIREFOX) == "token_invalid"
    assert refusal(tokens, issued.token, "") == "token_invalid"
    assert refusal(tokens, issued.token, "x" * 100_000) == "token_invalid"
    tokens.verify(issued.token, CHROME)


def test_the_previous_secret_still_verifies_and_a_refresh_moves_on(clock: ManualClock) -> None:
    before, both, after = make(clock, OLD), make(clock, JWT, OLD), make(clock, JWT)
    old = before.issue(CHROME, "default", ANN)
    assert both.verify(old.token, CHROME).caller == Caller(old.session_id, "default", ANN)
    assert refusal(both, old.token, FIREFOX) == "token_invalid"
    assert refusal(after, old.token) == "token_invalid"
    new = both.refresh(old.token, CHROME)
    assert after.verify(new.token, CHROME).caller == Caller(old.session_id, "default", ANN)
    assert read(new.token)["fp"] != read(old.token)["fp"]


def test_refreshing_keeps_session_start_and_user(clock: ManualClock, tokens: Tokens) -> None:
    first = tokens.issue(CHROME, "default", ANN)
    clock.advance(20 * DAY)
    second = tokens.refresh(first.token, CHROME)
    assert second.session_id == first.session_id
    assert read(second.token)["sst"] == NOW
    assert read(second.token)["usr"] != read(first.token)["usr"]
    verified = tokens.verify(second.token, CHROME)
    assert verified.caller.user == ANN
    assert (verified.issued_at, verified.expires_at) == (NOW + 20 * DAY, NOW + 21 * DAY)


def test_refreshing_has_its_time(clock: ManualClock, tokens: Tokens, issued: Issued) -> None:
    clock.advance(31 * DAY - 1)
    assert tokens.refreshable(issued.token, CHROME).caller.session_id == issued.session_id
    clock.advance(1)
    with pytest.raises(Refusal) as refused:
        tokens.refresh(issued.token, CHROME)
    assert code(refused) == "token_expired"


def test_a_session_has_an_end(clock: ManualClock, tokens: Tokens, issued: Issued) -> None:
    token = issued.token
    for _ in range(3):
        clock.advance(29 * DAY)
        token = tokens.refresh(token, CHROME).token
    clock.advance(2 * DAY + 12 * HOUR)
    last = tokens.refresh(token, CHROME)
    assert last.expires_at == NOW + 90 * DAY
    tokens.verify(last.token, CHROME)
    clock.advance(12 * HOUR)
    assert refusal(tokens, last.token) == "token_expired"
    with pytest.raises(Refusal) as refused:
        tokens.refresh(last.token, CHROME)
    assert code(refused) == "token_expired"


def test_another_browser_cannot_refresh(tokens: Tokens, issued: Issued) -> None:
    with pytest.raises(Refusal) as refused:
        tokens.refresh(issued.token, FIREFOX)
    assert code(refused) == "token_invalid"


def test_a_verified_user_travels_unreadable(clock: ManualClock, tokens: Tokens) -> None:
    first = tokens.issue(CHROME, "default", ANN)
    second = tokens.issue(CHROME, "default", ANN)
    assert make(clock).verify(first.token, CHROME).caller.user == ANN
    assert read(first.token)["usr"] != read(second.token)["usr"]
    shorter = tokens.issue(CHROME, "default", User("u-1", "Al", "al@example.com"))
    assert len(shorter.token) == len(first.token)
    for shown in (part(b"Ann"), "Ann", "example"):
        assert shown not in first.token


def test_the_largest_user_fits(tokens: Tokens) -> None:
    giant = User(sub="\U0001f600" * 256, name='"' * 256, email="\U0001f600" * 256)
    issued = tokens.issue(CHROME, "default", giant)
    assert len(issued.token) < 8192
    assert tokens.verify(issued.token, CHROME).caller.user == giant


def test_an_empty_secret_is_no_secret(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="empty"):
        make(clock, "")


def test_a_secret_may_look_like_an_ssh_key(clock: ManualClock) -> None:
    tokens = make(clock, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ somebody")
    tokens.verify(tokens.issue(CHROME, "default", None).token, CHROME)


def test_derived_keys_differ_by_label_and_secret(clock: ManualClock) -> None:
    tokens = make(clock)
    assert tokens.derive("a") == make(clock).derive("a")
    assert len({tokens.derive("a"), tokens.derive("b"), make(clock, OLD).derive("a")}) == 3
    assert len(tokens.derive("a")) == 32
