"""A visitor who stays while an operator goes from mode to mode: a browser, and servers started as documented."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.async_api import BrowserContext, Playwright, async_playwright, expect

from tests.browser.conftest import FLAGS, chromium_path
from tests.support.admin_page import Api, Operator
from tests.support.answers import Answer, answer_empty, answer_stream, stall
from tests.support.background import Gate
from tests.support.client import NO_TLS
from tests.support.databases import Database
from tests.support.documented import Place
from tests.support.n8n import Request, ScriptedN8n, echo
from tests.support.ports import free_port
from tests.support.postgres_mode import OPS
from tests.support.server import JWT_SECRET, N8N_SECRET
from tests.support.site import Website
from tests.support.widget import Visitor, page_with_widget, visit

EXPECTED_COMPLAINTS = ("status of 503", "status of 404", "status of 401", "ERR_CONNECTION_REFUSED")
"""What a browser says of a server that stops, of one that is away, of a reply that is gone, of another key."""
STORED_HALF = """async () => {
    const {sessions} = JSON.parse(await chatPersistence.exportChatHistory("json"));
    return sessions.some(({messages}) => messages.at(-1).content === "half ");
}"""
TOKENS = """async () => {
    const sessions = await chatPersistence.listSessions();
    const stored = Object.keys(localStorage).filter((name) => name.startsWith("chatcore/token/"));
    return sessions.sort((a, b) => (a.created_at < b.created_at ? -1 : 1)).map(({session_id: conversation}) => {
        const {session_id, token} = JSON.parse(localStorage[stored.find((name) => name.endsWith(`/${conversation}`))]);
        return [session_id, token];
    });
}"""
AT_DATABASE = "db.example.com:5432/chatcore?sslmode=verify-full"


@dataclass(frozen=True)
class Move:
    """One page of the documentation: its blocks by where they belong, and the mode that it leads to.

    `figures_of` are the modes whose figures it takes along.
    """

    mode: str
    before: Sequence[str]
    start: str
    after: Sequence[str]
    stopped: Sequence[str] = ()
    figures_of: Sequence[str] = ()


def workflow(request: Request) -> Answer:
    """Answer messages; whoever only looks whether the webhook is there gets an answer too."""
    return echo(request) if request.method == "POST" else answer_empty()


class Conversation:
    """What one conversation must hold: role, text and state of each message. `tab` shows it."""

    tab: Visitor

    def __init__(self) -> None:
        self.expected: list[tuple[str, str, str]] = []

    def turn(self, question: str, reply: str, state: str = "complete") -> None:
        """Expect a question with its reply."""
        self.expected += [("user", question, "complete"), ("assistant", reply, state)]

    async def chats(self, question: str) -> None:
        """Say something that is repeated, and expect both from now on."""
        await self.tab.chats(question, f"Echo: {question}")
        self.turn(question, f"Echo: {question}")


class Journey:
    """A folder like an operator's, a server from it on one port, and what is known of n8n and of the figures."""

    def __init__(self, folder: Path, site: Website, n8n: ScriptedN8n, database: Database, redis_url: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.place = Place(folder, {"API_PORT": str(self.port)})
        self.n8n = n8n
        self.ended: dict[str, int] = {}
        """How many messages servers of each mode were sent that have ended."""
        self._mode = ""
        self._asked_before = 0
        self._server = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._instead = {
            f"postgresql://chatcore_app:change-me-2@{AT_DATABASE}": database.url,
            f"postgresql://chatcore_owner:change-me-1@{AT_DATABASE}": database.admin_url,
            "rediss://:password@redis.example.com:6379/0": redis_url,
            "localhost:8000": f"127.0.0.1:{self.port}",
        }
        self._settings = folder / ".env"
        self._settings.write_text(
            f"N8N_WEBHOOK_URL={n8n.url}\nALLOWED_ORIGINS={site.url}\nADMIN_TOKENS=ops:{OPS}\n"
            f"JWT_SECRET_KEY={JWT_SECRET}\nSESSION_SECRET_KEY={N8N_SECRET}\n"
            "RATE_LIMIT_PER_MINUTE=100000\nSESSION_RATE_LIMIT_PER_MINUTE=100000\n"
        )

    def forgets(self, *names: str) -> None:
        """Take settings out of `.env`."""
        lines = self._settings.read_text("utf-8").splitlines(keepends=True)
        self._settings.write_text("".join(line for line in lines if line.partition("=")[0] not in names), "utf-8")

    @property
    def messages(self) -> list[Request]:
        """All that n8n was asked to answer."""
        return [request for request in self.n8n.requests if request.method == "POST"]

    @property
    def asked(self) -> list[str]:
        """What n8n was asked since the server's start."""
        return [request.text for request in self.messages[self._asked_before :]]

    async def runs(self, text: str) -> str:
        """Run a block, as it is written but for addresses, while the browser goes on."""
        instead = {written: put for written, put in self._instead.items() if written in text}
        return await asyncio.to_thread(self.place.run, text, instead)

    async def starts(self, text: str, mode: str) -> None:
        """Run a block that starts a server, until that says that it is of this mode."""
        self._process = self._server.enter_context(self.place.running(text))
        self._mode, self._asked_before = mode, len(self.messages)
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client, asyncio.timeout(60):
            while True:
                assert self._process.poll() is None, (self.place.folder / "log").read_text("utf-8")
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{self.url}/health")).json()["mode"] == mode:
                        return
                await asyncio.sleep(0.02)

    def signals(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal the server."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    async def ends(self) -> None:
        """Wait until the server has ended, in order."""
        assert self._process is not None
        assert await asyncio.to_thread(self._process.wait, 30) == 0, (self.place.folder / "log").read_text("utf-8")
        self._server.close()
        self.ended[self._mode] = self.ended.get(self._mode, 0) + len(self.asked)

    async def stops(self) -> None:
        """Stop the server and wait for its end."""
        self.signals()
        await self.ends()

    async def drains(self) -> None:
        """Tell the server to stop, and wait until it takes no new messages."""
        self.signals()
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client, asyncio.timeout(30):
            while (await client.get(f"{self.url}/health/ready")).status_code != httpx.codes.SERVICE_UNAVAILABLE:
                await asyncio.sleep(0.01)

    def close(self) -> None:
        """End the server, whatever it does."""
        self._server.close()


class Profile:
    """One visitor's browser with a profile on the disk, and two tabs with a conversation each."""

    def __init__(self, playwright: Playwright, folder: Path, site: Website) -> None:
        self._playwright = playwright
        self._folder = folder
        self._site = site
        self._context: BrowserContext | None = None
        self.one = Conversation()
        self.two = Conversation()

    async def close(self) -> None:
        """Close the browser, if it is open."""
        if self._context is not None:
            await self._context.close()
            self._context = None

    async def open(self) -> None:
        """Start the browser and open both tabs."""
        self._context = await self._playwright.chromium.launch_persistent_context(
            self._folder, executable_path=chromium_path(), args=FLAGS
        )
        for conversation in (self.one, self.two):
            conversation.tab = await visit(self._context, self._site.url)
            await conversation.tab.open()
            if conversation.expected:
                entries = await conversation.tab.conversations()
                await entries.filter(has_text=conversation.expected[0][1]).get_by_role("button").first.click()

    async def begins(self) -> None:
        """Begin both conversations."""
        await self.one.chats("first")
        await self.two.tab.button("New chat").click()
        await self.two.chats("second")

    async def tokens(self) -> list[list[str]]:
        """Give the session and the token of each conversation."""
        told: list[list[str]] = await self.one.tab.page.evaluate(TOKENS)
        return told

    async def holds_all(self) -> None:
        """Compare what is shown and what is stored with what must be there."""
        for conversation in (self.one, self.two):
            await conversation.tab.shows(
                [text for role, text, _ in conversation.expected if role == "user"],
                [text for role, text, _ in conversation.expected if role == "assistant"],
            )
        stored = [(one["role"], one["content"].strip(), one["status"]) for one in await self.one.tab.stored()]
        assert stored == [*self.one.expected, *self.two.expected]

    def unexpected(self) -> list[str]:
        """Give what the browser complained of and had no reason to."""
        said = [*self.one.tab.complaints, *self.two.tab.complaints]
        return [text for text in said if not any(known in text for known in EXPECTED_COMPLAINTS)]


@contextlib.asynccontextmanager
async def travelling(
    folder: Path, site: Website, n8n: ScriptedN8n, database: Database, redis_url: str
) -> AsyncIterator[tuple[Journey, Profile]]:
    """Give a journey that has not begun, and a visitor of the website whose browser is not open yet."""
    n8n.answer(workflow)
    (folder / "place").mkdir()
    async with async_playwright() as playwright:
        journey = Journey(folder / "place", site, n8n, database, redis_url)
        profile = Profile(playwright, folder / "profile", site)
        site.pages["/"] = page_with_widget(journey.url)
        try:
            yield journey, profile
        finally:
            await profile.close()
            journey.close()


async def moves(journey: Journey, move: Move, profile: Profile) -> None:
    """Go to the next mode while one reply ends in time, one does not, and one message finds nobody."""
    one, two, n8n = profile.one, profile.two, journey.n8n
    short, long, kept = (f"{name}, then {move.mode}" for name in ("short", "long", "kept"))
    for text in move.before:
        await journey.runs(text)
    gate = Gate()
    n8n.next(answer_stream(["half ", "whole"], gap=gate))
    await one.tab.say(short)
    await one.tab.reads("half")
    n8n.next(stall("begun"))
    await two.tab.say(long)
    await two.tab.reads("begun")
    await journey.drains()
    gate.open()
    await one.tab.reads("half whole")
    one.turn(short, "half whole")
    await one.tab.rests()
    await one.tab.say(kept)
    await expect(one.tab.failure).to_contain_text("The server is restarting.")
    journey.signals()  # nobody waits for the grace to pass
    broken_off = two.tab.widget.locator("li.assistant").last.locator(".fail")
    await expect(broken_off).to_contain_text("The server was restarted before the reply was complete.")
    two.turn(long, "begun", "error")
    await journey.ends()
    await one.tab.button("Send again").click()
    await expect(one.tab.failure).to_contain_text("The connection was lost.")
    for text in move.stopped:
        await journey.runs(text)
    await journey.starts(move.start, move.mode)
    await one.tab.button("Send again").click()
    await one.tab.reads(f"Echo: {kept}")
    one.turn(kept, f"Echo: {kept}")
    await two.tab.button("Ask again").click()
    await two.tab.reads(f"Echo: {long}")
    two.turn(long, f"Echo: {long}")
    assert journey.asked == [kept, long]


async def moves_unseen(journey: Journey, move: Move, profile: Profile) -> None:
    """Go to the next mode while the browser is closed, which happened in the middle of a reply."""
    one = profile.one
    for text in move.before:
        await journey.runs(text)
    gate = Gate()
    journey.n8n.next(answer_stream(["half ", "whole"], gap=gate))
    await one.tab.say("left alone")
    await one.tab.reads("half")
    await one.tab.page.wait_for_function(STORED_HALF)
    await profile.close()
    gate.open()
    await journey.stops()
    for text in move.stopped:
        await journey.runs(text)
    await journey.starts(move.start, move.mode)
    await profile.open()
    await expect(one.tab.failure).to_contain_text("This reply is no longer available.")
    one.turn("left alone", "half", "error")
    await one.tab.button("Ask again").click()
    await one.tab.reads("Echo: left alone")
    one.turn("left alone", "Echo: left alone")
    assert journey.asked == ["left alone"]


async def looks_well(journey: Journey, move: Move, profile: Profile) -> None:
    """See what an operator and the visitor see after a move."""
    one = profile.one
    await one.chats(f"on in {move.mode}")
    async with one.tab.page.expect_response("**/feedback") as answered:
        await one.tab.button("Good answer").click()
    assert (await answered.value).status == httpx.codes.NO_CONTENT
    await one.tab.conversations()
    await one.tab.widget.get_by_label("Search messages").fill(f"on IN {move.mode}")
    await expect(one.tab.widget.locator("mark").first).to_have_text(f"on in {move.mode}")
    await one.tab.button("Back to the chat").click()
    await profile.holds_all()
    assert profile.unexpected() == []

    told = [await journey.runs(text) for text in move.after]
    health = json.loads(told[-1].splitlines()[-1])
    assert (health["mode"], health["status"]) == (move.mode, "ok")
    if move.mode == "stateless":
        return
    operator = Operator(await one.tab.page.context.new_page(), Api())
    await operator.page.goto(f"{journey.url}/admin")
    await operator.enter(OPS)
    counted = sum(journey.ended.get(mode, 0) for mode in (move.mode, *move.figures_of)) + len(journey.asked)
    await expect(operator.figure("Messages")).to_have_text(str(counted))
    await expect(operator.figure("Sessions")).to_have_text("2")
    assert operator.complaints == []
    await operator.page.close()


async def begins(journey: Journey, profile: Profile, start: str) -> list[list[str]]:
    """Start stateless mode, and both conversations; gives their sessions and tokens."""
    await journey.starts(start, "stateless")
    await profile.open()
    await profile.begins()
    return await profile.tokens()


def sessions_seen(journey: Journey, profile: Profile) -> list[set[str]]:
    """Give the sessions of both conversations, as n8n was told of them."""
    return [
        {
            request.json["sessionId"]
            for request in journey.messages
            if request.text in {text for role, text, _ in conversation.expected if role == "user"}
        }
        for conversation in (profile.one, profile.two)
    ]
