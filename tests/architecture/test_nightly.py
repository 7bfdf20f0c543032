"""What does not run for every change is listed where a contributor looks for it."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = (ROOT / "CONTRIBUTING.md").read_text().partition("### Nightly")[2].partition("\n## ")[0]


def nightly() -> Iterator[str]:
    """Yield each test, or each file, that is marked nightly."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                "nightly" in ast.unparse(mark) for mark in node.decorator_list
            ):
                yield node.name
            if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node) and "nightly" in ast.unparse(node):
                yield path.relative_to(ROOT).as_posix()


def test_every_nightly_test_is_listed_and_nothing_else_is():
    listed = {line.split("`")[1] for line in LIST.splitlines() if line.startswith("| `")}
    assert listed == set(nightly())
