"""Variables of a meta graph: who uses them, what the saver restores, and their values. Imports tensorflow.

A variable is known by the resource it is, not by its node: several ``VarHandleOp`` nodes with one ``shared_name`` are
one variable (``tensorflow/core/kernels/resource_variable_ops.cc``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from components.savedmodel.graph import FUNCTIONAL_INPUT, by_name, called_functions, consumers, reachable
from components.savedmodel.rewrite import GraphRewrite, Value

Key = tuple[str, str]
"""Container and name of the resource."""

PASS_ON = frozenset({"Identity", "DisableCopyOnRead"})
READS = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape", "VarIsInitializedOp"})
_REF_READS = frozenset({"Identity", "Shape", "Size", "Rank", "IsVariableInitialized"})
_RESTORING = frozenset(
    {
        *("Const", "Placeholder", "PlaceholderWithDefault", "Identity", "IdentityN", "NoOp", "Pack", "StringJoin"),
        *("RestoreV2", "AssignVariableOp", "Assign", "VarHandleOp", "VariableV2", "Variable", "DisableCopyOnRead"),
        *("PartitionedCall", "StatefulPartitionedCall", "Reshape", "Cast", "Select", "StaticRegexFullMatch"),
    }
)


@dataclass(frozen=True, slots=True)
class Use:
    """One node that takes a variable."""

    op: str
    node: str
    function: str = ""
    """The function it is in; empty in the main graph."""

    def __str__(self) -> str:
        return f"{self.op} {self.node}" + (f" in {self.function}" if self.function else "")


def key_of(node: Any) -> Key:  # noqa: ANN401 - a protobuf message
    """Return which resource a ``VarHandleOp`` is; a ``VariableV2`` has rules alike."""
    text = {name: node.attr[name].s.decode() for name in ("container", "shared_name") if name in node.attr}
    return text.get("container", ""), text.get("shared_name", "") or node.name


def is_variable(node: Any) -> bool:  # noqa: ANN401 - a protobuf message
    """Return whether a node is a variable, of the new kind (a resource) or of the old (a reference)."""
    return node.op in ("VarHandleOp", "VariableV2", "Variable")


def variables(graph_def: Any) -> dict[Key, list[Any]]:  # noqa: ANN401 - a protobuf message
    """Return the nodes of each variable of the main graph."""
    found: dict[Key, list[Any]] = {}
    for node in graph_def.node:
        if is_variable(node):
            found.setdefault(key_of(node), []).append(node)
    return found


class UseFinder:
    """Finds every node that a variable reaches, through identities and function bodies."""

    def __init__(self, graph_def: Any, within: Iterable[str] | None = None) -> None:  # noqa: ANN401
        """Prepare for the main graph's nodes named in ``within``, or all."""
        wanted = None if within is None else set(within)
        self._main = consumers(node for node in graph_def.node if wanted is None or node.name in wanted)
        self._library = {function.signature.name: function for function in graph_def.library.function}
        self._bodies: dict[str, dict[str, list[tuple[Any, int]]]] = {}
        self._known: dict[tuple[str, str], frozenset[Use]] = {}

    def uses(self, node: Any) -> frozenset[Use]:  # noqa: ANN401 - a protobuf message
        """Return the uses of a variable's node."""
        return self._follow(node.name, "")

    def _follow(self, tensor: str, function: str) -> frozenset[Use]:
        if (tensor, function) in self._known:
            return self._known[tensor, function]
        self._known[tensor, function] = frozenset()  # a function that calls itself adds nothing of its own
        taken = (self._body(function) if function else self._main).get(tensor, [])
        found = frozenset(use for node, index in taken for use in self._use(node, index, function))
        if function and tensor in {name.removesuffix(":0") for name in self._library[function].ret.values()}:
            found |= {Use("return", tensor, function)}
        self._known[tensor, function] = found
        return found

    def _body(self, function: str) -> dict[str, list[tuple[Any, int]]]:
        if function not in self._bodies:
            self._bodies[function] = consumers(self._library[function].node_def)
        return self._bodies[function]

    def _use(self, node: Any, index: int, function: str) -> frozenset[Use]:  # noqa: ANN401
        if node.op == "Identity":
            return self._follow(f"{node.name}:output" if function else node.name, function) | {
                Use("Identity", node.name, function)
            }
        if node.op in FUNCTIONAL_INPUT and index >= FUNCTIONAL_INPUT[node.op]:
            found: frozenset[Use] = frozenset()
            for name in _bodies_of(node):
                argument = self._library[name].signature.input_arg[index - FUNCTIONAL_INPUT[node.op]].name
                found |= self._follow(argument, name)
            return found
        return frozenset({Use(node.op, node.name, function)})


def _bodies_of(node: Any) -> list[str]:  # noqa: ANN401 - a protobuf message
    names = [
        node.attr[key].func.name for key in ("f", "cond", "body", "then_branch", "else_branch") if key in node.attr
    ]
    return names + ([function.name for function in node.attr["branches"].list.func] if "branches" in node.attr else [])


def writes(node: Any, uses: Iterable[Use]) -> list[Use]:  # noqa: ANN401 - a protobuf message
    """Return those uses of a variable's node that may change it: all that are not known to only read."""
    harmless = READS | PASS_ON if node.op == "VarHandleOp" else _REF_READS
    return sorted((use for use in uses if use.op not in harmless), key=str)


def restored(graph: GraphRewrite) -> tuple[frozenset[Key], tuple[str, ...]]:
    """Return which variables the saver restores, and what else it does that cannot be written anew (best nothing)."""
    saver = graph.meta.saver_def
    if not saver.restore_op_name:
        return frozenset(), ()
    nodes = by_name(graph.graph)
    reached = reachable(nodes, [saver.restore_op_name])
    called = called_functions(graph.graph, [nodes[name] for name in reached])
    bodies = [function for function in graph.graph.library.function if function.signature.name in called]
    ops = {nodes[name].op for name in reached} | {node.op for body in bodies for node in body.node_def}
    other = sorted(ops - _RESTORING - {function.signature.name for function in bodies})
    finder = UseFinder(graph.graph, reached)
    assigned = frozenset(
        key
        for key, same in variables(graph.graph).items()
        if any(use.op in ("AssignVariableOp", "Assign") for node in same for use in finder.uses(node))
    )
    return assigned, tuple(other)


def values(graph: GraphRewrite, wanted: Mapping[Key, Any]) -> dict[Key, Value]:
    """Return the values of variables as the saver restores them, before any initializer has run.

    Args:
        graph: The meta graph, with its own saver.
        wanted: A node of each variable.
    """
    if not wanted:
        return {}
    clone = graph.attached().graph_def
    for node in clone.node:
        node.device = ""
        node.attr.pop("_class", None)
    saver = graph.meta.saver_def
    keep = reachable(by_name(clone), [saver.restore_op_name, *(node.name for node in wanted.values())])
    kept = [node for node in clone.node if node.name in keep]
    del clone.node[:]
    clone.node.extend(kept)
    with tf.Graph().as_default() as made:
        tf.graph_util.import_graph_def(clone, name="")
        with tf.compat.v1.Session(graph=made) as session:
            path = str(graph.source / "variables" / "variables")
            session.run(saver.restore_op_name, {saver.filename_tensor_name: path})
            reads = {key: _read(made.get_tensor_by_name(f"{node.name}:0"), node) for key, node in wanted.items()}
            found: dict[Key, Value] = session.run(reads)
    return found


def _read(handle: Any, node: Any) -> Any:  # noqa: ANN401 - objects of tensorflow
    if node.op != "VarHandleOp":
        return tf.identity(handle)
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.as_dtype(node.attr["dtype"].type))
