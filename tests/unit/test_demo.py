"""The stand-in n8n: what it says to which command, and that its small server holds its bounds."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from chatcore import demo


class HandMovedSleep:
    """Waits for nothing and remembers how long it should have."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def sleep() -> HandMovedSleep:
    return HandMovedSleep()


@pytest.fixture
async def running(sleep: HandMovedSleep) -> AsyncIterator[demo.Demo]:
    stand_in = await demo.start(sleep)
    yield stand_in
    await stand_in.stop()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as opened:
        yield opened


def _lines(answer: demo.Answer) -> list[dict[str, str]]:
    return [json.loads(part) for _, part in answer.parts]


def _text(answer: demo.Answer) -> str:
    return "".join(line["content"] for line in _lines(answer) if line["type"] == "item")


async def _raw(url: str, sent: bytes) -> bytes:
    """Send bytes on a connection of their own and read until the stand-in closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    return answer


def test_anything_is_answered_with_markdown_that_quotes_it() -> None:
    answer = demo.script("  how are you?\nand {this}? ")
    text = _text(answer)
    assert "> how are you?\n> and {this}?" in text
    for sign in ("## ", "**", "| ", "```json", "](https://", "1. ", "- `"):
        assert sign in text
    kinds = [line["type"] for line in _lines(answer)]
    assert (kinds[0], set(kinds[1:-1]), kinds[-1]) == ("begin", {"item"}, "end")


@pytest.mark.parametrize("said", ["a", "two words", "line\n\n  indented\tand \x85 odd \u2028 space", "ü😀 " * 3000])
def test_echo_says_the_same_text_in_bounded_time(said: str) -> None:
    answer = demo.script(f"/echo {said}")
    assert _text(answer) == said.strip()
    assert sum(pause for pause, _ in answer.parts) < 10


def test_echo_of_nothing_says_so() -> None:
    assert _text(demo.script("/echo")) == "(silence)"


def test_help_names_every_command() -> None:
    text = _text(demo.script("/help"))
    for command in ("/echo", "/slow", "/error", "/fail", "/empty", "/json", "/help"):
        assert f"`{command}" in text


def test_slow_keeps_the_connection_alive_between_two_texts() -> None:
    answer = demo.script("/slow")
    kinds = "".join(line["type"][0] for line in _lines(answer))
    assert kinds.strip("bie") == "kkk"
    assert sum(pause for pause, _ in answer.parts) > 20
    assert _text(answer) == "Let me think about that … Done: it was worth the wait."


def test_error_ends_with_an_error_line_after_some_text() -> None:
    lines = _lines(demo.script("/error"))
    assert lines[-1]["type"] == "error"
    assert any(line["type"] == "item" for line in lines)


async def test_a_reply_streams_line_by_line_at_a_readers_pace(
    running: demo.Demo, client: httpx.AsyncClient, sleep: HandMovedSleep
) -> None:
    response = await client.post(running.url, json={"action": "sendMessage", "sessionId": "s", "chatInput": "hello"})
    assert response.status_code == 200
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert "> hello" in "".join(json.loads(line).get("content", "") for line in response.text.split("\n") if line)
    assert all(0.03 <= pause <= 0.06 for pause in sleep.slept[:-1])
    again = await client.post(running.url, json={"chatInput": "/echo once more"})
    assert again.status_code == 200, "the connection is kept for the next message"


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        ("/fail", 500, b'{"message":"Error in workflow"}'),
        ("/empty", 200, b""),
        ("/json x", 200, b'{"output":"This answer came as **one JSON document**. x"}'),
    ],
)
async def test_the_answers_that_are_no_stream_of_lines(
    running: demo.Demo, client: httpx.AsyncClient, said: str, status: int, body: bytes
) -> None:
    response = await client.post(running.url, json={"chatInput": said})
    assert (response.status_code, response.content) == (status, body)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"\xff", 422),
        (b'{"chatInput":"\xff"}', 422),
        (b"[]", 500),
        (b"{}", 500),
        (b'{"chatInput":1}', 500),
    ],
)
async def test_a_body_that_is_no_message_gets_what_n8n_says(
    running: demo.Demo, client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    assert (await client.post(running.url, content=body)).status_code == status


async def test_other_addresses_and_methods_are_not_registered(running: demo.Demo, client: httpx.AsyncClient) -> None:
    assert (await client.get(running.url)).status_code == 404
    assert (await client.post(running.url + "x", json={})).status_code == 404


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /webhook/demo HTTP/1.0\r\n\r\n", b"400"),
        (b"POST /webhook/demo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"POST /webhook/demo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /webhook/demo HTTP/1.1\r\nContent-Type: multipart/form-data\r\n\r\nx\r\n", b"400"),
        (b"POST /webhook/demo HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", b"413"),
        (b"POST /webhook/demo HTTP/1.1\r\nX: " + b"x" * 70000, b"431"),
    ],
)
async def test_hostile_requests_are_refused_and_the_connection_ends(
    running: demo.Demo, sent: bytes, status: bytes
) -> None:
    assert (await _raw(running.url, sent)).startswith(b"HTTP/1.1 " + status)


async def test_beyond_its_connections_it_answers_503(running: demo.Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MAX_CONNECTIONS", 0)
    assert (await _raw(running.url, b"")).startswith(b"HTTP/1.1 503")


async def test_a_silent_connection_is_closed(running: demo.Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "IDLE_SECONDS", 0.01)
    assert await _raw(running.url, b"") == b""


async def test_stop_drops_open_replies_and_may_be_called_twice() -> None:
    forever = asyncio.Event()

    async def never(_seconds: float) -> None:
        await forever.wait()

    stand_in = await demo.start(never)
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(stand_in.url).port)
    body = b'{"chatInput":"hello"}'
    writer.write(b"POST /webhook/demo HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await stand_in.stop()
    await stand_in.stop()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", httpx.URL(stand_in.url).port)
    writer.close()
