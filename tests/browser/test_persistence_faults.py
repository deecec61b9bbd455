"""A browser that denies, loses or fills its database: it goes on in memory, says so, and comes back by itself."""

import pytest
from playwright.async_api import Browser

from tests.support.history_tab import FULL, HistoryTab
from tests.support.server import ChatServer

DENIED = {
    "missing": "Object.defineProperty(globalThis, 'indexedDB', { value: undefined })",
    "secret": """
      Object.defineProperty(globalThis, "indexedDB", { get() { throw new DOMException("", "SecurityError"); } });
    """,
    "refused": "IDBFactory.prototype.open = () => { throw new DOMException('', 'SecurityError') }",
    "failing": """
      IDBFactory.prototype.open = () => {
        const request = { error: new DOMException("", "UnknownError") };
        setTimeout(() => request.onerror());
        return request;
      };
    """,
}
NEWER = """new Promise((done) => {
  const request = indexedDB.open("chatcore", 7);
  request.onsuccess = () => done(request.result.close());
})"""


async def open_tab(browser: Browser, server: ChatServer, *before: str) -> HistoryTab:
    """Open a tab in a fresh profile."""
    return await HistoryTab.open(await browser.new_context(), server.url, *before)


@pytest.mark.parametrize("denied", DENIED)
async def test_without_a_database_everything_works_in_memory(browser: Browser, files: ChatServer, denied: str) -> None:
    tab = await open_tab(browser, files, DENIED[denied])
    result = await tab.run("""
      p.onChange((change) => changes.push(change.kind));
      await p.init();
      const told = [p.storage, ...changes.splice(0)];
      await p.saveSession({ session_id: "c_1" });
      await turn("c_1", 1);
      await turn("c_1", 2);
      await question("c_1", 3);
      await p.saveSession({ session_id: "c_2", created_at: time(0) });
      const late = [await question("c_3", 1), await reply("c_1", 9)];
      const seen = [await contents("c_1"), await contents("c_1", { limit: 2 })];
      seen.push(await contents("c_1", { limit: 2, after: "0" }));
      const [, { created_at }] = await p.getMessages("c_1");
      seen.push(await contents("c_1", { limit: 1, before: created_at }), await contents("c_1", { after: created_at }));
      const found = (await p.search("A1")).map((one) => one.message.content);
      const names = (await p.listSessions()).map((one) => one.session_id);
      const waiting = (await p.pendingMessages()).map((one) => one.content);
      const data = await p.exportChatHistory("json");
      await p.deleteMessage("c_1", id(1));
      const left = await contents("c_1");
      await p.clear();
      const gone = [await p.listSessions(), await contents("c_1")];
      const report = await p.importData(data);
      const again = await p.importData(data);
      return { told, late, seen, found, names, waiting, left, gone, report, again, back: await contents("c_1") };
    """)
    everything = ["q1", "a1", "q2", "a2", "q3"]
    assert result == {
        "told": ["memory", "storage"],
        "late": [None, None],
        "seen": [everything, ["a2", "q3"], ["q1", "a1"], ["q1"], ["q2", "a2", "q3"]],
        "found": ["a1"],
        "names": ["c_1", "c_2"],
        "waiting": ["q3"],
        "left": ["q2", "a2", "q3"],
        "gone": [[], []],
        "report": {"sessions": 2, "messages": 5, "skipped": 0},
        "again": {"sessions": 0, "messages": 0, "skipped": 5},
        "back": everything,
    }


async def test_a_database_of_a_newer_version_is_left_alone(browser: Browser, files: ChatServer) -> None:
    tab = await open_tab(browser, files)
    await tab.says(NEWER)
    await tab.run("await p.saveSession({ session_id: 'c_1' }); await turn('c_1', 1)")
    assert await tab.says("[p.storage, p.reason, await contents('c_1')]") == ["memory", "VersionError", ["q1", "a1"]]
    assert await tab.says("indexedDB.databases()") == [{"name": "chatcore", "version": 7}]


async def test_a_newer_tab_may_upgrade_and_the_old_one_goes_on_with_what_it_shows(
    browser: Browser, files: ChatServer
) -> None:
    tab = await open_tab(browser, files)
    await tab.run("await p.saveSession({ session_id: 'c_1', bot: 'sales' }); await question('c_1', 1)")
    await tab.run("await p.getSession('c_1'); await p.getMessage('c_1', id(1), 'user')")
    await tab.says(NEWER)  # it would wait for ever, did the tab not close its connection
    await tab.run("await reply('c_1', 1)")
    assert await tab.says("[p.storage, p.reason]") == ["memory", "VersionError"]
    assert await tab.says("contents('c_1')") == ["a1"]
    [session] = await tab.says("p.listSessions()")
    assert session["bot"] == "sales"


async def test_a_connection_that_the_browser_closed_is_made_anew(browser: Browser, files: ChatServer) -> None:
    tab = await open_tab(browser, files)
    await tab.run("await p.saveSession({ session_id: 'c_1' }); await turn('c_1', 1)")
    for name in ("close", "versionchange"):
        await tab.run(
            """
          const { transaction } = IDBDatabase.prototype;
          const database = await new Promise((done) => {
            IDBDatabase.prototype.transaction = function (...args) {
              done(this);
              return transaction.apply(this, args);
            };
            void p.init();
          });
          IDBDatabase.prototype.transaction = transaction;
          if (given === "close") database.close(); // without an event: the next transaction is refused
          else database.dispatchEvent(new IDBVersionChangeEvent(given));
        """,
            name,
        )
        assert await tab.says("[await contents('c_1'), p.storage]") == [["q1", "a1"], "indexeddb"]


async def test_a_database_that_does_not_open_is_not_waited_for_without_end(browser: Browser, files: ChatServer) -> None:
    context = await browser.new_context()
    holder = await HistoryTab.open(context, files.url)
    await holder.run("""
      globalThis.held = await new Promise((done) => {
        const request = indexedDB.open("chatcore", 1);
        request.onsuccess = () => done(request.result);
      });
      indexedDB.deleteDatabase("chatcore"); // waits for `held`, and whoever opens waits for it
    """)
    tab = await HistoryTab.open(context, files.url)
    await tab.page.clock.install()
    await tab.run("globalThis.saved = p.saveSession({ session_id: 'c_1' }).then(() => question('c_1', 1))")
    await tab.page.clock.fast_forward(5001)
    await tab.says("saved")
    assert await tab.says("[p.storage, p.reason, await contents('c_1')]") == ["memory", "TimeoutError", ["q1"]]
    await holder.run("held.close(); await p.init()")
    await tab.run("await reply('c_1', 1)")
    assert await tab.says("p.storage") == "indexeddb", "it opened after all"
    assert await holder.says("contents('c_1')") == ["q1", "a1"]


async def test_a_full_disk_loses_nothing_and_what_waits_is_stored_when_there_is_room(
    browser: Browser, files: ChatServer
) -> None:
    tab = await open_tab(browser, files, FULL)
    seen = await tab.run("""
      full = false;
      await p.saveSession({ session_id: "c_1" });
      await p.saveSession({ session_id: "c_2" });
      await turn("c_1", 1);
      await turn("c_1", 2);
      await question("c_2", 1);
      p.onChange((change) => change.kind === "storage" && changes.push(p.storage));
      full = true;
      await question("c_1", 3);
      await reply("c_1", 3);
      await p.saveSession({ session_id: "c_3", bot: "new" });
      await question("c_3", 1);
      await question("c_2", 1, { status: "complete" });
      const during = [p.storage, p.reason, await contents("c_1"), await contents("c_1", { limit: 3 })];
      during.push(await contents("c_3"));
      during.push((await p.pendingMessages()).map((one) => one.session_id), (await p.listSessions()).length);
      full = false;
      await p.deleteMessage("c_1", id(1));
      return [during, [p.storage, p.reason], changes];
    """)
    everything = ["q1", "a1", "q2", "a2", "q3", "a3"]
    during = ["memory", "QuotaExceededError", everything, ["a2", "q3", "a3"], ["q1"], ["c_1", "c_3"], 3]
    assert seen == [during, ["indexeddb", ""], ["memory", "indexeddb"]]
    await tab.reload()
    await tab.run("full = false")
    assert await tab.says("contents('c_1')") == everything[2:]
    assert await tab.says("[(await p.getSession('c_3')).bot, await contents('c_3')]") == ["new", ["q1"]]
    assert await tab.says("(await p.getMessage('c_2', id(1), 'user')).status") == "complete"


async def test_what_is_deleted_while_the_disk_is_full_is_gone(browser: Browser, files: ChatServer) -> None:
    context = await browser.new_context()
    tab, other = await HistoryTab.open(context, files.url, FULL), await HistoryTab.open(context, files.url)
    await tab.run("""
      full = false;
      for (const name of ["c_1", "c_2", "c_3"]) {
        await p.saveSession({ session_id: name });
        await turn(name, 1);
      }
      full = true;
      for (const name of ["c_1", "c_2", "c_3"]) await turn(name, 2);
      await p.deleteSession("c_1");
      await p.deleteMessage("c_2", id(1));
      globalThis.heard = new Promise((done) => p.onChange((change) => change.remote && done()));
    """)
    names = "(await p.listSessions()).map((one) => one.session_id).sort()"
    assert await tab.says(f"[p.storage, {names}, await contents('c_2')]") == ["memory", ["c_2", "c_3"], ["q2", "a2"]]
    assert await other.says(f"[{names}, await contents('c_2')]") == [["c_2", "c_3"], []]
    await other.run("await p.deleteSession('c_3')")
    await tab.run("await heard; full = false; await turn('c_2', 3)")
    assert await tab.says(f"[p.storage, {names}, await contents('c_3')]") == ["indexeddb", ["c_2"], []]
    assert await other.says("contents('c_2')") == ["q2", "a2", "q3", "a3"]


async def test_what_waits_does_not_bring_back_what_was_deleted_unheard(browser: Browser, files: ChatServer) -> None:
    context = await browser.new_context()
    tab, other = await HistoryTab.open(context, files.url, FULL), await HistoryTab.open(context, files.url)
    await tab.run("""
      p = create({ indexedDB, now: Date.now, broadcast: { postMessage() {}, onmessage: null } });
      full = false;
      await p.saveSession({ session_id: "c_1" });
      await p.saveSession({ session_id: "c_2" });
      full = true;
      await turn("c_1", 1);
      await turn("c_2", 1);
    """)
    await other.run("await p.deleteSession('c_1')")
    await tab.run("full = false; await turn('c_2', 2)")
    for each in (tab, other):
        assert await each.says("(await p.listSessions()).map((one) => one.session_id)") == ["c_2"]
        assert await each.says("[await contents('c_1'), await contents('c_2')]") == [[], ["q1", "a1", "q2", "a2"]]


async def test_an_import_that_the_disk_has_no_room_for_changes_nothing(browser: Browser, files: ChatServer) -> None:
    tab = await open_tab(browser, files, FULL)
    error = await tab.run("""
      full = false;
      await p.importData(conversations(["c_1", {}, {}]));
      full = true;
      return p.importData(conversations(["c_2", {}]), { mode: "replace" }).catch((error) => error.name);
    """)
    assert error == "QuotaExceededError"
    assert await tab.says("[(await p.listSessions()).length, (await contents('c_1')).length]") == [1, 2]


async def test_a_quota_of_the_browser_itself(browser: Browser, files: ChatServer) -> None:
    tab = await open_tab(browser, files)
    client = await tab.page.context.new_cdp_session(tab.page)
    await client.send("Storage.overrideQuotaForOrigin", {"origin": files.url, "quotaSize": 1_000_000})
    await tab.run("await p.saveSession({ session_id: 'c_1' }); await turn('c_1', 1)")
    assert await tab.says("p.storage") == "indexeddb"
    await tab.run("await question('c_1', 2, { content: 'x'.repeat(10_000_000) }); await question('c_1', 3)")
    during = "[p.storage, p.reason, (await p.getMessages('c_1')).map((one) => one.content.length)]"
    assert await tab.says(during) == ["memory", "QuotaExceededError", [2, 2, 10_000_000, 2]]
    await client.send("Storage.overrideQuotaForOrigin", {"origin": files.url})
    await tab.run("await question('c_1', 4)")
    assert await tab.says("p.storage") == "indexeddb"
    await tab.reload()
    assert await tab.says("(await contents('c_1')).map((one) => one.length)") == [2, 2, 10_000_000, 2, 2]
