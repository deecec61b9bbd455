"""An event loop in a thread of its own, so that a server of the tests serves tests of any kind."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines for other threads."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], timeout: float = 10.0) -> T:
        """Run `work` in the loop and give its result; raises `TimeoutError` after `timeout` seconds."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def close(self) -> None:
        """Cancel what still runs, stop the thread, close the loop; idempotent."""
        if self.loop.is_closed():
            return
        self.call(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10.0)
        self.loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Gate:
    """A door in a script that the test opens, from any thread; once open it stays so."""

    def __init__(self) -> None:
        self._door = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        """Let everybody through."""
        with self._lock:
            self._door.set()
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)

    async def passed(self) -> None:
        """Wait in a loop until the gate is open."""
        event = asyncio.Event()
        with self._lock:
            if self._door.is_set():
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        await event.wait()


async def eventually(condition: Callable[[], object], within: float = 15.0) -> None:
    """Wait until `condition` holds; for what other threads and processes do. Raises `TimeoutError`.

    The default leaves room for a machine that is busy; give `within` where being in time is what is tested.
    """
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)
