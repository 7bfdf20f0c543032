"""TF1 graphs as trainers and hubs leave them: what serving does not need stays behind, what is hostile is refused."""

import shutil
import warnings
from pathlib import Path

import pytest

from components.core.errors import Rejected
from components.core.spec import Export, Port, SignatureSpec
from components.export import export
from components.savedmodel.inspect import read_proto
from components.savedmodel.messages import message
from components.validate.scan import scan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A checkpoint of a whole training graph, and a hub module with a meta graph for training."""
    import tensorflow as tf

    root, v1 = tmp_path_factory.mktemp("tf1"), tf.compat.v1
    (root / "training").mkdir()
    with warnings.catch_warnings(), tf.Graph().as_default(), v1.Session() as session:
        warnings.simplefilter("ignore")
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        logits = tf.identity(x @ v1.get_variable("w", [4, 3], use_resource=False), name="logits")
        loss = v1.losses.sparse_softmax_cross_entropy(v1.placeholder(tf.int64, [None], name="labels"), logits)
        v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
        records = v1.data.make_one_shot_iterator(tf.data.TFRecordDataset("train.tfrecord")).get_next()
        tf.io.write_file("never-written", records, name="dump")
        v1.summary.scalar("loss", loss)
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(root / "training" / "model.ckpt"))
    _hub_module(root / "hub")
    return root


def _hub_module(path: Path) -> None:
    """As tensorflow_hub's native modules: no tags for inference, ``train`` for training, method name = key."""
    import tensorflow as tf

    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(path))
    for tags in ([], ["train"]):
        with warnings.catch_warnings(), tf.Graph().as_default(), v1.Session() as session:
            warnings.simplefilter("ignore")
            x = v1.placeholder(tf.float32, [None, 4], name="x")
            y = tf.identity(x @ v1.get_variable("w", [4, 2], use_resource=False), name="y")
            if tags:
                tf.io.read_file("/training/only", name="reads_a_file")
            session.run(v1.global_variables_initializer())
            info = v1.saved_model.build_tensor_info
            signature = v1.saved_model.build_signature_def({"default": info(x)}, {"default": info(y)}, "default")
            if tags:
                builder.add_meta_graph(tags, {"default": signature})
            else:
                builder.add_meta_graph_and_variables(session, tags, {"default": signature})
    builder.save()
    (path / "tfhub_module.pb").write_bytes(b"\x08\x03")


SPEC = Export(
    signatures={"serving_default": SignatureSpec(inputs={"x": Port()}, outputs={"scores": Port(source="logits")})}
)


def test_a_training_graph_is_exported_without_its_input_pipeline_and_summaries(sources, tmp_path):
    export(sources / "training", tmp_path / "out", SPEC)

    used = {node.op for node in read_proto(tmp_path / "out").meta_graphs[0].graph_def.node}
    assert not used & {"TFRecordDataset", "WriteFile", "ScalarSummary", "IteratorGetNext", "OneShotIterator"}
    assert "VariableV2" in used
    scan(tmp_path / "out")


def test_a_hub_module_is_served_and_its_training_graph_stays_behind(sources, tmp_path):
    result = export(sources / "hub", tmp_path / "out", Export())

    assert result.contract.tags == {"serve"}
    assert [sorted(graph.meta_info_def.tags) for graph in read_proto(tmp_path / "out").meta_graphs] == [["serve"]]
    assert any("{train}" in note for note in result.notes)
    assert any(note.startswith("METHOD_NAME: signature default") for note in result.notes)
    assert result.warmup_records == 0  # only Predict signatures can be asked so


def changed(sources: Path, tmp_path: Path, change) -> Path:
    """The checkpoint with a graph that ``change`` has changed."""
    path = tmp_path / "model"
    shutil.copytree(sources / "training", path)
    file = path / "model.ckpt.meta"
    meta = message("tensorflow.MetaGraphDef").FromString(file.read_bytes())
    change(meta)
    file.write_bytes(meta.SerializeToString())
    return path


def add_path(meta) -> None:
    path = meta.graph_def.node.add(name="path", op="Const")
    path.attr["dtype"].type = path.attr["value"].tensor.dtype = 7
    path.attr["value"].tensor.string_val.append(b"/etc/passwd")


def write_before(meta, name: str) -> None:
    add_path(meta)
    meta.graph_def.node.add(name="evil", op="WriteFile", input=["path", "path"])
    next(node for node in meta.graph_def.node if node.name == name).input.append("^evil")


def served_file(meta) -> None:
    write_before(meta, "logits")


def restored_file(meta) -> None:
    write_before(meta, meta.saver_def.restore_op_name)


def table_file(meta) -> None:
    add_path(meta)
    table = meta.graph_def.node.add(name="table", op="HashTableV2")
    table.attr["key_dtype"].type, table.attr["value_dtype"].type = 7, 9
    init = meta.graph_def.node.add(name="init", op="InitializeTableFromTextFileV2", input=["table", "path"])
    init.attr["key_index"].i, init.attr["value_index"].i = -2, -1
    meta.collection_def["table_initializer"].node_list.value.append("init")


def asset_file(meta) -> None:
    table_file(meta)
    meta.collection_def["asset_filepaths"].node_list.value.append("path:0")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (served_file, "OP_FILE_WRITE"),
        (restored_file, "OP_FILE_WRITE"),
        (table_file, "OP_FILE_READ"),
        (asset_file, "ASSET_OUTSIDE_MODEL"),
    ],
)
def test_a_checkpoint_whose_graph_reaches_out_is_refused_before_it_runs(sources, tmp_path, change, reason):
    with pytest.raises(Rejected) as caught:
        export(changed(sources, tmp_path, change), tmp_path / "runs" / "out", SPEC)

    assert caught.value.reason == reason
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(("name", "beside"), [("saved_model.pb", ()), ("frozen.pb", ()), ("m.meta", ("m.index",))])
def test_a_graph_above_the_limit_of_a_message_is_refused_with_its_size(tmp_path, name, beside):
    (tmp_path / "model").mkdir()
    with (tmp_path / "model" / name).open("wb") as file:
        file.truncate(2**31)  # a sparse file
    for other in beside:
        (tmp_path / "model" / other).touch()
    with pytest.raises(Rejected, match=f"{2**31} bytes") as caught:
        export(tmp_path / "model", tmp_path / "out", Export())

    assert caught.value.reason == "GRAPH_TOO_LARGE"
