"""A visitor's own copy, as docs/backup.md has it: out of the one browser, into another, and the chat goes on there."""

from playwright.async_api import Browser, expect

from tests.conftest import StartServer
from tests.support.answers import answer_stream, cut
from tests.support.documented import fenced
from tests.support.n8n import ScriptedN8n
from tests.support.site import Website
from tests.support.widget import page_with_widget, visit

EXPORT, IMPORT = fenced("docs/backup.md", "A visitor's own copy", "js").splitlines()


async def test_a_profile_that_is_lost_shows_the_same_after_an_import_and_goes_on(
    browser: Browser, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
    site.pages["/"] = page_with_widget(server.url)
    context = await browser.new_context()
    first = await visit(context, site.url)
    await first.open()
    await first.chats("one", "Echo: one")
    n8n.next(answer_stream(["**bold** ", "words"]))
    await first.say("two")
    await first.reads("bold words")
    await first.button("New chat").click()
    n8n.next(cut("half "))
    await first.say("three")
    await first.reads("half")
    await expect(first.widget.get_by_text("Ask again")).to_be_visible()
    kept = await first.page.evaluate(f"async () => {{ {EXPORT} return kept; }}")
    await context.close()

    second = await visit(await browser.new_context(), site.url)
    await second.page.evaluate(f"async (kept) => {{ {IMPORT} }}", kept)
    await second.open()
    entries = await second.conversations()
    await expect(entries).to_contain_text(["three", "one"])
    await entries.filter(has_text="one").get_by_role("button").first.click()
    await expect(second.widget.locator("li.assistant strong")).to_have_text("bold")
    await second.chats("four", "Echo: four")
    assert [message["content"] for message in await second.stored()] == [
        *("one", "Echo: one", "two", "**bold** words", "four", "Echo: four"),
        *("three", "half "),
    ]
    assert second.complaints == []
