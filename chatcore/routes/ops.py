"""For machines that watch: health, readiness, metrics, the API's description."""

import hmac

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from chatcore.asgi import NO_STORE, Receive, Scope, Send, respond, respond_json, visit_of
from chatcore.errors import TOKEN_INVALID, TOKEN_MISSING, Refusal
from chatcore.health import Health
from chatcore.observe import Observer
from chatcore.ports import Clock


class OpsRoutes:
    """Handlers of `/health`, `/health/live`, `/health/ready`, `/metrics`."""

    def __init__(self, health: Health, metrics_token: str | None, clock: Clock, observer: Observer) -> None:
        self._health = health
        self._metrics_token = metrics_token
        self._clock = clock
        self._observer = observer
        self._started = clock.monotonic()
        self.draining = False

    async def health(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /health."""
        status, document = self._health.report(self._clock.monotonic() - self._started)
        await respond_json(send, status, document, NO_STORE)

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /health/live: the loop runs, or this would not be answered."""
        await respond_json(send, 200, {"status": "ok"}, NO_STORE)

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /health/ready: 200 while traffic may be sent here."""
        status, document = self._health.report(0.0)
        ready = status == 200 and not self.draining  # noqa: PLR2004 - OK
        said = "draining" if self.draining else document["status"]
        await respond_json(send, 200 if ready else 503, {"status": said}, NO_STORE)

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """GET /metrics: Prometheus text, behind a token where one is set."""
        if self._metrics_token is not None:
            given = visit_of(scope).bearer
            if given is None:
                raise Refusal(TOKEN_MISSING, "Send the metrics token as 'Authorization: Bearer <token>'.")
            if not hmac.compare_digest(given.encode(), self._metrics_token.encode()):
                raise Refusal(TOKEN_INVALID, "The metrics token is not the right one.")
        text = await self._observer.metrics.exposition()
        await respond(send, 200, text, (b"content-type", CONTENT_TYPE_LATEST.encode()), NO_STORE)
