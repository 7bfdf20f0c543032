"""Who may import and read what: rules that import contracts cannot say, read from the syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for package in ("components", "manifests", "pipelines") for path in (ROOT / package).rglob("*.py")
)


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every module a tree imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(package: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if any(f"{name}.".startswith(f"{package}.") for name in imported(ast.parse(path.read_text())))
    }


@pytest.mark.parametrize(
    ("package", "place"),
    [
        ("kfp", "pipelines/kubeflow"),
        ("hera", "pipelines/argo"),
        ("kubernetes", "components/cluster/"),
        ("google.cloud", "components/store/"),
    ],
)
def test_a_client_library_is_imported_in_its_one_place_only(package: str, place: str):
    assert {path for path in importers(package) if not path.startswith(place)} == set()


def test_only_the_command_line_reads_the_environment():
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and ast.unparse(node.value) == "os")
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {"environ", "getenv"} & {a.name for a in node.names}
        )
    }
    assert readers <= {"pipelines/cli.py"}


def test_the_rules_read_every_package():
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == {"components", "manifests", "pipelines"}
