"""remove_device: clear the device each node was placed on in training, so that the server's runtime places it.

Matches every node with a device string. Safe because placement does not change a result; a device that the server does
not have would make it refuse the model. Refuses nothing.
"""

from components.optimize.outcome import Outcome
from components.savedmodel.inspect import every_node
from components.savedmodel.rewrite import GraphRewrite


def apply(graph: GraphRewrite) -> Outcome:
    """Clear devices; fired counts the nodes that had one."""
    placed = [node for node in every_node(graph.graph) if node.device]
    for node in placed:
        node.device = ""
    return Outcome(len(placed), () if placed else ("no node names a device",))
