"""Documents that somebody made up: each is refused whole, with its place and its fault, and changes nothing."""

import json
from typing import Any

from playwright.async_api import Browser

from tests.support.history_tab import HistoryTab
from tests.support.server import ChatServer

EVERYTHING = "[await p.listSessions(), await p.getMessages('c_1'), await p.pendingMessages()]"


def hostile() -> dict[str, tuple[Any, str]]:
    """Give documents, and what is said about each."""
    text = "<img src=x onerror=alert(1)>"

    def document(**changed: Any) -> dict[str, Any]:
        message: dict[str, Any] = {
            "message_id": "00000000-0000-4000-8000-000000000000",
            "role": "user",
            "content": text,
        }
        message |= {"created_at": "2026-01-31T09:30:00.000Z", "status": "complete"}
        session: dict[str, Any] = {"session_id": "c_9", "bot": "", "title": text, "created_at": message["created_at"]}
        session |= {"updated_at": message["created_at"], "messages": [message]}
        whole = {
            "format": "chatcore-history",
            "version": 1,
            "exported_at": message["created_at"],
            "sessions": [session],
        }
        for name, value in changed.items():
            place, _, member = name.rpartition("__")
            {"": whole, "session": session, "message": message}[place][member] = value
        return whole

    at, session = "sessions[0].messages[0]", document()["sessions"][0]
    twice = [*session["messages"], {**session["messages"][0], "created_at": "2027-01-31T09:30:00.000Z"}]
    raw = json.dumps(document())
    return {
        "nothing": (None, "format: not a chat history"),
        "a number": (7, "format: not a chat history"),
        "another format": (document(format="other"), "format: not a chat history"),
        "a newer version": (document(version=2, news=[]), "version: newer than what is known here"),
        "no version": (document(version="1"), "version: not 1"),
        "an empty file": ("", "not JSON, or cut off"),
        "cut off": (raw[:-20], "not JSON, or cut off"),
        "cut off in lines": (json.dumps(document(), indent=1)[:-20], "not JSON, or cut off"),
        "deep": ("[" * 1_000_000, "not JSON, or cut off"),
        "deep and closed": ("[" * 100_000 + "]" * 100_000, "format: not a chat history"),
        "deep inside": (raw.replace('""', "[" * 5000 + "]" * 5000, 1), "sessions[0].bot: not a text"),
        "lines, one broken": (f'{raw}\n\n{{"a":', "line 3: not JSON"),
        "the same in two lines": (f"{raw}\n{raw}", "c_9: comes twice"),
        "too many lines": (f"{raw}\n{raw}" + "\n" * 10_000, "more than 10000 lines"),
        "no list": (document(sessions={}), "sessions: not a list"),
        "no session": (document(sessions=[None]), "sessions[0]: not an object"),
        "too many sessions": (document(sessions=[session] * 10_001), "sessions: more than 10000"),
        "the same twice": (document(sessions=[session] * 2), "c_9: comes twice"),
        "script in an id": (document(session__session_id=text), "sessions[0].session_id: not an id"),
        "a long id": (document(session__session_id="x" * 65), "sessions[0].session_id: longer than 64 characters"),
        "no id": (document(session__session_id=""), "sessions[0].session_id: not an id"),
        "a long title": (document(session__title="x" * 501), "sessions[0].title: longer than 500 characters"),
        "a title of another type": (document(session__title=[text]), "sessions[0].title: not a text"),
        "script in a message's id": (document(message__message_id=text), f"{at}.message_id: not an id"),
        "script in a role": (document(message__role=text), f"{at}.role: not user or assistant"),
        "script in a status": (
            document(message__status=text),
            f"{at}.status: not complete or failed or stopped or error",
        ),
        "a message that waits": (document(message__status="pending"), f"{at}.status: not complete or failed or st"),
        "a stopped question": (document(message__status="stopped"), f"{at}: stopped and of this role"),
        "script in a date": (document(message__created_at=text), f"{at}.created_at: not a date"),
        "the 30th of February": (document(message__created_at="2026-02-30T00:00:00Z"), f"{at}.created_at: not a date"),
        "hour 24": (document(message__created_at="2026-02-03T24:00:00Z"), f"{at}.created_at: not a date"),
        "no time zone": (document(message__created_at="2026-02-03T09:30:00"), f"{at}.created_at: not a date"),
        "before all": (document(message__created_at="1969-12-31T23:59:59Z"), f"{at}.created_at: not from 1970 to 9998"),
        "after all": (document(message__created_at="9999-01-01T00:00:00Z"), f"{at}.created_at: not from 1970 to 9998"),
        "a date as a number": (document(exported_at=0), "exported_at: not a text"),
        "a rated question": (document(message__rating="up"), f"{at}: a question with a rating"),
        "a rating of text": (document(message__rating=text), f"{at}.rating: not up or down"),
        "a complete failure": (
            document(message__failure={"code": "", "detail": ""}),
            f"{at}: complete and with a failure",
        ),
        "half a failure": (document(message__failure={"code": text}), f"{at}.failure: detail is missing"),
        "a content of another type": (document(message__content={"toString": 1}), f"{at}.content: not a text"),
        "a long content": (document(message__content="x" * 4_194_305), f"{at}.content: longer than 4194304 characters"),
        "an unknown member": (document(message__html=text), f'{at}: unknown member "html"'),
        "a token": (document(session__token="t"), 'sessions[0]: unknown member "token"'),
        "a missing member": (document(sessions=[{"session_id": "c_9"}]), "sessions[0]: bot is missing"),
        "the same message twice": (document(session__messages=twice), "sessions[0].messages[1]: comes twice"),
        "a message out of order": (
            document(session__messages=[twice[1], {**twice[0], "role": "assistant"}]),
            "sessions[0].messages[1]: not later than the message before",
        ),
        "a prototype": (raw[:-1] + ', "__proto__": {"polluted": 1}}', 'unknown member "__proto__"'),
        "a prototype inside": (
            raw.replace('"role"', '"__proto__": {"polluted": 1}, "role"'),
            f'{at}: unknown member "__proto__"',
        ),
        "a constructor": (document(message__constructor={"prototype": {}}), f'{at}: unknown member "constructor"'),
    }


async def test_a_hostile_document_changes_nothing_and_is_told_why(browser: Browser, files: ChatServer) -> None:
    tab = await HistoryTab.open(await browser.new_context(), files.url)
    await tab.run("await p.saveSession({ session_id: 'c_1' }); await turn('c_1', 1); await question('c_1', 2)")
    before = await tab.says(EVERYTHING)
    attempt = (
        "p.importData(given, { mode: 'replace' }).then(JSON.stringify, (error) => `${error.name}: ${error.message}`)"
    )
    for name, (document, reason) in hostile().items():
        said = await tab.says(attempt, document)
        assert said.startswith(f"HistoryFormatError: {reason}"), name
        assert len(said) < 300, name
    for made, reason in [
        ("'x'.repeat(2 ** 26 + 1)", "larger than 64 MiB"),
        ("new Uint8Array(2 ** 26 + 1)", "larger than 64 MiB"),
        ("{ arrayBuffer() {}, size: 2 ** 26 + 1 }", "larger than 64 MiB"),
        ("new Uint8Array([123, 255, 125])", "not UTF-8"),
        ("new Blob(['\\ud800'.repeat(3), new Uint8Array([255])])", "not UTF-8"),
        ("conversations(['c_9', ...Array(200_001).fill({})])", "sessions[0].messages: more than 200000"),
    ]:
        assert await tab.says(attempt.replace("given", made)) == f"HistoryFormatError: {reason}"
    assert await tab.says(EVERYTHING) == before
    assert await tab.says("({}).polluted === undefined")
