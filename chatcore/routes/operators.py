"""Who comes with one of the secrets that settings name: operators, programs with an API key; wrong ones are few.

Only so many wrong secrets are looked at from one address; then right ones are refused there too, or guessing would go
on.
"""

import hmac
from collections import OrderedDict
from collections.abc import Mapping
from math import ceil

from chatcore.asgi import Scope, visit_of
from chatcore.clientaddr import Client
from chatcore.errors import NOT_FOUND, RATE_LIMITED, TOKEN_INVALID, TOKEN_MISSING, Refusal
from chatcore.gate import Gate
from chatcore.model import Actor
from chatcore.observe import AdminRefused, KeyRefused, Observer
from chatcore.ports import Clock, CounterStore

WRONG_TOKENS_A_MINUTE = 5
_INTERVAL = 60 / WRONG_TOKENS_A_MINUTE
_MOST_SUSPECTS = 1000
_SUSPECT_SECONDS = 60.0


class Operators:
    """Asked by every route for operators."""

    def __init__(self, gate: Gate, counters: CounterStore, tokens: Mapping[str, str], observer: Observer) -> None:
        """`tokens`: the operators' names and their secrets."""
        self._gate = gate
        self._allowance = _Allowance("admin", "tokens", counters)
        self._secrets = _Secrets(tokens)
        self._observer = observer

    async def admit(self, scope: Scope) -> Actor:
        """Give the operator whose token came; refuse whoever has none."""
        if not self._secrets:
            raise Refusal(NOT_FOUND)
        given = visit_of(scope).bearer
        if given is None:
            raise Refusal(TOKEN_MISSING, "Send an admin token as 'Authorization: Bearer <token>'.")
        client = self._gate.client(scope)
        # Charged before it is looked at: else many at once would each find the allowance whole.
        await self._allowance.charge(client)
        name = self._secrets.name_of(given)
        if name is None:
            self._observer(AdminRefused(client.masked))
            raise Refusal(TOKEN_INVALID, "The admin token is not the right one.")
        await self._allowance.give_back(client)
        return Actor(f"admin:{name}", client.limit_key)


class Programs:
    """Asked by every route of OpenAI's API.

    Programs send many requests at once, so a right key is charged for nothing from an address that sent no wrong one
    lately. The last 1,000 addresses that did are remembered for a minute; beyond them the oldest is forgotten.
    """

    def __init__(
        self, gate: Gate, counters: CounterStore, keys: Mapping[str, str], clock: Clock, observer: Observer
    ) -> None:
        """`keys`: the programs' names and their secrets."""
        self._gate = gate
        self._allowance = _Allowance("openai", "keys", counters)
        self._secrets = _Secrets(keys)
        self._clock = clock
        self._observer = observer
        self._suspects: OrderedDict[str, float] = OrderedDict()

    def __bool__(self) -> bool:
        """Tell whether any program has a key."""
        return bool(self._secrets)

    async def admit(self, scope: Scope) -> str:
        """Give the name of the key that came; refuse whoever has none."""
        given = visit_of(scope).bearer
        if given is None:
            raise Refusal(TOKEN_MISSING, "Send an API key as 'Authorization: Bearer <key>'.")
        client = self._gate.client(scope)
        name = self._secrets.name_of(given)
        if name is not None and not self._is_suspect(client):
            return name
        if name is None:
            self._suspect(client)
        await self._allowance.charge(client)
        if name is None:
            self._observer(KeyRefused(client.masked))
            raise Refusal(TOKEN_INVALID, "The API key is not the right one.")
        await self._allowance.give_back(client)
        return name

    def _is_suspect(self, client: Client) -> bool:
        return self._clock.monotonic() < self._suspects.get(client.limit_key, 0.0)

    def _suspect(self, client: Client) -> None:
        self._suspects[client.limit_key] = self._clock.monotonic() + _SUSPECT_SECONDS
        self._suspects.move_to_end(client.limit_key)
        if len(self._suspects) > _MOST_SUSPECTS:
            self._suspects.popitem(last=False)


class _Secrets:
    """Secrets by the name of who holds them."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = [(name, secret.encode()) for name, secret in secrets.items()]

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def name_of(self, given: str) -> str | None:
        """Give whose secret it is; all are compared, so that time tells nothing."""
        raw = given.encode("latin-1")
        names = [name for name, secret in self._secrets if hmac.compare_digest(raw, secret)]
        return names[0] if names else None


class _Allowance:
    """How many wrong secrets of one kind are looked at from an address."""

    def __init__(self, kind: str, called: str, counters: CounterStore) -> None:
        self._kind = kind
        self._called = called
        self._counters = counters

    async def charge(self, client: Client) -> None:
        """Charge a look. Raises `Refusal` (`rate_limited`)."""
        level = await self._counters.take(self._key(client), _INTERVAL, WRONG_TOKENS_A_MINUTE)
        if not level.admitted:
            said = f"Too many wrong {self._called} came from this address. Please wait a moment."
            raise Refusal(RATE_LIMITED, said, retry_after=max(1, ceil(level.retry_after)))

    async def give_back(self, client: Client) -> None:
        """Undo the charge of a right one."""
        await self._counters.give_back(self._key(client), _INTERVAL)

    def _key(self, client: Client) -> str:
        return f"{self._kind}:{client.limit_key}"
