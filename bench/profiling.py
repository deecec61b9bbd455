"""Where the server's microseconds go: chatcore under one measurement's load, with a profiler beside it."""

import argparse
import asyncio
import pstats
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import uvloop

from bench.compare import stage
from bench.measure import FULL, MEASUREMENTS, Length
from bench.servers import ROOT, BenchError, Server, find_peers, start

_RATE = 997  # samples a second; a prime, so that it does not come in step with anything
_WHERE = re.compile(r"^(?P<function>.*) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)$")


async def main(arguments: argparse.Namespace) -> None:
    """Run the load, print the profile."""
    length = replace(FULL, seconds=arguments.seconds)
    root = arguments.root.resolve()
    wanted = arguments.mode if arguments.mode != "stateless" else root.name
    peer = next(peer for peer in find_peers([root]) if peer.name == wanted)
    async with stage() as setting:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            directory = Path(name)
            if arguments.exact:
                options = ("-m", "cProfile", "-o", str(directory / "exact"))
                setting = replace(setting, python_options=options)  # noqa: PLW2901 - the stage's, with one more
            server = await start(peer, setting, directory)
            try:
                # The profiler stops the server for every sample, which costs it time: so the cost is measured before.
                figures = await MEASUREMENTS[arguments.name](server, replace(length, seconds=2.0))
                await _under_load(arguments, server, length, directory)
            finally:
                await server.stop()
            kind, cpu = next((key, value) for key, value in figures.items() if key.startswith("cpu_us"))
            assert isinstance(cpu, float)
            unit = kind.rpartition("_")[2]
            print(f"\n{cpu:.1f} µs of CPU per {unit}\n")
            if arguments.exact:
                statistics = pstats.Stats(str(directory / "exact"))
                statistics.strip_dirs().sort_stats("tottime").print_stats(arguments.top)
            else:
                print(_sampled((directory / "samples").read_text("utf-8").splitlines(), cpu, unit, arguments))


async def _under_load(arguments: argparse.Namespace, server: Server, length: Length, directory: Path) -> None:
    if arguments.exact:
        await MEASUREMENTS[arguments.name](server, length)
        return
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--format", "raw"]
    command += ["--rate", str(_RATE), "--output", str(directory / "samples"), "--pid", str(server.process.pid)]
    command += ["--duration", "600", *(["--native"] if arguments.native else [])]
    spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: ASYNC220 - starts at once
    await asyncio.sleep(0.5)
    try:
        await MEASUREMENTS[arguments.name](server, length)
    finally:
        spy.send_signal(signal.SIGINT)  # then it writes what it has
        _, said = await asyncio.to_thread(spy.communicate)
    if not (directory / "samples").exists():
        raise BenchError(f"py-spy failed (it may need root): {said.decode()}")


def _sampled(lines: Iterable[str], cpu: float, unit: str, arguments: argparse.Namespace) -> str:
    """Give the functions that most samples were in, and under, in microseconds of what one request or chunk takes."""
    own: Counter[str] = Counter()
    under: Counter[str] = Counter()
    total = 0
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_place(frame, arguments) for frame in stack.split(";")]
        if "uvloop" not in stack and "run (asyncio" not in stack and "serve" not in stack:
            continue  # another thread
        total += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            under[frame] += int(count)
    text = [f"{total} samples", "", f"  µs per {unit}", "    own   under"]
    shown = {place for place, _ in own.most_common(arguments.top)} | {
        place for place, _ in under.most_common(arguments.top)
    }
    by_cost = sorted(shown, key=lambda place: (-own[place], -under[place]))
    text.extend(f"{own[place] / total * cpu:7.1f} {under[place] / total * cpu:7.1f}  {place}" for place in by_cost)
    return "\n".join(text)


def _place(frame: str, arguments: argparse.Namespace) -> str:
    found = _WHERE.match(frame)
    if found is None:
        return frame
    file = found["file"].replace(str(ROOT) + "/", "").rpartition("site-packages/")[2]
    line = f":{found['line']}" if arguments.lines and found["line"] else ""
    return f"{file}{line} {found['function']}"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bash bench/profile", description=__doc__)
    parser.add_argument("name", choices=sorted(MEASUREMENTS), help="the measurement whose load the server is under")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to look")
    parser.add_argument("--top", type=int, default=45, help="how many functions to show")
    parser.add_argument("--lines", action="store_true", help="tell lines apart, not functions only")
    parser.add_argument("--native", action="store_true", help="functions of extension modules too")
    parser.add_argument(
        "--exact", action="store_true", help="Python's own profiler: counts, and times that it distorts"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="another copy of this repository")
    parser.add_argument("--mode", choices=["stateless", "sqlite", "postgres"], default="stateless", help="which main")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        uvloop.run(main(options()))
    except BenchError as error:
        sys.exit(f"bench: {error}")
