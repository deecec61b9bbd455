"""What several worker processes counted, as values that travel between them, and how they become one."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import cast

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

LASTING = frozenset({"counter", "histogram"})
"""The types whose values outlive the process that counted them: their sums must never go down."""

ANSWERED, SILENT, REPLACED = "chatcore_workers", "chatcore_workers_silent", "chatcore_workers_replaced"
ABOUT_WORKERS: Mapping[str, tuple[str, str]] = {
    ANSWERED: ("gauge", "Worker processes whose values are in this answer."),
    SILENT: ("gauge", "Worker processes that did not tell their values in time, or are not there."),
    REPLACED: ("counter", "Worker processes that ended by themselves and were started again."),
}
"""Families that only several workers have: type and text."""

_NOT_ADDED: Mapping[str, Callable[[float, float], float]] = {
    "chatcore_circuit_open": max,
    "chatcore_health": max,
    "chatcore_process_start_time_seconds": min,
    "chatcore_redis_up": min,
}
"""Gauges that tell a state or a moment: of several the worst one, or the first, is told. All others are added."""


class Value(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One sample: its full name, its labels, its value."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, array_like=True, frozen=True):
    """One family of metrics with all its samples."""

    name: str
    kind: str
    text: str
    values: list[Value]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Family])


def encode(families: Sequence[Family]) -> bytes:
    """Give the bytes in which families travel."""
    return _encoder.encode(families)


def decode(data: bytes) -> list[Family]:
    """Read what `encode` wrote. Raises `msgspec.DecodeError`."""
    return _decoder.decode(data)


def families_of(registry: CollectorRegistry) -> list[Family]:
    """Give everything in `registry` as it is now."""
    return [
        Family(one.name, one.type, one.documentation, [Value(it.name, it.labels, it.value) for it in one.samples])
        for one in registry.collect()
    ]


def lasting(families: Iterable[Family]) -> list[Family]:
    """Leave out what ends with its process."""
    return [family for family in families if family.kind in LASTING]


def summed(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """Make one of the values of several processes: sample by sample, in the order in which they first come."""
    heads: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for part in parts:
        for family in part:
            heads.setdefault(family.name, family)
            combined = values.setdefault(family.name, {})
            combine = _NOT_ADDED.get(family.name)
            for value in family.values:
                key = (value.name, tuple(value.labels.items()))
                known = combined.get(key)
                if known is None:
                    combined[key] = value.value
                else:
                    combined[key] = combine(known, value.value) if combine else known + value.value
    return [
        Family(name, head.kind, head.text, [Value(key[0], dict(key[1]), it) for key, it in values[name].items()])
        for name, head in heads.items()
    ]


def about_workers(answered: int, silent: int, replaced: int) -> list[Family]:
    """Give the families that tell of the workers themselves."""
    found = {ANSWERED: answered, SILENT: silent, REPLACED: replaced}
    return [
        Family(name, kind, text, [Value(f"{name}_total" if kind == "counter" else name, {}, found[name])])
        for name, (kind, text) in ABOUT_WORKERS.items()
    ]


class _Told(Collector):
    """Families as the library's writer of texts takes them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            metric.samples = [Sample(it.name, it.labels, it.value) for it in family.values]
            yield metric


def exposition(families: Iterable[Family]) -> bytes:
    """Give families in Prometheus' text format."""
    return generate_latest(cast("CollectorRegistry", _Told(families)))  # it only asks it to collect
