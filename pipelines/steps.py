"""The step table: the one place that says which steps there are, what goes in, what comes out, and how they may fail.

The local runner, the command line and both engines are made from it; a test holds the four against each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from components.core.records import Step
from components.core.spec import ReleaseSpec
from manifests.spec import Resources


class ArtifactKind(StrEnum):
    """What an artifact is on disk."""

    RECORD = "record"
    """One JSON file."""
    MODEL = "model"
    """One directory."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something one step makes and others read: a record or a model directory."""

    name: str
    kind: ArtifactKind


def _record(step: Step) -> Artifact:
    return Artifact(step.value, ArtifactKind.RECORD)


TRAINED_MODEL = Artifact("trained_model", ArtifactKind.MODEL)
SOURCE_MODEL = Artifact("source_model", ArtifactKind.MODEL)
EXPORTED_MODEL = Artifact("exported_model", ArtifactKind.MODEL)
OPTIMIZED_MODEL = Artifact("optimized_model", ArtifactKind.MODEL)
RECORD: MappingProxyType[Step, Artifact] = MappingProxyType({step: _record(step) for step in Step})


class Image(StrEnum):
    """Which of Slipway's two images a step needs."""

    MODEL = "model"
    """With TensorFlow."""
    DEPLOY = "deploy"
    """Without."""


@dataclass(frozen=True, slots=True)
class StepDef:
    """One step of a release.

    Attributes:
        step: Its name.
        does: What it does, in one line.
        inputs: Artifacts it reads.
        outputs: Artifacts it makes; its record is the first.
        image: Image it needs on an engine.
        timeout_s: Seconds it may take, by the spec.
        retries: How often it tries again, inside itself, after Unavailable or Conflict.
        cacheable: Whether an engine may reuse its outputs for equal inputs. Never true of a step with side effects.
        resources: What its pod asks for on an engine.
    """

    step: Step
    does: str
    inputs: tuple[Artifact, ...]
    outputs: tuple[Artifact, ...]
    image: Image
    timeout_s: Callable[[ReleaseSpec], int]
    retries: int
    cacheable: bool
    resources: Resources

    @property
    def name(self) -> str:
        """The name in commands and pipelines."""
        return self.step.value


_SMALL = Resources(cpu="500m", memory="512Mi")
_LARGE = Resources(cpu="2", memory="8Gi")
_STORE_TIMEOUT_S = 3600
_TURN_TIMEOUT_S = 900


def _source_timeout_s(spec: ReleaseSpec) -> int:
    source = spec.source
    if source.train:
        return source.train.timeout_s
    return source.fetch.timeout_s if source.fetch else _STORE_TIMEOUT_S


STEPS: tuple[StepDef, ...] = (
    StepDef(
        step=Step.SOURCE,
        does="train the model, fetch it, or take a published version",
        inputs=(),
        outputs=(RECORD[Step.SOURCE], SOURCE_MODEL),
        image=Image.MODEL,
        timeout_s=_source_timeout_s,
        retries=1,
        cacheable=False,
        resources=_LARGE,
    ),
    StepDef(
        step=Step.EXPORT,
        does="write a SavedModel with the signatures and warm-up requests of the spec",
        inputs=(RECORD[Step.SOURCE], SOURCE_MODEL),
        outputs=(RECORD[Step.EXPORT], EXPORTED_MODEL),
        image=Image.MODEL,
        timeout_s=lambda _spec: _TURN_TIMEOUT_S,
        retries=1,
        cacheable=False,
        resources=_LARGE,
    ),
    StepDef(
        step=Step.OPTIMIZE,
        does="rewrite the graph, prove that the answers stay, and measure what it gained",
        inputs=(RECORD[Step.EXPORT], EXPORTED_MODEL),
        outputs=(RECORD[Step.OPTIMIZE], OPTIMIZED_MODEL),
        image=Image.MODEL,
        timeout_s=lambda spec: spec.optimize.timeout_s,
        retries=1,
        cacheable=False,
        resources=_LARGE,
    ),
    StepDef(
        step=Step.VALIDATE,
        does="check contract, safety, answers, quality and cost",
        inputs=(RECORD[Step.EXPORT], RECORD[Step.OPTIMIZE], EXPORTED_MODEL, OPTIMIZED_MODEL),
        outputs=(RECORD[Step.VALIDATE],),
        image=Image.MODEL,
        timeout_s=lambda spec: spec.validation.timeout_s,
        retries=1,
        cacheable=False,
        resources=_LARGE,
    ),
    StepDef(
        step=Step.PUBLISH,
        does="bind a version number to these bytes in the store",
        inputs=(RECORD[Step.VALIDATE], OPTIMIZED_MODEL),
        outputs=(RECORD[Step.PUBLISH],),
        image=Image.DEPLOY,
        timeout_s=lambda _spec: _STORE_TIMEOUT_S,
        retries=3,
        cacheable=False,
        resources=_SMALL,
    ),
    StepDef(
        step=Step.DEPLOY,
        does="bring the version up beside stable, without traffic",
        inputs=(RECORD[Step.PUBLISH],),
        outputs=(RECORD[Step.DEPLOY],),
        image=Image.DEPLOY,
        timeout_s=lambda spec: spec.serving.rollout.load_deadline_s + _TURN_TIMEOUT_S,
        retries=3,
        cacheable=False,
        resources=_SMALL,
    ),
    StepDef(
        step=Step.CANARY,
        does="ask stable and candidate the same questions and decide on the evidence",
        inputs=(RECORD[Step.DEPLOY], OPTIMIZED_MODEL),
        outputs=(RECORD[Step.CANARY],),
        image=Image.DEPLOY,
        timeout_s=lambda spec: int(spec.canary.limits.max_duration_s) + _TURN_TIMEOUT_S,
        retries=2,
        cacheable=False,
        resources=_SMALL,
    ),
    StepDef(
        step=Step.PROMOTE,
        does="send users to the candidate, or take it down",
        inputs=(RECORD[Step.DEPLOY], RECORD[Step.CANARY]),
        outputs=(RECORD[Step.PROMOTE],),
        image=Image.DEPLOY,
        timeout_s=lambda _spec: _TURN_TIMEOUT_S,
        retries=5,
        cacheable=False,
        resources=_SMALL,
    ),
)

BY_NAME: MappingProxyType[str, StepDef] = MappingProxyType({entry.name: entry for entry in STEPS})

FINISH = "finish"
"""The exit step: rolls back what has no end, joins the evidence, and turns the run red unless it was promoted."""
