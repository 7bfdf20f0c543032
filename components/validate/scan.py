"""The static gate: what a SavedModel would do is judged by reading it, before anything loads it.

A graph alone is a program that may write files at load or read them at a request with a trigger, so behaviour in a test
proves nothing. Reads protobuf messages only; run it in a limited child process. Sources: TensorFlow's SECURITY.md, and
``tensorflow/cc/saved_model/loader.cc`` for what a server executes at load.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from components.core.errors import Rejected
from components.core.signature import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from components.core.validation import Finding, Scan, Severity
from components.savedmodel.inspect import INIT_SIGNATURES, dtype_name, read_proto
from components.savedmodel.messages import message
from components.validate import files, ops
from components.validate.depth import MAX_DEPTH, too_deep
from components.validate.graphs import MAIN, MAX_EXPANSION, MetaGraph, node_name

MAX_CONSTANT_BYTES = 2**30
"""Bytes one constant may become; a message cannot carry more than twice that, only a repeated value can."""
_MIN_WEIGHTS = 16  # a constant with fewer values may be NaN for a reason: a default, a mask
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
_TABLES = "table_initializer"
_ASSET_COLLECTION = "saved_model_assets"
_TRAIN_SIGNATURE = "__saved_model_train_op"
_CONSOLE = ("stderr", "stdout", "log(info)", "log(warning)", "log(error)")
_MAX_TOLD = 5
_METHODS = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)


def scan(root: Path, *, allow_ops: Collection[str] = ()) -> Scan:
    """Judge a SavedModel.

    Args:
        root: Its directory.
        allow_ops: Ops by name that are allowed beyond our list; each that is met is noted.

    Returns:
        What it holds.

    Raises:
        Rejected: One of the reason codes of the threat model, with the first findings.
    """
    model = _read(root)
    require_files(root)
    graphs = [MetaGraph(meta) for meta in model.meta_graphs]
    notes: list[Finding] = []
    for graph in graphs:
        _refuse(root.name, list(_structure(graph)))  # the rest relies on calls that end
        found = list(_ops(graph, allow_ops))
        refused = [finding for finding in found if finding.severity is Severity.REJECT]
        _refuse(root.name, [*refused, *_assets(root, graph), *_constants(graph), *_split_brain(graph)])
        notes += [finding for finding in found if finding.severity is Severity.NOTE]
        notes += _methods(graph)
    used = Counter(node.op for graph in graphs for scope in graph.scopes for node in graph.nodes_of(scope))
    functions = {name for graph in graphs for name in graph.functions}
    return Scan(
        ops=used.total(),
        distinct_ops=len(used),
        functions=len(functions),
        stateful_ops=tuple(sorted(op for op in used if ops.is_stateful(op) and op not in functions)),
        notes=tuple(dict.fromkeys(notes)),
    )


def scan_graph(name: str, meta: Any, *, allow_ops: Collection[str] = ()) -> None:  # noqa: ANN401 - a dynamic message
    """Judge a ``MetaGraphDef`` that is no part of a SavedModel yet, as strictly as one that is.

    Args:
        name: What it is called, for messages.
        meta: The graph; its signatures and saver say what will run, its assets which files it may read.
        allow_ops: As for :func:`scan`.

    Raises:
        Rejected: As for :func:`scan`.
    """
    graph = MetaGraph(meta)
    _refuse(name, list(_structure(graph)))
    init = meta.collection_def[_TABLES].node_list.value if _TABLES in meta.collection_def else ()
    refused = [finding for finding in _ops(graph, allow_ops, init=init) if finding.severity is Severity.REJECT]
    _refuse(name, [*refused, *_constants(graph)])


def require_files(root: Path) -> None:
    """Judge the tree of files alone.

    Raises:
        Rejected: SYMLINK, FILE_UNKNOWN or AMBIGUOUS_GRAPH_FILES.
    """
    _refuse(root.name, list(files.findings(root)))


def _read(root: Path) -> Any:  # noqa: ANN401 - a dynamic message
    try:
        return read_proto(root)
    except Rejected as error:
        if error.reason == "CORRUPT_PROTO" and too_deep(root):
            raise Rejected(
                f"{root.name} is refused without loading it",
                expected=f"messages nested at most {MAX_DEPTH} deep, as protobuf reads them",
                got="deeper ones",
                fix="if you did not make it, do not load it anywhere",
                reason="PROTO_DEPTH",
            ) from error
        raise


def _refuse(name: str, found: list[Finding]) -> None:
    if not found:
        return
    told = "; ".join(f"{finding.where}: {finding.detail} [{finding.reason}]" for finding in found[:_MAX_TOLD])
    raise Rejected(
        f"{name} is refused without loading it",
        expected="a graph of ops that stay within the model",
        got=told + (f"; and {len(found) - _MAX_TOLD} more" if len(found) > _MAX_TOLD else ""),
        fix="export the model again without them; if you did not make it, do not load it anywhere",
        reason=found[0].reason,
    )


def _methods(graph: MetaGraph) -> Iterator[Finding]:
    """A server answers these all the same, but by Predict only."""
    for key, signature in graph.meta.signature_def.items():
        if key not in INIT_SIGNATURES and signature.method_name not in _METHODS:
            told = f"{signature.method_name!r} is none of TensorFlow Serving's"
            yield Finding(reason="METHOD_NAME", where=f"signature {key}", detail=told, severity=Severity.NOTE)


def _structure(graph: MetaGraph) -> Iterator[Finding]:
    if cycle := graph.cycle():
        yield Finding(reason="GRAPH_RECURSION", where=cycle, detail="calls itself, which crashes the loader")
    elif (size := graph.expansion()) > MAX_EXPANSION:
        yield Finding(reason="GRAPH_BOMB_CALLS", where="calls", detail=f"{size:.3g} nodes once expanded")


def _ops(graph: MetaGraph, allow_ops: Collection[str], *, init: Iterable[str] = ()) -> Iterator[Finding]:
    serving_nodes, serving = graph.reach([*_serving_roots(graph), *init])
    serving |= graph.closure(graph.meta.object_graph_def.concrete_functions)
    restore_nodes, restoring = graph.reach([graph.meta.saver_def.restore_op_name])
    for scope in graph.scopes:
        for node in graph.nodes_of(scope):
            served = node.name in serving_nodes if scope == MAIN else scope in serving
            restored = node.name in restore_nodes if scope == MAIN else scope in restoring
            if not (reason := _judge(graph, scope, node, served=served, restored=restored)):
                continue
            if node.op in allow_ops:
                told = f"allowed by the spec; without that: {reason}"
                yield Finding(reason="OP_ALLOWED", where=node.op, detail=told, severity=Severity.NOTE)
            else:
                yield Finding(reason=reason, where=f"{scope or 'graph'}/{node.name}", detail=node.op)


def _serving_roots(graph: MetaGraph) -> Iterator[str]:
    """What a server runs: the outputs of signatures, and at load the initializer."""
    for key, signature in graph.meta.signature_def.items():
        if key != _TRAIN_SIGNATURE:
            for info in signature.outputs.values():
                yield from _names(info)
    for name in _INIT_COLLECTIONS:
        if name in graph.meta.collection_def:
            yield from graph.meta.collection_def[name].node_list.value


def _names(info: Any) -> Iterator[str]:  # noqa: ANN401 - a TensorInfo
    match info.WhichOneof("encoding"):
        case "name":
            yield info.name
        case "coo_sparse":
            sparse = info.coo_sparse
            yield from (sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
        case "composite_tensor":
            for component in info.composite_tensor.components:
                yield from _names(component)


def _judge(graph: MetaGraph, scope: str, node: Any, *, served: bool, restored: bool) -> str:  # noqa: ANN401
    """Return the reason code for which a node is refused where it stands; empty if it is not."""
    if node.op in graph.functions:
        return ""
    if node.op in ops.SAVER_WRITES:
        return "OP_FILE_WRITE" if served or restored else ""
    if node.op in ops.SAVER_READS:
        strange = restored and not _reads_own_variables(graph, scope, node)
        return "OP_FILE_READ" if served or strange else ""
    if node.op in ops.TABLE_FILES:
        return "" if not (served or restored) or _reads_own_asset(graph, scope, node) else "OP_FILE_READ"
    if node.op == "PrintV2":
        return "" if node.attr["output_stream"].s.decode(errors="replace") in _CONSOLE else "OP_FILE_WRITE"
    return ops.judge(node.op)


def _reads_own_variables(graph: MetaGraph, scope: str, node: Any) -> bool:  # noqa: ANN401 - a NodeDef
    own = ("node", node_name(graph.meta.saver_def.filename_tensor_name))
    return graph.origins(scope, node.input[0]) <= {own} if node.input else False


def _reads_own_asset(graph: MetaGraph, scope: str, node: Any) -> bool:  # noqa: ANN401 - a NodeDef
    assets = {("node", node_name(asset.tensor_info.name)) for asset in asset_files(graph.meta)}
    return graph.origins(scope, node.input[1]) <= assets | {("object", "asset")} if len(node.input) > 1 else False


def asset_files(meta: Any) -> list[Any]:  # noqa: ANN401 - dynamic messages
    """Return a meta graph's ``AssetFileDef`` messages where a server looks for them: TF1 keeps them in a collection.

    Source: ``GetAssetFileDefs`` in tensorflow/cc/saved_model/loader_util.cc.
    """
    if meta.asset_file_def or _ASSET_COLLECTION not in meta.collection_def:
        return list(meta.asset_file_def)
    packed = meta.collection_def[_ASSET_COLLECTION].any_list.value
    return [message("tensorflow.AssetFileDef").FromString(entry.value) for entry in packed]


def _assets(root: Path, graph: MetaGraph) -> Iterator[Finding]:
    for asset in asset_files(graph.meta):
        path = PurePosixPath(asset.filename)
        if path.is_absolute() or "\\" in asset.filename or "://" in asset.filename:
            yield Finding(reason="ASSET_OUTSIDE_MODEL", where="asset", detail=asset.filename)
        elif ".." in path.parts:
            yield Finding(reason="ASSET_PATH_TRAVERSAL", where="asset", detail=asset.filename)
        elif not (root / "assets" / path).is_file():
            yield Finding(reason="ASSET_MISSING", where="asset", detail=asset.filename)


def _constants(graph: MetaGraph) -> Iterator[Finding]:
    for scope in graph.scopes:
        for node in graph.nodes_of(scope):
            if node.op == "Const":
                yield from _constant(f"{scope or 'graph'}/{node.name}", node.attr["value"].tensor)


def _constant(where: str, tensor: Any) -> Iterator[Finding]:  # noqa: ANN401 - a TensorProto
    name = dtype_name(tensor.dtype)
    dtype = np.dtype(name) if name in {"float16", "float32", "float64"} else None
    size = math.prod(max(0, dim.size) for dim in tensor.tensor_shape.dim) * (dtype.itemsize if dtype else 8)
    if size > MAX_CONSTANT_BYTES and tensor.ByteSize() < size // 16:
        yield Finding(reason="RESOURCE_BOMB_TENSOR", where=where, detail=f"{tensor.ByteSize()} bytes become {size}")
    if dtype is None:
        return
    content = tensor.tensor_content
    if content and len(content) % dtype.itemsize == 0:
        values = np.frombuffer(content, dtype)
    else:
        values = np.array(tensor.float_val if name == "float32" else tensor.double_val, np.float64)
    if values.size >= _MIN_WEIGHTS and bool(np.isnan(values).any()):
        yield Finding(
            reason="NAN_WEIGHTS", where=where, detail=f"{int(np.isnan(values).sum())} of {values.size} are NaN"
        )


def _split_brain(graph: MetaGraph) -> Iterator[Finding]:
    """The signatures of the object graph, which Python calls, must be the functions that ``signature_def`` leads to."""
    objects = graph.meta.object_graph_def
    for key, function in _object_signatures(objects):
        if key not in graph.meta.signature_def:
            yield Finding(reason="SIGNATURE_SPLIT_BRAIN", where=key, detail="a signature of the object graph only")
            continue
        for alias, info in graph.meta.signature_def[key].outputs.items():
            made_by = {call for name in _names(info) for call in _callers_of(graph, name)}
            if made_by != {function}:
                detail = f"output {alias} comes from {', '.join(sorted(made_by)) or 'no function'}, not from {function}"
                yield Finding(reason="SIGNATURE_SPLIT_BRAIN", where=key, detail=detail)


def _object_signatures(objects: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - a SavedObjectGraph
    if not objects.nodes:
        return
    for child in objects.nodes[0].children:
        if child.local_name == "signatures" and child.node_id < len(objects.nodes):
            for signature in objects.nodes[child.node_id].children:
                node = objects.nodes[signature.node_id]
                if node.WhichOneof("kind") == "bare_concrete_function":
                    yield signature.local_name, node.bare_concrete_function.concrete_function_name


def _callers_of(graph: MetaGraph, tensor: str) -> list[str]:
    """The function whose call makes a tensor of the main graph."""
    return [
        callee
        for kind, name in graph.origins(MAIN, tensor)
        if kind == "node" and name in graph.nodes
        for callee in graph.callees(graph.nodes[name])
    ]
