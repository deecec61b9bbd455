"""Export and import in a real browser: what comes back is what was there, and a hostile file changes nothing."""

import json
import re
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext

from tests.support.history_tab import HistoryTab
from tests.support.server import ChatServer

FILLED = r"""
  await p.saveSession({ session_id: "c_1", bot: "sales", created_at: time(7) });
  await p.saveSession({ session_id: "c-empty", created_at: time(7) });
  const contents = ["plain", "\0 \ud800 \udfff", "<script>x</script>", "\u202e \u05d0", "\r\n``` \ud83d\ude00", " "];
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


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> BrowserContext:
    return await browser.new_context()


@pytest_asyncio.fixture(loop_scope="session")
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
