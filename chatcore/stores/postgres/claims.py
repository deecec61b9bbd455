"""Who waits to hear whose turn it is: openings that are written at once, and what came of them."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from chatcore.model import TurnKey
from chatcore.stores.postgres.entries import Opened, key_of
from chatcore.stores.postgres.journal import Numbered

Claim = Literal["ours", "taken", "journaled"]
"""Ours, somebody else's, or only the journal could be asked."""


class Claims:
    """As many as there are callers who wait; they expect an answer, and forget it when they have waited enough."""

    def __init__(self) -> None:
        self._expected: dict[TurnKey, asyncio.Future[Claim]] = {}

    def expect(self, key: TurnKey) -> asyncio.Future[Claim]:
        """Give what is resolved when the opening of `key` has been written."""
        claim = self._expected[key] = asyncio.get_running_loop().create_future()
        return claim

    def forget(self, key: TurnKey) -> None:
        """Nobody waits any more."""
        self._expected.pop(key, None)

    def settle(self, written: Sequence[Numbered], taken: frozenset[TurnKey] | None) -> None:
        """Tell what came of entries: others had opened those of `taken`; None means that only the journal has them."""
        if not self._expected:
            return
        for _, entry in written:
            claim = self._expected.get(key_of(entry)) if isinstance(entry, Opened) else None
            if claim is not None and not claim.done():
                claim.set_result("journaled" if taken is None else "taken" if key_of(entry) in taken else "ours")
