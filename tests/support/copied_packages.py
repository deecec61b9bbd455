"""Puts the packages of all modes into a virtual environment without a network: those that the tests run with."""

import os
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import sources


def needed() -> set[str]:
    """Give the names of all that the mains need."""
    files = [file for file in sources.ROOT.glob("requirements*.txt") if file.name != "requirements-dev.txt"]
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    waiting = [Requirement(line) for line in lines if line[:1].isalpha()]
    found: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        for line in distribution(wanted.name).requires or []:
            one = Requirement(line)
            asked = one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))
            if asked and canonicalize_name(one.name) not in found:
                waiting.append(one)
        found.add(canonicalize_name(wanted.name))
    return found


def copy(environment: Path) -> None:
    """Give an environment what is needed, by links where that can be done."""
    (site,) = environment.glob("lib/python*/site-packages")
    for name in needed():
        package = distribution(name)
        for file in package.files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)  # or a second name of ours would be written through
                source = str(package.locate_file(file))
                try:
                    os.link(source, target)
                except OSError:  # on another disk
                    shutil.copy(source, target)


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
