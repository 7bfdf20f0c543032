"""Small SavedModels of every kind a release may meet, each built once a test session by whoever asks.

Weights and batch-norm statistics are random (from a seed): a fresh batch norm is the identity, which would hide a wrong
fold. Importing this module imports no tensorflow.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Builder = Callable[[Path], None]


def build(name: str, path: Path) -> Path:
    """Write the model ``name`` (a key of ``BUILDERS``) into the new directory ``path`` and return that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's exporters warn of their own calls
        BUILDERS[name](path)
    return path


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory) -> Callable[[str], Path]:
    """Return a function from a model's name to its directory, which is built the first time it is asked for."""
    folder = tmp_path_factory.getbasetemp() / "saved-models"

    def get(name: str) -> Path:
        path = folder / name
        return path if path.exists() else build(name, path)

    return get


def _randomize(model, seed: int = 3) -> None:
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])


def _keras_mlp(path: Path) -> None:
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((64,), name="pixels"),
            layers.Dense(256),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    _randomize(model)
    model.export(path, verbose=False)


def _keras_cnn(path: Path) -> None:
    import keras

    keras.utils.set_random_seed(2)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(64),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    _randomize(model)
    model.export(path, verbose=False)


def _module_two_signatures(path: Path) -> None:
    """Two signatures that share a weight, one of which counts its calls in a variable."""
    import tensorflow as tf

    class Scorer(tf.Module):
        def __init__(self) -> None:
            self.weight = tf.Variable(np.random.default_rng(4).random((256, 128)), dtype=tf.float32, name="weight")
            self.calls = tf.Variable(0, dtype=tf.int64, name="calls")

        @tf.function(input_signature=[tf.TensorSpec((None, 256), tf.float32, name="x")])
        def score(self, x):
            return {"score": tf.matmul(x, self.weight)}

        @tf.function(input_signature=[tf.TensorSpec((None, 256), tf.float32, name="x")])
        def count(self, x):
            return {"calls": self.calls.assign_add(1), "top": tf.argmax(tf.matmul(x, self.weight), axis=-1)}

    module = Scorer()
    signatures = {"serving_default": module.score, "count": module.count}
    tf.saved_model.save(module, str(path), signatures=signatures)


def _lookup(path: Path) -> None:
    """A vocabulary in an asset, looked up and embedded."""
    import tensorflow as tf

    vocabulary = path.with_name(f"{path.name}-vocabulary.txt")
    vocabulary.write_text("a\nb\nc\ncat\ndog\n")

    class Words(tf.Module):
        def __init__(self) -> None:
            initializer = tf.lookup.TextFileInitializer(
                str(vocabulary),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self.table = tf.lookup.StaticHashTable(initializer, default_value=5)
            self.embedding = tf.Variable(np.random.default_rng(5).random((6, 4)), dtype=tf.float32)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="word")])
        def embed(self, word):
            index = self.table.lookup(word)
            return {"index": index, "vector": tf.gather(self.embedding, index)}

    module = Words()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.embed})
    vocabulary.unlink()


def _tf1_simple_save(path: Path) -> None:
    """Old-style variables, a fused batch norm in inference mode, and state that serving does not need."""
    import tensorflow as tf

    v1, random = tf.compat.v1, np.random.default_rng(6)
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 8, 8, 1), name="x")
        with v1.variable_scope("net", use_resource=False):
            kernel = v1.get_variable("kernel", initializer=random.random((3, 3, 1, 8)).astype(np.float32))
            parts = [
                v1.get_variable(name, initializer=random.uniform(0.5, 1.5, 8).astype(np.float32))
                for name in ("gamma", "beta", "mean", "variance")
            ]
            v1.get_variable("momentum", initializer=random.random((300, 100)).astype(np.float32))
        with tf.device("/cpu:0"):
            convolved = tf.nn.conv2d(x, kernel, strides=1, padding="SAME")
        normed, _, _ = v1.nn.fused_batch_norm(convolved, *parts, epsilon=1e-3, is_training=False)
        y = tf.identity(tf.reduce_mean(tf.nn.relu(normed), (1, 2)), name="y")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"x": x}, {"y": y})


def _strings(path: Path) -> None:
    import tensorflow as tf

    class Shout(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
        def shout(self, text):
            return {"loud": tf.strings.upper(text), "length": tf.strings.length(text)}

    module = Shout()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.shout})


def _while_loop(path: Path) -> None:
    """A loop that reads a variable, and a branch."""
    import tensorflow as tf

    class Power(tf.Module):
        def __init__(self) -> None:
            self.weight = tf.Variable(np.random.default_rng(7).random((4, 4)) / 4, dtype=tf.float32)

        @tf.function(
            input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x"), tf.TensorSpec((), tf.int32, name="n")]
        )
        def apply(self, x, n):
            for _ in tf.range(n):
                x = tf.matmul(x, self.weight)
            if tf.reduce_sum(x) > 0.0:  # noqa: SIM108 - autograph turns the statement into a branch of the graph
                x = x * 2.0
            else:
                x = x - 1.0
            return {"y": x}

    module = Power()
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.apply})


BUILDERS: dict[str, Builder] = {
    "keras_mlp": _keras_mlp,
    "keras_cnn": _keras_cnn,
    "module_two_signatures": _module_two_signatures,
    "lookup": _lookup,
    "tf1_simple_save": _tf1_simple_save,
    "strings": _strings,
    "while_loop": _while_loop,
}
