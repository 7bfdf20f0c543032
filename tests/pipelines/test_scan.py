"""``slipway scan``: what is dangerous is refused with its reason, what is ordinary passes, and nothing breaks it."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.process import Limits
from components.gate.static import handle
from components.savedmodel.messages import message
from pipelines.cli import main
from pipelines.commands.scan import _Gate
from tests import models

saved_model = models.saved_model

ROOT = Path(__file__).resolve().parents[2]
READ_ONLY = ("--no-load",)


def scanned(capsys, path: Path, *words: str) -> tuple[int, dict[str, object]]:
    code = main(["scan", str(path), "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def reasons(found: dict[str, object]) -> list[str]:
    return [finding["reason"] for finding in found["findings"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", models.BUILDERS)
def test_an_ordinary_model_is_accepted_by_reading(saved_model, capsys, name):
    code, found = scanned(capsys, saved_model(name), *READ_ONLY)
    assert (code, found["verdict"], found["findings"]) == (0, "accept", [])
    assert found["not_run"] == {"L4 sandboxed run": "--no-load was given"}
    assert found["graph"]["ops"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lookup", "tf1_simple_save"])
def test_an_ordinary_model_is_accepted_by_running(saved_model, capsys, name):
    code, found = scanned(capsys, saved_model(name))
    assert (code, found["findings"], found["not_run"]) == (0, [], {})
    assert found["probes"][0]["answered"] == ["serving_default"]


def _write_model(path: Path, *ops: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    model = message("tensorflow.SavedModel")()
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    for number, op in enumerate(ops):
        graph.graph_def.node.add(name=f"n{number}", op=op)
    signature = graph.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    signature.outputs["y"].name = "n0:0"
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("op", "reason"),
    [("WriteFile", "OP_FILE_WRITE"), ("ReadFile", "OP_FILE_READ"), ("PyFunc", "OP_PYTHON"), ("Nonsense", "OP_UNKNOWN")],
)
def test_a_dangerous_op_is_refused_and_never_loaded(capsys, tmp_path, op, reason):
    code, found = scanned(capsys, _write_model(tmp_path / "m", "Const", op))
    assert (code, found["verdict"], reasons(found)) == (10, "reject", [reason])
    assert found["findings"][0]["layer"] == "L2-L3 graph"
    assert found["not_run"] == {"L4 sandboxed run": "an earlier layer refused the model"}


def test_every_finding_about_files_is_told(capsys, tmp_path):
    path = _write_model(tmp_path / "m", "Const")
    (path / "saved_model.pbtxt").touch()
    (path / "assets").mkdir()
    (path / "assets/link").symlink_to("/etc/hostname")
    (path / "assets/other").symlink_to("..")
    code, found = scanned(capsys, path)
    assert code == 10
    assert reasons(found) == ["SYMLINK", "SYMLINK", "AMBIGUOUS_GRAPH_FILES"]
    assert set(found["not_run"]) == {"L2-L3 graph", "L4 sandboxed run"}


def test_people_are_told_reason_place_and_layer(capsys, tmp_path):
    assert main(["scan", str(_write_model(tmp_path / "m", "WriteFile")), *READ_ONLY]) == 10
    out = capsys.readouterr().out
    assert "reject  OP_FILE_WRITE" in out
    assert "n0" in out
    assert "[L2-L3 graph]" in out
    assert out.splitlines()[-1].startswith("rejected")


def _tar(path: Path, fill: Callable[[tarfile.TarFile], None], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        fill(archive)
    return path


def _member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (_member("../out"), "ARCHIVE_TRAVERSAL"),
        (_member("/etc/x"), "ARCHIVE_ABSOLUTE"),
        (_member("link", type=tarfile.SYMTYPE, linkname="/etc"), "ARCHIVE_LINK"),
        (_member("pipe", type=tarfile.FIFOTYPE), "ARCHIVE_SPECIAL"),
    ],
)
def test_a_hostile_archive_is_refused(capsys, tmp_path, member, reason):
    code, found = scanned(capsys, _tar(tmp_path / "m.tar", lambda archive: archive.addfile(member)))
    assert (code, reasons(found)) == (10, [reason])
    assert found["findings"][0]["layer"] == "L0 archive"


def test_an_archive_that_would_be_too_large_is_refused(capsys, tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("saved_model.pb", bytes(3 * 2**20))
    code, found = scanned(capsys, tmp_path / "m.zip", "--max-gib", "0.001")
    assert (code, reasons(found)) == (10, ["ARCHIVE_BOMB"])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["m.tar", "m.tar.gz", "m.tgz", "m.zip"])
def test_a_model_in_an_archive_is_judged_like_its_directory(saved_model, capsys, tmp_path, form):
    good, bad = saved_model("strings"), _write_model(tmp_path / "bad", "WriteFile")
    for source, expected in ((good, 0), (bad, 10)):
        path = tmp_path / form
        if form.endswith("zip"):
            shutil.make_archive(str(tmp_path / "m"), "zip", source)
        else:
            _tar(path, lambda archive, source=source: archive.add(source, "m"), "w" if form == "m.tar" else "w:gz")
        code, found = scanned(capsys, path, *READ_ONLY)
        assert (code, found["format"]) == (expected, "saved-model")


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory) -> Path:
    import keras

    folder = tmp_path_factory.mktemp("keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of its own calls
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.save(folder / "good.keras")
        model.save(folder / "good.h5")
        keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x)]).save(folder / "lambda.keras")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["good.keras", "good.h5"])
def test_a_keras_file_is_exported_and_its_graph_judged_and_run(keras_files, capsys, name):
    code, found = scanned(capsys, keras_files / name)
    assert (code, found["findings"], found["not_run"]) == (0, [], {})
    assert found["graph"]["ops"] > 0
    assert found["probes"][0]["answered"] == ["serving_default"]


@pytest.mark.slow
def test_a_keras_file_with_code_is_refused_without_loading_it(keras_files, capsys):
    code, found = scanned(capsys, keras_files / "lambda.keras")
    assert (code, reasons(found)) == (10, ["KERAS_LAMBDA"])


@pytest.mark.slow
def test_links_out_of_an_hdf5_file_are_all_told(keras_files, capsys, tmp_path):
    shutil.copy(keras_files / "good.h5", tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as file:
        file["out"] = h5py.ExternalLink("/etc/passwd", "/")
        inner = file.create_group("inner")
        inner["again"] = file["/"]  # a cycle of hard links, which a walk by recursion would not survive
        inner["dangling"] = h5py.SoftLink("/nowhere")
        file.create_dataset("kept", (3,), "f4", external=[(str(tmp_path / "raw"), 0, 12)])
    code, found = scanned(capsys, tmp_path / "m.h5")
    assert (code, reasons(found)) == (10, ["H5_EXTERNAL", "H5_EXTERNAL"])
    assert {finding["where"] for finding in found["findings"]} == {"m.h5:/out", "m.h5:/kept"}


@pytest.mark.slow
def test_links_in_the_weights_of_a_keras_archive_are_told(keras_files, capsys, tmp_path):
    weights = tmp_path / "w.h5"
    with h5py.File(weights, "w") as file:
        file["out"] = h5py.ExternalLink("other.h5", "/")
    with zipfile.ZipFile(keras_files / "good.keras") as good, zipfile.ZipFile(tmp_path / "m.keras", "w") as bad:
        bad.writestr("config.json", good.read("config.json"))
        bad.write(weights, "model.weights.h5")
    code, found = scanned(capsys, tmp_path / "m.keras")
    assert (code, reasons(found)) == (10, ["H5_EXTERNAL"])


@pytest.mark.slow
def test_what_only_shows_when_it_is_loaded_is_found_there(saved_model, capsys, tmp_path):
    path = shutil.copytree(saved_model("module_two_signatures"), tmp_path / "m")
    (shard,) = (path / "variables").glob("variables.data*")
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    assert scanned(capsys, path, *READ_ONLY)[0] == 0
    code, found = scanned(capsys, path)
    assert (code, reasons(found)) == (10, ["CORRUPT_VARIABLES"])
    assert found["findings"][0]["layer"] == "L4 sandboxed run"


@pytest.mark.slow
def test_a_model_that_takes_too_long_is_rejected(saved_model, capsys):
    code, found = scanned(capsys, saved_model("strings"), "--timeout-s", "0.3")
    assert (code, reasons(found)) == (10, ["PROBE_CRASHED"])
    assert "deadline" in found["findings"][0]["detail"]


def test_nothing_and_special_files_are_refused(capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nothing", tmp_path / "pipe"):
        assert main(["scan", str(path)]) == 10
        assert "is not there" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["m.pb", "m.txt", "m", "m.meta"])
def test_other_files_are_not_accepted(capsys, tmp_path, name):
    (tmp_path / name).write_bytes(b"text")
    code, found = scanned(capsys, tmp_path / name)
    assert (code, reasons(found)) == (10, ["FORMAT_UNSUPPORTED"])


def test_a_directory_without_a_model_is_not_accepted(capsys, tmp_path):
    code, found = scanned(capsys, tmp_path)
    assert (code, reasons(found)) == (10, ["NO_MODEL"])


def _scan_here(path: Path, folder: Path) -> dict[str, object]:
    """Judge in this process what the child would: quick, and whatever it raises is seen."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    reply = handle({"path": str(path), "folder": str(folder), "max_bytes": 2**24}, lambda _: None)
    assert isinstance(reply, dict)
    return reply


HEADS = {
    "m.tar": b"",
    "m.tar.gz": b"\x1f\x8b\x08\0\0\0\0\0",
    "m.zip": b"PK\x03\x04",
    "m.keras": b"PK\x03\x04",
    "m.h5": b"\x89HDF\r\n\x1a\n",
    "m.bin": b"",
}


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(HEADS)), st.booleans(), st.binary(max_size=600))
def test_bytes_that_are_no_model_are_refused_and_raise_nothing(tmp_path_factory, name, proper, data):
    folder = tmp_path_factory.getbasetemp() / "noise"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes((HEADS[name] if proper else b"") + data)
    assert _scan_here(folder / name, folder / "work")["findings"]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_archives_and_models_are_judged_and_raise_nothing(tmp_path_factory, saved_model, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        archive.add(saved_model("strings"), "m")
    content = bytearray(whole.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "m.tar").write_bytes(content)
    _scan_here(folder / "m.tar", folder / "work")


def test_a_model_sees_no_credentials(tmp_path):
    given_ = {"PATH": "/bin", "HOME": "/home/me", "GOOGLE_APPLICATION_CREDENTIALS": "key.json", "AWS_SECRET": "s"}
    gate = _Gate(
        limits=Limits(deadline_s=1), max_bytes=1, tags=None, load=True, environment=given_, progress=lambda _: None
    )
    found = gate._environment(tmp_path)
    assert found["HOME"] == str(tmp_path)
    assert not {"GOOGLE_APPLICATION_CREDENTIALS", "AWS_SECRET"} & found.keys()


NETWORK = """
import socket, sys
from pathlib import Path
from components.validate.sandbox import give_up_network
offline = give_up_network()
Path(sys.argv[2]).write_text("still writable")
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
    reached = True
except OSError:
    reached = False
print(offline, reached)
"""


def test_a_process_that_gave_up_its_network_reaches_nothing_and_still_writes_files(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", NETWORK, str(server.getsockname()[1]), str(tmp_path / "file")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    offline, reached = done.stdout.split()
    assert reached == ("False" if offline == "True" else "True")
    assert (tmp_path / "file").read_text() == "still writable"


@pytest.mark.slow
def test_a_weight_that_is_no_number_is_refused(capsys, tmp_path):
    model = message("tensorflow.SavedModel")()
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    node = graph.graph_def.node.add(name="n0", op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype = node.attr["dtype"].type = 1
    tensor.tensor_shape.dim.add(size=32)
    tensor.tensor_content = np.full(32, np.nan, np.float32).tobytes()
    graph.signature_def["serving_default"].outputs["y"].name = "n0:0"
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    assert reasons(scanned(capsys, tmp_path)[1]) == ["NAN_WEIGHTS"]
