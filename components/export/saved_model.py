"""An existing SavedModel: kept byte for byte, or given the signatures and tags that are asked for."""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from components.core import digest
from components.core.errors import Rejected
from components.core.process import Progress
from components.core.signature import DEFAULT_SIGNATURE, PREDICT_METHOD, Signature
from components.core.spec import Export
from components.export import reusable
from components.export.signatures import Bound, Lookup, bind
from components.export.tensors import fill, in_graph
from components.savedmodel.inspect import GRAPH_FILE, TEXT_GRAPH_FILE, contract_of, meta_graph, read_proto
from components.validate.files import is_known
from components.validate.scan import require_files, scan

_SIGNATURES_NODE = "signatures"
_SHOWN = 8


def write(source: Path, target: Path, spec: Export, allow_ops: Collection[str], note: Progress) -> bool:
    """Write the SavedModel in ``source`` to ``target`` with the spec's signatures; return whether it was changed.

    Only the meta graphs asked for go on: one for training may well read files, and no server loads it. What goes on is
    judged before TensorFlow sees it.

    Raises:
        Rejected: It cannot be read, holds links, has no meta graph with the tags, or not what a signature needs; a code
            of the static gate.
    """
    _copy(source, target, note)
    require_files(target)
    model = read_proto(target)
    before: bytes = model.SerializeToString(deterministic=True)
    _choose(model, spec, source, note)
    chosen = _store(target, model, before)
    scan(target, allow_ops=allow_ops)
    for graph in model.meta_graphs:
        if spec.signatures:
            _resign(graph, spec, source)
        if spec.reusable:
            reusable.require(graph, source)
    return _store(target, model, chosen) != before


def _store(target: Path, model: Any, before: bytes) -> bytes:  # noqa: ANN401 - a dynamic message
    """Write the graph if it is another one than before; return its bytes."""
    after: bytes = model.SerializeToString(deterministic=True)
    if after != before:
        (target / TEXT_GRAPH_FILE).unlink(missing_ok=True)
        (target / GRAPH_FILE).write_bytes(after)
    return after


def set_tags(path: Path, spec: Export) -> None:
    """Give the one meta graph of the SavedModel in ``path`` the spec's tags; TensorFlow 2 writes ``serve``."""
    model = read_proto(path)
    _retag(model.meta_graphs[0], spec.tags)
    for tags in spec.further_tag_sets:
        copied = model.meta_graphs.add()
        copied.CopyFrom(model.meta_graphs[0])
        _retag(copied, tags)
    (path / GRAPH_FILE).write_bytes(model.SerializeToString(deterministic=True))


def _copy(source: Path, target: Path, note: Progress) -> None:
    names = digest.of_directory(source).files
    if strange := [name for name in names if not is_known(name)]:
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        note(f"left behind, as no part of a SavedModel: {', '.join(strange[:_SHOWN])}{more}")
    for name in names:
        if is_known(name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def _choose(model: Any, spec: Export, source: Path, note: Progress) -> None:  # noqa: ANN401 - dynamic messages
    """Leave one meta graph for each tag set asked for; a set that is not there shares the first one's graph."""
    has = {frozenset(graph.meta_info_def.tags): graph for graph in model.meta_graphs}
    first = _first(model, has, frozenset(spec.tags), source)
    wanted = [(spec.tags, first), *((tags, has.get(frozenset(tags), first)) for tags in spec.further_tag_sets)]
    used = {frozenset(graph.meta_info_def.tags) for _, graph in wanted}
    for left in sorted(has.keys() - used, key=sorted):
        note(f"left behind: the meta graph with the tags {{{', '.join(sorted(left))}}}")
    chosen = []
    for tags, graph in wanted:
        copied = type(graph).FromString(graph.SerializeToString())
        _retag(copied, tags)
        chosen.append(copied)
    del model.meta_graphs[:]
    model.meta_graphs.extend(chosen)


def _first(model: Any, has: Mapping[frozenset[str], Any], tags: frozenset[str], source: Path) -> Any:  # noqa: ANN401
    """The meta graph with the tags; or the only one there is; or that without tags, as TF1 Hub writes it."""
    if tags not in has and len(has) == 1:
        return model.meta_graphs[0]
    if tags not in has and frozenset() in has:
        return has[frozenset()]
    return meta_graph(model, tags, source)


def _retag(graph: Any, tags: tuple[str, ...]) -> None:  # noqa: ANN401 - a dynamic message
    if frozenset(graph.meta_info_def.tags) != frozenset(tags):
        del graph.meta_info_def.tags[:]
        graph.meta_info_def.tags.extend(tags)


def _resign(graph: Any, spec: Export, source: Path) -> None:  # noqa: ANN401 - a dynamic message
    """Replace the signatures, unless they are already those that are asked for.

    The object graph's own signatures are taken away with the old ones: ``tf.saved_model.load`` would otherwise go on
    calling them under their former names, which is a model that says two things.
    """
    has = contract_of(graph).signatures
    lookup = in_graph(graph.graph_def.SerializeToString())
    bound = {key: _bind(key, spec, has, lookup) for key in spec.signatures}
    if bound.keys() == has.keys() and all(_same(bound[key], has[key]) for key in bound):
        return
    if spec.reusable:
        raise Rejected(
            f"{source.name} cannot be given other signatures and stay reusable",
            expected="no export.signatures with export.reusable: its own are part of its objects",
            got=f"signatures {', '.join(has) or 'none'}",
            reason="REUSABLE",
        )
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
