"""Plan -> Argo Workflows: a WorkflowTemplate, and with a schedule a CronWorkflow. The only file that imports hera.

A step is ``slipway step NAME`` with its artifacts as files: Argo puts inputs below ``/slipway/inputs`` and takes
outputs from ``/slipway/outputs``. The YAML needs Argo 3.6 or newer (``mutexes``, ``schedules``).
"""

import yaml
from hera.workflows import models
from pydantic import BaseModel

from components.core.spec import Schedule, SecretRef, Train
from components.source.train import command
from manifests.document import dumper
from pipelines.parameters import BASE_DIR, IDENTITY, SPEC, STATE, TARGET
from pipelines.plan import Node, Plan
from pipelines.steps import Artifact, ArtifactKind

_INPUTS, _OUTPUTS = "/slipway/inputs", "/slipway/outputs"
_VOLUME = "outputs"
_DAG = "release"
_LABELS = {"app.kubernetes.io/managed-by": "slipway"}

_POD_LOST = 'lastRetry.status == "Error" || lastRetry.exitCode in ["-1", "143"]'
"""True of a pod that was deleted, evicted or preempted: Argo calls it an error, or finds no exit code (-1), or the
process was asked to end (143). A rejection exits 10 and what Slipway tried again in vain exits 20 or 30."""


def to_yaml(plan: Plan) -> str:
    """Return the objects as one multi-document YAML text for ``kubectl apply -f``; equal plans give equal text.

    Workflows of one model wait for each other (a mutex by its name), those of one schedule never overlap.
    """
    metadata = models.ObjectMeta(name=plan.name, namespace=plan.namespace, labels=_LABELS)
    template = models.WorkflowTemplate(
        api_version="argoproj.io/v1alpha1", kind="WorkflowTemplate", metadata=metadata, spec=_workflow(plan)
    )
    found: list[BaseModel] = [template]
    if plan.schedule is not None:
        found.append(_cron(plan, plan.schedule, metadata))
    return yaml.dump_all(
        [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in found],
        Dumper=dumper(yaml.SafeDumper),
        explicit_start=True,
        sort_keys=False,
        default_flow_style=False,
        width=1_000_000,
    )


def _workflow(plan: Plan) -> models.WorkflowSpec:
    return models.WorkflowSpec(
        entrypoint=_DAG,
        on_exit=plan.exit.name,
        service_account_name=plan.service_account,
        arguments=models.Arguments(
            parameters=[models.Parameter(name=name, value=value) for name, value in plan.defaults.items()]
        ),
        synchronization=models.Synchronization(mutexes=[models.Mutex(name=plan.name)]),
        active_deadline_seconds=plan.deadline_s,
        security_context=models.PodSecurityContext(
            run_as_non_root=True, seccomp_profile=models.SeccompProfile(type="RuntimeDefault")
        ),
        templates=[_dag(plan), *(_template(node) for node in (*plan.nodes, plan.exit))],
    )


def _cron(plan: Plan, schedule: Schedule, metadata: models.ObjectMeta) -> models.CronWorkflow:
    return models.CronWorkflow(
        api_version="argoproj.io/v1alpha1",
        kind="CronWorkflow",
        metadata=metadata,
        spec=models.CronWorkflowSpec(
            schedules=[schedule.cron],
            timezone=schedule.timezone,
            concurrency_policy="Forbid",
            starting_deadline_seconds=schedule.starting_deadline_s,
            workflow_spec=models.WorkflowSpec(workflow_template_ref=models.WorkflowTemplateRef(name=plan.name)),
        ),
    )


def _dag(plan: Plan) -> models.Template:
    tasks: list[models.DAGTask] = []
    for node in plan.nodes:
        given = [models.Artifact(name=each.name, from_=_made(plan, each)) for each in node.inputs]
        tasks.append(
            models.DAGTask(
                name=node.name,
                template=node.name,
                depends=tasks[-1].name if tasks else None,
                arguments=models.Arguments(artifacts=given) if given else None,
            )
        )
    return models.Template(name=_DAG, dag=models.DAGTemplate(tasks=tasks))


def _made(plan: Plan, artifact: Artifact) -> str:
    return f"{{{{tasks.{plan.producer(artifact).name}.outputs.artifacts.{artifact.name}}}}}"


def _template(node: Node) -> models.Template:
    inputs = [models.Artifact(name=each.name, path=f"{_INPUTS}/{each.name}") for each in node.inputs]
    outputs = [_output(each) for each in node.outputs]
    return models.Template(
        name=node.name,
        inputs=models.Inputs(artifacts=inputs) if inputs else None,
        outputs=models.Outputs(artifacts=outputs) if outputs else None,
        active_deadline_seconds=models.IntOrString(root=node.timeout_s),
        retry_strategy=models.RetryStrategy(
            limit=models.IntOrString(root=node.lost_pod_retries),
            retry_policy="Always",
            expression=_POD_LOST,
            backoff=models.Backoff(duration="30s", factor=models.IntOrString(root=2), max_duration="10m"),
        ),
        volumes=[models.Volume(name=_VOLUME, empty_dir=models.EmptyDirVolumeSource())],
        container=_container(node),
    )


def _output(artifact: Artifact) -> models.Artifact:
    """A record stays the JSON file it is, for people to read in the artifact repository; a model becomes a .tgz."""
    plain = models.ArchiveStrategy(none=models.NoneStrategy()) if artifact.kind is ArtifactKind.RECORD else None
    return models.Artifact(name=artifact.name, path=f"{_OUTPUTS}/{artifact.name}", archive=plain)


def _container(node: Node) -> models.Container:
    inputs, output = _parameter(BASE_DIR.name), _mount(node)
    train = node.runs if isinstance(node.runs, Train) else None
    words = command(train, output=output, inputs=inputs) if train else _step_command(node)
    limits = {"cpu": node.resources.cpu, "memory": node.resources.memory}
    return models.Container(
        image=node.image,
        command=words[:1],
        args=words[1:],
        working_dir=inputs if train else None,
        env=[_env(name, value) for name, value in node.env.items()] or None,
        resources=models.ResourceRequirements(requests=dict(limits), limits=limits),
        security_context=models.SecurityContext(
            allow_privilege_escalation=False, capabilities=models.Capabilities(drop=["ALL"])
        ),
        volume_mounts=[models.VolumeMount(name=_VOLUME, mount_path=output)],
    )


def _mount(node: Node) -> str:
    """The user's command is promised a folder that is there; a step makes its own outputs."""
    return f"{_OUTPUTS}/{node.outputs[0].name}" if isinstance(node.runs, Train) else _OUTPUTS


def _step_command(node: Node) -> list[str]:
    words = ["slipway", "--state", _parameter(STATE.name), "step", str(node.runs)]
    given = {"--spec-json": SPEC, "--identity": IDENTITY, "--base-dir": BASE_DIR, "--target": TARGET}
    for option, parameter in given.items():
        words += [option, _parameter(parameter.name)]
    words += ["--run-id", "{{workflow.uid}}"]
    for artifact in node.inputs:
        words += ["--input", f"{artifact.name}={_INPUTS}/{artifact.name}"]
    return [*words, "--outputs-dir", _OUTPUTS]


def _parameter(name: str) -> str:
    return f"{{{{workflow.parameters.{name}}}}}"


def _env(name: str, value: str | SecretRef) -> models.EnvVar:
    if isinstance(value, str):
        return models.EnvVar(name=name, value=value)
    reference = models.SecretKeySelector(name=value.secret, key=value.key)
    return models.EnvVar(name=name, value_from=models.EnvVarSource(secret_key_ref=reference))
