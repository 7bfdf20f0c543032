"""The static gate: ordinary models pass, hostile ones are refused without being loaded."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.errors import Rejected
from components.savedmodel.inspect import read_proto
from components.savedmodel.messages import message
from components.validate.ops import judge
from components.validate.scan import scan
from tests.models import BUILDERS

Change = Callable[[Any], None]


def hostile(saved_model, tmp_path: Path, change: Change, name: str = "while_loop") -> Path:
    """Return a copy of an ordinary model whose meta graph ``change`` has changed."""
    path = tmp_path / "model"
    shutil.copytree(saved_model(name), path)
    model = read_proto(path)
    change(model.meta_graphs[0])
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    return path


def reason(path: Path) -> str:
    with pytest.raises(Rejected) as caught:
        scan(path)
    return caught.value.reason


def text_constant(nodes, name: str, value: bytes) -> None:
    node = nodes.add(name=name, op="Const")
    node.attr["dtype"].type = 7
    node.attr["value"].tensor.dtype = 7
    node.attr["value"].tensor.string_val.append(value)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_an_ordinary_model_passes(saved_model, name):
    found = scan(saved_model(name))

    assert found.ops > 0
    assert found.notes == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("WriteFile", "OP_FILE_WRITE"),
        ("ReadFile", "OP_FILE_READ"),
        ("MatchingFiles", "OP_FILE_READ"),
        ("ImmutableConst", "OP_FILE_READ"),
        ("PyFunc", "OP_PYTHON"),
        ("PyFuncStateless", "OP_PYTHON"),
        ("EagerPyFunc", "OP_PYTHON"),
        ("DatasetFromGraph", "OP_NESTED_GRAPH"),
        ("DebugIdentity", "OP_DEBUG_EXFIL"),
        ("DebugIdentityV2", "OP_DEBUG_EXFIL"),
        ("DataServiceDatasetV4", "OP_NETWORK"),
        ("RpcCall", "OP_NETWORK"),
        ("_Send", "OP_NETWORK"),
        ("SnapshotDatasetV2", "OP_FILE_WRITE"),
        ("CacheDataset", "OP_FILE_WRITE"),
        ("TFRecordDataset", "OP_FILE_READ"),
        ("FixedUnigramCandidateSampler", "OP_FILE_READ"),
        ("Abort", "OP_UNKNOWN"),
        ("SomebodysOwnOp", "OP_UNKNOWN"),
    ],
)
@pytest.mark.parametrize("where", ["graph", "function"])
def test_an_op_that_reaches_out_of_the_model_is_refused_wherever_it_stands(saved_model, tmp_path, op, expected, where):
    def change(meta) -> None:
        nodes = meta.graph_def.node if where == "graph" else meta.graph_def.library.function[0].node_def
        nodes.add(name="evil", op=op)

    assert reason(hostile(saved_model, tmp_path, change)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("op", ["SaveV2", "MergeV2Checkpoints", "RestoreV2"])
def test_a_saver_op_is_refused_where_a_server_goes(saved_model, tmp_path, op):
    def change(meta) -> None:
        text_constant(meta.graph_def.node, "file", b"/tmp/x")
        meta.graph_def.node.add(name="evil", op=op, input=["file"])
        output = next(iter(meta.signature_def["serving_default"].outputs.values()))
        node = next(n for n in meta.graph_def.node if n.name == output.name.split(":")[0])
        node.input.append("^evil")

    assert reason(hostile(saved_model, tmp_path, change)) == ("OP_FILE_READ" if op == "RestoreV2" else "OP_FILE_WRITE")


@pytest.mark.slow
@pytest.mark.parametrize(("op", "expected"), [("SaveV2", "OP_FILE_WRITE"), ("RestoreV2", "OP_FILE_READ")])
def test_restoring_may_neither_write_nor_read_another_file(saved_model, tmp_path, op, expected):
    def change(meta) -> None:
        text_constant(meta.graph_def.node, "file", b"/tmp/x")
        meta.graph_def.node.add(name="evil", op=op, input=["file"])
        restore = meta.saver_def.restore_op_name
        next(n for n in meta.graph_def.node if n.name == restore).input.append("^evil")

    assert reason(hostile(saved_model, tmp_path, change, name="keras_mlp")) == expected


@pytest.mark.slow
def test_a_saver_op_that_no_server_reaches_is_an_ordinary_leftover(saved_model, tmp_path):
    def change(meta) -> None:
        text_constant(meta.graph_def.node, "file", b"/tmp/x")
        meta.graph_def.node.add(name="old_saver", op="SaveV2", input=["file"])

    scan(hostile(saved_model, tmp_path, change))


def _read_another_file(meta) -> None:
    for function in meta.graph_def.library.function:
        for node in function.node_def:
            if node.op == "InitializeTableFromTextFileV2":
                text_constant(function.node_def, "passwords", b"/etc/passwd")
                node.input[1] = "passwords:output:0"


def _assign_another_path(meta) -> None:
    text_constant(meta.graph_def.node, "passwords", b"/etc/passwd")
    assign = next(n for n in meta.graph_def.node if n.op == "AssignVariableOp" and "asset" in n.input[1])
    meta.graph_def.node.add(name="again", op="AssignVariableOp", input=[assign.input[0], "passwords"])


def _share_the_path(meta) -> None:
    assign = next(n for n in meta.graph_def.node if n.op == "AssignVariableOp" and "asset" in n.input[1])
    handle = next(n for n in meta.graph_def.node if n.name == assign.input[0])
    meta.graph_def.node.add(name="alias", op="VarHandleOp").attr["shared_name"].s = handle.attr["shared_name"].s


@pytest.mark.slow
@pytest.mark.parametrize("change", [_read_another_file, _assign_another_path, _share_the_path])
def test_a_table_may_be_filled_from_an_asset_only(saved_model, tmp_path, change):
    assert reason(hostile(saved_model, tmp_path, change, name="lookup")) == "OP_FILE_READ"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("../../etc/passwd", "ASSET_PATH_TRAVERSAL"),
        ("/etc/passwd", "ASSET_OUTSIDE_MODEL"),
        ("gs://bucket/x", "ASSET_OUTSIDE_MODEL"),
        ("nowhere.txt", "ASSET_MISSING"),
    ],
)
@pytest.mark.parametrize("place", ["field", "collection"])
def test_an_asset_lies_inside_the_model(saved_model, tmp_path, filename, expected, place):
    def change(meta) -> None:
        asset = message("tensorflow.AssetFileDef")(filename=filename)
        if place == "field":
            meta.asset_file_def.append(asset)
        else:
            packed = meta.collection_def["saved_model_assets"].any_list.value.add()
            packed.value = asset.SerializeToString()

    assert reason(hostile(saved_model, tmp_path, change)) == expected


@pytest.mark.slow
def test_a_console_message_passes_and_a_message_to_a_file_does_not(saved_model, tmp_path):
    def printing(stream: bytes) -> Change:
        def change(meta) -> None:
            meta.graph_def.node.add(name="say", op="PrintV2").attr["output_stream"].s = stream

        return change

    scan(hostile(saved_model, tmp_path / "a", printing(b"stderr")))
    assert reason(hostile(saved_model, tmp_path / "b", printing(b"file:///tmp/x"))) == "OP_FILE_WRITE"


@pytest.mark.slow
def test_a_function_that_calls_itself_is_refused(saved_model, tmp_path):
    def change(meta) -> None:
        function = meta.graph_def.library.function[0]
        node = function.node_def.add(name="again", op="PartitionedCall")
        node.attr["f"].func.name = function.signature.name

    assert reason(hostile(saved_model, tmp_path, change)) == "GRAPH_RECURSION"


@pytest.mark.slow
def test_functions_that_call_each_other_twice_are_a_bomb(saved_model, tmp_path):
    def change(meta) -> None:
        for level in range(26):
            function = meta.graph_def.library.function.add()
            function.signature.name = f"level_{level}"
            for call in range(2):
                node = function.node_def.add(name=f"call_{call}", op="PartitionedCall")
                node.attr["f"].func.name = f"level_{level + 1}"
        meta.graph_def.library.function.add().signature.name = "level_26"

    assert reason(hostile(saved_model, tmp_path, change)) == "GRAPH_BOMB_CALLS"


@pytest.mark.slow
def test_a_very_deep_chain_of_calls_is_read_without_recursion(saved_model, tmp_path):
    def change(meta) -> None:
        for level in range(5000):
            function = meta.graph_def.library.function.add()
            function.signature.name = f"level_{level}"
            function.node_def.add(name="call", op="PartitionedCall").attr["f"].func.name = f"level_{level + 1}"

    scan(hostile(saved_model, tmp_path, change))


@pytest.mark.slow
def test_python_and_the_server_must_run_the_same_function(saved_model, tmp_path):
    def change(meta) -> None:
        output = next(iter(meta.signature_def["serving_default"].outputs.values()))
        text_constant(meta.graph_def.node, "other", b"answer")
        output.name = "other:0"

    assert reason(hostile(saved_model, tmp_path, change)) == "SIGNATURE_SPLIT_BRAIN"


@pytest.mark.slow
def test_a_signature_that_only_python_sees_is_refused(saved_model, tmp_path):
    def change(meta) -> None:
        del meta.signature_def["serving_default"]

    assert reason(hostile(saved_model, tmp_path, change)) == "SIGNATURE_SPLIT_BRAIN"


@pytest.mark.slow
@pytest.mark.parametrize(("count", "passes"), [(4, True), (64, False)])
def test_weights_that_are_nan_are_refused_and_a_nan_for_a_reason_is_not(saved_model, tmp_path, count, passes):
    def change(meta) -> None:
        node = meta.graph_def.node.add(name="weights", op="Const")
        tensor = node.attr["value"].tensor
        tensor.dtype = 1
        tensor.tensor_shape.dim.add(size=count)
        tensor.tensor_content = np.full(count, np.nan, np.float32).tobytes()

    path = hostile(saved_model, tmp_path, change)
    if passes:
        scan(path)
    else:
        assert reason(path) == "NAN_WEIGHTS"


@pytest.mark.slow
def test_a_few_bytes_that_become_gigabytes_are_refused(saved_model, tmp_path):
    def change(meta) -> None:
        tensor = meta.graph_def.node.add(name="bomb", op="Const").attr["value"].tensor
        tensor.dtype = 1
        tensor.tensor_shape.dim.add(size=2**40)
        tensor.float_val.append(0.0)

    assert reason(hostile(saved_model, tmp_path, change)) == "RESOURCE_BOMB_TENSOR"


@pytest.mark.slow
def test_links_two_graphs_and_strange_files_are_refused(saved_model, tmp_path):
    def nothing(_meta) -> None:
        pass

    linked = hostile(saved_model, tmp_path / "a", nothing)
    (linked / "assets.extra").symlink_to("/etc")
    assert reason(linked) == "SYMLINK"

    two = hostile(saved_model, tmp_path / "b", nothing)
    (two / "saved_model.pbtxt").write_text("")
    assert reason(two) == "AMBIGUOUS_GRAPH_FILES"

    strange = hostile(saved_model, tmp_path / "c", nothing)
    (strange / "notes.txt").write_text("")
    assert reason(strange) == "FILE_UNKNOWN"


def test_a_directory_that_is_no_saved_model_is_refused(tmp_path):
    (tmp_path / "history.json").write_text("{}")
    assert reason(tmp_path) == "NO_SAVED_MODEL"


def test_noise_is_no_saved_model(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    assert reason(tmp_path) == "CORRUPT_PROTO"


@pytest.mark.parametrize(
    "op",
    [
        "MatMul",
        "Conv2D",
        "While",
        "StatelessIf",
        "HashTableV2",
        "VariableV2",
        "ApplyAdam",
        "RandomUniform",
        "TensorListStack",
    ],
)
def test_ops_of_ordinary_models_are_allowed(op):
    assert judge(op) == ""


@pytest.mark.slow
def test_an_op_the_spec_allows_passes_and_is_noted_and_no_other_one_does(saved_model, tmp_path):
    def change(meta) -> None:
        meta.graph_def.node.add(name="a", op="SomebodysOwnOp")
        meta.graph_def.node.add(name="b", op="SomebodysOwnOp")

    path = hostile(saved_model, tmp_path, change)
    [note] = scan(path, allow_ops=("SomebodysOwnOp",)).notes
    assert (note.reason, note.where) == ("OP_ALLOWED", "SomebodysOwnOp")
    assert "OP_UNKNOWN" in note.detail
    with pytest.raises(Rejected, match="SomebodysOwnOp"):
        scan(path, allow_ops=("SomebodyElsesOp",))


@pytest.mark.slow
def test_a_method_name_that_is_none_of_the_servers_is_noted(saved_model, tmp_path):
    def change(meta) -> None:
        meta.signature_def["serving_default"].method_name = "default"

    [note] = scan(hostile(saved_model, tmp_path, change)).notes
    assert (note.reason, note.where) == ("METHOD_NAME", "signature serving_default")


def nested(depth: int) -> bytes:
    """A SavedModel whose one node has an attribute of lists of functions with attributes of …, ``depth`` deep."""
    attribute = b""
    for _ in range(depth):
        entry = field(1, b"a") + field(2, attribute)  # the map's entry: key and AttrValue
        attribute = field(10, field(1, b"f") + field(2, entry))  # AttrValue.func = NameAttrList{name, attr}
    node = field(1, b"n") + field(2, b"NoOp") + field(5, field(1, b"a") + field(2, attribute))
    return field(2, field(2, field(1, node)))  # SavedModel.meta_graphs[0].graph_def.node[0]


def field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size >= 0x80:
        size, length = size >> 7, length + bytes([size & 0x7F | 0x80])
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_a_message_nested_deeper_than_any_parser_goes_has_a_reason_of_its_own(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(nested(5))
    scan(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(nested(2000))
    assert reason(tmp_path) == "PROTO_DEPTH"
    (tmp_path / "saved_model.pb").write_bytes(nested(5)[:-1])
    assert reason(tmp_path) == "CORRUPT_PROTO"


@pytest.mark.parametrize(
    "name", ["README.md", "LICENSE", "tfhub_module.pb", "keras_metadata.pb", "assets/any/thing.txt"]
)
def test_what_people_and_tools_put_beside_a_model_is_ordinary(tmp_path, name):
    (tmp_path / "saved_model.pb").write_bytes(nested(1))
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    scan(tmp_path)


@pytest.mark.parametrize("name", ["run.sh", "variables/other", "saved_model.pb.bak", "sub/README.md", ".hidden"])
def test_a_file_of_another_name_is_refused(tmp_path, name):
    (tmp_path / "saved_model.pb").write_bytes(nested(1))
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    assert reason(tmp_path) == "FILE_UNKNOWN"


@pytest.mark.slow
def test_python_and_the_server_must_not_run_two_functions_that_look_alike(saved_model, tmp_path):
    def change(meta) -> None:
        output = next(iter(meta.signature_def["serving_default"].outputs.values()))
        call = next(node for node in meta.graph_def.node if node.name == output.name.split(":")[0])
        original = call.attr["f"].func.name
        twin = meta.graph_def.library.function.add()
        twin.CopyFrom(next(f for f in meta.graph_def.library.function if f.signature.name == original))
        twin.signature.name = call.attr["f"].func.name = "twin"

    assert reason(hostile(saved_model, tmp_path, change)) == "SIGNATURE_SPLIT_BRAIN"


@pytest.mark.slow
def test_a_function_that_only_python_can_call_may_not_write_either(saved_model, tmp_path):
    def change(meta) -> None:
        function = meta.graph_def.library.function.add()
        function.signature.name = "python_only"
        function.node_def.add(name="evil", op="SaveV2")
        meta.object_graph_def.concrete_functions["python_only"].SetInParent()

    assert reason(hostile(saved_model, tmp_path, change)) == "OP_FILE_WRITE"
