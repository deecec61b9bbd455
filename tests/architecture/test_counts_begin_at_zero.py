"""Counts that alerts rely on are there from the start: the places of crashes that the code names are all known."""

import ast

from chatcore.observe import CRASH_PLACES
from tests.support import sources


def test_every_place_of_a_crash_is_known_beforehand() -> None:
    named = {
        node.args[0].value
        for path in (sources.ROOT / "chatcore").glob("**/*.py")
        for node in ast.walk(sources.tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Crashed" and isinstance(node.args[0], ast.Constant)
    }
    assert named == set(CRASH_PLACES)
