"""Waiting for entries to be written, for those who must not go on where they were not."""

from collections.abc import Awaitable, Generator
from typing import Any

from chatcore.ports import StoreUnavailableError


def certainly(saved: Awaitable[bool]) -> Awaitable[None]:
    """Give what waits for `Writer.saved`, and may be left alone. Raises `StoreUnavailableError` where it was not."""
    return _Certainly(saved)


class _Certainly:
    def __init__(self, saved: Awaitable[bool]) -> None:
        self._saved = saved

    def __await__(self) -> Generator[Any, Any, None]:
        if not (yield from self._saved.__await__()):
            raise StoreUnavailableError
