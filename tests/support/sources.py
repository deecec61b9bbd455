"""The repository's own files as the architecture tests read them: which there are, and their syntax trees."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NOT_OURS = {"node_modules", "__pycache__", "captures"}
TEXT_SUFFIXES = {"", ".cfg", ".conf", ".css", ".html", ".js", ".json", ".lua", ".md", ".py", ".sh", ".sql", ".toml"}
TEXT_SUFFIXES |= {".txt", ".yaml", ".yml", ".service", ".ts", ".mjs"}
HIDDEN_BUT_OURS = {".ci", ".gitignore", ".dockerignore"}


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name not in HIDDEN_BUT_OURS
        if hidden or path.name in NOT_OURS:
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


@cache
def text_files() -> tuple[Path, ...]:
    """Give all files of the project that people write; caches, recordings and hidden folders are none."""
    return tuple(path for path in _walk(ROOT) if path.suffix in TEXT_SUFFIXES)


def mains() -> list[Path]:
    """Give the programs at the root."""
    return sorted(ROOT.glob("main_*.py"))


def library() -> list[Path]:
    """Give the modules of the core library."""
    return sorted((ROOT / "chatcore").rglob("*.py"))


def python_files() -> list[Path]:
    """Give all Python files: programs, library, tests, measurements."""
    return [path for path in text_files() if path.suffix == ".py"]


def name_of(path: Path) -> str:
    """Give the path as messages show it."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """Give the syntax tree of a Python file."""
    return ast.parse(path.read_text("utf-8"), name_of(path))


def imported(path: Path) -> set[str]:
    """Give the dotted names that a file imports; `from a import b` gives both `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(path: Path) -> set[str]:
    """Give the top-level packages that a file imports."""
    return {name.partition(".")[0] for name in imported(path)}
