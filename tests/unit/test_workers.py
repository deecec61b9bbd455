"""What several workers share: settings of each, the memory that holds their last values, sums that do not go down."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from chatcore import cli, logs
from chatcore import metrics_of_workers as several
from chatcore.metrics import Metrics
from chatcore.serve.shared_metrics import KEPT_BYTES, SharedMetrics, SharedValues
from chatcore.serve.workers import MAX_WORKERS
from chatcore.stores import stateless
from tests.support import told

NEEDED = told.NEEDED | {
    "DATABASE_URL": "postgresql://u:p@127.0.0.1/d",
    "REDIS_URL": "redis://127.0.0.1",
    "JWT_SECRET_KEY": told.KEYS[0],
    "SESSION_SECRET_KEY": told.KEYS[1],
}


@pytest.mark.parametrize(
    ("path", "number", "own"),
    [
        ("spool.db", 1, "spool.db"),
        ("spool.db", 2, "spool.2.db"),
        ("/data/some.spool.db", 12, "/data/some.spool.12.db"),
        ("/data.d/spool", 3, "/data.d/spool.3"),
        ("/data/.spool", 3, "/data/.spool.3"),
    ],
)
def test_each_worker_has_a_journal_of_its_own(path: str, number: int, own: str) -> None:
    settings = told.read(NEEDED | {"SPOOL_PATH": path}, mode="postgres")
    changed = cli.settings_of_worker(settings, number)
    assert changed.postgres is not None
    assert changed.postgres.spool_path == Path(own)
    assert cli.settings_of_worker(changed, 1) == changed, "nothing else differs"


def test_more_workers_than_one_address_serves_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--workers", str(MAX_WORKERS + 1)]
    assert cli.main("postgres", stateless.open_stores, argv, NEEDED, tmp_path) == 2
    assert f"at most {MAX_WORKERS} processes" in capsys.readouterr().err


def test_one_process_tells_nothing_of_workers() -> None:
    metrics = Metrics()
    assert b"chatcore_workers" not in asyncio.run(_told(metrics))


def test_values_are_what_was_written_last() -> None:
    values = SharedValues(2)
    assert values.read(1) is None
    for number, data in ((1, b"first"), (2, b"other"), (1, b"second, longer"), (1, b"3rd")):
        assert values.write(number, data)
        assert values.read(number) == data
    assert values.read(2) == b"other"


def test_values_that_do_not_fit_are_not_kept() -> None:
    values = SharedValues(1)
    assert values.write(1, b"x" * KEPT_BYTES)
    assert not values.write(1, b"y" * (KEPT_BYTES + 1))
    assert values.read(1) == b"x" * KEPT_BYTES


def test_a_hundred_bots_fit() -> None:
    metrics = Metrics()
    for number in range(100):
        bot = f"a-rather-long-name-of-a-bot-{number}"
        metrics.reply_seconds.labels(bot).observe(123.456)
        metrics.first_text_seconds.labels(bot).observe(123.456)
        for reason in ("complete", "stopped", "error"):
            metrics.replies.labels(bot, reason).inc(2**40)
        for code in range(10):
            metrics.reply_errors.labels(bot, f"some_code_of_an_error_{code}").inc(2**40)
    assert len(several.encode(several.families_of(metrics.registry))) < KEPT_BYTES / 2


def test_replaced_workers_are_counted() -> None:
    values = SharedValues(3)
    for _ in range(3):
        values.count_replaced()
    assert values.replaced == 3


def test_sums_are_made_sample_by_sample() -> None:
    first, second = Metrics(), Metrics()
    first.messages.labels("a").inc(2)
    second.messages.labels("a").inc(3)
    second.messages.labels("b").inc(5)
    for metrics, seconds in ((first, 0.2), (second, 0.2), (second, 500.0)):
        metrics.reply_seconds.labels("a").observe(seconds)
    for metrics, circuit, running in ((first, 1, 2), (second, 0, 3)):
        metrics.circuit_open.labels("a").set(circuit)
        metrics.gauge("replies_in_flight", "Running.", lambda running=running: running)  # type: ignore[misc] # mypy infers no type for a default
    samples = _samples(several.exposition(_sum(first, second)))
    assert samples['chatcore_messages_total{bot="a"}'] == 5
    assert samples['chatcore_messages_total{bot="b"}'] == 5
    assert samples['chatcore_reply_seconds_bucket{bot="a",le="0.25"}'] == 2
    assert samples['chatcore_reply_seconds_bucket{bot="a",le="300.0"}'] == 2
    assert samples['chatcore_reply_seconds_bucket{bot="a",le="600.0"}'] == 3
    assert samples['chatcore_reply_seconds_bucket{bot="a",le="+Inf"}'] == 3
    assert samples['chatcore_reply_seconds_count{bot="a"}'] == 3
    assert samples['chatcore_reply_seconds_sum{bot="a"}'] == 500.4
    assert samples['chatcore_circuit_open{bot="a"}'] == 1
    assert samples["chatcore_replies_in_flight"] == 5


def test_one_worker_alone_tells_what_one_process_does() -> None:
    metrics = Metrics()
    metrics.messages.labels('a "quoted" \\ name\n').inc()
    metrics.reply_seconds.labels("a").observe(0.2)
    alone, summed = asyncio.run(_told(metrics)), several.exposition(_sum(metrics))
    told_by_the_system = b"chatcore_process_"
    assert [line for line in summed.splitlines() if told_by_the_system not in line] == [
        line for line in alone.splitlines() if told_by_the_system not in line
    ]


def test_what_a_worker_told_outlives_it_but_for_its_gauges() -> None:
    async def scrape(shared: SharedMetrics, metrics: Metrics) -> Mapping[str, float]:
        await shared.join(1, metrics)
        return _samples(await metrics.exposition())

    first, successor = Metrics(), Metrics()
    for metrics in (first, successor):
        metrics.messages.labels("a").inc(7)
        metrics.circuit_open.labels("a").set(1)
    with closing(SharedMetrics(2)) as shared:
        before, after = asyncio.run(scrape(shared, first)), asyncio.run(scrape(shared, successor))
    assert before['chatcore_messages_total{bot="a"}'] == 7
    assert (before["chatcore_workers"], before["chatcore_workers_silent"]) == (1, 1), "nobody is at the other mailbox"
    assert after['chatcore_messages_total{bot="a"}'] == 14
    assert after['chatcore_circuit_open{bot="a"}'] == 1


def test_a_mailbox_that_nobody_empties_costs_the_one_who_asks_its_time_and_no_more() -> None:
    async def ask_often() -> None:
        metrics = Metrics()
        await shared.join(1, metrics)
        for _ in range(3):
            async with asyncio.timeout(2):
                assert _samples(await metrics.exposition())["chatcore_workers_silent"] == 1

    with closing(SharedMetrics(2)) as shared:
        asyncio.run(ask_often())


@pytest.mark.parametrize(("level", "written"), [("INFO", True), ("ERROR", True), ("CRITICAL", False)])
def test_a_line_without_a_queue_looks_as_others_do(
    level: str, capfd: pytest.CaptureFixture[str], *, written: bool
) -> None:
    logs.write_line(level, "json", "ERROR", "worker 2 ended", {"worker": 2})
    logs.write_line(level, "text", "ERROR", "worker 2 ended", {"worker": 2})
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == (2 if written else 0)
    if written:
        line = json.loads(lines[0])
        assert line.pop("time").endswith("Z")
        assert line == {
            "level": "ERROR",
            "request_id": "-",
            "event": "WorkerChanged",
            "message": "worker 2 ended",
            "worker": 2,
        }
        assert lines[1].endswith("Z ERROR - worker 2 ended")


def _sum(*all_metrics: Metrics) -> list[several.Family]:
    """Sum as workers do: what each counted has travelled as bytes."""
    return several.summed(
        [several.decode(several.encode(several.families_of(metrics.registry))) for metrics in all_metrics]
    )


async def _told(metrics: Metrics) -> bytes:
    return await metrics.exposition()


def _samples(text: bytes) -> Mapping[str, float]:
    pairs = [line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#")]
    assert len(pairs) == len({name for name, _ in pairs}), "a sample comes twice"
    return {name: float(value) for name, value in pairs}
