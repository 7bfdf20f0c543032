"""Writing a SavedModel back."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef

from components.core import digest
from components.core.errors import Rejected
from components.optimize.passes import freeze_variables, inline_functions
from components.savedmodel import inspect
from components.savedmodel.generate_inputs import generate
from components.savedmodel.load import load
from components.savedmodel.rewrite import read, write
from tests.models import BUILDERS

SERVE = frozenset({"serve"})


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_an_unchanged_rewrite_keeps_contract_and_answers(saved_model, tmp_path, name):
    source, out = saved_model(name), tmp_path / "out"
    write(read(source), out)
    assert inspect.read(out).contracts == inspect.read(source).contracts
    before, after = load(source, SERVE), load(out, SERVE)
    for key, signature in before.contract.signatures.items():
        request = generate(signature, batch_size=2, seed=0)
        expected, answer = before.run(key, request), after.run(key, request)
        assert all(np.array_equal(expected[alias], answer[alias]) for alias in expected)
    before.close()
    after.close()


@pytest.mark.parametrize("name", ["keras_cnn", "lookup"])
def test_the_same_rewrite_gives_the_same_bytes(saved_model, tmp_path, name):
    for number in ("1", "2"):
        write(read(saved_model(name)), tmp_path / number)
    assert digest.of_directory(tmp_path / "1") == digest.of_directory(tmp_path / "2")


def test_assets_and_files_beside_the_graph_are_kept_byte_for_byte(saved_model, tmp_path):
    source = shutil.copytree(saved_model("lookup"), tmp_path / "source")
    for name in ("assets.extra/tf_serving_warmup_requests", "assets.extra/labels.txt", "batching_params.pbtxt"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    (source / "keras_metadata.pb").write_text("describes an object graph")
    write(read(source), tmp_path / "out")
    before, after = digest.of_directory(source).files, digest.of_directory(tmp_path / "out").files
    kept = {path for path in before if "assets" in path or path == "batching_params.pbtxt"}
    assert len(kept) == 4
    assert {path: after.get(path) for path in kept} == {path: before[path] for path in kept}
    assert "keras_metadata.pb" not in after


def test_the_initializer_is_a_collection_and_no_signature(saved_model, tmp_path):
    write(read(saved_model("lookup")), tmp_path / "out")
    graph = inspect.read_proto(tmp_path / "out").meta_graphs[0]
    assert "__saved_model_init_op" not in graph.signature_def
    assert len(graph.collection_def["saved_model_main_op"].node_list.value) == 1


def test_the_fingerprint_is_of_the_new_content(saved_model, tmp_path):
    source = saved_model("keras_mlp")
    write(read(source), tmp_path / "out")
    old, new = (
        FingerprintDef.FromString((path / "fingerprint.pb").read_bytes()) for path in (source, tmp_path / "out")
    )
    assert new.saved_model_checksum != old.saved_model_checksum
    assert new.signature_def_hash
    assert new.uuid
    assert new.uuid != old.uuid


def test_a_variable_of_a_fresh_checkpoint_is_restored_by_every_loader(saved_model, tmp_path):
    (graph,) = read(saved_model("module_two_signatures"))
    inline_functions.apply(graph)
    freeze_variables.apply(graph)
    assert graph.checkpoint
    name = next(iter(graph.checkpoint))
    graph.checkpoint[name] = np.array(41, np.int64)
    write([graph], tmp_path / "out")
    x = np.zeros((1, 256), np.float32)
    model = load(tmp_path / "out", SERVE)
    assert model.run("count", {"x": x})["calls"] == 42
    model.close()
    again = tf.saved_model.load(str(tmp_path / "out"))
    assert again.signatures["count"](x=tf.constant(x))["calls"].numpy() == 42


def test_meta_graphs_that_need_two_checkpoints_are_refused(saved_model, tmp_path):
    (one,), (other,) = read(saved_model("keras_mlp")), read(saved_model("keras_mlp"))
    variable = next(node.name for node in one.graph.node if node.op == "VarHandleOp")
    one.checkpoint, other.checkpoint = {variable: np.zeros(1)}, {variable: np.ones(1)}
    with pytest.raises(Rejected) as caught:
        write([one, other], tmp_path / "out")
    assert caught.value.reason == "CHECKPOINT_CONFLICT"
    other.checkpoint = None
    with pytest.raises(Rejected) as caught:
        write([one, other], tmp_path / "again")
    assert caught.value.reason == "CHECKPOINT_CONFLICT"
