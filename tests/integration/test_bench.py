"""The measurements of docs/performance.md can be made: the smallest one for real, by the program that makes all."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.support import documented, sources


def test_one_measurement_gives_its_figures(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    wanted = ("--quick", "--rounds", "1", "--only", "json1", "--only", "chatcore", "--json", str(file))
    command = [sys.executable, "-m", "bench.compare", *wanted]
    done = subprocess.run(command, cwd=sources.ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?m)^JSON, 1 connection: CPU µs per request +[1-9]", done.stdout)
    assert json.loads(file.read_text("utf-8"))


def test_the_options_of_the_page_are_those_of_the_programs() -> None:
    prose, blocks = documented.read(sources.ROOT / "docs" / "performance.md")
    text = "\n".join([prose, *(block.text for block in blocks)])
    written = set(re.findall(r"(?<![\w-])--[a-z]+", text))
    offered = set()
    for name in ("compare", "profiling"):
        source = (sources.ROOT / "bench" / f"{name}.py").read_text("utf-8")
        offered |= set(re.findall(r"\"(--[a-z]+)\"", source))
    assert written
    assert written <= offered
    for name in ("run", "profile"):
        subprocess.run(["bash", "-n", f"bench/{name}"], cwd=sources.ROOT, check=True, timeout=10)
