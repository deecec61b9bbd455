"""The sockets that the server listens on: taking them, naming them, saying why they cannot be had."""

import socket
import sys

from chatcore.settings import ServerSettings

BACKLOG = 2048
EXIT_CANNOT_LISTEN = 2  # the address is wrong or taken
UNSENT_BYTES = 131_072
"""About how much of a response the kernel takes beyond what the client's window allows (Linux, macOS). By itself it
takes megabytes for each client that does not read, which no limit of ours would see."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Take `port` on all addresses of `host`; for port 0 all take the one that the first was given.

    Raises `OSError`.
    """
    sockets: list[socket.socket] = []
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # connections inherit it
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            actual = port or sockets[0].getsockname()[1]
            bound.bind((address[0], actual, *address[2:]))
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def cannot_listen(settings: ServerSettings, error: OSError) -> int:
    """Say so in one line on standard error; give the exit status."""
    reason = error.strerror or str(error)
    sys.stderr.write(f"Cannot listen on host {settings.host!r}, port {settings.port}: {reason}.\n")
    return EXIT_CANNOT_LISTEN


def address(host: str, bound: socket.socket) -> str:
    """Give the URL of a socket that was bound for `host`."""
    port = bound.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
