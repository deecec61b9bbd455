"""Whether new messages are served, and what an operator should know; pure but for asking its parts."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

Status = Literal["ok", "degraded", "unavailable"]


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one part, with a sentence where it is not `ok`."""

    status: Status
    detail: str | None = None


OK = Check("ok")
_NUMBERS: Mapping[Status, float] = {"ok": 0, "degraded": 1, "unavailable": 2}


class Health:
    """All checks of a running server, asked anew each time."""

    def __init__(self, mode: str, version: str, checks: Callable[[], Mapping[str, Check]]) -> None:
        self._mode = mode
        self._version = version
        self._checks = checks

    def numbers(self) -> Mapping[str, float]:
        """Give each check's status as a number that grows with the trouble."""
        return {name: _NUMBERS[check.status] for name, check in self._checks().items()}

    def report(self, uptime_seconds: float) -> tuple[int, dict[str, Any]]:
        """Give the HTTP status and the document: 503 only where new messages are refused."""
        checks = self._checks()
        states = {check.status for check in checks.values()}
        status: Status = "unavailable" if "unavailable" in states else "degraded" if "degraded" in states else "ok"
        document = {
            "status": status,
            "mode": self._mode,
            "version": self._version,
            "uptime_seconds": round(uptime_seconds, 1),
            "checks": checks,
        }
        return (503 if status == "unavailable" else 200), document
