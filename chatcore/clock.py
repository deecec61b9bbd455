"""The real time and the system's randomness, for the `Clock` port."""

import os
import time


class SystemClock:
    """The adapter that every main uses; tests bring a clock that is moved by hand."""

    now = staticmethod(time.time)  # noqa: TID251 - this is the one place that asks the system
    monotonic = staticmethod(time.monotonic)  # noqa: TID251 - same
    token_bytes = staticmethod(os.urandom)  # noqa: TID251 - same
