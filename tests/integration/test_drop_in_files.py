"""Files of n8n's own widget: they reach the workflow as the widget sent them, and what is refused is a sentence."""

import json
from collections.abc import Iterator, Mapping

import httpx
import pytest

from tests.conftest import StartServer
from tests.support.answers import answer_json, answer_stream
from tests.support.n8n import ScriptedN8n
from tests.support.n8n_widget import STREAMING, N8nWidget, Shown, shown_of
from tests.support.server import ChatServer
from tests.support.uploads import FORM, PDF, PNG, Part, file, form, received

ON = {"UPLOAD_MAX_BYTES": "65536", "UPLOAD_MAX_FILES": "2"}
FILES = [
    (("note.txt", "text/plain", b"hello file\n"), ("pic é\u202f😀.png", "image/png", PNG)),
    (('a"b.pdf', "application/pdf", PDF),),
]


@pytest.fixture(scope="module")
def n8n() -> Iterator[ScriptedN8n]:
    """Give one scripted n8n for all tests here."""
    with ScriptedN8n() as scripted:
        scripted.answer(answer_stream(["Got ", "them"]))
        yield scripted


@pytest.fixture(scope="module")
def server(n8n: ScriptedN8n) -> Iterator[ChatServer]:
    """Give one server for all tests here."""
    with ChatServer({"N8N_WEBHOOK_URL": n8n.url, **ON}) as started:
        yield started


async def send(widget: N8nWidget, *parts: Part, streaming: bool = False, **fields: str) -> Shown:
    """Send a message with files as the widget does: its fields first, then the files."""
    told: Mapping[str, str] = {**widget.message("See these"), **fields}
    body = form(*(Part(name, value) for name, value in told.items()), *parts)
    headers = {"Content-Type": FORM, **(STREAMING if streaming else {}), **widget.headers}
    answer = await widget.http.post(widget.path, content=body, headers=headers)
    return Shown(answer, shown_of(answer, streaming=streaming))


@pytest.mark.parametrize("files", FILES, ids=["two", "one"])
@pytest.mark.parametrize("streaming", [False, True])
async def test_files_reach_the_workflow_byte_for_byte(
    server: ChatServer, n8n: ScriptedN8n, files: tuple[tuple[str, str, bytes], ...], streaming: bool
) -> None:
    async with N8nWidget(server.url) as widget:
        parts = [file(data, name, kind) for name, kind, data in files]
        metadata = json.dumps({"plan": "pro", "nested": {"a": [1]}})
        shown = await send(widget, *parts, streaming=streaming, metadata=metadata, evil="1", context='{"user":"root"}')
        assert shown.bubbles == ["Got them"]
        got = received(n8n.requests[-1])
        assert list(got.files) == list(files)
        assert set(got.fields) == {"action", "sessionId", "chatInput", "metadata", "context"}
        assert (got.fields["action"], got.fields["chatInput"]) == ("sendMessage", "See these")
        assert json.loads(got.fields["metadata"]) == json.loads(metadata)
        assert "user" not in json.loads(got.fields["context"])
        await widget.send("and without files")
        assert n8n.requests[-1].json["sessionId"] == got.fields["sessionId"]


async def test_a_form_without_files_is_a_message_too(server: ChatServer, n8n: ScriptedN8n) -> None:
    async with N8nWidget(server.url) as widget:
        assert (await send(widget)).bubbles == ["Got them"]
    assert n8n.requests[-1].text == "See these"


async def test_earlier_messages_may_be_asked_for_by_a_form(server: ChatServer) -> None:
    async with N8nWidget(server.url) as widget:
        body = form(Part("action", "loadPreviousSession"), Part("sessionId", widget.session))
        answer = await widget.http.post("/chat", content=body, headers={"Content-Type": FORM})
        assert (answer.status_code, answer.json()) == (200, {"data": []})


REFUSED: list[tuple[str, list[Part], int, str]] = [
    ("too large", [file("x" * 65537)], 413, "File 1 is larger than 65536 bytes"),
    ("the second too large", [file("x"), file("x" * 65537)], 413, "File 2 is larger than 65536 bytes"),
    ("too many", [file("x"), file("y"), file("z")], 413, "File 3 is one too many"),
    ("not what it says", [file(PDF, "a.png", "image/png")], 415, "File 1"),
    ("not allowed", [file("<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", "image/svg+xml")], 415, "File 1"),
    ("another name", [Part("image", PNG, "a.png", "image/png")], 400, "image must not be a file"),
    ("a field after the files", [file("x"), Part("metadata", "{}")], 400, "metadata must come before the files"),
    ("a field twice", [Part("chatInput", "again")], 400, "chatInput is given twice"),
    ("metadata that is no JSON", [Part("metadata", "{"), file("x")], 400, "metadata must be a JSON object"),
    (
        "metadata too large",
        [Part("metadata", json.dumps({"a": "x" * 3000, "b": "x" * 3000})), file("x")],
        400,
        "at most 4096 bytes",
    ),
    ("a field that is no UTF-8", [Part("metadata", b"\xff"), file("x")], 400, "metadata must be text in UTF-8"),
]


@pytest.mark.parametrize(("parts", "status", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_what_is_refused_is_a_sentence_in_both_shapes(
    server: ChatServer, parts: list[Part], status: int, words: str
) -> None:
    async with N8nWidget(server.url) as widget:
        shown = await send(widget, *parts)
        assert (shown.status, set(shown.answer.json())) == (status, {"message"})
        assert words in shown.bubbles[0]
        lines = await send(widget, *parts, streaming=True)
        assert lines.bubbles == [f"Error: {shown.bubbles[0]}"]
        assert (await widget.send("still there?")).bubbles == ["Got them"]


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_server_that_takes_no_files_says_so(
    n8n: ScriptedN8n, start_server: StartServer, streaming: bool
) -> None:
    server = start_server(n8n)
    async with N8nWidget(server.url) as widget:
        shown = await send(widget, file("x"), streaming=streaming)
        assert shown.status == (200 if streaming else 415)
        assert "Files are not accepted" in shown.bubbles[0]


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/mixed; boundary=x", "text/plain", ""])
async def test_a_body_of_another_kind_is_refused(server: ChatServer, content_type: str) -> None:
    async with N8nWidget(server.url) as widget:
        answer: httpx.Response = await widget.http.post("/chat", content=b"x", headers={"Content-Type": content_type})
        assert (answer.status_code, set(answer.json())) == (415, {"message"})


async def test_limits_and_tokens_come_before_the_files(n8n: ScriptedN8n, start_server: StartServer) -> None:
    server = start_server(n8n, {**ON, "RATE_LIMIT_PER_MINUTE": "2", "REQUIRE_TOKEN": "true"})
    asked = len(n8n.requests)
    async with N8nWidget(server.url) as widget:
        parts = [file("x" * 60_000), file("y" * 60_000)]
        statuses = [(await send(widget, *parts)).status for _ in range(3)]
    assert statuses == [401, 401, 429]
    assert len(n8n.requests) == asked


async def test_a_workflow_that_fails_is_told_as_without_files(server: ChatServer, n8n: ScriptedN8n) -> None:
    async with N8nWidget(server.url) as widget:
        for streaming in (False, True):
            n8n.next(answer_json({"message": "Error in workflow"}, 500))
            shown = await send(widget, file("x"), streaming=streaming)
            assert shown.bubbles[0].removeprefix("Error: ") == "The assistant could not answer. Please try again."
