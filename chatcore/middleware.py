"""Around every request, outermost first: Traced (span), Observed (id), Cors (origin), Refusals (error -> answer)."""

from starlette.exceptions import HTTPException

from chatcore.asgi import App, Header, Message, Receive, Scope, Send, Visit, respond, respond_refusal, visit_of
from chatcore.cors import Origins
from chatcore.error_shapes import is_drop_in, is_openai
from chatcore.errors import INTERNAL_ERROR, NOT_FOUND, ORIGIN_NOT_ALLOWED, STORE_UNAVAILABLE, Refusal
from chatcore.live import ClientGoneError
from chatcore.logs import request_id
from chatcore.observe import Crashed, Decided, Observer, RequestEnded
from chatcore.ports import Clock, StoreUnavailableError
from chatcore.spans import current, read_context
from chatcore.tracing import Tracer

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
_SHOWN = 100  # characters of what a client made up
_PUBLIC = ("/widget/",)
_OPEN = frozenset({"/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"})
_UNTRACED = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
_ANY_ORIGIN: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
_ANY_PREFLIGHT: tuple[Header, ...] = (
    (b"access-control-allow-methods", b"GET, POST"),
    # `*` does not cover Authorization (Fetch standard, 4.8).
    (b"access-control-allow-headers", b"Authorization, *"),
    (b"access-control-max-age", b"7200"),
)


class Traced:
    """Gives each request a span, but for those of probes."""

    def __init__(self, app: App, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["path"] in _UNTRACED:
            current.set(None)  # a pipelined request may come from inside the one before it
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        about: dict[str, str | int] = {"http.request.method": method, "url.scheme": scope["scheme"]}
        span = self._tracer.begin(
            "HTTP" if method == "_OTHER" else method, "server", read_context(scope["headers"]), about
        )
        current.set(span)
        error = None
        try:
            await self._app(scope, receive, send)
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            visit = visit_of(scope)
            about["chatcore.request_id"] = visit.request_id
            if visit.route.startswith("/"):
                span.name = f"{span.name} {visit.route}"
                about["http.route"] = visit.route
            if visit.status:
                about["http.response.status_code"] = visit.status
            if visit.code is not None:
                about["chatcore.code"] = visit.code
            if error is None and visit.status >= INTERNAL_ERROR.status:
                error = visit.code or str(visit.status)
            self._tracer.end(span, error)


class Observed:
    """Gives each request its id, adds the headers that every answer has, and tells what came of it."""

    def __init__(self, app: App, clock: Clock, observer: Observer) -> None:
        self._app = app
        self._clock = clock
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        clock = self._clock
        visit = Visit(scope, self._fresh_id, clock.monotonic())
        scope["chatcore.visit"] = visit
        # Each request has a task of its own, so the variable needs no reset; the reply's task inherits it.
        request_id.set(visit.request_id)

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                message["headers"] = [*message["headers"], *visit.headers]
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "(other)"
            seconds = clock.monotonic() - visit.started
            self._observer(RequestEnded(method, visit.route, visit.status, seconds, visit.code))

    def _fresh_id(self) -> str:
        return self._clock.token_bytes(8).hex()


class Cors:
    """Decides about the origin before anything else happens."""

    def __init__(self, app: App, origins: Origins, observer: Observer) -> None:
        self._app = app
        self._origins = origins
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        visit = visit_of(scope)
        path: str = scope["path"]
        preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in visit.given
        if path.startswith(_PUBLIC) and scope["method"] in ("GET", "HEAD"):
            visit.headers.extend(_ANY_ORIGIN)
        elif is_openai(path):  # whoever holds a key may use it from anywhere
            visit.headers.append(_ANY_ORIGIN[0])
            if preflight:
                visit.route = "(preflight)"
                await respond(send, 204, b"", *_ANY_PREFLIGHT)
                return
        elif path not in _OPEN:
            given = visit.given
            origin = given.get(b"origin")
            if origin is not None and len(given) != len(scope["headers"]):
                origin = b", ".join(value for name, value in scope["headers"] if name == b"origin")
            decision = self._origins.decide(origin, given.get(b"host"))
            if self._observer.debugging:
                self._observer(Decided("origin", _told(origin, served=decision.served)))
            if not decision.served:
                visit.headers.extend(decision.headers)
                await respond_refusal(send, visit, Refusal(ORIGIN_NOT_ALLOWED))
                return
            if preflight:
                visit.route = "(preflight)"
                asked = given.get(b"access-control-request-headers")
                lines = self._origins.preflight(decision, asked, any_header=is_drop_in(path))
                await respond(send, 204, b"", *lines)
                return
            visit.headers.extend(decision.headers)
        await self._app(scope, receive, send)


class Refusals:
    """Turns what was raised into the answer that the contract names, once."""

    def __init__(self, app: App, observer: Observer) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        visit = visit_of(scope)
        try:
            await self._app(scope, receive, send)
        except ClientGoneError:
            visit.code = "client_gone"
        except Refusal as refusal:
            await self._answer(send, visit, refusal)
        except StoreUnavailableError:
            await self._answer(send, visit, Refusal(STORE_UNAVAILABLE, retry_after=5))
        except HTTPException as error:  # Starlette's router found no route
            found = error.status_code != NOT_FOUND.status
            if found:
                self._observer(Crashed(visit.route, error))
            await self._answer(send, visit, Refusal(INTERNAL_ERROR if found else NOT_FOUND))
        except Exception as error:
            self._observer(Crashed(visit.route, error))
            visit.code = INTERNAL_ERROR.code
            if visit.status:
                raise  # too late for a status: the server cuts the connection, so nobody takes it for a whole answer
            await self._answer(send, visit, Refusal(INTERNAL_ERROR))

    async def _answer(self, send: Send, visit: Visit, refusal: Refusal) -> None:
        if self._observer.debugging:
            where = f" ({', '.join(fault.field[:_SHOWN] for fault in refusal.errors)})" if refusal.errors else ""
            self._observer(Decided("refused", f"{refusal.kind.code}{where}: {refusal.detail}"))
        if visit.status:
            raise refusal
        await respond_refusal(send, visit, refusal)


def _told(origin: bytes | None, *, served: bool) -> str:
    """Say for the log what was decided about an origin, whatever a client wrote into it."""
    if origin is None:
        return "no Origin, served"
    shown = ascii(origin[:_SHOWN].decode("latin-1"))
    return f"{shown} is {'allowed' if served else 'not allowed: ALLOWED_ORIGINS does not have it'}"
