"""For operators with an admin token: the figures of a mode that keeps some (docs/http-api.md)."""

import hmac
from collections.abc import Collection, Mapping
from math import ceil

from chatcore.analytics import document
from chatcore.analytics_query import parse_query
from chatcore.asgi import Receive, Scope, Send, respond_json, visit_of
from chatcore.errors import NOT_FOUND, NOT_STORED, RATE_LIMITED, TOKEN_INVALID, TOKEN_MISSING, Refusal
from chatcore.gate import Gate
from chatcore.observe import AdminRefused, Observer
from chatcore.ports import Analytics, Clock, CounterStore

WRONG_TOKENS_A_MINUTE = 5
_INTERVAL = 60 / WRONG_TOKENS_A_MINUTE


class AdminRoutes:
    """Handlers below `/api/v1/admin`."""

    def __init__(
        self,
        gate: Gate,
        analytics: Analytics | None,
        counters: CounterStore,
        tokens: Mapping[str, str],
        bots: Collection[str],
        clock: Clock,
        observer: Observer,
    ) -> None:
        """`tokens`: the operators' names and their secrets."""
        self._gate = gate
        self._analytics = analytics
        self._counters = counters
        self._secrets = [secret.encode() for secret in tokens.values()]
        self._bots = bots
        self._clock = clock
        self._observer = observer

    async def analytics(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /api/v1/admin/analytics."""
        if self._analytics is None:
            raise Refusal(NOT_STORED, "This mode stores no analytics; /metrics has counters since the start.")
        await self._admit(scope)
        query = parse_query(scope["query_string"], self._bots, self._clock.now())
        await respond_json(send, 200, document(await self._analytics.report(query)))

    async def _admit(self, scope: Scope) -> None:
        """Refuse whoever has no admin token; only so many wrong ones are looked at."""
        if not self._secrets:
            raise Refusal(NOT_FOUND)
        given = visit_of(scope).bearer
        if given is None:
            raise Refusal(TOKEN_MISSING, "Send an admin token as 'Authorization: Bearer <token>'.")
        client = self._gate.client(scope)
        # Charged before it is looked at: else many at once would each find the allowance whole. Whoever has used it
        # up is not told of a right one either, or guessing would go on.
        key = f"admin:{client.limit_key}"
        level = await self._counters.take(key, _INTERVAL, WRONG_TOKENS_A_MINUTE)
        if not level.admitted:
            said = "Too many wrong tokens came from this address. Please wait a moment."
            raise Refusal(RATE_LIMITED, said, retry_after=max(1, ceil(level.retry_after)))
        token = given.encode("latin-1")
        matches = [hmac.compare_digest(token, secret) for secret in self._secrets]  # all, so that time tells nothing
        if not any(matches):
            self._observer(AdminRefused(client.masked))
            raise Refusal(TOKEN_INVALID, "The admin token is not the right one.")
        await self._counters.give_back(key, _INTERVAL)
