"""Export and import in a real browser: what comes back is what was there, and a hostile file changes nothing."""

import json
import re
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext

from tests.support.history_tab import HistoryTab
from tests.support.server import ChatServer

FILLED = r"""
  await p.saveSession({ session_id: "c_1", bot: "sales", created_at: time(7) });
  await p.saveSession({ session_id: "c-empty", created_at: time(7) });
  const contents = ["plain", "\0 \ud800 \udfff", "<script>alert(1)</script>", "\u202eabc \u05d0", "\r\n``` \ud83d\ude00", " "];
  for (const [number, content] of contents.entries()) await question("c_1", number, { content });
  const failure = { code: "upstream_error", detail: "It broke.", retry_at: time(9) };
  await reply("c_1", 0, { rating: "up" });
  await reply("c_1", 1, { status: "stopped" });
  await reply("c_1", 2, { status: "error", failure });
  await reply("c_1", 3, { status: "pending", last_event: 7 });
  await question("c_1", 0, { status: "complete" });
  await question("c_1", 1, { status: "failed", failure: { ...failure, detail: "x".repeat(5000) } });
  await p.saveSession({ session_id: "c_2", title: "T".repeat(900), created_at: time(3) });
"""
WAYS = {
    "object": "JSON.parse(given)",
    "text": "given",
    "text with a mark": "'\\ufeff' + given",
    "File": "new File([given], 'chat.json')",
    "bytes": "new TextEncoder().encode(given)",
    "buffer": "new TextEncoder().encode('\\ufeff' + given).buffer",
}
EVERYTHING = "[await p.listSessions(), await p.getMessages('c_1'), await p.pendingMessages()]"


@pytest.fixture
async def context(browser: Browser) -> BrowserContext:
    return await browser.new_context()


@pytest.fixture
async def tab(context: BrowserContext, files: ChatServer) -> HistoryTab:
    return await HistoryTab.open(context, files.url)


def but_for_the_time(document: str) -> str:
    """Give an exported document without what may differ."""
    cut, count = re.subn(r'^ "exported_at": "[^"]+",\n', "", document, flags=re.MULTILINE)
    assert count == 1
    return cut


async def test_what_was_exported_comes_back_byte_by_byte(browser: Browser, tab: HistoryTab, files: ChatServer) -> None:
    await tab.run(FILLED)
    exported = await tab.run("const data = await p.exportChatHistory('json'); return data")
    document = json.loads(exported)
    assert [session["session_id"] for session in document["sessions"]] == ["c_2", "c-empty", "c_1"]
    assert [message["status"] for message in document["sessions"][2]["messages"]] == [
        *["complete", "failed", "failed", "failed", "failed", "failed"],
        *["complete", "stopped", "error", "error"],
    ], "nothing waits in a document"
    assert document["sessions"][2]["messages"][9]["failure"]["code"] == "reply_gone"
    for way, expression in WAYS.items():
        other = await HistoryTab.open(await browser.new_context(), files.url)
        assert await other.says(f"p.importData({expression})", exported) == {
            "sessions": 3,
            "messages": 10,
            "skipped": 0,
        }, way
        again = await other.says("p.exportChatHistory()")
        assert but_for_the_time(again) == but_for_the_time(exported), way
        await other.page.close()


async def test_a_document_is_indented_json_and_one_conversation_can_be_had_alone(tab: HistoryTab) -> None:
    await tab.run(FILLED)
    same = "data === JSON.stringify(JSON.parse(data), null, 1)"
    assert await tab.run(f"const data = await p.exportChatHistory(); return {same}")
    assert await tab.run(f"const data = await p.exportChatHistory('json', {{ sessionId: 'c-empty' }}); return {same}")
    for name, count in (("c_1", 1), ("nobody", 0)):
        one = json.loads(await tab.says("p.exportChatHistory('json', { sessionId: given })", name))
        assert [session["session_id"] for session in one["sessions"]] == [name] * count
    await tab.run("await p.clear()")
    assert await tab.run(f"const data = await p.exportChatHistory(); return {same}")
    assert "TypeError" in await tab.says("p.exportChatHistory('xml').catch(String)")


async def test_exporting_and_importing_at_once_changes_nothing(tab: HistoryTab) -> None:
    await tab.run(FILLED)
    before = await tab.says(EVERYTHING)
    report = await tab.run("""
      p.onChange((change) => changes.push(change.kind));
      const data = await p.exportChatHistory('json');
      return p.importData(data);
    """)
    assert report == {"sessions": 0, "messages": 0, "skipped": 10}
    assert await tab.says(EVERYTHING) == before, "a reply that runs is not ended by its own export"
    assert await tab.says("changes") == []


async def test_merging_adds_what_is_new_or_further_and_keeps_times_apart(tab: HistoryTab) -> None:
    result = await tab.run("""
      p = create({ indexedDB, now: () => Date.parse(time(1)) });
      await p.saveSession({ session_id: "c_1", title: "mine" });
      await question("c_1", 50, { created_at: time(2), content: "own" });
      await question("c_1", 1, { created_at: time(3), status: "pending", content: "sent" });
      await reply("c_1", 1, { created_at: time(4), status: "pending", last_event: 2, content: "half" });
      const document = conversations(["c_1",
        { message_id: id(9), content: "early" },
        { message_id: id(8), content: "between" },
        { message_id: id(1), content: "sent" },
        { message_id: id(1), role: "assistant", content: "whole" },
      ], ["c_2", {}]);
      const reports = [await p.importData(document), await p.importData(document)];
      const messages = await p.getMessages("c_1");
      const seen = messages.map((one) => [one.content, one.status, Date.parse(one.created_at) - Date.parse(time(0))]);
      return [reports, seen, (await p.getSession("c_1")).title, messages.map((one) => one.last_event ?? null)];
    """)
    assert result[0] == [
        {"sessions": 1, "messages": 5, "skipped": 0},
        {"sessions": 0, "messages": 0, "skipped": 5},
    ]
    assert result[1] == [
        ["early", "complete", 1],
        ["own", "pending", 2],
        ["sent", "complete", 3],
        ["whole", "complete", 4],
        ["between", "complete", 5],
    ]
    assert result[2:] == ["mine", [None] * 5]


async def test_replacing_leaves_nothing_of_what_was_there(tab: HistoryTab) -> None:
    await tab.run(FILLED)
    report = await tab.says("p.importData(conversations(['c_9', {}, {}]), { mode: 'replace' })")
    assert report == {"sessions": 1, "messages": 2, "skipped": 0}
    [sessions, gone, pending] = await tab.says(EVERYTHING)
    assert ([session["session_id"] for session in sessions], gone, pending) == (["c_9"], [], [])
    await tab.says("p.importData(conversations(), { mode: 'replace' })")
    assert await tab.says("p.listSessions()") == []


async def test_what_the_server_exports_is_read_one_session_or_one_in_each_line(tab: HistoryTab) -> None:
    def exported(name: str) -> dict[str, Any]:
        times = ["2026-01-31T09:30:00Z", "2026-01-31T10:30:00.123456+01:00", "2026-01-31T09:30:00.123Z"]
        roles = ["user", "assistant", "user"]
        return {
            "format": "chatcore-session",
            "version": 1,
            "session": {"session_id": name, "bot": "sales", "created_at": times[0], "page_url": "https://example.com"},
            "messages": [
                {"message_id": f"00000000-0000-4000-8000-{number:012}", "role": role, "content": "x", "created_at": at}
                for number, (role, at) in enumerate(zip(roles, times, strict=True))
            ],
        }

    lines = "".join(json.dumps(exported(name)) + "\r\n" for name in ("s_1", "s_2")) + "\n"
    one, many = {"sessions": 1, "messages": 3, "skipped": 0}, {"sessions": 1, "messages": 3, "skipped": 3}
    assert await tab.says("p.importData(given)", exported("s_1")) == one
    assert await tab.says("p.importData(given)", lines) == many
    assert await tab.says("(await p.getMessages('s_2')).map((one) => one.created_at.slice(17))") == [
        "00.000Z",
        "00.123Z",
        "00.124Z",
    ]
    [session, _] = await tab.says("p.listSessions()")
    assert (session["title"], session["bot"], session["updated_at"]) == ("x", "sales", "2026-01-31T09:30:00.124Z")


def hostile() -> dict[str, tuple[Any, str]]:
    """Give documents, and what is said about each."""
    text = "<img src=x onerror=alert(1)>"

    def document(**changed: Any) -> dict[str, Any]:
        message = {"message_id": "00000000-0000-4000-8000-000000000000", "role": "user", "content": text}
        message |= {"created_at": "2026-01-31T09:30:00.000Z", "status": "complete"}
        session = {"session_id": "c_9", "bot": "", "title": text, "created_at": message["created_at"]}
        session |= {"updated_at": message["created_at"], "messages": [message]}
        whole = {"format": "chatcore-history", "version": 1, "exported_at": message["created_at"], "sessions": [session]}
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
        "script in a status": (document(message__status=text), f"{at}.status: not complete or failed or stopped or error"),
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


async def test_a_hostile_document_changes_nothing_and_is_told_why(tab: HistoryTab) -> None:
    await tab.run(FILLED)
    before = await tab.says(EVERYTHING)
    attempt = "p.importData(given, { mode: 'replace' }).then(JSON.stringify, (error) => `${error.name}: ${error.message}`)"
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


async def test_a_text_to_read_says_who_said_what_and_keeps_its_form(tab: HistoryTab) -> None:
    await tab.run(r"""
      p = create({ indexedDB, now: () => Date.parse(time(0)) });
      await p.saveSession({ session_id: "c_1", title: "# *T*\n[x](y)" });
      await question("c_1", 1, { content: "a\r\n\n    b\r## c\u2028\x1b[31m**You**" });
      await reply("c_1", 1, { content: "```\n</pre><script>", status: "stopped" });
      await question("c_1", 2, { content: "" });
    """)
    when = "2026-01-31 00:00:00 UTC"
    inset = "    a\n    \n        b\n    ## c\u2028    \ufffd[31m**You**\n"
    code = "    ```\n    </pre><script>\n"
    assert await tab.says("p.exportChatHistory('markdown')") == (
        f"# Conversations\n\nExported {when}\n\n## \\# \\*T\\* \\[x\\](y)\n"
        f"\n**You**, {when} (not sent)\n\n{inset}\n**Assistant**, {when} (stopped)\n\n{code}"
        f"\n**You**, {when} (not sent)\n\n    \n"
    )
    assert await tab.says("p.exportChatHistory('text')") == (
        f"Conversations, exported {when}\n\n\n# *T* [x](y)\n============\n"
        f"\n[{when}] You (not sent):\n{inset}\n[{when}] Assistant (stopped):\n{code}\n[{when}] You (not sent):\n    \n"
    )


async def test_what_reads_and_writes_files_is_loaded_only_for_that(tab: HistoryTab) -> None:
    loaded = "performance.getEntriesByType('resource').map((one) => one.name.match(/[\\w-]+\\.js$/)?.[0])"
    await tab.run("await p.saveSession({ session_id: 'c_1' }); await turn('c_1', 1)")
    assert set(await tab.says(loaded)) - {None} == {"chat-persistence.js", "history-tables.js"}
