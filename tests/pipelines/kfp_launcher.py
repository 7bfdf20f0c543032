"""Runs a compiled KFP pipeline, reading nothing but its IR YAML, as Kubeflow's driver and launcher do.

Source of what it does: kubeflow/pipelines, commit 0045064, ``backend/src/v2/component/launcher_v2.go`` (named below by
function) and ``backend/src/v2/driver``. A container runs with a mirror folder of its own: input artifacts are
downloaded into it before, outputs uploaded from it after, so a step that reads what it did not declare finds nothing.

Where it disagrees with the real one, on purpose:

* URIs are ``file://`` below a folder of the test's; the real one mirrors gs://, s3://, minio:// at /gcs, /s3, /minio.
* A declared output that is missing fails the task; the real launcher of that commit warns (others fail).
* Retries follow at once, without backoff. No cache, no metadata store, no resources, no security contexts.
* Control flow other than an exit handler, and ``PipelineTaskFinalStatus``, are refused: our pipelines have none.
"""

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.pipelines.images import Image, Pod, run

Json = dict[str, Any]
_ALL_UPSTREAM_COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"


@dataclass
class Launcher:
    """One run of a pipeline.

    Attributes:
        ir: The compiled text.
        folder: Where mirror, object store and working directories are.
        images: What stands for each image.
        parameters: Overrides of the pipeline's parameters, as at submit.
        secrets: Value by secret and key.
        limit_s: Seconds a container may take at most, whatever the pipeline says.
    """

    ir: str
    folder: Path
    images: Mapping[str, Image]
    parameters: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    limit_s: float = 280.0
    pods: list[Pod] = field(default_factory=list)
    artifacts: dict[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        documents = list(yaml.safe_load_all(self.ir))
        self._spec: Json = documents[0]
        json_format.ParseDict(self._spec, pipeline_spec_pb2.PipelineSpec())
        platform: Json = documents[1] if len(documents) > 1 else {}
        self._platform: Json = (
            platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        )
        self._run_id = str(uuid.uuid4())
        self._mirror, self._objects = self.folder / "mirror", self.folder / "objects"

    def run(self) -> bool:
        """Run the pipeline and return whether all its tasks succeeded; exit tasks do not count.

        They become exit hooks (``backend/src/v2/compiler/argocompiler/dag.go``), whose failure Argo does not count.
        """
        declared = self._spec["root"].get("inputDefinitions", {}).get("parameters", {})
        unknown = set(self.parameters) - set(declared)
        assert not unknown, f"no such parameters: {unknown}"
        return self._dag(self._spec["root"], _with_defaults(self.parameters, declared), {})

    def _dag(self, component: Json, parameters: Mapping[str, Any], artifacts: Mapping[str, Json]) -> bool:
        tasks: Json = component["dag"]["tasks"]
        done: dict[str, bool] = {}
        made: dict[str, Mapping[str, Json]] = {}
        for name in _in_order(tasks):
            task = tasks[name]
            _refuse(task, "parameterIterator", "artifactIterator", "iteratorPolicy")
            upstream = [done[each] for each in task.get("dependentTasks", ())]
            policy = task.get("triggerPolicy", {})
            _refuse(policy, "condition")
            at_exit = policy.get("strategy") == _ALL_UPSTREAM_COMPLETED
            if not all(upstream) and not at_exit:
                done[name] = False
                continue
            good, made[name] = self._task(name, task, parameters, artifacts, made)
            done[name] = good or at_exit
        return all(done.values())

    def _task(
        self,
        name: str,
        task: Json,
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Json],
        made: Mapping[str, Mapping[str, Json]],
    ) -> tuple[bool, Mapping[str, Json]]:
        component = self._spec["components"][task["componentRef"]["name"]]
        given = task.get("inputs", {})
        values = {key: self._parameter(want, parameters) for key, want in given.get("parameters", {}).items()}
        found = {key: _artifact(want, artifacts, made) for key, want in given.get("artifacts", {}).items()}
        declared = component.get("inputDefinitions", {})
        values = _with_defaults(values, declared.get("parameters", {}))
        assert set(values) == set(declared.get("parameters", {})), f"{name}: parameters are not those declared"
        assert set(found) == set(declared.get("artifacts", {})), f"{name}: artifacts are not those declared"
        if "dag" in component:
            return self._dag(component, values, found), {}
        tries = 1 + int(task.get("retryPolicy", {}).get("maxRetryCount", 0))
        for _ in range(tries):
            good, outputs = self._container(name, component, values, found)
            if good:
                self.artifacts |= outputs
                return True, outputs
        return False, {}

    def _parameter(self, want: Json, parameters: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
        """``resolveInputs`` of the driver: a reference, or a constant in which run placeholders are filled in."""
        if "componentInputParameter" in want:
            return parameters[want["componentInputParameter"]]
        constant = want["runtimeValue"]["constant"]
        return constant.replace("{{$.pipeline_job_uuid}}", self._run_id) if isinstance(constant, str) else constant

    def _container(
        self, name: str, component: Json, values: Mapping[str, Any], found: Mapping[str, Json]
    ) -> tuple[bool, Mapping[str, Json]]:
        label = component["executorLabel"]
        container = self._spec["deploymentSpec"]["executors"][label]["container"]
        work = self.folder / "pods" / f"{len(self.pods)}-{name}"
        work.mkdir(parents=True)
        call = self._executor_input(name, component, values, found, work / "output_metadata.json")
        shutil.rmtree(self._mirror, ignore_errors=True)
        self._download(found)
        self._prepare_output_folders(call)
        fill = _placeholders(call)
        words = [_filled(word, fill) for word in (*container.get("command", ()), *container.get("args", ()))]
        platform = self._platform.get(label, {})
        env = {each["name"]: each["value"] for each in container.get("env", ())} | self._secret_env(platform)
        limit = min(self.limit_s, float(platform.get("activeDeadlineSeconds", self.limit_s)))
        pod = run(name, self.images[container["image"]], words, env=env, cwd=work, timeout_s=limit)
        self.pods.append(pod)
        if pod.exit_code != 0:
            return False, {}
        outputs = self._merged(call, work / "output_metadata.json")
        return self._upload(outputs), outputs

    def _executor_input(
        self, name: str, component: Json, values: Mapping[str, Any], found: Mapping[str, Json], answer: Path
    ) -> Json:
        """What the driver passes as ``--executor_input``, through the message it is (strictly, both ways)."""
        _refuse(component.get("outputDefinitions", {}), "parameters")
        place = f"file://{self._mirror}/{self._spec['pipelineInfo']['name']}/{self._run_id}/{name}/{uuid.uuid4()}"
        outputs = {
            key: {"artifacts": [{"name": key, "type": what["artifactType"], "uri": f"{place}/{key}"}]}
            for key, what in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        }
        call = {
            "inputs": {
                "parameterValues": dict(values),
                "artifacts": {key: {"artifacts": [value]} for key, value in found.items()},
            },
            "outputs": {"artifacts": outputs, "outputFile": str(answer)},
        }
        message = json_format.ParseDict(call, pipeline_spec_pb2.ExecutorInput())
        return json_format.MessageToDict(message)

    def _prepare_output_folders(self, call: Json) -> None:
        """``prepareOutputFolders``: the folder above each output; the output itself is the component's to make."""
        for each in _first(call["outputs"]):
            _local(each["uri"]).parent.mkdir(parents=True, exist_ok=True)

    def _download(self, found: Mapping[str, Json]) -> None:
        """``downloadArtifacts``: copy every input below its own local path."""
        for each in found.values():
            path = _local(each["uri"])
            _copy(self._objects / path.relative_to(self._mirror), path)

    def _upload(self, outputs: Mapping[str, Json]) -> bool:
        """``uploadOutputArtifacts``: copy every declared output from its local path; a missing one fails the task."""
        for each in outputs.values():
            path = _local(each["uri"])
            if not path.exists():
                return False
            _copy(path, self._objects / path.relative_to(self._mirror))
        return True

    def _merged(self, call: Json, answer: Path) -> dict[str, Json]:
        """``getExecutorOutputFile`` and ``mergeRuntimeArtifacts``: URI and metadata the component has written."""
        outputs = {each["name"]: each for each in _first(call["outputs"])}
        if answer.exists():
            said = json_format.MessageToDict(json_format.Parse(answer.read_text(), pipeline_spec_pb2.ExecutorOutput()))
            for name, listed in said.get("artifacts", {}).items():
                new = listed["artifacts"][0]
                outputs[name]["uri"] = new.get("uri") or outputs[name]["uri"]
                outputs[name].setdefault("metadata", {}).update(new.get("metadata", {}))
        return outputs

    def _secret_env(self, platform: Json) -> dict[str, str]:
        return {
            pair["envVar"]: self.secrets[each["secretName"], pair["secretKey"]]
            for each in platform.get("secretAsEnv", ())
            for pair in each["keyToEnv"]
        }


def _with_defaults(values: Mapping[str, Any], declared: Json) -> dict[str, Any]:
    defaults = {name: what["defaultValue"] for name, what in declared.items() if "defaultValue" in what}
    return {**defaults, **values}


def _artifact(want: Json, artifacts: Mapping[str, Json], made: Mapping[str, Mapping[str, Json]]) -> Json:
    if "componentInputArtifact" in want:
        return artifacts[want["componentInputArtifact"]]
    source = want["taskOutputArtifact"]
    return made[source["producerTask"]][source["outputArtifactKey"]]


def _in_order(tasks: Json) -> Iterator[str]:
    """Yield tasks after those they depend on; in KFP an artifact's producer is always in ``dependentTasks`` too."""
    waiting = dict(tasks)
    while waiting:
        ready = [name for name, task in waiting.items() if not set(task.get("dependentTasks", ())) & set(waiting)]
        assert ready, f"a circle: {sorted(waiting)}"
        for name in ready:
            del waiting[name]
            yield name


def _placeholders(call: Json) -> dict[str, str]:
    """``getPlaceholders``."""
    fill = {"{{$}}": json.dumps(call)}
    for side in ("inputs", "outputs"):
        for name, listed in call.get(side, {}).get("artifacts", {}).items():
            uri = listed["artifacts"][0]["uri"]
            fill[f"{{{{$.{side}.artifacts['{name}'].uri}}}}"] = uri
            fill[f"{{{{$.{side}.artifacts['{name}'].path}}}}"] = str(_local(uri))
    for name, value in call.get("inputs", {}).get("parameterValues", {}).items():
        fill[f"{{{{$.inputs.parameters['{name}']}}}}"] = value if isinstance(value, str) else json.dumps(value)
    return fill


def _filled(word: str, fill: Mapping[str, str]) -> str:
    """``executeV2``: plain replacement, one placeholder after the other."""
    for placeholder, value in fill.items():
        word = word.replace(placeholder, value)
    return word


def _first(side: Json) -> list[Json]:
    return [listed["artifacts"][0] for listed in side.get("artifacts", {}).values()]


def _local(uri: str) -> Path:
    assert uri.startswith("file://"), uri
    return Path(uri.removeprefix("file://"))


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to)
    else:
        shutil.copyfile(source, to)


def _refuse(part: Json, *keys: str) -> None:
    for key in keys:
        assert key not in part, f"this launcher does not know {key}"
