"""What the core needs from outside, as narrow protocols. Adapters are structural: nobody inherits from these.

Every protocol has at most four methods and belongs to the part of the core that calls it. Backends that fail raise
`StoreUnavailableError`; everything else that escapes an adapter is a bug.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol

import msgspec

from chatcore.analytics import Query, Report
from chatcore.archive import AuditPage, Deed, Mark, MessagePage, SessionPage, SessionQuery
from chatcore.model import Actor, Delta, Outcome, ReplyEvent, Turn, TurnKey


class StoreUnavailableError(Exception):
    """A backend cannot do its work right now."""


class StoreFaultError(Exception):
    """A store cannot be opened as it is: `problem` says why, `advice` what to do. Nothing was changed."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice


class Trouble(msgspec.Struct, frozen=True):
    """A part of the stores that does not work as it should, in a sentence for operators.

    `refuses`: new messages are refused for it; else chat goes on by a declared fallback.
    """

    detail: str
    refuses: bool = False


class Clock(Protocol):
    """Time and randomness, so that tests move the one and fix the other."""

    def now(self) -> float:
        """Seconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        ...

    def token_bytes(self, count: int) -> bytes:
        """Unpredictable bytes."""
        ...


class Level(msgspec.Struct, frozen=True, gc=False):
    """What a counter says: whether the charge was admitted, what remains, and the waits in seconds.

    `retry_after` is 0 when admitted. `full_after` is when the allowance is whole again.
    """

    admitted: bool
    remaining: int
    retry_after: float
    full_after: float


class CounterStore(Protocol):
    """Counters behind the rate limits (`ratelimit` calls it). Keys are opaque, at most 200 characters.

    The adapter brings its own clock (Redis uses the server's), so that all who share a counter agree on the time.
    """

    async def take(self, key: str, interval: float, burst: int) -> Level:
        """GCRA: admit one cell if the bucket of `burst` cells, refilled one each `interval` seconds, holds one."""
        ...

    async def give_back(self, key: str, interval: float) -> None:
        """Undo one `take` that turned out not to count."""
        ...

    async def count(self, key: str, limit: int, until: float) -> Level:
        """Count one in a fixed window that ends at `until` (epoch seconds), unless `limit` is reached."""
        ...

    async def uncount(self, key: str) -> None:
        """Undo one `count`."""
        ...


class ReplyText(Protocol):
    """One reply's events for its readers: number 1 is the start, then its deltas, then perhaps an error, last the end.

    `created` is on the monotonic clock.
    """

    turn_key: TurnKey
    created: float
    outcome: Outcome | None

    def read(self, after: int, max_chars: int) -> Sequence[Delta]:
        """Give the deltas behind event number `after`, about `max_chars` of text at most, at least one if any.

        Raises `Refusal` (`reply_gone`) where they were dropped meanwhile.
        """
        ...

    def count(self) -> int:
        """Tell how many deltas there are."""
        ...

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher`, which is quick, after every change."""
        ...

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Call it no more; also while it is being called."""
        ...


class ReplyRecord(ReplyText, Protocol):
    """The same reply for its owner, who adds to it."""

    def append(self, deltas: Sequence[Delta]) -> None:
        """Add text. Raises `Refusal`: `reply_too_large`, `overloaded`, `reply_gone` where it was dropped meanwhile."""
        ...

    def finish(self, outcome: Outcome) -> None:
        """End the reply; nothing may be added afterwards."""
        ...


class ReplyLog(Protocol):
    """Where the replies are kept, in flight and for a while afterwards (`live` calls it)."""

    async def claim(self, turn: Turn) -> ReplyRecord | None:
        """Make a record for `turn`, or None where its key is taken. Raises `Refusal` (`overloaded`) when full."""
        ...

    async def find(self, key: TurnKey, text: str | None = None) -> ReplyText | None:
        """Give the reply of `key`. Raises `Refusal` (`message_id_reused`) where it was made for another text."""
        ...

    async def drop(self, key: TurnKey | str) -> None:
        """Forget the reply of a key, or all replies of a session id."""
        ...

    def sweep(self, now: float) -> None:
        """Forget what was kept long enough (monotonic seconds)."""
        ...


class SessionStore(Protocol):
    """What is remembered of sessions and their turns (`proxy` calls it).

    Opening and closing a turn begin at once; what they give back resolves when it is durable, None means nothing is
    to be waited for. So the store works while n8n thinks, and a mode without a store costs nothing.
    """

    def open_turn(self, turn: Turn) -> Awaitable[object] | None:
        """Record that `turn` was accepted."""
        ...

    def close_turn(self, turn: Turn, outcome: Outcome, reply: ReplyRecord) -> Awaitable[object] | None:
        """Record how the turn ended and what `reply` says. `done` leaves when that survives a crash.

        May raise `StoreUnavailableError` when awaited, in a mode that must not say `done` otherwise.
        """
        ...

    async def erase(self, session_id: str, by: Actor) -> None:
        """Forget everything of the session and keep it dead. Raises `StoreUnavailableError`."""
        ...

    async def is_erased(self, session_id: str) -> bool:
        """Tell whether the session was erased."""
        ...


class Analytics(Protocol):
    """The figures of what happened (the routes for operators call it, and those that count ratings)."""

    async def report(self, query: Query) -> Report:
        """Add up what the query asks for. Raises `StoreUnavailableError`."""
        ...

    async def rate(self, key: TurnKey, rating: Literal["up", "down"], comment: str | None) -> None:
        """Count a visitor's rating of a reply; a later one of the same reply takes its place."""
        ...


class Peers(Protocol):
    """The other instances that may run replies of the same visitors (`live` calls it)."""

    def listen(self, stop: Callable[[TurnKey | str], Awaitable[object]]) -> None:
        """Await `stop` of the key of a reply, or the session id, that another instance wants stopped here."""
        ...

    async def stop(self, key: TurnKey) -> None:
        """Have a reply stopped by whoever runs it; returns when it has ended. Raises `StoreUnavailableError`."""
        ...

    async def stop_all(self, session_id: str) -> None:
        """Have every reply of a session stopped wherever it runs. Raises `StoreUnavailableError`."""
        ...


class Archive(Protocol):
    """The messages that a mode keeps (the routes for visitors' history and for operators call it).

    All raise `StoreUnavailableError`.
    """

    async def history(self, session_id: str, before: Mark | None, limit: int) -> MessagePage:
        """Give the last `limit` messages of a session, those before a mark where one is given."""
        ...

    async def search(self, query: SessionQuery) -> SessionPage:
        """Give the sessions that an operator asks for, the latest first."""
        ...


class AuditTrail(Protocol):
    """The log of what operators did, which is only ever added to."""

    async def record(self, deed: Deed) -> None:
        """Add an entry, durable when this returns. Raises `StoreUnavailableError`."""
        ...

    async def page(self, before: int | None, limit: int) -> AuditPage:
        """Give the latest entries, or those before the entry of that number. Raises `StoreUnavailableError`."""
        ...


class Upstream(Protocol):
    """The n8n webhooks (`proxy` calls it)."""

    async def exchange(self, turn: Turn, sink: Callable[[Sequence[ReplyEvent]], None]) -> None:
        """Send `turn` once and put every event of the answer into `sink`; returns when the answer has ended.

        A failure is an event (`Failed`, the last one), not an exception. Cancelling closes the connection.
        """
        ...

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds): enforce deadlines, release held text, probe an open circuit."""
        ...

    def available(self, bot: str) -> bool:
        """Tell whether `bot`'s circuit is closed."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class ClientConnection(Protocol):
    """What the server tells of the connection a request came by: `scope["extensions"]["chatcore.connection"]`.

    `lost` turns true when the peer is gone; `on_lost` is then called once if set.
    """

    lost: bool
    on_lost: Callable[[], None] | None

    def abort(self) -> None:
        """Drop the connection at once, unsent bytes included."""
        ...

    def push(self, make: Callable[[], bytes]) -> bool:
        """Write more of a response body that has begun, at once; false where that cannot be now: nothing was made."""
        ...


class Lifecycle(Protocol):
    """What the server asks of the application while it stops (`serve` calls it)."""

    def begin_drain(self) -> None:
        """Readiness turns 503; everything is still served."""
        ...

    def refuse_new(self) -> None:
        """New messages get 503 `shutting_down`; resume and stop still work."""
        ...

    async def settle(self, grace_seconds: float) -> None:
        """Wait for open replies up to the grace, end the rest with an `error` and `done`, wait for their readers."""
        ...
