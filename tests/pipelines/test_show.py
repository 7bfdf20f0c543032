"""``slipway show`` beside ``saved_model_cli show --all``: the same facts, without TensorFlow."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from components.savedmodel.dtypes import dtype_name
from components.savedmodel.messages import message, pool
from pipelines.cli import main
from tests import models
from tests.architecture.test_fast_path import probed

saved_model = models.saved_model

COMPARED = ["module_two_signatures", "tf1_simple_save"]


def shown(capsys, *words: object) -> dict[str, object]:
    assert main(["show", *map(str, words), "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys, *words: object) -> str:
    assert main(["show", *map(str, words)]) == 10
    return capsys.readouterr().err


@cache
def saved_model_cli(path: Path) -> str:
    """What TensorFlow's own tool prints."""
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "show", "--dir", str(path), "--all"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


TENSOR = re.compile(
    r"    (?P<side>inputs|outputs)\['(?P<alias>[^']+)'\] tensor_info:\n"
    r" +dtype: (?P<dtype>\S+)\n +shape: (?P<shape>.+)\n +name: (?P<name>.*)\n"
)


def tensor(found: re.Match[str]) -> dict[str, object]:
    number = pool().FindEnumTypeByName("tensorflow.DataType").values_by_name[found["dtype"]].number
    sizes = [int(size) for size in re.findall(r"-?\d+", found["shape"])]
    shape = None if found["shape"] == "unknown_rank" else [None if size < 0 else size for size in sizes]
    return {"dtype": dtype_name(number), "shape": shape, "name": found["name"]}


def signatures_of(text: str) -> dict[str, dict[str, object]]:
    found = {}
    for key, body in re.findall(r"signature_def\['([^']+)'\]:\n(.*?Method name is: .*?)\n", text, re.DOTALL):
        sides: dict[str, dict[str, object]] = {"inputs": {}, "outputs": {}}
        for match in TENSOR.finditer(body):
            sides[match["side"]][match["alias"]] = tensor(match)
        found[key] = {"method_name": body.rpartition("Method name is: ")[2], **sides}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED)
def test_signatures_ops_and_tags_are_those_that_saved_model_cli_prints(saved_model, capsys, name):
    text = saved_model_cli(saved_model(name))
    (graph,) = shown(capsys, saved_model(name))["meta_graphs"]
    expected = signatures_of(text)
    assert expected.keys() == {*graph["signatures"], *(graph["initializers"].keys() & expected.keys())}
    assert graph["signatures"] == {key: expected[key] for key in graph["signatures"]}
    for key in graph["initializers"].keys() & expected.keys():
        (output,) = expected[key]["outputs"].values()
        assert graph["initializers"][key] == output["name"]
    ops = re.search(r"contains the following ops: \{(.*)\}", text)
    assert ops is not None
    assert set(graph["ops"]) >= set(re.findall(r"'(\w+)'", ops[1]))
    assert f"tag-set: '{', '.join(graph['tags'])}'" in text


@pytest.mark.slow
def test_functions_and_their_arguments_are_those_that_saved_model_cli_prints(saved_model, capsys):
    path = saved_model("module_two_signatures")
    told = saved_model_cli(path).partition("Concrete Functions:")[2]
    expected = {
        name: re.findall(r"(\w+): TensorSpec\(shape=\((.*?)\), dtype=tf\.(\w+), name='(\w+)'\)", body)
        for name, body in re.findall(r"Function Name: '(\w+)'\n(.*?)(?=\n\n|\Z)", told, re.DOTALL)
    }
    (graph,) = shown(capsys, path)["meta_graphs"]
    found = {
        name: [
            (spec["name"], ", ".join(map(str, spec["shape"])), spec["dtype"], spec["name"])
            for option in options
            for spec in (argument["tensor"] for argument in option["arguments"])
        ]
        for name, options in graph["functions"].items()
    }
    assert found == expected
    assert set(found) == {"count", "score"}


def test_people_are_told_the_same(saved_model, capsys):
    assert main(["show", str(saved_model("lookup"))]) == 0
    out = capsys.readouterr().out
    for said in (
        "SavedModel, binary (saved_model.pb)",
        "meta graph {serve}: TensorFlow 2, with an object graph",
        "signature serving_default  tensorflow/serving/predict",
        "input   word    string[?]      serving_default_word:0",
        "function embed",
        "(word: string[?])",
        "LookupTableFindV2",
        "variables  1 tensors (1 trainable), 96 bytes in 1 data files",
        "asset  lookup-vocabulary.txt  14 bytes",
        "warm-up requests  0",
        "fingerprint  saved_model",
    ):
        assert said in out


def test_one_signature_is_told_alone(saved_model, capsys):
    path = saved_model("module_two_signatures")
    assert main(["show", str(path), "--signature-def", "count"]) == 0
    out = capsys.readouterr().out
    assert "signature count" in out
    assert "serving_default" not in out.replace("serving_default_x", "")
    found = shown(capsys, path, "--signature-def", "count", "--tag-set", "serve")
    assert set(found["signatures"][0]["count"]["outputs"]) == {"calls", "top"}


def test_wrong_names_list_the_valid_ones_and_exit_10(saved_model, capsys):
    path = saved_model("module_two_signatures")
    assert "count, serving_default in {serve}" in refused(capsys, path, "--signature-def", "nothing")
    assert "one of {serve}" in refused(capsys, path, "--tag-set", "serve,gpu")


def test_tags_may_be_spelled_in_any_order_and_the_empty_set_is_one(tmp_path, capsys):
    model = message("tensorflow.SavedModel")()
    model.meta_graphs.add().meta_info_def.tags.extend(["serve", "gpu"])
    model.meta_graphs.add()
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    for words, tags in ((("--tag-set", " gpu,serve"), ["gpu", "serve"]), (("--tag-set", ""), [])):
        (graph,) = shown(capsys, tmp_path, *words)["meta_graphs"]
        assert graph["tags"] == tags
    assert "one of {gpu, serve}, {}" in refused(capsys, tmp_path, "--tag-set", "train")


def test_brief_tells_signatures_and_reads_neither_graph_nor_variables(saved_model, capsys, tmp_path):
    found = shown(capsys, saved_model("keras_mlp"), "--brief")
    assert (found["variables"], found["warmup_records"], found["fingerprint"]) == (None, None, None)
    assert found["meta_graphs"][0]["ops"] is None
    assert "serving_default" in found["meta_graphs"][0]["signatures"]


@pytest.mark.parametrize(
    ("file", "said"),
    [("saved_model.pb", "cannot be read"), ("model.h5", "no SavedModel"), ("saved_model.cpb", "split format")],
)
def test_a_model_that_cannot_be_read_gets_a_reason_and_no_traceback(tmp_path, capsys, file, said):
    (tmp_path / file).write_bytes(b"\xff\xff")
    err = refused(capsys, tmp_path)
    assert said in err
    assert "Traceback" not in err


def test_a_name_that_would_drive_the_terminal_is_told_as_text(tmp_path, capsys):
    model = message("tensorflow.SavedModel")()
    model.meta_graphs.add().signature_def["\x1b[2Jgone"].method_name = "a\nb"
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    assert main(["show", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2Jgone  a\\nb" in out


def test_showing_a_directory_imports_neither_numpy_nor_protobuf_nor_pydantic(saved_model, tmp_path):
    code, loaded, wrote = probed("show", str(saved_model("strings")), cwd=tmp_path)
    assert (code, loaded) == (0, []), wrote
    script = f"import sys; sys.argv = ['slipway', 'show', {str(saved_model('strings'))!r}]; import slipway\n"
    script += "try:\n    slipway.main()\nexcept SystemExit:\n    pass\n"
    script += (
        "print([name for name in ('numpy', 'google.protobuf', 'pydantic', 'yaml', 'grpc') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
