"""Which operator is asking: admin tokens, and how many wrong ones are looked at."""

import hmac
from collections.abc import Mapping
from math import ceil

from chatcore.asgi import Scope, visit_of
from chatcore.errors import NOT_FOUND, RATE_LIMITED, TOKEN_INVALID, TOKEN_MISSING, Refusal
from chatcore.gate import Gate
from chatcore.model import Actor
from chatcore.observe import AdminRefused, Observer
from chatcore.ports import CounterStore

WRONG_TOKENS_A_MINUTE = 5
_INTERVAL = 60 / WRONG_TOKENS_A_MINUTE


class Operators:
    """Asked by every route for operators."""

    def __init__(self, gate: Gate, counters: CounterStore, tokens: Mapping[str, str], observer: Observer) -> None:
        """`tokens`: the operators' names and their secrets."""
        self._gate = gate
        self._counters = counters
        self._secrets = [(name, secret.encode()) for name, secret in tokens.items()]
        self._observer = observer

    async def admit(self, scope: Scope) -> Actor:
        """Give the operator whose token came; refuse whoever has none. Only so many wrong ones are looked at."""
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
        # All are compared, so that time tells nothing.
        names = [name for name, secret in self._secrets if hmac.compare_digest(token, secret)]
        if not names:
            self._observer(AdminRefused(client.masked))
            raise Refusal(TOKEN_INVALID, "The admin token is not the right one.")
        await self._counters.give_back(key, _INTERVAL)
        return Actor(f"admin:{names[0]}", client.limit_key)
