"""The documents and the code say the same: every error code, every setting."""

import ast
import re

from chatcore import errors
from chatcore.settings.names import ELSEWHERE
from tests.support import sources

DOCS = sources.ROOT / "docs"
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


def _kinds() -> list[errors.Kind]:
    return [value for value in vars(errors).values() if isinstance(value, errors.Kind)]


def test_error_codes_are_unique() -> None:
    assert len(errors.KINDS) == len(_kinds())
    assert all(kind.code == code for code, kind in errors.KINDS.items())


def test_an_error_says_a_sentence_to_the_visitor() -> None:
    assert not [kind.code for kind in _kinds() if not re.fullmatch(r"[A-Z][^\n]{15,}\.", kind.sentence)]
    assert not [
        kind.code for kind in _kinds() if re.search(r"n8n|upstream|webhook|https?:", kind.sentence, re.IGNORECASE)
    ]


def test_every_error_is_documented_with_its_status_and_no_other() -> None:
    rows = re.findall(r"(?m)^\|\s*(\d{3})\s*\|\s*`([a-z_]+)`\s*\|", (DOCS / "errors.md").read_text("utf-8"))
    assert sorted((int(status), code) for status, code in rows) == sorted((kind.status, kind.code) for kind in _kinds())


def test_the_tree_in_the_docstring_names_every_error() -> None:
    tree = re.findall(r"(?m)(?:^ {4}|   )(\d{3})((?: [a-z_]+)+)", errors.__doc__ or "")
    named = {(int(status), code) for status, codes in tree for code in codes.split()}
    assert named == {(kind.status, kind.code) for kind in _kinds()}


def test_every_setting_is_documented() -> None:
    written = {
        node.value
        for path in (sources.ROOT / "chatcore" / "settings").glob("*.py")
        for node in ast.walk(sources.tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value)
    }
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (DOCS / "settings.md").read_text("utf-8")))
    assert not {name for name in written - ELSEWHERE if name.removesuffix("_FILE") not in documented}
