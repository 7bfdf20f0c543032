"""One model released, looked at, released again and refused, through the installed command."""

import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import urllib.request

import numpy as np
import pytest

from tests.models import saved_model  # noqa: F401 - a fixture
from tests.pipelines.releases import Place, make_place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory, saved_model):  # noqa: F811
    made = make_place(tmp_path_factory.mktemp("release"), saved_model("keras_mlp"))
    made.release()
    yield made
    made.run("down")


def answers(place: Place) -> np.ndarray:
    """What a user of the endpoint gets."""
    endpoint = json.loads((place.state / "serving/mlp/relay.json").read_text())
    request = urllib.request.Request(
        f"http://127.0.0.1:{endpoint['rest_port']}/v1/models/mlp:predict",
        json.dumps({"instances": [[0.5] * 64]}).encode(),
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
        return np.array(json.load(reply)["predictions"])


def test_a_first_release_is_promoted_and_answers_its_users(place):
    row = place.status()
    assert row["stable"]["version"] == 1
    assert [release["outcome"] for release in row["releases"]] == ["promoted"]
    assert [server["version"] for server in row["live"]] == [1]
    assert row["endpoint"]["rest"].startswith("http://127.0.0.1:")
    assert answers(place).shape == (1, 10)


def test_every_step_left_a_record_that_names_its_predecessor(place):
    row = place.status()
    folder = place.store / "mlp/.releases" / row["releases"][0]["id"]
    joined = json.loads((folder / "release.json").read_text())
    steps = ["source", "export", "optimize", "validate", "publish", "deploy", "canary", "promote"]
    assert [record["kind"] for record in joined["records"]] == [
        "SourceModel", "ExportedModel", "OptimizedModel", "ValidatedModel",
        "PublishedVersion", "Rollout", "Verdict", "Promoted",
    ]  # fmt: skip
    assert [json.loads((folder / f"{step}.json").read_text()) for step in steps] == joined["records"]
    assert joined["records"][0]["parent"] is None
    assert all(record["parent"].startswith("sha256:") for record in joined["records"][1:])


def test_a_first_release_records_relative_guardrails_as_not_applicable_and_absolute_ones_as_passed(place):
    release = place.status()["releases"][0]["id"]
    verdict = json.loads((place.store / "mlp/.releases" / release / "canary.json").read_text())
    phases = {rail["name"]: (rail["kind"], rail["phase"]) for rail in verdict["judgement"]["guardrails"]}
    assert phases["error_rate"] == ("absolute", "passed")
    assert phases["churn"] == ("relative", "not applicable")
    assert phases["error_ratio"] == ("relative", "not applicable")


def test_run_again_with_nothing_changed_it_does_nothing_and_says_so(place):
    before = sorted(path for path in place.store.rglob("*"))
    done = place.release()
    assert "nothing to do" in done.stdout
    assert done.stderr == ""
    assert sorted(path for path in place.store.rglob("*")) == before
    assert json.loads(place.release("--json").stdout)["noop"] is True


def test_plan_says_what_is_skipped_and_what_would_run(place):
    assert "nothing to do" in place.run("plan", str(place.spec), code=0).stdout
    plan = json.loads(place.run("plan", str(place.spec), "--json", code=0).stdout)
    assert [step["runs"] for step in plan["steps"]] == [False] * 8
    changed = place.run("plan", str(place.spec), "--set", "canary.budgets.churn=0.1", code=0)
    assert "run   source" in changed.stdout
    assert place.status()["stable"]["version"] == 1


def test_the_report_is_one_page_that_loads_nothing(place, tmp_path):
    page = tmp_path / "report.html"
    place.run("report", "latest", "-o", str(page), code=0)
    text = page.read_text()
    assert "<script" not in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    for said in ("mlp version 1", "serving_default", "error_rate", "pixels"):
        assert said in text


def test_the_same_bytes_released_again_are_the_same_version(place):
    done = place.release("--set", "canary.limits.min_requests=21")
    assert "the same bytes as before" in done.stderr
    row = place.status()
    assert row["stable"]["version"] == 1
    assert [server["version"] for server in row["live"]] == [1]


NO_MODEL = 'import sys; open(sys.argv[1] + "/notes.txt", "w").write("x")'

REFUSED = {
    "a trainer that fails": ("source.train.command=[python, -c, 'raise SystemExit(3)']", 10, "exit code 3"),
    "a trainer that writes nothing": ("source.train.command=[python, -c, 'pass']", 10, "wrote nothing"),
    "a trainer that writes no model": (
        f"source.train.command=[python, -c, '{NO_MODEL}', '{{output}}']",
        10,
        "notes.txt",
    ),
    "a program that is not there": ("source.train.command=[trian]", 10, "no program trian"),
    "a signature the model has not": (
        "export.signatures={serving_default: {inputs: {pixels: {}}, outputs: {scores: {source: logits}}}}",
        10,
        "logits",
    ),
    "a quality below the floor": ("validate.evaluate.metrics={accuracy: {minimum: 0.99}}", 10, "accuracy"),
    "a model too large": ("validate.limits.size_bytes=10", 10, "size"),
    "an input file that is not there": ("source.train.inputs=[nowhere]", 10, "nowhere"),
    "requests that are not there": ("canary.traffic.requests=nowhere.npz", 10, "nowhere.npz"),
}


@pytest.mark.parametrize(("change", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_told_and_the_previous_version_goes_on_serving(place, change, code, said):
    before = answers(place)
    done = place.release("--set", change, code=code)
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert np.array_equal(answers(place), before)
    assert place.status()["stable"]["version"] == 1
    leftovers = [path for path in place.state.rglob("*") if ".partial" in path.name or path.suffix == ".tmp"]
    assert leftovers == []


def test_a_rejected_release_is_not_tried_again_until_something_changes(place):
    change = "source.train.command=[python, -c, 'raise SystemExit(4)']"
    place.release("--set", change, code=10)
    again = place.release("--set", change, code=10)
    assert "nothing to do" in again.stdout
    assert "exit code 4" in again.stdout
    anew = place.release("--set", change, "--new", code=10)
    assert "nothing to do" not in anew.stdout


def test_a_busy_port_is_told_before_anything_is_done(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = place.release("--set", f"serving.local.rest_port={port}", code=20)
    assert f"port {port}" in done.stderr
    assert "[1/8]" not in done.stderr


def test_an_undecided_canary_ends_rolled_back(place):
    # So few requests cannot show that less than one in ten thousand fails: nothing can be promoted.
    words = ["canary.budgets.error_rate=0.0001", "canary.limits.max_requests=60"]
    done = place.release("--set", words[0], "--set", words[1], code=40)
    assert "ROLLED BACK" in done.stdout
    assert place.status()["stable"]["version"] == 1
    assert answers(place).shape == (1, 10)


def test_a_second_model_that_answers_otherwise_is_rolled_back_and_stable_serves_on(place, tmp_path):
    before = answers(place)
    trainer = (
        "import shutil, sys, pathlib, re\n"
        "shutil.copytree('trained', sys.argv[1], dirs_exist_ok=True)\n"
        "data = next(pathlib.Path(sys.argv[1], 'variables').glob('*.data-*'))\n"
        "raw = bytearray(data.read_bytes())\n"
        "raw[: len(raw) // 2] = raw[len(raw) // 4 : len(raw) // 4 + len(raw) // 2]\n"
        "data.write_bytes(raw)\n"
    )
    (place.folder / "mangle.py").write_text(trainer)
    change = "source.train.command=[python, mangle.py, '{output}']"
    done = place.release("--set", change, "--set", "source.train.inputs=[mangle.py, trained]", code=None)
    # Mangled weights break the checkpoint's checksums (rejected) or answer otherwise (rolled back): never promoted.
    assert done.returncode in {10, 40}
    assert np.array_equal(answers(place), before)


def test_down_stops_and_up_serves_the_same_again(place):
    before = answers(place)
    assert "stopped mlp version 1" in place.run("down", code=0).stdout
    assert place.status()["live"] == []
    assert "mlp version 1" in place.run("up", code=0).stdout
    assert np.array_equal(answers(place), before)
    assert "nothing was running" not in place.run("down", code=0).stdout
    assert "nothing was running" in place.run("down", code=0).stdout
    place.run("up", code=0)


def test_two_runs_of_one_model_do_not_release_at_once(place):
    lock = place.state / "releases" / "mlp.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = place.release("--new", code=30)
    assert "another run is releasing mlp" in done.stderr


def test_a_stable_server_that_died_is_brought_back_before_the_next_release_is_compared_with_it(place):
    server = json.loads((place.state / "serving/mlp/1/server.json").read_text())
    os.kill(server["pid"], signal.SIGKILL)
    done = place.release("--set", "canary.limits.min_requests=22")
    assert "stable is version 1 by the store: serving it again" in done.stderr
    assert answers(place).shape == (1, 10)


def test_an_endpoint_that_died_is_brought_back_by_up(place):
    before = answers(place)
    relay = json.loads((place.state / "serving/mlp/relay.json").read_text())
    os.kill(relay["pid"], signal.SIGKILL)
    assert "mlp version 1" in place.run("up", code=0).stdout
    assert np.array_equal(answers(place), before)


def test_a_model_of_the_same_name_from_another_store_is_refused_and_the_one_that_serves_is_left_alone(place):
    before = answers(place)
    done = place.release("--set", "store.uri=./other-store", code=10)
    assert "mlp is served here from another store" in done.stderr
    assert "[1/8]" not in done.stderr
    assert np.array_equal(answers(place), before)


def test_a_secret_that_is_not_here_is_no_rejection_and_the_release_goes_on_once_it_is(place, monkeypatch):
    change = ("--set", "source.train.env={API_TOKEN: {secret: s, key: k}}")
    monkeypatch.delenv("API_TOKEN", raising=False)
    done = place.release(*change, code=20)
    assert "export API_TOKEN" in done.stderr
    monkeypatch.setenv("API_TOKEN", "hunter22")
    done = place.release(*change, code=0)
    assert "promote" in done.stderr


def test_a_new_release_of_the_same_wishes_is_the_one_that_counts_from_then_on(place):
    change = ("--set", "validate.limits.load_s=119")
    first = json.loads(place.release(*change, "--json", "--quiet").stdout)
    second = json.loads(place.release(*change, "--json", "--quiet", "--new").stdout)
    again = json.loads(place.release(*change, "--json", "--quiet").stdout)
    assert first["release"] != second["release"]
    assert (again["release"], again["noop"]) == (second["release"], True)


def test_a_reader_that_goes_away_does_not_change_how_a_release_exits(place):
    change = "source.train.command=[python, -c, 'raise SystemExit(4)']"
    command = " ".join(shlex.quote(word) for word in place.command("run", str(place.spec), "--set", change))
    done = subprocess.run(
        ["/bin/bash", "-c", f"{command} | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 10


def test_a_canary_that_cannot_ask_ends_rolled_back_because_no_verdict_is_no_promotion(place):
    done = place.release("--set", "canary.traffic.signature=other", code=40)
    assert "no verdict was reached" in done.stdout
    assert "has no signature other" in done.stdout
    assert place.status()["stable"]["version"] == 1
