"""Whether what a pass made answers as the original does."""

from collections.abc import Sequence
from pathlib import Path

from components.core.spec import EXACT_TOLERANCE
from components.optimize.parity import collect, differences
from components.savedmodel.rewrite import GraphRewrite, read, write


def read_one(path: Path) -> GraphRewrite:
    """Return the only meta graph of a model."""
    (graph,) = read(path)
    return graph


def ops(graph: GraphRewrite) -> list[str]:
    """Return the ops of the main graph, big constants as ``Const``, sorted."""
    return sorted("Const" if node.name in graph.values else node.op for node in graph.graph.node)


def assert_agrees(source: Path, graphs: Sequence[GraphRewrite], out: Path) -> None:
    """Write ``graphs`` and compare every output of every signature, on several batch sizes, with the source's."""
    write(graphs, out)
    found = differences(collect(source, (3,)), out, EXACT_TOLERANCE)
    assert found
    for entry in found:
        assert entry.requests >= 6
        assert entry.within, entry
