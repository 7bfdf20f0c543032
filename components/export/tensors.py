"""Tensors of a graph by name, and signatures made of them. Imports tensorflow: only for child processes."""

from functools import cache
from typing import Any

import tensorflow as tf

from components.core.signature import PREDICT_METHOD, Signature, TensorSpec
from components.export.signatures import Bound, Lookup


def in_graph(serialized: bytes) -> Lookup:
    """Return a Lookup of any tensor in a serialized ``GraphDef``; the graph is built when it is first asked."""

    @cache
    def graph() -> Any:  # noqa: ANN401 - an object of tensorflow
        made = tf.Graph()
        with made.as_default():
            tf.graph_util.import_graph_def(tf.compat.v1.GraphDef.FromString(serialized), name="")
        return made

    return lambda name: find(graph(), name)


def find(graph: Any, name: str) -> TensorSpec | None:  # noqa: ANN401 - an object of tensorflow
    """Return the tensor of a name such as ``x:0``, or of the first output of a node such as ``x``."""
    full = name if ":" in name else f"{name}:0"
    try:
        tensor = graph.get_tensor_by_name(full)
    except (KeyError, ValueError):
        return None
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return TensorSpec(tensor.dtype.base_dtype.name, shape, full)


def ends_of(graph: Any) -> Signature:  # noqa: ANN401 - an object of tensorflow
    """Return what a graph without signatures offers: its placeholders, and the tensors that nothing consumes."""
    inputs, outputs = {}, {}
    for operation in graph.get_operations():
        if operation.type in {"Placeholder", "PlaceholderWithDefault"}:
            inputs[operation.name] = _required(graph, operation.name)
        elif operation.outputs and operation.type != "Const" and not any(o.consumers() for o in operation.outputs):
            outputs[operation.name] = _required(graph, operation.name)
    return Signature(inputs, outputs)


def _required(graph: Any, name: str) -> TensorSpec:  # noqa: ANN401 - an object of tensorflow
    found = find(graph, name)
    if found is None:
        raise KeyError(name)
    return found


def fill(definition: Any, bound: Bound) -> None:  # noqa: ANN401 - a SignatureDef of either pool
    """Write a bound signature into an empty ``SignatureDef``."""
    definition.method_name = PREDICT_METHOD
    for infos, side in ((definition.inputs, bound.inputs), (definition.outputs, bound.outputs)):
        for alias, (_, spec) in side.items():
            _fill_info(infos[alias], spec)


def _fill_info(info: Any, spec: TensorSpec) -> None:  # noqa: ANN401 - a TensorInfo of either pool
    info.name = spec.name
    info.dtype = tf.dtypes.as_dtype(spec.dtype).as_datatype_enum
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
        return
    info.tensor_shape.SetInParent()
    for size in spec.shape:
        info.tensor_shape.dim.add(size=-1 if size is None else size)
