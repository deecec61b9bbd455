"""Pages, sessions, feedback, message ids, media types: the smaller things that clients send."""

import json
from typing import Any

import pytest

from chatcore import intake
from chatcore.errors import Refusal
from chatcore.intake import Feedback, SessionRequest
from chatcore.settings import IntakeSettings

SETTINGS = IntakeSettings()
ID = "0b9f4ac2-1111-4111-8111-abcdefabcdef"


def body(**members: Any) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://shop.example.com/a/b?token=secret#top", "https://shop.example.com/a/b"),
        ("https://shop.example.com", "https://shop.example.com/"),
        ("HTTP://Shop.Example.com:80/A", "http://shop.example.com/A"),
        ("https://shop.example.com:8443/?q", "https://shop.example.com:8443/"),
        ("https://user:secret@shop.example.com/a", "https://shop.example.com/a"),
        ("https://shop.example.com?x=/y", "https://shop.example.com/"),
        ("http://[2001:db8::1]:8080/x", "http://[2001:db8::1]:8080/x"),
        ("https://bücher.example/ä/%20", "https://bücher.example/ä/%20"),
        ("https://a.b/" + "x" * 2036, "https://a.b/" + "x" * 2036),
        ("https://a.b/" + "x" * 2037, None),
        ("", None),
        ("/a", None),
        ("//a.b/", None),
        ("ftp://a.b/", None),
        ("javascript:alert(1)", None),
        ("javascript://a.b/%0aalert(1)", None),
        ("data:text/html,x", None),
        ("file:///etc/passwd", None),
        ("https://", None),
        ("https:///a", None),
        ("https://a.b:99999/", None),
        ("https://a.b:x/", None),
        ("https://a@b@c/", None),
        ("https://a.b\\@c/", None),
        ("https://a.b/x y", None),
        ("https://a.b/x\r\ny", None),
        (" https://a.b/", None),
        ("https://a.b/\n", None),
        ("https://a b/", None),
        ("https://<a>/", None),
    ],
)
@pytest.mark.parametrize("message", ["usual", "odd \\"])
def test_of_a_page_only_origin_and_path_are_kept(url: str, kept: str | None, message: str) -> None:
    raw = body(message=message, page_url=url)
    if kept is None:
        with pytest.raises(Refusal) as refused:
            intake.parse_chat(raw, SETTINGS)
        assert refused.value.errors[0].field == "page_url"
    else:
        assert intake.parse_chat(raw, SETTINGS).page_url == kept


def test_a_session_may_be_asked_for_with_nothing() -> None:
    assert intake.parse_session(b"") == SessionRequest()
    assert intake.parse_session(b"{}") == SessionRequest()
    assert intake.parse_session(
        body(bot="sales", page_url="https://a.b/c?d", identity_token="x.y.z", challenge_token="t")
    ) == SessionRequest("sales", "https://a.b/c", "x.y.z", "t")


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"bot": "Sales"}, "bot"),
        ({"bot": "a" * 33}, "bot"),
        ({"bot": None}, "bot"),
        ({"page_url": "x"}, "page_url"),
        ({"identity_token": 5}, "identity_token"),
        ({"identity_token": ""}, "identity_token"),
        ({"identity_token": "x" * 8193}, "identity_token"),
        ({"challenge_token": "ä"}, "challenge_token"),
        ({"challenge_token": "a\r\nb"}, "challenge_token"),
        ({"message": "x"}, "message"),
    ],
)
def test_what_a_session_request_must_not_say(members: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as refused:
        intake.parse_session(body(**members))
    assert refused.value.kind.code == "invalid_request"
    assert [fault.field for fault in refused.value.errors] == [field]


def test_feedback() -> None:
    assert intake.parse_feedback(b'{"rating":"up"}') == Feedback("up")
    assert intake.parse_feedback(body(rating="down", comment="no")) == Feedback("down", "no")
    for members in (
        {},
        {"rating": "meh"},
        {"rating": ["up"]},
        {"rating": "up", "comment": "x" * 2001},
        {"rating": "up", "x": 1},
    ):
        with pytest.raises(Refusal) as refused:
            intake.parse_feedback(body(**members))
        assert refused.value.kind.code == "invalid_request"


def test_message_ids() -> None:
    assert intake.check_message_id(ID.upper().replace("-", "")) == ID
    assert intake.check_message_id("00000000-0000-0000-0000-000000000000")
    for text in ("", "1", ID + "0", ID + "\n", ID.replace("a", "g"), "../" + ID):
        with pytest.raises(Refusal) as refused:
            intake.check_message_id(text)
        assert refused.value.errors[0].field == "message_id"


@pytest.mark.parametrize(
    "value",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
        b"application/json ; profile=x",
        b"application/json;",
    ],
)
def test_json_in_utf_8_is_the_media_type(value: bytes) -> None:
    intake.media_type(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"text/plain",
        b"text/json",
        b"application/jsonp",
        b"application/json, text/plain",
        b"application/json; charset=latin-1",
        b"application/json; charset=utf-16",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"\xff",
    ],
)
def test_other_media_types_are_refused(value: bytes | None) -> None:
    with pytest.raises(Refusal) as refused:
        intake.media_type(value)
    assert refused.value.kind.code == "unsupported_media_type"
