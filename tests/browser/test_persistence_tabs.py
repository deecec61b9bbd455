"""Several tabs that share one browser's conversations: they stay in step, and none undoes what another did."""

import asyncio

import pytest
from playwright.async_api import Browser

from tests.support.history_tab import HistoryTab
from tests.support.server import ChatServer

LISTEN = "p.onChange((change) => changes.push(change)); await p.init()"
TOLD = """
  const told = () => changes.filter((one) => one.kind !== "storage");
  while (told().length < given) await new Promise((next) => setTimeout(next, 5));
  return told();
"""
ALL_CHANGES = """
  await p.saveSession({ session_id: "c_1" });
  await question("c_1", 1);
  await question("c_1", 1, { status: "complete" });
  await p.deleteMessage("c_1", id(1));
  await p.deleteSession("c_1");
  await p.importData(conversations(["c_2", {}]));
  await p.clear();
"""
WITHOUT_CHANNEL = "delete globalThis.BroadcastChannel"


async def two_tabs(browser: Browser, server: ChatServer, *before: str) -> tuple[HistoryTab, HistoryTab]:
    """Open two tabs in one fresh profile."""
    context = await browser.new_context()
    return await HistoryTab.open(context, server.url, *before), await HistoryTab.open(context, server.url, *before)


@pytest.mark.parametrize("before", [(), (WITHOUT_CHANNEL,)], ids=["BroadcastChannel", "localStorage"])
async def test_every_change_is_told_in_all_tabs(browser: Browser, files: ChatServer, before: tuple[str, ...]) -> None:
    here, there = await two_tabs(browser, files, *before)
    for tab in (here, there):
        await tab.run(LISTEN)
        await tab.run("await import('/widget/storage-channel.js')")  # it is loaded only where it is needed
    await here.run(ALL_CHANGES)
    own, others = await here.run(TOLD, 8), await there.run(TOLD, 8)
    kinds = [change["kind"] for change in own]
    expected = ["session", "message", "session", "message", "message-deleted", "session-deleted", "imported", "cleared"]
    assert kinds == expected
    assert {change["remote"] for change in own} == {False}
    assert {change["remote"] for change in others} == {True}
    names = ("kind", "session_id", "message_id")
    assert [[change.get(name) for name in names] for change in others] == [
        [one.get(name) for name in names] for one in own
    ]
    assert own[1]["session_id"] == "c_1"
    assert own[1]["message_id"].endswith("-000000000001")


async def test_a_listener_that_fails_or_has_left_harms_nobody(browser: Browser, files: ChatServer) -> None:
    here, _ = await two_tabs(browser, files)
    faults: list[str] = []
    here.page.on("pageerror", lambda error: faults.append(str(error)))
    await here.run("""
      p.onChange(() => { throw new Error("mine"); });
      const leave = p.onChange((change) => changes.push("left"));
      p.onChange((change) => changes.push(change.kind));
      await p.init();
      leave();
      await p.saveSession({ session_id: "c_1" });
    """)
    assert await here.says("changes.filter((one) => one === 'session')") == ["session"]
    assert await here.says("changes.includes('left') ? changes.indexOf('left') < changes.indexOf('session') : true")
    assert faults
    assert set(faults) == {"mine"}


async def test_what_two_tabs_save_at_once_is_there_once_and_in_order(browser: Browser, files: ChatServer) -> None:
    tabs = await two_tabs(browser, files)
    await tabs[0].run("await p.saveSession({ session_id: 'c_1' })")
    save = """
      const saved = [];
      for (let number = 0; number < 50; number++) {
        saved.push(question("c_1", number), question("c_1", 1000 * given + number));
        if (number % 5 === 0) await saved.at(-1);
      }
      await Promise.all(saved);
    """
    await asyncio.gather(tabs[0].run(save, 1), tabs[1].run(save, 2))
    messages = await tabs[0].says("p.getMessages('c_1')")
    assert messages == await tabs[1].says("p.getMessages('c_1')")
    ids = [int(message["message_id"][-12:]) for message in messages]
    expected = {*range(50), *range(1000, 1050), *range(2000, 2050)}
    assert set(ids) == expected
    assert len(ids) == len(expected)
    times = [message["created_at"] for message in messages]
    assert times == sorted(set(times))


async def test_a_reply_that_two_tabs_write_is_the_further_one(browser: Browser, files: ChatServer) -> None:
    tabs = await two_tabs(browser, files)
    await tabs[0].run("await p.saveSession({ session_id: 'c_1' }); await question('c_1', 1)")
    write = """
      for (let event = 1; event <= 40; event++) {
        await reply("c_1", 1, { status: "pending", last_event: event, content: "x".repeat(event) });
      }
      if (given === "ends") await reply("c_1", 1, { content: "x".repeat(41) });
    """
    await asyncio.gather(tabs[0].run(write, "ends"), tabs[1].run(write))
    stored = await tabs[1].says("p.getMessage('c_1', id(1), 'assistant')")
    assert (stored["status"], len(stored["content"])) == ("complete", 41)


async def test_a_conversation_deleted_in_one_tab_is_not_brought_back_by_another(
    browser: Browser, files: ChatServer
) -> None:
    here, there = await two_tabs(browser, files)
    await here.run("await p.saveSession({ session_id: 'c_1' }); await question('c_1', 1)")
    write = """
      let stored;
      for (let event = 1; stored !== null; event++) {
        stored = await reply("c_1", 1, { status: "pending", last_event: event, content: "x" });
      }
      return [await p.listSessions(), await contents("c_1")];
    """
    _, left = await asyncio.gather(here.run("await contents('c_1'); await p.deleteSession('c_1')"), there.run(write))
    assert left == [[], []]
