"""What the page on the widget shows is put into a page as it is written, and does what it says."""

import json

from playwright.async_api import BrowserContext, expect

from tests.conftest import StartServer
from tests.support.documented import fenced
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor, visit

EXAMPLE = "https://chat.example.com"


def shown(server: ChatServer, heading: str, language: str) -> str:
    """Give a block of the page, with the server's address in the example's place."""
    return fenced("docs/widget.md", heading, language).replace(EXAMPLE, server.url)


async def test_two_lines_and_the_policy_suffice_and_a_script_has_its_say(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
    site.headers["Content-Security-Policy"] = shown(server, "Content-Security-Policy", "text")
    site.pages["/"] = f'<!doctype html><html lang="en"><title>A shop</title>{shown(server, "The widget", "html")}'
    visitor = await visit(context, site.url)
    script = shown(server, "From a script", "js")
    defined = "await customElements.whenDefined('chat-widget')"
    await visitor.page.evaluate(f"(async () => {{ {defined};\n{script}\n}})()")
    await expect(visitor.widget.get_by_role("dialog", name="Ask us")).to_be_visible()
    await visitor.reads("Echo: Where is my order?")
    await visitor.rests()
    await visitor.page.evaluate("document.querySelector('chat-widget').send('And now?')")
    await visitor.shows(["Where is my order?", "And now?"], ["Echo: Where is my order?", "Echo: And now?"])
    assert [request.json.get("metadata") for request in n8n.requests][-1] == {"plan": "pro"}
    assert visitor.complaints == []


async def test_colours_are_the_pages_and_its_history_is_exported_and_imported(
    context: BrowserContext, server: ChatServer, site: Website
) -> None:
    style, history = shown(server, "Looks", "css"), shown(server, "History from a script", "js")
    script = f'<script type="module">{history}\nwindow.exported = data;</script>'
    site.pages["/later"] = (
        f"<!doctype html><title>A shop</title><style>{style}</style>{shown(server, 'The widget', 'html')}"
    )
    site.pages["/history"] = f"<!doctype html><title>A shop</title>{script}"
    visitor = await visit(context, f"{site.url}/later")
    await visitor.open()
    await visitor.chats("Hello", "Echo: Hello")
    colour = await visitor.widget.locator(".bubble").evaluate("bubble => getComputedStyle(bubble).backgroundColor")
    assert colour == "rgb(10, 125, 85)"
    other = Visitor(await context.new_page())
    await other.page.goto(f"{site.url}/history")
    await other.page.wait_for_function("window.exported")
    document = json.loads(await other.page.evaluate("exported"))
    assert [one["content"] for one in document["sessions"][0]["messages"]] == ["Hello", "Echo: Hello"]
    assert [one["content"] for one in await visitor.stored()] == ["Hello", "Echo: Hello"], (
        "an import twice adds nothing"
    )
    assert visitor.complaints == other.complaints == []
