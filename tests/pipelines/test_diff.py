"""``slipway diff``: two models, wherever they are."""

import json
from pathlib import Path

import pytest

from components.savedmodel.messages import message
from pipelines.cli import main
from tests.embedded import contract_server, models


def write(path: Path, *graphs: dict[str, object]) -> Path:
    """Write a SavedModel of which only signatures matter: per graph ``tags``, and inputs by signature."""
    path.mkdir()
    model = message("tensorflow.SavedModel")()
    for wanted in graphs:
        graph = model.meta_graphs.add()
        graph.meta_info_def.tags.extend(wanted.get("tags", ["serve"]))
        for key, inputs in wanted.get("signatures", {"serving_default": ["x"]}).items():
            signature = graph.signature_def[key]
            signature.method_name = "tensorflow/serving/predict"
            for alias in inputs:
                signature.inputs[alias].dtype = 1
            signature.outputs["y"].dtype = 1
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    return path


def diff(capsys, old: object, new: object, *words: str) -> tuple[int, dict[str, object]]:
    code = main(["diff", str(old), str(new), "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def test_equal_models_are_identical(tmp_path, capsys):
    old, new = write(tmp_path / "old", {}), write(tmp_path / "new", {})
    assert diff(capsys, old, new)[0] == 0
    assert main(["diff", str(old), str(new)]) == 0
    assert "identical" in capsys.readouterr().out


def test_an_additional_signature_is_additive_and_its_loss_breaking(tmp_path, capsys):
    old = write(tmp_path / "old", {})
    new = write(tmp_path / "new", {"signatures": {"serving_default": ["x"], "more": ["x"]}})
    code, found = diff(capsys, old, new)
    assert (code, found["compatibility"]) == (0, "additive")
    code, found = diff(capsys, new, old)
    assert (code, found["compatibility"]) == (10, "breaking")
    assert found["changes"] == [{"where": "signature more", "old": "present", "new": "removed", "breaking": True}]


def test_a_row_is_printed_for_each_change(tmp_path, capsys):
    old = write(tmp_path / "old", {"signatures": {"serving_default": ["x"], "gone": []}})
    new = write(tmp_path / "new", {"signatures": {"serving_default": ["x", "\x1bz"], "new": []}})
    assert main(["diff", str(old), str(new)]) == 10
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("3 changes, 2 of them breaking")
    assert sum("breaking" in line for line in lines[:-1]) == 2
    assert any("additive  signature new: absent -> added" in line for line in lines)
    assert any("input \\x1bz: absent" in line for line in lines)


def test_meta_graphs_are_compared_by_their_tags(tmp_path, capsys):
    both = write(tmp_path / "both", {}, {"tags": ["serve", "gpu"], "signatures": {"serving_default": ["x"], "s": []}})
    one = write(tmp_path / "one", {})
    code, found = diff(capsys, both, one)
    assert code == 10
    assert [change["where"] for change in found["changes"]] == ["meta graph {gpu, serve}"]
    assert diff(capsys, one, both)[1]["compatibility"] == "additive"
    assert diff(capsys, both, one, "--tag-set", "serve")[1]["compatibility"] == "identical"
    other = write(tmp_path / "other", {}, {"tags": ["gpu", "serve"]})
    code, found = diff(capsys, both, other)
    assert (code, found["changes"][0]["where"]) == (10, "{gpu, serve} signature s")


def test_models_with_one_meta_graph_each_are_compared_whatever_their_tags(tmp_path, capsys):
    old, new = write(tmp_path / "old", {}), write(tmp_path / "new", {"tags": ["gpu"]})
    code, found = diff(capsys, old, new)
    assert code == 10
    assert [change["where"] for change in found["changes"]] == ["tag gpu", "tag serve"]


def test_what_is_no_model_is_refused(tmp_path, capsys):
    assert main(["diff", str(tmp_path), str(tmp_path / "missing")]) == 10
    assert "no SavedModel" in capsys.readouterr().err


def test_a_server_that_is_down_is_unavailable_and_a_bad_address_rejected(tmp_path, capsys):
    here = write(tmp_path / "here", {})
    assert main(["diff", "http://127.0.0.1:9/v1/models/m", str(here), "--timeout-s", "2"]) == 20
    assert main(["diff", "grpc://127.0.0.1:9/m", str(here), "--timeout-s", "2"]) == 20
    assert main(["diff", "http://127.0.0.1:9/m", str(here)]) == 10


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_what_a_server_serves_is_what_its_directory_promises(capsys, tmp_path, protocol):
    server = contract_server()
    port = server.rest_port if protocol == "http" else server.grpc_port
    where = f"{protocol}://127.0.0.1:{port}/v1/models/half_plus_two"
    (version,) = sorted((models() / "half_plus_two").iterdir())[-1:]
    code, found = diff(capsys, where, version)
    assert (code, found["changes"]) == (0, [])
    assert diff(capsys, where, where)[0] == 0
    other = write(tmp_path / "other", {"tags": ["gpu", "serve"], "signatures": {"mine": []}})
    code, found = diff(capsys, where, other)
    assert code == 10
    assert not any(change["where"].startswith("tag") for change in found["changes"])
    assert main(["diff", f"{where}_unknown", str(version)]) == 10
