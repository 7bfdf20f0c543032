"""The Argo objects: their text means what it should, and a launcher that reads only it releases a model."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hera.workflows import models
from pydantic import ValidationError

from tests.pipelines.argo_launcher import Launcher, retries
from tests.pipelines.compiling import NO_MODEL, compiled, digits, images, outcome, overrides, stop_servers
from tests.pipelines.images import Image, Pod

Json = dict[str, Any]
REFERENCE = "source.train.env={API_KEY: {secret: vault, key: api}, MODE: fast}"
USERS_IMAGE = "source.train.image=me/trainer:1"
SCHEDULE = "schedule={cron: 30 3 * * 1, timezone: Europe/Berlin, starting_deadline_s: 600}"
KINDS = {"WorkflowTemplate": models.WorkflowTemplate, "CronWorkflow": models.CronWorkflow}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled("argo", tmp_path_factory.mktemp("argo"), SCHEDULE)


@pytest.fixture(scope="module")
def with_users_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compiled("argo", tmp_path_factory.mktemp("argo"), USERS_IMAGE, REFERENCE)


def workflow(text: str) -> Json:
    found: Json = next(yaml.safe_load_all(text))["spec"]
    return found


def pods(text: str) -> dict[str, Json]:
    return {each["name"]: each for each in workflow(text)["templates"] if "container" in each}


# ---------------------------------------------------------------------------------------------------------- the text


def strictly(text: str) -> None:
    """Parse every object into the models made from Argo's own API description, which refuse fields they do not know."""
    for each in yaml.safe_load_all(text):
        KINDS[each["kind"]].model_validate(each, extra="forbid")


def dangling(spec: Json) -> Iterator[str]:
    """Yield every reference of a WorkflowTemplate that leads nowhere; the models cannot see those."""
    templates = {each["name"]: each for each in spec["templates"]}
    yield from (f"no template {name}" for name in (spec["entrypoint"], spec["onExit"]) if name not in templates)
    declared = {each["name"] for each in spec["arguments"]["parameters"]}
    used = set(re.findall(r"{{workflow\.parameters\.([\w-]+)}}", str(spec["templates"])))
    yield from (f"no parameter {name}" for name in sorted(used - declared))
    known = r"{{(workflow\.(parameters\.[\w-]+|uid)|tasks\.[\w-]+\.outputs\.artifacts\.[\w-]+)}}"
    yield from (f"no variable {left}" for left in re.findall(r"{{.*?}}", re.sub(known, "", str(spec["templates"]))))
    for template in templates.values():
        yield from _of_dag(template, templates) if "dag" in template else _of_pod(template)


def _of_dag(template: Json, templates: Json) -> Iterator[str]:
    tasks = {task["name"]: task for task in template["dag"]["tasks"]}
    for name, task in tasks.items():
        if task["template"] not in templates:
            yield f"{name}: no template {task['template']}"
            continue
        yield from (f"{name}: no task {each}" for each in task.get("depends", "").split() if each not in tasks)
        wanted = {each["name"] for each in templates[task["template"]].get("inputs", {}).get("artifacts", ())}
        given = {each["name"]: each["from"] for each in task.get("arguments", {}).get("artifacts", ())}
        if wanted != set(given):
            yield f"{name}: artifacts {sorted(given)} are not the declared {sorted(wanted)}"
        for source in given.values():
            _, producer, _, _, key = source.strip("{}").split(".")
            made = templates.get(tasks.get(producer, {"template": ""})["template"], {}).get("outputs", {})
            if key not in {each["name"] for each in made.get("artifacts", ())}:
                yield f"{name}: {producer} makes no {key}"


def _of_pod(template: Json) -> Iterator[str]:
    volumes = {each["name"] for each in template.get("volumes", ())}
    mounts = template["container"].get("volumeMounts", ())
    yield from (f"{template['name']}: no volume {each['name']}" for each in mounts if each["name"] not in volumes)
    for each in template.get("outputs", {}).get("artifacts", ()):
        if not any(f"{each['path']}/".startswith(f"{mount['mountPath']}/") for mount in mounts):
            yield f"{template['name']}: no volume holds {each['path']}"


def test_argo_knows_every_field(text: str, with_users_image: str):
    for each in (text, with_users_image):
        strictly(each)
    with pytest.raises(ValidationError, match="retryStrateg"):
        strictly(text.replace("retryStrategy", "retryStrategi", 1))


def test_every_reference_leads_somewhere(text: str, with_users_image: str):
    for each in (text, with_users_image):
        assert list(dangling(workflow(each))) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("{{tasks.validate.outputs", "{{tasks.validated.outputs", "validated makes no validate"),
        ("artifacts.exported_model}}", "artifacts.export_model}}", "export makes no export_model"),
        ("template: canary", "template: canaries", "no template canaries"),
        ("onExit: finish", "onExit: finished", "no template finished"),
        ("depends: publish", "depends: published", "no task published"),
        ("{{workflow.parameters.state}}", "{{workflow.parameters.stat}}", "no parameter stat"),
        ("{{workflow.uid}}", "{{workflow.id}}", "no variable {{workflow.id}}"),
        ("- mountPath: /slipway/outputs", "- mountPath: /slipway", ""),
        ("- mountPath: /slipway/outputs", "- mountPath: /other", "no volume holds /slipway/outputs/source"),
    ],
)
def test_the_check_of_references_sees_a_broken_one(text: str, old: str, new: str, problem: str):
    assert old in text
    found = list(dangling(workflow(text.replace(old, new, 1))))
    assert any(problem in each for each in found) if problem else not found


def test_the_same_release_gives_the_same_text(text: str, tmp_path: Path):
    assert compiled("argo", tmp_path, SCHEDULE) == text


def test_workflows_of_one_model_wait_for_each_other(text: str):
    assert workflow(text)["synchronization"] == {"mutexes": [{"name": "release-digits"}]}


def test_a_schedule_never_overlaps_and_names_its_time_zone(text: str):
    _, cron = yaml.safe_load_all(text)
    assert cron["kind"] == "CronWorkflow"
    assert cron["spec"] == {
        "schedules": ["30 3 * * 1"],
        "timezone": "Europe/Berlin",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 600,
        "workflowSpec": {"workflowTemplateRef": {"name": "release-digits"}},
    }


def test_without_a_schedule_there_is_no_cron_workflow(with_users_image: str):
    assert [each["kind"] for each in yaml.safe_load_all(with_users_image)] == ["WorkflowTemplate"]


def test_every_pod_has_limits_and_a_deadline_and_no_privileges(with_users_image: str):
    spec = workflow(with_users_image)
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for name, pod in pods(with_users_image).items():
        asked = pod["container"]["resources"]
        assert asked["limits"] == asked["requests"], name
        assert set(asked["limits"]) == {"cpu", "memory"}
        assert 0 < pod["activeDeadlineSeconds"] <= spec["activeDeadlineSeconds"]
        assert pod["container"]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_a_secret_is_a_reference_in_the_pod_that_needs_it_and_in_no_other(with_users_image: str):
    env = {name: pod["container"]["env"] for name, pod in pods(with_users_image).items() if "env" in pod["container"]}
    assert env == {
        "train": [
            {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"key": "api", "name": "vault"}}},
            {"name": "MODE", "value": "fast"},
        ]
    }


@pytest.mark.parametrize(
    ("status", "code", "again"),
    [("Error", "-1", True), ("Failed", "-1", True), ("Failed", "143", True)]
    + [("Failed", code, False) for code in ("1", "2", "10", "20", "30", "40", "70", "130", "137")],
)
def test_a_pod_that_was_lost_is_started_again_and_no_other(text: str, status: str, code: str, *, again: bool):
    for pod in pods(text).values():
        assert retries(pod["retryStrategy"], status, code) is again
        assert pod["retryStrategy"]["limit"] == 2


def test_a_record_is_kept_as_the_json_it_is(text: str):
    archives = {
        each["name"]: each.get("archive")
        for pod in pods(text).values()
        for each in pod.get("outputs", {}).get("artifacts", ())
    }
    assert archives["validate"] == {"none": {}}
    assert archives["optimized_model"] is None


# ------------------------------------------------------------------------------------------------------ the launcher

TINY = """
kind: WorkflowTemplate
spec:
  entrypoint: both
  onExit: last
  arguments: {parameters: [{name: word, value: default}]}
  templates:
  - name: both
    dag:
      tasks:
      - {name: make, template: make}
      - name: read
        template: read
        depends: make
        arguments: {artifacts: [{name: made, from: "{{tasks.make.outputs.artifacts.made}}"}]}
  - name: make
    volumes: [{name: out, emptyDir: {}}]
    outputs: {artifacts: [{name: made, path: /out/made}]}
    container:
      image: plain
      command: [sh]
      args: [-c, 'echo "$0" > /out/made', "{{workflow.parameters.word}}"]
      volumeMounts: [{name: out, mountPath: /out}]
  - name: read
    inputs: {artifacts: [{name: made, path: /in/made}]}
    retryStrategy:
      limit: 2
      retryPolicy: Always
      expression: lastRetry.status == "Error" || lastRetry.exitCode in ["-1", "143"]
    container: {image: plain, command: [sh, -c], args: ["SCRIPT"]}
  - name: last
    container: {image: plain, command: [echo], args: ["over {{workflow.uid}}"]}
"""
PLAIN = Image((Path("/usr/bin"), Path("/bin")))


def tiny(folder: Path, script: str = "cat /in/made", **more: dict[str, Any]) -> Launcher:
    return Launcher(TINY.replace("SCRIPT", script), folder, {"plain": PLAIN}, **more)


def ended(pods: list[Pod]) -> list[tuple[str, int]]:
    return [(pod.node, pod.exit_code) for pod in pods]


def test_the_launcher_hands_on_artifacts_and_ends_with_the_exit_handler(tmp_path: Path):
    launcher = tiny(tmp_path, parameters={"word": "given"})
    assert launcher.run()
    assert ended(launcher.pods) == [("make", 0), ("read", 0), ("last", 0)]
    assert launcher.pods[1].log == "given\n"
    assert re.fullmatch(r"over [0-9a-f-]{36}\n", launcher.pods[2].log)


def test_the_launcher_runs_the_exit_handler_after_a_failure_and_is_red(tmp_path: Path):
    launcher = tiny(tmp_path, "exit 10")
    assert not launcher.run()
    assert ended(launcher.pods) == [("make", 0), ("read", 10), ("last", 0)], "a rejection is not tried again"


@pytest.mark.parametrize(("lost", "good"), [(2, True), (3, False)])
def test_the_launcher_starts_a_lost_pod_again_up_to_the_limit(tmp_path: Path, lost: int, *, good: bool):
    launcher = tiny(tmp_path, lost={"read": lost})
    assert launcher.run() is good
    assert [pod.node for pod in launcher.pods].count("read") == 3


def test_the_launcher_starts_a_pod_again_that_was_asked_to_end(tmp_path: Path):
    assert ended(_run(tiny(tmp_path, "exit 143"))) == [("make", 0), *[("read", 143)] * 3, ("last", 0)]


def _run(launcher: Launcher) -> list[Pod]:
    launcher.run()
    return launcher.pods


def test_the_launcher_refuses_a_variable_nobody_sets(tmp_path: Path):
    with pytest.raises(KeyError, match=r"pod\.name"):
        tiny(tmp_path, "{{pod.name}}").run()


# ------------------------------------------------------------------------------------------------------- the release


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("steps_env")
@pytest.mark.parametrize("image", [pytest.param(False, id="in-source"), pytest.param(True, id="users-image")])
def test_the_workflow_releases_the_model_although_pods_get_lost(tmp_path: Path, *, image: bool):
    launcher = Launcher(digits("argo", tmp_path, image=image), tmp_path, images(tmp_path), overrides(tmp_path))
    launcher.lost = {"publish": 1, "promote": 2}
    try:
        assert launcher.run(), "\n".join(f"{pod.node} {pod.exit_code}\n{pod.log}" for pod in launcher.pods)
    finally:
        stop_servers(tmp_path)
    assert outcome(tmp_path) == "promoted"
    assert {pod.node for pod in launcher.pods if pod.exit_code} == {"publish", "promote"}
    assert ("train" in {pod.node for pod in launcher.pods}) == image


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("steps_env")
def test_a_rejection_is_not_tried_again_and_the_workflow_is_red(tmp_path: Path):
    """The model is one file that is no model, so the step after `source` refuses it."""
    (tmp_path / "notes.txt").write_text("not a model\n")
    spec = tmp_path / "release.yaml"
    spec.write_text(NO_MODEL)
    given = {"base_dir": str(tmp_path), "state": str(tmp_path / "state")}
    launcher = Launcher(compiled("argo", tmp_path, spec=spec), tmp_path, images(tmp_path), given)
    assert not launcher.run()
    assert ended(launcher.pods) == [("source", 0), ("export", 10), ("finish", 10)], launcher.pods
    assert outcome(tmp_path) == "rejected"
