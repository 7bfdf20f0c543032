"""Questions about a ``GraphDef``: who feeds whom, what is reached, which functions are called. Imports no tensorflow.

An input of a node is ``name``, ``name:output`` or, for an order without data, ``^name``
(``tensorflow/core/framework/node_def.proto``). Messages are dynamic, or tensorflow's own of the same name.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

FUNCTIONAL_INPUT: Mapping[str, int] = {
    "PartitionedCall": 0,
    "StatefulPartitionedCall": 0,
    "While": 0,
    "StatelessWhile": 0,
    "If": 1,
    "StatelessIf": 1,
    "Case": 1,
    "StatelessCase": 1,
}
"""Ops that call functions with their inputs as arguments, and how many inputs come before the first argument."""


def node_of(name: str) -> str:
    """Return the node's name of an input or a tensor: ``a`` for ``a``, ``a:1`` and ``^a``."""
    return name.removeprefix("^").partition(":")[0]


def tensor(name: str) -> str:
    """Return a data input in its short form: ``a`` for ``a:0``, others as they are."""
    return name.removesuffix(":0")


def is_control(name: str) -> bool:
    """Return whether an input only orders execution."""
    return name.startswith("^")


def data_inputs(node: Any) -> list[str]:  # noqa: ANN401 - a dynamic message
    """Return the inputs of a node that carry data, in their short form."""
    return [tensor(name) for name in node.input if not is_control(name)]


def by_name(graph_def: Any) -> dict[str, Any]:  # noqa: ANN401 - a dynamic message
    """Return the nodes of the main graph by name."""
    return {node.name: node for node in graph_def.node}


def consumers(nodes: Iterable[Any]) -> dict[str, list[tuple[Any, int]]]:
    """Return for each tensor (short form, or ``^name``) the nodes that take it and at which input."""
    found: dict[str, list[tuple[Any, int]]] = defaultdict(list)
    for node in nodes:
        for index, name in enumerate(node.input):
            found[tensor(name)].append((node, index))
    return found


def reachable(nodes: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """Return the names of all nodes that the nodes named ``roots`` need, themselves included."""
    seen: set[str] = set()
    waiting = [root for root in roots if root in nodes]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(node_of(source) for source in nodes[name].input if node_of(source) in nodes)
    return seen


def called(node: Any) -> list[str]:  # noqa: ANN401 - a dynamic message
    """Return the names of the functions that a node's attributes name."""
    names: list[str] = []
    for value in node.attr.values():
        if value.HasField("func"):
            names.append(value.func.name)
        names.extend(function.name for function in value.list.func)
    return names


def called_functions(graph_def: Any, nodes: Iterable[Any]) -> set[str]:  # noqa: ANN401 - a dynamic message
    """Return the names of all functions that ``nodes`` call, directly or through others.

    A node whose op is itself a function's name calls it too, and a function needs its registered gradient's neighbours
    only for training, so gradients are not followed.
    """
    library = {function.signature.name: function for function in graph_def.library.function}
    seen: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        for name in [*called(node), node.op]:
            if name in library and name not in seen:
                seen.add(name)
                waiting.extend(library[name].node_def)
    return seen


def unique_name(wanted: str, taken: Iterable[str]) -> str:
    """Return ``wanted``, or with the smallest number behind it that is not taken."""
    names = set(taken)
    name, number = wanted, 1
    while name in names:
        name, number = f"{wanted}_{number}", number + 1
    return name


def topological(nodes: Iterable[Any]) -> list[Any]:
    """Return nodes in an order in which each comes after what it needs; equal inputs give the same order.

    Loops of the old kind (``NextIteration`` into ``Merge``) have no such order: the back edge does not count.
    """
    listed = list(nodes)
    named = {node.name: node for node in listed}
    needs = {
        node.name: {
            source
            for source in map(node_of, node.input)
            if source in named and not (node.op in ("Merge", "RefMerge") and named[source].op.endswith("NextIteration"))
        }
        for node in listed
    }
    needed_by: dict[str, list[str]] = defaultdict(list)
    for name, sources in needs.items():
        for source in sources:
            needed_by[source].append(name)
    missing = {name: len(sources) for name, sources in needs.items()}
    ready = [node.name for node in listed if not missing[node.name]]
    order: list[Any] = []
    for name in ready:  # grows while it is walked
        order.append(named[name])
        for user in sorted(needed_by[name]):
            missing[user] -= 1
            if not missing[user]:
                ready.append(user)
    return order if len(order) == len(listed) else listed
