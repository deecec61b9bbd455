"""uvicorn as we need it: limits on what clients may do, a drain with the door still open, an honest exit status."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import uvicorn
import uvloop
from starlette.types import ASGIApp

from chatcore.observe import Crashed, Observe, ServerHappened
from chatcore.ports import Lifecycle
from chatcore.serve.connection import Connection
from chatcore.serve.service import Limits, Service
from chatcore.settings import ServerSettings

__all__ = ["EXIT_APPLICATION", "EXIT_CANNOT_LISTEN", "EXIT_STOPPED", "Before", "Limits", "run", "serve"]

EXIT_STOPPED = 0  # asked to stop, and stopped
EXIT_APPLICATION = 1  # the application could not start, or failed while it stopped
EXIT_CANNOT_LISTEN = 2  # the address is wrong or taken

Before = Callable[[], Awaitable[None]]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACKLOG = 2048
_GC_THRESHOLD = 20_000


def serve(
    app: ASGIApp,
    settings: ServerSettings,
    lifecycle: Lifecycle,
    observe: Observe,
    *,
    limits: Limits | None = None,
    before: Before | None = None,
) -> int:
    """Serve `app` in a loop of its own until SIGTERM or SIGINT; give the exit status.

    `before` runs first in the same loop (the demo's stand-in starts there). The first signal begins the drain, a second
    ends it at once, a third kills. 0: stopped as asked. 1: the application failed to start or to stop. 2: cannot
    listen, with one line on standard error.
    """
    _raise_descriptor_limit(settings.descriptors_wanted, observe)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(app, settings, lifecycle, observe, limits=limits, before=before))


async def run(
    app: ASGIApp,
    settings: ServerSettings,
    lifecycle: Lifecycle,
    observe: Observe,
    *,
    limits: Limits | None = None,
    before: Before | None = None,
) -> int:
    """Do as `serve` in the running loop; the main thread's, since it takes the signals."""
    limits = limits or Limits()
    signals = _Signals()
    try:
        sockets = _bind(settings.host, settings.port)
    except OSError as error:
        return _cannot_listen(settings, error)
    with contextlib.ExitStack() as stack:
        for bound in sockets:
            stack.enter_context(bound)
        if before is not None:
            await before()
        service = Service(app, settings.max_connections, limits, observe)
        server = _uvicorn(service, limits)
        try:
            await server.startup(sockets)
        except SystemExit:  # uvicorn's word for a lifespan that failed; it has logged why
            return EXIT_APPLICATION
        except OSError as error:
            await server.lifespan.shutdown()
            return _cannot_listen(settings, error)
        service.watch()
        _settle_memory()
        observe(ServerHappened("listening", _address(settings.host, sockets[0].getsockname()[1])))
        settled = await _drain(signals, settings, lifecycle, service)
        service.stop_watching()
        await server.shutdown(sockets)
    observe(ServerHappened("stopped"))
    return EXIT_STOPPED if settled and not server.lifespan.should_exit else EXIT_APPLICATION


class _Signals:
    """The requests to stop that came: the first drains, the second hurries, the third is the kernel's to answer."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        if not self.first.is_set():
            self.first.set()
            return
        self.second.set()
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)


async def _drain(signals: _Signals, settings: ServerSettings, lifecycle: Lifecycle, service: Service) -> bool:
    """Wait for the first signal, then let the application end its work; the door stays open. False: it failed to."""
    await signals.first.wait()
    observe = service.observe
    service.draining = True
    lifecycle.begin_drain()
    observe(ServerHappened("drain_begun"))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(signals.second.wait(), settings.shutdown_delay_seconds)
    lifecycle.refuse_new()
    observe(ServerHappened("new_refused"))
    hurry = asyncio.ensure_future(signals.second.wait())
    try:
        if not hurry.done() and not signals.second.is_set():
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
        backlog=_BACKLOG,
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


def _bind(host: str, port: int) -> list[socket.socket]:
    """Take `port` on all addresses of `host`; for port 0 all take the one that the first was given."""
    sockets: list[socket.socket] = []
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            actual = port or sockets[0].getsockname()[1]
            bound.bind((address[0], actual, *address[2:]))
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _cannot_listen(settings: ServerSettings, error: OSError) -> int:
    reason = error.strerror or str(error)
    sys.stderr.write(f"Cannot listen on host {settings.host!r}, port {settings.port}: {reason}.\n")
    return EXIT_CANNOT_LISTEN


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
