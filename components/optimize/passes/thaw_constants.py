"""thaw_constants: move the weights of matrix products and big tables back into variables, in a checkpoint of their own.

Matches constants of 64 KiB or more that only matrix products and gathers take. Safe because a variable that nothing
writes is a constant. It is worth it because TensorFlow copies constants several times at the first request, holds
them three times, and because oneDNN packs constant weights for the first batch size a session sees and again at every
request of any other size. Refuses filters of convolutions, whose fusion needs constants, and constants that an
initializer or anything else takes.
"""

import tensorflow as tf

from components.optimize.outcome import Outcome
from components.savedmodel.graph import by_name, consumers, unique_name
from components.savedmodel.rewrite import DETACHED_BYTES, GraphRewrite

_TAKERS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "GatherV2", "Gather", "Einsum"})


def apply(graph: GraphRewrite) -> Outcome:
    """Thaw; fired counts the constants that became variables."""
    if graph.checkpoint is None:
        return Outcome(0, ("the variables are still the original's: freeze_variables did not run",))
    big = sorted(name for name, value in graph.values.items() if value.nbytes >= DETACHED_BYTES)
    users, roots = consumers(graph.graph.node), set(graph.roots())
    kept = [
        name
        for name in big
        if name in roots or users.get(f"^{name}") or not {node.op for node, _ in users.get(name, [])} <= _TAKERS
    ]
    for name in sorted(set(big) - set(kept)):
        _thaw(graph, name)
    if not big:
        return Outcome(0, (f"no constant has {DETACHED_BYTES // 1024} KiB or more",))
    reason = f"{len(kept)} constants are taken by convolutions or others that need constants"
    return Outcome(len(big) - len(kept), (reason,) if kept else ())


def _thaw(graph: GraphRewrite, name: str) -> None:
    nodes = by_name(graph.graph)
    value = graph.values.pop(name)
    dtype = tf.as_dtype(value.dtype).as_datatype_enum
    variable = graph.graph.node.add(name=unique_name(f"{name}/variable", nodes), op="VarHandleOp")
    variable.attr["dtype"].type = dtype
    variable.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
    variable.attr["shared_name"].s = variable.name.encode()
    read = nodes[name]
    read.op = "ReadVariableOp"
    read.attr.clear()
    read.attr["dtype"].type = dtype
    read.input.append(variable.name)
    if graph.checkpoint is not None:
        graph.checkpoint[variable.name] = value
