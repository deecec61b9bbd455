"""Visitors who talk all the time: every message they ever sent, and what they were told of it."""

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tests.support.answers import Answer, Wait, answer_bytes, answer_json, answer_stream, line
from tests.support.client import ChatClient
from tests.support.n8n import Request, ScriptedN8n
from tests.support.postgres import Database
from tests.support.postgres_mode import messages_of


def at_all_paces(request: Request) -> Answer:
    """Answer at once or slowly, as a stream or as a document, by the first letter of what was said."""
    said = request.text
    match said[0]:
        case "a":
            return answer_json({"output": f"Echo: {said}"})
        case "b":
            return answer_stream(["Echo: ", said])
        case "c":
            return answer_stream(["Echo: ", said[:5], said[5:]], gap=0.05)
        case _:
            return answer_bytes(Wait(0.15), line("begin"), line("item", f"Echo: {said}"), line("end"))


THINKING = 0.05
"""How many seconds a visitor thinks at most before the next message."""

_numbers = itertools.count()


@dataclass
class Sent:
    """One message; times are monotonic seconds, `acknowledged` is set when the visitor had the whole reply."""

    session: int
    id: str
    text: str
    sent: float
    acknowledged: float | None = None


class Crowd:
    """Visitors who keep their sessions, and every message they ever sent.

    With `breaks` a lane ends where its connection does; otherwise nothing may fail.
    """

    def __init__(
        self, randomness: random.Random, *, sessions: int = 6, breaks: bool = False, keep_alive: bool = True
    ) -> None:
        self.messages: list[Sent] = []
        self.session_ids: list[str] = []
        self._random = randomness
        self._sessions = sessions
        self._breaks = breaks
        self._keep_alive = keep_alive
        self._tokens: list[str] = []
        self._clients: list[ChatClient] = []
        self._lanes: list[asyncio.Task[None]] = []
        self._enough = asyncio.Event()

    async def meet(self, url: str) -> None:
        """Go to a server, with the sessions of old."""
        await self.leave()
        self._clients = [ChatClient(url) for _ in range(self._sessions)]
        if not self._tokens:
            for client in self._clients:
                assert (await client.session()).status_code == httpx.codes.CREATED
                self._tokens.append(str(client.token))
                self.session_ids.append(str(client.session_id))
        for client, token in zip(self._clients, self._tokens, strict=True):
            client.token = token
            if not self._keep_alive:
                client.http.headers["Connection"] = "close"

    async def leave(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.close()

    def begin(self, lanes: int = 16) -> None:
        """Talk, in so many conversations at once."""
        self._enough.clear()
        self._lanes = [asyncio.create_task(self._talk()) for _ in range(lanes)]

    async def end(self) -> None:
        """Let each conversation come to the end of its message; raises what went wrong in one."""
        self._enough.set()
        await asyncio.gather(*self._lanes)
        self._lanes = []

    @property
    def acknowledged(self) -> list[Sent]:
        """The messages whose visitors had the whole reply."""
        return [message for message in self.messages if message.acknowledged is not None]

    async def send(self, message: Sent, *, stream: bool) -> None:
        """Send a message and note when it is acknowledged: the document is whole, or `done` is there."""
        client = self._clients[message.session]
        if not stream:
            answer = await client.chat(message.text, message_id=message.id)
            assert answer.status_code == httpx.codes.OK, answer.text
            assert answer.json()["finish_reason"] == "complete", answer.text
            assert answer.json()["content"] == f"Echo: {message.text}"
            message.acknowledged = time.monotonic()
            return
        told = ""
        async with client.stream(message.text, message_id=message.id) as events:
            assert events.status == httpx.codes.OK, await events.response.aread()
            async for event in events:
                if event.name == "delta":
                    told += event.data["content"]
                assert event.name != "error", event
                if event.name == "done":
                    assert (event.data["finish_reason"], told) == ("complete", f"Echo: {message.text}")
                    message.acknowledged = time.monotonic()

    async def again(self, message: Sent, text: str | None = None) -> httpx.Response:
        """Send a message once more, perhaps with another text."""
        return await self._clients[message.session].chat(text or message.text, message_id=message.id)

    async def _talk(self) -> None:
        while not self._enough.is_set():
            await asyncio.sleep(self._random.uniform(0, THINKING))  # or the machine would do nothing else
            text = f"{self._random.choice('aabbbcd')}-{next(_numbers)}"
            message = Sent(self._random.randrange(self._sessions), str(uuid.uuid4()), text, time.monotonic())
            self.messages.append(message)
            try:
                await self.send(message, stream=self._random.random() < 0.5)
            except httpx.TransportError:
                if self._breaks:
                    return
                raise


def check_kept(database: Database, crowd: Crowd, n8n: ScriptedN8n) -> None:
    """Compare the database with what the visitors were told: each acknowledged message once, with its texts, in order.

    No workflow ran twice for one of them. The visitors' messages without an acknowledgement may be there or not.
    """
    ran = Counter(request.text for request in n8n.requests)
    acknowledged = crowd.acknowledged
    assert [message.text for message in acknowledged if ran[message.text] != 1] == []
    for number, session_id in enumerate(crowd.session_ids):
        rows = messages_of(database, session_id)
        sent = {message.id: message for message in crowd.messages if message.session == number}
        _check_texts(rows, sent)
        told = [message for message in sent.values() if message.acknowledged is not None]
        missing = {(message.id, role) for message in told for role in (0, 1)} - {(row[0], row[1]) for row in rows}
        assert missing == set()
        _check_order([sent[message_id] for message_id, role, _ in rows if role == 0])


def _check_texts(rows: Sequence[tuple[str, int, str]], sent: dict[str, Sent]) -> None:
    for place, (message_id, role, content) in enumerate(rows):
        text = sent[message_id].text
        assert content == (f"Echo: {text}" if role else text) or (role and sent[message_id].acknowledged is None)
        assert role == 0 or rows[place - 1][:2] == (message_id, 0), "a reply follows its message"


def _check_order(messages: Sequence[Sent]) -> None:
    """What was sent after another one's reply was there stands behind it."""
    latest = 0.0
    for message in messages:
        assert message.acknowledged is None or message.acknowledged >= latest, f"{message} stands too far behind"
        latest = max(latest, message.sent)
