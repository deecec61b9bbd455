"""From the figures of all rounds to one table: medians, ratios, and the targets of docs/performance.md."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.servers import Peer

Figure = float | list[float]


class Samples:
    """What was measured: by measurement, server and figure, one value a round."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, dict[str, list[Figure]]]] = {}

    def add(self, measurement: str, server: str, figures: dict[str, Figure]) -> None:
        """Take the figures of one round."""
        kept = self.values.setdefault(measurement, {}).setdefault(server, {})
        for name, value in figures.items():
            kept.setdefault(name, []).append(value)

    def middle(self, measurement: str, server: str, figure: str) -> float | None:
        """Give the median of the rounds."""
        values = self.values.get(measurement, {}).get(server, {}).get(figure)
        return median(value for value in values if isinstance(value, float)) if values else None

    def quantile(self, measurement: str, server: str, figure: str, part: float) -> float | None:
        """Give a quantile of all samples of all rounds."""
        rounds = self.values.get(measurement, {}).get(server, {}).get(figure)
        if not rounds:
            return None
        pooled = sorted(sample for samples in rounds if isinstance(samples, list) for sample in samples)
        return pooled[min(int(part * len(pooled)), len(pooled) - 1)]


@dataclass(frozen=True)
class Row:
    """One line: what it says, how its figure is found for a server, and how it is shown."""

    title: str
    value: Callable[[Samples, str], float | None]
    digits: int = 0


@dataclass(frozen=True)
class Aim:
    """One target: what chatcore's figure is compared with, and the bound on the comparison's result."""

    title: str
    value: Callable[[Samples], float | None]
    bound: float
    at_least: bool = False


def _middle(measurement: str, figure: str) -> Callable[[Samples, str], float | None]:
    return lambda samples, server: samples.middle(measurement, server, figure)


def _quantile(part: float) -> Callable[[Samples, str], float | None]:
    return lambda samples, server: samples.quantile("first", server, "first_us", part)


ROWS = (
    Row("JSON, 1 connection: CPU µs per request", _middle("json1", "cpu_us_per_request")),
    Row("JSON, 32 connections: CPU µs per request", _middle("json32", "cpu_us_per_request")),
    Row("JSON, 256 connections: CPU µs per request", _middle("json256", "cpu_us_per_request")),
    Row("JSON, 32 connections: requests per second", _middle("json32", "per_second")),
    Row("JSON, 1 connection: wait p50, µs", _middle("json1", "wait_us_p50")),
    Row("JSON, 32 connections: wait p99, µs", _middle("json32", "wait_us_p99")),
    Row("stream of 50 chunks at once: CPU µs per stream", _middle("burst", "cpu_us_per_stream")),
    Row("64 paced streams: CPU µs per chunk", _middle("paced", "cpu_us_per_chunk"), 1),
    Row("first text of a stream: wait p50, µs", _quantile(0.5)),
    Row("first text of a stream: wait p99, µs", _quantile(0.99)),
    Row("open idle stream: KiB", _middle("memory", "stream_kib"), 1),
    Row("idle: resident MB", _middle("memory", "idle_mb"), 1),
    Row("start to first /health: ms", _middle("memory", "start_ms")),
    Row("start to first /health: CPU ms", _middle("memory", "start_cpu_ms")),
)


def _ratio(measurement: str, figure: str, over: str, under: str) -> Callable[[Samples], float | None]:
    def value(samples: Samples) -> float | None:
        first, second = samples.middle(measurement, over, figure), samples.middle(measurement, under, figure)
        return None if first is None or second is None else first / second

    return value


def _first_behind_nginx(samples: Samples) -> float | None:
    ours, theirs = _quantile(0.5)(samples, "chatcore"), _quantile(0.5)(samples, "nginx")
    return None if ours is None or theirs is None else ours - theirs


def _scaling(samples: Samples) -> float | None:
    many = samples.middle("json256", "chatcore", "cpu_us_per_request")
    some = samples.middle("json32", "chatcore", "cpu_us_per_request")
    return None if many is None or some is None else many / some


def _ours(measurement: str, figure: str) -> Callable[[Samples], float | None]:
    return lambda samples: samples.middle(measurement, "chatcore", figure)


_CPU = "cpu_us_per_request"
AIMS = (
    Aim("JSON per CPU at 32 connections, of nginx", _ratio("json32", _CPU, "nginx", "chatcore"), 0.2, at_least=True),
    Aim("… of FastAPI + httpx", _ratio("json32", _CPU, "fastapi", "chatcore"), 30, at_least=True),
    Aim("JSON per CPU at 1, of FastAPI + httpx", _ratio("json1", _CPU, "fastapi", "chatcore"), 4, at_least=True),
    Aim("JSON CPU at 256 connections, of that at 32", _scaling, 1.2),
    Aim("first text p50 behind nginx, µs", _first_behind_nginx, 300),
    Aim("CPU per paced chunk, of nginx", _ratio("paced", "cpu_us_per_chunk", "chatcore", "nginx"), 2.5),
    Aim("open idle stream, KiB", _ours("memory", "stream_kib"), 24),
    Aim("start to first /health, ms", _ours("memory", "start_ms"), 400),
    Aim("idle, resident MB", _ours("memory", "idle_mb"), 50),
)  # fmt: skip


def table(samples: Samples, peers: Sequence[Peer]) -> str:
    """Give the figures of all servers, and under them the targets."""
    measured = {server for servers in samples.values.values() for server in servers}
    shown = [(peer.name, peer.title) for peer in peers if peer.name in measured]
    if "(none)" in measured:
        shown.insert(0, ("(none)", "no server"))
    lines = [["", *(title for _, title in shown)]]
    others: list[tuple[str, str]] = []
    if "chatcore" in measured:
        others = [(name, title) for name, title in shown if name not in ("(none)", "chatcore")]
        lines[0] += [f"chatcore ÷ {name}" for name, _ in others]
    for row in ROWS:
        values = {name: row.value(samples, name) for name, _ in shown}
        if not any(value is not None for value in values.values()):
            continue
        cells = [_number(value, row.digits) for value in values.values()]
        ours = values.get("chatcore")
        cells += [_number(_divide(ours, values[name]), 3) for name, _ in others]
        lines.append([row.title, *cells])
    text = _columns(lines)
    aims = [["chatcore's targets", "bound", "measured", ""]]
    for aim in AIMS:
        value = aim.value(samples)
        if value is not None:
            met = value >= aim.bound if aim.at_least else value <= aim.bound
            sign = "≥" if aim.at_least else "≤"
            aims.append([aim.title, f"{sign} {aim.bound:g}", f"{value:.3g}", "met" if met else "MISSED"])
    return text + ("\n\n" + _columns(aims) if len(aims) > 1 else "")


def _divide(first: float | None, second: float | None) -> float | None:
    return None if first is None or not second else first / second


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    if digits == 3:
        return f"{value:.3g}"
    return f"{value:,.{digits}f}"


def _columns(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
