import shutil

import pytest

from components.savedmodel.inspect import read_proto

pytestmark = pytest.mark.slow


def notes(path) -> list[tuple[str, str]]:
    from components.validate.fingerprint import findings

    return [(found.reason, found.severity.value) for found in findings(path)]


def test_a_fingerprint_of_another_graph_is_noted_and_an_honest_or_missing_one_is_not(saved_model, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(saved_model("while_loop"), path)
    assert notes(path) == []

    model = read_proto(path)
    model.meta_graphs[0].graph_def.node.add(name="another", op="NoOp")
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    assert notes(path) == [("FINGERPRINT_MISMATCH", "note")]

    (path / "fingerprint.pb").write_bytes(b"\xff")
    assert notes(path) == [("FINGERPRINT_MISMATCH", "note")]
    (path / "fingerprint.pb").unlink()
    assert notes(path) == []
