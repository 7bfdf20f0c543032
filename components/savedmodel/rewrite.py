"""A SavedModel as something that can be rewritten: read, change, write. Imports tensorflow: only for child processes.

All signatures of a meta graph share one graph, and big constants are kept beside it as arrays: a ``Placeholder`` of
the same name stands for each, so that copying a graph or handing it to grappler moves no weights. Writing puts them
back.

What is written keeps signature keys, aliases, dtypes, shapes, method names, tags, versions, assets and every other file
beside the graph, and drops the object graph, which describes functions that are no longer there. The same rewrite gives
the same bytes.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2, saver_pb2
from tensorflow.python.framework import meta_graph as meta_graph_tools

from components.core.errors import Rejected
from components.savedmodel.fingerprint import write_fingerprint
from components.savedmodel.graph import by_name, node_of, unique_name
from components.savedmodel.inspect import GRAPH_FILE, INIT_SIGNATURES, TEXT_GRAPH_FILE, every_node, read_proto

Value = npt.NDArray[np.generic]

DETACHED_BYTES = 64 * 2**10
"""Constants of at least this many bytes are kept beside the graph."""

MAIN_OP, LEGACY_INIT_OP, ASSETS = "saved_model_main_op", "legacy_init_op", "saved_model_assets"
_DROPPED = frozenset({GRAPH_FILE, TEXT_GRAPH_FILE, "variables", "fingerprint.pb", "keras_metadata.pb", "debug"})
_CHECKPOINT = "variables/variables"


@dataclass
class GraphRewrite:
    """One meta graph while passes change it."""

    source: Path
    """Directory of the SavedModel it was read from."""
    meta: Any
    """Its ``MetaGraphDef``."""
    init_op: str = ""
    """Name of the node that initializes tables and the like after variables are restored; empty if there is none."""
    values: dict[str, Value] = field(default_factory=dict)
    """Constants kept beside the graph, by the name of the ``Placeholder`` that stands for each."""
    checkpoint: dict[str, Value] | None = None
    """Variables to write and restore, by the name of their node; ``None``: the source's, by its own saver."""

    @property
    def graph(self) -> Any:  # noqa: ANN401 - a protobuf message
        """The ``GraphDef``."""
        return self.meta.graph_def

    def copy(self) -> "GraphRewrite":
        """Return a copy that shares nothing but the arrays, which nobody changes in place."""
        meta = meta_graph_pb2.MetaGraphDef()
        meta.CopyFrom(self.meta)
        checkpoint = None if self.checkpoint is None else dict(self.checkpoint)
        return GraphRewrite(self.source, meta, self.init_op, dict(self.values), checkpoint)

    @property
    def nodes(self) -> int:
        """Nodes, function bodies included."""
        return len(every_node(self.graph))

    @property
    def bytes(self) -> int:
        """Bytes of the graph, its constants and its variables, as they would be written."""
        if self.checkpoint is None:
            files = (self.source / "variables").glob("*")
            stored = sum(file.stat().st_size for file in files)
        else:
            stored = sum(value.nbytes for value in self.checkpoint.values())
        return int(self.meta.ByteSize()) + sum(value.nbytes for value in self.values.values()) + stored

    def signature_tensors(self, side: str) -> list[str]:
        """Return the tensors that signatures name on one side (``inputs`` or ``outputs``), sorted, each once."""
        names = {
            name
            for key, signature in self.meta.signature_def.items()
            if key not in INIT_SIGNATURES
            for info in getattr(signature, side).values()
            for name in _tensor_names(info)
        }
        return sorted(names)

    def asset_tensors(self) -> list[str]:
        """Return the nodes that are fed with the path of an asset when the model is loaded."""
        return sorted({node_of(asset.tensor_info.name) for asset in self.meta.asset_file_def})

    def saver_nodes(self) -> list[str]:
        """Return the nodes by which the source's own saver restores; none where the variables are written anew."""
        saver = self.meta.saver_def
        if self.checkpoint is not None:
            return []
        return [
            node_of(name)
            for name in (saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name)
            if name
        ]

    def roots(self) -> list[str]:
        """Return the names of the nodes that must stay: what clients, the loader and the saver address."""
        tensors = [*self.signature_tensors("inputs"), *self.signature_tensors("outputs")]
        found = {*map(node_of, tensors), *self.asset_tensors(), *self.saver_nodes(), self.init_op}
        return sorted(found - {""})

    def constant(self, name: str) -> Value | None:
        """Return the value of the constant that the node ``name`` is, or ``None`` if it is none."""
        if name in self.values:
            return self.values[name]
        node = next((node for node in self.graph.node if node.name == name), None)
        return None if node is None else constant_value(node)

    def add_constant(self, name: str, value: Value) -> str:
        """Add a constant and return its name: ``name``, or with a number where that is taken."""
        name = unique_name(name, (node.name for node in self.graph.node))
        node = self.graph.node.add(name=name, op="Const")
        set_constant(node, value)
        self.detach()
        return name

    def detach(self) -> None:
        """Move constants that are big, or that are weights, out of the graph."""
        for node in self.graph.node:
            if node.op != "Const" or node.input:
                continue
            proto = node.attr["value"].tensor
            if proto.dtype == tf.string.as_datatype_enum or proto.ByteSize() < 256:
                continue
            value = tf.make_ndarray(proto)
            if proto.ByteSize() >= DETACHED_BYTES or sum(size > 1 for size in value.shape) > 1:
                self.values[node.name] = value
                set_placeholder(node, value)

    def attached(self) -> Any:  # noqa: ANN401 - a protobuf message
        """Return a copy of the ``MetaGraphDef`` with all constants back in the graph."""
        meta = meta_graph_pb2.MetaGraphDef()
        meta.CopyFrom(self.meta)
        for node in meta.graph_def.node:
            if node.name in self.values:
                set_constant(node, self.values[node.name])
        return meta


def _tensor_names(info: Any) -> list[str]:  # noqa: ANN401 - a protobuf message
    match info.WhichOneof("encoding"):
        case "name":
            return [info.name]
        case "coo_sparse":
            sparse = info.coo_sparse
            return [sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
        case "composite_tensor":
            return [name for part in info.composite_tensor.components for name in _tensor_names(part)]
        case _:
            return []


def constant_value(node: Any) -> Value | None:  # noqa: ANN401 - a protobuf message
    """Return the value of a ``Const`` node, ``None`` for any other."""
    return np.asarray(tf.make_ndarray(node.attr["value"].tensor)) if node.op == "Const" else None


def set_constant(node: Any, value: Value) -> None:  # noqa: ANN401 - a protobuf message
    """Make ``node`` a ``Const`` of ``value``; its control inputs stay."""
    node.op = "Const"
    node.attr.clear()
    proto = tf.make_tensor_proto(value)
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)


def set_placeholder(node: Any, value: Value) -> None:  # noqa: ANN401 - a protobuf message
    """Make ``node`` a ``Placeholder`` of the dtype and shape of ``value``."""
    node.op = "Placeholder"
    node.attr.clear()
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())


def read(path: Path) -> list[GraphRewrite]:
    """Return the meta graphs of a SavedModel, ready to be rewritten.

    Raises:
        Rejected: NO_SAVED_MODEL or CORRUPT_PROTO.
    """
    model = saved_model_pb2.SavedModel.FromString(read_proto(path).SerializeToString())
    graphs = []
    for meta in model.meta_graphs:
        graph = GraphRewrite(path, meta, init_op=_take_init_op(meta))
        _drop_what_nobody_loads(meta)
        graph.detach()
        graphs.append(graph)
    return graphs


def _take_init_op(meta: Any) -> str:  # noqa: ANN401 - a protobuf message
    """Return the initializer's node as ``loader_util.cc`` finds it: the pseudo-signature, else the collections."""
    pseudo = meta.signature_def.get("__saved_model_init_op", None)
    found = [info.name for info in pseudo.outputs.values()] if pseudo is not None else []
    for collection in (MAIN_OP, LEGACY_INIT_OP):
        if collection in meta.collection_def:
            found.extend(meta.collection_def[collection].node_list.value)
    for key in INIT_SIGNATURES & set(meta.signature_def):
        del meta.signature_def[key]
    return node_of(found[0]) if found else ""


def _drop_what_nobody_loads(meta: Any) -> None:  # noqa: ANN401 - a protobuf message
    for collection in set(meta.collection_def) - {ASSETS}:
        del meta.collection_def[collection]
    meta.ClearField("object_graph_def")
    meta.meta_info_def.ClearField("function_aliases")


def write(graphs: Sequence[GraphRewrite], out: Path) -> None:
    """Write the meta graphs as one SavedModel into the new directory ``out``.

    Raises:
        Rejected: CHECKPOINT_CONFLICT: the meta graphs need different checkpoints, of which there can be only one.
    """
    source = graphs[0].source
    out.mkdir(parents=True)
    for entry in sorted(source.iterdir()):
        if entry.name not in _DROPPED:
            (shutil.copytree if entry.is_dir() else shutil.copyfile)(entry, out / entry.name)
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    for graph in graphs:
        model.meta_graphs.append(_finished(graph))
    _write_variables(graphs, out)
    (out / GRAPH_FILE).write_bytes(model.SerializeToString(deterministic=True))
    write_fingerprint(out)


def _finished(graph: GraphRewrite) -> Any:  # noqa: ANN401 - a protobuf message
    meta = graph.attached()
    if graph.init_op:
        meta.collection_def[MAIN_OP].node_list.value.append(graph.init_op)
    if graph.checkpoint is not None:
        meta.ClearField("saver_def")
        present = by_name(meta.graph_def)
        if names := sorted(name for name in graph.checkpoint if name in present):
            meta.saver_def.CopyFrom(_add_saver(meta.graph_def, names, graph.checkpoint))
    meta.meta_info_def.stripped_op_list.CopyFrom(meta_graph_tools.stripped_op_list_for_graph(meta.graph_def))
    return meta


def _add_saver(graph_def: Any, names: Sequence[str], values: dict[str, Value]) -> Any:  # noqa: ANN401 - protobuf messages
    """Add the nodes that restore the variables ``names``, each under its own name, and return their ``SaverDef``."""
    prefix = unique_name("restore", {node.name.partition("/")[0] for node in graph_def.node})
    filename = graph_def.node.add(name=f"{prefix}/filename", op="Placeholder")
    filename.attr["dtype"].type = tf.string.as_datatype_enum
    filename.attr["shape"].shape.SetInParent()
    keys = graph_def.node.add(name=f"{prefix}/keys", op="Const")
    set_constant(keys, np.array([name.encode() for name in names], np.object_))
    slices = graph_def.node.add(name=f"{prefix}/slices", op="Const")
    set_constant(slices, np.array([b""] * len(names), np.object_))
    restore = graph_def.node.add(name=f"{prefix}/values", op="RestoreV2", input=[filename.name, keys.name, slices.name])
    everything = graph_def.node.add(name=f"{prefix}/all", op="NoOp")
    for index, name in enumerate(names):
        dtype = tf.as_dtype(values[name].dtype).as_datatype_enum
        restore.attr["dtypes"].list.type.append(dtype)
        value = f"{restore.name}:{index}" if index else restore.name
        assign = graph_def.node.add(name=f"{prefix}/assign_{index}", op="AssignVariableOp", input=[name, value])
        assign.attr["dtype"].type = dtype
        everything.input.append(f"^{assign.name}")
    # Nobody saves from a server, but TensorFlow's Saver insists on a name here.
    return saver_pb2.SaverDef(
        filename_tensor_name=f"{filename.name}:0",
        save_tensor_name=f"{filename.name}:0",
        restore_op_name=everything.name,
        version=saver_pb2.SaverDef.V2,
    )


def _write_variables(graphs: Sequence[GraphRewrite], out: Path) -> None:
    source = graphs[0].source / "variables"
    written: dict[str, Value] = {}
    for graph in graphs:
        present = by_name(graph.graph)
        for name, value in (graph.checkpoint or {}).items():
            if name in present and not np.array_equal(written.setdefault(name, value), value):
                raise _conflict(f"variable {name} has two values")
    if any(graph.checkpoint is None for graph in graphs) and source.is_dir():
        if written:
            raise _conflict("one restores the original's variables, another its own")
        shutil.copytree(source, out / "variables")
    elif written:
        (out / "variables").mkdir()
        names = sorted(written)
        tf.raw_ops.SaveV2(
            prefix=str(out / _CHECKPOINT),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(written[name]) for name in names],
        )


def _conflict(why: str) -> Rejected:
    return Rejected(
        "the meta graphs need different checkpoints",
        expected="one checkpoint for all tag sets: a SavedModel has a single variables directory",
        got=why,
        reason="CHECKPOINT_CONFLICT",
    )
