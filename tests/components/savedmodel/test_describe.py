"""What is told about a SavedModel, against protobuf's and TensorFlow's own readers."""

import contextlib
import random
import resource
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from components.core.digest import of_directory
from components.core.errors import Rejected
from components.core.signature import TensorSpec
from components.savedmodel import inspect, wire
from components.savedmodel.describe import Description, describe, signatures_missing
from components.savedmodel.files import DirectoryFiles
from components.savedmodel.locate import open_model
from components.savedmodel.messages import message
from components.store import layout
from components.store.open import open_store
from components.store.versions import VersionManifest
from tests.models import BUILDERS

SERVE = frozenset({"serve"})
BUDGET_S = 8.0
_HOLE = b"\0"  # no field begins with a zero byte, so whoever parses one fails


def told(path: Path, *, tags: frozenset[str] | None = None, brief: bool = False) -> Description:
    return describe(DirectoryFiles(path), tags=tags, brief=brief)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_the_wire_decoder_finds_what_protobuf_finds(saved_model, name):
    path = saved_model(name)
    info, (proto,) = inspect.read(path), inspect.read_proto(path).meta_graphs
    found = told(path)
    (graph,) = found.graphs
    assert graph.signatures == info.contracts[SERVE].signatures
    assert graph.tags == SERVE
    assert graph.ops == info.ops
    assert list(graph.ops.values()) == sorted(graph.ops.values(), reverse=True)
    assert graph.library_functions == len(proto.graph_def.library.function)
    assert graph.producer == info.producer
    assert graph.graph_producer == proto.graph_def.versions.producer
    assert graph.has_object_graph == info.has_object_graph
    assert found.assets() == info.assets
    assert found.warmup_records == info.warmup_records
    assert sum(found.files.values()) == info.total_bytes
    kinds = Counter(node.variable.trainable for node in proto.object_graph_def.nodes if node.HasField("variable"))
    if info.has_object_graph:
        assert Counter(variable.trainable for variable in found.variables) == kinds


def test_the_variables_of_the_object_graph_have_names_and_say_whether_they_are_trainable(saved_model):
    found = {variable.name: variable for variable in told(saved_model("keras_mlp")).variables}
    gamma = next(variable for name, variable in found.items() if name.endswith("/gamma"))
    mean = next(variable for name, variable in found.items() if name.endswith("/moving_mean"))
    assert (gamma.trainable, mean.trainable) == (True, False)
    assert (gamma.dtype, gamma.shape, gamma.size) == ("float32", (256,), 1024)


def test_a_tf1_graph_says_by_its_collection_which_variables_are_trainable(saved_model):
    found = {variable.key: variable.trainable for variable in told(saved_model("tf1_simple_save")).variables}
    assert found["net/kernel"] is True


def test_a_slot_of_an_optimizer_is_not_said_to_be_trainable(saved_model):
    graph = inspect.read_proto(saved_model("keras_mlp")).meta_graphs[0].object_graph_def
    from components.savedmodel.object_graph import ObjectGraph

    objects = ObjectGraph(memoryview(graph.SerializeToString()))
    assert objects.variable_at("variables/0/.ATTRIBUTES/VARIABLE_VALUE") is not None
    assert objects.variable_at("variables/0/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE") is None
    assert objects.variable_at("variables/99/.ATTRIBUTES/VARIABLE_VALUE") is None
    assert objects.variable_at("save_counter") is None


def test_a_name_with_a_slash_or_a_dot_is_found_under_its_escaped_key():
    from components.savedmodel.object_graph import ObjectGraph

    graph = message("tensorflow.SavedObjectGraph")()
    graph.nodes.add().children.add(node_id=1, local_name="a/b.c")
    graph.nodes.add().variable.name = "found"
    objects = ObjectGraph(memoryview(graph.SerializeToString()))
    saved = objects.variable_at("a.Sb..c/.ATTRIBUTES/VARIABLE_VALUE")
    assert saved is not None
    assert (saved.name, saved.trainable) == ("found", False)


def test_functions_have_their_arguments(saved_model):
    (graph,) = told(saved_model("while_loop")).graphs
    (function,) = graph.functions
    assert function.name == "apply"
    (option,) = function.options
    assert [argument.tensor for argument in option.arguments] == [
        TensorSpec("float32", (None, 4), "x"),
        TensorSpec("int32", (), "n"),
    ]
    assert "float32[?, 4]" in option.returns


def structure(**fields: object) -> object:
    return message("tensorflow.StructuredValue")(**fields)


def test_arguments_of_every_kind_are_told():
    from components.savedmodel.object_graph import ObjectGraph

    graph = message("tensorflow.SavedObjectGraph")()
    graph.nodes.add().children.add(node_id=1, local_name="f")
    graph.nodes.add().function.concrete_functions.append("f_1")
    pair = graph.concrete_functions["f_1"].canonicalized_input_signature.tuple_value
    arguments, named = pair.values.add().tuple_value, pair.values.add().dict_value
    none = structure()
    none.none_value.SetInParent()
    spec = structure()
    spec.tensor_spec_value.dtype = 7
    spec.tensor_spec_value.shape.unknown_rank = True
    shape = structure()
    shape.tensor_shape_value.dim.add(size=-1)
    kind = structure()
    kind.type_spec_value.type_spec_class_name = "RaggedTensorSpec"
    nested = structure()
    nested.list_value.values.add(bool_value=True)
    nested.list_value.values.add().dict_value.fields["k"].int64_value = -3
    named_tuple = structure()
    named_tuple.named_tuple_value.name = "P"
    named_tuple.named_tuple_value.values.add(key="a").value.string_value = "it's"
    arguments.values.extend(
        [none, structure(float64_value=0.5), structure(tensor_dtype_value=9), spec, shape, kind, nested, named_tuple]
    )
    named.fields["training"].bool_value = False
    (function,) = ObjectGraph(memoryview(graph.SerializeToString())).functions()
    assert [(argument.name, argument.text) for argument in function.options[0].arguments] == [
        ("", "None"),
        ("", "0.5"),
        ("", "int64"),
        ("", "string[?rank]"),
        ("", "shape [?]"),
        ("", "RaggedTensorSpec"),
        ("", "[True, {'k': -3}]"),
        ("", 'P(a="it\'s")'),
        ("training", "False"),
    ]


def test_sparse_and_composite_tensors_have_the_names_of_their_parts(tmp_path):
    model, graph = _one_graph()
    sparse = graph.signature_def["s"].inputs["sparse"]
    sparse.coo_sparse.values_tensor_name, sparse.coo_sparse.indices_tensor_name = "v:0", "i:0"
    sparse.coo_sparse.dense_shape_tensor_name = "d:0"
    composite = graph.signature_def["s"].inputs["ragged"].composite_tensor
    composite.components.add(name="values:0")
    composite.components.add(name="splits:0")
    inputs = told(_write(tmp_path, model)).graphs[0].signatures["s"].inputs
    assert (inputs["sparse"].name, inputs["ragged"].name) == ("v:0, i:0, d:0", "values:0, splits:0")


def _one_graph():
    model = message("tensorflow.SavedModel")()
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    return model, graph


def _write(path: Path, model, name: str = "saved_model.pb") -> Path:
    (path / name).write_bytes(model.SerializeToString())
    return path


def test_a_tf1_initializer_and_its_assets_are_found_in_the_collections(tmp_path):
    model, graph = _one_graph()
    graph.collection_def["legacy_init_op"].node_list.value.append("init")
    asset = message("tensorflow.AssetFileDef")(filename="words.txt")
    graph.collection_def["saved_model_assets"].any_list.value.add().Pack(asset)
    found = told(_write(tmp_path, model))
    assert found.graphs[0].initializers == {"legacy_init_op": "init"}
    assert found.assets() == ("words.txt",)


def test_a_text_graph_is_told_like_a_binary_one(saved_model, tmp_path):
    from google.protobuf import text_format

    path = shutil.copytree(saved_model("lookup"), tmp_path / "model")
    before = told(path)
    text = text_format.MessageToString(inspect.read_proto(path), descriptor_pool=None)
    (path / "saved_model.pb").unlink()
    (path / "saved_model.pbtxt").write_text(text)
    after = told(path)
    assert after.graphs == before.graphs
    assert after.graph_file == "saved_model.pbtxt"


def test_the_fingerprint_is_that_of_the_file(saved_model):
    path = saved_model("strings")
    proto = message("tensorflow.FingerprintDef").FromString((path / "fingerprint.pb").read_bytes())
    mark = told(path).fingerprint
    assert mark is not None
    assert (mark.saved_model, mark.graph, mark.signatures, mark.objects, mark.checkpoint, mark.uuid) == (
        *(proto.saved_model_checksum, proto.graph_def_program_hash, proto.signature_def_hash),
        *(proto.saved_object_graph_hash, proto.checkpoint_hash, proto.uuid),
    )


def test_wrong_tags_list_those_there_are(saved_model):
    with pytest.raises(Rejected) as caught:
        told(saved_model("strings"), tags=frozenset({"serve", "gpu"}))
    assert (caught.value.reason, caught.value.expected) == ("TAGS_NOT_FOUND", "one of {serve}")


def test_a_wrong_signature_lists_those_of_every_meta_graph(tmp_path):
    model, graph = _one_graph()
    graph.signature_def["classify"].method_name = "m"
    other = model.meta_graphs.add()
    other.meta_info_def.tags.extend(["serve", "gpu"])
    error = signatures_missing(told(_write(tmp_path, model)), "nothing")
    assert error.expected == "one of classify in {serve}; none in {gpu, serve}"


@pytest.mark.parametrize(
    ("file", "reason"),
    [("saved_model.cpb", "SPLIT_FORMAT"), ("model.keras", "NO_SAVED_MODEL"), ("saved_model.pb", "CORRUPT_PROTO")],
)
def test_what_cannot_be_read_has_a_reason(tmp_path, file, reason):
    (tmp_path / file).write_bytes(b"")
    with pytest.raises(Rejected) as caught:
        told(tmp_path)
    assert caught.value.reason == reason


def test_a_damaged_checkpoint_index_is_said_to_be_one(saved_model, tmp_path):
    path = shutil.copytree(saved_model("lookup"), tmp_path / "model")
    (path / "variables" / "variables.index").write_bytes(b"nonsense")
    assert told(path, brief=True).graphs
    with pytest.raises(Rejected) as caught:
        told(path)
    assert caught.value.reason == "CORRUPT_VARIABLES"


def test_a_structure_nested_without_end_is_refused(tmp_path):
    model, graph = _one_graph()
    info = graph.signature_def["s"].inputs["x"]
    for _ in range(90):
        info = info.composite_tensor.components.add()
    data = model.SerializeToString()
    (tmp_path / "saved_model.pb").write_bytes(data)
    assert told(tmp_path).graphs
    deep = b"\x0a\x01x"
    for _ in range(3000):
        deep = b"\x2a" + _length(b"\x12" + _length(deep))
    signature = b"\x0a\x01s\x12" + _length(b"\x0a" + _length(b"\x0a\x01x\x12" + _length(deep)))
    (tmp_path / "saved_model.pb").write_bytes(b"\x12" + _length(b"\x2a" + _length(signature)))
    with pytest.raises(Rejected) as caught:
        told(tmp_path)
    assert caught.value.reason == "CORRUPT_PROTO"
    assert "nested" in caught.value.got


def _length(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _with_graph_of(path: Path, graph_bytes: int) -> Path:
    """A SavedModel whose graph is a hole of zero bytes, which no parser of the graph accepts."""
    path.mkdir()
    before = b"\x0a" + _length(b"\x22" + _length(b"serve"))
    graph = message("tensorflow.MetaGraphDef")()
    graph.signature_def["serving_default"].inputs["x"].name = "x:0"
    after = graph.SerializeToString()
    head = b"\x12" + _varint(graph_bytes)
    total = len(before) + len(head) + graph_bytes + len(after)
    with (path / "saved_model.pb").open("wb") as stream:
        stream.write(b"\x12" + _varint(total) + before + head)
        stream.seek(graph_bytes, 1)
        stream.write(after)
    return path


def _pages_touched(path: Path) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF)
    (graph,) = told(path, brief=True).graphs
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert graph.signatures["serving_default"].inputs["x"].name == "x:0"
    return (after.ru_minflt + after.ru_majflt) - (before.ru_minflt + before.ru_majflt)


def test_signatures_are_told_without_looking_at_the_graph_however_large_it_is(tmp_path):
    small, large = _with_graph_of(tmp_path / "small", 1 << 20), _with_graph_of(tmp_path / "large", 1 << 31)
    _pages_touched(small)
    # 2 GiB are half a million pages, and the kernel maps at most 16 at a time
    assert _pages_touched(large) < _pages_touched(small) + 500
    with pytest.raises(Rejected) as caught:
        told(small)
    assert caught.value.reason == "CORRUPT_PROTO"


def _damaged(chance: random.Random, whole: bytes) -> bytes:
    data = bytearray(whole)
    for _ in range(chance.choice([0, 1, 3, 30])):
        at = chance.randrange(len(data))
        match chance.randrange(3):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                data[at:at] = data[at : at + chance.randrange(99)]
            case _:
                del data[at + 1 : at + chance.randrange(1, 40)]
    return bytes(data)


@pytest.mark.slow
def test_damaged_models_are_refused_or_told_but_never_raise_anything_else(saved_model, tmp_path):
    chance = random.Random(11)  # noqa: S311 - what is damaged is no secret
    until_s, looked_at = time.monotonic() + BUDGET_S, 0
    sources = [saved_model(name) for name in ("lookup", "tf1_simple_save", "while_loop")]
    path = tmp_path / "model"
    while time.monotonic() < until_s:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(chance.choice(sources), path)
        for name in ("saved_model.pb", "variables/variables.index", "fingerprint.pb"):
            if (path / name).exists():  # TensorFlow 1 writes no fingerprint
                (path / name).write_bytes(_damaged(chance, (path / name).read_bytes()))
        with contextlib.suppress(Rejected):
            told(path)
        looked_at += 1
    assert looked_at > 100


def _published(source: Path, folder: Path) -> str:
    store = open_store(str(folder), base_dir=folder)
    content = of_directory(source)
    clock = "2026-01-01T00:00:00Z"
    manifest = VersionManifest.of(content, model="words", version=3, release="r" * 16, created_at=clock)
    for name in content.files:
        store.create(layout.files("words", 3) + name, source / name)
    store.create(layout.manifest("words", 3), manifest.to_json())
    return f"{folder.as_uri()}/words/3"


def test_a_published_version_is_told_like_its_directory_and_only_what_is_needed_is_fetched(saved_model, tmp_path):
    uri = _published(saved_model("lookup"), tmp_path / "store")
    (tmp_path / "store/words/3/variables/variables.data-00000-of-00001").unlink()
    expected = told(saved_model("lookup"))
    with open_model(uri) as files:
        found = describe(files)
    assert (found.graphs, found.variables, found.files) == (expected.graphs, expected.variables, expected.files)
    assert found.where == uri


def test_a_published_version_whose_bytes_were_changed_is_refused(saved_model, tmp_path):
    uri = _published(saved_model("lookup"), tmp_path / "store")
    with (tmp_path / "store/words/3/saved_model.pb").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(Rejected) as caught, open_model(uri) as files:
        describe(files)
    assert caught.value.reason == "CORRUPT_VERSION"


def test_a_folder_of_a_store_that_is_no_version_is_taken_as_it_is(saved_model):
    path = saved_model("strings")
    with open_model(path.as_uri()) as files:
        assert describe(files).graphs == told(path).graphs
    with pytest.raises(Rejected) as caught, open_model(f"{path.as_uri()}/missing") as files:
        describe(files)
    assert caught.value.reason == "NO_SAVED_MODEL"


def test_what_is_no_directory_is_refused_with_what_is_there(tmp_path):
    (tmp_path / "file").touch()
    for place, got in ((tmp_path / "file", "a file"), (tmp_path / "none", "no such directory")):
        with pytest.raises(Rejected) as caught, open_model(str(place)):
            pass
        assert (caught.value.reason, caught.value.got) == ("NO_SAVED_MODEL", got)


def test_a_message_may_come_in_several_pieces(tmp_path):
    first, second = _one_graph()[1], message("tensorflow.MetaGraphDef")()
    first.graph_def.node.add(name="a", op="NoOp")
    second.graph_def.node.add(name="b", op="Const")
    data = first.SerializeToString() + second.SerializeToString()
    (tmp_path / "saved_model.pb").write_bytes(b"\x12" + _length(data))
    assert told(tmp_path).graphs[0].ops == {"Const": 1, "NoOp": 1}
    assert (
        wire.submessage(memoryview(data), 2)
        == message("tensorflow.GraphDef")(node=[first.graph_def.node[0], second.graph_def.node[0]]).SerializeToString()
    )
