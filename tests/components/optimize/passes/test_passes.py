"""Each pass: that it fired, what it left, and that outputs agree."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.core.errors import Rejected
from components.optimize.passes import (
    fold_batch_norms,
    fold_constants,
    freeze_variables,
    inline_functions,
    merge_duplicate_nodes,
    remove_attribute,
    remove_device,
    remove_nodes,
    sort_by_execution_order,
    strip_unused,
    thaw_constants,
)
from components.savedmodel.graph import node_of
from components.savedmodel.inspect import every_node
from components.savedmodel.rewrite import GraphRewrite, set_constant
from tests.components.optimize.agreement import assert_agrees, ops, read_one
from tests.models import BUILDERS


def _frozen(path: Path) -> GraphRewrite:
    graph = read_one(path)
    inline_functions.apply(graph)
    freeze_variables.apply(graph)
    remove_attribute.apply(graph)
    return graph


def _folded(path: Path) -> GraphRewrite:
    graph = _frozen(path)
    fold_constants.apply(graph)
    remove_nodes.apply(graph)
    return graph


def test_strip_unused_removes_training_state_and_keeps_signatures_saver_and_assets(saved_model, tmp_path):
    source = saved_model("keras_cnn")
    graph = read_one(source)
    before = graph.nodes
    outcome = strip_unused.apply(graph)
    assert outcome.fired == before - graph.nodes > 100
    assert {node_of(name) for name in graph.roots()} <= {node.name for node in graph.graph.node}
    assert strip_unused.apply(graph).skipped == ("everything is needed",)
    assert_agrees(source, [graph], tmp_path / "out")


def test_strip_unused_keeps_an_input_that_no_output_needs(saved_model):
    graph = read_one(saved_model("strings"))
    unused = graph.graph.node.add(name="ignored", op="Placeholder")
    unused.attr["dtype"].type = 1
    graph.meta.signature_def["serving_default"].inputs["ignored"].name = "ignored:0"
    strip_unused.apply(graph)
    assert "ignored" in {node.name for node in graph.graph.node}


def test_strip_unused_removes_functions_that_nobody_calls(saved_model):
    graph = read_one(saved_model("strings"))
    graph.graph.library.function.add().signature.name = "forgotten"
    kept = len(graph.graph.library.function) - 1
    assert strip_unused.apply(graph).fired == 1
    assert len(graph.graph.library.function) == kept


@pytest.mark.parametrize("name", sorted(set(BUILDERS) - {"tf1_simple_save"}))
def test_inline_functions_leaves_no_call_of_a_signature(saved_model, tmp_path, name):
    source = saved_model(name)
    graph = read_one(source)
    assert inline_functions.apply(graph).fired >= 1
    saving = set(graph.saver_nodes())
    calls = [node.name for node in graph.graph.node if "PartitionedCall" in node.op and node.name not in saving]
    assert not [name for name in calls if name != graph.init_op]
    assert_agrees(source, [graph], tmp_path / "out")


def test_inline_functions_keeps_loops_as_functions_that_the_runtime_may_lower(saved_model):
    graph = read_one(saved_model("while_loop"))
    inline_functions.apply(graph)
    loops = [node for node in graph.graph.node if node.op in ("While", "StatelessWhile")]
    assert len(loops) == 1
    assert loops[0].attr["_lower_using_switch_merge"].b


def test_inline_functions_keeps_colocation_only_with_nodes_that_are_there(saved_model):
    graph = read_one(saved_model("strings"))
    first, second = graph.graph.node[0], graph.graph.node[1]
    first.attr["_class"].list.s.append(b"loc:@gone")
    second.attr["_class"].list.s.extend([b"loc:@gone", b"loc:@" + first.name.encode()])
    inline_functions.drop_dangling_colocation(graph)
    assert "_class" not in first.attr
    assert list(second.attr["_class"].list.s) == [b"loc:@" + first.name.encode()]


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_freeze_variables_agrees(saved_model, tmp_path, name):
    source = saved_model(name)
    assert_agrees(source, [_frozen(source)], tmp_path / "out")


def test_freeze_variables_freezes_what_is_only_read_and_drops_the_checkpoint(saved_model, tmp_path):
    graph = read_one(saved_model("keras_cnn"))
    inline_functions.apply(graph)
    assert freeze_variables.apply(graph).fired == 19
    assert "VarHandleOp" not in ops(graph)
    assert graph.checkpoint == {}
    assert_agrees(saved_model("keras_cnn"), [graph], tmp_path / "out")
    assert not (tmp_path / "out" / "variables").exists()


def test_freeze_variables_never_freezes_what_a_signature_writes(saved_model):
    graph = read_one(saved_model("module_two_signatures"))
    inline_functions.apply(graph)
    outcome = freeze_variables.apply(graph)
    assert outcome.fired == 1
    assert outcome.skipped == ("1 written while serving",)
    assert [value.dtype for value in graph.checkpoint.values()] == [np.int64]


def test_freeze_variables_never_freezes_what_a_function_body_writes(saved_model):
    graph = read_one(saved_model("module_two_signatures"))
    outcome = freeze_variables.apply(graph)  # nothing is inlined: every use is inside a function
    assert outcome.fired == 0
    assert sorted(outcome.skipped) == ["1 read inside a function body", "1 written while serving"]


def test_freeze_variables_never_freezes_what_the_initializer_sets(saved_model):
    graph = read_one(saved_model("lookup"))
    inline_functions.apply(graph)
    assert "1 set by the initializer, not by the checkpoint" in freeze_variables.apply(graph).skipped


def test_freeze_variables_freezes_old_style_variables(saved_model):
    graph = read_one(saved_model("tf1_simple_save"))
    assert freeze_variables.apply(graph).fired == 5
    assert "VariableV2" not in ops(graph)


def test_freeze_variables_never_freezes_an_old_style_variable_that_is_assigned(saved_model):
    graph = read_one(saved_model("tf1_simple_save"))
    assign = next(node for node in graph.graph.node if node.op == "Assign" and node.input[0] == "net/gamma")
    graph.meta.signature_def["serving_default"].outputs["assigned"].name = f"{assign.name}:0"
    outcome = freeze_variables.apply(graph)
    assert outcome.fired == 4
    assert outcome.skipped == ("1 written while serving",)


def test_freeze_variables_refuses_a_saver_that_restores_more_than_variables(saved_model):
    graph = read_one(saved_model("keras_mlp"))
    restore = next(function for function in graph.graph.library.function if "traced_restore" in function.signature.name)
    restore.node_def.add(name="table", op="LookupTableImportV2")
    outcome = freeze_variables.apply(graph)
    assert outcome.fired == 0
    assert "LookupTableImportV2" in outcome.skipped[0]
    assert graph.checkpoint is None


@pytest.mark.parametrize(("rows", "frozen"), [(8, 1), (16384, 0)])
def test_freeze_variables_leaves_big_tables_that_are_only_gathered_from(tmp_path, rows, frozen):
    class Table(tf.Module):
        def __init__(self) -> None:
            self.table = tf.Variable(np.random.default_rng(0).random((rows, 2)), dtype=tf.float32)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64, name="index")])
        def find(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
            found = tf.raw_ops.ResourceGather(resource=self.table.handle, indices=index, dtype=tf.float32)
            return {"row": found}

    module = Table()
    tf.saved_model.save(module, str(tmp_path / "source"), signatures={"serving_default": module.find})
    graph = read_one(tmp_path / "source")
    inline_functions.apply(graph)
    outcome = freeze_variables.apply(graph)
    assert outcome.fired == frozen
    assert outcome.skipped == (() if frozen else ("1 only gathered from, 64 KiB or more",))
    assert_agrees(tmp_path / "source", [graph], tmp_path / "out")


def test_remove_attribute_removes_hints_everywhere(saved_model, tmp_path):
    source = saved_model("keras_mlp")
    graph = read_one(source)
    assert remove_attribute.apply(graph).fired > 0
    assert not any("_output_shapes" in node.attr for node in every_node(graph.graph))
    assert_agrees(source, [graph], tmp_path / "out")


def test_remove_attribute_refuses_an_attribute_that_defines_the_op(saved_model):
    with pytest.raises(Rejected) as caught:
        remove_attribute.apply(read_one(saved_model("strings")), attribute_name=("T",))
    assert caught.value.reason == "MALFORMED_PASS"


def test_remove_device_clears_the_training_device(saved_model, tmp_path):
    source = saved_model("tf1_simple_save")
    graph = read_one(source)
    convolution = next(node for node in graph.graph.node if node.op == "Conv2D")
    convolution.device = "/job:training/replica:0/task:3/device:CPU:0"
    assert remove_device.apply(graph).fired == 1
    assert not any(node.device for node in every_node(graph.graph))
    assert_agrees(source, [graph], tmp_path / "out")


def test_remove_nodes_splices_identities_out(saved_model, tmp_path):
    source = saved_model("keras_mlp")
    graph = _frozen(source)
    before = ops(graph).count("Identity")
    outcome = remove_nodes.apply(graph)
    assert outcome.fired == before - ops(graph).count("Identity") > 0
    assert_agrees(source, [graph], tmp_path / "out")


def _graph_of(saved_model: Callable[[str], Path], *nodes: tuple[str, str, list[str]]) -> GraphRewrite:
    """Return a rewrite of the string model with further float nodes: (name, op, inputs)."""
    graph = read_one(saved_model("strings"))
    for name, op, inputs in nodes:
        node = graph.graph.node.add(name=name, op=op, input=inputs)
        node.attr["dtype" if op == "Placeholder" else "T"].type = 1
    return graph


def test_remove_nodes_keeps_what_orders_execution_what_is_named_and_branches(saved_model):
    graph = _graph_of(
        saved_model,
        ("p", "Placeholder", []),
        ("switch", "Switch", ["p", "p"]),
        ("waited_for", "Identity", ["p"]),
        ("waits", "Identity", ["p", "^p"]),
        ("dead", "Identity", ["switch:1"]),
        ("named", "Identity", ["p"]),
        ("plain", "CheckNumerics", ["p"]),
        ("end", "Neg", ["plain", "^waited_for"]),
    )
    graph.meta.signature_def["serving_default"].outputs["named"].name = "named:0"
    assert remove_nodes.apply(graph, op=("Identity", "CheckNumerics")).fired == 1
    left = {node.name: list(node.input) for node in graph.graph.node}
    assert left.keys() >= {"waited_for", "waits", "dead", "named"}
    assert "plain" not in left
    assert left["end"] == ["p", "^waited_for"]


def test_remove_nodes_refuses_ops_that_change_values(saved_model):
    with pytest.raises(Rejected):
        remove_nodes.apply(read_one(saved_model("strings")), op=("Neg",))


def test_fold_constants_leaves_only_what_depends_on_the_request(saved_model, tmp_path):
    source = saved_model("keras_mlp")
    graph = _frozen(source)
    assert fold_constants.apply(graph).fired > 20
    assert not {"Rsqrt", "Sub"} & set(ops(graph))
    assert_agrees(source, [graph], tmp_path / "out")


def test_fold_constants_never_folds_an_assets_path(saved_model, tmp_path):
    source = saved_model("lookup")
    graph = _frozen(source)
    # As TensorFlow 1 wrote it: the asset's tensor is a constant, which the loader feeds.
    name = graph.asset_tensors()[0]
    asset = next(node for node in graph.graph.node if node.name == name)
    set_constant(asset, np.array(b"the/training/machine", np.object_))
    graph.graph.node.add(name="shouted", op="StringUpper", input=[name])
    graph.graph.node.add(name="end", op="StringLower", input=["shouted"])
    outputs = graph.meta.signature_def["serving_default"].outputs
    outputs["path"].name, outputs["path"].dtype = "end:0", tf.string.as_datatype_enum
    fold_constants.apply(graph)
    left = {node.name: node for node in graph.graph.node}
    assert (left[name].op, left["shouted"].op) == ("Const", "StringUpper")
    del outputs["path"]
    assert_agrees(source, [graph], tmp_path / "out")


def test_fold_constants_never_folds_a_default_that_a_request_overrides(saved_model):
    graph = _graph_of(saved_model, ("y", "Neg", ["given"]))
    default = graph.graph.node.add(name="default", op="Const")
    set_constant(default, np.float32(1))
    given = graph.graph.node.add(name="given", op="PlaceholderWithDefault", input=["default"])
    given.attr["dtype"].type = 1
    given.attr["shape"].shape.SetInParent()
    signature = graph.meta.signature_def["serving_default"]
    signature.inputs["given"].name, signature.outputs["y"].name = "given:0", "y:0"
    fold_constants.apply(graph)
    left = {node.name: node for node in graph.graph.node}
    assert left["y"].op == "Neg"
    assert left["given"].op == "PlaceholderWithDefault"
    assert list(left["given"].input) == ["default"]


def test_fold_batch_norms_folds_keras_decomposed_form(saved_model, tmp_path):
    source = saved_model("keras_cnn")
    graph = _folded(source)
    assert ops(graph).count("Mul") == 6
    outcome = fold_batch_norms.apply(graph)
    assert outcome.fired == 6  # convolution, depthwise convolution and dense, in two signatures
    assert not {"Mul", "AddV2"} & set(ops(graph))
    assert ops(graph).count("BiasAdd") == 6  # the last layer's bias is zero: it was folded away before
    assert_agrees(source, [graph], tmp_path / "out")


def test_fold_batch_norms_folds_fused_batch_norm(saved_model, tmp_path):
    source = saved_model("tf1_simple_save")
    graph = _folded(source)
    assert fold_batch_norms.apply(graph).fired == 1
    assert not any("BatchNorm" in op for op in ops(graph))
    assert_agrees(source, [graph], tmp_path / "out")


def _save_net(path: Path, function: Callable[[tf.Tensor], tf.Tensor]) -> GraphRewrite:
    """Save ``function`` of an image [?, 6, 6, 4] with its constants in the graph."""
    module = tf.Module()
    module.f = tf.function(
        lambda x: {"y": function(x)}, input_signature=[tf.TensorSpec((None, 6, 6, 4), tf.float32, name="x")]
    )
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.f})
    return _folded(path)


RANDOM = np.random.default_rng(8)
KERNEL = RANDOM.random((3, 3, 4, 4)).astype(np.float32) - 0.5
FACTOR, TERM = (RANDOM.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(2))
SQUARE = RANDOM.random((4, 4)).astype(np.float32)

FOLDED = {
    "a factor alone": lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME") * FACTOR,
    "a factor before which a bias stands": lambda x: (tf.nn.conv2d(x, KERNEL, 1, "SAME") + TERM) * FACTOR,
    "a division and a subtraction": lambda x: tf.nn.conv2d(x, KERNEL, 1, "VALID") / FACTOR - TERM,
    "two norms in a row": lambda x: ((tf.nn.conv2d(x, KERNEL, 1, "SAME") * FACTOR + TERM) * TERM) - FACTOR,
    "one factor for all channels": lambda x: tf.nn.conv2d(x, KERNEL, 2, "SAME") * 3.0 + TERM,
    "a product with a transposed matrix": lambda x: tf.matmul(x[:, 0, 0], SQUARE, transpose_b=True) * FACTOR + TERM,
    "a depthwise convolution": lambda x: tf.nn.depthwise_conv2d(x, KERNEL[:, :, :, :1], [1, 1, 1, 1], "SAME") * FACTOR,
}
REFUSED = {
    "the plain value is wanted too": lambda x: (y := tf.nn.conv2d(x, KERNEL, 1, "SAME")) * FACTOR + tf.nn.relu(y),
    "the factor differs by place": lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME") * RANDOM.random((6, 6, 1)),
    "there is no factor": lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME") + TERM,
    "a constant divided by the value": lambda x: FACTOR / (tf.nn.conv2d(x, KERNEL, 1, "SAME") + 100.0),
    "a constant minus the value": lambda x: FACTOR - tf.nn.conv2d(x, KERNEL, 1, "SAME"),
    "a factor that is infinite": lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME") / np.zeros(4, np.float32),
    "the weights depend on the request": lambda x: tf.nn.conv2d(x, KERNEL * x[0, 0, 0, 0], 1, "SAME") * FACTOR,
    "a constant of higher rank": lambda x: tf.matmul(x[:, 0, 0], SQUARE) * FACTOR[None, None],
}


@pytest.mark.parametrize("case", sorted(FOLDED))
def test_fold_batch_norms_folds(tmp_path, case):
    graph = _save_net(tmp_path / "source", FOLDED[case])
    assert fold_batch_norms.apply(graph).fired == 1
    assert not {"Mul", "AddV2", "Sub", "RealDiv"} & set(ops(graph))
    assert_agrees(tmp_path / "source", [graph], tmp_path / "out")


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_fold_batch_norms_refuses(tmp_path, case):
    graph = _save_net(tmp_path / "source", REFUSED[case])
    before = graph.graph.SerializeToString(deterministic=True)
    outcome = fold_batch_norms.apply(graph)
    assert outcome.fired == 0
    assert outcome.skipped
    assert graph.graph.SerializeToString(deterministic=True) == before


def test_merge_duplicate_nodes_shares_the_weights_of_signatures_again(saved_model, tmp_path):
    source = saved_model("keras_cnn")
    graph = _folded(source)
    fold_batch_norms.apply(graph)
    biases = [node.input[1] for node in graph.graph.node if node.op == "BiasAdd"]
    assert max(Counter(biases).values()) < 2 + (len(set(biases)) < len(biases))
    assert merge_duplicate_nodes.apply(graph).fired > 0
    biases = [node.input[1] for node in graph.graph.node if node.op == "BiasAdd"]
    assert set(Counter(biases).values()) == {2}
    assert_agrees(source, [graph], tmp_path / "out")


def test_merge_duplicate_nodes_keeps_state_placeholders_and_names(saved_model):
    graph = _graph_of(
        saved_model,
        *((name, "Placeholder", []) for name in ("p", "q")),
        *((name, "Neg", ["p"]) for name in ("first", "named", "other")),
        ("on_q", "Neg", ["q"]),
        ("end", "AddN", ["first", "other", "^other"]),
        ("queue_1", "RandomStandardNormal", ["p"]),
        ("queue_2", "RandomStandardNormal", ["p"]),
    )
    graph.meta.signature_def["serving_default"].outputs["named"].name = "named:0"
    assert merge_duplicate_nodes.apply(graph).fired == 1
    left = {node.name: list(node.input) for node in graph.graph.node}
    assert left.keys() >= {"p", "q", "named", "on_q", "queue_1", "queue_2"}
    kept = ({"first", "other"} & left.keys()).pop()
    assert left["end"] == [kept, kept, f"^{kept}"]


def test_thaw_constants_moves_big_matrices_into_a_checkpoint(saved_model, tmp_path):
    source = saved_model("keras_mlp")
    graph = _folded(source)
    assert thaw_constants.apply(graph).fired == 1
    assert [value.shape for value in graph.checkpoint.values()] == [(64, 256)]
    assert_agrees(source, [graph], tmp_path / "out")
    assert (tmp_path / "out/variables/variables.index").is_file()
    answer = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    expected = tf.saved_model.load(str(source)).signatures["serving_default"]
    x = tf.random.stateless_uniform((3, 64), (1, 2))
    np.testing.assert_allclose(answer(pixels=x)["output_0"], expected(pixels=x)["output_0"], rtol=1e-4)


def test_thaw_constants_leaves_filters_and_waits_for_freeze(saved_model, tmp_path):
    big = RANDOM.random((3, 3, 4, 512)).astype(np.float32)
    graph = _save_net(tmp_path / "source", lambda x: tf.nn.conv2d(x, big, 1, "SAME"))
    outcome = thaw_constants.apply(graph)
    assert outcome.fired == 0
    assert "1 constants are taken by convolutions" in outcome.skipped[0]
    assert "freeze_variables did not run" in thaw_constants.apply(read_one(saved_model("keras_mlp"))).skipped[0]


def test_sort_by_execution_order_puts_every_node_after_its_inputs(saved_model, tmp_path):
    source = saved_model("keras_cnn")
    graph = _folded(source)
    nodes = list(graph.graph.node)
    graph.graph.ClearField("node")
    graph.graph.node.extend(reversed(nodes))
    assert sort_by_execution_order.apply(graph).fired > 0
    seen: set[str] = set()
    for node in graph.graph.node:
        assert {node_of(name) for name in node.input} <= seen
        seen.add(node.name)
    assert sort_by_execution_order.apply(graph).fired == 0
    assert_agrees(source, [graph], tmp_path / "out")
