"""For operators with an admin token: figures, kept conversations, the log of what operators did (docs/http-api.md).

Whatever is given of kept messages and figures is written into the audit log before, in a mode that has one.
"""

from collections.abc import Collection, Mapping
from typing import Any

from chatcore.analytics import Query, document
from chatcore.analytics_query import parse_query
from chatcore.archive import Action, Deed, FoundSession, Message, SessionQuery
from chatcore.archive_query import is_session_id, mark_text, parse_entries, parse_messages, parse_sessions, time_text
from chatcore.asgi import Receive, Scope, Send, respond, respond_json
from chatcore.errors import NOT_FOUND, NOT_STORED, Refusal
from chatcore.live import Live
from chatcore.model import Actor
from chatcore.ports import Analytics, Archive, AuditTrail, Clock, SessionStore
from chatcore.routes.operators import Operators


class AdminRoutes:
    """Handlers below `/api/v1/admin`."""

    def __init__(
        self,
        operators: Operators,
        analytics: Analytics | None,
        archive: Archive | None,
        audit: AuditTrail | None,
        sessions: SessionStore,
        live: Live,
        bots: Collection[str],
        clock: Clock,
    ) -> None:
        self._operators = operators
        self._analytics = analytics
        self._archive = archive
        self._audit = audit
        self._sessions = sessions
        self._live = live
        self._bots = bots
        self._clock = clock

    async def analytics(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /api/v1/admin/analytics."""
        if self._analytics is None:
            raise Refusal(NOT_STORED, "This mode stores no analytics; /metrics has counters since the start.")
        actor = await self._operators.admit(scope)
        query = parse_query(scope["query_string"], self._bots, self._clock.now())
        await self._note(actor, "analytics_read", _asked_figures(query))
        await respond_json(send, 200, document(await self._analytics.report(query)))

    async def sessions(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /api/v1/admin/sessions: list them, or search their messages."""
        archive = self._kept()
        actor = await self._operators.admit(scope)
        query = parse_sessions(scope["query_string"], self._bots)
        await self._note(actor, "sessions_searched", _asked_sessions(query))
        page = await archive.search(query)
        answer = {
            "sessions": [_session(session) for session in page.sessions],
            "next_before": mark_text(page.before),
            "truncated": page.truncated,
        }
        await respond_json(send, 200, answer)

    async def messages(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /api/v1/admin/sessions/{session_id}/messages: what was said in one session."""
        archive = self._kept()
        actor = await self._operators.admit(scope)
        session_id = _session_id(scope)
        before, limit = parse_messages(scope["query_string"])
        await self._note(actor, "transcript_read", {"limit": limit, "before": mark_text(before)}, session_id)
        page = await archive.history(session_id, before, limit)
        if before is None and not page.messages:
            raise Refusal(NOT_FOUND, "There is no such session, or none of its messages is kept any more.")
        answer = {
            "session_id": session_id,
            "messages": [_message(message) for message in page.messages],
            "next_before": mark_text(page.before),
        }
        await respond_json(send, 200, answer)

    async def erase(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """DELETE /api/v1/admin/sessions/{session_id}: as the visitor's own erasing, also of an unknown session."""
        self._kept()
        actor = await self._operators.admit(scope)
        session_id = _session_id(scope)
        try:
            await self._sessions.erase(session_id, actor)  # with its entry in the audit log
        finally:  # also where the store has to do it later
            await self._live.erase(session_id)
        await respond(send, 204, b"")

    async def audit(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /api/v1/admin/audit: what operators did, and who erased what."""
        if self._audit is None:
            raise Refusal(NOT_STORED, "This mode keeps no audit log.")
        actor = await self._operators.admit(scope)
        before, limit = parse_entries(scope["query_string"])
        await self._note(actor, "audit_read", {"limit": limit, "before": before})
        page = await self._audit.page(before, limit)
        entries = [
            {
                "number": entry.number,
                "at": time_text(entry.at),
                "actor": entry.actor,
                "action": entry.action,
                "session_id": entry.session_id,
                "address": entry.address,
                "detail": entry.detail,
            }
            for entry in page.entries
        ]
        await respond_json(send, 200, {"entries": entries, "next_before": page.before})

    def _kept(self) -> Archive:
        if self._archive is None:
            raise Refusal(NOT_STORED, "This mode stores no messages.")
        return self._archive

    async def _note(
        self, actor: Actor, action: Action, detail: Mapping[str, Any], session_id: str | None = None
    ) -> None:
        """Write down who does what before it is done; where that cannot be, it is not."""
        if self._audit is not None:
            deed = Deed(
                actor=actor.name, action=action, session_id=session_id, address=actor.address, detail=_given(detail)
            )
            await self._audit.record(deed)


def _given(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in detail.items() if value is not None}


def _session_id(scope: Scope) -> str:
    session_id: str = scope["path_params"]["session_id"]
    if not is_session_id(session_id):
        raise Refusal(NOT_FOUND, "This is not a session's id.")
    return session_id


def _asked_figures(query: Query) -> Mapping[str, Any]:
    return {
        "from": time_text(query.begin),
        "to": time_text(query.end),
        "interval": query.interval,
        "bot": query.bot,
    }


def _asked_sessions(query: SessionQuery) -> Mapping[str, Any]:
    return {
        "q": query.words,
        "origin": query.origin,
        "bot": query.bot,
        "from": None if query.begin is None else time_text(query.begin),
        "to": None if query.end is None else time_text(query.end),
        "before": mark_text(query.before),
        "limit": query.limit,
    }


def _session(session: FoundSession) -> Mapping[str, Any]:
    return {
        "session_id": session.session_id,
        "bot": session.bot,
        "origin": session.origin,
        "page": session.page,
        "client": session.client,
        "user": session.user,
        "created_at": time_text(session.created_at),
        "seen_at": time_text(session.seen_at),
        "messages": session.messages,
        "replies": session.replies,
        "errors": session.errors,
        "feedback_up": session.feedback_up,
        "feedback_down": session.feedback_down,
        "excerpt": session.excerpt,
    }


def _message(message: Message) -> Mapping[str, Any]:
    return {
        "message_id": message.message_id,
        "role": message.role,
        "content": message.content,
        "created_at": time_text(message.created_at),
        "finish_reason": message.finish_reason,
        "error_code": message.error_code,
        "duration_ms": message.duration_ms,
        "rating": message.rating,
        "comment": message.comment,
    }
