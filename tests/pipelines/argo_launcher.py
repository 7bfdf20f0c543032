"""Runs a WorkflowTemplate, reading nothing but the compiled YAML, as Argo's controller and executor do.

Source of what it does: Argo Workflows' documentation (variables, artifacts, retries, exit handlers, enhanced depends)
and its field reference. Every pod has folders of its own: a volume or artifact path of the YAML is a folder of the
test's, and stands in its place wherever a container's words name it, because nothing here can mount.

Where it disagrees with the real one, on purpose:

* No mounts, so paths in command and arguments are rewritten; a program that has a path compiled in would not be found.
* A model's artifact is copied as a folder, not packed as a .tgz.
* Retries follow at once, without backoff. No mutex, no schedule, no resources, no security contexts.
* Of ``depends`` only a task's name is known, of retry expressions only ``==``, ``in`` and ``||``; the rest is refused.
"""

import ast
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.pipelines.images import Image, Pod, run

Json = dict[str, Any]
_VARIABLE = re.compile(r"{{([^{}]*)}}")
_FROM = re.compile(r"^{{tasks\.([\w-]+)\.outputs\.artifacts\.([\w-]+)}}$")


@dataclass
class Launcher:
    """One workflow.

    Attributes:
        text: The compiled YAML.
        folder: Where artifacts and pods are.
        images: What stands for each image.
        parameters: Overrides, as ``argo submit -p`` takes them.
        secrets: Value by secret and key.
        limit_s: Seconds a container may take at most, whatever the template says.
        lost: How many pods of a node are lost (deleted, preempted) before one lives.
    """

    text: str
    folder: Path
    images: Mapping[str, Image]
    parameters: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    limit_s: float = 280.0
    lost: dict[str, int] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)

    def __post_init__(self) -> None:
        documents = list(yaml.safe_load_all(self.text))
        self._spec: Json = next(each for each in documents if each["kind"] == "WorkflowTemplate")["spec"]
        self._templates: dict[str, Json] = {each["name"]: each for each in self._spec["templates"]}
        declared = {each["name"]: each.get("value") for each in self._spec.get("arguments", {}).get("parameters", ())}
        unknown = set(self.parameters) - set(declared)
        assert not unknown, f"no such parameters: {unknown}"
        values = {**declared, **self.parameters}
        self._globals = {f"workflow.parameters.{name}": value for name, value in values.items()}
        self._globals["workflow.uid"] = str(uuid.uuid4())

    def run(self) -> bool:
        """Run the workflow and then its exit handler; return whether both succeeded.

        A failed exit handler fails a workflow that had succeeded.
        """
        good = self._dag(self._templates[self._spec["entrypoint"]])
        after = "onExit" not in self._spec or self._node(self._spec["onExit"], {}) is not None
        return good and after

    def _dag(self, template: Json) -> bool:
        waiting: dict[str, Json] = {task["name"]: task for task in template["dag"]["tasks"]}
        made: dict[str, dict[str, Path]] = {}
        while waiting:
            ready = [name for name, task in waiting.items() if _depends(task) <= set(made)]
            if not ready:
                return False
            for name in ready:
                task = waiting.pop(name)
                given = {
                    each["name"]: _artifact(each["from"], made)
                    for each in task.get("arguments", {}).get("artifacts", ())
                }
                outputs = self._node(task["template"], given)
                if outputs is None:
                    return False
                made[name] = outputs
        return True

    def _node(self, name: str, given: Mapping[str, Path]) -> dict[str, Path] | None:
        """Run a template until it succeeds or its retryStrategy says stop; none says that it failed."""
        template = self._templates[name]
        strategy = template.get("retryStrategy", {})
        tries = 1 + int(strategy.get("limit", 0))
        for _ in range(tries):
            status, code, outputs = self._pod(template, given)
            if status == "Succeeded":
                return outputs
            if not retries(strategy, status, code):
                return None
        return None

    def _pod(self, template: Json, given: Mapping[str, Path]) -> tuple[str, str, dict[str, Path]]:
        name, container = template["name"], template["container"]
        work = self.folder / "pods" / f"{len(self.pods)}-{name}"
        work.mkdir(parents=True)
        if self.lost.get(name, 0):
            self.lost[name] -= 1
            self.pods.append(Pod(name, (), -1, "the pod was deleted"))
            return "Error", "-1", {}
        places = self._places(template, work)
        for each in template.get("inputs", {}).get("artifacts", ()):
            _copy(given[each["name"]], _within(each["path"], places))
        words = [self._filled(word) for word in (*container["command"], *container.get("args", ()))]
        words = [_moved(word, places) for word in words]
        limit = min(self.limit_s, float(template.get("activeDeadlineSeconds", self.limit_s)))
        into = self._filled(container.get("workingDir", ""))
        if into:
            words = ["-C", into, *words]
        pod = run(name, self.images[container["image"]], words, env=self._env(container), cwd=work, timeout_s=limit)
        self.pods.append(pod)
        if pod.exit_code != 0:
            return "Failed", str(pod.exit_code), {}
        return self._outputs(template, places, work)

    def _places(self, template: Json, work: Path) -> dict[str, Path]:
        """Return the folder that stands for each path of the container; a volume's is there before it starts."""
        volumes = {each["name"] for each in template.get("volumes", ()) if "emptyDir" in each}
        places = {}
        for mount in template["container"].get("volumeMounts", ()):
            assert mount["name"] in volumes, f"no volume {mount['name']}"
            places[mount["mountPath"]] = work / "root" / mount["mountPath"].lstrip("/")
            places[mount["mountPath"]].mkdir(parents=True)
        for each in template.get("inputs", {}).get("artifacts", ()):
            places[each["path"]] = work / "root" / each["path"].lstrip("/")
        return places

    def _outputs(self, template: Json, places: Mapping[str, Path], work: Path) -> tuple[str, str, dict[str, Path]]:
        """Take the outputs; one that is not there makes the node an error, as the executor's wait container does."""
        outputs: dict[str, Path] = {}
        for each in template.get("outputs", {}).get("artifacts", ()):
            path, kept = _within(each["path"], places), work / "artifacts" / each["name"]
            if not path.exists():
                return "Error", "0", {}
            _copy(path, kept)
            outputs[each["name"]] = kept
        return "Succeeded", "0", outputs

    def _env(self, container: Json) -> dict[str, str]:
        env = {}
        for each in container.get("env", ()):
            reference = each.get("valueFrom", {}).get("secretKeyRef")
            env[each["name"]] = (
                self.secrets[reference["name"], reference["key"]] if reference else self._filled(each["value"])
            )
        return env

    def _filled(self, word: str) -> str:
        """Fill in variables; one that cannot be resolved is an error in Argo as well."""
        return _VARIABLE.sub(lambda found: self._globals[found.group(1).strip()], word)


def _depends(task: Json) -> set[str]:
    text = task.get("depends", "")
    assert re.fullmatch(r"[\w-]*", text), f"this launcher does not know depends: {text}"
    return {text} if text else set()


def _artifact(text: str, made: Mapping[str, Mapping[str, Path]]) -> Path:
    found = _FROM.match(text)
    assert found, f"this launcher does not know from: {text}"
    return made[found.group(1)][found.group(2)]


def retries(strategy: Json, status: str, code: str) -> bool:
    """Evaluate the expression that stands beside ``retryPolicy: Always``, in the part of its language that is ours."""
    if not strategy:
        return False
    assert strategy["retryPolicy"] == "Always"
    known = {"lastRetry.status": status, "lastRetry.exitCode": code}
    return any(_holds(clause.strip(), known) for clause in strategy["expression"].split("||"))


def _holds(clause: str, known: Mapping[str, str]) -> bool:
    name, operator, value = clause.split(" ", 2)
    wanted = ast.literal_eval(value)
    if operator == "==":
        return known[name] == wanted
    assert operator == "in", f"this launcher does not know {operator}"
    return known[name] in wanted


def _within(path: str, places: Mapping[str, Path]) -> Path:
    for prefix, place in places.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return place / path[len(prefix) :].lstrip("/")
    raise AssertionError(f"{path}: no volume holds it, and the executor cannot take it from the image's own layer")


def _moved(word: str, places: Mapping[str, Path]) -> str:
    for path, place in places.items():
        word = re.sub(rf"(?<![\w/.-]){re.escape(path)}(?![\w.-])", str(place), word)
    return word


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, to)
