"""sort_by_execution_order: write each node after the nodes it needs.

Matches the main graph. Safe because the order of nodes in a ``GraphDef`` means nothing to a session; a reader that goes
through it once profits. Refuses graphs with a cycle that is no old-style loop.
"""

from components.optimize.outcome import Outcome
from components.savedmodel.graph import topological
from components.savedmodel.rewrite import GraphRewrite


def apply(graph: GraphRewrite) -> Outcome:
    """Sort; fired counts the nodes that moved."""
    before = [node.name for node in graph.graph.node]
    ordered = list(topological(sorted(graph.graph.node, key=lambda node: node.name)))
    moved = sum(old != node.name for old, node in zip(before, ordered, strict=True))
    graph.graph.ClearField("node")
    graph.graph.node.extend(ordered)
    return Outcome(moved, () if moved else ("the nodes are in order",))
