"""Every block of shell commands in README and docs is run by some test, or is named here with the reason why not."""

import ast

from tests.support import documented, sources

CANNOT_RUN: dict[tuple[str, str, int], str] = {
    ("README.md", "Tests", 0): "it is what runs this test",
    (
        "docs/performance.md",
        "Run it",
        0,
    ): "it takes minutes and all cores; tests/integration/test_bench.py makes one measurement",
    ("docs/performance.md", "Run it", 1): "the same; that it would start is seen there",
}
"""Document, heading and number of blocks that nothing here can run. What each says is then checked otherwise."""


def _run() -> set[tuple[str, str, int]]:
    """Give what `documented.commands` is called with, anywhere in the tests."""
    found = set()
    for path in sorted((sources.ROOT / "tests").glob("**/*.py")):
        if "node_modules" in path.parts:
            continue
        for node in ast.walk(sources.tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"documented.commands", "commands"}:
                document, heading, number = [ast.literal_eval(argument) for argument in [*node.args, ast.Constant(0)]][
                    :3
                ]
                found.add((document, heading, number))
    return found


def test_every_block_of_commands_is_run_by_a_test() -> None:
    written = {
        (block.document, block.heading, block.number)
        for path in documented.documents()
        for block in documented.blocks(path)
    }
    run = _run()
    assert not {block for block in CANNOT_RUN if block in run or block not in written}
    assert run == written - CANNOT_RUN.keys()
