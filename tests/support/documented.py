"""Runs what README and docs show: shell commands as they are written, in a folder like a user's; other examples."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from tests.support import sources

FENCE = re.compile(r"^(`{3,})(\w*)$")
OUTSIDE = re.compile(r"(PIP|SSL|REQUESTS)_|\w+_proxy$|PATH$|LANG$|LC_ALL$|PYTHONPYCACHEPREFIX$")
"""What this machine tells its programs (a mirror, certificates): part of the machine, not of who develops."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: the `number`th of its language below its heading, from 0."""

    document: str
    heading: str
    language: str
    number: int
    text: str


def documents() -> list[Path]:
    """Give README, the other documents beside it, and docs."""
    return [*sorted(sources.ROOT.glob("*.md")), *sorted((sources.ROOT / "docs").glob("**/*.md"))]


def read(path: Path) -> tuple[str, list[Block]]:
    """Take a document apart: its prose, headings included, and its fenced blocks."""
    prose: list[str] = []
    found: list[Block] = []
    heading, language, lines = "", None, list[str]()
    for line in path.read_text("utf-8").splitlines():
        fence = FENCE.match(line)
        if fence and language is None:
            language, lines = fence[2], []
        elif fence:
            number = sum((block.heading, block.language) == (heading, language) for block in found)
            found.append(Block(sources.name_of(path), heading, language or "", number, "\n".join(lines)))
            language = None
        elif language is not None:
            lines.append(line)
        else:
            prose.append(line)
            if line.startswith("#"):
                heading = line.lstrip("# ")
    assert language is None, f"a block of {path} has no end"
    return "\n".join(prose), found


def blocks(path: Path) -> list[Block]:
    """Give the shell commands of a document, block by block."""
    return [block for block in read(path)[1] if block.language == "sh"]


def fenced(document: str, heading: str, language: str, number: int = 0) -> str:
    """Give a block in any language as it is written."""
    for block in read(sources.ROOT / document)[1]:
        if (block.heading, block.language, block.number) == (heading, language, number):
            return block.text
    raise AssertionError(f"{document} has no block {number} in {language} below {heading!r}")


def commands(document: str, heading: str, number: int = 0) -> str:
    """Give shell commands as they are written. Tests call this with literals: so another test sees that all are run."""
    return fenced(document, heading, "sh", number)


def differences(example: Any, answer: Any, place: str = "") -> list[str]:
    """Tell where an answer has other members than an example shows; None and [] may stand for any value."""
    if example in (None, []) or answer in (None, []):
        return []
    if isinstance(example, dict) and isinstance(answer, dict):
        only = [f"{place}.{name} is in one of them" for name in sorted(example.keys() ^ answer.keys())]
        both = [differences(example[name], answer[name], f"{place}.{name}") for name in example.keys() & answer.keys()]
        return only + [one for some in both for one in some]
    if isinstance(example, list) and isinstance(answer, list):
        return [one for some in answer for one in differences(example[0], some, f"{place}[]")]
    numbers = isinstance(example, int | float) and isinstance(answer, int | float)
    return [] if numbers or type(example) is type(answer) else [f"{place} is {answer!r}, not as {example!r}"]


class Place:
    """A folder as somebody has it who got chatcore and installed its requirements: mains, chatcore, deploy, `.venv`.

    `python` and `.venv/bin/python` have the packages of all modes. `environment` is what the shell has beside that.
    With `installed=False` it is as somebody has it who just got it, and the system's Python is `python3`.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None, *, installed: bool = True) -> None:
        self.folder = folder
        for source in [*sources.mains(), *sources.ROOT.glob("requirements*.txt"), *sources.ROOT.glob("*.yaml")]:
            shutil.copy(source, folder)
        for name in ("chatcore", "deploy"):
            shutil.copytree(sources.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        _copy_bytecode(folder)
        if installed:
            _make_environment(folder / ".venv")
        outside = {name: value for name, value in os.environ.items() if OUTSIDE.match(name)}
        path = f"{sys.prefix}/bin:{os.environ['PATH']}" if installed else os.environ["PATH"]
        self.environment = {**outside, "PATH": path, "HOME": str(folder), "API_HOST": "127.0.0.1"}
        self.environment |= environment or {}

    def run(self, text: str, instead: Mapping[str, str] | None = None, *, status: int = 0, seconds: float = 60) -> str:
        """Run commands to their end; gives what they printed. The test fails where they do not end with `status`.

        `instead` has what stands in the place of examples' addresses and the like; each must occur.
        """
        done = subprocess.run(
            _shell(text, instead),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == status, f"{text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def running(self, text: str, instead: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run commands that do not end by themselves, such as a server; they are stopped as Ctrl-C does it.

        What they print is in `log` of the folder.
        """
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                _shell(text, instead),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _copy_bytecode(folder: Path) -> None:
    """Spare a copy's first start compiling what is compiled already."""
    for source in (sources.ROOT / "chatcore").rglob("*.py"):
        compiled = Path(cache_from_source(str(source)))
        if compiled.is_file():
            target = Path(cache_from_source(str(folder / source.relative_to(sources.ROOT))))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(compiled, target)


def _make_environment(environment: Path) -> None:
    """Lead to the environment of the tests, whose packages are compiled: for a link, Python would do so anew."""
    (environment / "bin").mkdir(parents=True)
    for program in Path(sys.prefix, "bin").iterdir():
        if not program.name.startswith("python"):
            (environment / "bin" / program.name).symlink_to(program)
    for name in ("python", "python3"):
        program = environment / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        program.chmod(0o755)


def _shell(text: str, instead: Mapping[str, str] | None) -> list[str]:
    for written, put in (instead or {}).items():
        assert written in text, f"{written!r} does not occur in\n{text}"
        text = text.replace(written, put)
    return ["bash", "-euo", "pipefail", "-c", text]
