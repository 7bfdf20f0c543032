"""Running signatures as a server does."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from components.core.errors import Rejected
from components.savedmodel.inspect import contract
from components.savedmodel.load import Servable, load

SERVE = frozenset({"serve"})


@pytest.fixture
def servable(saved_model):
    opened = []

    def get(name: str) -> Servable:
        opened.append(load(saved_model(name), SERVE))
        return opened[-1]

    yield get
    for model in opened:
        model.close()


def test_a_signature_answers_as_its_function_does(saved_model, servable):
    x = np.random.default_rng(0).random((3, 64), np.float32)
    answer = servable("keras_mlp").run("serving_default", {"pixels": x})
    expected = tf.saved_model.load(str(saved_model("keras_mlp"))).signatures["serving_default"](pixels=tf.constant(x))
    np.testing.assert_allclose(answer["output_0"], expected["output_0"].numpy(), rtol=1e-6)


def test_the_contract_is_the_files(saved_model, servable):
    assert servable("lookup").contract == contract(saved_model("lookup"), SERVE)


def test_assets_and_tables_are_there(servable):
    answer = servable("lookup").run("serving_default", {"word": np.array([b"cat", b"nobody"], np.object_)})
    assert answer["index"].tolist() == [3, 5]


def test_strings_come_back_as_bytes(servable):
    answer = servable("strings").run("serving_default", {"text": np.array([b"ab"], np.object_)}, ["loud"])
    assert {alias: array.tolist() for alias, array in answer.items()} == {"loud": [b"AB"]}


def test_a_feed_whose_shape_is_not_the_signatures_reaches_the_graph(servable):
    # [None] is promised; TensorFlow Serving feeds what it is sent, and the ops of this graph take any rank.
    text = np.array([[b"a"], [b"b"]], np.object_)
    assert servable("strings").run("serving_default", {"text": text})["loud"].tolist() == [[b"A"], [b"B"]]


def test_what_tensorflow_finds_wrong_passes_up_with_its_code(servable):
    with pytest.raises(tf.errors.InvalidArgumentError):
        servable("keras_mlp").run("serving_default", {"pixels": np.zeros((1, 3), np.float32)})
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expects arg\\[0\\] to be float but double is provided"):
        servable("keras_mlp").run("serving_default", {"pixels": np.zeros((1, 64))})


@pytest.mark.parametrize(
    ("key", "inputs", "outputs", "reason"),
    [
        ("nothing", {}, None, "SIGNATURE_MISSING"),
        ("serving_default", {}, None, "INPUT_MISSING"),
        ("serving_default", {"pixels": np.zeros((1, 64), np.float32), "more": np.zeros(1)}, None, "INPUT_UNKNOWN"),
        ("serving_default", {"pixels": np.zeros((1, 64), np.float32)}, ["z"], "OUTPUT_UNKNOWN"),
    ],
)
def test_a_request_that_names_what_is_not_there_is_refused(servable, key, inputs, outputs, reason):
    with pytest.raises(Rejected) as caught:
        servable("keras_mlp").run(key, inputs, outputs)
    assert caught.value.reason == reason


def test_state_is_kept_between_requests(servable):
    model, x = servable("module_two_signatures"), {"x": np.zeros((1, 256), np.float32)}
    assert [int(model.run("count", x)["calls"]) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("damage", ["variables", "graph", "tags"])
def test_a_model_that_does_not_load_is_refused_with_tensorflows_reason(saved_model, tmp_path, damage):
    path = shutil.copytree(saved_model("keras_mlp"), tmp_path / "model")
    if damage == "variables":
        next((path / "variables").glob("*.data*")).write_bytes(b"")
    if damage == "graph":
        (path / "saved_model.pb").write_bytes(b"\xff")
    with pytest.raises(Rejected) as caught:
        load(path, frozenset({"train"}) if damage == "tags" else SERVE)
    assert caught.value.reason == "LOAD_FAILED"
    assert caught.value.got
