"""The n8n webhook over HTTP: request, timeouts, circuit, status -> error; the only file with aiohttp.

A message is sent once. Nothing is ever repeated after a byte of it left, since n8n works on even when its caller hangs
up (n8n 2.41). Deadlines are kept by `tick`, not by a timer for every read.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Literal

import aiohttp
import msgspec
from yarl import URL

from chatcore.circuit import Circuit
from chatcore.errors import (
    OVERLOADED,
    UPSTREAM_INVALID,
    UPSTREAM_TIMEOUT,
    UPSTREAM_UNAVAILABLE,
    Kind,
    Refusal,
)
from chatcore.model import Delta, Failed, ReplyEvent, Turn
from chatcore.n8n_request import Webhook
from chatcore.observe import AnswerOdd, CircuitChanged, Decided, Observer
from chatcore.ports import Clock
from chatcore.settings import BotSettings, ChallengeSettings, UpstreamSettings
from chatcore.tokens import Tokens
from chatcore.wire.decode import Decoder, status_failure

IDLE_CONNECTION_SECONDS = 4.0
"""n8n closes an idle connection after 6 s; one that we keep must be younger when it is used."""

PROBE_SECONDS = 5.0
CHALLENGE_SECONDS = 5.0
CHALLENGE_BYTES = 65_536

Sink = Callable[[Sequence[ReplyEvent]], None]


class _Bot:
    """One webhook and whether it can be reached."""

    def __init__(self, settings: BotSettings) -> None:
        self.name = settings.name
        self.webhook = Webhook(settings)
        self.url = URL(settings.url, encoded=True)
        self.circuit = Circuit()


class _Exchange:
    """One request under way, as `tick` sees it. `cut` is set before its task is cancelled by us.

    A cut of `told` means that the decoder's last event was delivered and only the connection is left to close.
    """

    __slots__ = ("cut", "decoder", "first_by", "last_read", "sink", "task", "total_by")

    def __init__(self, task: asyncio.Task[object], sink: Sink, first_by: float, total_by: float) -> None:
        self.task = task
        self.sink = sink
        self.first_by = first_by
        self.total_by = total_by
        self.last_read: float | None = None
        self.decoder: Decoder | None = None
        self.cut: Failed | Refusal | Literal["told"] | None = None

    @property
    def held(self) -> int:
        """Bytes that were read and are not text yet."""
        return 0 if self.decoder is None else self.decoder.buffered

    def end(self, why: Failed | Refusal | Literal["told"]) -> None:
        if self.cut is None:
            self.cut = why
            self.task.cancel()

    def release_held(self, now: float) -> None:
        """Give the text that the decoder still held back, where the exchange ends before its answer does."""
        if self.decoder is None or self.decoder.finished:
            return
        deltas = [event for event in self.decoder.close(now, complete=False) if isinstance(event, Delta)]
        if deltas:
            with contextlib.suppress(Refusal):  # no room for it: the reply ends either way
                self.sink(deltas)


class N8nUpstream:
    """All bots' webhooks behind one pool of connections."""

    def __init__(
        self, settings: UpstreamSettings, memory_bytes: int, tokens: Tokens, clock: Clock, observer: Observer
    ) -> None:
        """`memory_bytes` bounds what all exchanges hold undecoded; beyond it the largest ends with `overloaded`."""
        self._settings = settings
        self._memory_bytes = memory_bytes
        self._tokens = tokens
        self._clock = clock
        self._observer = observer
        self._bots = {name: _Bot(bot) for name, bot in settings.bots.items()}
        self._active: set[_Exchange] = set()
        self._probes: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def available(self, bot: str) -> bool:
        """Tell whether `bot`'s circuit is closed."""
        return not self._bots[bot].circuit.is_open

    async def close(self) -> None:
        """Close all connections."""
        for probe in tuple(self._probes):
            probe.cancel()
        if self._session is not None:
            await self._session.close()

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
        exchange = _Exchange(task, sink, now + limits.first_byte_timeout_seconds, now + limits.total_timeout_seconds)
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
            failed = None if exchange.cut == "told" else exchange.cut
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
        """Ask the `siteverify` endpoint about a visitor's answer; None when the endpoint gives no usable answer."""
        form = {"secret": challenge.secret, "response": token, "remoteip": address}
        timeout = aiohttp.ClientTimeout(total=CHALLENGE_SECONDS)
        try:
            async with self._client().post(
                challenge.verify_url, data=form, timeout=timeout, allow_redirects=False
            ) as response:
                body = await response.content.read(CHALLENGE_BYTES)
                verdict = msgspec.json.decode(body)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
            return None
        success = verdict.get("success") if isinstance(verdict, dict) else None
        return success if isinstance(success, bool) else None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._settings.max_replies_in_flight, keepalive_timeout=IDLE_CONNECTION_SECONDS
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._settings.connect_timeout_seconds, connect=None
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
                trust_env=False,
            )
        return self._session

    async def _converse(self, bot: _Bot, turn: Turn, exchange: _Exchange) -> Failed | None:
        """Send the request and read the answer; gives the failure that the decoder has not told."""
        token = self._tokens.for_n8n(turn.session_id, turn.message_id)
        try:
            response = await self._client().post(
                bot.url, data=bot.webhook.body(turn), headers=bot.webhook.headers(token), allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if bot.circuit.failed(self._clock.monotonic()):
                self._observer(CircuitChanged(bot.name, "open"))
            return _failed(UPSTREAM_UNAVAILABLE, f"no connection: {type(error).__name__}", sent=False)
        except aiohttp.ClientResponseError as error:
            return _failed(UPSTREAM_INVALID, f"not HTTP: {type(error).__name__}")
        except (aiohttp.ClientError, OSError) as error:
            return _failed(
                UPSTREAM_UNAVAILABLE, f"the connection ended before the answer began: {type(error).__name__}"
            )
        bot.circuit.connected()
        try:
            return await self._read(bot.name, response, exchange)
        finally:
            # Gives the connection back to the pool where the answer was read to its end, closes it otherwise.
            response.release()

    async def _read(self, bot: str, response: aiohttp.ClientResponse, exchange: _Exchange) -> Failed | None:
        content_type = response.headers.get("Content-Type")
        if self._observer.debugging:
            self._observer(Decided("n8n", f"status {response.status}, {content_type or 'no content type'}"))
        failed = status_failure(response.status, content_type)
        if failed is not None:
            response.close()
            return failed
        clock, sink = self._clock, exchange.sink
        limits = self._settings
        exchange.last_read = now = clock.monotonic()
        decoder = exchange.decoder = Decoder(
            response.status,
            content_type,
            show_raw_json=limits.show_raw_json,
            max_bytes=limits.reply_max_bytes,
            now=now,
        )
        read = response.content.readany
        complete = True
        try:
            while data := await read():
                exchange.last_read = now = clock.monotonic()
                events = decoder.feed(data, now)
                if events:
                    sink(events)
                if decoder.finished:
                    response.close()  # an error or [DONE]: whatever may follow is not read
                    break
        except (aiohttp.ClientError, OSError, ValueError):
            complete = False
            response.close()
        events = decoder.close(clock.monotonic(), complete=complete)
        if events:
            sink(events)
        for note in decoder.notes:
            self._observer(AnswerOdd(bot, note))
        return None

    def _tick_exchange(self, exchange: _Exchange, now: float) -> None:
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
        if now >= exchange.total_by:
            exchange.end(_failed(UPSTREAM_TIMEOUT, "N8N_TOTAL_TIMEOUT_SECONDS"))
        elif exchange.last_read is None:
            if now >= exchange.first_by:
                exchange.end(_failed(UPSTREAM_TIMEOUT, "N8N_FIRST_BYTE_TIMEOUT_SECONDS"))
        elif now >= exchange.last_read + self._settings.idle_timeout_seconds:
            exchange.end(_failed(UPSTREAM_TIMEOUT, "N8N_IDLE_TIMEOUT_SECONDS"))

    async def _probe(self, bot: _Bot) -> None:
        """Connect and hang up: no request is sent, so no workflow runs."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                _, writer = await asyncio.open_connection(bot.url.host, bot.url.port)
        except OSError:  # refused, unreachable, unknown, or too slow
            return
        writer.close()
        bot.circuit.probe_succeeded()
        self._observer(CircuitChanged(bot.name, "closed"))


def _failed(kind: Kind, reason: str, *, sent: bool = True) -> Failed:
    return Failed(Refusal(kind, retry_after=5 if kind.status == UPSTREAM_UNAVAILABLE.status else None), reason, sent)
