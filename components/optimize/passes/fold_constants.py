"""fold_constants: compute once what does not depend on a request.

Matches nodes all of whose inputs are constants, shapes that are known, and orders of execution that follow from others
(grappler's ``constfold``, ``pruning`` and ``dependency`` optimizers). Safe because an op without state gives the same
result for the same inputs. Refuses whatever depends on a request, on an asset's path (which is another one on the
server), on a variable, or on a weight kept beside the graph: those are folded by passes that know the op.
"""

from components.optimize.grappler import optimize
from components.optimize.outcome import Outcome
from components.optimize.passes.strip_unused import apply as strip
from components.savedmodel.graph import is_control, node_of
from components.savedmodel.rewrite import GraphRewrite


def apply(graph: GraphRewrite, *, ignore_errors: tuple[str, ...] = ()) -> Outcome:  # noqa: ARG001 - see Args
    """Fold; fired counts the nodes that are gone.

    Args:
        graph: Is changed in place.
        ignore_errors: Accepted because the Graph Transform Tool's recipes give it; an error undoes the pass anyway.
    """
    before = len(graph.graph.node)
    optimize(graph, ["pruning", "constfold", "dependency"])
    drop_idle_orders(graph)
    graph.detach()
    strip(graph)
    fired = max(0, before - len(graph.graph.node))
    return Outcome(fired, () if fired else ("nothing is constant that was not so already",))


def drop_idle_orders(graph: GraphRewrite) -> None:
    """Remove control inputs that wait for nothing: for constants, and for ``NoOp`` nodes without inputs."""
    idle: set[str] = set()
    while True:
        found = {
            node.name
            for node in graph.graph.node
            if not node.input and (node.op in ("Const", "NoOp") or node.name in graph.values)
        }
        if found == idle:
            return
        idle = found
        for node in graph.graph.node:
            kept = [name for name in node.input if not (is_control(name) and node_of(name) in idle)]
            if len(kept) < len(node.input):
                del node.input[:]
                node.input.extend(kept)
