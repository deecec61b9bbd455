"""What PostgreSQL mode exports, imported by the widget in a browser that never saw it: the same conversation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from tests.support import kept_messages, warm
from tests.support.answers import answer_error, answer_json, answer_stream, stall
from tests.support.databases import Database, RedisDatabase
from tests.support.kept_messages import Said
from tests.support.n8n import ScriptedN8n
from tests.support.postgres_mode import AUDIT_KEY, MAIN, Mode
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.widget import Visitor, page_with_widget, visit

UNICODE = "Grüße *<b>* שלום 👩‍👩‍👧 \u202eabc\u2028\n\ttwo  spaces"
MANY = 1000
Export = Callable[..., list[Path]]


@pytest.fixture
def export(database: Database, tmp_path: Path) -> Export:
    """Give `export(form)`, which writes all that the database holds, in one file or in one for each session."""
    settings = {"DATABASE_URL": database.url, "DATABASE_ADMIN_URL": database.admin_url, "AUDIT_KEY": AUDIT_KEY}

    def run(form: str) -> list[Path]:
        output = tmp_path / f"export-{form}"
        done = warm.run(MAIN, ["export", "--format", form, "--output", output], environment=settings, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return [output] if form == "jsonl" else sorted(output.iterdir())

    return run


async def newcomer(context: BrowserContext, site: Website) -> Visitor:
    """Give somebody with an empty profile, the chat open and its list of conversations in front."""
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.conversations()
    return visitor


async def imports(visitor: Visitor, files: list[Path], told: str) -> None:
    """Choose each of the files; the last one must be answered with what was told."""
    chooser = visitor.widget.locator("input[accept*=json]")
    for file in files:
        await chooser.set_input_files(file)
    await expect(visitor.widget.get_by_text(told).first).to_be_visible()


async def conversation(visitor: Visitor) -> list[Any]:
    """Give all that is stored of the one conversation and is not told by its time."""
    return [
        (one["role"], one["content"], one["status"], one.get("failure", {}).get("code"), one.get("rating"))
        for one in await visitor.stored()
    ]


async def says_all_kinds(visitor: Visitor, n8n: ScriptedN8n) -> None:
    """Have a conversation with everything that can become of a message."""
    await visitor.say(UNICODE)
    await visitor.button("Good answer").click()
    n8n.next(stall("half a "), answer_error("half a"), answer_json({"message": "Error in workflow"}, 500))
    await visitor.say("stopped")
    await visitor.reads("half a")
    await visitor.button("Stop").click()
    await visitor.rests()
    for broken, count in (("breaks off", 1), ("says nothing", 2)):
        await visitor.say(broken)
        await expect(visitor.failure).to_have_count(count)
    async with visitor.page.expect_file_chooser() as opening:
        await visitor.button("Attach files").click()
    await (await opening.value).set_files({"name": "menü.txt", "mimeType": "text/plain", "buffer": b"Soup"})
    await expect(visitor.widget.locator(".tray .file")).to_have_count(1)
    n8n.next(answer_stream(["Soup, then"]))
    await visitor.button("Send").click()
    await visitor.reads("Soup, then")
    await visitor.rests()
    n8n.refuse()
    n8n.disconnect()
    await visitor.say("never arrives")
    await expect(visitor.failure).to_have_count(3)
    n8n.listen()


async def test_a_conversation_looks_the_same_in_a_fresh_profile(
    context: BrowserContext,
    browser: Browser,
    site: Website,
    n8n: ScriptedN8n,
    database: Database,
    redis_server: RedisDatabase,
    tmp_path: Path,
    export: Export,
) -> None:
    environment = {"ALLOWED_ORIGINS": site.url, "UPLOAD_MAX_BYTES": "1000", "ACCEPT_HISTORY": "true"}
    with Mode(n8n, database, redis_server.url, tmp_path, **environment) as mode:
        site.pages["/"] = page_with_widget(mode.start().url)
        visitor = await visit(context, site.url)
        await visitor.open()
        await says_all_kinds(visitor, n8n)
        original = await conversation(visitor)
        assert [(one[0], one[2], one[3], one[4]) for one in original] == [
            *[("user", "complete", None, None), ("assistant", "complete", None, "up")],
            *[("user", "complete", None, None), ("assistant", "stopped", None, None)],
            *[("user", "complete", None, None), ("assistant", "error", "upstream_error", None)] * 2,
            *[("user", "complete", None, None), ("assistant", "complete", None, None)],
            ("user", "failed", "upstream_unavailable", None),
        ]
        texts = await visitor.widget.locator("li [part=text]:visible").all_inner_texts()
        exports = [export("jsonl"), export("json")]
        newcomers = [await newcomer(await browser.new_context(), site) for _ in exports]
        for fresh, files in zip(newcomers, exports, strict=True):
            await imports(fresh, files, "Imported: 1 conversations, 11 messages. Skipped: 0.")
            # Of a message that n8n never got it says no more than that.
            assert await conversation(fresh) == [*original[:-1], ("user", "never arrives", "failed", "network", None)]
            before = await fresh.stored()
            await imports(fresh, files, "Imported: 0 conversations, 0 messages. Skipped: 11.")
            assert await fresh.stored() == before
            entries = fresh.widget.get_by_role("list", name="Conversations").get_by_role("listitem")
            await entries.first.get_by_role("button").first.click()
            shown = fresh.widget.locator("li [part=text]:visible")
            # The name of a file stood for its message, so it is a text now.
            await expect(shown).to_have_count(len(texts) + 1)
            assert [text for text in await shown.all_inner_texts() if text != "menü.txt"] == texts
            await expect(fresh.failure).to_have_count(3)
            await expect(fresh.widget.get_by_text("Stopped", exact=True).last).to_be_visible()
            await expect(fresh.widget.locator(".up[aria-pressed=true]")).to_have_count(1)
            assert fresh.complaints == []
        entries = await visitor.conversations()
        await imports(visitor, exports[0], "Imported: 1 conversations, 11 messages. Skipped: 0.")
        await expect(entries).to_have_count(2)  # it is here under another name
        await newcomers[0].chats("and on", "Echo: and on")
        assert n8n.requests[-1].json["history"][-1] == {"role": "assistant", "content": "Soup, then"}
        assert n8n.requests[-1].json["sessionId"] != n8n.requests[0].json["sessionId"]


async def test_two_thousand_messages_of_a_session_are_imported_in_their_order(
    server: ChatServer, browser: Browser, site: Website, database: Database, export: Export
) -> None:
    assert server.url != site.url
    kept_messages.prepare(database)
    numbers = range(1, MANY + 1)
    kept_messages.keep(
        database,
        [Said(session=1, number=n, at=kept_messages.BEGIN + 60 * n, text=f"q{n} 😀", reply=f"a{n}") for n in numbers],
    )
    for form in ("jsonl", "json"):
        fresh = await newcomer(await browser.new_context(), site)
        await imports(fresh, export(form), f"Imported: 1 conversations, {2 * MANY} messages. Skipped: 0.")
        assert [one["content"] for one in await fresh.stored()] == [t for n in numbers for t in (f"q{n} 😀", f"a{n}")]
        await fresh.widget.get_by_role("listitem").first.get_by_role("button").first.click()
        await expect(fresh.replies.last).to_have_text(f"a{MANY}")
        await fresh.chats("and on", "Echo: and on")
        assert fresh.complaints == []
