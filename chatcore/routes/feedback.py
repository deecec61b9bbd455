"""A visitor's rating of a reply: counted, and where the mode keeps figures, kept with them (docs/http-api.md)."""

from chatcore.asgi import Receive, Scope, Send, read_body, respond, visit_of
from chatcore.gate import Gate
from chatcore.intake import media_type, parse_feedback
from chatcore.observe import FeedbackGiven, Observer
from chatcore.ports import Analytics
from chatcore.routes.chat import message_id_of
from chatcore.settings import IntakeSettings


class FeedbackRoutes:
    """The handler of `/api/v1/chat/{message_id}/feedback`."""

    def __init__(self, gate: Gate, analytics: Analytics | None, settings: IntakeSettings, observer: Observer) -> None:
        self._gate = gate
        self._analytics = analytics
        self._settings = settings
        self._observer = observer

    async def rate(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /api/v1/chat/{message_id}/feedback: count a rating."""
        visit = visit_of(scope)
        caller = await self._gate.caller(visit)
        message_id = message_id_of(scope)
        media_type(visit.given.get(b"content-type"))
        feedback = parse_feedback(await read_body(visit, receive, self._settings.max_body_bytes))
        if self._analytics is not None:
            await self._analytics.rate((caller.session_id, message_id), feedback.rating, feedback.comment)
        self._observer(FeedbackGiven(caller.bot, feedback.rating))
        await respond(send, 204, b"")
