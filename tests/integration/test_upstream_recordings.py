"""What a real n8n was heard to say, in every recording, through the running server."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.conftest import MakeClient
from tests.support.answers import recordings, replay
from tests.support.n8n import ScriptedN8n
from tests.support.server import ChatServer


@pytest.fixture(scope="module", name="patient")
def _patient(n8n_of_module: ScriptedN8n) -> Iterator[ChatServer]:
    # Some were cut by the recording client or never closed by n8n: those end by the idle timeout here.
    with ChatServer({"N8N_WEBHOOK_URL": n8n_of_module.url, "N8N_IDLE_TIMEOUT_SECONDS": "1"}) as server:
        yield server


@pytest.mark.parametrize("name", recordings())
async def test_every_recording_ends_in_text_or_in_an_error_of_the_contract(
    patient: ChatServer, n8n_of_module: ScriptedN8n, make_client: MakeClient, name: str
) -> None:
    visitor = make_client(patient)
    await visitor.session()
    n8n_of_module.answer(replay(name))
    async with asyncio.timeout(30):
        reply = await visitor.reply("Hi")
    if reply.status == 200:
        assert reply.finish_reason in {"complete", "error"}
        assert reply.text
    else:
        assert reply.problem["code"].startswith("upstream_")
