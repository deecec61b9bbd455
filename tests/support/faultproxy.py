"""A TCP proxy between two parties that cuts, delays, throttles and corrupts what passes."""

import asyncio
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.background import BackgroundLoop
from tests.support.n8n import LINGER_RESET
from tests.support.ports import free_port

READ_BYTES = 16384

Change = Callable[[bytes], bytes]


class FaultProxy:
    """Listens on `port` and passes bytes on to 127.0.0.1:`target`. Set the faults at any time, from any thread.

    `delay`: seconds every piece waits; `bytes_per_second`: what passes at most, each way, 0 for no limit;
    `frozen`: nothing passes, connections stay; `corrupt`: what becomes of the bytes that go back to the client;
    `cut_after`: bytes to the client after which a connection is reset.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        self.bytes_per_second = 0
        self.frozen = False
        self.corrupt: Change | None = None
        self.cut_after: int | None = None
        self.connections = 0
        self.port = free_port()  # ours alone also while it refuses
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.background = BackgroundLoop("fault-proxy")
        self.listen()

    @property
    def url(self) -> str:
        """Its address, as that of an HTTP server."""
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self.background.call(self._listen())

    def refuse(self) -> None:
        """Let the system refuse new connections."""
        if self._server is not None:
            self.background.loop.call_soon_threadsafe(self._server.close)
            self.background.call(asyncio.sleep(0))

    def cut(self) -> None:
        """Reset every open connection, on both sides."""
        self.background.call(self._cut())

    def stop(self) -> None:
        """Close everything; idempotent."""
        if not self.background.loop.is_closed():
            self.refuse()
            self.cut()
            self.background.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port, backlog=1024)

    async def _cut(self) -> None:
        for writer in tuple(self._open):
            _reset(writer)
        await asyncio.sleep(0)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        self._open |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer, back=False), self._pump(far_reader, writer, back=True))
        except OSError:
            _reset(writer)
            _reset(far_writer)
        finally:
            self._open -= {writer, far_writer}
            writer.close()
            far_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        """Pass bytes on one way until their end, then pass on the end."""
        passed = 0
        while data := await reader.read(READ_BYTES):
            while self.frozen:
                await asyncio.sleep(0.005)
            if self.delay or self.bytes_per_second:
                await asyncio.sleep(self.delay + (len(data) / self.bytes_per_second if self.bytes_per_second else 0))
            changed = self.corrupt(data) if back and self.corrupt else data
            if back and self.cut_after is not None and passed + len(changed) >= self.cut_after:
                writer.write(changed[: self.cut_after - passed])
                await asyncio.sleep(0.01)  # a reset overtakes what the peer has not read yet
                raise ConnectionResetError
            passed += len(changed)
            writer.write(changed)
            await writer.drain()
        if not writer.is_closing():
            writer.write_eof()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a RST."""
    peer = writer.get_extra_info("socket")
    if not writer.is_closing():
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    writer.transport.abort()
