"""Runs TensorFlow's own graph optimizer offline on a meta graph that is being rewritten. Imports tensorflow.

Grappler can end the process (a failed CHECK), so this only ever runs in a child. It is told everything that must stay
as fetches; what is fed from outside (assets' paths, signature inputs that are no plain placeholders) is hidden from it
as a placeholder, so that it is never folded into a constant.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.grappler import cluster as cluster_tools
from tensorflow.python.grappler import tf_optimizer

from components.savedmodel.graph import by_name, node_of, reachable
from components.savedmodel.rewrite import GraphRewrite

KEEP_FUNCTIONAL = "_lower_using_switch_merge"
"""While and If with this attribute would be turned into the old control flow by inlining."""


def optimize(graph: GraphRewrite, optimizers: Sequence[str]) -> None:
    """Replace the graph by what the named optimizers of grappler's ``MetaOptimizer`` make of it, one round.

    Args:
        graph: Is changed in place.
        optimizers: Names as in ``meta_optimizer.cc``, such as ``constfold``.
    """
    original = by_name(graph.graph)
    hidden = _fed_from_outside(graph, original)
    item = meta_graph_pb2.MetaGraphDef()
    item.graph_def.CopyFrom(graph.graph)
    lowered = _set_lowering(item.graph_def, None)
    for node in item.graph_def.node:
        if node.name in hidden:
            dtype = _output_type(node)
            del node.input[:]
            node.op = "Placeholder"
            node.attr.clear()
            node.attr["dtype"].type = dtype
            node.attr["shape"].shape.unknown_rank = True
    item.collection_def["train_op"].node_list.value.extend(graph.roots())
    optimized = tf_optimizer.OptimizeGraph(_config(optimizers), item, verbose=False, cluster=_cluster())
    _set_lowering(optimized, lowered)
    _put_back(optimized, {name: original[name] for name in hidden}, original)
    optimized.versions.CopyFrom(graph.graph.versions)
    graph.graph.CopyFrom(optimized)
    graph.detach()


@cache
def _cluster() -> Any:  # noqa: ANN401 - an object of tensorflow
    return cluster_tools.Cluster(disable_detailed_stats=True)


def _config(optimizers: Sequence[str]) -> config_pb2.ConfigProto:
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    options.meta_optimizer_timeout_ms = -1  # the step has a deadline; a half-optimized graph would not be deterministic
    options.fail_on_optimizer_errors = True
    options.optimizers.extend(optimizers)
    return config


def _fed_from_outside(graph: GraphRewrite, nodes: dict[str, Any]) -> set[str]:
    fed = {*map(node_of, graph.signature_tensors("inputs")), *graph.asset_tensors()}
    return {name for name in fed if name in nodes and nodes[name].op != "Placeholder" and _output_type(nodes[name])}


def _output_type(node: Any) -> int:  # noqa: ANN401 - a protobuf message
    return next((node.attr[key].type for key in ("dtype", "T") if key in node.attr), 0)


def _put_back(optimized: Any, hidden: dict[str, Any], original: dict[str, Any]) -> None:  # noqa: ANN401
    for node in optimized.node:
        if node.name in hidden:
            node.CopyFrom(hidden[node.name])
    present = {node.name for node in optimized.node}
    for name in sorted(reachable(original, hidden) - present):
        optimized.node.add().CopyFrom(original[name])


def _set_lowering(graph_def: Any, wanted: dict[str, bool] | None) -> dict[str, bool]:  # noqa: ANN401
    """Switch lowering of While and If off (``None``) or back to what it was; return what it was, by node name."""
    before: dict[str, bool] = {}
    for node in (*graph_def.node, *(inner for function in graph_def.library.function for inner in function.node_def)):
        if KEEP_FUNCTIONAL in node.attr:
            before[node.name] = node.attr[KEEP_FUNCTIONAL].b
            node.attr[KEEP_FUNCTIONAL].b = False if wanted is None else wanted.get(node.name, True)
    return before
