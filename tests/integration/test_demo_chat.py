"""The demo, as a new user meets it: the real main with `--demo` and no n8n anywhere."""

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.client import ChatClient
from tests.support.uploads import PNG, file, message, send


@pytest.fixture
async def demo_visitor(start_server: StartServer, make_client: MakeClient) -> ChatClient:
    """Give a client with a session at a server that runs the demo and knows no secrets."""
    unset = {"JWT_SECRET_KEY": None, "SESSION_SECRET_KEY": None}
    client = make_client(start_server(None, unset, options=["--demo"]))
    assert (await client.session()).status_code == 201
    return client


async def test_a_reply_streams_as_markdown_with_what_was_said(demo_visitor: ChatClient) -> None:
    reply = await demo_visitor.reply("is anybody there?")
    assert reply.status == 200
    assert [reply.events[0].name, reply.events[-1].name] == ["start", "done"]
    assert len(reply.named("delta")) > 20, "piece by piece"
    assert reply.text.startswith("## Hello")
    assert "> is anybody there?" in reply.text
    assert reply.finish_reason == "complete"
    assert [event.id for event in reply.events] == list(range(1, len(reply.events) + 1))


async def test_a_client_that_asked_for_json_gets_one_answer(demo_visitor: ChatClient) -> None:
    for said, expected in (("/echo one  two", "one  two"), ("/json", "This answer came as **one JSON document**.")):
        answer = await demo_visitor.chat(said)
        assert answer.status_code == 200
        assert (answer.json()["content"], answer.json()["finish_reason"]) == (expected, "complete")


@pytest.mark.parametrize(("said", "code"), [("/fail", "upstream_error"), ("/empty", "upstream_empty")])
async def test_failures_have_their_codes(demo_visitor: ChatClient, said: str, code: str) -> None:
    answer = await demo_visitor.chat(said)
    assert (answer.status_code, answer.json()["code"]) == (502, code)


async def test_an_error_in_the_middle_ends_the_stream_cleanly(demo_visitor: ChatClient) -> None:
    reply = await demo_visitor.reply("/error")
    assert reply.status == 200
    assert reply.text == "This goes well until"
    assert reply.named("error")[0].data["code"] == "upstream_error"
    assert reply.finish_reason == "error"


async def test_a_slow_reply_can_be_stopped(demo_visitor: ChatClient) -> None:
    async with demo_visitor.stream("/slow") as stream:
        message_id = (await stream.next("start")).data["message_id"]
        await stream.next("delta")
        assert (await demo_visitor.stop(message_id)).status_code == 204
        assert (await stream.next("done")).data["finish_reason"] == "stopped"


async def test_files_are_named(start_server: StartServer, make_client: MakeClient) -> None:
    client = make_client(start_server(None, {"UPLOAD_MAX_BYTES": "1000000"}, options=["--demo"]))
    await client.session()
    for _ in range(2):
        parts = [message("/echo Look"), file("x" * 300_000, "ä.txt"), file(PNG, "b.png", "image/png")]
        answer = await send(client, *parts)
        assert (answer.status_code, answer.json()["content"]) == (200, "Look\n\n(ä.txt, b.png)")
    assert (await client.chat("/echo Alone")).json()["content"] == "Alone"
