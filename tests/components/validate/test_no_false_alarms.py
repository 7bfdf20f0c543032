"""Ordinary models pass the gate: every family of keras.applications, text, tables, control flow, ragged inputs."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from components.validate.scan import scan

FAMILIES = {
    "ConvNeXtTiny": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "InceptionResNetV2": 75,
    "InceptionV3": 75,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "NASNetMobile": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "VGG16": 32,
    "Xception": 71,
}
"""The smallest of each family, and the pixels a side it takes at least."""

EVERYDAY = ("MobileNetV2", "EfficientNetB0")


def require_no_alarm(path: Path) -> None:
    found = scan(path)
    assert found.ops > 0
    assert found.notes == ()


def export_application(name: str, path: Path) -> Path:
    import keras

    keras.backend.clear_session()
    build = getattr(keras.applications, name)
    side = FAMILIES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build(weights=None, include_top=False, input_shape=(side, side, 3)).export(path, verbose=False)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYDAY)
def test_a_well_known_network_passes(name, tmp_path):
    require_no_alarm(export_application(name, tmp_path / "model"))


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - set(EVERYDAY)))
def test_a_network_of_every_family_passes(name, tmp_path):
    require_no_alarm(export_application(name, tmp_path / "model"))


def text(path: Path) -> None:
    import keras

    words = keras.layers.TextVectorization(max_tokens=10, output_sequence_length=4)
    words.adapt(["a b c", "b c d"])
    inputs = keras.Input((1,), dtype="string", name="text")
    outputs = keras.layers.LSTM(3)(keras.layers.Embedding(12, 3)(words(inputs)))
    keras.Model(inputs, outputs).export(path, verbose=False)


def ragged(path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def count(text):
        words = tf.strings.split(text)
        longest = tf.map_fn(tf.strings.length, words.values, fn_output_signature=tf.int32)
        return {"words": words.row_lengths(), "first": words[:, :1].to_tensor(""), "lengths": longest}

    module.count = count
    tf.saved_model.save(module, str(path), signatures={"serving_default": count})


def branches(path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32), tf.TensorSpec((), tf.int32)])
    def pick(x, n):
        tf.debugging.assert_greater_equal(n, 0)
        values = tf.TensorArray(tf.float32, size=0, dynamic_size=True)
        for i in tf.range(n):
            values = values.write(i, tf.reduce_sum(x) * tf.cast(i, tf.float32))
        return {"y": tf.switch_case(n % 3, [lambda: x, lambda: x + 1.0, lambda: -x]), "z": values.stack()}

    module.pick = pick
    tf.saved_model.save(module, str(path), signatures={"serving_default": pick})


def parsed(path: Path) -> None:
    """tf.train.Example bytes and images, as servers of old get them."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="examples")])
    def parse(examples):
        kinds = {"image": tf.io.FixedLenFeature((), tf.string), "tags": tf.io.VarLenFeature(tf.string)}
        found = tf.io.parse_example(examples, kinds)

        def decode(data):
            return tf.image.resize(tf.io.decode_jpeg(data, channels=3), (8, 8))

        return {
            "pixels": tf.map_fn(decode, found["image"], fn_output_signature=tf.float32),
            "tags": tf.sparse.to_dense(found["tags"], ""),
        }

    module.parse = parse
    tf.saved_model.save(module, str(path), signatures={"serving_default": parse})


def mutable_table(path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    module.table.insert(["a", "b"], [1, 2])

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="word")])
    def find(word):
        return {"id": module.table.lookup(word), "noise": tf.random.uniform((2,))}

    module.find = find
    tf.saved_model.save(module, str(path), signatures={"serving_default": find})


@pytest.mark.slow
@pytest.mark.parametrize("build", [text, ragged, branches, parsed, mutable_table])
def test_an_ordinary_program_passes(build: Callable[[Path], None], tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        build(tmp_path / "model")
    require_no_alarm(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras_cnn", "lookup", "tf1_simple_save"])
def test_an_optimized_model_passes(saved_model, tmp_path, name):
    from components.core.spec import Optimize
    from components.optimize.pipeline import optimize

    optimize(saved_model(name), tmp_path / "model", Optimize())
    require_no_alarm(tmp_path / "model")
