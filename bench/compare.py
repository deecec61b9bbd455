"""Sets the servers side by side: rounds in which every measurement is made with one server after the other."""

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import uvloop

from bench.measure import FULL, MEASUREMENTS, QUICK, Figures, Length, first_direct, first_of_server, memory
from bench.report import Samples, table
from bench.servers import BenchError, Peer, Server, Setting, find_peers, open_directory, start, start_upstream

FIRST, MEMORY = "first", "memory"
_NAMES = (*MEASUREMENTS, FIRST, MEMORY)


@asynccontextmanager
async def stage() -> AsyncIterator[Setting]:
    """Choose the processor cores, start the stand-in for n8n, and turn a wrong answer anywhere into the end."""
    cores = sorted(os.sched_getaffinity(0))
    server_core, load_core = cores[0], cores[-1]
    os.sched_setaffinity(0, {load_core})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    task = asyncio.current_task()
    faults: list[str] = []

    def fault(_: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        if not faults and task is not None:
            faults.append(f"{context.get('message')} {context.get('exception')!r}")
            task.cancel()

    asyncio.get_running_loop().set_exception_handler(fault)
    gc.collect()
    gc.freeze()  # the load generator's own collector must not show in the latencies
    upstream, port = await start_upstream(load_core)
    try:
        yield Setting(server_core, load_core, port)
    except asyncio.CancelledError:
        raise BenchError(faults[0] if faults else "interrupted") from None
    finally:
        upstream.terminate()
        upstream.wait()


class Comparison:
    """All rounds, and what they gave."""

    def __init__(self, peers: list[Peer], names: Iterable[str], length: Length, setting: Setting) -> None:
        self.samples = Samples()
        self._peers = peers
        self._names = tuple(names)
        self._length = length
        self._setting = setting

    async def run(self, directory: Path) -> None:
        """Measure everything, round by round."""
        rounds = self._length.rounds
        for peer in self._peers:  # once in vain, so that files are cached and bytecode is there
            await (await start(peer, self._setting, directory)).stop()
        for number in range(rounds):
            began = time.perf_counter()
            await self._round(directory)
            print(f"round {number + 1} of {rounds}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)

    async def _round(self, directory: Path) -> None:
        length, setting = self._length, self._setting
        if MEMORY in self._names:
            for peer in self._peers:
                self.samples.add(MEMORY, peer.name, await memory(peer, setting, directory, length))
        servers: list[Server] = []
        try:
            if self._names != (MEMORY,):
                for peer in self._peers:
                    servers.append(await start(peer, setting, directory))  # noqa: PERF401 - so that all are stopped if one fails
            for name in self._names:
                if name == FIRST:
                    self.samples.add(FIRST, "(none)", await first_direct(setting, length))
                for server in servers:
                    figures = await self._measure(name, server)
                    if figures:
                        self.samples.add(name, server.peer.name, figures)
                    server.check()
        finally:
            for server in servers:
                await server.stop()

    async def _measure(self, name: str, server: Server) -> Figures:
        if name == MEMORY or name in server.peer.leaves_out:
            return {}
        if name == FIRST:
            return await first_of_server(server, self._length)
        return await MEASUREMENTS[name](server, self._length)


async def main(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    peers = find_peers(arguments.beside)
    known = [peer.name for peer in peers]
    unknown = set(arguments.only) - {*known, *_NAMES}
    if unknown:
        raise BenchError(f"--only knows {', '.join((*_NAMES, *known))}; not {', '.join(sorted(unknown))}")
    peers = [peer for peer in peers if peer.name in arguments.only] or peers
    names = [name for name in _NAMES if name in arguments.only] or list(_NAMES)
    length = QUICK if arguments.quick else FULL
    if arguments.rounds:
        length = replace(length, rounds=arguments.rounds)
    async with stage() as setting:
        comparison = Comparison(peers, names, length, setting)
        directory = open_directory()
        try:
            await comparison.run(directory)
        finally:
            shutil.rmtree(directory)
    if setting.server_core == setting.load_core:
        print("One core only: server, load and upstream shared it. Latencies mean little.")
    print(f"{machine()}, {length.rounds} rounds{', quick' if arguments.quick else ''}\n")
    print(table(comparison.samples, peers))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "samples": comparison.samples.values}, indent=1))


def machine() -> str:
    """Describe what this ran on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = os.cpu_count()
    return f"{model}, {cores} cores, Linux {platform.release()}, {platform.python_implementation()} " + (
        platform.python_version()
    )


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bash bench/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of six, and rougher")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help=f"of {', '.join(_NAMES)}; or a server"
    )
    parser.add_argument("--beside", action="append", default=[], type=Path, metavar="DIR", help="another copy of this")
    parser.add_argument("--rounds", type=int, help="how often everything is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every round there")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        uvloop.run(main(options()))
    except BenchError as error:
        sys.exit(f"bench: {error}")
