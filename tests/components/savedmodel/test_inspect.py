"""Reading a SavedModel without tensorflow."""

import shutil
import struct
from pathlib import Path

import pytest

from components.core.errors import Rejected
from components.core.signature import TensorSpec
from components.savedmodel import inspect
from components.savedmodel.messages import message

SERVE = frozenset({"serve"})


def _copy(source: Path, tmp_path: Path) -> Path:
    return shutil.copytree(source, tmp_path / "model")


def test_a_keras_export_says_what_it_promises(saved_model):
    info = inspect.read(saved_model("keras_mlp"))
    signature = info.contracts[SERVE].signatures["serving_default"]
    assert {alias: str(spec) for alias, spec in signature.inputs.items()} == {"pixels": "float32[?, 64]"}
    assert signature.outputs == {"output_0": TensorSpec("float32", (None, 10), "StatefulPartitionedCall_1:0")}
    assert signature.method_name == "tensorflow/serving/predict"
    assert info.format == "binary"
    assert info.tag_sets == (SERVE,)
    assert info.has_object_graph
    assert info.producer.startswith("2.")
    assert 0 < info.variables_bytes < info.total_bytes


def test_ops_inside_functions_are_counted(saved_model):
    info = inspect.read(saved_model("keras_mlp"))
    assert info.ops["MatMul"] == 2
    assert info.nodes == sum(info.ops.values())


def test_the_initializer_is_no_signature(saved_model):
    path = saved_model("lookup")
    graph = inspect.read_proto(path).meta_graphs[0]
    assert "__saved_model_init_op" in graph.signature_def
    assert set(inspect.contract(path, SERVE).signatures) == {"serving_default"}


def test_assets_are_listed(saved_model):
    assert inspect.read(saved_model("lookup")).assets == ("lookup-vocabulary.txt",)


def test_dtypes_have_tensorflows_lower_case_names(saved_model):
    signature = inspect.contract(saved_model("strings"), SERVE).signatures["serving_default"]
    assert {spec.dtype for spec in (*signature.inputs.values(), *signature.outputs.values())} == {"string", "int32"}
    assert [inspect.dtype_name(number) for number in (1, 2, 9, 10, 14, 19)] == [
        *("float32", "float64", "int64", "bool", "bfloat16", "float16")
    ]


def test_an_unknown_rank_is_none_and_an_unknown_size_is_none():
    info = message("tensorflow.TensorInfo")(name="x:0", dtype=1)
    info.tensor_shape.unknown_rank = True
    graph = message("tensorflow.MetaGraphDef")()
    graph.signature_def["s"].inputs["x"].CopyFrom(info)
    graph.signature_def["s"].inputs["y"].tensor_shape.dim.add(size=-1)
    inputs = inspect.contract_of(graph).signatures["s"].inputs
    assert inputs["x"].shape is None
    assert inputs["y"].shape == (None,)


def test_wrong_tags_are_refused_with_those_there_are(saved_model):
    with pytest.raises(Rejected) as caught:
        inspect.contract(saved_model("keras_mlp"), frozenset({"serve", "gpu"}))
    assert caught.value.reason == "TAGS_NOT_FOUND"
    assert "{serve}" in caught.value.expected


def test_a_directory_without_a_graph_is_no_saved_model(tmp_path):
    (tmp_path / "model.keras").write_text("x")
    with pytest.raises(Rejected) as caught:
        inspect.read(tmp_path)
    assert caught.value.reason == "NO_SAVED_MODEL"
    assert "model.keras" in caught.value.got


def test_no_directory_is_no_saved_model(tmp_path):
    with pytest.raises(Rejected) as caught:
        inspect.read(tmp_path / "missing")
    assert caught.value.reason == "NO_SAVED_MODEL"


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b""])
def test_a_graph_that_cannot_be_parsed_is_corrupt(tmp_path, data):
    (tmp_path / "saved_model.pb").write_bytes(data)
    with pytest.raises(Rejected) as caught:
        inspect.read(tmp_path)
    assert caught.value.reason == "CORRUPT_PROTO"


def test_a_text_graph_is_read_too(tmp_path):
    (tmp_path / "saved_model.pbtxt").write_text('meta_graphs { meta_info_def { tags: "serve" } }')
    assert inspect.read(tmp_path).format == "text"
    (tmp_path / "saved_model.pbtxt").write_text("meta_graphs { nonsense")
    with pytest.raises(Rejected) as caught:
        inspect.read(tmp_path)
    assert caught.value.reason == "CORRUPT_PROTO"


def _record(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + b"crc4" + data + b"crc4"


def test_warm_up_records_are_counted_and_yielded(saved_model, tmp_path):
    path = _copy(saved_model("strings"), tmp_path)
    assert inspect.read(path).warmup_records == 0
    file = path / inspect.WARMUP_FILE
    file.parent.mkdir()
    file.write_bytes(_record(b"first") + _record(b"") + _record(b"third"))
    assert inspect.read(path).warmup_records == 3
    assert list(inspect.warmup_records(path)) == [b"first", b"", b"third"]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_warm_up_file_that_is_cut_short_is_refused(saved_model, tmp_path, cut):
    path = _copy(saved_model("strings"), tmp_path)
    file = path / inspect.WARMUP_FILE
    file.parent.mkdir()
    file.write_bytes((_record(b"first") + _record(b"second"))[:-cut])
    with pytest.raises(Rejected) as caught:
        inspect.read(path)
    assert caught.value.reason == "CORRUPT_WARMUP"
