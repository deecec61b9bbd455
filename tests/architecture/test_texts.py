"""What a reader stumbles over: unfinished work, checks silenced without a reason, foreign paths, loose pins."""

import re
import tokenize
from pathlib import Path

import pytest

from tests.support import sources

UNFINISHED = re.compile(r"T[O]DO|F[I]XME|X[X]X|Not[I]mplementedError|pytest\.(mark\.)?(sk[i]p|xf[a]il)\b|\.[o]nly\(")
FOREIGN = re.compile(r"/r[o]ot/|/w[o]rk/|/t[m]p/\w+/|\.\./sh[a]red|/h[o]me/\w+/")
SILENCED = re.compile(r"#\s*(noqa|type:\s*ignore|pragma|nosec|pylint)")
REASON = re.compile(
    r"#\s*noqa: [A-Z0-9]+(, [A-Z0-9]+)* - \S.+"
    r"|#\s*type: ignore\[[a-z-]+(,\s*[a-z-]+)*\]\s+# \S.+"
)
PIN = re.compile(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[0-9][A-Za-z0-9.]*(; .+)?$")


@pytest.mark.parametrize("path", sources.text_files(), ids=sources.name_of)
def test_a_file_is_finished_and_speaks_of_the_product_alone(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    found = [
        f"{n}: {line.strip()}" for n, line in enumerate(lines, 1) if UNFINISHED.search(line) or FOREIGN.search(line)
    ]
    assert not found


@pytest.mark.parametrize("path", sources.python_files(), ids=sources.name_of)
def test_every_silenced_check_has_its_reason_on_the_line(path: Path) -> None:
    with tokenize.open(path) as source:
        comments = [token for token in tokenize.generate_tokens(source.readline) if token.type == tokenize.COMMENT]
    bare = [f"{one.start[0]}: {one.string}" for one in comments if SILENCED.match(one.string)]
    assert not [line for line in bare if not REASON.search(line)]


@pytest.mark.parametrize("path", sorted(sources.ROOT.glob("requirements*.txt")), ids=sources.name_of)
def test_every_requirement_is_pinned(path: Path) -> None:
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    wanted = [line for line in lines if line and not line.startswith(("#", "-r "))]
    assert wanted
    assert not [line for line in wanted if not PIN.fullmatch(line)]
    names = [re.split(r"[=\[]", line)[0].lower() for line in wanted]
    assert len(names) == len(set(names))


def test_a_package_has_one_version_in_all_requirements() -> None:
    versions: dict[str, set[str]] = {}
    for path in sources.ROOT.glob("requirements*.txt"):
        for name, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", path.read_text("utf-8")):
            versions.setdefault(name.lower(), set()).add(version)
    assert not {name: found for name, found in versions.items() if len(found) > 1}
