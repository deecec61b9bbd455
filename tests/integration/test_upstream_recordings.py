"""What a real n8n was heard to say, in every recording, through the running server."""

import asyncio

import pytest

from tests.conftest import MakeClient, StartServer
from tests.support.answers import recordings, replay
from tests.support.n8n import ScriptedN8n


@pytest.mark.parametrize("name", recordings())
async def test_every_recording_ends_in_text_or_in_an_error_of_the_contract(
    n8n: ScriptedN8n, start_server: StartServer, make_client: MakeClient, name: str
) -> None:
    # Some were cut by the recording client or never closed by n8n: those end by the idle timeout here.
    visitor = make_client(start_server(n8n, {"N8N_IDLE_TIMEOUT_SECONDS": "1"}))
    await visitor.session()
    n8n.answer(replay(name))
    async with asyncio.timeout(30):
        reply = await visitor.reply("Hi")
    if reply.status == 200:
        assert reply.finish_reason in {"complete", "error"}
        assert reply.text
    else:
        assert reply.problem["code"].startswith("upstream_")
