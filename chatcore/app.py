"""Assembly: settings + stores -> the application (routes, middleware, lifespan), and how it stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

import msgspec
from starlette.routing import Route, Router

from chatcore import __version__
from chatcore.asgi import App, Methods, Receive, Scope, Send
from chatcore.clientaddr import Addresses
from chatcore.cors import Origins
from chatcore.delivery import Delivery
from chatcore.gate import Gate
from chatcore.health import OK, Check, Health
from chatcore.live import Live
from chatcore.middleware import Cors, Observed, Refusals, Traced
from chatcore.observe import Crashed, Observer
from chatcore.ports import (
    Analytics,
    Archive,
    AuditTrail,
    Clock,
    CounterStore,
    Peers,
    ReplyLog,
    SessionStore,
    Trouble,
)
from chatcore.proxy import Proxy
from chatcore.ratelimit import Limits
from chatcore.routes.admin import AdminRoutes
from chatcore.routes.chat import ChatRoutes
from chatcore.routes.feedback import FeedbackRoutes
from chatcore.routes.history import HistoryRoutes
from chatcore.routes.n8n_chat import N8nChatRoutes
from chatcore.routes.openai import OpenAiRoutes
from chatcore.routes.operators import Operators, Programs
from chatcore.routes.ops import OpsRoutes
from chatcore.routes.pages import PageRoutes
from chatcore.routes.sessions import SessionRoutes
from chatcore.sending import Sending
from chatcore.settings import BotSettings, CorsSettings, Settings
from chatcore.tokens import Tokens
from chatcore.traced import traced
from chatcore.tracing import Tracer
from chatcore.upstream import N8nUpstream

TICK_SECONDS = 0.25


class Stores(Protocol):
    """One variant of `chatcore.stores`, as a main chose it."""

    @property
    def sessions(self) -> SessionStore:
        """What is remembered of sessions."""
        ...

    @property
    def counters(self) -> CounterStore:
        """What the limits count with."""
        ...

    @property
    def replies(self) -> ReplyLog:
        """Where replies are kept."""
        ...

    @property
    def analytics(self) -> Analytics | None:
        """The figures, in a mode that keeps some."""
        ...

    @property
    def archive(self) -> Archive | None:
        """The messages, in a mode that keeps them."""
        ...

    @property
    def audit(self) -> AuditTrail | None:
        """The log of what operators did, in a mode that keeps one."""
        ...

    @property
    def peers(self) -> Peers | None:
        """The other instances, in a mode that has some."""
        ...

    async def open(self) -> None:
        """Connect; nothing is asked of the stores before."""
        ...

    async def close(self) -> None:
        """Write what is left and disconnect; nothing is asked of the stores afterwards."""
        ...

    def release(self) -> None:
        """Give up what another server might want, whether it was opened or not."""
        ...

    def troubles(self) -> Mapping[str, Trouble | None]:
        """Say of each part by its name in `/health` what is wrong with it, None where all is well."""
        ...

    def tick(self, now: float) -> None:
        """Let time pass (monotonic seconds), four times a second."""
        ...


class Application:
    """The ASGI application; also the `Lifecycle` that the server steers when it stops."""

    def __init__(
        self, settings: Settings, stores: Stores, clock: Clock, observer: Observer, tracer: Tracer | None = None
    ) -> None:
        """Wire everything; nothing runs until the lifespan starts."""
        self._clock = clock
        self._stores = stores
        self._observer = observer
        tokens = Tokens(settings.tokens, clock)
        bots = settings.upstream.bots
        limits = Limits(settings.limits, bots, stores.counters, clock)
        self._upstream = N8nUpstream(
            settings.upstream, settings.replies.reply_memory_bytes, tokens, clock, observer, tracer
        )
        replies, sessions, observe = traced(stores.replies, stores.sessions, observer, tracer)
        self._live = Live(replies, settings.replies.max_replies_in_flight, clock, stores.peers)
        self._gate = Gate(
            Addresses(settings.limits.trusted_proxies),
            limits,
            tokens,
            stores.sessions,
            {name: _own_origins(bot, settings.cors) for name, bot in bots.items()},
            observer,
        )
        proxy = Proxy(self._live, sessions, self._upstream, clock, observe)
        sending = Sending(proxy, limits, clock, observer)
        delivery = Delivery(self._live, clock)
        checks = {"n8n": self._check_n8n, "service": self._check_service}
        health = Health(settings.mode, __version__, lambda: {**_asked(checks), **self._check_stores()})
        observer.metrics.health.read = health.numbers
        self._ops = OpsRoutes(health, settings.operations.metrics_token, clock, observer)
        self._bots = tuple(bots)
        routes = _routes(
            ChatRoutes(self._gate, self._live, sending, delivery, settings.intake, settings.uploads, observer),
            SessionRoutes(self._gate, stores.sessions, self._live, self._upstream, settings, observer),
            self._ops,
            PageRoutes(settings),
            FeedbackRoutes(self._gate, stores.analytics, settings.intake, observer),
            HistoryRoutes(self._gate, stores.archive),
            N8nChatRoutes(self._gate, sending, delivery, self._upstream, stores.archive, settings, clock),
            OpenAiRoutes(
                Programs(self._gate, stores.counters, settings.operations.openai_api_keys, clock, observer),
                self._gate,
                self._live,
                sending,
                delivery,
                stores.sessions,
                settings.intake,
                clock,
            ),
            AdminRoutes(
                Operators(self._gate, stores.counters, settings.operations.admin_tokens, observer),
                stores.analytics,
                stores.archive,
                stores.audit,
                stores.sessions,
                self._live,
                bots,
                clock,
            ),
        )
        observer.begin(bots, routes)
        methods = {path: Methods(path, handlers) for path, handlers in routes.items()}
        self._exact = {path: handler for path, handler in methods.items() if "{" not in path}
        self._router = Router(
            [Route(path, handler) for path, handler in methods.items()],
            redirect_slashes=False,
            lifespan=self._lifespan,
        )
        app: App = Refusals(self._route, observer)
        observed = Observed(Cors(app, Origins(settings.cors), observer), clock, observer)
        self._app: App = observed if tracer is None else Traced(observed, tracer)
        observer.metrics.gauge("replies_in_flight", "Replies in flight.", lambda: len(self._live.running))
        observer.metrics.gauge("readers", "Clients that wait for a reply.", lambda: len(self._live.readers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, or the lifespan."""
        scope["app"] = self  # makes Starlette's router raise where it finds no route
        await (self._app if scope["type"] == "http" else self._router)(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the handler: a path without parameters by one look, the rest as Starlette does."""
        await self._exact.get(scope["path"], self._router)(scope, receive, send)

    def begin_drain(self) -> None:
        """Turn readiness to 503; everything is still served."""
        self._ops.draining = True

    def refuse_new(self) -> None:
        """Answer new messages 503 `shutting_down` from now on."""
        self._live.refusing = True

    async def settle(self, grace_seconds: float) -> None:
        """Let open replies end, see `Live.settle`, and their readers take the rest."""
        await self._live.settle(grace_seconds)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        await self._stores.open()
        ticker = asyncio.create_task(self._tick_for_ever())
        self._upstream.warm_up()
        try:
            yield
        finally:
            ticker.cancel()
            await self._upstream.close()
            await self._stores.close()

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self._clock.monotonic()
            for part in (self._live, self._upstream, self._stores):
                try:
                    part.tick(now)
                except Exception as error:  # noqa: BLE001 - a bug in one tick must not end all deadlines
                    self._observer(Crashed("tick", error))

    def _check_n8n(self) -> Check:
        shut = [bot for bot in self._bots if not self._upstream.available(bot)]
        if not shut:
            return OK
        said = f"no connection to n8n for: {', '.join(shut)}"
        return Check("unavailable" if len(shut) == len(self._bots) else "degraded", said)

    def _check_service(self) -> Check:
        if self._live.refusing:
            return Check("unavailable", "shutting down")
        if self._live.full:
            return Check("unavailable", "MAX_REPLIES_IN_FLIGHT is reached")
        if self._gate.proxies_suspicious:
            return Check("degraded", "forwarding headers come from a proxy that is not in TRUSTED_PROXIES")
        return OK

    def _check_stores(self) -> Mapping[str, Check]:
        return {
            name: OK if trouble is None else Check("unavailable" if trouble.refuses else "degraded", trouble.detail)
            for name, trouble in self._stores.troubles().items()
        }


def _asked(checks: Mapping[str, Callable[[], Check]]) -> Mapping[str, Check]:
    return {name: check() for name, check in checks.items()}


def _own_origins(bot: BotSettings, common: CorsSettings) -> Origins | None:
    """Give the origins of a bot that does not allow all that some bot allows."""
    if set(bot.allowed_origins) == set(common.allowed_origins):
        return None
    return Origins(msgspec.structs.replace(common, allowed_origins=bot.allowed_origins))


def _routes(
    chat: ChatRoutes,
    sessions: SessionRoutes,
    ops: OpsRoutes,
    pages: PageRoutes,
    feedback: FeedbackRoutes,
    history: HistoryRoutes,
    n8n_chat: N8nChatRoutes,
    openai: OpenAiRoutes,
    admin: AdminRoutes,
) -> Mapping[str, Mapping[str, App]]:
    """Give every path and its handlers by method; the busiest first, since the router asks in order."""
    return {
        "/api/v1/chat": {"POST": chat.send},
        "/api/v1/session": {"POST": sessions.create, "GET": sessions.show, "DELETE": sessions.erase},
        "/api/v1/session/refresh": {"POST": sessions.refresh},
        "/api/v1/chat/{message_id}": {"GET": chat.resume, "DELETE": chat.stop},
        "/api/v1/chat/{message_id}/feedback": {"POST": feedback.rate},
        "/api/v1/history": {"GET": history.show},
        "/chat": {"POST": n8n_chat.post},
        "/chat/{bot}": {"POST": n8n_chat.post},
        **openai.routes,
        "/health": {"GET": ops.health},
        "/health/live": {"GET": ops.live},
        "/health/ready": {"GET": ops.ready},
        "/metrics": {"GET": ops.metrics},
        "/api/v1/admin/analytics": {"GET": admin.analytics},
        "/api/v1/admin/sessions": {"GET": admin.sessions},
        "/api/v1/admin/sessions/{session_id}": {"DELETE": admin.erase},
        "/api/v1/admin/sessions/{session_id}/messages": {"GET": admin.messages},
        "/api/v1/admin/audit": {"GET": admin.audit},
        **pages.routes,
    }
