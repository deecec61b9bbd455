"""What instances ask of each other, on one channel of Redis: to stop a reply or a session, to write what they have.

Who asks counts those who have done it, and asks again, since a message that is published reaches only who listens.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from chatcore.happenings import Crashed, Observe
from chatcore.model import TurnKey
from chatcore.ports import Clock, StoreUnavailableError
from chatcore.stores.postgres.followers import Followers
from chatcore.stores.postgres.redis_link import RedisLink
from chatcore.stores.postgres.streams import key_of, name_of

ASK_SECONDS = 5.0
AGAIN_SECONDS = 0.5
POLL_SECONDS = 0.03
SILENCE_SECONDS = 2.0
"""A listener without a word for so long asks whether its connection is still there."""

MOST_AT_ONCE = 1_000
"""More requests than that at the same time are not heard; they come again."""

MOST_LATER = 10_000
"""So many sessions are told of once Redis is back."""

_DONE_MS = 30_000

Stop = Callable[[TurnKey | str], Awaitable[object]]


def _nobody_asked(session_id: str) -> None:
    """Do nothing."""


class Word(msgspec.Struct, frozen=True, array_like=True):
    """One message on the channel.

    `what`: `show` or `stop` the reply that `name` names, `stop_all` of the session that it names. `to` is the instance
    that is meant, or empty for all. `request` names the question that is answered in `chatcore:a:<request>`.
    """

    what: str
    request: str
    to: str
    name: str


class RedisPeers:
    """Implements `ports.Peers`. `erased` is told of sessions that were erased elsewhere, before anything else."""

    def __init__(
        self, link: RedisLink, followers: Followers, channel: str, instance: str, clock: Clock, observe: Observe
    ) -> None:
        self._link = link
        self._followers = followers
        self._channel = channel
        self._instance = instance
        self._clock = clock
        self._observe = observe
        self.erased: Callable[[str], None] = _nobody_asked
        self._stop: Stop | None = None
        self._show: Callable[[TurnKey], Awaitable[None]] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._heard: asyncio.Event = asyncio.Event()
        self._doing: set[asyncio.Task[None]] = set()
        self._later: OrderedDict[str, None] = OrderedDict()

    def listen(self, stop: Stop) -> None:
        """Call `stop` with the key of a reply, or the session id, that another instance wants stopped here."""
        self._stop = stop

    async def open(self, show: Callable[[TurnKey], Awaitable[None]]) -> None:
        """Begin to listen, and wait a moment until that is so; `show` writes the reply that another one follows."""
        self._show = show
        self._listening = asyncio.get_running_loop().create_task(self._listen_for_ever())
        if self._link.up:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), 1.0)

    async def close(self) -> None:
        """Listen no more."""
        tasks = [*self._doing, *([self._listening] if self._listening else [])]
        self._listening = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def stop(self, key: TurnKey) -> None:
        """Have a reply stopped by whoever runs it; returns when it has ended. Raises `StoreUnavailableError`."""
        until = self._clock.monotonic() + ASK_SECONDS
        look = await self._followers.look(key)
        if look.holder is not None and look.alive:
            await self._ask("stop", look.holder.instance, name_of(key), until)
            await self._followers.ended(key, until - self._clock.monotonic())  # here it ends a moment later

    async def stop_all(self, session_id: str) -> None:
        """Have every reply of a session stopped and forgotten wherever it is; later, where Redis is down.

        Raises `StoreUnavailableError` where an instance does not answer.
        """
        try:
            await self._ask("stop_all", "", session_id, self._clock.monotonic() + ASK_SECONDS)
        except StoreUnavailableError:
            if self._link.up:
                raise
            self._later[session_id] = None
            if len(self._later) > MOST_LATER:
                self._later.popitem(last=False)

    async def stop_here(self, session_id: str) -> None:
        """Have every reply of a session that is here stopped and forgotten."""
        if self._stop is not None:
            await self._safely(self._stop(session_id))

    def returned(self) -> None:
        """Tell what could not be told while Redis was away."""
        if self._later:
            self._start(self._tell_later())

    async def _tell_later(self) -> None:
        while self._later and self._link.up:
            session_id, _ = self._later.popitem(last=False)
            with contextlib.suppress(StoreUnavailableError):
                await self.stop_all(session_id)

    async def _ask(self, what: str, to: str, name: str, until: float) -> None:
        """Tell all, until the one that is meant, or as many as were told, have done it."""
        request = self._clock.token_bytes(12).hex()
        word = msgspec.json.encode(Word(what, request, to, name))
        key = f"chatcore:a:{request}"
        again = 0.0
        told = 0
        while (now := self._clock.monotonic()) < until:
            if now >= again:
                told = await self._link.call("tell", self._channel, word)
                again = now + AGAIN_SECONDS
            wanted = 1 if to else told
            if await self._link.call("how_many", key) >= wanted:
                return
            await asyncio.sleep(POLL_SECONDS)
        raise StoreUnavailableError

    async def _listen_for_ever(self) -> None:
        while True:
            if self._link.up:
                channel = self._link.client.pubsub()
                try:
                    await self._listen(channel)
                except (RedisError, OSError, TimeoutError):
                    pass
                except Exception as error:  # noqa: BLE001 - a bug must not leave this instance deaf
                    self._observe(Crashed("peers", error))
                finally:
                    with contextlib.suppress(RedisError, OSError):
                        await channel.aclose()  # type: ignore[no-untyped-call] # the library leaves it untyped
            await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self, channel: PubSub) -> None:
        """Hear what is said; returns when the connection does not answer any more."""
        await channel.subscribe(self._channel)
        asked = False
        while True:
            heard: dict[str, Any] | None = await channel.get_message(timeout=SILENCE_SECONDS)
            if heard is None:
                if asked:
                    return
                asked = True
                await channel.ping()
                continue
            asked = False
            if heard["type"] == "subscribe":
                self._heard.set()
            elif heard["type"] == "message":
                self._hear(heard["data"])

    def _hear(self, data: bytes) -> None:
        try:
            word = _WORD(data)
        except msgspec.DecodeError:  # another version's, or nobody's
            return
        if word.to in ("", self._instance) and len(self._doing) < MOST_AT_ONCE:
            self._start(self._do(word))

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._safely(work))
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    async def _safely(self, work: Awaitable[object]) -> None:
        try:
            await work
        except StoreUnavailableError:
            pass
        except Exception as error:  # noqa: BLE001 - one request's bug is not another's
            self._observe(Crashed("peers", error))

    async def _do(self, word: Word) -> None:
        if word.what == "show":
            if self._show is not None:
                await self._show(key_of(word.name))
        elif word.what in ("stop", "stop_all"):
            if word.what == "stop_all":
                self.erased(word.name)
            if self._stop is not None:
                await self._stop(key_of(word.name) if word.what == "stop" else word.name)
            await self._link.call("done", f"chatcore:a:{word.request}", self._instance, _DONE_MS)


_WORD = msgspec.json.Decoder(Word).decode
