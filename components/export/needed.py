"""What of a TF1 graph serving needs: the rest is left out before anything judges or loads it.

A training graph reads files and writes summaries, rightly; its server does neither. Works on messages and does not
import tensorflow.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.core.spec import Export, Port, SignatureSpec
from components.export.signatures import bind
from components.savedmodel.inspect import contract_of
from components.savedmodel.messages import message
from components.validate.graphs import MAIN, MetaGraph, node_name

_VARIABLES = ("variables", "trainable_variables", "model_variables", "local_variables")
_ASSETS = "asset_filepaths"
_TABLES = "table_initializer"
_INPUTS = frozenset({"Placeholder", "PlaceholderWithDefault"})
_WITHOUT_OUTPUT = frozenset({"Const", "NoOp", "Assert", "SaveV2", "MergeV2Checkpoints", "AssignVariableOp"})
_SHOWN = 16


def keep_only(source: Path, meta: Any, spec: Export) -> None:  # noqa: ANN401 - a dynamic message
    """Leave in a ``MetaGraphDef`` only what its signatures, variables and tables need; assets are found beside it.

    Args:
        source: The file it came from.
        meta: The graph, which is changed.
        spec: The signatures to export; its own if there are none.

    Raises:
        Rejected: SIGNATURE_MISSING or ASSET_OUTSIDE_MODEL.
    """
    graph = MetaGraph(meta)
    signatures = _names(source, graph, spec)
    wanted = [info.name for signature in signatures.values() for info in _both(signature)]
    kept, functions = graph.reach([*wanted, *_state(meta)])
    _prune(meta, kept, functions)
    if spec.signatures:
        _resign(meta, signatures)
    _find_assets(source, meta)


def _names(source: Path, graph: MetaGraph, spec: Export) -> Mapping[str, Signature]:
    """The signatures with their tensors' names; dtypes and shapes are known once the graph is imported."""
    own = contract_of(graph.meta).signatures
    if not spec.signatures and own:
        return own
    ends = _ends(graph)
    if not spec.signatures:
        raise Rejected(
            f"{source.name} has no signatures of its own",
            expected="export.signatures, with the tensors it is fed and asked for",
            got=f"placeholders {_some(ends.inputs)}; ends {_some(ends.outputs)}",
            fix="name them: {serving_default: {inputs: {x: {source: 'x:0'}}, outputs: {y: {source: 'y:0'}}}}",
            reason="SIGNATURE_MISSING",
        )
    found = {}
    for key, wanted in spec.signatures.items():
        bound = bind(key, _any_kind(wanted), ends, lambda name: _node(graph, name))
        inputs, outputs = ({a: tensor for a, (_, tensor) in side.items()} for side in (bound.inputs, bound.outputs))
        found[key] = Signature(inputs, outputs)
    return found


def _any_kind(wanted: SignatureSpec) -> SignatureSpec:
    sides = ({a: Port(source=port.source) for a, port in side.items()} for side in (wanted.inputs, wanted.outputs))
    inputs, outputs = sides
    return SignatureSpec(inputs=inputs, outputs=outputs)


def _ends(graph: MetaGraph) -> Signature:
    nodes = list(graph.nodes_of(MAIN))
    consumed = {node_name(name) for node in nodes for name in node.input}
    inputs = {node.name: _spec(node.name) for node in nodes if node.op in _INPUTS}
    outputs = {
        node.name: _spec(node.name)
        for node in nodes
        if node.name not in consumed and node.op not in _INPUTS | _WITHOUT_OUTPUT
    }
    return Signature(inputs, outputs)


def _node(graph: MetaGraph, name: str) -> TensorSpec | None:
    return _spec(name) if node_name(name) in graph.nodes and not name.startswith("^") else None


def _spec(name: str) -> TensorSpec:
    return TensorSpec("", None, name if ":" in name else f"{name}:0")


def _some(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:_SHOWN]) or "none"


def _both(signature: Signature) -> Iterator[TensorSpec]:
    yield from signature.inputs.values()
    yield from signature.outputs.values()


def _state(meta: Any) -> Iterator[str]:  # noqa: ANN401 - a dynamic message
    """What restores variables and fills tables, and what TensorFlow looks up of each variable."""
    yield meta.saver_def.restore_op_name
    yield meta.saver_def.filename_tensor_name
    if _TABLES in meta.collection_def:
        yield from meta.collection_def[_TABLES].node_list.value
    for variable in _variables(meta):
        yield from (
            variable.variable_name,
            variable.initializer_name,
            variable.snapshot_name,
            variable.initial_value_name,
        )


def _variables(meta: Any) -> Iterator[Any]:  # noqa: ANN401 - dynamic messages
    for name in _VARIABLES:
        if name in meta.collection_def:
            for packed in meta.collection_def[name].bytes_list.value:
                yield message("tensorflow.VariableDef").FromString(packed)


def _prune(meta: Any, kept: frozenset[str], functions: frozenset[str]) -> None:  # noqa: ANN401 - a dynamic message
    graph = meta.graph_def
    nodes = [node for node in graph.node if node.name in kept]
    library = [function for function in graph.library.function if function.signature.name in functions]
    for node in nodes:
        _drop_lost_colocation(node, kept)
    _replace(graph.node, nodes)
    _replace(graph.library.function, library)
    del graph.library.gradient[:]
    for name in list(meta.collection_def):
        if name not in (*_VARIABLES, _TABLES, _ASSETS):
            del meta.collection_def[name]
        else:
            values = meta.collection_def[name].node_list.value
            _replace(values, [value for value in values if node_name(value) in kept])


def _replace(field: Any, values: list[Any]) -> None:  # noqa: ANN401 - a repeated field
    copies = [copy.deepcopy(value) for value in values]  # a message dies with the field that held it
    del field[:]
    field.extend(copies)


def _drop_lost_colocation(node: Any, kept: frozenset[str]) -> None:  # noqa: ANN401 - a NodeDef
    """A node may ask to stand where another one does, which must be there then."""
    if "_class" in node.attr:
        places = node.attr["_class"].list.s
        left = [place for place in places if place.removeprefix(b"loc:@").decode(errors="replace") in kept]
        _replace(places, left)


def _resign(meta: Any, signatures: Mapping[str, Signature]) -> None:  # noqa: ANN401 - a dynamic message
    """Say which tensors a server will ask for, by which the gate tells what runs."""
    for key in list(meta.signature_def):
        del meta.signature_def[key]
    for key, signature in signatures.items():
        for alias, info in signature.outputs.items():
            meta.signature_def[key].outputs[alias].name = info.name


def _find_assets(source: Path, meta: Any) -> None:  # noqa: ANN401 - a dynamic message
    """Point each asset to the file beside the checkpoint: the path of the machine that trained says nothing here.

    A path outside would let whoever made the graph take any file of this machine into the model.
    """
    if _ASSETS not in meta.collection_def:
        return
    nodes = {node.name: node for node in meta.graph_def.node}
    for name in meta.collection_def[_ASSETS].node_list.value:
        paths = nodes[node_name(name)].attr["value"].tensor.string_val
        for index, path in enumerate(paths):
            paths[index] = str(_beside(source, path.decode(errors="replace"))).encode()
        meta.asset_file_def.add(filename=Path(paths[0].decode()).name).tensor_info.name = name


def _beside(source: Path, path: str) -> Path:
    root = source.parent.resolve()
    given = (root / path).resolve()
    if given.is_relative_to(root) and given.is_file():
        return given
    named = (file for file in sorted(root.rglob("*")) if file.name == Path(path).name)
    found = [file for file in named if file.is_file() and not file.is_symlink()]
    if len(found) != 1:
        raise Rejected(
            f"{source.name} needs the file {path}",
            expected=f"one file {Path(path).name} in the folder of the checkpoint",
            got=f"{len(found)} there",
            fix="let the training code copy its vocabulary files beside the checkpoint",
            reason="ASSET_OUTSIDE_MODEL",
        )
    return found[0]
