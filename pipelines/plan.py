"""Spec and step table -> Plan: a linear chain of nodes plus an exit node, as data that both engines are written from.

Gates live inside the steps, so no engine has to branch: a rejected release is a failed node, and a verdict to roll back
is a result that the exit node turns into a red run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from components.core.errors import Rejected
from components.core.release import Identity, canonical
from components.core.spec import ReleaseSpec, Schedule, SecretRef, Train
from manifests.spec import Resources
from pipelines.parameters import (
    BASE_DIR,
    IDENTITY,
    PARAMETERS,
    SPEC,
    STATE,
    TARGET,
    Parameter,
    identity_to_json,
)
from pipelines.steps import FINISH, STEPS, TRAINED_MODEL, Artifact, Image, StepDef

TRAIN = "train"
"""The node that runs the user's own image; there is one only if ``source.train.image`` names it."""

DEFAULT_TARGET = "local"
DEFAULT_STATE = "/tmp/slipway"  # noqa: S108 - within a pod, where nobody else is

ARGUMENT_LIMIT = 128 * 1024
"""Bytes of the longest single argument Linux starts a program with (``MAX_ARG_STRLEN`` in ``execve(2)``)."""

_ROOM_FOR_ARTIFACTS = 16 * 1024
"""Bytes left for names, URIs and metadata of artifacts, which Kubeflow puts into the same argument."""

_ENGINE_MARGIN_S = 600
"""Seconds an engine waits longer than the step itself: for pulling the image and moving artifacts, and so that a step
that is too slow ends by its own deadline, with a message that says so."""

_LOST_POD_RETRIES = 2
_FINISH_TIMEOUT_S = 900
_FINISH_RESOURCES = Resources(cpu="500m", memory="512Mi")


@dataclass(frozen=True, slots=True)
class Node:
    """One pod of a pipeline.

    Attributes:
        name: Its name, unique in the plan.
        does: What it does, in one line.
        image: Image it runs.
        runs: The user's own command, or the name that ``slipway step`` is given.
        parameters: Pipeline parameters it is given.
        inputs: Artifacts it reads; every one is an output of an earlier node.
        outputs: Artifacts it makes.
        env: Environment variables: values, or references to secrets.
        resources: What the pod asks for.
        timeout_s: Seconds after which the engine ends the pod.
        lost_pod_retries: How often the engine starts it again after its pod was lost. Errors of Slipway's own are tried
            again inside the step.
        cacheable: Whether the engine may reuse its outputs for equal inputs.
    """

    name: str
    does: str
    image: str
    runs: Train | str
    parameters: tuple[Parameter, ...]
    inputs: tuple[Artifact, ...]
    outputs: tuple[Artifact, ...]
    env: Mapping[str, str | SecretRef]
    resources: Resources
    timeout_s: int
    lost_pod_retries: int
    cacheable: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A release as a pipeline.

    Attributes:
        model: Model name.
        nodes: In order; each runs after the one before it.
        exit: Runs when all is over, however it went.
        defaults: Default of each pipeline parameter that a run may override. The run's id is the engine's to tell.
        namespace: Namespace of the pods, where the engine lets a pipeline say so.
        service_account: ServiceAccount of the pods, likewise.
        schedule: When it runs by itself.
    """

    model: str
    nodes: tuple[Node, ...]
    exit: Node
    defaults: Mapping[str, str]
    namespace: str
    service_account: str
    schedule: Schedule | None

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return f"release-{self.model}"

    @property
    def deadline_s(self) -> int:
        """Seconds the nodes may take together, lost pods included; the exit node comes after that."""
        return sum(node.timeout_s * (1 + node.lost_pod_retries) for node in self.nodes)

    def producer(self, artifact: Artifact) -> Node:
        """Return the node that makes an artifact."""
        return next(node for node in self.nodes if artifact in node.outputs)


def plan(spec: ReleaseSpec, identity: Identity) -> Plan:
    """Return a release as a pipeline.

    Args:
        spec: The resolved spec.
        identity: Its identity, computed where the declared inputs are at hand.

    Raises:
        Rejected: An image is missing, the spec is too long for an argument, or it holds what engines would fill in.
    """
    _require_images(spec)
    text = canonical(spec).decode()
    who = identity_to_json(identity)
    _require_short(text, who)
    _require_literal(text)
    own = _training(spec)
    nodes = tuple(_step(spec, step) for step in STEPS)
    return Plan(
        model=spec.model,
        nodes=(own, *nodes) if own else nodes,
        exit=_finish(spec),
        defaults=MappingProxyType(
            {
                SPEC.name: text,
                IDENTITY.name: who,
                BASE_DIR.name: spec.engine.base_dir,
                TARGET.name: DEFAULT_TARGET,
                STATE.name: DEFAULT_STATE,
            }
        ),
        namespace=spec.engine.namespace,
        service_account=spec.engine.service_account,
        schedule=spec.schedule,
    )


def _training(spec: ReleaseSpec) -> Node | None:
    train = spec.source.train
    if train is None or not train.image:
        return None
    return Node(
        name=TRAIN,
        does="run the user's own training image",
        image=train.image,
        runs=train,
        parameters=(BASE_DIR,),
        inputs=(),
        outputs=(TRAINED_MODEL,),
        env=train.env,
        resources=train.resources,
        timeout_s=train.timeout_s + _ENGINE_MARGIN_S,
        lost_pod_retries=_LOST_POD_RETRIES,
        cacheable=False,
    )


def _step(spec: ReleaseSpec, step: StepDef) -> Node:
    first = step is STEPS[0]
    train = spec.source.train if first else None
    adopts = train is not None and bool(train.image)
    within = train if not adopts else None
    return Node(
        name=step.name,
        does=step.does,
        image=_image(spec, step.image),
        runs=step.name,
        parameters=PARAMETERS,
        inputs=(TRAINED_MODEL, *step.inputs) if adopts else step.inputs,
        outputs=step.outputs,
        env=_secrets(within) if within else MappingProxyType({}),
        resources=within.resources if within else step.resources,
        timeout_s=step.timeout_s(spec) + _ENGINE_MARGIN_S,
        lost_pod_retries=_LOST_POD_RETRIES,
        cacheable=step.cacheable,
    )


def _finish(spec: ReleaseSpec) -> Node:
    return Node(
        name=FINISH,
        does="end the release, however it went: roll back what has no verdict, join the evidence",
        image=_image(spec, Image.DEPLOY),
        runs=FINISH,
        parameters=PARAMETERS,
        inputs=(),
        outputs=(),
        env=MappingProxyType({}),
        resources=_FINISH_RESOURCES,
        timeout_s=_FINISH_TIMEOUT_S + _ENGINE_MARGIN_S,
        lost_pod_retries=_LOST_POD_RETRIES,
        cacheable=False,
    )


def _secrets(train: Train) -> Mapping[str, SecretRef]:
    """Return what the command's environment needs from outside; plain values the source step sets itself."""
    return MappingProxyType({name: value for name, value in train.env.items() if isinstance(value, SecretRef)})


def _image(spec: ReleaseSpec, which: Image) -> str:
    found = spec.engine.model_image if which is Image.MODEL else spec.serving.tools_image
    return found or ""


def _require_images(spec: ReleaseSpec) -> None:
    wanted = {
        "engine.model_image": spec.engine.model_image,
        "serving.image": spec.serving.image,
        "serving.tools_image": spec.serving.tools_image,
    }
    missing = [field for field, image in wanted.items() if not image]
    if missing:
        raise Rejected(
            f"no pipeline without images: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set",
            expected="images by digest, such as registry/name@sha256:…, in the spec, an overlay or by --set",
            got="nothing",
            fix=f"build and push the Dockerfile's targets `model` and `deploy`, then --set {missing[0]}=IMAGE@sha256:…",
            reason="IMAGE_MISSING",
        )


def _require_short(spec: str, identity: str) -> None:
    """Kubeflow hands both on as JSON texts within one JSON argument, so what counts is their length after quoting."""
    size = len(json.dumps([spec, identity]).encode())
    limit = ARGUMENT_LIMIT - _ROOM_FOR_ARTIFACTS
    if size > limit:
        raise Rejected(
            f"the resolved spec is too long for an argument: {size} bytes",
            expected=f"at most {limit} bytes, quoted as JSON and with the digests of its inputs",
            got=f"{size} bytes",
            fix="declare a folder instead of its files, and move long lists of arguments into a file of the trainer's",
            reason="SPEC_TOO_LONG",
        )


def _require_literal(spec: str) -> None:
    """Both engines fill in what stands between double braces, wherever it stands."""
    at = spec.find("{{")
    if at >= 0:
        raise Rejected(
            "the spec holds `{{`, which engines take for a placeholder of their own",
            expected="a spec without double braces",
            got=spec[max(0, at - 30) : at + 30],
            fix="write it without double braces; `{output}` and `{inputs}` are Slipway's own placeholders",
            reason="PLACEHOLDER",
        )
