"""A session's earlier messages from n8n's own memory: one question to a workflow's webhook (`N8N_LOAD_PREVIOUS`)."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from chatcore.n8n_request import Webhook
from chatcore.observe import AnswerOdd, Observer
from chatcore.ports import Clock
from chatcore.tokens import Tokens
from chatcore.upstream.transport import Transport, ask
from chatcore.wire.previous_session import Said, read_previous

PREVIOUS_SECONDS = 10.0
ANSWER_BYTES = 2 << 20
MOST_AT_ONCE = 16

_OK = 200


class Previous:
    """Asks, at most `MOST_AT_ONCE` times at once: a widget does without its history, but n8n not without its breath."""

    def __init__(self, tokens: Tokens, clock: Clock, observer: Observer) -> None:
        self._tokens = tokens
        self._clock = clock
        self._observer = observer
        self._asking = 0
        self._odd: set[str] = set()

    async def of(self, transport: Transport, bot: str, webhook: Webhook, session_id: str) -> Sequence[Said]:
        """Give what a bot's workflow knows of a session; nothing where it gives no usable answer in time.

        The first unusable answer of each bot is logged.
        """
        if self._asking >= MOST_AT_ONCE:
            return ()
        self._asking += 1
        try:
            async with asyncio.timeout(PREVIOUS_SECONDS):
                signed = webhook.signed(self._tokens.for_n8n(session_id, self._clock.token_bytes(16).hex()))
                found = await _ask(transport, webhook, signed, session_id)
        except TimeoutError:
            found = None
        finally:
            self._asking -= 1
        if found is None and bot not in self._odd:
            self._odd.add(bot)
            self._observer(AnswerOdd(bot, "no usable answer to loadPreviousSession (N8N_LOAD_PREVIOUS)"))
        return found or ()


async def _ask(
    transport: Transport, webhook: Webhook, signed: Mapping[str, str], session_id: str
) -> Sequence[Said] | None:
    question = msgspec.json.encode({"action": "loadPreviousSession", "sessionId": session_id})
    answer = await ask(transport.to(webhook.url, webhook.headers), signed, question, ANSWER_BYTES)
    if answer is None or answer[0] != _OK:
        return None
    return read_previous(answer[1])
