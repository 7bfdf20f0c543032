"""strip_unused: remove what no signature, initializer, asset or saver needs, and functions that nobody calls any more.

Matches every node from which no tensor leads to a root. Safe because a session runs only what its fetches need, and all
that a server ever fetches is a root (``GraphRewrite.roots``). Refuses nothing; inputs of signatures stay even where no
output needs them, because a client may send them.
"""

from components.optimize.outcome import Outcome
from components.savedmodel.graph import by_name, called_functions, reachable
from components.savedmodel.rewrite import GraphRewrite


def apply(graph: GraphRewrite) -> Outcome:
    """Remove unreachable nodes and functions; fired counts both."""
    nodes = by_name(graph.graph)
    kept = reachable(nodes, graph.roots())
    functions = called_functions(graph.graph, (nodes[name] for name in kept))
    removed = len(nodes) - len(kept) + len(graph.graph.library.function) - len(functions)
    left = [node for node in graph.graph.node if node.name in kept]
    library = [function for function in graph.graph.library.function if function.signature.name in functions]
    gradients = [entry for entry in graph.graph.library.gradient if entry.function_name in functions]
    graph.graph.ClearField("node")
    graph.graph.node.extend(left)
    graph.graph.ClearField("library")
    graph.graph.library.function.extend(library)
    graph.graph.library.gradient.extend(entry for entry in gradients if entry.gradient_func in functions)
    graph.values = {name: value for name, value in graph.values.items() if name in kept}
    if graph.checkpoint is not None:
        graph.checkpoint = {name: value for name, value in graph.checkpoint.items() if name in kept}
    return Outcome(removed, () if removed else ("everything is needed",))
