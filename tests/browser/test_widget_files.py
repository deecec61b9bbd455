"""Files in the widget: chosen, dropped, pasted, refused before they are sent, and what is kept of them."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, FilePayload, Page, expect

from tests.conftest import StartServer
from tests.support.answers import answer_stream
from tests.support.axe import violations
from tests.support.background import Gate
from tests.support.n8n import Request, ScriptedN8n
from tests.support.server import ChatServer
from tests.support.site import Website
from tests.support.uploads import PDF, PNG, received
from tests.support.widget import Visitor, page_with_widget, visit

LIMITS = {"UPLOAD_MAX_BYTES": "100000", "UPLOAD_MAX_FILES": "3"}
NOTES = "Notes — für alle\n".encode() * 20
DROPPED = """([files, name]) => {
    const data = new DataTransfer();
    for (const [file, type, text] of files) data.items.add(new File([text], file, {type}));
    const root = document.querySelector("chat-widget").shadowRoot;
    const target = root.querySelector(name === "paste" ? "textarea" : ".scroll");
    const common = {bubbles: true, composed: true, cancelable: true};
    const event = name === "paste"
        ? new ClipboardEvent(name, {...common, clipboardData: data})
        : new DragEvent(name, {...common, dataTransfer: data});
    target.dispatchEvent(event);
    return event.defaultPrevented;
}"""


def payload(name: str, kind: str, data: bytes) -> FilePayload:
    """Give a file to choose."""
    return {"name": name, "mimeType": kind, "buffer": data}


async def chosen(visitor: Visitor, *files: FilePayload, button: str = "Attach files") -> None:
    """Choose files with the button."""
    async with visitor.page.expect_file_chooser() as opening:
        await visitor.button(button).click()
    await (await opening.value).set_files(list(files))


async def happens(page: Page, name: str, *files: tuple[str, str, str]) -> bool:
    """Drag, drop or paste files; tell whether the widget kept the browser from its own way."""
    return bool(await page.evaluate(DROPPED, [list(files), name]))


def texts_of(requests: Sequence[Request]) -> list[str]:
    return [received(one).fields["chatInput"] if b"multipart" in one.raw_head else one.text for one in requests]


@pytest.fixture
def server(start_server: StartServer, n8n: ScriptedN8n, site: Website) -> ChatServer:
    n8n.answer(answer_stream(["Got ", "it"]))
    started = start_server(n8n, {"ALLOWED_ORIGINS": site.url, **LIMITS})
    site.pages["/"] = page_with_widget(started.url)
    return started


async def test_files_arrive_byte_for_byte_and_their_names_stay(visitor: Visitor, n8n: ScriptedN8n) -> None:
    name = 'Übersicht "3" ☕.txt'
    await chosen(visitor, payload(name, "text/plain", NOTES), payload("a.png", "image/png", PNG))
    chips = visitor.widget.locator(".tray .file")
    await expect(chips).to_have_text([f"{name}400 bytes", "a.png2 kB"])
    await visitor.chats("See these", "Got it")
    [request] = n8n.requests
    got = received(request)
    assert got.fields["chatInput"] == "See these"
    assert list(got.files) == [(name, "text/plain", NOTES), ("a.png", "image/png", PNG)]
    await expect(chips).to_have_count(0)
    await visitor.page.reload()
    await visitor.open()
    await visitor.shows(["See these"], ["Got it"])
    await expect(visitor.widget.locator(".sent .file")).to_have_text([f"{name}400 bytes", "a.png2 kB"])
    question = (await visitor.stored())[0]
    kept = [
        {"name": name, "size": len(NOTES), "type": "text/plain"},
        {"name": "a.png", "size": len(PNG), "type": "image/png"},
    ]
    assert (question["files"], question["status"]) == (kept, "complete")
    assert visitor.complaints == []


async def test_a_message_without_words_says_the_names(visitor: Visitor, n8n: ScriptedN8n) -> None:
    told = "window.told = []; addEventListener('chat-message', ({detail}) => told.push(detail))"
    await visitor.page.evaluate(told)
    await expect(visitor.button("Send")).to_have_attribute("aria-disabled", "true")
    await chosen(visitor, payload("a.pdf", "application/pdf", PDF), payload("b.txt", "text/plain", b"b"))
    await expect(visitor.button("Send")).not_to_have_attribute("aria-disabled", "true")
    await visitor.button("Send").click()
    await visitor.reads("Got it")
    assert texts_of(n8n.requests) == ["a.pdf, b.txt"]
    await expect(visitor.questions).to_have_count(0)
    await expect(visitor.widget.locator(".sent .file")).to_have_count(2)
    [detail] = await visitor.page.evaluate("told")
    assert [file["name"] for file in detail["files"]] == ["a.pdf", "b.txt"]


async def test_files_are_dropped_and_pasted(visitor: Visitor, n8n: ScriptedN8n) -> None:
    await expect(visitor.button("Attach files")).to_be_visible()
    file = ("dropped.txt", "text/plain", "one")
    hint = visitor.widget.locator(".drop")
    assert await happens(visitor.page, "dragenter", file)
    await expect(hint).to_have_text("Drop files here")
    await happens(visitor.page, "dragleave", file)
    await expect(hint).to_have_count(0)
    await happens(visitor.page, "dragover", file)
    await expect(hint).to_be_visible()
    assert await happens(visitor.page, "drop", file)
    await expect(hint).to_have_count(0)
    assert await happens(visitor.page, "paste", ("pasted.txt", "text/plain", "two"))
    await expect(visitor.widget.locator(".tray .file-name")).to_have_text(["dropped.txt", "pasted.txt"])
    await expect(visitor.input).to_be_focused()
    await visitor.chats("Both", "Got it")
    assert [(name, data) for name, _, data in received(n8n.requests[0]).files] == [
        ("dropped.txt", b"one"),
        ("pasted.txt", b"two"),
    ]


async def test_limits_are_told_before_anything_is_sent(visitor: Visitor, n8n: ScriptedN8n) -> None:
    await chosen(
        visitor,
        payload("big.txt", "text/plain", b"x" * 100_001),
        payload("evil\u202egpj.exe", "application/x-msdownload", b"MZ"),
        payload("1.txt", "text/plain", b"1"),
    )
    note = visitor.widget.locator(".file-note")
    await expect(note).to_have_text(
        "\u2068big.txt\u2069 is larger than 100 kB. \u2068evil\ufffdgpj.exe\u2069 can't be sent. "
        "Allowed: images, PDF, or text."
    )
    said = visitor.widget.locator(".panel [role=status]")
    await expect(said).to_contain_text("Added: \u20681.txt\u2069 \u2068big.txt\u2069 is larger")
    await chosen(visitor, *[payload(f"{number}.txt", "text/plain", b"1") for number in (2, 3, 4, 5)])
    await expect(note).to_have_text("At most 3 files go along with a message.")
    names = visitor.widget.locator(".tray .file-name")
    await expect(names).to_have_text(["1.txt", "2.txt", "3.txt"])
    await visitor.button("Remove \u20682.txt\u2069").click()
    await expect(names).to_have_text(["1.txt", "3.txt"])
    await expect(note).to_be_hidden()
    await expect(said).to_have_text("Removed: \u20682.txt\u2069")
    await expect(visitor.button("Remove \u20683.txt\u2069")).to_be_focused()
    await visitor.page.keyboard.press("Enter")
    await visitor.page.keyboard.press("Enter")
    await expect(names).to_have_count(0)
    await expect(visitor.input).to_be_focused()
    assert n8n.requests == []


async def test_what_the_server_finds_in_a_file_is_said_with_its_name(visitor: Visitor, n8n: ScriptedN8n) -> None:
    await chosen(visitor, payload("a.txt", "text/plain", b"a"), payload("fake.pdf", "application/pdf", b"GIF89a" * 9))
    await visitor.say("Look")
    await expect(visitor.failure).to_contain_text("File 2 ")
    await expect(visitor.failure.locator("bdi")).to_have_text("fake.pdf")
    await visitor.button("Send again").click()
    await expect(visitor.input).to_have_value("Look")
    await expect(visitor.widget.locator(".tray .file-name")).to_have_text(["a.txt", "fake.pdf"])
    await visitor.button("Remove \u2068fake.pdf\u2069").click()
    await visitor.input.press("Enter")
    await visitor.shows(["Look"], ["Got it"])
    files = received(n8n.requests[-1]).files
    assert [name for name, _, _ in files] == ["a.txt"]


async def test_where_no_files_are_taken_there_is_no_button(
    context: BrowserContext, start_server: StartServer, n8n: ScriptedN8n, site: Website
) -> None:
    server = start_server(n8n, {"ALLOWED_ORIGINS": site.url})
    site.pages["/"] = page_with_widget(server.url)
    visitor = await visit(context, site.url)
    await visitor.open()
    await visitor.chats("Hello", "Echo: Hello")
    assert await visitor.widget.locator(".attach").count() == 0
    assert not await happens(visitor.page, "dragover", ("a.txt", "text/plain", "a"))
    loaded = "performance.getEntriesByType('resource').map(({name}) => name).filter((name) => /file|attach/.test(name))"
    assert await visitor.page.evaluate(loaded) == []


async def test_what_shows_and_sends_files_is_loaded_with_the_first(visitor: Visitor) -> None:
    loaded = "performance.getEntriesByType('resource').map((one) => one.name.match(/([\\w-]+)\\.js$/)?.[1])"
    late = {"widget-files", "widget-file-styles", "file-limits", "attached-files", "file-upload"}
    await expect(visitor.button("Attach files")).to_be_visible()
    assert late.isdisjoint(await visitor.page.evaluate(loaded))
    await chosen(visitor, payload("a.txt", "text/plain", b"a"))
    await expect(visitor.widget.locator(".tray .file")).to_have_count(1)
    assert not {"attached-files", "file-upload"} & set(await visitor.page.evaluate(loaded))
    await visitor.chats("a", "Got it")
    assert late <= set(await visitor.page.evaluate(loaded))


async def test_the_names_travel_with_exports_and_come_back(
    visitor: Visitor, browser: Browser, site: Website, server: ChatServer
) -> None:
    assert server.url != site.url
    await chosen(visitor, payload("a_b.txt", "text/plain", b"abc"))
    await visitor.chats("See", "Got it")
    export = "chatPersistence.exportChatHistory"
    data = await visitor.page.evaluate(f"{export}('json')")
    assert "\nFiles: a\\_b.txt (3 bytes)\n" in await visitor.page.evaluate(f"{export}('markdown')")
    assert "\nFiles: a_b.txt (3 bytes)\n" in await visitor.page.evaluate(f"{export}('text')")
    other = await visit(await browser.new_context(), site.url)
    report = await other.page.evaluate("(data) => chatPersistence.importData(data)", data)
    assert report == {"sessions": 1, "messages": 2, "skipped": 0}
    again = json.loads(await other.page.evaluate(f"{export}('json')"))
    assert again["sessions"] == json.loads(data)["sessions"]
    hostile = json.loads(data)
    hostile["sessions"][0]["messages"][0]["files"][0] = {"name": "<b>x</b>\u202e.exe", "size": 1, "type": "<x>"}
    await other.page.evaluate("(data) => chatPersistence.importData(data, {mode: 'replace'})", hostile)
    await other.open()
    await (await other.conversations()).first.get_by_role("button").first.click()
    await expect(other.widget.locator(".sent .file-name")).to_have_text(["<b>x</b>\ufffd.exe"])


async def test_a_strict_policy_is_content_with_files_and_their_pictures(
    context: BrowserContext, server: ChatServer, site: Website
) -> None:
    policy = f"default-src 'none'; script-src {server.url}; connect-src {server.url}; style-src 'none'; img-src 'none'"
    site.headers["Content-Security-Policy"] = f"{policy}; require-trusted-types-for 'script'; trusted-types 'none'"
    visitor = await visit(context, site.url)
    await visitor.open()
    picture = await visitor.page.evaluate("""async () => {
        const canvas = new OffscreenCanvas(200, 100);
        canvas.getContext("2d").fillRect(0, 0, 200, 100);
        const blob = await canvas.convertToBlob();
        return [...new Uint8Array(await blob.arrayBuffer())];
    }""")
    await chosen(visitor, payload("a.png", "image/png", bytes(picture)), payload("b.png", "image/png", PNG))
    await expect(visitor.widget.locator(".tray canvas")).to_have_count(1)
    await expect(visitor.widget.locator(".tray .thumb svg")).to_have_count(1)
    await visitor.chats("See", "Got it")
    assert visitor.complaints == []


async def test_the_demo_page_sends_files(context: BrowserContext, server: ChatServer, n8n: ScriptedN8n) -> None:
    visitor = await visit(context, server.url)
    await visitor.input.focus()
    await chosen(visitor, payload("a.txt", "text/plain", b"abc"))
    await visitor.chats("What is this?", "Got it")
    assert [data for _, _, data in received(n8n.requests[0]).files] == [b"abc"]
    assert visitor.complaints == []


async def test_chosen_files_outlive_a_change_of_the_page_s_attributes(visitor: Visitor, n8n: ScriptedN8n) -> None:
    await chosen(visitor, payload("a.txt", "text/plain", b"abc"))
    await visitor.page.evaluate("document.querySelector('chat-widget').setAttribute('heading', 'Ask us')")
    await expect(visitor.widget.get_by_role("heading", name="Ask us")).to_be_visible()
    await expect(visitor.widget.locator(".tray .file-name")).to_have_text(["a.txt"])
    await visitor.chats("See", "Got it")
    assert len(received(n8n.requests[0]).files) == 1


@pytest.mark.parametrize(
    ("options", "page", "words"),
    [
        ({"color_scheme": "light"}, "", ["Attach files", "x.zip", "500 bytes"]),
        ({"color_scheme": "dark"}, 'lang="de"', ["Dateien anhängen", "kann nicht gesendet werden", "500 Byte"]),
        (
            {"viewport": {"width": 640, "height": 360}},
            'lang="fr"',
            ["Joindre des fichiers", "ne peut pas", "500 octets"],
        ),
        (
            {"viewport": {"width": 320, "height": 640}, "has_touch": True},
            'lang="es"',
            ["Adjuntar archivos", "no se puede enviar", "500 bytes"],
        ),
        ({}, 'lang="ar" theme="dark"', ["إرفاق ملفات", "لا يمكن إرسال", "500 بايت"]),
        ({"forced_colors": "active"}, "", ["Attach files", "x.zip", "500 bytes"]),
    ],
    ids=["light", "dark, German", "200 %, French", "phone, Spanish", "Arabic", "forced colours"],
)
async def test_axe_finds_nothing_and_all_languages_speak_of_files(
    browser: Browser,
    server: ChatServer,
    n8n: ScriptedN8n,
    site: Website,
    options: dict[str, Any],
    page: str,
    words: Sequence[str],
) -> None:
    site.pages["/"] = page_with_widget(server.url, page)
    visitor = await visit(await browser.new_context(reduced_motion="reduce", **options), site.url)
    await visitor.widget.locator(".bubble").click()
    box = visitor.widget.locator("textarea")
    await box.focus()
    button = visitor.widget.get_by_role("button", name=words[0])
    async with visitor.page.expect_file_chooser() as opening:
        await button.click()
    files = [("n" * 120 + ".txt", "text/plain"), ("notes.txt", "text/plain"), ("x.zip", "application/zip")]
    await (await opening.value).set_files([payload(name, kind, b"x" * 500) for name, kind in files])
    await expect(visitor.widget.locator(".file-note")).to_contain_text(words[1])
    await expect(visitor.widget.locator(".file-size").last).to_have_text(words[2])
    assert await violations(visitor.page) == [], "chosen"
    width = visitor.page.viewport_size["width"] if visitor.page.viewport_size else 0
    assert await visitor.page.evaluate("document.documentElement.scrollWidth") <= width
    await happens(visitor.page, "dragenter", ("a.txt", "text/plain", "a"))
    await expect(visitor.widget.locator(".drop")).to_be_visible()
    assert await violations(visitor.page) == [], "dragged"
    await happens(visitor.page, "dragleave", ("a.txt", "text/plain", "a"))
    gate = Gate()
    n8n.next(answer_stream(["half ", "whole"], gap=gate))
    await box.press("Enter")
    await visitor.reads("half")
    await expect(visitor.widget.locator(".sent .file")).to_have_count(2)
    assert await violations(visitor.page) == [], "sent"
    gate.open()
