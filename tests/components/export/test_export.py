"""Real models of every form through the real step. TensorFlow's own exporters make the sources."""

import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from components.core import digest
from components.core.errors import Rejected, SlipwayError
from components.core.process import Limits
from components.core.spec import Export, Port, SignatureSpec, Warmup
from components.export import ExportResult, export
from components.savedmodel import warmup
from components.savedmodel.inspect import contract as contract_of
from components.savedmodel.inspect import read_proto

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    """One folder a form, each with one model: x [?, 4] -> softmax [?, 3], but for the text model."""
    root = tmp_path_factory.mktemp("sources")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _keras_sources(root)
        _graph_sources(root)
    return root


def _keras_sources(root: Path) -> None:
    import keras

    layers = keras.layers
    for name in ("keras", "hdf5", "dict", "text", "lambda", "linked"):
        (root / name).mkdir()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,), name="x"),
            layers.Dense(8),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Dense(3, activation="softmax", name="probabilities"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(np.ones((4, 4)), np.zeros(4), verbose=0)
    model.save(root / "keras" / "model.keras")
    model.save(root / "hdf5" / "model.h5")
    shutil.copy(root / "hdf5" / "model.h5", root / "linked" / "model.h5")
    with h5py.File(root / "linked" / "model.h5", "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    both = layers.Concatenate()([a, b])
    outputs = {"score": layers.Dense(1, name="first")(both), "label": layers.Dense(2, name="second")(both)}
    keras.Model({"a": a, "b": b}, outputs).save(root / "dict" / "model.keras")
    words = layers.TextVectorization(max_tokens=10, output_sequence_length=4)
    words.adapt(["a b c", "b c d"])
    text = [keras.Input((1,), dtype="string", name="text"), words, layers.Embedding(12, 3), layers.Flatten()]
    keras.Sequential([*text, layers.Dense(1, name="y")]).save(root / "text" / "model.keras")
    keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2)]).save(root / "lambda" / "model.keras")


def _graph_sources(root: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    for name in ("checkpoint", "frozen"):
        (root / name).mkdir()
    words = root / "checkpoint" / "words.txt"
    words.write_text("a\nb\n")
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        logits = x @ v1.get_variable("w", [4, 3], use_resource=False)
        tf.nn.softmax(logits, name="y")
        labels = v1.placeholder(tf.int64, [None], name="labels")
        v1.train.AdamOptimizer().minimize(v1.losses.sparse_softmax_cross_entropy(labels, logits))
        lookup = v1.lookup
        filler = lookup.TextFileInitializer(
            str(words), tf.string, lookup.TextFileIndex.WHOLE_LINE, tf.int64, lookup.TextFileIndex.LINE_NUMBER
        )
        tf.identity(
            lookup.StaticHashTable(filler, -1).lookup(v1.placeholder(tf.string, [None], name="word")), name="id"
        )
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.train.Saver().save(session, str(root / "checkpoint" / "model.ckpt"), global_step=7)
        frozen = v1.graph_util.convert_variables_to_constants(session, session.graph.as_graph_def(), ["y"])
        (root / "frozen" / "graph.pb").write_bytes(frozen.SerializeToString())


def signature(x: str = "", y: str = "") -> SignatureSpec:
    return SignatureSpec(inputs={"features": Port(source=x, shape=(None, 4))}, outputs={"scores": Port(source=y)})


def ask(path: Path, inputs, key: str = "serving_default", tags: frozenset[str] = frozenset({"serve"})):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from components.savedmodel.load import load

        servable = load(path, tags)
    try:
        return servable.run(key, inputs)
    finally:
        servable.close()


X = np.arange(8, dtype=np.float32).reshape(2, 4) / 8


def aliases(result: ExportResult, key: str = "serving_default") -> tuple[list[str], list[str]]:
    found = result.contract.signatures[key]
    return sorted(found.inputs), sorted(found.outputs)


def test_a_keras_model_answers_under_the_aliases_asked_for_as_keras_itself_does(sources, tmp_path):
    spec = Export(signatures={"serving_default": signature(y="probabilities")}, warmup=Warmup(batch_sizes=(1, 4)))
    result = export(sources / "keras", tmp_path / "out", spec)

    assert (result.source_format, aliases(result)) == ("keras-v3", (["features"], ["scores"]))
    assert result.contract == contract_of(tmp_path / "out", frozenset({"serve"}))
    assert [record.inputs["features"].shape for record in warmup.read(tmp_path / "out")] == [(1, 4), (4, 4)]
    import keras

    expected = keras.saving.load_model(sources / "keras" / "model.keras", compile=False)(X, training=False)
    np.testing.assert_allclose(ask(tmp_path / "out", {"features": X})["scores"], expected, rtol=1e-5)
    index = (tmp_path / "out" / "variables" / "variables.index").read_bytes()
    assert b"optimizer" not in index
    assert b"momentum" not in index


def test_equal_sources_give_equal_bytes(sources, tmp_path):
    for name in ("a", "b"):
        export(sources / "keras", tmp_path / name, Export())

    assert digest.of_directory(tmp_path / "a") == digest.of_directory(tmp_path / "b")


@pytest.mark.parametrize(
    ("source", "inputs", "outputs"),
    [("hdf5", ["x"], ["probabilities"]), ("dict", ["a", "b"], ["label", "score"]), ("text", ["text"], ["y"])],
)
def test_without_signatures_a_keras_model_keeps_its_own_names(sources, tmp_path, source, inputs, outputs):
    result = export(sources / source, tmp_path / "out", Export())

    assert aliases(result) == (inputs, outputs)
    assert result.warmup_records == 1


def test_a_checkpoint_is_exported_with_its_tables_and_tags(sources, tmp_path):
    ids = SignatureSpec(inputs={"word": Port()}, outputs={"id": Port()})
    spec = Export(signatures={"serving_default": signature("x", "y:0"), "ids": ids}, tags=("serve", "gpu"))
    result = export(sources / "checkpoint", tmp_path / "out", spec)

    assert result.contract.tags == {"serve", "gpu"}
    answer = ask(tmp_path / "out", {"word": np.array([b"b", b"?"], object)}, "ids", frozenset({"serve", "gpu"}))
    assert answer["id"].tolist() == [1, -1]
    assert (tmp_path / "out" / "assets" / "words.txt").read_text() == "a\nb\n"


def test_a_frozen_graph_is_exported(sources, tmp_path):
    export(sources / "frozen", tmp_path / "out", Export(signatures={"serving_default": signature("x", "y:0")}))

    assert ask(tmp_path / "out", {"features": X})["scores"].sum(axis=1) == pytest.approx([1, 1])


def test_a_saved_model_that_needs_nothing_is_kept_byte_for_byte(saved_model, tmp_path):
    result = export(saved_model("lookup"), tmp_path / "out", Export())

    before, after = digest.of_directory(saved_model("lookup")).files, digest.of_directory(tmp_path / "out").files
    assert after == {**before, str(warmup.FILE): after[str(warmup.FILE)]}
    assert result.source_format == "saved-model"
    assert result.warmup_records == len(warmup.read(tmp_path / "out")) > 0


def test_a_saved_model_can_be_given_other_aliases_and_answers_the_same(saved_model, tmp_path):
    source = saved_model("keras_mlp")
    [(old_in, _)] = contract_of(source, frozenset({"serve"})).signatures["serving_default"].inputs.items()
    spec = Export(
        signatures={"serving_default": SignatureSpec(inputs={"image": Port()}, outputs={"digit": Port()})},
        tags=("serve", "v2"),
    )
    result = export(source, tmp_path / "out", spec)

    assert aliases(result) == (["image"], ["digit"])
    assert result.contract.signatures.keys() == {"serving_default"}
    pixels = np.random.default_rng(0).random((3, 64)).astype(np.float32)
    [ours] = ask(tmp_path / "out", {"image": pixels}, tags=frozenset({"serve", "v2"})).values()
    [theirs] = ask(source, {old_in: pixels}).values()
    np.testing.assert_array_equal(ours, theirs)
    objects = read_proto(tmp_path / "out").meta_graphs[0].object_graph_def.nodes
    [node_id] = [child.node_id for child in objects[0].children if child.local_name == "signatures"]
    assert not objects[node_id].children


def rejected(source: Path, out: Path, spec: Export, **options: Limits) -> SlipwayError:
    with pytest.raises(Rejected) as caught:
        export(source, out, spec, **options)
    assert list(out.parent.iterdir()) == []
    return caught.value


@pytest.mark.parametrize(
    ("source", "spec", "reason"),
    [
        ("lambda", Export(), "KERAS_LAMBDA"),
        ("linked", Export(), "H5_EXTERNAL"),
        ("frozen", Export(), "SIGNATURE_MISSING"),
        ("checkpoint", Export(signatures={"serving_default": signature("x", "nowhere:0")}), "SIGNATURE_MISSING"),
        ("keras", Export(signatures={"serving_default": signature(y="logits")}), "SIGNATURE_MISSING"),
        (
            "keras",
            Export(
                signatures={"a": SignatureSpec(inputs={"x": Port(dtype="int64")}, outputs={"probabilities": Port()})}
            ),
            "SIGNATURE_DTYPE",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(sources, tmp_path, source, spec, reason):
    assert rejected(sources / source, tmp_path / "runs" / "out", spec).reason == reason


def test_a_child_that_does_not_end_is_a_rejection_and_leaves_nothing(sources, tmp_path):
    error = rejected(sources / "keras", tmp_path / "runs" / "out", Export(), limits=Limits(deadline_s=0.5))

    assert error.reason == "EXPORT_CRASHED"


def test_a_saved_model_that_acts_at_load_is_refused_before_it_is_loaded(saved_model, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(saved_model("lookup"), path)
    model = read_proto(path)
    model.meta_graphs[0].graph_def.node.add(name="evil", op="WriteFile")
    (path / "saved_model.pb").write_bytes(model.SerializeToString())

    assert rejected(path, tmp_path / "runs" / "out", Export()).reason == "OP_FILE_WRITE"


def test_warm_up_requests_that_fail_are_refused(saved_model, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(saved_model("keras_mlp"), path)
    warmup.write(path, "m", [warmup.WarmupRecord("serving_default", {"pixels": np.zeros((1, 3), np.float32)})])

    assert rejected(path, tmp_path / "runs" / "out", Export()).reason == "WARMUP_FAILS"


def test_no_warm_up_means_no_file(saved_model, tmp_path):
    result = export(saved_model("keras_mlp"), tmp_path / "out", Export(warmup=None))

    assert result.warmup_records == 0
    assert digest.of_directory(tmp_path / "out") == digest.of_directory(saved_model("keras_mlp"))
