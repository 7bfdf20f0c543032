"""Plan -> Kubeflow Pipelines v2: the intermediate representation (IR) its API takes. The only file that imports kfp.

Each step is a container component whose one argument is ``{{$}}``, the ``ExecutorInput`` that Kubeflow's launcher fills
in; its image holds no kfp. Components are written as YAML text because kfp's decorators read type annotations at run
time and know no component without a Python function.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml
from kfp import compiler, components, dsl, kubernetes

from components.core.errors import Rejected
from components.core.spec import SecretRef, Train
from components.source.train import command
from pipelines.parameters import BASE_DIR, IDENTITY, RUN_ID, SPEC, STATE, TARGET
from pipelines.plan import Node, Plan
from pipelines.steps import Artifact, ArtifactKind

_TYPES = {ArtifactKind.RECORD: "Artifact", ArtifactKind.MODEL: "Model"}
_OUTCOME = "outcome"
_BACKOFF, _BACKOFF_FACTOR, _BACKOFF_MAX = "30s", 2.0, "300s"

_ENTER = 'mkdir -p "$0" && cd "$1" && shift && exec "$@"'
"""The launcher makes the folder above an output only, and knows no working directory; a trainer is promised both."""


def to_ir(plan: Plan) -> str:
    """Return the pipeline as YAML: the ``PipelineSpec``, and the ``PlatformSpec`` with what is Kubernetes' own.

    Equal plans give equal text for one version of kfp, whose version stands in ``sdkVersion``: it wrote the text.

    A pipeline holds no schedule: Kubeflow keeps those as recurring runs of a pipeline version, see :func:`recurring`.

    Raises:
        Rejected: kfp does not take a value of the spec.
    """
    try:
        pipeline = dsl.pipeline(name=plan.name, description=f"Releases the model {plan.model}.")(_function(plan))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "pipeline.yaml")
            compiler.Compiler().compile(pipeline, str(path))
            return path.read_text()
    except ValueError as error:
        raise Rejected(
            f"Kubeflow's compiler does not take this release: {error}",
            fix="resources are numbers with m for CPU, and with Ki, Mi or Gi for memory",
            reason="NOT_COMPILABLE",
        ) from error


def recurring(plan: Plan) -> str:
    """Return in words the recurring run that the spec's schedule asks for; empty without a schedule.

    Kubeflow's cron expressions have six fields, the first being seconds, so the spec's five get a leading 0. They are
    read in the time zone of its API server (``CRON_SCHEDULE_TIMEZONE``), not in one of the run's own. There is no
    mutex: ``max_concurrency`` 1 keeps runs of one schedule apart.
    """
    if plan.schedule is None:
        return ""
    return (
        f"not part of a Kubeflow pipeline: the schedule. Create a recurring run with cron `0 {plan.schedule.cron}` and "
        f"max_concurrency 1; Kubeflow reads it in its API server's time zone, the spec means {plan.schedule.timezone}"
    )


def nodes(plan: Plan) -> tuple[Node, ...]:
    """Return the nodes of the pipeline's chain: the plan's, and one that fails unless the release was promoted.

    Kubeflow makes an exit task the ``exit`` hook of an Argo DAG task, and Argo takes no account of a hook's failure
    (``workflow/controller/dag.go``, ``assessDAGPhase``): the exit step alone would leave a rolled back release green.
    """
    outcome = replace(plan.exit, name=_OUTCOME, does="fail unless the release was promoted", lost_pod_retries=0)
    return (*plan.nodes, outcome)


def component(node: Node) -> str:
    """Return a node as a reusable component: YAML for ``kfp.components.load_component_from_text``."""
    inputs: list[dict[str, str]] = [
        {"name": each.name, "type": "String", "description": each.does} for each in node.parameters
    ]
    inputs += [{"name": each.name, "type": _TYPES[each.kind]} for each in node.inputs]
    described: dict[str, object] = {"name": node.name, "description": node.does}
    if inputs:
        described["inputs"] = inputs
    if node.outputs:
        described["outputs"] = [{"name": each.name, "type": _TYPES[each.kind]} for each in node.outputs]
    described["implementation"] = {"container": {"image": node.image, "command": _command(node)}}
    return yaml.safe_dump(described, sort_keys=False, width=1_000_000)


def _command(node: Node) -> list[str]:
    if isinstance(node.runs, str):
        return ["slipway", "step", node.runs, "--executor-input", "{{$}}"]
    return _users_command(node.runs, node.outputs[0])


def _users_command(train: Train, output: Artifact) -> list[str]:
    path = f"{{{{$.outputs.artifacts['{output.name}'].path}}}}"
    base_dir = f"{{{{$.inputs.parameters['{BASE_DIR.name}']}}}}"
    return ["sh", "-c", _ENTER, path, base_dir, *command(train, output=path, inputs=base_dir)]


def _function(plan: Plan) -> Callable[..., None]:
    """Return the function kfp makes a pipeline of: it reads its arguments' names, types and defaults, and calls it."""
    defaults = plan.defaults

    def release(
        spec: str = defaults[SPEC.name],
        identity: str = defaults[IDENTITY.name],
        base_dir: str = defaults[BASE_DIR.name],
        target: str = defaults[TARGET.name],
        state: str = defaults[STATE.name],
    ) -> None:
        values = {
            SPEC.name: spec,
            IDENTITY.name: identity,
            BASE_DIR.name: base_dir,
            TARGET.name: target,
            STATE.name: state,
            RUN_ID.name: dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        }
        at_exit = _task(plan.exit, values)
        with dsl.ExitHandler(at_exit, name=plan.name):
            made: dict[Artifact, object] = {}
            previous = None
            for node in nodes(plan):
                task = _task(node, values | {each.name: made[each] for each in node.inputs})
                if node.lost_pod_retries:
                    # Kubeflow tries again after any failure; a step that finds its rejection recorded stops at once.
                    task.set_retry(node.lost_pod_retries, _BACKOFF, _BACKOFF_FACTOR, _BACKOFF_MAX)
                if previous is not None:
                    task.after(previous)
                made |= {each: task.outputs[each.name] for each in node.outputs}
                previous = task

    return release


def _task(node: Node, values: dict[str, object]) -> dsl.PipelineTask:
    wanted = [*(each.name for each in node.parameters), *(each.name for each in node.inputs)]
    task = components.load_component_from_text(component(node))(**{name: values[name] for name in wanted})
    task.set_display_name(node.name)
    task.set_caching_options(node.cacheable)
    task.set_cpu_request(node.resources.cpu).set_cpu_limit(node.resources.cpu)
    task.set_memory_request(node.resources.memory).set_memory_limit(node.resources.memory)
    kubernetes.set_timeout(task, node.timeout_s)
    kubernetes.set_security_context(task, run_as_non_root=True)
    for name, value in node.env.items():
        if isinstance(value, SecretRef):
            kubernetes.use_secret_as_env(task, value.secret, {value.key: name})
        else:
            task.set_env_variable(name, value)
    return task
