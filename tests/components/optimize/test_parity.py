"""What counts as the same answer."""

import shutil
import struct

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from components.core.errors import Rejected
from components.core.optimization import OutputParity
from components.core.spec import Tolerance
from components.optimize.parity import collect, differences, output_parity
from components.savedmodel.inspect import WARMUP_FILE
from components.savedmodel.messages import message
from components.savedmodel.rewrite import read, write

LOOSE = Tolerance(absolute=1e-6, relative=1e-3, why="for these tests")


def _compare(then: npt.ArrayLike, now: npt.ArrayLike | None) -> OutputParity:
    return output_parity("s", "y", "float32", [(np.asarray(then), None if now is None else np.asarray(now))], LOOSE)


def test_floats_may_differ_by_a_fraction_of_the_outputs_scale():
    assert _compare(np.float32([100, 0]), np.float32([100.09, 0.09])).within
    assert not _compare(np.float32([100, 0]), np.float32([100.2, 0])).within
    entry = _compare(np.float64([2, 0]), np.float64([2, 1]))
    assert (entry.max_absolute, entry.max_relative, entry.within) == (1.0, 0.5, False)


def test_nan_and_infinity_must_be_where_they_were():
    then = np.float32([np.nan, np.inf, 1])
    assert _compare(then, then).within
    assert not _compare(then, np.float32([np.nan, -np.inf, 1])).within
    assert not _compare(then, np.float32([0, np.inf, 1])).within
    assert not _compare(np.float32([0, 1]), np.float32([np.nan, 1])).within


def test_integers_and_strings_must_be_equal():
    assert _compare([10**6], [10**6]).within
    assert not _compare([10**6], [10**6 + 1]).within
    assert not _compare(np.array([b"a"], np.object_), np.array([b"b"], np.object_)).within


@pytest.mark.parametrize("now", [np.zeros((1, 2), np.float32), np.zeros(2), None])
def test_another_shape_another_dtype_or_a_refusal_is_a_difference(now):
    entry = _compare(np.zeros(2, np.float32), now)
    assert not entry.within
    assert entry.max_absolute is None


def test_a_model_agrees_with_itself_also_where_it_counts(saved_model):
    source = saved_model("module_two_signatures")
    found = differences(collect(source, (3,)), source, LOOSE)
    assert {(entry.signature, entry.output) for entry in found} == {
        *(("count", "calls"), ("count", "top"), ("serving_default", "score"))
    }
    assert all(entry.within and entry.requests == 8 for entry in found)


def test_other_weights_are_a_difference(saved_model, tmp_path):
    source = saved_model("tf1_simple_save")
    (graph,) = read(source)
    pool = next(node for node in graph.graph.node if node.op == "Mean")
    pool.op = "Sum"
    write([graph], tmp_path / "out")
    (entry,) = differences(collect(source, ()), tmp_path / "out", LOOSE)
    assert not entry.within


def test_another_contract_is_refused(saved_model, tmp_path):
    source = saved_model("strings")
    (graph,) = read(source)
    del graph.meta.signature_def["serving_default"].outputs["length"]
    write([graph], tmp_path / "out")
    with pytest.raises(Rejected) as caught:
        differences(collect(source, ()), tmp_path / "out", LOOSE)
    assert caught.value.reason == "CONTRACT_CHANGED"


def test_warm_up_requests_are_evidence_where_generated_ones_are_refused(tmp_path):
    class Picky(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((), tf.string, name="number")])
        def parse(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"value": tf.strings.to_number(number)}

    module = Picky()
    tf.saved_model.save(module, str(tmp_path / "plain"), signatures={"serving_default": module.parse})
    assert collect(tmp_path / "plain", ()).asked == []
    source = shutil.copytree(tmp_path / "plain", tmp_path / "warm")
    log = message("tensorflow.serving.PredictionLog")()
    request = log.predict_log.request
    request.inputs["number"].ParseFromString(tf.make_tensor_proto("2.5").SerializeToString())
    data = log.SerializeToString()
    (source / WARMUP_FILE).parent.mkdir()
    (source / WARMUP_FILE).write_bytes(struct.pack("<Q", len(data)) + b"crc4" + data + b"crc4")
    (asked,) = collect(source, ()).asked
    assert asked.answer["value"] == 2.5
