"""Free loopback ports for servers that must be told theirs."""

import itertools
import socket

FIRST, BLOCK, BLOCKS = 20_000, 250, 48
"""Below the ports that systems give to outgoing connections (Linux: from 32768 on), and none that browsers refuse."""


def _listen(port: int) -> socket.socket | None:
    """Listen on a port of 127.0.0.1; gives nothing where somebody else does."""
    probe = socket.socket()
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        probe.listen(1)
    except OSError:
        probe.close()
        return None
    return probe


class _Ports:
    """A block of ports that belongs to this process: it listens on the first as long as it lives, and gives the rest.

    Test processes run side by side. A port that is only found free could be found by two of them, or serve an outgoing
    connection, before its server listens on it.
    """

    def __init__(self) -> None:
        for first in range(FIRST, FIRST + BLOCK * BLOCKS, BLOCK):
            listening = _listen(first)
            if listening is not None:
                self._mark = listening
                self._rest = itertools.cycle(range(first + 1, first + BLOCK))
                return
        raise RuntimeError(f"all ports from {FIRST} on are taken")

    def free(self) -> int:
        """Give the next port of the block that nobody listens on; none comes again soon."""
        for port in itertools.islice(self._rest, BLOCK):
            probe = _listen(port)
            if probe is not None:
                probe.close()
                return port
        raise RuntimeError("all ports of this process are in use")


_ports: _Ports | None = None


def free_port() -> int:
    """Give a TCP port of 127.0.0.1 that nobody listens on and no other process of the tests is given."""
    global _ports  # noqa: PLW0603 - the block is taken by the first test that needs a port
    if _ports is None:
        _ports = _Ports()
    return _ports.free()
