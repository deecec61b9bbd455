"""n8n's own widget from npm with files: they reach n8n byte for byte, and limits are sentences."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from chatcore.errors import UPSTREAM_EMPTY, UPSTREAM_ERROR, UPSTREAM_UNAVAILABLE
from tests.support.answers import Answer, answer_empty, answer_json, answer_stream, drop_before_head
from tests.support.n8n import Request, echo
from tests.support.n8n_chat_page import Shop, open_shop

STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(range(256)) * 800
MAX_BYTES = len(PNG)
TEXT = 'Grüße\r\n--boundary\r\nContent-Disposition: form-data; name="action"\r\n\r\n'.encode() * 40


def parts(request: Request) -> list[tuple[str, str | None, str | None, bytes]]:
    """Give the parts of a form that n8n got: name, file name, type, content."""
    boundary = re.search(r"boundary=([^;]+)", request.headers["content-type"])
    assert boundary is not None
    mark = b"--" + boundary[1].strip('"').encode()
    begin, *found, end = (b"\r\n" + request.body).split(b"\r\n" + mark)
    assert (begin, end.strip()) == (b"", b"--")
    return [_part(part) for part in found]


def _part(part: bytes) -> tuple[str, str | None, str | None, bytes]:
    head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    said = head.decode("utf-8")
    name = re.search(r'; name="([^"]*)"', said)
    assert name is not None
    file, kind = re.search(r'; filename="([^"]*)"', said), re.search(r"(?i)content-type: (.*)", said)
    return name[1], file and file[1], kind and kind[1].strip(), content


def count_files(request: Request) -> Answer:
    """Answer in the shape the proxy does not ask for: how many files came, and what was said."""
    if not request.headers["content-type"].startswith("multipart/"):
        return echo(request)
    texts = {name: content.decode() for name, file, _, content in parts(request) if file is None}
    files = [name for name, file, _, _ in parts(request) if file is not None]
    said = f"{len(files)} files with {texts['chatInput']}"
    return answer_stream([said]) if len(files) == 1 else answer_json({"output": said})


@pytest.fixture(scope="module")
def opened() -> Iterator[Shop]:
    """Give the shop that the tests of this file share."""
    with open_shop({"UPLOAD_MAX_BYTES": str(MAX_BYTES), "UPLOAD_MAX_FILES": "2"}) as shop:
        yield shop


@pytest.fixture(scope="module")
def closed() -> Iterator[Shop]:
    """Give a shop whose server takes no files."""
    with open_shop() as shop:
        yield shop


@pytest.fixture
def shop(opened: Shop) -> Shop:
    """Give the shop, whose n8n counts files."""
    opened.n8n.requests.clear()
    opened.n8n.answer(count_files)
    return opened


@STREAMING
async def test_files_reach_n8n_byte_for_byte(browser: Browser, shop: Shop, *, streaming: bool) -> None:
    chat = await shop.visit(browser, enableStreaming=streaming, allowFileUploads=True, metadata={"plan": "prö"})
    await chat.attach(('Fo"to 😀 ä.png', "image/png", PNG))
    await chat.chats("a picture", "1 files with a picture")
    await chat.attach(("a.txt", "text/plain", TEXT), ("empty.txt", "text/plain", b""))
    await chat.chats("two texts", "1 files with a picture", "2 files with two texts")
    await chat.chats("nothing", "1 files with a picture", "2 files with two texts", "Echo: nothing")
    one, two, none = shop.n8n.requests
    assert [part for part in parts(one) if part[0] == "files"] == [("files", "Fo%22to 😀 ä.png", "image/png", PNG)]
    assert [part for part in parts(two) if part[0] == "files"] == [
        ("files", "a.txt", "text/plain", TEXT),
        ("files", "empty.txt", "text/plain", b""),
    ]
    texts = {name: content.decode() for name, file, _, content in parts(one) if file is None}
    assert texts["action"] == "sendMessage"
    assert texts["sessionId"] == none.json["sessionId"]
    assert texts["metadata"] == '{"plan":"prö"}'
    assert chat.complaints == []


LIMITS: dict[str, tuple[list[tuple[str, str, bytes]], str]] = {
    "large": ([("large.png", "image/png", PNG + b"\0")], f"File 1 is larger than {MAX_BYTES} bytes."),
    "many": (
        [(f"{number}.txt", "text/plain", b"few") for number in range(3)],
        "File 3 is one too many: at most 2 files are accepted.",
    ),
    "type": (
        [("run.exe", "application/x-msdownload", b"MZ" + bytes(100))],
        "accepted are image/*, application/pdf, text/plain.",
    ),
    "content": (
        [("a.png", "image/png", b"<html><script>alert(1)</script></html>")],
        "File 1 was declared as image/png but holds text/html.",
    ),
    "last": (
        [("a.txt", "text/plain", b"good"), ("b.png", "image/png", b"MZ" + bytes(100))],
        "File 2 was declared as image/png but holds application/x-executable.",
    ),
}
"""What a visitor attaches, and how the sentence ends that is said to that."""


@pytest.mark.parametrize("limit", LIMITS)
@STREAMING
async def test_a_limit_is_a_sentence_and_the_chat_goes_on(
    browser: Browser, shop: Shop, limit: str, *, streaming: bool
) -> None:
    files, told = LIMITS[limit]
    chat = await shop.visit(browser, enableStreaming=streaming, allowFileUploads=True)
    await chat.attach(*files)
    await chat.say("Look")
    await expect(chat.replies).to_have_text([re.compile(f"^(Error: )?.*{re.escape(told)}\\s*$")])
    (sentence,) = await chat.replies.all_inner_texts()
    await chat.attach(("a.txt", "text/plain", b"good"))
    await chat.chats("again", sentence, "1 files with again")
    assert len(shop.n8n.requests) == 1  # nothing that was refused arrived whole


@STREAMING
async def test_a_server_that_takes_no_files_says_so(browser: Browser, closed: Shop, *, streaming: bool) -> None:
    closed.n8n.requests.clear()
    chat = await closed.visit(browser, enableStreaming=streaming, allowFileUploads=True)
    await chat.attach(("a.txt", "text/plain", b"good"))
    await chat.say("Look")
    await expect(chat.replies).to_contain_text(["Files are not accepted by this server."])
    await chat.say("Hello")
    await expect(chat.replies.last).to_have_text("Echo: Hello")
    assert [request.text for request in closed.n8n.requests] == ["Hello"]


@STREAMING
async def test_n8n_may_fail_at_files_as_at_anything(browser: Browser, shop: Shop, *, streaming: bool) -> None:
    error = "Error: " if streaming else ""
    failures = {
        UPSTREAM_ERROR.sentence: answer_json({"message": "Error in workflow"}, 500),
        UPSTREAM_UNAVAILABLE.sentence: drop_before_head(),
        UPSTREAM_EMPTY.sentence: answer_empty(),
    }
    chat = await shop.visit(browser, enableStreaming=streaming, allowFileUploads=True)
    heard = []
    for sentence, answer in failures.items():
        shop.n8n.next(answer)
        await chat.attach(("a.png", "image/png", PNG))
        heard.append(error + sentence)
        await chat.chats("Look", *heard)
    await chat.chats("Hello", *heard, "Echo: Hello")


async def test_the_choice_is_narrowed_to_the_pages_types(browser: Browser, shop: Shop) -> None:
    options: dict[str, Any] = {"allowFileUploads": True, "allowedFilesMimeTypes": "image/*,application/pdf"}
    chat = await shop.visit(browser, **options)
    async with chat.page.expect_file_chooser() as choosing:
        await chat.page.locator("[data-test-id=chat-attach-file-button]").click()
    element = (await choosing.value).element
    assert await element.get_attribute("accept") == "image/*,application/pdf"
