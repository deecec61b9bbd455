"""A visitor's earlier messages, in a mode that keeps them (docs/http-api.md)."""

from chatcore.archive_query import mark_text, parse_messages, time_text
from chatcore.asgi import Receive, Scope, Send, respond_json, visit_of
from chatcore.errors import NOT_STORED, Refusal
from chatcore.gate import Gate
from chatcore.ports import Archive


class HistoryRoutes:
    """The handler of `/api/v1/history`."""

    def __init__(self, gate: Gate, archive: Archive | None) -> None:
        self._gate = gate
        self._archive = archive

    async def show(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /api/v1/history: the last messages of the token's session, or those before a mark."""
        caller = await self._gate.caller(visit_of(scope))
        if self._archive is None:
            raise Refusal(NOT_STORED, "This server does not store messages; the history is kept in the browser.")
        before, limit = parse_messages(scope["query_string"])
        page = await self._archive.history(caller.session_id, before, limit)
        messages = [
            {
                "message_id": message.message_id,
                "role": message.role,
                "content": message.content,
                "created_at": time_text(message.created_at),
            }
            for message in page.messages
        ]
        await respond_json(send, 200, {"messages": messages, "next_before": mark_text(page.before)})
