"""freeze_variables: turn variables that nothing writes into constants, so that what follows from them can be folded.

Matches variables that the saver restores and that signatures and initializer only read. Safe because such a variable
has the checkpoint's value at every request. Whatever stays a variable is restored by a small saver of its own, from a
checkpoint with nothing else in it; optimizer slots and training counters are gone.

Refuses a variable that anything reachable may write (directly or inside a function), one that the initializer and not
the saver sets (it may hold an asset's path, which is another one on the server), one that a function body reads, and
a table of 64 KiB or more that is only gathered from: a constant would be copied and is limited to 2 GB a graph.
Refuses altogether where the saver also restores something other than variables.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from components.optimize.outcome import Outcome
from components.optimize.passes.strip_unused import apply as strip
from components.savedmodel.graph import by_name, consumers, is_control, node_of, reachable, tensor
from components.savedmodel.rewrite import DETACHED_BYTES, GraphRewrite, Value, set_constant
from components.savedmodel.variables import Key, Use, UseFinder, restored, values, variables, writes

_SHAPE_ONLY = "VariableShape"


def apply(graph: GraphRewrite) -> Outcome:
    """Freeze; fired counts variables that became constants."""
    if graph.checkpoint is not None:
        return Outcome(0, ("variables were frozen before",))
    saved, other = restored(graph)
    if other:
        return Outcome(0, (f"the saver also restores what is no variable: {', '.join(other)}",))
    serving = graph.copy()
    serving.checkpoint = {}
    needed = reachable(by_name(graph.graph), serving.roots())
    groups = {
        key: [node for node in same if node.name in needed]
        for key, same in variables(graph.graph).items()
        if any(node.name in needed for node in same)
    }
    found = values(graph, {key: groups[key][0] for key in groups.keys() & saved})
    finder = UseFinder(graph.graph, needed)
    refused = {key: why for key, same in groups.items() if (why := _refusal(graph, key, same, finder, found, needed))}
    _share_nodes(graph, groups)
    graph.checkpoint = {groups[key][0].name: found[key] for key in refused.keys() & found.keys()}
    frozen = {groups[key][0].name: found[key] for key in groups.keys() - refused.keys()}
    _freeze(graph, frozen)
    strip(graph)
    graph.detach()
    reasons = tuple(f"{count} {why}" for why, count in sorted(Counter(refused.values()).items()))
    return Outcome(len(frozen), reasons or (() if frozen else ("no variable is needed for serving",)))


def _refusal(
    graph: GraphRewrite, key: Key, same: list[Any], finder: UseFinder, found: Mapping[Key, Value], needed: set[str]
) -> str:
    if key not in found:
        return "set by the initializer, not by the checkpoint"
    if same[0].op != "VarHandleOp":
        return "written while serving" if _reference_taken(graph, same, needed) else ""
    uses = [use for node in same for use in finder.uses(node)]
    if written := {use.op for node in same for use in writes(node, finder.uses(node))}:
        return "handed through a loop or function" if written == {"return"} else "written while serving"
    return _unreadable(uses, found[key])


def _unreadable(uses: list[Use], value: Value) -> str:
    """Why reads of a variable that nothing writes cannot be replaced by reads of a constant; empty if they can."""
    if any(use.function for use in uses):
        return "read inside a function body"
    ops = {use.op for use in uses} - {"Identity", _SHAPE_ONLY}
    if ops - {"ReadVariableOp", "ResourceGather"}:
        return f"used by {', '.join(sorted(ops))}"
    if ops == {"ResourceGather"} and value.nbytes >= DETACHED_BYTES:
        return f"only gathered from, {DETACHED_BYTES // 1024} KiB or more"
    return ""


def _reference_taken(graph: GraphRewrite, same: list[Any], needed: set[str]) -> bool:
    """Whether a node takes an old-style variable by reference, which is how all that change one do."""
    names = {node.name for node in same}
    for node in graph.graph.node:
        if node.name in needed and any(not is_control(name) and node_of(name) in names for name in node.input):
            definition = op_def_registry.get(node.op)
            if definition is None or any(argument.is_ref for argument in definition.input_arg):
                return True
    return False


def _share_nodes(graph: GraphRewrite, groups: Mapping[Key, list[Any]]) -> None:
    """Let all nodes of one variable be its first, so that what is said of one node holds for the variable."""
    first = {node.name: same[0].name for same in groups.values() for node in same[1:]}
    for node in graph.graph.node:
        for index, source in enumerate(node.input):
            if tensor(source) in first:
                node.input[index] = first[tensor(source)]


def _freeze(graph: GraphRewrite, frozen: Mapping[str, Value]) -> None:
    nodes, users = by_name(graph.graph), consumers(graph.graph.node)
    for name, value in frozen.items():
        if nodes[name].op == "VarHandleOp":
            _replace_reads(graph, name, name, value, users)
        nodes[name].ClearField("input")
        set_constant(nodes[name], value)


def _replace_reads(graph: GraphRewrite, handle: str, name: str, value: Value, users: Mapping[str, Any]) -> None:
    for node, _ in users.get(handle, []):
        orders = [source for source in node.input if is_control(source)]
        if node.op == "Identity":
            _replace_reads(graph, node.name, name, value, users)
        elif node.op == "ReadVariableOp":
            _become(node, "Identity", [name, *orders], T=node.attr["dtype"].type)
        elif node.op == "ResourceGather":
            _gather(graph, node, name, orders)
        elif node.op == _SHAPE_ONLY:
            out_type = node.attr["out_type"].type if "out_type" in node.attr else 3  # DT_INT32, the default
            _become(node, "Shape", [name, *orders], T=_dtype(value))
            node.attr["out_type"].type = out_type


def _gather(graph: GraphRewrite, node: Any, name: str, orders: list[str]) -> None:  # noqa: ANN401
    batch = node.attr["batch_dims"].i if "batch_dims" in node.attr else 0
    axis = graph.add_constant(f"{node.name}/axis", np.array(batch, np.int32))
    dtype, indices = node.attr["dtype"].type, node.attr["Tindices"].type
    _become(node, "GatherV2", [name, node.input[1], axis, *orders], Tparams=dtype, Tindices=indices, Taxis=3)
    node.attr["batch_dims"].i = batch


def _become(node: Any, op: str, inputs: list[str], **types: int) -> None:  # noqa: ANN401
    node.op = op
    del node.input[:]
    node.input.extend(inputs)
    node.attr.clear()
    for name, dtype in types.items():
        node.attr[name].type = dtype


def _dtype(value: Value) -> int:
    return int(tf.as_dtype(value.dtype).as_datatype_enum)
