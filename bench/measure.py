"""The measurements: what is done to a server, and which figures come of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench.load import Client, Target, connect, direct, release, target_of, until
from bench.servers import BenchError, Peer, Server, Setting, start

Figures = dict[str, float | list[float]]

PACED_STREAMS = 64
PACED_INTERVAL_MS = 50
BURST_CHUNKS = 50
SESSIONS = 256


@dataclass(frozen=True)
class Length:
    """How long the measurements take: seconds for the timed ones, and counts."""

    seconds: float
    latency_samples: int
    held_streams: int
    rounds: int


FULL = Length(seconds=2.0, latency_samples=400, held_streams=1000, rounds=5)
QUICK = Length(seconds=0.7, latency_samples=150, held_streams=500, rounds=3)


async def json_answers(server: Server, connections: int, length: Length) -> Figures:
    """Ask for JSON over so many connections, always one message after the other."""
    return await _closed_loop(server, connections, length, "json", 0, "request")


async def burst_streams(server: Server, connections: int, length: Length) -> Figures:
    """Ask for streams whose chunks come all at once."""
    return await _closed_loop(server, connections, length, f"stream {BURST_CHUNKS} 0", BURST_CHUNKS, "stream")


async def _closed_loop(server: Server, connections: int, length: Length, plan: str, chunks: int, unit: str) -> Figures:
    target = await target_of(server, SESSIONS)
    waits: list[float] = []
    stopping = False
    open_count = connections

    def ended(client: Client) -> None:
        nonlocal open_count
        waits.append(client.ended_at - client.asked_at)
        if stopping:
            open_count -= 1
        else:
            client.ask(plan, chunks)

    clients = await connect(target, connections, ended, stream=chunks > 0)
    for client in clients:
        client.ask(plan, chunks)
    await asyncio.sleep(0.3 * length.seconds)
    server.tree.refresh()
    skipped, cpu, began = len(waits), server.tree.cpu_seconds(), time.perf_counter()
    await asyncio.sleep(length.seconds)
    done, cpu, seconds = len(waits), server.tree.cpu_seconds() - cpu, time.perf_counter() - began
    stopping = True
    await until(lambda: open_count == 0, f"the last answers of {server.peer.title}")
    for client in clients:
        client.close()
    if done == skipped:
        raise BenchError(f"{server.peer.title} answered nothing in {seconds:.1f} s")
    measured = sorted(waits[skipped:done])
    return {
        f"cpu_us_per_{unit}": cpu / len(measured) * 1e6,
        "per_second": len(measured) / seconds,
        "wait_us_p50": measured[len(measured) // 2] * 1e6,
        "wait_us_p99": measured[len(measured) * 99 // 100] * 1e6,
        "busy": cpu / seconds,
    }


async def first_text(target: Target, length: Length) -> Figures:
    """Tell how long a visitor waits for the first text of a stream, one stream at a time."""
    samples: list[float] = []
    finished = asyncio.Event()
    warming = length.latency_samples // 5

    def ended(client: Client) -> None:
        samples.append((client.first_text_at - client.asked_at) * 1e6)
        if len(samples) < length.latency_samples + warming:
            client.ask("stream 2 1", 2)
        else:
            finished.set()

    (client,) = await connect(target, 1, ended, stream=True)
    client.ask("stream 2 1", 2)
    await finished.wait()
    client.close()
    return {"first_us": samples[warming:]}


async def paced(server: Server, length: Length) -> Figures:
    """Tell what one chunk costs where the chunks of many streams trickle in."""
    target = await target_of(server, SESSIONS)
    spread = PACED_INTERVAL_MS / 1000
    chunks = int((length.seconds + 1.0) / spread)
    ended_count = 0

    def ended(_: Client) -> None:
        nonlocal ended_count
        ended_count += 1

    clients = await connect(target, PACED_STREAMS, ended, stream=True)
    began = time.perf_counter()
    for number, client in enumerate(clients):
        client.ask(f"stream {chunks} {PACED_INTERVAL_MS}", chunks)
        # Spread over several intervals, so that the chunks of different streams do not come in step.
        await asyncio.sleep(max(0.0, began + 4.3 * spread * number / PACED_STREAMS - time.perf_counter()))
    await until(lambda: all(client.first_text_at for client in clients), f"first texts of {server.peer.title}")
    server.tree.refresh()
    count, cpu = sum(client.items for client in clients), server.tree.cpu_seconds()
    await asyncio.sleep(length.seconds)
    count, cpu = sum(client.items for client in clients) - count, server.tree.cpu_seconds() - cpu
    if ended_count:
        raise BenchError("a paced stream ended before its measurement did")
    await until(lambda: ended_count == PACED_STREAMS, f"paced streams of {server.peer.title}")
    for client in clients:
        client.close()
    return {"cpu_us_per_chunk": cpu / count * 1e6, "chunks_per_second": count / length.seconds}


async def memory(peer: Peer, setting: Setting, directory: Path, length: Length) -> Figures:
    """Tell how a server starts, and how much memory it and an open stream take while nothing happens on it."""
    server = await start(peer, setting, directory)
    try:
        idle = server.tree.rss_bytes()
        target = await target_of(server, SESSIONS)
        for client in await _hold(target, 20):  # what the first streams load is not theirs
            client.close()
        await release(setting.upstream_port)
        await asyncio.sleep(0.2)
        before = server.tree.rss_bytes()
        clients = await _hold(target, length.held_streams)
        await asyncio.sleep(0.3)
        after = server.tree.rss_bytes()
        for client in clients:
            client.close()
    finally:
        await server.stop(gently=False)
    await release(setting.upstream_port)
    return {
        "stream_kib": (after - before) / length.held_streams / 1024,
        "idle_mb": idle / 1e6,
        "start_ms": server.start_seconds * 1000,
        "start_cpu_ms": server.start_cpu_seconds * 1000,
    }


async def _hold(target: Target, streams: int) -> list[Client]:
    """Open streams that have said one thing and then nothing."""
    clients = await connect(target, streams, lambda _: None, stream=True)
    for begin in range(0, streams, 50):
        some = clients[begin : begin + 50]
        for client in some:
            client.ask("hold", 1)
        await until(lambda: all(client.first_text_at for client in some), "held streams")  # noqa: B023 - awaited here
    return clients


MEASUREMENTS: dict[str, Callable[[Server, Length], Awaitable[Figures]]] = {
    "json1": lambda server, length: json_answers(server, 1, length),
    "json32": lambda server, length: json_answers(server, 32, length),
    "json256": lambda server, length: json_answers(server, 256, length),
    "burst": lambda server, length: burst_streams(server, 32, length),
    "paced": paced,
}


async def first_of_server(server: Server, length: Length) -> Figures:
    """Measure the first text through a server."""
    return await first_text(await target_of(server, SESSIONS), length)


async def first_direct(setting: Setting, length: Length) -> Figures:
    """Measure the first text without a server between."""
    return await first_text(direct(setting.upstream_port), length)
