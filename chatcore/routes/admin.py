"""For operators with an admin token: analytics. A mode that stores nothing says so."""

from chatcore.asgi import Receive, Scope, Send
from chatcore.errors import NOT_STORED, Refusal


async def analytics(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
    """GET /api/v1/admin/analytics in a mode without a store."""
    raise Refusal(NOT_STORED, "This mode stores no analytics; /metrics has counters since the start.")
