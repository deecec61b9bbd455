"""Who may send now, and if not, when: the limits of the service over a counter port.

Three questions, asked in this order and told apart by the refusal:

1. the address (per minute, GCRA): pays for every counted request, accepted or not;
2. the session (per minute, GCRA): pays for accepted messages only;
3. the UTC day, per bot and per bot and address: as the session.

N per minute means N at once, then one every 60/N seconds. A limit of 0 is off. A counter store that fails raises
`StoreUnavailableError` through all of this; what was charged until then stays charged.
"""

from collections.abc import Mapping
from math import ceil

import msgspec

from chatcore.errors import DAILY_LIMIT_REACHED, RATE_LIMITED, Kind, Refusal
from chatcore.ports import Clock, CounterStore, Level
from chatcore.settings import BotSettings, LimitSettings

_DAY_SECONDS = 86400


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where a client stands with the limit that binds it most: `remaining` of `limit`, whole in `reset` seconds."""

    limit: int
    remaining: int
    reset: int

    def merge(self, other: "Standing | None") -> "Standing":
        """Give the tighter of two: fewer left, then longer until it is whole."""
        if other is None or (self.remaining, -self.reset) <= (other.remaining, -other.reset):
            return self
        return other

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Give the `RateLimit-*` header lines for an answer (ASGI pairs)."""
        return [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
        ]


class _Rate(msgspec.Struct, frozen=True, gc=False):
    """So many a minute: the `burst` allowed at once, and the seconds in which one comes back."""

    prefix: str
    burst: int
    interval: float


class _Days(msgspec.Struct, frozen=True, gc=False):
    """How many messages one bot takes on a UTC day, in all and from one address; 0 is off."""

    in_all: int
    per_address: int


class Limits:
    """The limits of one service. Address keys are `clientaddr.Client.limit_key`, or a keyed hash of it."""

    def __init__(
        self, settings: LimitSettings, bots: Mapping[str, BotSettings], counters: CounterStore, clock: Clock
    ) -> None:
        """Work out all rates now, so that a request only looks them up."""
        self._counters = counters
        self._clock = clock
        common = settings.rate_limit_per_minute
        self._address = _rate("a:", common)
        self._address_by_bot = {
            name: _rate(f"a/{name}:", bot.rate_limit_per_minute)
            for name, bot in bots.items()
            if bot.rate_limit_per_minute != common
        }
        self._session = _rate("s:", settings.session_rate_limit_per_minute)
        self._days = {
            name: _Days(bot.daily_message_limit, bot.daily_message_limit_per_address)
            for name, bot in bots.items()
            if bot.daily_message_limit or bot.daily_message_limit_per_address
        }

    def has_own_rate(self, bot: str) -> bool:
        """Tell whether addresses have a bucket of their own at this bot."""
        return bot in self._address_by_bot

    async def admit_address(self, client_key: str, bot: str | None = None) -> Standing | None:
        """Charge one request to an address; `None` where no limit is set.

        Where `bot` is known and has a limit of its own (`RATE_LIMIT_PER_MINUTE_<BOT>`), the address has a bucket of
        its own there. Raises `Refusal` (`rate_limited`) with `Retry-After` and the `RateLimit-*` headers.
        """
        rate = self._address_rate(bot)
        if rate is None:
            return None
        return await self._take(rate, client_key)

    async def give_back_address(self, client_key: str, bot: str | None = None) -> None:
        """Undo `admit_address` for a request that turned out not to count (a retry that joins its reply)."""
        rate = self._address_rate(bot)
        if rate is not None:
            await self._counters.give_back(rate.prefix + client_key, rate.interval)

    async def admit_session(self, session_id: str, bot: str, address_key: str) -> Standing | None:
        """Charge one message to its session and to the day; gives the tightest standing, `None` without limits.

        Raises `Refusal` (`rate_limited`, `daily_limit_reached`); nothing stays charged here then.
        """
        standing: Standing | None = None
        if self._session is not None:
            standing = await self._take(self._session, session_id)
        days = self._days.get(bot)
        if days is None:
            return standing
        try:
            return await self._admit_day(days, bot, address_key, standing)
        except Refusal:
            if self._session is not None:
                await self._counters.give_back(self._session.prefix + session_id, self._session.interval)
            raise

    async def give_back_session(self, session_id: str, bot: str, address_key: str) -> None:
        """Undo `admit_session` for a message that was not accepted after all, or that joins its reply."""
        if self._session is not None:
            await self._counters.give_back(self._session.prefix + session_id, self._session.interval)
        days = self._days.get(bot)
        if days is None:
            return
        day, _ = self._today()
        if days.in_all:
            await self._counters.uncount(_bot_day(bot, day))
        if days.per_address:
            await self._counters.uncount(_address_day(bot, day, address_key))

    async def _admit_day(self, days: _Days, bot: str, address_key: str, standing: Standing | None) -> Standing | None:
        day, until = self._today()
        if days.in_all:
            level = await self._counters.count(_bot_day(bot, day), days.in_all, until)
            standing = _settle(DAILY_LIMIT_REACHED, days.in_all, level).merge(standing)
        if days.per_address:
            level = await self._counters.count(_address_day(bot, day, address_key), days.per_address, until)
            if days.in_all and not level.admitted:
                await self._counters.uncount(_bot_day(bot, day))
            standing = _settle(DAILY_LIMIT_REACHED, days.per_address, level).merge(standing)
        return standing

    async def _take(self, rate: _Rate, key: str) -> Standing:
        level = await self._counters.take(rate.prefix + key, rate.interval, rate.burst)
        return _settle(RATE_LIMITED, rate.burst, level)

    def _address_rate(self, bot: str | None) -> _Rate | None:
        if bot is None or not self._address_by_bot:
            return self._address
        return self._address_by_bot.get(bot, self._address)

    def _today(self) -> tuple[int, float]:
        day = int(self._clock.now() // _DAY_SECONDS)
        return day, float((day + 1) * _DAY_SECONDS)


def _rate(prefix: str, per_minute: int) -> _Rate | None:
    return _Rate(prefix, per_minute, 60 / per_minute) if per_minute > 0 else None


def _bot_day(bot: str, day: int) -> str:
    return f"d:{bot}:{day}"


def _address_day(bot: str, day: int, address_key: str) -> str:
    return f"d:{bot}:{day}:{address_key}"


def _settle(kind: Kind, limit: int, level: Level) -> Standing:
    """Turn a counter's answer into a standing, or into the refusal that tells how long to wait."""
    standing = Standing(limit, level.remaining, ceil(level.full_after))
    if level.admitted:
        return standing
    wait = max(1, ceil(level.retry_after))
    raise Refusal(
        kind,
        retry_after=wait,
        headers={
            "RateLimit-Limit": str(standing.limit),
            "RateLimit-Remaining": str(standing.remaining),
            "RateLimit-Reset": str(max(wait, standing.reset)),
        },
    )
