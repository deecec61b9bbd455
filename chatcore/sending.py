"""A checked message on its way to its reply: limits of session and day, the turn, the start.

What every client contract does alike once it knows who asks and what is asked.
"""

from chatcore.asgi import Visit
from chatcore.errors import Refusal
from chatcore.intake import ChatRequest
from chatcore.model import Caller, Turn, Upload
from chatcore.observe import Decided, Observer
from chatcore.ports import Clock, ReplyText
from chatcore.proxy import Proxy
from chatcore.ratelimit import Limits, Standing


class Sending:
    """Starts replies."""

    def __init__(self, proxy: Proxy, limits: Limits, clock: Clock, observer: Observer) -> None:
        self._proxy = proxy
        self._limits = limits
        self._clock = clock
        self._observer = observer

    async def start(
        self, visit: Visit, caller: Caller, request: ChatRequest, limit_key: str, upload: Upload | None = None
    ) -> tuple[ReplyText, Standing | None]:
        """Charge session and day, and start the reply, or join the one that was faster with the same message id.

        `limit_key` is what the day's limit for an address counts by. Gives also where the client stands. Raises
        `Refusal` as `Limits.admit_session` and `Proxy.send`; nothing stays charged here then.
        """
        self._proxy.live.admit()
        standing = await self._limits.admit_session(caller.session_id, caller.bot, limit_key)
        origin = visit.given.get(b"origin")
        turn = Turn(
            session_id=caller.session_id,
            bot=caller.bot,
            message_id=request.message_id or fresh_uuid(self._clock.token_bytes(16)),
            text=request.message,
            received_at=self._clock.now(),
            origin=None if origin is None else origin.decode("latin-1"),
            page_url=request.page_url,
            user_agent=visit.user_agent,
            user=caller.user,
            metadata=request.metadata,
            history=request.history,
            upload=upload,
        )
        if self._observer.debugging:
            if standing is not None:
                self._observer(Decided("session and day limit", f"{standing.remaining} of {standing.limit} left"))
            self._observer(Decided("chat", f"message of {len(turn.text)} characters accepted for bot {turn.bot}"))
        try:
            record, begun = await self._proxy.send(turn)
        except Refusal:
            await self._limits.give_back_session(caller.session_id, caller.bot, limit_key)
            raise
        if not begun:  # the same message came twice at once
            await self._limits.give_back_session(caller.session_id, caller.bot, limit_key)
        if upload is not None:
            # No client is answered while it still sends: many do not read then, and the status is not known yet.
            await (upload.settled() if begun else upload.discard())
        return record, standing


def fresh_uuid(random: bytes) -> str:
    """Give a version 4 UUID (RFC 9562, 5.4); the standard library's object would cost more than all of its use."""
    digits = random.hex()
    variant = "89ab"[random[8] & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
