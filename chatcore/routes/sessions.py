"""Sessions: issue, look at, refresh, erase (docs/http-api.md)."""

from datetime import UTC, datetime
from typing import Any

from chatcore.asgi import Receive, Scope, Send, Visit, read_body, respond, respond_json, visit_of
from chatcore.clientaddr import Client
from chatcore.errors import CHALLENGE_FAILED, INVALID_REQUEST, TOKEN_MISSING, FieldFault, Refusal
from chatcore.gate import Gate, limit_first, tell_standing
from chatcore.intake import media_type, parse_session
from chatcore.live import Live
from chatcore.model import VISITOR, Actor
from chatcore.observe import Observer, SessionHappened
from chatcore.ports import SessionStore
from chatcore.ratelimit import Standing
from chatcore.settings import Settings
from chatcore.tokens import Issued
from chatcore.upstream import N8nUpstream


class SessionRoutes:
    """Handlers of `/api/v1/session` and `/api/v1/session/refresh`."""

    def __init__(
        self,
        gate: Gate,
        sessions: SessionStore,
        live: Live,
        upstream: N8nUpstream,
        settings: Settings,
        observer: Observer,
    ) -> None:
        self._gate = gate
        self._sessions = sessions
        self._live = live
        self._upstream = upstream
        self._challenge = settings.challenge
        self._settings = settings.intake
        self._features = {
            "history": settings.intake.accept_history,
            "resume": True,
            "uploads": settings.uploads.told,
        }
        self._observer = observer

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /api/v1/session."""
        visit = visit_of(scope)
        client = self._gate.client(scope)
        charged = await self._gate.try_address(client)
        if isinstance(charged, Refusal) and not self._gate.own_rates:
            raise charged
        with limit_first(charged):
            body = await read_body(visit, receive, self._settings.max_body_bytes)
            if body or b"content-type" in visit.given:
                media_type(visit.given.get(b"content-type"))
            request = parse_session(body)
            bot = self._bot(request.bot)
        _note(visit, await self._gate.of_bot(client, bot, charged))
        self._gate.check_origin(visit, bot)
        user = None if request.identity_token is None else self._gate.tokens.identity(request.identity_token)
        await self._check_challenge(client, request.challenge_token)
        issued = self._gate.tokens.issue(visit.user_agent, bot, user)
        self._observer(SessionHappened("issued", bot))
        await respond_json(send, 201, self._document(issued))

    async def show(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /api/v1/session."""
        verified = await self._gate.verified(visit_of(scope))
        document = {
            "session_id": verified.caller.session_id,
            "issued_at": _time(verified.issued_at),
            "expires_at": _time(verified.expires_at),
        }
        await respond_json(send, 200, document)

    async def refresh(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """POST /api/v1/session/refresh: also for a token that expired a while ago."""
        visit = visit_of(scope)
        client = self._gate.client(scope)
        charged = await self._gate.try_address(client)
        token = visit.bearer
        with limit_first(charged):
            if token is None:
                raise Refusal(TOKEN_MISSING)
            caller = self._gate.tokens.refreshable(token, visit.user_agent).caller
        _note(visit, await self._gate.of_bot(client, caller.bot, charged))
        await self._gate.accept(visit, caller)
        issued = self._gate.tokens.refresh(token, visit.user_agent)
        self._observer(SessionHappened("refreshed", caller.bot))
        await respond_json(send, 200, self._document(issued))

    async def erase(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """DELETE /api/v1/session: stop its replies and forget what is kept of it."""
        caller = await self._gate.caller(visit_of(scope))
        by = Actor(VISITOR, self._gate.client(scope).limit_key)
        try:
            await self._sessions.erase(caller.session_id, by)
        finally:  # also where the store has to do it later
            await self._live.erase(caller.session_id)
        self._observer(SessionHappened("erased", caller.bot))
        await respond(send, 204, b"")

    def _bot(self, asked: str | None) -> str:
        bot = self._gate.bot(asked)
        if bot is None:
            said = "There is no bot of this name." if asked else "Say which bot: this server has several."
            raise Refusal(INVALID_REQUEST, said, errors=[FieldFault("bot", said)])
        return bot

    async def _check_challenge(self, client: Client, answer: str | None) -> None:
        if self._challenge is None:
            return
        if not answer:
            raise Refusal(CHALLENGE_FAILED, "Please complete the check that you are human.")
        passed = await self._upstream.passes_challenge(self._challenge, answer, client.address)
        if passed is None:
            # Closed when in doubt: a check that can be switched off by breaking it would be none.
            raise Refusal(CHALLENGE_FAILED, "The check could not be made right now. Please try again.", retry_after=5)
        if not passed:
            raise Refusal(CHALLENGE_FAILED)

    def _document(self, issued: Issued) -> dict[str, Any]:
        return {
            "session_id": issued.session_id,
            "token": issued.token,
            "issued_at": _time(issued.issued_at),
            "expires_at": _time(issued.expires_at),
            "expires_in_seconds": issued.expires_at - issued.issued_at,
            "features": self._features,
        }


def _note(visit: Visit, standing: Standing | Refusal | None) -> None:
    if isinstance(standing, Refusal):
        raise standing
    tell_standing(visit, standing)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
