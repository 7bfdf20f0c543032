"""An existing SavedModel: kept byte for byte, or given the signatures and tags that are asked for."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core import digest
from components.core.signature import DEFAULT_SIGNATURE, PREDICT_METHOD, Signature
from components.core.spec import Export
from components.export.signatures import Bound, Lookup, bind
from components.export.tensors import fill, in_graph
from components.savedmodel.inspect import GRAPH_FILE, TEXT_GRAPH_FILE, contract_of, meta_graph, read_proto

_SIGNATURES_NODE = "signatures"


def write(source: Path, target: Path, spec: Export) -> bool:
    """Write the SavedModel in ``source`` to ``target`` with the spec's signatures; return whether it was changed.

    Raises:
        Rejected: It cannot be read, holds links, has no meta graph with the tags, or not what a signature needs.
    """
    _copy(source, target)
    model = read_proto(source)
    graph = _choose(model, frozenset(spec.tags), source)
    before = model.SerializeToString(deterministic=True)
    _retag(graph, spec.tags)
    if spec.signatures:
        _resign(graph, spec)
    after = model.SerializeToString(deterministic=True)
    if after == before:
        return False
    (target / TEXT_GRAPH_FILE).unlink(missing_ok=True)
    (target / GRAPH_FILE).write_bytes(after)
    return True


def set_tags(path: Path, tags: tuple[str, ...]) -> None:
    """Give the one meta graph of the SavedModel in ``path`` exactly these tags; TensorFlow 2 writes ``serve``."""
    model = read_proto(path)
    _retag(model.meta_graphs[0], tags)
    (path / GRAPH_FILE).write_bytes(model.SerializeToString(deterministic=True))


def _copy(source: Path, target: Path) -> None:
    for name in digest.of_directory(source).files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _choose(model: Any, tags: frozenset[str], source: Path) -> Any:  # noqa: ANN401 - dynamic messages
    """The meta graph with the tags; or the only one there is, which then gets them."""
    if len(model.meta_graphs) == 1:
        return model.meta_graphs[0]
    return meta_graph(model, tags, source)


def _retag(graph: Any, tags: tuple[str, ...]) -> None:  # noqa: ANN401 - a dynamic message
    if frozenset(graph.meta_info_def.tags) != frozenset(tags):
        del graph.meta_info_def.tags[:]
        graph.meta_info_def.tags.extend(tags)


def _resign(graph: Any, spec: Export) -> None:  # noqa: ANN401 - a dynamic message
    """Replace the signatures, unless they are already those that are asked for.

    The object graph's own signatures are taken away with the old ones: ``tf.saved_model.load`` would otherwise go on
    calling them under their former names, which is a model that says two things.
    """
    has = contract_of(graph).signatures
    lookup = in_graph(graph.graph_def.SerializeToString())
    bound = {key: _bind(key, spec, has, lookup) for key in spec.signatures}
    if bound.keys() == has.keys() and all(_same(bound[key], has[key]) for key in bound):
        return
    for key in has:
        del graph.signature_def[key]
    for key, signature in bound.items():
        fill(graph.signature_def[key], signature)
    _forget_object_signatures(graph)


def _bind(key: str, spec: Export, has: Mapping[str, Signature], lookup: Lookup) -> Bound:
    base = has.get(key) or has.get(DEFAULT_SIGNATURE) or (next(iter(has.values())) if len(has) == 1 else None)
    return bind(key, spec.signatures[key], base or Signature({}, {}), lookup)


def _same(bound: Bound, has: Signature) -> bool:
    return has.method_name == PREDICT_METHOD and all(
        {alias: spec.name for alias, (_, spec) in ours.items()} == {alias: spec.name for alias, spec in theirs.items()}
        for ours, theirs in ((bound.inputs, has.inputs), (bound.outputs, has.outputs))
    )


def _forget_object_signatures(graph: Any) -> None:  # noqa: ANN401 - a dynamic message
    nodes = graph.object_graph_def.nodes
    for child in nodes[0].children if nodes else ():
        if child.local_name == _SIGNATURES_NODE:
            del nodes[child.node_id].children[:]
