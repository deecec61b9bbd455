"""Every line of code has its room: size, names, first sentences, and which outside package is known where."""

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.support import sources

LINES = 300
VAGUE = {"base", "common", "core", "helper", "helpers", "lib", "manager", "managers", "misc", "tools", "util", "utils"}
VAGUE_CLASS = re.compile(r"(Base|Common|Helper|Helpers|Manager|Util|Utils)$|^(Base|Abstract)[A-Z]")

ROOMS = {
    "aiohttp": {"chatcore/upstream/pooled.py"},
    "yarl": {"chatcore/upstream/pooled.py"},
    "jose": {"chatcore/tokens.py"},
    "multipart": {"chatcore/form_data.py"},
    "uvicorn": {"chatcore/serve/", "chatcore/cli/"},
    "httptools": {"chatcore/serve/"},
    "uvloop": {"chatcore/serve/", "chatcore/cli/"},
    "starlette": {
        "chatcore/app.py",
        "chatcore/asgi.py",
        "chatcore/middleware.py",
        "chatcore/routes/",
        "chatcore/serve/",
    },
    "prometheus_client": {"chatcore/metrics.py", "chatcore/metrics_of_workers.py", "chatcore/routes/ops.py"},
    "dotenv": {"chatcore/settings/"},
    "msgspec": {"chatcore/"},
    "aiosqlite": {"chatcore/stores/"},
    "sqlite3": {"chatcore/stores/"},
    "sqlalchemy": {"chatcore/stores/"},
    "psycopg": {"chatcore/stores/"},
    "redis": {"chatcore/stores/"},
    "alembic": {"chatcore/stores/"},
    "opentelemetry": {"chatcore/span_export.py"},
}
"""Which files may import a package from outside; a folder ends in a slash."""


def _library() -> list[Path]:
    return [*sources.library(), *sources.mains()]


@pytest.mark.parametrize("path", _library(), ids=sources.name_of)
def test_a_file_is_seen_at_a_glance(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LINES


@pytest.mark.parametrize("path", sources.python_files(), ids=sources.name_of)
def test_a_file_says_first_what_it_owns(path: Path) -> None:
    if path.name == "__init__.py" and not path.read_text("utf-8"):
        return
    first = (ast.get_docstring(sources.tree(path)) or "").partition("\n")[0]
    assert len(first) >= 20, f"the first line of the docstring says what the file owns, not {first!r}"


@pytest.mark.parametrize("path", _library(), ids=sources.name_of)
def test_names_say_something(path: Path) -> None:
    assert not {path.stem, path.parent.name} & VAGUE
    classes = [node.name for node in ast.walk(sources.tree(path)) if isinstance(node, ast.ClassDef)]
    assert not [name for name in classes if VAGUE_CLASS.search(name.lstrip("_"))]


@pytest.mark.parametrize("path", _library(), ids=sources.name_of)
def test_a_package_from_outside_is_known_only_in_its_room(path: Path) -> None:
    name = sources.name_of(path)
    outside = sources.packages(path) - {"chatcore"}
    known = {package for package in outside if package in ROOMS}
    assert not {one for one in known if not any(name == room or name.startswith(room) for room in ROOMS[one])}
    assert outside - known <= sys.stdlib_module_names, "a package without a room: give it one"


def test_ports_are_narrow() -> None:
    wide = {
        node.name: methods
        for node in sources.tree(sources.ROOT / "chatcore" / "ports.py").body
        if isinstance(node, ast.ClassDef)
        and "Protocol" in {base.id for base in node.bases if isinstance(base, ast.Name)}
        if len(methods := [one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)])
        > 4
    }
    assert not wide


@pytest.mark.parametrize("path", sources.library(), ids=sources.name_of)
def test_nobody_but_a_main_chooses_a_variant_of_stores(path: Path) -> None:
    if not sources.name_of(path).startswith("chatcore/stores/"):
        assert not {name for name in sources.imported(path) if name.startswith("chatcore.stores.")}
