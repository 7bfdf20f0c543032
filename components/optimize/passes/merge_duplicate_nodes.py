"""merge_duplicate_nodes: keep one of several nodes that compute the same.

Matches nodes of the main graph with equal op, device, inputs and attributes, constants by their content: signatures
that were inlined apart share their weights again. Safe because an op without state gives the same result for the same
inputs. Refuses ops with state, ops that are not registered, placeholders, the old control flow, and, as the one to
go, whatever a signature, the initializer or the saver names.
"""

import hashlib
from typing import Any

from tensorflow.python.framework import op_def_registry

from components.optimize.outcome import Outcome
from components.savedmodel.graph import is_control, node_of, tensor, topological
from components.savedmodel.rewrite import GraphRewrite

_WHERE_MATTERS = frozenset({"Placeholder", "PlaceholderWithDefault", "PlaceholderV2"})
_OLD_CONTROL_FLOW = frozenset({"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"})


def apply(graph: GraphRewrite) -> Outcome:
    """Merge; fired counts the nodes that are gone."""
    roots = set(graph.roots())
    first: dict[tuple[object, ...], str] = {}
    replaced: dict[str, str] = {}
    for node in topological(graph.graph.node):
        _redirect(node, replaced)
        key = _key(node, graph)
        if key is None:
            continue
        kept = first.setdefault(key, node.name)
        if kept != node.name and node.name not in roots:
            replaced[node.name] = kept
    for node in graph.graph.node:  # back edges of loops point at nodes that came later
        _redirect(node, replaced)
    left = [node for node in graph.graph.node if node.name not in replaced]
    graph.graph.ClearField("node")
    graph.graph.node.extend(left)
    graph.values = {name: value for name, value in graph.values.items() if name not in replaced}
    return Outcome(len(replaced), () if replaced else ("no two nodes compute the same",))


def _redirect(node: Any, replaced: dict[str, str]) -> None:  # noqa: ANN401 - a protobuf message
    for index, source in enumerate(node.input):
        if node_of(source) in replaced:
            kept = replaced[node_of(source)]
            _, colon, output = source.partition(":")
            node.input[index] = f"^{kept}" if is_control(source) else f"{kept}{colon}{output}"


def _key(node: Any, graph: GraphRewrite) -> tuple[object, ...] | None:  # noqa: ANN401 - a protobuf message
    if node.name in graph.values:
        value = graph.values[node.name]
        return "Const", value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).digest()
    definition = op_def_registry.get(node.op)
    if definition is None or definition.is_stateful or node.op in _WHERE_MATTERS | _OLD_CONTROL_FLOW:
        return None
    data = tuple(tensor(name) for name in node.input if not is_control(name))
    orders = tuple(sorted(name for name in node.input if is_control(name)))
    attributes = tuple((name, node.attr[name].SerializeToString(deterministic=True)) for name in sorted(node.attr))
    return node.op, node.device, data, orders, attributes
