"""The widget on somebody's website, before the real main: it chats, survives reloads, lost networks, restarts, tabs."""

import signal
import time
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Route, expect

from tests.conftest import StartServer
from tests.support import jwts
from tests.support.answers import Answer, answer_error, answer_json, answer_stream, cut, hold
from tests.support.background import Gate, eventually
from tests.support.faultproxy import FaultProxy
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor, page_with_widget, visit


async def reload(visitor: Visitor) -> None:
    """Load the page again and open the chat."""
    await visitor.page.reload()
    await visitor.open()


async def test_a_visitor_of_another_website_chats_and_finds_it_all_after_a_reload(
    visitor: Visitor, n8n: ScriptedN8n
) -> None:
    await visitor.chats("Is it *open*?", "Echo: Is it open?")
    await visitor.chats("two\nlines <b>", "Echo: two\nlines <b>")
    await reload(visitor)
    await visitor.shows(["Is it *open*?", "two\nlines <b>"], ["Echo: Is it open?", "Echo: two\nlines <b>"])
    assert [request.text for request in n8n.requests] == ["Is it *open*?", "two\nlines <b>"]
    assert len({request.json["sessionId"] for request in n8n.requests}) == 1
    assert visitor.complaints == []


async def test_the_page_is_told_what_happens(visitor: Visitor, n8n: ScriptedN8n) -> None:
    await visitor.page.evaluate("""() => {
        window.told = [];
        for (const name of ["chat-open", "chat-close", "chat-message", "chat-reply", "chat-error"])
            document.addEventListener(name, ({detail}) => told.push([name, detail.content ?? detail.code ?? null]));
    }""")
    n8n.next(answer_stream(["Yes"]), answer_json({"message": "Error in workflow"}, 500))
    await visitor.chats("one", "Yes")
    await visitor.say("two")
    await expect(visitor.failure).to_contain_text("The assistant could not answer.")
    await visitor.page.wait_for_function("told.length === 4")  # what is shown may be so a moment before it is told
    await visitor.page.keyboard.press("Escape")
    await visitor.page.evaluate("document.querySelector('chat-widget').open()")
    assert await visitor.page.evaluate("told") == [
        ["chat-message", "one"],
        ["chat-reply", "Yes"],
        ["chat-message", "two"],
        ["chat-error", "upstream_error"],
        ["chat-close", None],
        ["chat-open", None],
    ]


async def test_a_reload_in_the_middle_of_a_reply_loses_and_doubles_nothing(visitor: Visitor, n8n: ScriptedN8n) -> None:
    gate = Gate()
    words = [f"word{number} " for number in range(200)]
    n8n.answer(answer_stream(["".join(words[:100]), "".join(words[100:])], gap=gate))
    await visitor.say("Count")
    await visitor.reads("".join(words[:100]).strip())
    await visitor.page.reload()
    gate.open()
    await visitor.open()
    await visitor.reads("".join(words).strip())
    await visitor.rests()
    await visitor.shows(["Count"], ["".join(words).strip()])
    assert len(n8n.requests) == 1
    stored = await visitor.stored()
    assert [(one["role"], one["status"]) for one in stored] == [("user", "complete"), ("assistant", "complete")]
    assert stored[1]["content"] == "".join(words)


async def test_many_reloads_at_any_moment_lose_and_double_nothing(
    visitor: Visitor, n8n: ScriptedN8n, *, long: bool
) -> None:
    count = 300
    wanted = "".join(f"w{number} " for number in range(count))
    n8n.answer(answer_stream([f"w{number} " for number in range(count)], gap=0.01))
    turns = 12 if long else 2
    for turn in range(turns):
        await visitor.say(f"turn {turn}")
        for pause in (40 * turn, 300, 900):
            await visitor.page.wait_for_timeout(pause)
            await reload(visitor)
            if await visitor.input.input_value():  # the page was left before its question was stored
                await visitor.input.press("Enter")
            whole = visitor.replies.nth(turn).filter(has_text=f"w{count - 1}")
            await expect(visitor.button("Stop").or_(visitor.failure).or_(whole)).to_be_visible()
            if await visitor.failure.count():  # the page was left before its question was
                await visitor.button("Send again").click()
        await expect(visitor.replies.last).to_contain_text(f"w{count - 1}", timeout=30_000)
        await visitor.rests()
    assert [one["content"] for one in await visitor.stored() if one["role"] == "assistant"] == [wanted] * turns
    assert len(n8n.requests) == turns


async def test_a_question_that_is_under_way_at_a_reload_is_answered_once(visitor: Visitor, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.next(hold(gate, answer_stream(["at last"])))
    await visitor.say("Slow?")
    await eventually(lambda: n8n.requests)
    await reload(visitor)
    await expect(visitor.button("Stop")).to_be_visible()
    gate.open()
    await visitor.reads("at last")
    assert len(n8n.requests) == 1


async def test_a_network_that_is_cut_and_restored_loses_and_doubles_nothing(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
    gate = Gate()
    n8n.answer(answer_stream(["before ", "between ", "after"], gap=gate))
    with FaultProxy(server.port) as network:
        site.pages["/"] = page_with_widget(network.url)
        visitor = await visit(context, site.url)
        await visitor.open()
        await visitor.say("Go on")
        await visitor.reads("before")
        network.refuse()
        network.cut()
        await expect(visitor.widget.locator(".status")).to_have_text("Reconnecting…")
        gate.open()
        network.listen()
        await visitor.reads("before between after")
        await expect(visitor.widget.locator(".status")).to_have_text("")
        await visitor.shows(["Go on"], ["before between after"])
    assert len(n8n.requests) == 1


async def test_offline_keeps_the_message_and_sends_nothing_by_itself(visitor: Visitor, n8n: ScriptedN8n) -> None:
    await visitor.chats("one", "Echo: one")
    await visitor.page.context.set_offline(offline=True)
    await expect(visitor.widget.locator(".status")).to_have_text("You are offline")
    await visitor.say("two")
    await expect(visitor.failure).to_contain_text("You are offline. This was not sent.")
    await visitor.page.context.set_offline(offline=False)
    await expect(visitor.widget.locator(".status")).to_have_text("")
    await reload(visitor)
    assert [request.text for request in n8n.requests] == ["one"]
    await visitor.button("Send again").click()
    await visitor.reads("Echo: two")
    await visitor.shows(["one", "two"], ["Echo: one", "Echo: two"])
    assert [request.text for request in n8n.requests] == ["one", "two"]


async def test_a_reply_can_be_stopped_and_asked_for_again(visitor: Visitor, n8n: ScriptedN8n) -> None:
    gate = Gate()
    n8n.next(answer_stream(["first words", " never said"], gap=gate))
    await visitor.say("Go on")
    await visitor.reads("first words")
    await visitor.button("Stop").click()
    await visitor.rests()
    await expect(visitor.widget.get_by_text("Stopped", exact=True).first).to_be_visible()
    gate.open()
    await visitor.shows(["Go on"], ["first words"])
    await visitor.button("Ask again").click()
    await visitor.shows(["Go on", "Go on"], ["first words", "Echo: Go on"])
    assert len({request.json["context"]["message_id"] for request in n8n.requests}) == 2


@pytest.mark.parametrize("broken", [answer_error("half a"), cut("half a")], ids=["error", "cut"])
async def test_a_reply_that_breaks_off_keeps_what_was_said_and_can_be_asked_for_again(
    visitor: Visitor, n8n: ScriptedN8n, broken: Answer
) -> None:
    n8n.next(broken)
    await visitor.say("Hello")
    await expect(visitor.failure).to_be_visible()
    await visitor.shows(["Hello"], ["half a"])
    await visitor.button("Ask again").click()
    await visitor.shows(["Hello", "Hello"], ["half a", "Echo: Hello"])


async def test_a_workflow_that_failed_is_asked_again_in_the_same_place(visitor: Visitor, n8n: ScriptedN8n) -> None:
    n8n.next(answer_json({"message": "Error in workflow"}, 500))
    await visitor.say("Hello")
    await expect(visitor.failure).to_contain_text("The assistant could not answer.")
    await visitor.button("Ask again").click()
    await visitor.shows(["Hello"], ["Echo: Hello"])
    await expect(visitor.failure).to_have_count(0)
    assert len(n8n.requests) == 2


async def test_a_reply_that_is_gone_can_be_asked_for_again(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
    gate = Gate()
    n8n.next(answer_stream(["half ", "never"], gap=gate))
    site.pages["/"] = page_with_widget(server.url)
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.say("Hello")
    await visitor.reads("half")
    server.send_signal(signal.SIGKILL)
    server.wait()
    start_server(n8n, {"ALLOWED_ORIGINS": site.url}, port=server.port)
    await expect(visitor.failure).to_contain_text("This reply is no longer available.", timeout=15_000)
    await visitor.button("Ask again").click()
    await visitor.reads("Echo: Hello")
    gate.open()


async def test_older_conversations_are_opened_searched_continued_and_deleted(
    visitor: Visitor, n8n: ScriptedN8n
) -> None:
    await visitor.chats("About apples", "Echo: About apples")
    await visitor.button("New chat").click()
    await expect(visitor.questions).to_have_count(0)
    await visitor.chats("About pears", "Echo: About pears")
    entries = await visitor.conversations()
    await expect(entries).to_have_count(2)
    await expect(entries.first).to_contain_text("About pears")
    await visitor.widget.get_by_label("Search messages").fill("APPLES")
    await expect(entries).to_have_count(2)
    await expect(entries.first).to_contain_text("apples")
    await visitor.widget.get_by_label("Search messages").fill("")
    await entries.filter(has_text="About apples").get_by_role("button").first.click()
    await visitor.shows(["About apples"], ["Echo: About apples"])
    await visitor.chats("More", "Echo: More")
    apples, pears, more = (request.json["sessionId"] for request in n8n.requests)
    assert apples == more != pears
    await visitor.conversations()
    await expect(entries.first).to_contain_text("About apples")
    await visitor.button("Delete: About apples").click()
    await visitor.button("Delete", exact=True).click()
    await expect(entries).to_have_count(1)
    await reload(visitor)
    assert {one["content"] for one in await visitor.stored()} == {"About pears", "Echo: About pears"}


async def test_a_conversation_that_the_server_forgot_goes_on_with_what_was_said(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    environment = {"ALLOWED_ORIGINS": site.url, "ACCEPT_HISTORY": "true"}
    server = start_server(n8n, environment)
    site.pages["/"] = page_with_widget(server.url)
    visitor = await visit(context, site.url)
    await visitor.open()
    for number in range(12):
        await visitor.chats(f"question {number}", f"Echo: question {number}")
    server.stop()
    changed = {**environment, "JWT_SECRET_KEY": "another-secret-that-nobody-knows-yet"}
    start_server(n8n, changed, port=server.port)
    await visitor.chats("and now?", "Echo: and now?")
    first, *_, last = n8n.requests
    assert last.json["sessionId"] != first.json["sessionId"]
    history = last.json["history"]
    assert len(history) == 20
    assert history[0] == {"role": "user", "content": "question 2"}
    assert history[-1] == {"role": "assistant", "content": "Echo: question 11"}
    assert "history" not in n8n.requests[-2].json
    await expect(visitor.questions).to_have_count(13)
    await visitor.chats("still here?", "Echo: still here?")
    assert "history" not in n8n.requests[-1].json
    assert n8n.requests[-1].json["sessionId"] == last.json["sessionId"]


async def test_a_server_with_another_secret_gives_a_new_session_and_the_history_stays(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
    site.pages["/"] = page_with_widget(server.url)
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.chats("one", "Echo: one")
    server.stop()
    changed = {"ALLOWED_ORIGINS": site.url, "JWT_SECRET_KEY": "another-secret-that-nobody-knows-yet"}
    start_server(n8n, changed, port=server.port)
    await visitor.chats("two", "Echo: two")
    await visitor.shows(["one", "two"], ["Echo: one", "Echo: two"])
    assert n8n.requests[0].json["sessionId"] != n8n.requests[1].json["sessionId"]


async def test_an_expired_token_is_refreshed_unseen(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url, "SESSION_TTL_HOURS": "0.001"})
    site.pages["/"] = page_with_widget(server.url)
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.chats("one", "Echo: one")
    await visitor.page.wait_for_timeout(4000)  # 3.6 s of real time are the life of the token
    await visitor.chats("two", "Echo: two")
    assert n8n.requests[0].json["sessionId"] == n8n.requests[1].json["sessionId"]
    assert visitor.complaints == []


async def test_a_token_that_the_server_finds_expired_is_refreshed_unseen(
    visitor: Visitor, context: BrowserContext, n8n: ScriptedN8n
) -> None:
    await visitor.chats("one", "Echo: one")
    refreshed: list[str] = []

    async def expired(route: Route) -> None:
        headers = {"Access-Control-Allow-Origin": route.request.headers["origin"]}
        problem = {"status": 401, "code": "token_expired", "detail": "The session token has expired."}
        await route.fulfill(status=401, json=problem, headers={**headers, "Content-Type": "application/problem+json"})

    async def refresh(route: Route) -> None:
        refreshed.append(route.request.url)
        await route.continue_()

    await context.route("**/session/refresh", refresh)
    await context.route("**/api/v1/chat", expired, times=1)
    await visitor.chats("two", "Echo: two")
    assert len(refreshed) == 1
    assert n8n.requests[0].json["sessionId"] == n8n.requests[1].json["sessionId"]


@pytest.mark.alone
async def test_a_limit_says_when_to_try_again_and_then_the_same_message_goes_through(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url, "SESSION_RATE_LIMIT_PER_MINUTE": "20"})
    site.pages["/"] = page_with_widget(server.url)
    visitor = await visit(context, site.url)
    await visitor.open()
    for number in range(20):
        await visitor.chats(str(number), f"Echo: {number}")
    await visitor.say("one too many")
    await expect(visitor.failure).to_contain_text("Too many messages in a short time.")
    await expect(visitor.failure).to_contain_text("in ")
    again = visitor.button("Send again")
    await expect(again).to_have_attribute("aria-disabled", "true")
    assert len(n8n.requests) == 20
    await expect(again).not_to_have_attribute("aria-disabled", "true", timeout=10_000)
    await again.click()
    await visitor.reads("Echo: one too many")
    assert len(n8n.requests) == 21


async def test_suggestions_are_sent_and_ratings_reach_the_server(
    context: BrowserContext, server: ChatServer, site: Website
) -> None:
    site.pages["/"] = page_with_widget(server.url, 'greeting="Welcome!" suggestions="Where is my order?|Returns"')
    visitor = await visit(context, site.url)
    await visitor.open()
    await expect(visitor.widget.get_by_text("Welcome!")).to_be_visible()
    await visitor.button("Where is my order?").click()
    await visitor.reads("Echo: Where is my order?")
    await visitor.rests()
    await expect(visitor.widget.get_by_role("button", name="Returns")).to_have_count(0)
    async with visitor.page.expect_response("**/feedback") as answered:
        await visitor.button("Good answer").click()
    assert (await answered.value).status == 204
    await expect(visitor.button("Good answer")).to_have_attribute("aria-pressed", "true")
    await reload(visitor)
    await expect(visitor.button("Good answer")).to_have_attribute("aria-pressed", "true")
    metrics = await visitor.page.context.request.get(f"{server.url}/metrics")
    assert 'chatcore_feedback_total{bot="default",rating="up"} 1.0' in await metrics.text()


async def test_two_tabs_are_in_step_and_send_a_message_once(
    visitor: Visitor, context: BrowserContext, n8n: ScriptedN8n, site: Website
) -> None:
    gate = Gate()
    n8n.next(answer_stream(["half ", "whole"], gap=gate))
    other = await visit(context, site.url)
    await other.open()
    await visitor.say("Hello")
    await visitor.reads("half")
    entries = await other.conversations()
    await entries.first.get_by_role("button").first.click()
    await other.shows(["Hello"], ["half"])
    await expect(other.button("Stop")).to_be_visible()
    gate.open()
    for one in (visitor, other):
        await one.shows(["Hello"], ["half whole"])
        await one.rests()
    await other.chats("from the other", "Echo: from the other")
    await visitor.shows(["Hello", "from the other"], ["half whole", "Echo: from the other"])
    assert len(n8n.requests) == 2
    assert len({request.json["sessionId"] for request in n8n.requests}) == 1
    assert len(await visitor.stored()) == 4


async def test_a_tab_that_is_closed_leaves_its_reply_to_the_other(
    visitor: Visitor, context: BrowserContext, n8n: ScriptedN8n, site: Website
) -> None:
    gate = Gate()
    n8n.next(answer_stream(["half ", "whole"], gap=gate))
    await visitor.say("Hello")
    await visitor.reads("half")
    other = await visit(context, site.url)
    await other.open()
    await other.shows(["Hello"], ["half"])
    await visitor.page.close()
    gate.open()
    await other.shows(["Hello"], ["half whole"])
    await other.rests()
    assert len(n8n.requests) == 1


async def test_another_tab_stops_a_reply(
    visitor: Visitor, context: BrowserContext, n8n: ScriptedN8n, site: Website
) -> None:
    n8n.next(answer_stream(["half ", "whole"], gap=Gate()))
    await visitor.say("Hello")
    await visitor.reads("half")
    other = await visit(context, site.url)
    await other.open()
    await other.button("Stop").click()
    for one in (visitor, other):
        await one.rests()
        await one.shows(["Hello"], ["half"])
        await expect(one.widget.get_by_text("Stopped", exact=True).first).to_be_visible()


async def test_bots_have_their_own_conversations(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url, "N8N_WEBHOOK_URL_SALES": n8n.url})
    site.pages["/"] = page_with_widget(server.url)
    site.pages["/sales"] = page_with_widget(server.url, 'bot="sales" heading="Sales"')
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.chats("to the first", "Echo: to the first")
    sales = await visit(context, f"{site.url}/sales")
    await sales.open("Sales")
    await expect(sales.questions).to_have_count(0)
    await sales.chats("to sales", "Echo: to sales")
    await expect(await sales.conversations()).to_have_count(1)
    await visitor.shows(["to the first"], ["Echo: to the first"])


async def test_what_the_page_adds_reaches_the_workflow(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    secret = "the-website-signs-with-these-bytes!!"
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url, "IDENTITY_SECRET_KEY": secret})
    site.pages["/"] = page_with_widget(server.url)
    visitor = await visit(context, f"{site.url}/?secret=1")
    await visitor.page.evaluate(
        """(token) => {
            const widget = document.querySelector("chat-widget");
            widget.sessionOptions = async () => ({ identity_token: token });
            widget.metadata = { plan: "pro" };
        }""",
        jwts.forge({"sub": "42", "name": "Ada", "exp": int(time.time()) + 300}, secret),
    )
    await visitor.open()
    await visitor.chats("Hi", "Echo: Hi")
    sent: dict[str, Any] = n8n.requests[0].json
    assert sent["metadata"] == {"plan": "pro"}
    assert sent["context"]["user"] == {"sub": "42", "name": "Ada"}
    assert sent["context"]["page_url"] == f"{site.url}/"
