"""A frozen GraphDef: one file of nodes and constants, without signatures.

Imports tensorflow: only for child processes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from components.core.errors import Rejected
from components.core.spec import Export
from components.export.signatures import Bound, bind
from components.export.tensors import ends_of, fill, find


def write(source: Path, target: Path, spec: Export) -> bool:
    """Write the graph in ``source`` as a SavedModel without variables.

    Raises:
        Rejected: SIGNATURE_MISSING: the spec names no signatures, or tensors that are not there; LOAD_FAILED.
    """
    graph = tf.Graph()
    try:
        definition = tf.compat.v1.GraphDef.FromString(source.read_bytes())
        with graph.as_default():
            tf.graph_util.import_graph_def(definition, name="")
    except Exception as error:
        raise Rejected(
            f"{source.name} is no graph that TensorFlow can import", got=str(error)[:2000], reason="LOAD_FAILED"
        ) from error
    bound = bind_graph(source, graph, spec)
    with tf.compat.v1.Session(graph=graph) as session:
        build(session, target, spec, bound, saver=None, main_op=None)
    return True


def bind_graph(source: Path, graph: Any, spec: Export) -> dict[str, Bound]:  # noqa: ANN401 - an object of tensorflow
    """Bind the spec's signatures to the tensors of a graph.

    Raises:
        Rejected: SIGNATURE_MISSING, SIGNATURE_DTYPE or SIGNATURE_SHAPE.
    """
    ends = ends_of(graph)
    if not spec.signatures:
        raise Rejected(
            f"{source.name} has no signatures of its own",
            expected="export.signatures, with the tensors it is fed and asked for",
            got=f"placeholders {', '.join(ends.inputs) or 'none'}; ends {', '.join(list(ends.outputs)[:16]) or 'none'}",
            fix="name them: {serving_default: {inputs: {x: {source: 'x:0'}}, outputs: {y: {source: 'y:0'}}}}",
            reason="SIGNATURE_MISSING",
        )
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
