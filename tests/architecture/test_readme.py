"""README and docs keep their word: links lead somewhere, names exist, the first command serves."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chatcore import __version__
from chatcore.metrics import Metrics
from chatcore.metrics_of_workers import ABOUT_WORKERS
from chatcore.settings.names import ELSEWHERE
from tests.support import sources
from tests.support.ports import free_port

README = sources.ROOT / "README.md"
DOCUMENTS = [*sorted(sources.ROOT.glob("*.md")), *sorted((sources.ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SETTING = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")
NO_SETTING = {"NAME_FILE", "TZ"}
SECONDS_TO_SERVE = 90.0


def _commands(path: Path = README) -> list[str]:
    """Give the shell commands of a document, one string for each block."""
    return [body.strip() for language, body in FENCE.findall(path.read_text("utf-8")) if language == "sh"]


def _anchors(path: Path) -> set[str]:
    """Give the anchors of a document's headings, as GitHub makes them."""
    text = FENCE.sub("", path.read_text("utf-8"))
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=sources.name_of)
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for link in LINK.findall(FENCE.sub("", path.read_text("utf-8"))):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.is_file() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("path", DOCUMENTS, ids=sources.name_of)
def test_settings_that_are_named_are_documented(path: Path) -> None:
    documented = set(SETTING.findall((sources.ROOT / "docs" / "settings.md").read_text("utf-8")))
    named = set(SETTING.findall(path.read_text("utf-8"))) - NO_SETTING
    unknown = {name for name in named if not any(name == one or name.startswith(f"{one}_") for one in documented)}
    assert not {name for name in unknown if name.removesuffix("_FILE") not in documented}


@pytest.mark.parametrize("path", [README, *sorted((sources.ROOT / "docs").glob("*.md"))], ids=sources.name_of)
def test_only_modes_that_exist_are_described(path: Path) -> None:
    text = path.read_text("utf-8")
    mains = set(re.findall(r"main_\w+\.py", text)) - {main.name for main in sources.mains()}
    targets = set(re.findall(r"--target (\w+)", text)) - {main.stem.removeprefix("main_") for main in sources.mains()}
    assert not mains
    assert not targets
    if path.name != "settings.md":
        documented = set(SETTING.findall((sources.ROOT / "docs" / "settings.md").read_text("utf-8")))
        assert not [name for name in SETTING.findall(text) if name in ELSEWHERE - documented]


@pytest.mark.parametrize("path", DOCUMENTS, ids=sources.name_of)
def test_shell_commands_are_well_formed_and_their_files_exist(path: Path) -> None:
    for command in _commands(path):
        subprocess.run(["bash", "-n", "-c", command], check=True, timeout=10)
        for word in shlex.split(command, comments=True):
            if re.fullmatch(r"[\w./-]+\.(py|txt)|tests/\w+", word) and not word.startswith("/"):
                assert (sources.ROOT / word).is_file(), word


def test_the_readme_is_read_in_three_minutes() -> None:
    words = re.sub(r"[^\w\s]", " ", FENCE.sub("", README.read_text("utf-8"))).split()
    assert len(words) < 700  # some 230 a minute


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    text = (sources.ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = re.findall(r"(?m)^\| `(chatcore_\w+)` \| (\w+) \| ([^|]*?) ?\|", text)
    documented = {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    exported = set()
    for family in vars(Metrics()).values():
        if hasattr(family, "_labelnames"):
            kind = family._type  # noqa: SLF001 - the library tells a family's type nowhere else
            name = family._name + ("_total" if kind == "counter" else "")  # noqa: SLF001 - same
            exported.add((name, kind, frozenset(family._labelnames)))  # noqa: SLF001 - same
    assembly = (sources.ROOT / "chatcore" / "app.py").read_text("utf-8")
    exported |= {(f"chatcore_{name}", "gauge", frozenset()) for name in re.findall(r'\.gauge\(\s*"(\w+)"', assembly)}
    for name, (kind, _) in ABOUT_WORKERS.items():
        exported.add((name + ("_total" if kind == "counter" else ""), kind, frozenset()))
    assert documented == exported


def test_every_module_is_in_the_layout() -> None:
    text = (sources.ROOT / "docs" / "architecture.md").read_text("utf-8")
    layout = FENCE.search(text)
    assert layout is not None
    children = (sources.ROOT / "chatcore").iterdir()
    names = {path.name + "/" * path.is_dir() for path in children if not path.name.startswith("_")}
    assert not {name for name in names if not re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", layout[2])}
    listed = set(re.findall(r"(?m)^  (?:\w+\.py, )?(\w+(?:\.py|/)) ", layout[2]))
    assert listed <= names, "the layout names what is not there"


def test_the_version_in_the_changelog_is_the_one_that_runs() -> None:
    newest = re.search(r"(?m)^## ([0-9.]+)", (sources.ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert newest is not None
    assert newest[1] == __version__


@pytest.fixture
def readme_server(tmp_path: Path) -> Iterator[str]:
    """Run the README's first command in a clean copy, as somebody would who just got it; gives the address."""
    copy = tmp_path / "chatcore"
    shutil.copytree(sources.ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "node_modules"))
    port = free_port()
    # What this machine's pip is told (a mirror, certificates) is part of the machine, not of the developer's set-up.
    outside = {
        name: value for name, value in os.environ.items() if re.match(r"(PIP|SSL|REQUESTS)_|\w+_proxy$|PATH$", name)
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", _commands()[0]],
            cwd=copy,
            env={**outside, "HOME": str(tmp_path), "API_HOST": "127.0.0.1", "API_PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_serving(process, address, tmp_path / "log")
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait_until_serving(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    began = time.monotonic()
    while True:
        try:
            httpx.get(f"{address}/health/live", trust_env=False).raise_for_status()
        except httpx.TransportError:
            printed = log.read_text("utf-8", "replace")
            assert process.poll() is None, printed
            assert time.monotonic() - began < SECONDS_TO_SERVE, printed
            time.sleep(0.1)
        else:
            return


def test_the_first_command_of_the_readme_serves_a_clean_copy(readme_server: str) -> None:
    health: dict[str, Any] = httpx.get(f"{readme_server}/health", trust_env=False).json()
    page = httpx.get(readme_server, trust_env=False)
    assert (health["status"], health["mode"], health["version"]) == ("ok", "stateless", __version__)
    assert page.headers["content-type"].startswith("text/html")
    with httpx.Client(base_url=readme_server, trust_env=False, timeout=30) as client:
        token = client.post("/api/v1/session").json()["token"]
        said = {"message": "/echo as in the README"}
        reply = client.post("/api/v1/chat", json=said, headers={"Authorization": f"Bearer {token}"}).json()
    assert reply["content"] == "as in the README"
