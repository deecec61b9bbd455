"""Files on their way through the proxy: what n8n gets, what is refused and when, and what an abandoned one leaves."""

import asyncio
import hashlib
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import Answer, Close, Reset, Stall, answer_json, answer_stream, answer_text, recording, stall
from tests.support.background import Gate
from tests.support.client import ChatClient
from tests.support.jwts import read
from tests.support.n8n import ScriptedN8n, Taking
from tests.support.rawhttp import RawClient, request
from tests.support.server import ChatServer
from tests.support.uploads import (
    BOUNDARY,
    FORM,
    ON,
    PDF,
    PNG,
    Part,
    file,
    form,
    message,
    received,
    send,
    send_for_stream,
    slowly,
)

MIB = 1 << 20
SAID = answer_json({"output": "Got them"})


@pytest.fixture(name="shared", scope="module")
def _shared() -> Iterator[tuple[ScriptedN8n, ChatServer]]:
    """Give an n8n and a server that the tests share which only look at single requests."""
    with (
        ScriptedN8n() as n8n,
        ChatServer({"N8N_WEBHOOK_URL": n8n.url, **ON, "RATE_LIMIT_PER_MINUTE": "10000"}) as server,
    ):
        n8n.answer(SAID)
        yield n8n, server


@pytest.fixture(name="asked")
def _asked(shared: tuple[ScriptedN8n, ChatServer]) -> ScriptedN8n:
    """Give the shared n8n, which was asked nothing yet."""
    shared[0].requests.clear()
    return shared[0]


@pytest.fixture(name="guest")
async def _guest(shared: tuple[ScriptedN8n, ChatServer], make_client: MakeClient) -> ChatClient:
    client = make_client(shared[1])
    await client.session()
    return client


@pytest.fixture(name="visitor")
async def _visitor(start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient) -> ChatClient:
    n8n.answer(SAID)
    client = make_client(start_server(n8n, ON))
    await client.session()
    return client


async def until(true: Callable[[], object], within: float = 15.0) -> None:
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.01)


def fault(answer: httpx.Response) -> tuple[int, str, str]:
    problem = answer.json()
    return answer.status_code, problem["code"], problem["errors"][0]["field"] if "errors" in problem else ""


async def test_n8n_gets_the_message_and_the_files_as_from_its_own_widget(guest: ChatClient, asked: ScriptedN8n) -> None:
    parts = [
        message("Look", metadata={"plan": "pro"}),
        file("héllo\n", "note.txt"),
        file(PNG, "pic é.png", "image/png"),
    ]
    answer = await send(guest, *parts, file(PDF, "b.pdf", "application/pdf"))
    assert (answer.status_code, answer.json()["content"]) == (200, "Got them")
    (sent,) = asked.requests
    assert sent.headers["transfer-encoding"] == "chunked"
    got = received(sent)
    assert got.files == [
        ("note.txt", "text/plain", "héllo\n".encode()),
        ("pic é.png", "image/png", PNG),
        ("b.pdf", "application/pdf", PDF),
    ]
    assert 'filename="pic é.png"'.encode() in sent.body, "names are raw UTF-8"
    assert got.fields.keys() == {"action", "sessionId", "chatInput", "metadata", "context"}
    assert got.fields["action"] == "sendMessage"
    assert (got.fields["chatInput"], got.fields["sessionId"]) == ("Look", guest.session_id)
    assert json.loads(got.fields["metadata"]) == {"plan": "pro"}
    assert json.loads(got.fields["context"])["message_id"] == answer.json()["message_id"]


async def test_n8n_finds_the_parts_that_its_own_widget_sends(guest: ChatClient, asked: ScriptedN8n) -> None:
    await send(guest, message(), file("hello file\n", "note.txt"), file(PNG, "pic é.png", "image/png"))
    recorded = [recording(name).request for name in ("84-chat-upload", "87-chat-upload-streaming")]
    for head in re.findall(rb'form-data; name="[a-zA-Z]+"\r\n\r\n', b"".join(recorded)):
        assert asked.requests[0].body.count(head) == 1
    of_file = b'Content-Disposition: form-data; name="files"; filename="%b"\r\nContent-Type: text/plain\r\n\r\n'
    assert of_file % b"a.txt" in recorded[1]
    assert of_file % b"note.txt" in asked.requests[0].body


async def test_a_stream_answers_files_too(guest: ChatClient, asked: ScriptedN8n) -> None:
    asked.next(answer_stream(["Echo: ", "a"]))
    answer = await send_for_stream(guest, message(), file("abc"))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.count("event: delta") >= 1
    assert answer.text.count("event: done") == 1
    refused = await send_for_stream(guest, message(), file(b"x" * (MIB + 1)))
    assert fault(refused) == (413, "body_too_large", "files[0]")


async def test_a_message_alone_may_come_as_a_form_and_goes_on_as_json(guest: ChatClient, asked: ScriptedN8n) -> None:
    answer = await send(guest, message("Alone"))
    assert answer.status_code == 200
    assert asked.requests[0].json["chatInput"] == "Alone"


async def test_history_and_the_user_travel_as_json(
    start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    n8n.answer(SAID)
    client = make_client(start_server(n8n, {**ON, "ACCEPT_HISTORY": "true"}))
    await client.session()
    earlier = [{"role": "user", "content": "Grüße"}]
    assert (await send(client, message(history=earlier), file("abc"))).status_code == 200
    assert json.loads(received(n8n.requests[0]).fields["history"]) == earlier


async def test_without_the_setting_files_are_refused_in_words(
    visitor: ChatClient, server: Any, make_client: MakeClient
) -> None:
    del visitor
    client = make_client(server)
    created = await client.session()
    assert created.json()["features"]["uploads"] is False
    answer = await send(client, message(), file("abc"))
    assert fault(answer)[:2] == (415, "unsupported_media_type")
    assert answer.json()["detail"] == "Files are not accepted by this server."


async def test_a_session_tells_what_may_be_sent(
    start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    settings = {"UPLOAD_MAX_BYTES": "1000", "UPLOAD_MAX_FILES": "2", "UPLOAD_TYPES": "text/csv, image/*"}
    client = make_client(start_server(n8n, settings))
    told = (await client.session()).json()["features"]["uploads"]
    assert told == {"max_bytes": 1000, "max_files": 2, "types": ["text/csv", "image/*"]}
    assert (await client.refresh()).json()["features"]["uploads"] == told


TWICE = [message("a"), message("b"), file("abc")]
FAULTS: dict[str, tuple[list[Part], tuple[int, str, str]]] = {
    "no request": ([file("abc")], (400, "invalid_request", "request")),
    "nothing": ([], (400, "invalid_request", "request")),
    "request twice": (TWICE, (400, "invalid_request", "request")),
    "request after the files": ([file("abc"), message()], (400, "invalid_request", "request")),
    "request after them too": ([message(), file("abc"), message()], (400, "invalid_request", "request")),
    "request as a file": ([Part("request", "{}", "blob", "application/json")], (400, "invalid_request", "request")),
    "an unknown part": ([message(), Part("extra", "x"), file("abc")], (400, "invalid_request", "extra")),
    "another name": ([message(), Part("file", "abc", "a.txt", "text/plain")], (400, "invalid_request", "file")),
    "another name later": (
        [message(), file("abc"), Part("file", "abc", "a.txt", "text/plain")],
        (400, "invalid_request", "file"),
    ),
    "no name": ([message(), Part("", "abc", "a.txt", "text/plain")], (400, "invalid_request", "body")),
    "no JSON": ([Part("request", "{"), file("abc")], (400, "invalid_json", "")),
    "no message": ([Part("request", "{}"), file("abc")], (400, "invalid_request", "message")),
    "not UTF-8": ([Part("request", b'{"message":"\xff"}'), file("abc")], (400, "invalid_request", "request")),
    "too much text": ([message("x" * 300_000), file("abc")], (413, "body_too_large", "request")),
    "a file too large": ([message(), file("ok"), file(b"x" * (MIB + 1))], (413, "body_too_large", "files[1]")),
    "too many files": ([message(), *[file("abc")] * 6], (413, "body_too_large", "files[5]")),
    "a type not accepted": (
        [message(), file(b"a,b", "a.csv", "text/csv")],
        (415, "unsupported_media_type", "files[0]"),
    ),
    "a lie": ([message(), file(PNG), file(PDF, "x.png", "image/png")], (415, "unsupported_media_type", "files[0]")),
    "a lie by name": ([message(), file(PNG, "x.pdf", "image/png")], (415, "unsupported_media_type", "files[0]")),
    "a script": (
        [message(), file("<svg onload=x>", "x.svg", "image/svg+xml")],
        (415, "unsupported_media_type", "files[0]"),
    ),
    "NUL late": ([message(), file(b"a" * 9000 + b"\0")], (415, "unsupported_media_type", "files[0]")),
    "empty": ([message(), file(b"", "x.png", "image/png")], (415, "unsupported_media_type", "files[0]")),
    "a long name": ([message(), file("abc", "x" * 256)], (400, "invalid_request", "files[0]")),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_is_wrong_is_named(guest: ChatClient, asked: ScriptedN8n, name: str) -> None:
    parts, expected = FAULTS[name]
    answer = await send(guest, *parts)
    assert fault(answer) == expected
    assert not asked.requests, "n8n never has a whole request"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("multipart/form-data", 415),
        ("multipart/form-data; boundary=", 415),
        ("multipart/form-data; boundary=" + "x" * 71, 415),
        ('multipart/form-data; boundary="a\\nb"', 415),
        ("multipart/mixed; boundary=x", 415),
        (f"Multipart/Form-Data; charset=utf-8; Boundary={BOUNDARY}", 200),
        (f'multipart/form-data; boundary="{BOUNDARY}"', 200),
    ],
)
async def test_the_boundary_is_read_from_the_head(guest: ChatClient, content_type: str, status: int) -> None:
    answer = await send(guest, message(), file("abc"), content_type=content_type)
    assert answer.status_code == status


GOOD = form(message(), file("abc"))
BROKEN = {
    "empty": b"",
    "no boundary": b"hello",
    "cut": GOOD[:-8],
    "cut in a head": GOOD[: GOOD.index(b"filename")],
    "another boundary": form(message(), boundary="x"),
    "no disposition": form(message(), Part("files", "abc", head=b"Content-Type: text/plain")),
    "a head without end": form(message()).replace(b"--\r\n", b"") + b"\r\nX: " + b"y" * 9000,
    "many headers": form(message(), Part("x", "", head=b"\r\n".join(b"X-%d: y" % number for number in range(20)))),
    "a name that is not UTF-8": form(message(), Part("x", "", head=b'Content-Disposition: form-data; name="\xff"')),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_form_is_refused(guest: ChatClient, asked: ScriptedN8n, name: str) -> None:
    answer = await send(guest, body=BROKEN[name])
    assert fault(answer)[:2] == (400, "invalid_request")
    assert not asked.requests


def head_of(client: ChatClient, token: str, length: int) -> bytes:
    """Give the head of a request whose body is to follow once the server asks for it."""
    lines = (
        f"Authorization: Bearer {token}",
        f"User-Agent: {client.http.headers['user-agent']}",
        "Expect: 100-continue",
    )
    return request("POST", "/api/v1/chat", *lines, f"Content-Type: {FORM}", f"Content-Length: {length}")


@pytest.mark.parametrize(
    ("own", "length", "expected"), [(True, 100 * MIB, (413, "body_too_large")), (False, 1000, (401, "token_invalid"))]
)
async def test_what_the_head_tells_is_refused_before_anything_is_read(
    guest: ChatClient, asked: ScriptedN8n, *, own: bool, length: int, expected: tuple[int, str]
) -> None:
    with RawClient(str(guest.http.base_url)) as raw:
        raw.send(head_of(guest, str(guest.token) if own else "x.y.z", length))
        answer = await asyncio.to_thread(raw.answer)
    assert (answer.status, json.loads(answer.body)["code"]) == expected
    assert not asked.requests


async def test_what_comes_around_the_parts_is_bounded(guest: ChatClient, asked: ScriptedN8n) -> None:
    answer = await send(guest, body=slowly(form(message())[:-2] + b"\r\n" + b"x" * 60_000 for _ in range(200)))
    assert answer.status_code in {400, 413}
    assert not asked.requests


HOSTILE_NAMES = {
    "../../etc/passwd": "passwd",
    "C:\\Users\\me\\pic.txt": "pic.txt",
    'a"b.txt': 'a"b.txt',
    "a\r\nContent-Type: text\r\n\r\nx.txt": "aContent-Type: textx.txt",
    "\u202egnp.txt": "gnp.txt",
    "日本語 😀.txt": "日本語 😀.txt",
    "": "file",
    "..": "file",
    "/": "file",
    "%2e%2e%2fx.txt": "%2e%2e%2fx.txt",
}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_a_name_arrives_without_what_could_do_harm(guest: ChatClient, asked: ScriptedN8n, name: str) -> None:
    answer = await send(guest, message(), file("abc", name))
    assert answer.status_code == 200
    ((arrived, kind, data),) = received(asked.requests[0]).files
    assert (kind, data) == ("text/plain", b"abc")
    assert not set(arrived) & set("\r\n\0/\\\u202e")
    assert arrived == HOSTILE_NAMES[name]


async def test_a_type_that_was_not_declared_is_recognised(guest: ChatClient, asked: ScriptedN8n) -> None:
    await send(guest, message(), file(PNG, "x", None), file("abc", "y", "application/octet-stream"))
    assert [kind for _, kind, _ in received(asked.requests[0]).files] == ["image/png", "text/plain"]


async def test_the_token_that_n8n_checks_outlives_the_upload(guest: ChatClient, asked: ScriptedN8n) -> None:
    await send(guest, message(), file("abc"))
    await guest.chat("Without files")
    with_files, without = (read(sent.headers["x-session-token"]) for sent in asked.requests)
    assert with_files["exp"] - with_files["iat"] == 600
    assert without["exp"] - without["iat"] == 60


async def test_a_retry_joins_its_reply_and_sends_nothing_again(guest: ChatClient, asked: ScriptedN8n) -> None:
    parts = [message(message_id=str(uuid.uuid4())), file(b"x" * 500_000)]
    answers = [await send(guest, *parts) for _ in range(3)]
    assert {answer.json()["content"] for answer in answers} == {"Got them"}
    assert len(asked.requests) == 1


async def test_two_who_send_the_same_at_once_get_one_reply(guest: ChatClient, asked: ScriptedN8n) -> None:
    parts = [message(message_id=str(uuid.uuid4())), file(b"x" * 500_000)]
    answers = await asyncio.gather(*(send(guest, *parts) for _ in range(4)))
    assert {answer.json()["content"] for answer in answers} == {"Got them"}
    assert len(asked.requests) == 1


async def test_a_refused_upload_may_run_again_under_its_id(guest: ChatClient, asked: ScriptedN8n) -> None:
    text = message(message_id=str(uuid.uuid4()))
    refused = await send(guest, text, file(b"x" * (MIB + 1)))
    assert fault(refused) == (413, "body_too_large", "files[0]")
    answer = await send(guest, text, file("abc"))
    assert (answer.status_code, answer.json()["content"]) == (200, "Got them")
    assert len(asked.requests) == 1


def held(*parts: Part, let_go: asyncio.Event) -> AsyncIterator[bytes]:
    """Give a form of which the last bytes wait."""

    async def pieces() -> AsyncIterator[bytes]:
        whole = form(*parts)
        yield whole[:-100_000]
        await let_go.wait()
        yield whole[-100_000:]

    return pieces()


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    text = message(message_id=(message_id := str(uuid.uuid4())))
    n8n.taking = Taking(each=(seen := Seen()).note)
    sending = asyncio.create_task(send(visitor, body=held(text, file(b"x" * 600_000), let_go=asyncio.Event())))
    await until(lambda: seen.pieces)
    async with visitor.follow(message_id) as stream:
        assert (await stream.next("start")).data["message_id"] == message_id
        sending.cancel()
        await asyncio.wait({sending})
        assert (await stream.next("error")).data["code"] == "request_timeout"
    await until(lambda: n8n.cut_bodies == 1)
    n8n.taking = None
    answer = await send(visitor, text, file("abc"))
    assert answer.json()["content"] == "Got them"
    assert len(n8n.requests) == 1


async def test_bad_files_are_no_warning(guest: ChatClient, shared: tuple[ScriptedN8n, ChatServer]) -> None:
    answer = await send(guest, message(), file("secret text", "x.png", "image/png"))
    assert answer.status_code == 415
    _, server = shared

    def told() -> list[Any]:
        lines = [json.loads(line) for line in server.log.splitlines()]
        return [line for line in lines if line["request_id"] == answer.json()["request_id"]]

    await until(lambda: len(told()) == 2)
    assert {line["level"] for line in told()} == {"INFO"}
    assert "unsupported_media_type" in told()[0]["message"]
    assert not [word for word in ("secret text", "x.png") if word in server.log]


async def test_who_joins_a_refused_upload_learns_why(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    text = message(message_id=(message_id := str(uuid.uuid4())))
    n8n.taking = Taking(each=(seen := Seen()).note)
    body = held(
        text, file(b"x" * 600_000), file(b"x" * 50_000, "b.txt", "image/png"), let_go=(let_go := asyncio.Event())
    )
    sending = asyncio.create_task(send(visitor, body=body))
    await until(lambda: seen.pieces)
    joining = asyncio.create_task(send(visitor, text, file("abc")))
    async with asyncio.timeout(15):
        while "\nchatcore_readers 1.0" not in (await visitor.http.get("/metrics")).text:
            await asyncio.sleep(0.01)
    let_go.set()
    expected = (415, "unsupported_media_type", "files[1]")
    assert (fault(await sending), fault(await joining)) == (expected, expected)
    assert (await visitor.document(message_id)).status_code == 404


async def test_stopping_ends_an_upload(visitor: ChatClient, n8n: ScriptedN8n) -> None:
    text = message(message_id=(message_id := str(uuid.uuid4())))
    n8n.taking = Taking(each=(seen := Seen()).note)
    body = held(text, file(b"x" * 600_000), let_go=(let_go := asyncio.Event()))
    sending = asyncio.create_task(send(visitor, body=body))
    await until(lambda: seen.pieces)
    assert (await visitor.stop(message_id)).status_code == 204
    let_go.set()
    assert (await sending).json()["finish_reason"] == "stopped"
    await until(lambda: n8n.cut_bodies == 1)


@pytest.mark.parametrize(
    ("status", "code"), [(401, "upstream_refused"), (413, "upstream_error"), (500, "upstream_error")]
)
async def test_an_early_answer_of_n8n_decides(visitor: ChatClient, n8n: ScriptedN8n, status: int, code: str) -> None:
    n8n.taking = Taking(most=200_000)
    n8n.answer(Answer((*answer_text("no", status=status).steps, Stall())))
    answer = await send(visitor, message(), file(b"x" * 1_000_000))
    assert fault(answer)[:2] == (502, code)
    await until(lambda: not n8n.open_connections)


@pytest.mark.parametrize("reset", [False, True])
async def test_n8n_that_hangs_up_in_the_middle_did_not_get_it(
    visitor: ChatClient, n8n: ScriptedN8n, *, reset: bool
) -> None:
    text = message(message_id=str(uuid.uuid4()))
    n8n.taking = Taking(most=200_000)
    n8n.next(Answer((Reset() if reset else Close(),)))
    body = held(text, file(b"x" * 600_000), let_go=(let_go := asyncio.Event()))
    sending = asyncio.create_task(send(visitor, body=body))
    await until(lambda: n8n.requests and not n8n.open_connections)
    let_go.set()
    assert fault(await sending)[:2] == (503, "upstream_unavailable")
    n8n.taking = None
    answer = await send(visitor, text, file("abc"))
    assert answer.json()["content"] == "Got them"


async def test_n8n_that_does_not_read_runs_into_the_total_time(
    start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    settings = {**ON, "UPLOAD_MAX_BYTES": "20000000", "N8N_TOTAL_TIMEOUT_SECONDS": "1"}
    client = make_client(start_server(n8n, settings))
    await client.session()
    n8n.taking = Taking(gate=Gate())
    answer = await send(client, message(), file(b"x" * 20_000_000))
    assert fault(answer)[:2] == (504, "upstream_timeout")


async def test_the_time_to_the_first_byte_counts_from_the_end_of_the_upload(
    start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    client = make_client(start_server(n8n, {**ON, "N8N_FIRST_BYTE_TIMEOUT_SECONDS": "1"}))
    await client.session()
    n8n.answer(SAID)
    whole = form(message(), file(b"x" * 100_000))

    async def late() -> AsyncIterator[bytes]:
        yield whole[:50_000]
        await asyncio.sleep(1.7)  # longer than n8n would have
        yield whole[50_000:]

    assert (await send(client, body=late())).json()["content"] == "Got them"
    n8n.next(stall())
    assert fault(await send(client, message(), file("abc")))[:2] == (504, "upstream_timeout")


@pytest.mark.alone
async def test_a_hundred_megabytes_pass_at_flat_memory(
    start_server: StartServer, n8n: ScriptedN8n, make_client: MakeClient
) -> None:
    server = start_server(n8n, {"UPLOAD_MAX_BYTES": str(100 * MIB)})
    client = make_client(server)
    await client.session()
    taken = FileOfOne()
    n8n.taking = Taking(each=taken.take)
    n8n.answer(SAID)
    assert (await send(client, message(), file("warm"))).status_code == 200
    n8n.taking = Taking(each=(taken := FileOfOne()).take)
    before, highest, sent = server.rss_bytes(), 0, hashlib.sha256(PNG)
    pieces = [hashlib.sha256(b"%d" % number).digest() * 32 * 1024 for number in range(8)]  # 1 MiB each
    head, tail = form(message(), file(b"|", "x.png", "image/png")).split(b"|")

    async def body() -> AsyncIterator[bytes]:
        nonlocal highest
        yield head + PNG
        for number in range(99):
            highest = max(highest, server.rss_bytes())
            sent.update(pieces[number % 8])
            yield pieces[number % 8]
        yield tail

    answer = await send(client, body=body())
    assert answer.json()["content"] == "Got them"
    assert taken.digest == sent.hexdigest()
    assert highest - before < 30 * MIB, f"{(highest - before) / MIB:.1f} MiB more"


class Seen:
    """Counts what n8n has taken."""

    def __init__(self) -> None:
        self.pieces = 0

    def note(self, _: bytes) -> None:
        self.pieces += 1


class FileOfOne:
    """Hashes the file of a request with one: its pieces are between the part's head and the fields after it."""

    def __init__(self) -> None:
        self._hash: Any = None
        self._last = b""

    def take(self, piece: bytes) -> None:
        if self._hash is None:
            self._hash = hashlib.sha256()
            return
        self._hash.update(self._last)
        self._last = piece

    @property
    def digest(self) -> str:
        return str(self._hash.hexdigest())
