"""remove_nodes: splice out nodes that only hand their input on.

Matches the ops named (``Identity`` and ``CheckNumerics`` if none are) with one input and one output of the same type:
who took their output takes their input. Safe because the value is the same; ``CheckNumerics`` only adds an error for
values that are not finite. Refuses what a signature, the initializer or the saver names, what orders execution (a
node with control inputs, or one that others wait for), and copies of old-style variables, whose time of reading
matters, as well as branches of ``Switch``, whose death must be seen where they are.
"""

from typing import Any

from components.core.errors import Rejected
from components.optimize.outcome import Outcome
from components.savedmodel.graph import by_name, consumers, is_control, node_of, tensor
from components.savedmodel.rewrite import GraphRewrite

DEFAULT = ("Identity", "CheckNumerics")
_POSSIBLE = frozenset({"Identity", "CheckNumerics", "StopGradient", "PreventGradient", "Snapshot"})
_MATTERS_WHERE = frozenset({"Switch", "RefSwitch", "VariableV2", "Variable"})


def apply(graph: GraphRewrite, *, op: tuple[str, ...] = DEFAULT) -> Outcome:
    """Splice nodes out; fired counts them.

    Raises:
        Rejected: MALFORMED_PASS: an op that does more than hand its input on.
    """
    if wrong := sorted(set(op) - _POSSIBLE):
        raise Rejected(
            f"remove_nodes: {', '.join(wrong)} cannot be left out without changing results",
            expected=f"ops among {', '.join(sorted(_POSSIBLE))}",
            got=", ".join(wrong),
            reason="MALFORMED_PASS",
        )
    nodes, users, roots = by_name(graph.graph), consumers(graph.graph.node), set(graph.roots())
    candidates = [node for node in graph.graph.node if node.op in op]
    refused = {node.name: why for node in candidates if (why := _refusal(node, nodes, users, roots))}
    replaced = {node.name: tensor(node.input[0]) for node in candidates if node.name not in refused}
    for node in graph.graph.node:
        for index, source in enumerate(node.input):
            if not is_control(source):
                node.input[index] = _resolve(tensor(source), replaced)
    left = [node for node in graph.graph.node if node.name not in replaced]
    graph.graph.ClearField("node")
    graph.graph.node.extend(left)
    counts = {why: list(refused.values()).count(why) for why in sorted(set(refused.values()))}
    skipped = tuple(f"{count} {why}" for why, count in counts.items())
    return Outcome(len(replaced), skipped if candidates else (f"no {' or '.join(op)} in the main graph",))


def _resolve(name: str, replaced: dict[str, str]) -> str:
    while name in replaced:
        name = replaced[name]
    return name


def _refusal(node: Any, nodes: dict[str, Any], users: dict[str, Any], roots: set[str]) -> str:  # noqa: ANN401
    if node.name in roots:
        return "named by a signature, the initializer or the saver"
    if len(node.input) != 1 or is_control(node.input[0]) or users.get(f"^{node.name}"):
        return "with a part in the order of execution"
    source = nodes.get(node_of(node.input[0]))
    if source is None or source.op in _MATTERS_WHERE:
        return "whose place matters (a branch, or a variable read at that moment)"
    return ""
