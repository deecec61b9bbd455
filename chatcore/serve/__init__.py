"""uvicorn as we need it: limits on what clients may do, a drain with the door still open, an honest exit status."""

import asyncio
import contextlib
import gc
import resource
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import uvicorn
import uvloop
from starlette.types import ASGIApp

from chatcore.observe import Crashed, Observe, ServerHappened
from chatcore.ports import Lifecycle
from chatcore.serve.connection import Connection
from chatcore.serve.listening import BACKLOG, EXIT_CANNOT_LISTEN, address, bind, cannot_listen
from chatcore.serve.service import Limits, Service
from chatcore.serve.stopping import Orders, Signals, Stop
from chatcore.settings import ServerSettings

if TYPE_CHECKING:  # only several workers need it loaded
    from chatcore.serve.workers import Place

__all__ = ["EXIT_APPLICATION", "EXIT_CANNOT_LISTEN", "EXIT_STOPPED", "Before", "Limits", "run", "serve"]

EXIT_STOPPED = 0  # asked to stop, and stopped
EXIT_APPLICATION = 1  # the application could not start, or failed while it stopped

Before = Callable[[], Awaitable[None]]

_GC_THRESHOLD = 20_000


def serve(
    app: ASGIApp,
    settings: ServerSettings,
    lifecycle: Lifecycle,
    observe: Observe,
    *,
    limits: Limits | None = None,
    before: Sequence[Before] = (),
    place: "Place | None" = None,
) -> int:
    """Serve `app` in a loop of its own until SIGTERM or SIGINT; give the exit status.

    All of `before` run first in the same loop (the demo's stand-in starts there). The first signal begins the drain, a
    second ends it at once, a third kills. 0: stopped as asked. 1: the application failed to start or to stop. 2: cannot
    listen, with one line on standard error. A worker of several is given its `place`: it serves on sockets that others
    serve on too, and obeys the process that started it instead of signals.
    """
    _raise_descriptor_limit(settings.descriptors_wanted, observe)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(app, settings, lifecycle, observe, limits=limits, before=before, place=place))


async def run(
    app: ASGIApp,
    settings: ServerSettings,
    lifecycle: Lifecycle,
    observe: Observe,
    *,
    limits: Limits | None = None,
    before: Sequence[Before] = (),
    place: "Place | None" = None,
) -> int:
    """Do as `serve` in the running loop; the main thread's, since it takes the signals."""
    limits = limits or Limits()
    stop: Stop = Signals() if place is None else Orders(place.line)
    try:
        sockets = bind(settings.host, settings.port) if place is None else place.sockets
    except OSError as error:
        return cannot_listen(settings, error)
    with contextlib.ExitStack() as stack:
        for bound in sockets:
            stack.enter_context(bound)
        for first in before:
            await first()
        service = Service(app, settings.max_connections, limits, observe)
        server = _uvicorn(service, limits)
        try:
            await server.startup(sockets)
        except SystemExit:  # uvicorn's word for a lifespan that failed; it has logged why
            return EXIT_APPLICATION
        except OSError as error:
            await server.lifespan.shutdown()
            return cannot_listen(settings, error)
        service.watch()
        _settle_memory()
        observe(ServerHappened("listening", address(settings.host, sockets[0])))
        stop.serving()
        settled = await _drain(stop, settings, lifecycle, service)
        service.stop_watching()
        await server.shutdown(sockets)
    observe(ServerHappened("stopped"))
    return EXIT_STOPPED if settled and not server.lifespan.should_exit else EXIT_APPLICATION


async def _drain(stop: Stop, settings: ServerSettings, lifecycle: Lifecycle, service: Service) -> bool:
    """Wait for the first signal, then let the application end its work; the door stays open. False: it failed to."""
    await stop.first.wait()
    observe = service.observe
    service.draining = True
    lifecycle.begin_drain()
    observe(ServerHappened("drain_begun"))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.second.wait(), settings.shutdown_delay_seconds)
    lifecycle.refuse_new()
    observe(ServerHappened("new_refused"))
    hurry = asyncio.ensure_future(stop.second.wait())
    try:
        if not hurry.done() and not stop.second.is_set():
            patient = asyncio.ensure_future(lifecycle.settle(settings.shutdown_grace_seconds))
            await asyncio.wait({patient, hurry}, return_when=asyncio.FIRST_COMPLETED)
            if patient.done():
                await patient
                return True
            patient.cancel()
            await asyncio.wait({patient})
        await lifecycle.settle(0.0)
    except Exception as error:  # noqa: BLE001 - a bug there must not keep the process from ending
        observe(Crashed("settle", error))
        return False
    finally:
        hurry.cancel()
    return True


def _uvicorn(service: Service, limits: Limits) -> uvicorn.Server:
    """Give uvicorn's server with our connections, and none of what it takes from the environment or logs itself."""

    def connection(*, app_state: dict[str, Any], **_: Any) -> Connection:
        return Connection(service, app_state)

    config = uvicorn.Config(
        service.app,
        http=cast("type[asyncio.Protocol]", connection),
        ws="none",
        interface="asgi3",
        lifespan="on",
        backlog=BACKLOG,
        timeout_graceful_shutdown=limits.flush_seconds,
        workers=1,
        forwarded_allow_ips="",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    service.connections = cast("set[Connection]", server.server_state.connections)
    service.tasks = server.server_state.tasks
    return server


def _settle_memory() -> None:
    """Keep the collector from walking over what start-up left: it lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)


def _raise_descriptor_limit(wanted: int, observe: Observe) -> None:
    """Raise the soft limit on descriptors to `wanted` (0: leave it), as far as the hard one permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted <= 0 or soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    except (OSError, ValueError):
        reachable = soft
    if reachable < wanted:
        detail = f"{wanted} descriptors are wanted, the limit is {reachable}"
        observe(ServerHappened("descriptor_limit_low", detail))
