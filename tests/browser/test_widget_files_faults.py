"""Files in the widget when things go wrong: given up, cut off, reloaded, refused. No message goes without them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, expect

from tests.conftest import StartServer
from tests.support.answers import answer_stream, hold
from tests.support.background import Gate, eventually
from tests.support.faultproxy import FaultProxy
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.uploads import received
from tests.support.widget import Visitor, page_with_widget, visit

SIZE = 40_000_000  # more than the system takes from a browser at once
LINE = b"0123456789abcde\n"
ON = {"UPLOAD_MAX_BYTES": "50000000"}


@pytest.fixture
def server(start_server: StartServer, n8n: ScriptedN8n, site: Website) -> ChatServer:
    n8n.answer(answer_stream(["Got ", "it"]))
    return start_server(n8n, {"ALLOWED_ORIGINS": site.url, **ON})


@pytest.fixture
def network(server: ChatServer, site: Website) -> Iterator[FaultProxy]:
    """Give what is between the visitor and the server."""
    with FaultProxy(server.port) as proxy:
        site.pages["/"] = page_with_widget(proxy.url)
        yield proxy


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(context: BrowserContext, network: FaultProxy, site: Website) -> Visitor:
    """Give a visitor who has sent a file before, so that all modules are there."""
    assert network.url != site.url
    visitor = await visit(context, site.url)
    await visitor.open()
    await choose(visitor, b"small")
    await visitor.chats("first", "Got it")
    return visitor


async def choose(visitor: Visitor, data: bytes) -> None:
    """Choose a file with these bytes."""
    async with visitor.page.expect_file_chooser() as opening:
        await visitor.button("Attach files").click()
    await (await opening.value).set_files({"name": "small.txt", "mimeType": "text/plain", "buffer": data})


def got_much(n8n: ScriptedN8n) -> int:
    """Count the requests that brought all of the large file."""
    return sum(request.body.count(LINE) == SIZE // len(LINE) for request in n8n.requests)


async def sends_much(visitor: Visitor, tmp_path: Path, text: str = "Much") -> None:
    """Begin to send a file that takes its time."""
    path = tmp_path / "much.txt"
    path.write_bytes(LINE * (SIZE // len(LINE)))
    async with visitor.page.expect_file_chooser() as opening:
        await visitor.button("Attach files").click()
    await (await opening.value).set_files(path)
    await visitor.say(text)
    await expect(visitor.widget.locator("progress")).to_be_visible()


async def test_progress_is_shown_until_all_has_left(visitor: Visitor, network: FaultProxy, tmp_path: Path) -> None:
    await visitor.page.evaluate("""() => {
        window.seen = [];
        const look = () => {
            const bar = document.querySelector("chat-widget").shadowRoot.querySelector("progress");
            if (bar && bar.value !== seen.at(-1)) seen.push(bar.value);
            requestAnimationFrame(look);
        };
        look();
    }""")
    network.frozen = True
    await sends_much(visitor, tmp_path)
    await expect(visitor.widget.get_by_role("progressbar", name="Sending files")).to_be_visible()
    await visitor.page.wait_for_function("seen.at(-1) > 0")
    assert await visitor.page.evaluate("seen.at(-1)") < 1
    network.frozen = False
    await expect(visitor.replies).to_have_text(["Got it", "Got it"], use_inner_text=True, timeout=60_000)
    await expect(visitor.widget.locator("progress")).to_have_count(0)
    seen = await visitor.page.evaluate("seen")
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, seen
    assert visitor.complaints == []


async def test_stop_gives_the_files_up_and_they_can_be_sent_again(
    visitor: Visitor, network: FaultProxy, n8n: ScriptedN8n, tmp_path: Path
) -> None:
    network.frozen = True
    await sends_much(visitor, tmp_path)
    await visitor.button("Stop").click()
    await expect(visitor.failure).to_contain_text("This was not sent.")
    await expect(visitor.widget.locator("progress")).to_have_count(0)
    network.frozen = False
    assert len(n8n.requests) == 1
    await visitor.button("Send again").click()
    await expect(visitor.replies).to_have_text(["Got it", "Got it"], use_inner_text=True, timeout=60_000)
    await expect(visitor.failure).to_have_count(0)
    await expect(visitor.questions).to_have_text(["first", "Much"])
    assert got_much(n8n) == 1


async def test_a_network_lost_on_the_way_sends_nothing_without_its_files(
    visitor: Visitor, network: FaultProxy, n8n: ScriptedN8n, tmp_path: Path
) -> None:
    network.frozen = True
    await sends_much(visitor, tmp_path)
    network.refuse()
    network.cut()
    await expect(visitor.failure).to_contain_text("The connection was lost.")
    network.frozen = False
    network.listen()
    assert len(n8n.requests) == 1
    await visitor.button("Send again").click()
    await expect(visitor.replies).to_have_text(["Got it", "Got it"], use_inner_text=True, timeout=60_000)
    await expect(visitor.questions).to_have_text(["first", "Much"])
    assert got_much(n8n) == 1


async def test_a_short_break_on_the_way_is_not_noticed(
    visitor: Visitor, network: FaultProxy, n8n: ScriptedN8n, tmp_path: Path
) -> None:
    network.frozen = True
    await sends_much(visitor, tmp_path)
    network.cut()
    network.frozen = False
    await expect(visitor.replies).to_have_text(["Got it", "Got it"], use_inner_text=True, timeout=60_000)
    await expect(visitor.failure).to_have_count(0)
    assert got_much(n8n) == 1


async def test_a_reload_on_the_way_asks_for_the_files_again(
    visitor: Visitor, network: FaultProxy, n8n: ScriptedN8n, tmp_path: Path
) -> None:
    network.frozen = True
    await sends_much(visitor, tmp_path)
    network.cut()
    network.frozen = False
    await visitor.page.reload()
    await visitor.open()
    await expect(visitor.failure).to_contain_text("The files were not received.")
    await visitor.button("Attach again").click()
    await expect(visitor.input).to_have_value("Much")
    await expect(visitor.widget.locator(".file-note")).to_have_text("Please attach again: \u2068much.txt\u2069")
    await expect(visitor.button("Attach files")).to_be_focused()
    assert len(n8n.requests) == 1
    await choose(visitor, b"again")
    await expect(visitor.widget.locator(".file-note")).to_be_hidden()
    await visitor.input.press("Enter")
    await visitor.shows(["first", "Much"], ["Got it", "Got it"])
    assert [data for _, _, data in received(n8n.requests[-1]).files] == [b"again"]
    assert len(n8n.requests) == 2
    stored = await visitor.stored()
    assert [(one["role"], one["status"]) for one in stored] == [("user", "complete"), ("assistant", "complete")] * 2


async def test_a_reply_is_resumed_where_the_files_had_arrived(
    visitor: Visitor, network: FaultProxy, n8n: ScriptedN8n
) -> None:
    gate = Gate()
    n8n.next(hold(gate, answer_stream(["at last"])))
    await choose(visitor, b"arrives")
    await visitor.say("Slow?")
    await eventually(lambda: len(n8n.requests) == 2)
    network.refuse()
    network.cut()
    await expect(visitor.widget.locator(".status")).to_have_text("Reconnecting…")
    network.listen()
    gate.open()
    await visitor.reads("at last")
    await visitor.rests()
    gate = Gate()
    n8n.next(hold(gate, answer_stream(["after all"])))
    await choose(visitor, b"arrives too")
    await visitor.say("And now?")
    await eventually(lambda: len(n8n.requests) == 3)
    await visitor.page.reload()
    await visitor.open()
    gate.open()
    await visitor.reads("after all")
    await visitor.shows(["first", "Slow?", "And now?"], ["Got it", "at last", "after all"])
    assert len(n8n.requests) == 3


async def test_a_reply_asked_again_takes_its_files_along(visitor: Visitor, n8n: ScriptedN8n) -> None:
    await visitor.button("Ask again").click()
    note = visitor.widget.locator(".file-note")
    await expect(note).to_have_text("Please attach again: \u2068small.txt\u2069")
    await choose(visitor, b"another")
    await visitor.input.press("Enter")
    await visitor.shows(["first", "first"], ["Got it", "Got it"])
    assert [data for _, _, data in received(n8n.requests[-1]).files] == [b"another"]


@pytest.mark.parametrize(
    ("secret", "said", "button"),
    [
        ("chatcore-test-secret-of-32-characters", "Files are not accepted by this server.", 1),
        ("another-secret-that-nobody-knows-yet-at-all", "Files can't be sent here.", 0),
    ],
    ids=["the session goes on", "a new session"],
)
async def test_a_server_that_takes_no_files_any_more_is_told_clearly(
    context: BrowserContext,
    start_server: StartServer,
    site: Website,
    n8n: ScriptedN8n,
    secret: str,
    said: str,
    button: int,
) -> None:
    n8n.answer(answer_stream(["Got it"]))
    settings = {"ALLOWED_ORIGINS": site.url, "JWT_SECRET_KEY": "chatcore-test-secret-of-32-characters"}
    first = start_server(n8n, {**settings, **ON})
    second = start_server(n8n, {**settings, "JWT_SECRET_KEY": secret})
    with FaultProxy(first.port) as network:
        site.pages["/"] = page_with_widget(network.url)
        visitor = await visit(context, site.url)
        await visitor.open()
        await choose(visitor, b"small")
        network.target = second.port
        network.cut()
        await visitor.say("See")
        await expect(visitor.failure).to_contain_text(said)
        await expect(visitor.widget.locator(".attach:visible")).to_have_count(button)
        assert n8n.requests == []
        network.target = first.port
        network.cut()
        await visitor.button("Send again").click()
        await expect(visitor.input).to_have_value("See")


@pytest.mark.parametrize(
    ("limit", "said"),
    [("1000000", "The request is too large"), (f"{SIZE - 1}", f"File 1 is larger than {SIZE - 1} bytes.")],
    ids=["by its length", "while it is read"],
)
async def test_a_limit_that_has_become_lower_is_told_though_the_file_is_on_its_way(
    visitor: Visitor,
    network: FaultProxy,
    start_server: StartServer,
    site: Website,
    n8n: ScriptedN8n,
    tmp_path: Path,
    limit: str,
    said: str,
) -> None:
    network.target = start_server(n8n, {"ALLOWED_ORIGINS": site.url, "UPLOAD_MAX_BYTES": limit}).port
    network.cut()
    await sends_much(visitor, tmp_path)
    await expect(visitor.failure).to_contain_text(said, timeout=30_000)
    await visitor.button("Send again").click()
    await expect(visitor.input).to_have_value("Much")
    await expect(visitor.widget.locator(".tray .file-name")).to_have_text(["much.txt"])
    assert got_much(n8n) == 0
