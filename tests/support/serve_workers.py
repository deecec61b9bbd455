"""Serves with several workers that keep nothing, as a main of PostgreSQL mode would with its own stores.

`/health` tells which process answered. `TEST_TROUBLE` makes starts fail: `refuse` by a fault of the store, `die` by
SIGKILL; with the name of a file behind it, only while that file is there.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from chatcore import cli
from chatcore.observe import Observe
from chatcore.ports import Clock, StoreFaultError, Trouble
from chatcore.settings import Settings
from chatcore.stores import stateless


class Stores(stateless.Stores):
    """Stores in memory that tell whose they are."""

    def troubles(self) -> Mapping[str, Trouble | None]:
        """Tell the process, where a trouble would be told."""
        return {"process": Trouble(str(os.getpid()))}


def open_stores(settings: Settings, clock: Clock, observe: Observe) -> Stores:
    """Open them, unless trouble is wanted."""
    trouble, _, later = os.environ.get("TEST_TROUBLE", "").partition(" ")
    if trouble and (not later or Path(later).exists()):
        if trouble == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        raise StoreFaultError("the store is in trouble", "Help it")
    made = stateless.open_stores(settings, clock, observe)
    return Stores(made.sessions, made.counters, made.replies)


if __name__ == "__main__":
    sys.exit(cli.main("postgres", open_stores, sys.argv[1:], os.environ, Path.cwd()))
