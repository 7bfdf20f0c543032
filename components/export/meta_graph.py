"""A TF1 meta graph with its checkpoint, as ``tf.compat.v1.train.Saver`` writes them.

Imports tensorflow: only for child processes.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from components.core.errors import Rejected
from components.core.spec import Export
from components.export import needed
from components.export.graph_def import bind_graph, build
from components.export.signatures import Bound
from components.savedmodel.inspect import contract_of
from components.savedmodel.messages import message
from components.validate.scan import scan_graph


def write(source: Path, target: Path, spec: Export, allow_ops: Collection[str]) -> bool:
    """Write the graph in ``source`` (``.meta``) with the variables beside it as a SavedModel.

    What training needs and serving does not (input pipelines, train ops, summaries) stays behind.

    Raises:
        Rejected: SIGNATURE_MISSING: neither the spec nor the meta graph names signatures; ASSET_OUTSIDE_MODEL;
            LOAD_FAILED; a code of the static gate.
    """
    meta = _read(source)
    needed.keep_only(source, meta, spec)
    scan_graph(source.name, meta, allow_ops=allow_ops)
    graph = tf.Graph()
    with tf.compat.v1.Session(graph=graph) as session:
        definition = _restore(session, source, meta)
        tables = tf.compat.v1.tables_initializer()
        # The graph's former savers are not ours to trust with names of files; one more writes the variables.
        saver = tf.compat.v1.train.Saver(sharded=False, allow_empty=True)
        build(session, target, spec, _bind(graph, definition, spec), saver=saver, main_op=tables)
    return True


def _read(source: Path) -> Any:  # noqa: ANN401 - a dynamic message
    meta = message("tensorflow.MetaGraphDef")()
    try:
        meta.ParseFromString(source.read_bytes())
    except DecodeError as error:
        raise Rejected(
            f"{source.name} is no meta graph",
            expected="what tf.compat.v1.train.Saver writes beside a checkpoint",
            got=str(error),
            reason="CORRUPT_PROTO",
        ) from error
    return meta


def _restore(session: Any, source: Path, meta: Any) -> Any:  # noqa: ANN401 - objects of tensorflow
    definition = tf.compat.v1.MetaGraphDef.FromString(meta.SerializeToString())
    try:
        saver = tf.compat.v1.train.import_meta_graph(definition, clear_devices=True)
        if saver is not None:  # a graph without variables has no saver
            saver.restore(session, str(source.with_suffix("")))
    except Exception as error:
        raise Rejected(
            f"{source.name} and its checkpoint cannot be restored",
            expected="a meta graph and the checkpoint that was saved with it",
            got=f"{type(error).__name__}: {str(error)[:2000]}",
            reason="LOAD_FAILED",
        ) from error
    return definition


def _bind(graph: Any, definition: Any, spec: Export) -> dict[str, Bound]:  # noqa: ANN401
    if spec.signatures:
        return bind_graph(graph, spec)
    return {
        key: Bound(
            {alias: (tensor.name, tensor) for alias, tensor in signature.inputs.items()},
            {alias: (tensor.name, tensor) for alias, tensor in signature.outputs.items()},
        )
        for key, signature in contract_of(definition).signatures.items()
    }
