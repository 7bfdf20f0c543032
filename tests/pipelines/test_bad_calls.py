"""Wrong calls of the command: the right exit code, a message that helps, no traceback, and nothing done."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.releases import SLIPWAY

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/01-digits/release.yaml"
DIGEST = "sha256:" + "a" * 64


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SLIPWAY), *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


PUBLISH = ["step", "publish", "--spec", str(EXAMPLE), "--outputs-dir", "o"]

CALLS = {
    "an unknown command": (["rnu"], 2, "Did you mean `run`?"),
    "a command without its argument": (["run"], 2, "Missing argument 'SPEC'"),
    "a spec that is not there": (["run", "nope.yaml"], 10, "nope.yaml: cannot be read"),
    "an override without a value": (["run", str(EXAMPLE), "--set", "model"], 10, "path=value"),
    "an environment without an overlay": (["plan", str(EXAMPLE), "--environment", "prod"], 10, "release.prod.yaml"),
    "a store of no kind": (["run", str(EXAMPLE), "--set", "store.uri=ftp://x"], 10, "must be a path, file://"),
    "a store that cannot be written": (["run", str(EXAMPLE), "--set", "store.uri=/proc/nowhere/store"], 20, "/proc"),
    "a model nobody knows": (["status", "nobody"], 10, "nobody"),
    "a release nobody knows": (["report", "ffff", "-o", "x.html"], 10, "no releases match `ffff`"),
    "a model that is not served": (["down", "nobody"], 10, "no model nobody"),
    "a version without a digest": (["render", str(EXAMPLE), "--version", "1"], 2, "--digest"),
    "a digest that is none": (["render", str(EXAMPLE), "--version", "1", "--digest", "abc"], 10, "64 hexadecimal"),
    "manifests without images": (["render", str(EXAMPLE), "--version", "1", "--digest", DIGEST], 10, "serving.image"),
    "an engine that does not exist": (["compile", str(EXAMPLE), "--engine", "airflow"], 2, "kubeflow"),
    "a pipeline without images": (["compile", str(EXAMPLE), "--engine", "argo"], 10, "engine.model_image"),
    "a pull from nowhere": (["pull", "./store/digits", "out", "--version", "1"], 10, "no version 1"),
    "a pull of no model": (["pull", "digits", "out", "--version", "1"], 10, "names no model"),
    "a step of no name": (["step", "deliver"], 2, "deliver"),
    "a step without a place for its outputs": (["step", "export"], 2, "--outputs-dir"),
    "a step without a spec": (["step", "export", "--outputs-dir", "o"], 2, "--spec"),
    "a step without its inputs": (
        ["step", "export", "--spec", str(EXAMPLE), "--outputs-dir", "o"],
        10,
        "--input source=PATH",
    ),
    "a step with half an input": (
        ["step", "export", "--spec", str(EXAMPLE), "--outputs-dir", "o", "--input", "source"],
        10,
        "NAME=PATH",
    ),
    "a record that is not there": (
        [*PUBLISH, "--input", "validate=no.json", "--input", "optimized_model=no"],
        10,
        "slipway step validate",
    ),
    "what no launcher passes": (["step", "source", "--executor-input", "{"], 10, "ExecutorInput"),
    "an unknown flag of the server": (["serve", "--prot=8500"], 2, "unknown argument: --prot"),
    "a wrong field in the spec": (["spec", "check", str(EXAMPLE), "--set", "canary.budget={}"], 10, "`budgets`"),
}


@pytest.mark.parametrize(("words", "code", "said"), CALLS.values(), ids=CALLS)
def test_a_wrong_call_is_told_and_nothing_is_done(tmp_path, words, code, said):
    done = run(tmp_path, *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir() if path.name != ".slipway"] == []


def test_with_json_an_error_is_data_too(tmp_path):
    done = run(tmp_path, "run", "nope.yaml", "--json")
    error = json.loads(done.stdout)["error"]
    assert error["family"] == "Rejected"
    assert error["exit_code"] == "10"


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    script = f"{sys.executable} -P {SLIPWAY} spec schema | head -n 1"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_disk_that_is_full_is_unavailable_and_names_the_place(tmp_path):
    # Every file larger than a few bytes is refused, as on a full disk; the shell sets the limit for its child.
    release = f"{SLIPWAY} --state {tmp_path}/state run {EXAMPLE} --set store.uri={tmp_path}/store"
    script = f"ulimit -f 0; trap '' XFSZ; exec {release}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 20, done.stderr
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_made_is_unavailable(tmp_path):
    done = run(tmp_path, "--state", "/proc/nowhere", "run", str(EXAMPLE), "--set", f"store.uri={tmp_path}/store")
    assert done.returncode == 20
    assert "/proc/nowhere" in done.stderr
