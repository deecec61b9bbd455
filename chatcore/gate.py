"""Who is asking, and may they: the client's address and its limit, the session behind a token."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from chatcore.asgi import Scope, Visit
from chatcore.clientaddr import Addresses, Client
from chatcore.cors import Origins
from chatcore.errors import ORIGIN_NOT_ALLOWED, TOKEN_INVALID, TOKEN_MISSING, Refusal
from chatcore.model import Caller
from chatcore.observe import Decided, Observer, SetupSuspicious
from chatcore.ports import SessionStore
from chatcore.ratelimit import Limits, Standing
from chatcore.settings.bots import DEFAULT
from chatcore.tokens import Tokens, Verified


@contextmanager
def limit_first(charged: Standing | Refusal | None) -> Iterator[None]:
    """Let whoever is over the limit learn just that, whatever else is wrong with the request."""
    try:
        yield
    except Refusal:
        if isinstance(charged, Refusal):
            raise charged from None
        raise


def tell_standing(visit: Visit, *standings: Standing | None) -> None:
    """Have the answer tell the tightest of the limits that were asked."""
    tightest: Standing | None = None
    for standing in standings:
        tightest = standing if tightest is None else tightest.merge(standing)
    if tightest is not None:
        visit.headers.extend(tightest.headers())


def weigh(visit: Visit, charged: Standing | Refusal | None, refusal: Refusal) -> Refusal:
    """Give what a refused client learns: that it is over the limit, or else `refusal` and where it stands."""
    if isinstance(charged, Refusal):
        return charged
    tell_standing(visit, charged)
    return refusal


class Gate:
    """Asked by every route that is not for everybody. `proxies_suspicious` feeds `/health`."""

    def __init__(
        self,
        addresses: Addresses,
        limits: Limits,
        tokens: Tokens,
        sessions: SessionStore,
        bots: Mapping[str, Origins | None],
        observer: Observer,
    ) -> None:
        """`bots`: every bot's name, with its own origins where it does not allow all that some bot allows."""
        self.tokens = tokens
        self.bots = bots
        self.own_rates = any(limits.has_own_rate(bot) for bot in bots)
        self.proxies_suspicious = False
        self._addresses = addresses
        self._limits = limits
        self._sessions = sessions
        self._observer = observer

    def client(self, scope: Scope) -> Client:
        """Give the visitor's address, as far as the proxies in front are trusted."""
        peer = scope.get("client")
        client = self._addresses.of(None if peer is None else peer[0], scope["headers"])
        if client.suspicious and not self.proxies_suspicious:
            self.proxies_suspicious = True
            self._observer(
                SetupSuspicious(
                    f"{client.masked} sends X-Forwarded-For or X-Real-IP but is not in TRUSTED_PROXIES: "
                    "all visitors behind it share one rate limit. If it is your proxy, add it."
                )
            )
        if self._observer.debugging:
            self._observer(Decided("address", client.masked))
        return client

    async def try_address(self, client: Client, bot: str | None = None) -> Standing | Refusal | None:
        """Charge a request to its address; the refusal is given, not raised, for the caller to weigh."""
        try:
            standing = await self._limits.admit_address(client.limit_key, bot)
        except Refusal as refusal:
            return refusal
        if self._observer.debugging and standing is not None:
            self._observer(Decided("address limit", f"{standing.remaining} of {standing.limit} left"))
        return standing

    async def of_bot(self, client: Client, bot: str, charged: Standing | Refusal | None) -> Standing | Refusal | None:
        """Move a charge to the bot's own bucket, where it has one (`RATE_LIMIT_PER_MINUTE_<BOT>`)."""
        if not self._limits.has_own_rate(bot):
            return charged
        if not isinstance(charged, Refusal):
            await self._limits.give_back_address(client.limit_key)
        return await self.try_address(client, bot)

    async def give_back(self, client: Client, bot: str) -> None:
        """Undo the charge of a request that turned out not to count."""
        await self._limits.give_back_address(client.limit_key, bot)

    async def caller(self, visit: Visit) -> Caller:
        """Give the session of the request's token. Raises `Refusal` 401, and 403 as `accept`."""
        return (await self.verified(visit)).caller

    async def verified(self, visit: Visit) -> Verified:
        """Give all that the request's token says, as `caller`."""
        token = visit.bearer
        if token is None:
            raise Refusal(TOKEN_MISSING)
        try:
            verified = self.tokens.verify(token, visit.user_agent)
        except Refusal as refusal:
            if self._observer.debugging:
                self._observer(Decided("token", f"{refusal.kind.code}: {refusal.__cause__ or 'not valid'}"))
            raise
        caller = verified.caller
        await self.accept(visit, caller)
        if self._observer.debugging:
            self._observer(Decided("token", f"session {caller.session_id[:6]}… of bot {caller.bot}"))
        return verified

    def bot(self, asked: str | None) -> str | None:
        """Give the bot that is meant; None where none has the name, or a name is needed to choose one of several."""
        if asked is not None:
            return asked if asked in self.bots else None
        if DEFAULT in self.bots:
            return DEFAULT
        return next(iter(self.bots)) if len(self.bots) == 1 else None

    def check_origin(self, visit: Visit, bot: str) -> None:
        """Refuse a website that is allowed for another bot only."""
        origins = self.bots[bot]
        if origins is None:
            return
        if not origins.decide(visit.given.get(b"origin"), visit.given.get(b"host")).served:
            raise Refusal(ORIGIN_NOT_ALLOWED)

    async def accept(self, visit: Visit, caller: Caller) -> None:
        """Refuse a session that was erased, whose bot is no longer configured, or which another website uses."""
        if caller.bot not in self.bots or await self._sessions.is_erased(caller.session_id):
            raise Refusal(TOKEN_INVALID)
        self.check_origin(visit, caller.bot)
