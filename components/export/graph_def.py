"""A frozen GraphDef: one file of nodes and constants, without signatures.

What the signatures do not need is left out, and what is left is judged, before TensorFlow sees any of it: importing a
graph already computes what its shapes depend on.

Imports tensorflow: only for child processes.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from components.core.errors import Rejected
from components.core.spec import Export
from components.export import needed
from components.export.saved_model import set_tags
from components.export.signatures import Bound, bind
from components.export.tensors import ends_of, fill, find
from components.savedmodel.messages import message
from components.validate.scan import scan_graph


def write(source: Path, target: Path, spec: Export, allow_ops: Collection[str]) -> bool:
    """Write the graph in ``source`` as a SavedModel without variables.

    Raises:
        Rejected: SIGNATURE_MISSING: the spec names no signatures, or tensors that are not there; LOAD_FAILED; a code
            of the static gate.
    """
    graph = tf.Graph()
    meta = message("tensorflow.MetaGraphDef")()
    meta.graph_def.ParseFromString(source.read_bytes())
    needed.keep_only(source, meta, spec)
    scan_graph(source.name, meta, allow_ops=allow_ops)
    try:
        definition = tf.compat.v1.GraphDef.FromString(meta.graph_def.SerializeToString())
        with graph.as_default():
            tf.graph_util.import_graph_def(definition, name="")
    except Exception as error:
        raise Rejected(
            f"{source.name} is no graph that TensorFlow can import", got=str(error)[:2000], reason="LOAD_FAILED"
        ) from error
    bound = bind_graph(graph, spec)
    with tf.compat.v1.Session(graph=graph) as session:
        build(session, target, spec, bound, saver=None, main_op=None)
    return True


def bind_graph(graph: Any, spec: Export) -> dict[str, Bound]:  # noqa: ANN401 - an object of tensorflow
    """Bind the spec's signatures to the tensors of a graph.

    Raises:
        Rejected: SIGNATURE_MISSING, SIGNATURE_DTYPE or SIGNATURE_SHAPE.
    """
    ends = ends_of(graph)
    # Aliases and the only-one-there-is rule speak of the graph's ends; a source may be any tensor.
    return {key: bind(key, wanted, ends, lambda name: find(graph, name)) for key, wanted in spec.signatures.items()}


def build(
    session: Any,  # noqa: ANN401 - an object of tensorflow
    target: Path,
    spec: Export,
    bound: Mapping[str, Bound],
    *,
    saver: Any,  # noqa: ANN401 - an object of tensorflow
    main_op: Any,  # noqa: ANN401 - an object of tensorflow
) -> None:
    """Write the session's graph and variables as a SavedModel with these signatures.

    A saver that writes one shard needs no temporary name, which would be a random one in the graph.
    """
    signatures = {}
    for key, signature in bound.items():
        signatures[key] = tf.compat.v1.MetaGraphDef().signature_def[key]
        fill(signatures[key], signature)
    builder = tf.compat.v1.saved_model.Builder(str(target))
    builder.add_meta_graph_and_variables(
        session,
        list(spec.tags),
        signatures,
        assets_collection=session.graph.get_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS),
        saver=saver,
        main_op=main_op,
        strip_default_attrs=True,
    )
    builder.save()
    set_tags(target, spec)
