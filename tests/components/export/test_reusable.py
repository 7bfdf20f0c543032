"""Reusable models, pieces of models, and several tag sets: written by the real step, then used as their readers do."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from components.core import digest
from components.core.errors import Rejected
from components.core.spec import Export
from components.export import export
from components.savedmodel.inspect import read_proto
from components.validate.scan import scan

pytestmark = pytest.mark.slow

X = np.arange(8, dtype=np.float32).reshape(2, 4) / 8


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    import keras

    layers, root = keras.layers, tmp_path_factory.mktemp("source")
    keras.utils.set_random_seed(1)
    l2 = keras.regularizers.L2(0.01)
    model = keras.Sequential(
        [
            keras.Input((4,), name="x"),
            layers.Dense(8, kernel_regularizer=l2, name="features"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(np.ones((4, 4)), np.zeros(4), verbose=0)
        model.save(root / "model.keras")
    return root


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("reusable") / "out"
    export(source, out, Export(reusable=True))
    return out


def restored(path: Path):
    import tensorflow as tf

    return tf.saved_model.load(str(path), tags=["serve"])


def test_a_reusable_model_has_the_whole_interface_without_its_optimizer(source, exported):
    import keras

    model, original = restored(exported), keras.saving.load_model(source / "model.keras", compile=False)
    np.testing.assert_allclose(model(X), original(X, training=False), rtol=1e-5)
    np.testing.assert_allclose(model(X, training=False), original(X, training=False), rtol=1e-5)
    assert not np.allclose(model(X, training=True), model(X, training=True))  # dropout
    assert len(model.variables) == len(original.weights) + 1  # the seed of the dropout
    assert len(model.trainable_variables) == len(original.trainable_weights) == 6
    [loss] = model.regularization_losses
    assert float(loss()) == pytest.approx(0.01 * float((original.layers[0].kernel.numpy() ** 2).sum()), rel=1e-5)
    assert b"optimizer" not in (exported / "variables" / "variables.index").read_bytes()


def test_a_reusable_model_can_be_trained_further(exported):
    import tensorflow as tf

    model = restored(exported)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(X, training=False)[:, 0])
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)


def test_tag_sets_share_one_set_of_variables_and_pass_the_gate(source, tmp_path):
    exported = tmp_path / "out"
    export(source, exported, Export(further_tag_sets=(("serve", "gpu"),)))
    graphs = read_proto(exported).meta_graphs
    assert [sorted(graph.meta_info_def.tags) for graph in graphs] == [["serve"], ["gpu", "serve"]]
    assert len(list((exported / "variables").iterdir())) == 2
    scan(exported)
    from components.savedmodel.load import load

    answers = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tags in (frozenset({"serve"}), frozenset({"serve", "gpu"})):
            servable = load(exported, tags)
            answers.append(servable.run("serving_default", {"x": X})["scores"])
            servable.close()
    np.testing.assert_array_equal(*answers)


def test_a_reusable_model_goes_through_export_and_optimization_untouched(exported, tmp_path):
    result = export(exported, tmp_path / "again", Export(reusable=True))
    assert digest.of_directory(tmp_path / "again") == digest.of_directory(exported)
    assert result.notes == ()

    from components.core.spec import Optimize
    from components.optimize.pipeline import optimize

    report = optimize(exported, tmp_path / "optimized", Optimize())
    assert report.chosen == "original"
    assert "reusable" in report.why
    assert report.passes == ()


def test_a_piece_of_a_model_ends_at_its_layer(source, tmp_path):
    result = export(source, tmp_path / "out", Export(up_to="features", warmup=None))
    [signature] = result.contract.signatures.values()
    [(name, output)] = signature.outputs.items()
    assert (name, output.shape) == ("features", (None, 8))


def rejected(source: Path, tmp_path: Path, spec: Export) -> str:
    with pytest.raises(Rejected) as caught:
        export(source, tmp_path / "runs" / "out", spec)
    assert list((tmp_path / "runs").iterdir()) == []
    return caught.value.reason


def test_a_reusable_model_has_one_tag_set():
    with pytest.raises(ValidationError, match="reusable needs one"):
        Export(reusable=True, further_tag_sets=(("serve", "gpu"),))


def test_a_layer_that_is_not_there_is_refused(source, tmp_path):
    assert rejected(source, tmp_path, Export(up_to="nowhere")) == "KERAS_LAYER"


def test_a_model_without_objects_cannot_be_reusable(saved_model, tmp_path):
    assert rejected(saved_model("tf1_simple_save"), tmp_path, Export(reusable=True)) == "REUSABLE"


def test_a_reusable_model_keeps_its_own_signatures(exported, tmp_path):
    from tests.components.export.test_export import signature

    other = signature("serving_default_x", "StatefulPartitionedCall")
    assert rejected(exported, tmp_path, Export(reusable=True, signatures={"serving_default": other})) == "REUSABLE"
