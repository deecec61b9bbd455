"""Hostile texts, servers, pages: nothing runs, nothing leaves, nothing looks like more than text, the chat goes on."""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Route, expect

from tests.conftest import LONG, StartServer
from tests.support import hostile_texts as texts
from tests.support.answers import Answer, answer_bytes, answer_error, answer_json, answer_stream, line
from tests.support.background import Gate, eventually
from tests.support.hostile_answers import CHATS, ENDLESS, SESSION, SESSIONS, answer, event, events
from tests.support.n8n import Request, ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor, page_with_widget, visit
from tests.support.widget_watch import Watch, send_all

PIECES = 10
NEXT_REPLY_SECONDS = 5.0
EVERYTHING = (*texts.MARKUP, *texts.LINKS, *texts.MARKDOWN)


def pieces(text: str, count: int = PIECES) -> list[str]:
    """Cut a text where it hurts: at places that have nothing to do with its words."""
    size = max(1, len(text) // count)
    return [text[at : at + size] for at in range(0, len(text), size)]


def repeat(request: Request) -> Answer:
    """Answer with the message itself, piece by piece."""
    return answer_stream(pieces(request.text), gap=0.002)


def cut(text: str, most: int) -> str:
    """Cut a text as JavaScript counts."""
    return text.encode("utf-16-le", "surrogatepass")[: 2 * most].decode("utf-16-le", "replace")


async def watched(context: BrowserContext, server: ChatServer, site: Website, *more: str) -> tuple[Visitor, Watch]:
    """Open the chat of a page that is watched; `more` are origins that it may ask."""
    page = await context.new_page()
    watch = await Watch.over(page, server.url, site.url, *more)
    visitor = Visitor(page)
    await page.goto(site.url)
    await visitor.open()
    return visitor, watch


async def shown(visitor: Visitor, selector: str) -> list[str]:
    """Give the texts of all such elements of the widget, as they are in the DOM."""
    told: list[str] = await visitor.widget.locator(selector).evaluate_all("(all) => all.map((one) => one.textContent)")
    return told


async def test_the_watch_sees_what_it_watches_for(context: BrowserContext, server: ChatServer, site: Website) -> None:
    visitor, watch = await watched(context, server, site, texts.FOREIGN)
    assert await watch.found() == []
    await visitor.page.evaluate(
        """(foreign) => {
            const list = document.querySelector("chat-widget").shadowRoot.querySelector("ol");
            list.insertAdjacentHTML("beforeend", `<img src=x onerror="pwned=1"><a href="javascript:x">x</a><style>`);
            list.querySelector("img").remove();
            document.body.append("x", document.createElement("iframe"));
        }""",
        texts.FOREIGN,
    )
    found = await watch.found()
    for one in ("<img>", "onerror of <img>", "src of <img>", "a link to javascript:x", "<style>", "a frame: "):
        assert one in found
    assert "the page has other elements than before" in found
    await visitor.page.evaluate("new Promise((done) => setTimeout(done, 50))")
    assert "something ran" in await watch.found()


@pytest.mark.parametrize("hostile", [texts.MARKUP, texts.LINKS, texts.MARKDOWN], ids=["markup", "links", "markdown"])
async def test_what_is_said_is_text_whoever_says_it(
    context: BrowserContext, server: ChatServer, site: Website, n8n: ScriptedN8n, hostile: Sequence[str]
) -> None:
    n8n.answer(repeat)
    visitor, watch = await watched(context, server, site)
    for at in range(0, len(hostile), 30):
        told = await send_all(visitor.page, hostile[at : at + 30])
        assert {one["type"] for one in told} == {"chat-reply"}
        assert await watch.found() == []
        questions, replies = await shown(visitor, "li.user .text"), await shown(visitor, "li.assistant .text")
        for one in hostile[at : at + 30]:
            assert one in questions
            assert hostile is not texts.MARKUP or one in replies
    await visitor.chats("bye", "bye")
    assert await watch.found() == []
    assert visitor.complaints == []


@pytest.mark.parametrize(
    "hostile",
    [partial(texts.large, 100 if LONG else 40), partial(texts.repeated, 4_000 if LONG else 2_000)],
    ids=["large", "repeated"],
)
@pytest.mark.alone
async def test_sheer_size_does_not_stop_the_page(
    context: BrowserContext,
    server: ChatServer,
    site: Website,
    n8n: ScriptedN8n,
    hostile: Callable[[], Iterable[tuple[str, str]]],
) -> None:
    visitor, watch = await watched(context, server, site)
    figures: dict[str, tuple[float, float]] = {}
    for name, text in hostile():
        n8n.next(answer_stream(pieces(text), gap=0.003))
        began = time.monotonic()
        [told] = await send_all(visitor.page, [name])
        assert (told["type"], len(told.get("content", ""))) == ("chat-reply", len(text)), (name, told)
        whole = time.monotonic()
        [told] = await send_all(visitor.page, ["And now?"])
        assert told["content"] == "Echo: And now?", name
        figures[name] = (round(whole - began, 2), round(time.monotonic() - whole, 2))
        assert await watch.found() == [], name
        await visitor.button("New chat").click()
        await expect(visitor.questions).to_have_count(0)
    print(f"seconds of a reply, and of the next one: {figures}")  # noqa: T201 - figures
    assert not {name: after for name, (_, after) in figures.items() if after > NEXT_REPLY_SECONDS}
    assert visitor.complaints == []


async def test_nul_and_lone_surrogates_from_the_workflow_are_shown_as_replaced(
    context: BrowserContext, server: ChatServer, site: Website, n8n: ScriptedN8n
) -> None:
    def escaped(*items: str) -> Answer:
        lines = [json.dumps({"type": "item", "content": one}).encode() + b"\n" for one in items]
        return answer_bytes(line("begin"), *lines, line("end"))

    visitor, watch = await watched(context, server, site)
    n8n.next(escaped(texts.RAW), escaped(*pieces(texts.RAW, 40)), escaped("halves \ud83d", "\ude00 <script>"))
    told = await send_all(visitor.page, ["one", "two", "three"])
    assert {one["type"] for one in told} == {"chat-reply"}
    for text in await shown(visitor, "li.assistant .text"):
        assert text.isprintable(), repr(text)
    assert await watch.found() == []
    await visitor.page.reload()
    await visitor.open()
    await expect(visitor.replies).to_have_count(3)
    assert await watch.found() == []
    assert visitor.complaints == []


async def test_attributes_are_text(context: BrowserContext, server: ChatServer, site: Website) -> None:
    visitor, watch = await watched(context, server, site)
    wrong = await visitor.page.evaluate(
        """async (texts) => {
            const widget = document.querySelector("chat-widget");
            const of = (selector) => widget.shadowRoot.querySelector(selector);
            const wrong = [];
            for (const text of texts) {
                widget.setAttribute("heading", text);
                widget.setAttribute("greeting", text);
                widget.setAttribute("suggestions", JSON.stringify([text, { toString: 1 }.x]));
                await widget.send(""); // nothing is sent, but it waits until the view is made
                for (const said of [of("h2").textContent, of(".panel").ariaLabel, of(".bubble").ariaLabel,
                    of("ol .text").textContent]) if (said !== text) wrong.push([text, said]);
                if (of(".chips button").textContent !== text.trim()) wrong.push([text, "suggestion"]);
                widget.setAttribute("suggestions", text); // not a list: split at its bars
                await widget.send("");
            }
            return wrong;
        }""",
        EVERYTHING,
    )
    assert wrong == []
    assert await watch.found() == []
    await visitor.chats("bye", "Echo: bye")
    assert visitor.complaints == []


async def test_what_the_server_says_of_a_failure_is_text(
    context: BrowserContext, server: ChatServer, site: Website
) -> None:
    visitor, watch = await watched(context, server, site)
    hostile = (*texts.MARKUP, *texts.MARKDOWN)
    codes = ("refused_here", "constructor", "__proto__", "toString", "<img src=x onerror=window.pwned=1>", 7, None)
    turn = 0

    async def refuse(route: Route) -> None:
        nonlocal turn
        text, code = hostile[turn % len(hostile)], codes[turn % len(codes)]
        turn += 1
        problem = {"type": text, "title": text, "status": 400, "code": code, "detail": text, "content": text}
        headers = {"Access-Control-Allow-Origin": site.url}
        if turn % 2:
            headers |= {"Content-Type": "application/problem+json"}
            return await route.fulfill(status=400, json=problem, headers=headers)
        events = [("start", {"session_id": text}), ("delta", {"content": text}), ("error", problem)]
        events.append(("done", {"finish_reason": "error"}))
        lines = [f"id: {at}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for at, (name, data) in enumerate(events, 1)]
        headers |= {"Content-Type": "text/event-stream"}
        return await route.fulfill(status=200, body="".join(lines), headers=headers)

    await context.route(f"{server.url}/api/v1/chat", refuse)
    told = await send_all(visitor.page, [str(number) for number in range(len(hostile))])
    assert {one["type"] for one in told} == {"chat-error"}
    assert await watch.found() == []
    sentences = await shown(visitor, ".fail p")
    for at, text in list(enumerate(hostile))[-len(texts.MARKDOWN) :]:
        if isinstance(code := codes[at % len(codes)], str) and code.isidentifier() and code[0] != "_":
            assert told[at]["code"] == code
            assert cut(text, 999) in sentences
    await context.unroute(f"{server.url}/api/v1/chat")
    await visitor.chats("bye", "Echo: bye")
    assert await watch.found() == []


def history_of(hostile: Sequence[str]) -> dict[str, Any]:
    """Make a document to be imported: each text as a title, and as both sides of conversations of 36 messages."""
    moments = (
        f"2026-01-{1 + at // 86400:02}T{at // 3600 % 24:02}:{at // 60 % 60:02}:{at % 60:02}Z" for at in range(10**6)
    )

    def message(text: str, role: str, number: int) -> dict[str, Any]:
        return {
            "message_id": f"00000000-0000-4000-8000-{number:012}",
            "role": role,
            "content": text,
            "created_at": next(moments),
            "status": "complete",
        }

    def session(name: str, title: str, said: Sequence[str]) -> dict[str, Any]:
        began = next(moments)
        turns = [message(text, role, at) for at, text in enumerate(said) for role in ("user", "assistant")]
        times = {"created_at": began, "updated_at": turns[-1]["created_at"]}
        return {"session_id": name, "bot": "", "title": title, **times, "messages": turns}

    sessions = [session(f"title-{at}", cut(text, 500), ["pwned"]) for at, text in enumerate(hostile)]
    for at in range(0, len(hostile), 18):
        sessions += [session(f"texts-{at}", f"texts from {at}", hostile[at : at + 18])]
    return {"format": "chatcore-history", "version": 1, "exported_at": next(moments), "sessions": sessions}


async def test_imported_conversations_and_what_is_found_in_them_are_text(
    context: BrowserContext, server: ChatServer, site: Website
) -> None:
    visitor, watch = await watched(context, server, site)
    hostile = [*texts.MARKUP, *texts.LINKS[::4], *texts.MARKDOWN]
    await visitor.page.evaluate("(document) => chatPersistence.importData(document)", history_of(hostile))
    entries = await visitor.conversations()
    count = len(hostile) + len(range(0, len(hostile), 18))
    for seen in range(50, count, 50):
        await expect(entries).to_have_count(seen)
        await visitor.button("Show more").click()
    await expect(entries).to_have_count(count)
    names = await shown(visitor, ".name")
    assert {cut(text, 500) for text in hostile} <= set(names)
    search = visitor.widget.get_by_label("Search messages")
    for words in ("window.pwned=1</", "onerror=", "JavaScript:", "\u202e", "[x](", "<", "evil.example"):
        await search.fill(words)
        await expect(visitor.widget.locator("mark").first).to_have_text(words, ignore_case=True)
        await expect(visitor.widget.locator(".excerpt").first).to_contain_text(words, ignore_case=True)
        assert await watch.found() == []
    await search.fill("")
    for at in range(0, len(hostile), 18):
        if at:
            await visitor.button("Conversations").click()
        await visitor.widget.get_by_role("button", name=f"texts from {at}", exact=False).first.click()
        await expect(visitor.widget.locator("li.user .text")).to_have_text(hostile[at : at + 18])
        assert await shown(visitor, "li.user .text") == hostile[at : at + 18]
        assert await watch.found() == []
    await visitor.chats("bye", "Echo: bye")
    assert visitor.complaints == []


@pytest.fixture
def stranger() -> Iterator[ScriptedN8n]:
    """Give a server that is not ours, though it speaks HTTP."""
    with ScriptedN8n() as scripted:
        yield scripted


async def test_a_server_that_talks_nonsense_is_an_error_with_another_try(
    context: BrowserContext, server: ChatServer, site: Website, stranger: ScriptedN8n
) -> None:
    origin = f"http://127.0.0.1:{stranger.port}"
    site.pages["/"] = page_with_widget(server.url, f'server="{origin}"')
    visitor, watch = await watched(context, server, site, origin)
    done = events(event("start", SESSION), event("done", {"finish_reason": "complete"}, 2))
    given: dict[str, Answer] = {}

    def script(request: Request) -> Answer:
        if request.method == "OPTIONS":
            return answer(status=204)
        usual = answer(json.dumps(SESSION).encode(), 201) if "session" in request.target else done
        return given.get(request.target) or usual

    stranger.answer(script)
    for path, nonsense in (("/api/v1/session", SESSIONS), ("/api/v1/chat", CHATS)):
        for name, wrong in nonsense.items():
            given = {path: wrong}
            [told] = await send_all(visitor.page, [name])
            assert told["type"] == "chat-error", (path, name, told)
            last = visitor.widget.locator("li.user, li.assistant").filter(has=visitor.page.locator(".fail")).last
            await expect(last.locator(".fail p")).to_have_text(re.compile(r"^[A-Z].*\.$"))
            await expect(last.get_by_role("button", name="again")).to_be_visible()
        await visitor.button("New chat").click()
    assert await watch.found() == []
    assert not [one for one in visitor.complaints if not one.startswith(("Failed to load resource", "Access to fetch"))]
    given = {}
    [told] = await send_all(visitor.page, ["And now?"])
    assert told["type"] == "chat-reply"


@pytest.mark.parametrize("nonsense", [answer(b"<h1>502</h1>"), ENDLESS], ids=["html", "endless"])
async def test_a_reply_that_goes_on_with_nonsense_can_be_stopped(
    context: BrowserContext, server: ChatServer, site: Website, stranger: ScriptedN8n, nonsense: Answer
) -> None:
    origin = f"http://127.0.0.1:{stranger.port}"
    site.pages["/"] = page_with_widget(server.url, f'server="{origin}"')
    visitor, watch = await watched(context, server, site, origin)
    half = events(event("start", SESSION), event("delta", {"content": "half"}, 2))

    def script(request: Request) -> Answer:
        if request.method == "OPTIONS":
            return answer(status=204)
        if request.method == "POST":
            return answer(json.dumps(SESSION).encode(), 201) if "session" in request.target else half
        return nonsense

    stranger.answer(script)
    await visitor.say("Go on")
    await visitor.reads("half")
    await eventually(lambda: any(one.method == "GET" for one in stranger.requests))
    await visitor.button("Stop").click()
    await visitor.rests()
    await expect(visitor.widget.get_by_text("Stopped", exact=True).first).to_be_visible()
    await visitor.shows(["Go on"], ["half"])
    await expect(visitor.button("Ask again")).to_be_visible()
    assert await watch.found() == []
    assert not [one for one in visitor.complaints if not one.startswith(("Failed to load resource", "Access to fetch"))]


async def test_a_policy_is_content_with_failures_too(
    context: BrowserContext, server: ChatServer, site: Website, n8n: ScriptedN8n
) -> None:
    site.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src {server.url}; connect-src {server.url}; style-src 'none'; img-src 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'; base-uri 'none'; form-action 'none'"
    )
    visitor, watch = await watched(context, server, site)
    n8n.next(answer_json({"message": "Error in workflow"}, 500), answer_error("half a"))
    await visitor.say("one")
    await visitor.button("Ask again").click()
    await expect(visitor.failure).to_be_visible()
    await visitor.shows(["one"], ["half a"])
    await visitor.button("Ask again").click()
    await visitor.reads("Echo: one")
    await visitor.rests()
    await visitor.button("Copy").click()
    await expect(visitor.widget.get_by_role("status").filter(has_text="Copied")).to_be_attached()
    gate = Gate()
    n8n.next(answer_stream(["half ", "whole"], gap=gate))
    await visitor.say("two")
    await visitor.reads("half")
    await visitor.page.reload()
    gate.open()
    await visitor.open()
    await visitor.reads("half whole")
    assert await watch.found() == []
    assert visitor.complaints == ["Failed to load resource: the server responded with a status of 502 (Bad Gateway)"]


async def test_what_a_page_does_to_its_globals_later_is_its_own_affair(visitor: Visitor, n8n: ScriptedN8n) -> None:
    await visitor.chats("one", "Echo: one")
    await visitor.page.evaluate(
        """() => {
            window.fetch = () => Promise.reject(new TypeError("not this one"));
            window.name = "top";
            for (const kind of [Object, Array, String, Function, Promise, Map, Set, Error, RegExp, Date])
                Object.freeze(kind.prototype);
        }"""
    )
    await visitor.chats("**two** https://example.com/", "Echo: two https://example.com/")
    await visitor.button("New chat").click()
    await visitor.chats("three", "Echo: three")
    assert [request.text for request in n8n.requests] == ["one", "**two** https://example.com/", "three"]
    assert visitor.complaints == []


async def test_modules_of_two_servers_on_one_page_share_what_is_kept(
    context: BrowserContext, server: ChatServer, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    other = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
    define = f'<script type="module" src="{other.url}/widget/chat-widget-define.js"></script>'
    site.pages["/"] = page_with_widget(server.url, head=define)
    visitor, watch = await watched(context, server, site, other.url)
    await visitor.chats("one", "Echo: one")
    assert [one["content"] for one in await visitor.stored()] == ["one", "Echo: one"]
    await visitor.page.evaluate("chatPersistence.clear()")
    await expect(visitor.questions).to_have_count(0)
    await visitor.chats("two", "Echo: two")
    assert await watch.found() == []
    assert visitor.complaints == []


async def test_a_frame_without_an_origin_says_that_it_may_not_chat(
    context: BrowserContext, server: ChatServer, site: Website, n8n: ScriptedN8n
) -> None:
    site.pages["/frame"] = page_with_widget(server.url, 'mode="inline"')
    site.pages["/"] = '<!doctype html><title>A shop</title><iframe sandbox="allow-scripts" src="/frame"></iframe>'
    visitor = await visit(context, site.url)
    frame = visitor.page.frame_locator("iframe")
    await expect(frame.get_by_text("This chat is not saved")).to_be_visible()
    await frame.get_by_label("Your message").fill("Hello")
    await frame.get_by_label("Your message").press("Enter")
    await expect(frame.get_by_role("button", name="Send again")).to_be_visible()
    assert n8n.requests == []
