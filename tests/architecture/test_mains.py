"""The mains are thin, and they alone read the environment and choose a variant of stores; importing does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import sources

THIN_LINES = 60
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
DRIVERS = ("aiosqlite", "asyncpg", "psycopg", "redis", "sqlalchemy", "sqlite3")

WATCH = """
import sys, threading
harmless = {"r", "rb", None}
def hook(event, args):
    if event in {"socket.bind", "socket.connect", "socket.listen", "subprocess.Popen", "os.system", "os.fork"}:
        raise SystemExit(f"importing did {event} {args}")
    if event == "open" and isinstance(args[1], str) and args[1] not in harmless:
        raise SystemExit(f"importing wrote to {args[0]}")
sys.addaudithook(hook)
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
if threading.active_count() != 1:
    raise SystemExit(f"importing started {threading.enumerate()}")
print(*sorted(sys.modules))
"""


def _imported_by(*modules: str) -> set[str]:
    """Import in a fresh interpreter that watches what is done, and give the names of all modules loaded."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCH, *modules],
        cwd=sources.ROOT,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    *printed, names = done.stdout.splitlines()
    assert not printed, "importing printed something"
    return set(names.split())


def test_there_is_a_stateless_main() -> None:
    assert "main_stateless.py" in [path.name for path in sources.mains()]


def test_what_reads_files_is_not_loaded_before_it_is_needed() -> None:
    assert not {"chatcore.form_data", "chatcore.file_types"} & _imported_by("chatcore.app")


@pytest.mark.parametrize("path", sources.mains(), ids=sources.name_of)
def test_a_main_is_thin(path: Path) -> None:
    tree = sources.tree(path)
    assert len(path.read_text("utf-8").splitlines()) <= THIN_LINES
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    guards = [ast.unparse(node.test) for node in tree.body if isinstance(node, ast.If)]
    assert guards == ["__name__ == '__main__'"]


@pytest.mark.parametrize("path", sources.mains(), ids=sources.name_of)
def test_a_main_takes_the_stores_of_its_own_name(path: Path) -> None:
    wanted = "chatcore.stores." + path.stem.removeprefix("main_")
    known = {".".join(name.split(".")[:3]) for name in sources.imported(path) if name.startswith("chatcore.stores.")}
    assert known == {wanted}


@pytest.mark.parametrize("path", sources.library(), ids=sources.name_of)
def test_the_library_does_not_read_the_environment(path: Path) -> None:
    read = [
        ast.unparse(node)
        for node in ast.walk(sources.tree(path))
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and ast.unparse(node.value) == "os"
    ]
    assert not read
    assert not {name for name in sources.imported(path) if name in {f"os.{one}" for one in ENVIRONMENT}}


@pytest.mark.parametrize("path", sources.mains(), ids=sources.name_of)
def test_importing_a_main_does_nothing(path: Path) -> None:
    _imported_by(path.stem)


def test_the_stateless_main_loads_no_database_driver() -> None:
    loaded = _imported_by("main_stateless")
    assert not {name for name in loaded if name.partition(".")[0] in DRIVERS}


def test_importing_any_module_of_the_library_does_nothing() -> None:
    modules = [sources.name_of(path).removesuffix(".py").replace("/", ".") for path in sources.library()]
    _imported_by(*(name.removesuffix(".__init__") for name in modules))
