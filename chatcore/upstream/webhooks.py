"""All bots' webhooks: one exchange a turn, its deadlines, the circuit that opens when n8n cannot be reached.

A message is sent once. Nothing is ever repeated after a byte of it left, since n8n works on even when its caller hangs
up (n8n 2.41). Deadlines are kept by `tick`, not by a timer for every read.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import urlsplit

from chatcore.circuit import Circuit
from chatcore.errors import (
    OVERLOADED,
    UPSTREAM_INVALID,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE,
    Kind,
    Refusal,
)
from chatcore.model import Failed, Turn, Upload
from chatcore.n8n_request import Webhook
from chatcore.observe import AnswerOdd, CircuitChanged, Decided, Observer
from chatcore.ports import Clock
from chatcore.settings import BotSettings, ChallengeSettings, UpstreamSettings
from chatcore.tokens import N8N_SECONDS, Tokens
from chatcore.tracing import Tracer
from chatcore.upstream.challenge import passes
from chatcore.upstream.exchange import Exchange, Sink
from chatcore.upstream.previous import Previous
from chatcore.upstream.traced import TracedTransport
from chatcore.upstream.transport import (
    Answer,
    CutError,
    NotConnectedError,
    NotHttpError,
    Post,
    Transport,
    TransportError,
)
from chatcore.wire.decode import Decoder, status_failure
from chatcore.wire.previous_session import Said

PROBE_SECONDS = 5.0
CHALLENGE_SECONDS = 5.0


class _Bot:
    """One webhook and whether it can be reached."""

    def __init__(self, settings: BotSettings) -> None:
        self.name = settings.name
        self.webhook = Webhook(settings)
        self.circuit = Circuit()
        self.post: Post | None = None


class N8nUpstream:
    """All bots' webhooks behind one pool of connections."""

    def __init__(
        self,
        settings: UpstreamSettings,
        memory_bytes: int,
        tokens: Tokens,
        clock: Clock,
        observer: Observer,
        tracer: Tracer | None = None,
    ) -> None:
        """`memory_bytes` bounds what all exchanges hold undecoded; beyond it the largest ends with `overloaded`."""
        self._settings = settings
        self._memory_bytes = memory_bytes
        self._tokens = tokens
        self._clock = clock
        self._observer = observer
        self._tracer = tracer
        self._bots = {name: _Bot(bot) for name, bot in settings.bots.items()}
        self._previous = Previous(tokens, clock, observer)
        self._active: set[Exchange] = set()
        self._probes: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[Transport] | None = None
        self._transport: Transport | None = None

    def available(self, bot: str) -> bool:
        """Tell whether `bot`'s circuit is closed."""
        return not self._bots[bot].circuit.is_open

    async def close(self) -> None:
        """Close all connections."""
        for probe in tuple(self._probes):
            probe.cancel()
        if self._opening is not None:
            await (await self._opening).close()

    async def exchange(self, turn: Turn, sink: Sink) -> None:
        """Send `turn` once and put every event of the answer into `sink`."""
        bot = self._bots[turn.bot]
        if bot.circuit.is_open:
            sink([Failed(Refusal(UPSTREAM_UNAVAILABLE, retry_after=5), "the circuit is open", sent=False)])
            return
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("exchange must run in a task")
        now = self._clock.monotonic()
        limits = self._settings
        exchange = Exchange(task, sink, now + limits.first_byte_timeout_seconds, now + limits.total_timeout_seconds)
        self._active.add(exchange)
        try:
            failed = await self._converse(bot, turn, exchange)
        except asyncio.CancelledError:
            exchange.release_held(self._clock.monotonic())
            if exchange.cut is None:
                raise
            task.uncancel()
            if isinstance(exchange.cut, Refusal):
                raise exchange.cut from None
            failed = exchange.cut if isinstance(exchange.cut, Failed) else None
        finally:
            self._active.discard(exchange)
        if failed is not None:
            sink([failed])

    def tick(self, now: float) -> None:
        """Let time pass: deadlines, held text, probes."""
        held = 0
        for exchange in tuple(self._active):
            self._tick_exchange(exchange, now)
            held += exchange.held
        if held > self._memory_bytes:
            max(self._active, key=lambda exchange: exchange.held).end(Refusal(OVERLOADED, retry_after=5))
        for bot in self._bots.values():
            if bot.circuit.probe_due(now):
                probe = asyncio.get_running_loop().create_task(self._probe(bot))
                self._probes.add(probe)
                probe.add_done_callback(self._probes.discard)

    async def passes_challenge(self, challenge: ChallengeSettings, token: str, address: str) -> bool | None:
        """Ask the `siteverify` endpoint about a visitor's answer; None when it gives no usable one in time."""
        try:
            async with asyncio.timeout(CHALLENGE_SECONDS):
                return await passes(await self._open(), challenge, token, address)
        except TimeoutError:
            return None

    async def previous(self, bot: str, session_id: str) -> Sequence[Said]:
        """Ask a bot's workflow for a session's earlier messages, see `Previous.of`."""
        return await self._previous.of(await self._open(), bot, self._bots[bot].webhook, session_id)

    def warm_up(self) -> None:
        """Begin to load the HTTP client, a fifth of the time to start, while the server already listens."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._load())

    async def _load(self) -> Transport:
        pooled = await asyncio.to_thread(importlib.import_module, "chatcore.upstream.pooled")
        limits = self._settings
        opened: Transport = pooled.open_transport(limits.max_replies_in_flight, limits.connect_timeout_seconds)
        if self._tracer is None:
            return opened
        return TracedTransport(opened, self._tracer, {bot.webhook.url for bot in self._bots.values()})

    async def _open(self) -> Transport:
        if self._transport is None:
            self.warm_up()
            assert self._opening is not None, "it was just begun"  # noqa: S101 - narrows the type
            # Shielded, since the first turn may be stopped while others wait for the same.
            self._transport = await asyncio.shield(self._opening)
        return self._transport

    async def _converse(self, bot: _Bot, turn: Turn, exchange: Exchange) -> Failed | None:
        """Send the request and read the answer; gives the failure that the decoder has not told."""
        transport, webhook = await self._open(), bot.webhook
        if bot.post is None:
            bot.post = transport.to(webhook.url, webhook.headers)
        headers, body = self._request(webhook, turn, exchange)
        upload = turn.upload
        try:
            answer = await bot.post(headers, body)
        except TransportError as error:
            return _refused(upload) or self._not_answered(bot, error, sent=exchange.sent)
        bot.circuit.connected()
        try:
            failed = await self._read(bot.name, answer, exchange)
        finally:
            answer.release()
        return _refused(upload) or failed

    def _request(
        self, webhook: Webhook, turn: Turn, exchange: Exchange
    ) -> tuple[Mapping[str, str], bytes | AsyncIterator[bytes]]:
        """Give what is sent. n8n checks the token once it has read all, so with files it is good for as long."""
        upload, limits = turn.upload, self._settings
        seconds = N8N_SECONDS if upload is None else max(N8N_SECONDS, limits.total_timeout_seconds)
        headers = webhook.signed(self._tokens.for_n8n(turn.session_id, turn.message_id, seconds))
        if upload is None:
            return headers, webhook.body(turn)
        boundary = f"chatcore-{self._clock.token_bytes(16).hex()}"
        headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        form = webhook.form(turn, upload, boundary)
        return headers, exchange.carry(form, lambda: self._clock.monotonic() + limits.first_byte_timeout_seconds)

    def _not_answered(self, bot: _Bot, error: TransportError, *, sent: bool) -> Failed:
        if isinstance(error, NotConnectedError):
            if bot.circuit.failed(self._clock.monotonic()):
                self._observer(CircuitChanged(bot.name, "open"))
            return _failed(UPSTREAM_UNAVAILABLE, f"no connection: {error}", sent=False)
        if isinstance(error, NotHttpError):
            return _failed(UPSTREAM_INVALID, f"not HTTP: {error}")
        return _failed(UPSTREAM_UNAVAILABLE, f"the connection ended before the answer began: {error}", sent=sent)

    async def _read(self, bot: str, answer: Answer, exchange: Exchange) -> Failed | None:
        if self._observer.debugging:
            said = f"status {answer.status}, {answer.content_type or 'no content type'}"
            self._observer(Decided("n8n", said))
        failed = status_failure(answer.status, answer.content_type)
        if failed is not None:
            return failed
        exchange.answer = answer
        clock, sink = self._clock, exchange.sink
        limits = self._settings
        exchange.last_read = now = clock.monotonic()
        decoder = exchange.decoder = Decoder(
            answer.status,
            answer.content_type,
            show_raw_json=limits.show_raw_json,
            max_bytes=limits.reply_max_bytes,
            now=now,
        )
        read = answer.read
        complete = True
        try:
            while data := await read():
                exchange.last_read = now = clock.monotonic()
                events = decoder.feed(data, now)
                if events:
                    sink(events)
                if decoder.finished:
                    break  # an error or [DONE]: whatever may follow is not read
        except CutError:
            complete = False
        events = decoder.close(clock.monotonic(), complete=complete)
        if events:
            sink(events)
        for note in decoder.notes:
            self._observer(AnswerOdd(bot, note))
        return None

    def _tick_exchange(self, exchange: Exchange, now: float) -> None:
        decoder = exchange.decoder
        if decoder is not None and decoder.waiting:
            events = decoder.tick(now)
            try:
                if events:
                    exchange.sink(events)
            except Refusal as refusal:
                exchange.end(refusal)
                return
            if decoder.finished:
                exchange.end("told")
                return
        if exchange.answer is not None and exchange.answer.broken:
            exchange.end("broken")
        elif now >= exchange.total_by:
            exchange.end(_failed(UPSTREAM_TIMEOUT, "N8N_TOTAL_TIMEOUT_SECONDS", sent=exchange.sent))
        elif exchange.last_read is None:
            if now >= exchange.first_by:
                exchange.end(_failed(UPSTREAM_TIMEOUT, "N8N_FIRST_BYTE_TIMEOUT_SECONDS"))
        elif now >= exchange.last_read + self._settings.idle_timeout_seconds:
            exchange.end(_failed(UPSTREAM_TIMEOUT, "N8N_IDLE_TIMEOUT_SECONDS"))

    async def _probe(self, bot: _Bot) -> None:
        """Connect and hang up: no request is sent, so no workflow runs."""
        address = urlsplit(bot.webhook.url)
        port = address.port or (443 if address.scheme == "https" else 80)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                _, writer = await asyncio.open_connection(address.hostname, port)
        except OSError:  # refused, unreachable, unknown, or too slow
            return
        writer.close()
        bot.circuit.probe_succeeded()
        self._observer(CircuitChanged(bot.name, "closed"))


def _failed(kind: Kind, reason: str, *, sent: bool = True) -> Failed:
    return Failed(Refusal(kind, retry_after=5 if kind.status == UPSTREAM_UNAVAILABLE.status else None), reason, sent)


def _refused(upload: Upload | None) -> Failed | None:
    """Tell that an upload was not read to its end; what n8n has of it is no whole request."""
    if upload is None or upload.refusal is None:
        return None
    return Failed(upload.refusal, "the files were refused or did not arrive", sent=False)
