"""Conversations in a real browser's database: what may be stored over what, pages, search, and what stays gone."""

from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.history_tab import HistoryTab
from tests.support.server import ChatServer

IMPORTED = """
  const turns = Array.from({ length: given }, (_, number) => ({ content: `Text ${number}` }));
  await p.importData(conversations(["c_1", ...turns]));
"""


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, files: ChatServer) -> HistoryTab:
    return await HistoryTab.open(await browser.new_context(), files.url)


async def test_what_is_saved_is_there_after_a_reload(tab: HistoryTab) -> None:
    await tab.run(
        "await p.saveSession({ session_id: 'c_1', bot: 'sales' }); await turn('c_1', 1); await turn('c_1', 2)"
    )
    await tab.reload()
    assert await tab.says("p.storage") == "unknown", "importing the module does nothing"
    assert await tab.says("contents('c_1')") == ["q1", "a1", "q2", "a2"]
    assert await tab.says("[p.storage, p.reason]") == ["indexeddb", ""]
    [session] = await tab.says("p.listSessions()")
    messages = await tab.says("p.getMessages('c_1')")
    assert session["title"] == "q1"
    assert session["bot"] == "sales"
    assert session["updated_at"] == messages[-1]["created_at"]
    assert await tab.says("p.getSession('c_1')") == session
    assert await tab.says("p.getMessage('c_1', id(1), 'assistant')") == messages[1]
    assert await tab.says("[await p.getSession('c_2'), await p.getMessage('c_1', id(3), 'user')]") == [None, None]


async def test_importing_opens_no_database(tab: HistoryTab) -> None:
    assert await tab.says("indexedDB.databases()") == []


async def test_times_rise_within_a_conversation(tab: HistoryTab) -> None:
    times = await tab.run("""
      p = create({ indexedDB, now: () => Date.parse(time(1000)) });
      await p.saveSession({ session_id: "c_1" });
      await p.saveSession({ session_id: "c_2" });
      await question("c_1", 1);
      await question("c_1", 2);
      await question("c_1", 3, { created_at: time(500) });
      await question("c_1", 4, { created_at: time(9000) });
      await question("c_1", 5);
      await question("c_1", 1, { status: "complete", created_at: time(20000) });
      await question("c_2", 1, { created_at: time(500) });
      const times = [...await p.getMessages("c_1"), ...await p.getMessages("c_2")].map((one) => one.created_at);
      return times.map((one) => Date.parse(one) - Date.parse(time(0)));
    """)
    assert times == [1000, 1001, 1002, 9000, 9001, 500]


async def test_a_reply_that_has_ended_does_not_begin_again_and_none_gets_shorter(tab: HistoryTab) -> None:
    cases = [
        (["pending 1 a", "pending 2 ab", "complete - abc"], "complete", "abc"),
        (["pending 2 ab", "pending 1 a"], "pending", "ab"),
        (["complete - abc", "pending 9 abcd"], "complete", "abc"),
        (["stopped - ab", "pending 9 abcd"], "stopped", "ab"),
        (["error - ab", "pending 9 abcd"], "error", "ab"),
        (["error - ab", "complete - abc"], "complete", "abc"),
        (["complete - abc", "error - a"], "complete", "abc"),
        (["pending 3 abc", "stopped - a"], "stopped", "abc"),
        (["pending 3 abc", "error - "], "error", "abc"),
        (["pending 3 abc", "complete - b"], "complete", "b"),
    ]
    for number, (steps, status, content) in enumerate(cases):
        stored = await tab.run(
            """
          const [number, steps] = given;
          await p.saveSession({ session_id: "c_1" });
          await question("c_1", number);
          let stored;
          for (const [status, event, content] of steps.map((step) => step.split(" "))) {
            stored = await reply("c_1", number, { status, content, last_event: Number(event) || undefined });
          }
          return [stored, await p.getMessage("c_1", id(number), "assistant")];
        """,
            [number, steps],
        )
        assert stored[0] == stored[1], "it gives what is stored"
        assert (stored[0]["status"], stored[0]["content"]) == (status, content), steps
        assert ("last_event" in stored[0]) == (status == "pending")


async def test_a_question_that_failed_can_be_sent_again_and_one_that_arrived_stays_so(tab: HistoryTab) -> None:
    seen = await tab.run("""
      await p.saveSession({ session_id: "c_1" });
      const failure = { code: "offline", detail: "" };
      const seen = [];
      for (const more of [{ status: "pending" }, { status: "failed", failure }, { status: "pending" },
                          { status: "complete" }, { status: "failed", failure }, { status: "pending" }]) {
        const { status, failure: told = null } = await question("c_1", 1, more);
        seen.push(told ? `${status} ${told.code}` : status);
      }
      return seen;
    """)
    assert seen == ["pending", "failed offline", "pending", "complete", "complete", "complete"]


async def test_a_reply_that_has_ended_can_be_rated_and_keeps_its_rating(tab: HistoryTab) -> None:
    ratings = await tab.run("""
      await p.saveSession({ session_id: "c_1" });
      await turn("c_1", 1);
      const ratings = [];
      for (const rating of ["up", undefined, "down"]) {
        const { rating: stored, content } = await reply("c_1", 1, { rating, content: "other" });
        ratings.push([stored, content]);
      }
      return ratings;
    """)
    assert ratings == [["up", "a1"], ["up", "a1"], ["down", "a1"]]


async def test_nothing_brings_back_what_was_deleted(tab: HistoryTab) -> None:
    assert await tab.says("question('c_1', 1)") is None
    late = await tab.run("""
      for (const name of ["c_1", "c_2"]) {
        await p.saveSession({ session_id: name });
        await turn(name, 1);
        await question(name, 2);
      }
      await p.deleteSession("c_1");
      await p.deleteMessage("c_2", id(2));
      return [
        await reply("c_1", 2), await question("c_1", 2, { status: "complete" }), await question("c_1", 3),
        await reply("c_2", 2), await question("c_2", 2, { status: "complete" }),
        await question("c_2", 2, { status: "failed" }),
        (await p.listSessions()).map((one) => one.session_id), await contents("c_1"), await contents("c_2"),
        (await p.pendingMessages()).length,
      ];
    """)
    assert late == [None] * 6 + [["c_2"], [], ["q1", "a1"], 0]
    await tab.run("await p.clear()")
    assert await tab.says("[await p.listSessions(), await contents('c_2'), await question('c_2', 3)]") == [[], [], None]


async def test_a_title_is_the_beginning_of_the_first_question(tab: HistoryTab) -> None:
    titles = await tab.run("""
      const titles = [];
      for (const content of ["  Is \\n it\\topen? ", "\\u{1f600}".repeat(100), " "]) {
        const session_id = `c_${titles.length}`;
        await p.saveSession({ session_id });
        await question(session_id, 1, { content });
        await question(session_id, 2, { content: "second" });
        titles.push((await p.getSession(session_id)).title);
      }
      await p.saveSession({ session_id: "c_0", title: "Mine" });
      await question("c_0", 3);
      return [...titles, (await p.getSession("c_0")).title];
    """)
    assert titles == ["Is it open?", "\U0001f600" * 80, "second", "Mine"]


async def test_saving_a_conversation_again_changes_what_is_given_alone(tab: HistoryTab) -> None:
    saved = await tab.run("""
      await p.saveSession({ session_id: "c_1", bot: "sales", created_at: time(1) });
      await p.saveSession({ session_id: "c_1", updated_at: time(9) });
      return [await p.saveSession({ session_id: "c_1", title: "T", updated_at: time(5) }), await p.getSession("c_1")];
    """)
    expected = {"session_id": "c_1", "bot": "sales", "title": "T"}
    expected |= {"created_at": "2026-01-31T00:00:00.001Z", "updated_at": "2026-01-31T00:00:00.009Z"}
    assert saved == [expected, expected]


async def test_conversations_come_newest_first_and_waiting_messages_of_all(tab: HistoryTab) -> None:
    result = await tab.run("""
      for (const [name, at] of [["c_1", 1], ["c_2", 9], ["c_3", 5]]) {
        await p.saveSession({ session_id: name, created_at: time(at) });
      }
      await question("c_1", 1, { created_at: time(20) });
      await question("c_3", 1, { created_at: time(7) });
      await turn("c_2", 2);
      const waiting = (await p.pendingMessages()).map((one) => one.session_id);
      return [(await p.listSessions()).map((one) => one.session_id), waiting.sort()];
    """)
    assert result == [["c_2", "c_1", "c_3"], ["c_1", "c_3"]]


@pytest.mark.alone
async def test_ten_thousand_messages_are_paged_both_ways_and_each_page_is_quick(tab: HistoryTab) -> None:
    await tab.run(IMPORTED, 10_000)
    back, forward, slowest = await tab.run("""
      let slowest = 0;
      const walk = async (edge, pageOf, next) => {
        const numbers = [];
        for (;;) {
          const began = performance.now();
          const page = await p.getMessages("c_1", { limit: 50, ...pageOf(edge) });
          slowest = Math.max(slowest, performance.now() - began);
          if (!page.length) return numbers;
          edge = next(page).created_at;
          numbers.push(page.map((one) => Number(one.content.slice(5))));
        }
      };
      const back = await walk(undefined, (before) => ({ before }), (page) => page[0]);
      const forward = await walk("0", (after) => ({ after }), (page) => page.at(-1));
      return [back.reverse().flat(), forward.flat(), slowest];
    """)
    assert back == list(range(10_000))
    assert forward == list(range(10_000))
    assert slowest < 250, "under 100 ms where the machine is not busy"


async def test_pages_have_the_size_that_was_asked_for(tab: HistoryTab) -> None:
    await tab.run(IMPORTED, 5)
    pages: list[tuple[dict[str, Any], list[int]]] = [
        ({"limit": 1}, [4]),
        ({"limit": 5}, [0, 1, 2, 3, 4]),
        ({"limit": 9}, [0, 1, 2, 3, 4]),
        ({"limit": 2, "before": 3}, [0, 1]),
        ({"limit": 9, "before": 2}, [0]),
        ({"limit": 2, "before": 1}, []),
        ({"before": 4}, [0, 1, 2]),
        ({"limit": 2, "after": 2}, [2, 3]),
        ({"after": 4}, [4]),
        ({"limit": 2, "after": 5}, []),
        ({"after": 1, "before": 4}, [1, 2]),
        ({}, [0, 1, 2, 3, 4]),
    ]
    for page, expected in pages:
        found = await tab.run(
            """
          const edges = ["before", "after"].filter((name) => name in given).map((name) => [name, time(given[name])]);
          return contents("c_1", { ...given, ...Object.fromEntries(edges) });
        """,
            page,
        )
        assert found == [f"Text {number}" for number in expected], page


async def test_search_finds_in_all_conversations_newest_first_without_regard_to_case(tab: HistoryTab) -> None:
    await tab.run("""
      const at = (number, content) => ({ content, created_at: time(number) });
      await p.importData(conversations(
        ["c_1", at(1, "Straße nach ROM"), at(6, "nothing"), at(9, "rom")],
        ["c_2", at(2, "Chrome"), at(5, "<b>Rom</b>")],
        ["c_3", at(3, "no match"), at(4, "Paris")],
      ));
    """)
    found = "(await p.search(given[0], given[1])).map((one) => [one.session.session_id, one.message.content])"
    assert await tab.says(found, ["rom", {}]) == [
        ["c_1", "rom"],
        ["c_2", "<b>Rom</b>"],
        ["c_2", "Chrome"],
        ["c_1", "Straße nach ROM"],
    ]
    assert await tab.says(found, ["ROM", {"limit": 2}]) == [["c_1", "rom"], ["c_2", "<b>Rom</b>"]]
    assert await tab.says(found, ["STRASSE", {}]) == []
    assert await tab.says(found, ["straße", {}]) == [["c_1", "Straße nach ROM"]]
    for nothing in ("", "  ", ".*"):
        assert await tab.says(found, [nothing, {}]) == []


@pytest.mark.alone
async def test_search_and_export_of_many_messages_let_others_in(tab: HistoryTab, long: bool) -> None:
    many = 100_000 if long else 20_000
    await tab.run(IMPORTED, many)
    found, size, longest = await tab.run("""
      let [last, longest] = [performance.now(), 0];
      const timer = setInterval(() => {
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      });
      const found = (await p.search("TEXT 1")).map((one) => one.message.content);
      await p.search("nowhere");
      const size = JSON.parse(await p.exportChatHistory()).sessions[0].messages.length;
      clearInterval(timer);
      return [found, size, longest];
    """)
    expected = [f"Text {number}" for number in reversed(range(many)) if str(number).startswith("1")]
    assert found == expected[:50]
    assert size == many
    assert longest < 500, "the longest that nobody else came in, in milliseconds"
