"""What can happen (one union of frozen values) and the one place that logs and counts it."""

from collections.abc import Callable
from typing import Literal

import msgspec


class ServerHappened(msgspec.Struct, frozen=True):
    """The server's transport or life did something."""

    what: Literal[
        "listening",
        "drain_begun",
        "new_refused",
        "stopped",
        "connection_limit",
        "head_timeout",
        "body_timeout",
        "head_too_large",
        "not_http",
        "descriptor_limit_low",
    ]
    detail: str = ""


Happening = ServerHappened
Observe = Callable[[Happening], None]
