"""README and docs keep their word: links lead somewhere, names exist, the first command serves."""

import re
import shlex
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
from tests.support import documented, sources
from tests.support.client import NO_TLS
from tests.support.ports import free_port

README = sources.ROOT / "README.md"
DOCS = sorted((sources.ROOT / "docs").glob("**/*.md"))
DOCUMENTS = documented.documents()
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SETTING = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`")
NO_SETTING = {"NAME_FILE", "SSL_CERT_FILE", "TZ", "TEST_DATABASE_URL", "TEST_REDIS_URL", "COMPOSE_PROFILES"}
SECONDS_TO_SERVE = 90.0


def _anchors(path: Path) -> set[str]:
    """Give the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", documented.read(path)[0])
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=sources.name_of)
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for link in LINK.findall(documented.read(path)[0]):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.is_file() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("path", DOCUMENTS, ids=sources.name_of)
def test_settings_that_are_named_are_documented(path: Path) -> None:
    described = set(SETTING.findall((sources.ROOT / "docs" / "settings.md").read_text("utf-8")))
    of_compose = set(re.findall(r"\$\{(\w+)", (sources.ROOT / "compose.yaml").read_text("utf-8")))
    named = set(SETTING.findall(path.read_text("utf-8"))) - NO_SETTING - of_compose
    unknown = {name for name in named if not any(name == one or name.startswith(f"{one}_") for one in described)}
    assert not {name for name in unknown if name.removesuffix("_FILE") not in described}


@pytest.mark.parametrize("path", [README, *DOCS], ids=sources.name_of)
def test_only_modes_that_exist_are_described(path: Path) -> None:
    text = path.read_text("utf-8")
    mains = set(re.findall(r"main_\w+\.py", text)) - {main.name for main in sources.mains()}
    targets = set(re.findall(r"--target (\w+)", text)) - {main.stem.removeprefix("main_") for main in sources.mains()}
    assert not mains
    assert not targets
    if path.name != "settings.md":
        described = set(SETTING.findall((sources.ROOT / "docs" / "settings.md").read_text("utf-8")))
        assert not [name for name in SETTING.findall(text) if name in ELSEWHERE - described]


@pytest.mark.parametrize("path", DOCUMENTS, ids=sources.name_of)
def test_shell_commands_are_well_formed_and_their_files_exist(path: Path) -> None:
    for block in documented.blocks(path):
        subprocess.run(["bash", "-n", "-c", block.text], check=True, timeout=10)
        for word in shlex.split(block.text, comments=True):
            if re.fullmatch(r"[\w./-]+\.(py|txt)|tests/\w+", word) and not word.startswith("/"):
                assert (sources.ROOT / word).is_file(), word


def test_the_readme_is_read_in_three_minutes() -> None:
    words = re.sub(r"[^\w\s]", " ", documented.read(README)[0]).split()
    assert len(words) < 700  # some 230 a minute


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    text = (sources.ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = re.findall(r"(?m)^\| `(chatcore_\w+)` \| (\w+) \| ([^|]*?) ?\|", text)
    described = {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
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
    assert described == exported


def test_every_module_is_in_the_layout() -> None:
    layout = documented.fenced("docs/architecture.md", "Layout", "")
    children = (sources.ROOT / "chatcore").iterdir()
    names = {path.name + "/" * path.is_dir() for path in children if not path.name.startswith("_")}
    assert not {name for name in names if not re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", layout)}
    listed = set(re.findall(r"(?m)^  (?:\w+\.py, )?(\w+(?:\.py|/)) ", layout))
    assert listed <= names, "the layout names what is not there"


def test_the_version_in_the_changelog_is_the_one_that_runs() -> None:
    newest = re.search(r"(?m)^## ([0-9.]+)", (sources.ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert newest is not None
    assert newest[1] == __version__


@pytest.fixture
def readme_server(tmp_path: Path) -> Iterator[str]:
    """Run the README's first command in a clean copy, as somebody would who just got it; gives the address."""
    port = free_port()
    place = documented.Place(tmp_path, {"API_PORT": str(port)}, installed=False)
    address = f"http://127.0.0.1:{port}"
    with place.running(documented.commands("README.md", "Try it")) as process:
        _wait_until_serving(process, address, tmp_path / "log")
        yield address


def _wait_until_serving(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    began = time.monotonic()
    while True:
        try:
            httpx.get(f"{address}/health/live", trust_env=False, verify=NO_TLS).raise_for_status()
        except httpx.TransportError:
            printed = log.read_text("utf-8", "replace")
            assert process.poll() is None, printed
            assert time.monotonic() - began < SECONDS_TO_SERVE, printed
            time.sleep(0.1)
        else:
            return


def test_the_first_command_of_the_readme_serves_a_clean_copy(readme_server: str) -> None:
    health: dict[str, Any] = httpx.get(f"{readme_server}/health", trust_env=False, verify=NO_TLS).json()
    page = httpx.get(readme_server, trust_env=False, verify=NO_TLS)
    assert (health["status"], health["mode"], health["version"]) == ("ok", "stateless", __version__)
    assert page.headers["content-type"].startswith("text/html")
    with httpx.Client(base_url=readme_server, trust_env=False, verify=NO_TLS, timeout=30) as client:
        token = client.post("/api/v1/session").json()["token"]
        said = {"message": "/echo as in the README"}
        reply = client.post("/api/v1/chat", json=said, headers={"Authorization": f"Bearer {token}"}).json()
    assert reply["content"] == "as in the README"
