"""Write the models the contract suite asks for, and a model config for any server: ``make_models.py FOLDER``.

half_plus_two  versions 1 (x/2 + 2) and 2 (x/2 + 3); TensorFlow 1 graph; predict, classify and regress signatures
kinds          one echo signature a dtype, several inputs and outputs, a table with its asset, no inputs, a slow one
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string",
          "float16", "bfloat16", "uint16", "complex64", "complex128")  # fmt: skip

CONFIG = """
model_config_list {{
  config {{
    name: "half_plus_two" base_path: "{base}/half_plus_two" model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
    version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }}
  }}
  config {{ name: "kinds" base_path: "{base}/kinds" model_platform: "tensorflow" }}
}}
"""
"""Needs ``--allow_version_labels_for_unavailable_models=true``: the labels stand in the first config already."""


def half_plus(folder: Path, addend: float) -> None:
    """Write x/2 + addend as TensorFlow 1 exports it: named tensors, variables, three methods."""
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = v1.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.identity(parsed["x"], name="x")
        a = v1.get_variable("a", initializer=0.5)
        b = v1.get_variable("b", initializer=addend)
        y = tf.add(tf.multiply(a, x), b, name="y")
        labels = tf.fill(tf.shape(y), tf.constant("half", tf.string))
        session.run(v1.global_variables_initializer())
        info, signature = v1.saved_model.build_tensor_info, v1.saved_model.build_signature_def
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": signature({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"),
                "regress_x_to_y": signature(
                    {"inputs": info(examples)}, {"outputs": info(y)}, "tensorflow/serving/regress"
                ),
                "classify_x_to_y": signature(
                    {"inputs": info(examples)},
                    {"classes": info(labels), "scores": info(y)},
                    "tensorflow/serving/classify",
                ),
            },
        )
        builder.save()


class Kinds(tf.Module):
    """Signatures for what travels."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        self.vocabulary = tf.saved_model.Asset(str(vocabulary))
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                self.vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )  # fmt: skip

    def signatures(self) -> dict[str, Any]:
        """Return all concrete functions by signature key."""

        def concrete(function: Callable[..., Any], **inputs: tf.TensorSpec) -> object:
            return tf.function(function).get_concrete_function(
                **{name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.items()}
            )

        floats = tf.TensorSpec([None], tf.float32)
        found = {
            f"echo_{name}": concrete(lambda x: {"y": tf.identity(x)}, x=tf.TensorSpec(None, tf.as_dtype(name)))
            for name in DTYPES
        }
        found["pair"] = concrete(
            lambda a, b: {"sum": a + tf.cast(b, tf.float32), "b": tf.identity(b)},
            a=floats,
            b=tf.TensorSpec([None], tf.int64),
        )
        found["defaulted"] = concrete(
            lambda a, b: {"sum": a + tf.cast(b, tf.float32)}, a=floats, b=tf.TensorSpec([None], tf.int64)
        )
        found["texts"] = concrete(
            lambda s: {"text": tf.identity(s), "raw_bytes": tf.identity(s)}, s=tf.TensorSpec([None], tf.string)
        )
        found["total"] = concrete(lambda x: {"y": tf.reduce_sum(x)}, x=floats)
        found["uneven"] = concrete(lambda x: {"all": tf.identity(x), "first": x[:1]}, x=floats)
        found["matrix"] = concrete(
            lambda x: {"y": tf.matmul(x, tf.ones([2, 2]))}, x=tf.TensorSpec([None, 2], tf.float32)
        )
        found["lookup"] = concrete(lambda s: {"id": self.table.lookup(s)}, s=tf.TensorSpec([None], tf.string))
        found["nothing"] = concrete(lambda: {"y": tf.constant([1.0])})
        found["slow"] = concrete(_slow, rounds=tf.TensorSpec([], tf.int32))
        return found


def _slow(rounds: tf.Tensor) -> dict[str, tf.Tensor]:
    matrix = tf.fill([300, 300], 1 / 300)
    return {"y": tf.while_loop(lambda i, _m: i < rounds, lambda i, m: (i + 1, m @ matrix), [0, matrix])[1][0, 0]}


def give_default(saved_model: Path, signature: str, alias: str, value: list[int]) -> None:
    """Let a signature's input be left out: TensorFlow's Python has no way to say it, so the file itself is edited."""
    proto = saved_model_pb2.SavedModel.FromString(saved_model.read_bytes())
    definition = proto.meta_graphs[0].signature_def[signature]
    definition.defaults[alias].CopyFrom(tf.make_tensor_proto(value, tf.int64))
    saved_model.write_bytes(proto.SerializeToString())


def main() -> None:
    """Write everything below the folder given."""
    base = Path(sys.argv[1]).absolute()
    for version, addend in ((1, 2.0), (2, 3.0)):
        half_plus(base / "half_plus_two" / str(version), addend)
    vocabulary = base / "vocabulary.txt"
    vocabulary.write_text("zero\none\ntwo\n")
    kinds = Kinds(vocabulary)
    tf.saved_model.save(kinds, str(base / "kinds" / "1"), signatures=kinds.signatures())
    give_default(base / "kinds" / "1" / "saved_model.pb", "defaulted", "b", [10])
    (base / "models.config").write_text(CONFIG.format(base=base))


if __name__ == "__main__":
    main()
