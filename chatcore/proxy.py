"""One turn from start to end; the only place that knows the order. No Starlette, no aiohttp.

claim the message id → the store opens the turn while n8n thinks → n8n's events become the reply → the store closes
the turn → only then the reply ends for its readers.
"""

import asyncio
from collections.abc import Awaitable, Sequence

from chatcore.errors import INTERNAL_ERROR, STORE_UNAVAILABLE, UPSTREAM_EMPTY, Refusal
from chatcore.live import Live, Running
from chatcore.model import Delta, Failed, Outcome, ReplyEvent, Turn
from chatcore.observe import Crashed, Observe, ReplyEnded, ReplyStarted
from chatcore.ports import Clock, ReplyRecord, ReplyText, SessionStore, StoreUnavailableError, Upstream


class _Answer:
    """What n8n has said so far: the sink that an exchange writes to."""

    __slots__ = ("_clock", "_record", "failed", "first_text_at")

    def __init__(self, record: ReplyRecord, clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self.failed: Failed | None = None
        self.first_text_at: float | None = None

    def __call__(self, events: Sequence[ReplyEvent]) -> None:
        deltas = [event for event in events if isinstance(event, Delta)]
        if deltas:
            if self.first_text_at is None:
                self.first_text_at = self._clock.monotonic()
            self._record.append(deltas)
        if len(deltas) < len(events):
            last = events[-1]
            self.failed = last if isinstance(last, Failed) else self.failed


class Proxy:
    """Carries turns to n8n and their replies back."""

    def __init__(self, live: Live, sessions: SessionStore, upstream: Upstream, clock: Clock, observe: Observe) -> None:
        self.live = live
        self._sessions = sessions
        self._upstream = upstream
        self._clock = clock
        self._observe = observe

    async def send(self, turn: Turn) -> tuple[ReplyText, bool]:
        """Start the turn's reply, or join the one that was faster with the same message id (and give false).

        Raises `Refusal`: `overloaded`, `shutting_down`, `message_id_reused`, `store_unavailable`.
        """
        return await self.live.start(turn, self._converse)

    async def _converse(self, turn: Turn, running: Running) -> None:
        self._observe(ReplyStarted(turn.bot))
        answer = _Answer(running.record, self._clock)
        try:
            opened = self._sessions.open_turn(turn)
            refusal = await self._exchange(turn, running, answer)
            running.closing = True
            outcome = self._outcome(running, answer, refusal)
            await self._save(turn, running.record, outcome, opened)
        except StoreUnavailableError:  # `done` would mean that it is kept
            outcome = self._outcome(running, answer, Refusal(STORE_UNAVAILABLE))
        except Exception as error:  # noqa: BLE001 - whatever happens, readers must be told that the reply has ended
            self._observe(Crashed("turn", error))
            outcome = self._outcome(running, answer, Refusal(INTERNAL_ERROR))
        if turn.upload is not None:
            turn.upload.close()
        running.record.finish(outcome)
        if not outcome.sent:
            await self.live.log.drop(turn.key)  # n8n received nothing, so the same message id may run again
        self._report(turn, running.record, outcome, answer)

    async def _exchange(self, turn: Turn, running: Running, answer: _Answer) -> Refusal | None:
        """Talk to n8n; gives the refusal that is not an event of the answer."""
        if running.ending is not None:  # stopped before it began
            return running.ending if isinstance(running.ending, Refusal) else None
        try:
            await self._upstream.exchange(turn, answer)
        except Refusal as refusal:  # the record could not take more
            return refusal
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if running.ending is None or task is None:
                raise
            task.uncancel()
            return running.ending if isinstance(running.ending, Refusal) else None
        except Exception as error:  # noqa: BLE001 - a bug must end this reply, and no other, with an error
            self._observe(Crashed("upstream", error))
            return Refusal(INTERNAL_ERROR)
        return None

    def _outcome(self, running: Running, answer: _Answer, refusal: Refusal | None) -> Outcome:
        duration_ms = round((self._clock.monotonic() - running.record.created) * 1000)
        if running.ending == "stopped":
            return Outcome(finish_reason="stopped", duration_ms=duration_ms)
        failed = answer.failed
        if refusal is None and failed is not None:
            refusal = failed.refusal
        if refusal is None and answer.first_text_at is None:
            refusal = Refusal(UPSTREAM_EMPTY)
        if refusal is None:
            return Outcome(finish_reason="complete", duration_ms=duration_ms)
        sent = failed is None or failed.sent
        return Outcome(finish_reason="error", duration_ms=duration_ms, refusal=refusal.anew(), sent=sent)

    async def _save(self, turn: Turn, record: ReplyRecord, outcome: Outcome, opened: Awaitable[object] | None) -> None:
        if opened is not None:
            await opened
        closed = self._sessions.close_turn(turn, outcome, record)
        if closed is not None:
            await closed

    def _report(self, turn: Turn, record: ReplyRecord, outcome: Outcome, answer: _Answer) -> None:
        created = record.created
        first = None if answer.first_text_at is None else answer.first_text_at - created
        refusal = outcome.refusal
        self._observe(
            ReplyEnded(
                turn.bot,
                outcome.finish_reason,
                self._clock.monotonic() - created,
                first,
                None if refusal is None else refusal.kind.code,
                "" if answer.failed is None else answer.failed.reason,
            )
        )
