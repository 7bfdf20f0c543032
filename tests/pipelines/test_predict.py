"""``slipway predict``: beside ``saved_model_cli run``, and beside servers."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from components.savedmodel.messages import message
from pipelines.cli import main
from pipelines.commands.predict import _file
from tests import models
from tests.architecture.test_fast_path import probed
from tests.embedded import contract_server

saved_model = models.saved_model


def predict(capsys, *words: object, code: int = 0) -> str:
    assert main(["predict", *map(str, words)]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


@pytest.mark.slow
def test_answers_are_those_of_saved_model_cli_run(saved_model, capsys, tmp_path):
    path, mine, theirs = saved_model("module_two_signatures"), tmp_path / "mine", tmp_path / "theirs"
    np.save(tmp_path / "x.npy", np.random.default_rng(8).random((3, 256)).astype(np.float32))
    out = predict(capsys, path, "--signature-def", "count", "--inputs", f"x={tmp_path}/x.npy", "--outdir", mine)
    theirs.mkdir()
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", str(path)]
    command += ["--tag_set", "serve", "--signature_def", "count", "--inputs", f"x={tmp_path}/x.npy"]
    subprocess.run([*command, "--outdir", str(theirs)], capture_output=True, check=True, timeout=120)
    names = sorted(file.name for file in theirs.iterdir())
    assert names == sorted(file.name for file in mine.iterdir()) == ["calls.npy", "top.npy"]
    for name in names:
        np.testing.assert_array_equal(np.load(mine / name), np.load(theirs / name))
    assert "Result for output key calls:\n1\n" in out


@pytest.mark.slow
def test_files_are_not_replaced_unless_asked(saved_model, capsys, tmp_path):
    words = [saved_model("strings"), "--input-exprs", "text=['a;b', 'ü']", "--outdir", tmp_path / "out"]
    out = predict(capsys, *words)
    assert "[b'A;B' b'\\xc3\\xbc']" in out
    assert np.load(tmp_path / "out/loud.npy").tolist() == [b"A;B", "ü".encode()]
    assert np.load(tmp_path / "out/length.npy").tolist() == [3, 2]
    before = (tmp_path / "out/loud.npy").stat().st_mtime_ns
    assert "--overwrite" in predict(capsys, *words, code=10)
    assert (tmp_path / "out/loud.npy").stat().st_mtime_ns == before
    predict(capsys, *words, "--overwrite")
    assert (tmp_path / "out/loud.npy").stat().st_mtime_ns > before


@pytest.mark.slow
def test_a_json_body_names_inputs_and_signature(saved_model, capsys, tmp_path, monkeypatch):
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"signature_name": "count", "instances": [[0.5] * 256]}))
    assert "output key calls" in predict(capsys, saved_model("module_two_signatures"), "--json", body)


@pytest.mark.slow
def test_what_the_model_refuses_is_told_as_a_refusal(saved_model, capsys):
    err = predict(capsys, saved_model("keras_mlp"), "--input-exprs", "pixels=np.ones((1, 3))", code=10)
    assert "refuses the request" in err
    assert "Matrix size-incompatible" in err
    err = predict(capsys, saved_model("keras_mlp"), "--input-exprs", "other=1", code=10)
    assert "inputs are missing: pixels" in err


@pytest.mark.slow
def test_what_is_wrong_is_told_before_tensorflow_starts(saved_model, tmp_path):
    model = str(saved_model("keras_mlp"))
    for words, said in (
        ((model, "--signature-def", "nothing"), "one of serve, serving_default"),
        ((model, "--tag-set", "gpu"), "one of {serve}"),
        ((model, "--input-exprs", "pixels=__import__('os')"), "not allowed"),
        ((model, "--input-exprs", "pixels='text'"), "another dtype"),
        ((model, "--inputs", "pixels=none.npy"), "cannot be read"),
        ((model, "--input-exprs", "pixels=1", "--input-exprs", "pixels=1"), "given twice"),
        ((str(tmp_path),), "no SavedModel"),
        (("gs://bucket/m/1",), "no SavedModel"),
    ):
        code, loaded, wrote = probed("predict", *words, cwd=tmp_path)
        assert (code, loaded) == (10, []), wrote
        assert said in wrote


@pytest.mark.slow
def test_a_model_that_ends_its_process_is_rejected(tmp_path, capsys):
    """A function that calls itself ends the process that runs it."""
    model = message("tensorflow.SavedModel")()
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.graph_def.versions.producer = 2000
    function = graph.graph_def.library.function.add()
    function.signature.name = "again"
    function.signature.output_arg.add(name="y", type=1)
    inner = function.node_def.add(name="call", op="PartitionedCall")
    outer = graph.graph_def.node.add(name="call", op="PartitionedCall")
    for node in (inner, outer):
        node.attr["f"].func.name = "again"
        node.attr["Tin"].list.SetInParent()
        node.attr["Tout"].list.type.append(1)
    function.ret["y"] = "call:output:0"
    signature = graph.signature_def["serving_default"]
    signature.outputs["y"].name = "call:0"
    signature.outputs["y"].dtype = 1
    signature.method_name = "tensorflow/serving/predict"
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    err = predict(capsys, tmp_path, code=10)
    assert "Traceback" not in err


def test_an_output_with_any_name_stays_in_its_folder(tmp_path):
    for name in ("../up", "/root", "..", ".hidden", "a/b", "a\0b", "x"):
        file = _file(tmp_path, name)
        assert file.parent == tmp_path
        assert "\0" not in file.name
        assert not file.name.startswith(".")
    assert _file(tmp_path, "scores") == tmp_path / "scores.npy"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_is_asked_without_tensorflow(tmp_path, protocol):
    server = contract_server()
    port = server.rest_port if protocol == "http" else server.grpc_port
    where = f"{protocol}://127.0.0.1:{port}/v1/models/half_plus_two"
    words = ("--input-exprs", "x=np.arange(3)", "--signature-def", "serving_default")
    code, loaded, wrote = probed("predict", f"{where}/versions/1", *words, cwd=tmp_path)
    assert (code, loaded) == (0, []), wrote
    assert "[2.  2.5 3. ]" in wrote
    code, _, wrote = probed("predict", f"{where}/versions/99", *words, cwd=tmp_path)
    assert code == 10, wrote
    code, _, wrote = probed("predict", where, "--signature-def", "nothing", cwd=tmp_path)
    assert code == 10
    assert "one of " in wrote


@pytest.mark.slow
def test_examples_reach_the_model_as_serialized_messages(tmp_path):
    server = contract_server()
    where = f"grpc://127.0.0.1:{server.grpc_port}/half_plus_two/1"
    words = ("--input-examples", "inputs=[{'x': [1.0]}, {'x': [2.0]}]", "--signature-def", "regress_x_to_y")
    code, _, wrote = probed("predict", where, *words, cwd=tmp_path)
    assert code == 0, wrote
    assert re.search(r"\[\[?2\.5", wrote)


def test_a_server_that_is_down_is_unavailable(capsys):
    assert main(["predict", "grpc://127.0.0.1:9/m", "--timeout-s", "1"]) == 20
    assert "SERVER" not in capsys.readouterr().out


@pytest.mark.slow
def test_standard_input_is_read_as_a_body(monkeypatch, saved_model, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"inputs": 5}')))
    err = predict(capsys, saved_model("strings"), "--json", "-", code=10)
    assert "predict request" in err


@pytest.mark.slow
def test_the_path_of_a_model_may_be_relative(saved_model, capsys, monkeypatch):
    path: Path = saved_model("strings")
    monkeypatch.chdir(path.parent)
    assert "b'X'" in predict(capsys, "strings", "--input-exprs", "text=['x']")
