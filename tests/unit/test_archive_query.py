"""What is asked of kept messages as text: values, or every fault by its parameter; marks come back as given."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatcore.archive import Mark, SessionMark, SessionQuery, terms
from chatcore.archive_query import (
    is_session_id,
    mark_text,
    parse_entries,
    parse_messages,
    parse_sessions,
    time_text,
)
from chatcore.errors import Refusal
from chatcore.keyed import base64url

MESSAGE = "0b7f9c3e-9d2a-4c1e-8f0b-3a5d7e9c1b2f"
SESSION = "s_Jb2hQmZ4T8yVn0Rk1XwPLg"
MARK = mark_text(Mark(1_790_000_000_000_000, MESSAGE, 1))
SESSION_MARK = mark_text(SessionMark(1_790_000_000_000_000, SESSION))
BOTS = ("default", "shop")


def test_nothing_is_asked_for_by_nothing() -> None:
    assert parse_messages(b"") == (None, 50)
    assert parse_entries(b"") == (None, 50)
    assert parse_sessions(b"", BOTS) == SessionQuery()


def test_everything_that_may_be_asked_is_understood() -> None:
    query = (
        f"q={quote('grüße')}+-x&origin=https://a.test&bot=shop&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00%2B01:00"
        f"&before={SESSION_MARK}&limit=100"
    )
    assert parse_sessions(query.encode(), BOTS) == SessionQuery(
        words="grüße -x",
        origin="https://a.test",
        bot="shop",
        begin=1_767_225_600.0,
        end=1_767_308_400.0,
        before=SessionMark(1_790_000_000_000_000, SESSION),
        limit=100,
    )
    asked = f"before={MARK}&limit=200".encode()
    assert parse_messages(asked) == (Mark(1_790_000_000_000_000, MESSAGE, 1), 200)
    assert parse_entries(b"before=17&limit=1") == (17, 1)


@given(st.integers(0, 10**16 - 1), st.uuids(), st.sampled_from((0, 1)))
def test_every_mark_comes_back(microseconds: int, message_id: object, role: int) -> None:
    mark = Mark(microseconds, str(message_id), role)
    text = mark_text(mark)
    assert text is not None
    assert parse_messages(f"before={text}".encode())[0] == mark
    assert quote(text) == text


BAD_MARKS = (
    "",
    "x",
    "1",
    "%00",
    "a" * 2000,
    base64url(b"[1]"),
    base64url(b"{}"),
    base64url(b"null"),
    base64url(b'["1","a",1]'),
    base64url(f'[-1,"{MESSAGE}",1]'.encode()),
    base64url(f'[10000000000000000,"{MESSAGE}",1]'.encode()),
    base64url(f'[1,"{MESSAGE}",2]'.encode()),
    base64url(f'[1,"{MESSAGE.upper()}",1]'.encode()),
    base64url(b'[1,"not a uuid",1]'),
    base64url(b'[1,"\xff",1]'),
)


@pytest.mark.parametrize("mark", BAD_MARKS)
def test_what_is_no_mark_is_refused(mark: str) -> None:
    for parse in (parse_messages, lambda query: parse_sessions(query, BOTS)):
        with pytest.raises(Refusal) as refused:
            parse(f"before={mark}".encode())
        assert [fault.field for fault in refused.value.errors] == ["before"]


def test_a_mark_of_sessions_is_none_of_messages() -> None:
    with pytest.raises(Refusal):
        parse_messages(f"before={SESSION_MARK}".encode())
    with pytest.raises(Refusal):
        parse_sessions(f"before={MARK}".encode(), BOTS)


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", ["limit"]),
        ("limit=101", ["limit"]),
        ("limit=ten", ["limit"]),
        ("limit=1.0", ["limit"]),
        ("limit=-1", ["limit"]),
        ("limit=", ["limit"]),
        ("limit=%D9%A1", ["limit"]),
        ("limit=1&limit=1", ["limit"]),
        ("q=", ["q"]),
        ("q=%20", ["q"]),
        ("q=-shoes", ["q"]),
        ("q=%22%22", ["q"]),
        ("q=a%00", ["q"]),
        (f"q={'a' * 201}", ["q"]),
        (f"origin={'a' * 513}", ["origin"]),
        ("bot=nobody", ["bot"]),
        ("from=yesterday&to=2026-13-01T00:00:00Z", ["from", "to"]),
        ("from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", ["from"]),
        ("offset=1&limit=9999", ["offset", "limit"]),
    ],
)
def test_every_fault_of_a_search_is_named(query: str, fields: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        parse_sessions(query.encode(), BOTS)
    assert [fault.field for fault in refused.value.errors] == fields
    assert refused.value.kind.code == "invalid_request"


@pytest.mark.parametrize("query", ["before=x", "before=-1", "before=1.5", f"before={'9' * 19}", "limit=101", "after=1"])
def test_what_is_no_page_of_the_audit_log_is_refused(query: str) -> None:
    with pytest.raises(Refusal):
        parse_entries(query.encode())


@pytest.mark.parametrize("query", ["limit=201", "limit=0", "q=a", "a=1&" * 30])
def test_what_is_no_page_of_messages_is_refused(query: str) -> None:
    with pytest.raises(Refusal):
        parse_messages(query.encode())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("red shoes", ["red", "shoes"]),
        ('"red shoes" -blue', ["red", "shoes"]),
        ('red -"blue shoes" or green', ["red", "green"]),
        ("well-known", ["well", "known"]),
        ("-a -b", []),
        ("!?", []),
        ("OR or", []),
        ("naïve ÉTÉ", ["naïve", "ÉTÉ"]),
        ('-"never closed', []),
    ],
)
def test_words_that_are_looked_for(words: str, wanted: list[str]) -> None:
    assert list(terms(words)) == wanted


def test_ids_of_sessions_have_one_form() -> None:
    assert is_session_id(SESSION)
    assert is_session_id(f"w_{'A' * 43}")  # named by a page with n8n's widget
    assert is_session_id(f"o_{'A' * 43}")  # named by a program with a key
    assert not is_session_id(f"w_{'A' * 22}")
    assert not is_session_id(f"s_{'A' * 43}")
    for other in ("", "s_", SESSION[:-1], f"{SESSION}a", f"{SESSION}\n", SESSION.replace("J", "ä"), "x" * 24):
        assert not is_session_id(other)


def test_times_have_milliseconds_and_end_in_z() -> None:
    assert time_text(1_767_225_600) == "2026-01-01T00:00:00.000Z"
    assert time_text(1_767_225_600.1239) == "2026-01-01T00:00:00.123Z"
