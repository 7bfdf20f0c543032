"""The Kubeflow pipeline: its text means what it should, and a launcher that reads only it releases a model."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, components, dsl
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.cli import main
from tests.pipelines.compiling import EXAMPLE, NO_MODEL, compiled, digits, images, outcome, overrides, stop_servers
from tests.pipelines.images import Image
from tests.pipelines.kfp_launcher import Launcher

Json = dict[str, Any]
REFERENCE = "source.train.env={API_KEY: {secret: vault, key: api}, MODE: fast}"
USERS_IMAGE = "source.train.image=me/trainer:1"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled("kubeflow", tmp_path_factory.mktemp("kubeflow"))


@pytest.fixture(scope="module")
def with_users_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled("kubeflow", tmp_path_factory.mktemp("kubeflow"), USERS_IMAGE, REFERENCE)


def documents(text: str) -> tuple[Json, Json]:
    spec, platform = yaml.safe_load_all(text)
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


# ---------------------------------------------------------------------------------------------------------- the text


def strictly(text: str) -> Json:
    """Parse both documents into Kubeflow's own messages, which refuse fields they do not know."""
    spec, platform = yaml.safe_load_all(text)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    return spec


def dangling(spec: Json) -> Iterator[str]:
    """Yield every reference of a PipelineSpec that leads nowhere; the messages cannot see those."""
    parts: Json = spec["components"]
    for name, component in {"root": spec["root"], **parts}.items():
        for task_name, task in component.get("dag", {}).get("tasks", {}).items():
            yield from (f"{name}.{task_name}: {problem}" for problem in _of_task(task, component, parts))
        label = component.get("executorLabel")
        if "dag" not in component and label not in spec["deploymentSpec"]["executors"]:
            yield f"{name}: no executor {label}"
    for component in parts.values():
        if "executorLabel" in component:
            yield from _of_words(component, spec["deploymentSpec"]["executors"].get(component["executorLabel"], {}))


def _of_task(task: Json, around: Json, parts: Json) -> Iterator[str]:
    siblings: Json = around["dag"]["tasks"]
    component = parts.get(task["componentRef"]["name"])
    if component is None:
        yield f"no component {task['componentRef']['name']}"
        return
    yield from (f"no task {name}" for name in task.get("dependentTasks", ()) if name not in siblings)
    for kind in ("parameters", "artifacts"):
        given = task.get("inputs", {}).get(kind, {})
        declared = component.get("inputDefinitions", {}).get(kind, {})
        if set(given) != {name for name, what in declared.items() if name in given or not what.get("isOptional")}:
            yield f"{kind} {sorted(given)} are not the declared {sorted(declared)}"
        for want in given.values():
            source = want.get("componentInputParameter") or want.get("componentInputArtifact")
            if source and source not in around.get("inputDefinitions", {}).get(kind, {}):
                yield f"no input {source} around it"
            if made := want.get("taskOutputArtifact"):
                producer = siblings.get(made["producerTask"], {"componentRef": {"name": ""}})["componentRef"]["name"]
                outputs = parts.get(producer, {}).get("outputDefinitions", {}).get("artifacts", {})
                if made["outputArtifactKey"] not in outputs:
                    yield f"{made['producerTask']} makes no {made['outputArtifactKey']}"
                if made["producerTask"] not in task.get("dependentTasks", ()):
                    yield f"does not wait for {made['producerTask']}"


def _of_words(component: Json, executor: Json) -> Iterator[str]:
    words = " ".join(executor.get("container", {}).get("command", ()))
    for side, kind, name in re.findall(r"{{\$\.(inputs|outputs)\.(parameters|artifacts)\['([^']*)'\]", words):
        key = "inputDefinitions" if side == "inputs" else "outputDefinitions"
        if name not in component.get(key, {}).get(kind, {}):
            yield f"{component['executorLabel']}: no {side[:-1]} {name}"


def test_kubeflow_knows_every_field(text: str, with_users_image: str):
    for each in (text, with_users_image):
        strictly(each)
    with pytest.raises(json_format.ParseError, match="cachingOption"):
        strictly(text.replace("cachingOptions", "cachingOption", 1))


def test_every_reference_leads_somewhere(text: str, with_users_image: str):
    for each in (text, with_users_image):
        assert list(dangling(strictly(each))) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("producerTask: validate", "producerTask: validated", "validated makes no validate"),
        ("outputArtifactKey: exported_model", "outputArtifactKey: export_model", "export makes no export_model"),
        ("executorLabel: exec-canary", "executorLabel: exec-canaries", "no executor exec-canaries"),
        ("name: comp-deploy", "name: comp-deployed", "no component comp-deployed"),
        ("- publish\n", "- published\n", "no task published"),
        ("componentInputParameter: pipelinechannel--state", "componentInputParameter: stat", "no input stat around"),
    ],
)
def test_the_check_of_references_sees_a_broken_one(text: str, old: str, new: str, problem: str):
    assert old in text
    assert any(problem in found for found in dangling(next(yaml.safe_load_all(text.replace(old, new, 1)))))


def test_the_same_release_gives_the_same_text(text: str, tmp_path: Path):
    assert compiled("kubeflow", tmp_path) == text


def test_every_container_has_limits_and_may_not_be_root(with_users_image: str):
    spec, platform = documents(with_users_image)
    executors = spec["deploymentSpec"]["executors"]
    assert set(executors) == set(platform)
    for label, executor in executors.items():
        asked = executor["container"]["resources"]
        assert asked["resourceCpuLimit"] == asked["resourceCpuRequest"], label
        assert asked["resourceMemoryLimit"] == asked["resourceMemoryRequest"], label
        assert int(platform[label]["activeDeadlineSeconds"]) > 0
        assert platform[label]["securityContext"] == {"runAsNonRoot": True}


def test_lost_pods_are_started_again_but_not_what_tells_the_outcome(text: str):
    spec, _ = documents(text)
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    retries = {name: task.get("retryPolicy", {}).get("maxRetryCount", 0) for name, task in tasks.items()}
    assert retries.pop("outcome") == 0, "it fails on purpose"
    assert set(retries.values()) == {2}
    assert "retryPolicy" not in spec["root"]["dag"]["tasks"]["finish"]


def test_the_exit_step_runs_however_the_release_went(text: str):
    finish = documents(text)[0]["root"]["dag"]["tasks"]["finish"]
    assert finish["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert finish["dependentTasks"] == ["exit-handler-1"]


def test_a_release_that_was_not_promoted_is_red_without_help_of_the_exit_step(text: str):
    spec, _ = documents(text)
    last = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]["outcome"]
    assert last["dependentTasks"] == ["promote"]
    words = spec["deploymentSpec"]["executors"]["exec-outcome"]["container"]["command"]
    assert words == ["slipway", "step", "finish", "--executor-input", "{{$}}"]


def test_a_run_is_told_apart_by_kubeflows_own_id(text: str):
    for task in documents(text)[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"].values():
        assert task["inputs"]["parameters"]["run_id"] == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}


def test_a_secret_is_a_reference_in_the_pod_that_needs_it_and_in_no_other(with_users_image: str):
    spec, platform = documents(with_users_image)
    with_secrets = {label: found["secretAsEnv"] for label, found in platform.items() if "secretAsEnv" in found}
    assert list(with_secrets) == ["exec-train"]
    (reference,) = with_secrets["exec-train"]
    assert reference["secretName"] == "vault"
    assert reference["keyToEnv"] == [{"envVar": "API_KEY", "secretKey": "api"}]
    assert spec["deploymentSpec"]["executors"]["exec-train"]["container"]["env"] == [{"name": "MODE", "value": "fast"}]


def test_the_schedule_is_told_as_the_recurring_run_it_asks_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    compiled("kubeflow", tmp_path, "schedule={cron: 30 3 * * 1, timezone: Europe/Berlin}")
    told = capsys.readouterr().err
    assert "`0 30 3 * * 1`" in told
    assert "Europe/Berlin" in told


def test_each_step_is_a_component_that_kfp_loads(tmp_path: Path, text: str):
    words = ["compile", str(EXAMPLE / "release.yaml"), "--engine", "kubeflow", "-o", str(tmp_path / "whole.yaml")]
    for each in ("engine.model_image", "serving.image", "serving.tools_image"):
        words += ["--set", f"{each}=example.invalid/image@sha256:{'0' * 64}"]
    assert main([*words, "--components", str(tmp_path / "components")]) == 0
    files = sorted((tmp_path / "components").iterdir())
    names = {label.removeprefix("exec-") for label in documents(text)[0]["deploymentSpec"]["executors"]}
    assert {file.stem for file in files} == names - {"outcome"}
    for file in files:
        assert components.load_component_from_file(str(file)).name == file.stem


def test_what_kfp_does_not_take_is_refused_in_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(AssertionError):
        compiled("kubeflow", tmp_path, USERS_IMAGE, "source.train.resources.memory=1k")
    assert "Invalid memory string" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ the launcher

PLAIN = Image((Path("/usr/bin"), Path("/bin")))
MAKER = """
name: make
inputs: [{name: word, type: String}]
outputs: [{name: made, type: Artifact}]
implementation:
  container:
    image: plain
    command: [sh, -c, 'echo "$0" > "$1"', {inputValue: word}, {outputPath: made}]
"""
READER = """
name: read
inputs: [{name: made, type: Artifact}]
outputs: [{name: copy, type: Model}]
implementation:
  container:
    image: plain
    command: [sh, -c, 'SCRIPT', {inputPath: made}, {outputPath: copy}, "{{$}}"]
"""
LAST = """
name: last
inputs: [{name: run, type: String}]
implementation:
  container: {image: plain, command: [echo, over, {inputValue: run}]}
"""


def tiny(folder: Path, script: str, *, retries: int = 0) -> Launcher:
    """Return a launcher of a pipeline that kfp itself has compiled: make, then read; last, whatever happened."""
    make, last = (components.load_component_from_text(each) for each in (MAKER, LAST))
    read = components.load_component_from_text(READER.replace("SCRIPT", script))

    def pipeline(word: str = "default") -> None:
        with dsl.ExitHandler(last(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)):
            made = make(word=word).outputs["made"]
            read(made=made).set_retry(retries)

    path = folder / "tiny.yaml"
    compiler.Compiler().compile(dsl.pipeline(name="tiny")(pipeline), str(path))
    return Launcher(path.read_text(), folder, {"plain": PLAIN})


def test_the_launcher_hands_on_artifacts_and_ends_with_the_exit_step(tmp_path: Path):
    launcher = tiny(tmp_path, 'mkdir "$1" && cp "$0" "$1/word"')
    launcher.parameters = {"word": "given"}
    assert launcher.run()
    assert [pod.node for pod in launcher.pods] == ["make", "read", "last"]
    (copy,) = (tmp_path / "objects").rglob("word")
    assert copy.read_text() == "given\n"
    assert re.fullmatch(r"over [0-9a-f-]{36}\n", launcher.pods[-1].log)


def test_the_launcher_takes_the_default_of_a_parameter(tmp_path: Path):
    launcher = tiny(tmp_path, 'cp "$0" "$1"')
    assert launcher.run()
    assert launcher.pods[0].words[3] == "default"


def test_the_launcher_runs_the_exit_step_after_a_failure_and_is_red(tmp_path: Path):
    launcher = tiny(tmp_path, "exit 10", retries=2)
    assert not launcher.run()
    assert [(pod.node, pod.exit_code) for pod in launcher.pods] == [
        ("make", 0), ("read", 10), ("read", 10), ("read", 10), ("last", 0),
    ]  # fmt: skip


def test_the_launcher_fails_a_task_that_lacks_a_declared_output(tmp_path: Path):
    assert not tiny(tmp_path, "true").run()


def test_the_launcher_leaves_nothing_to_read_that_was_not_declared(tmp_path: Path):
    launcher = tiny(tmp_path, 'cp "$0" "$1"')
    launcher.run()
    assert not [path for path in (tmp_path / "mirror").rglob("*") if path.name == "made" and "read" not in str(path)]


def test_the_launcher_takes_metadata_that_a_step_answers_and_no_unknown_field(tmp_path: Path):
    answer = (
        'f=$(echo "$2" | sed "s/.*outputFile\\": \\"\\([^\\"]*\\).*/\\1/"); cp "$0" "$1";'
        'echo "{\\"artifacts\\": {\\"copy\\": {\\"FIELD\\": [{\\"metadata\\": {\\"size\\": 3}}]}}}" > "$f"'
    ).replace("'", "''")
    (tmp_path / "good").mkdir()
    good = tiny(tmp_path / "good", answer.replace("FIELD", "artifacts"))
    assert good.run()
    assert good.artifacts["copy"]["metadata"] == {"size": 3.0}
    (tmp_path / "bad").mkdir()
    with pytest.raises(json_format.ParseError):
        tiny(tmp_path / "bad", answer.replace("FIELD", "artefacts")).run()


# ------------------------------------------------------------------------------------------------------- the release


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("steps_env")
@pytest.mark.parametrize("image", [pytest.param(False, id="in-source"), pytest.param(True, id="users-image")])
def test_the_pipeline_releases_the_model(tmp_path: Path, *, image: bool):
    launcher = Launcher(digits("kubeflow", tmp_path, image=image), tmp_path, images(tmp_path), overrides(tmp_path))
    try:
        assert launcher.run(), "\n".join(f"{pod.node} {pod.exit_code}\n{pod.log}" for pod in launcher.pods)
    finally:
        stop_servers(tmp_path)
    assert outcome(tmp_path) == "promoted"
    assert all(pod.exit_code == 0 for pod in launcher.pods)
    assert ("train" in {pod.node for pod in launcher.pods}) == image
    assert launcher.artifacts["promote"]["metadata"]["summary"]
    assert launcher.artifacts["optimized_model"]["metadata"]["digest"].startswith("sha256:")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("steps_env")
def test_a_release_that_was_rolled_back_is_red_although_each_step_ended_well(tmp_path: Path):
    """No server answers within a microsecond; a parameter of the run says that it must."""
    spec = json.loads(_default(digits("kubeflow", tmp_path, image=False), "spec"))
    spec["canary"]["budgets"]["latency_ms"] = 0.001
    spec["optimize"] = {"profile": "none"}
    spec["source"]["train"]["args"]["epochs"] = 1
    spec["validate"]["evaluate"]["metrics"] = {"accuracy": {}}
    given = {**overrides(tmp_path), "spec": json.dumps(spec)}
    launcher = Launcher(digits("kubeflow", tmp_path, image=False), tmp_path, images(tmp_path), given)
    try:
        assert not launcher.run()
    finally:
        stop_servers(tmp_path)
    assert outcome(tmp_path) == "rolled back"
    assert [(pod.node, pod.exit_code) for pod in launcher.pods if pod.exit_code] == [("outcome", 40), ("finish", 40)]


def _default(text: str, parameter: str) -> str:
    return str(documents(text)[0]["root"]["inputDefinitions"]["parameters"][parameter]["defaultValue"])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("steps_env")
def test_a_rejected_release_is_red_and_a_new_try_of_the_step_stops_at_once(tmp_path: Path):
    """The model is one file that is no model, so the step after `source` refuses it."""
    (tmp_path / "notes.txt").write_text("not a model\n")
    spec = tmp_path / "release.yaml"
    spec.write_text(NO_MODEL)
    given = {"base_dir": str(tmp_path), "state": str(tmp_path / "state")}
    launcher = Launcher(compiled("kubeflow", tmp_path, spec=spec), tmp_path, images(tmp_path), given)
    assert not launcher.run()
    tried = [(pod.node, pod.exit_code) for pod in launcher.pods]
    assert tried == [("source", 0), ("export", 10), ("export", 10), ("export", 10), ("finish", 10)], launcher.pods
    assert outcome(tmp_path) == "rejected"
