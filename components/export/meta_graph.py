"""A TF1 meta graph with its checkpoint, as ``tf.compat.v1.train.Saver`` writes them.

Imports tensorflow: only for child processes.
"""

from pathlib import Path
from typing import Any

import tensorflow as tf

from components.core.errors import Rejected
from components.core.spec import Export
from components.export.graph_def import bind_graph, build
from components.export.signatures import Bound
from components.savedmodel.inspect import contract_of


def write(source: Path, target: Path, spec: Export) -> bool:
    """Write the graph in ``source`` (``.meta``) with the variables beside it as a SavedModel.

    Raises:
        Rejected: SIGNATURE_MISSING: neither the spec nor the meta graph names signatures; LOAD_FAILED.
    """
    graph = tf.Graph()
    with tf.compat.v1.Session(graph=graph) as session:
        definition = _restore(session, source)
        tables = tf.compat.v1.tables_initializer()
        # The graph's former savers are not ours to trust with names of files; one more writes the variables.
        saver = tf.compat.v1.train.Saver(sharded=False, allow_empty=True)
        build(session, target, spec, _bind(source, graph, definition, spec), saver=saver, main_op=tables)
    return True


def _restore(session: Any, source: Path) -> Any:  # noqa: ANN401 - objects of tensorflow
    try:
        saver = tf.compat.v1.train.import_meta_graph(str(source), clear_devices=True)
        saver.restore(session, str(source.with_suffix("")))
        return tf.compat.v1.MetaGraphDef.FromString(source.read_bytes())
    except Exception as error:
        raise Rejected(
            f"{source.name} and its checkpoint cannot be restored",
            expected="a meta graph and the checkpoint that was saved with it",
            got=f"{type(error).__name__}: {str(error)[:2000]}",
            reason="LOAD_FAILED",
        ) from error


def _bind(source: Path, graph: Any, definition: Any, spec: Export) -> dict[str, Bound]:  # noqa: ANN401
    if spec.signatures:
        return bind_graph(source, graph, spec)
    own = contract_of(definition).signatures
    if own:
        return {
            key: Bound(
                {alias: (tensor.name, tensor) for alias, tensor in signature.inputs.items()},
                {alias: (tensor.name, tensor) for alias, tensor in signature.outputs.items()},
            )
            for key, signature in own.items()
        }
    return bind_graph(source, graph, spec)
