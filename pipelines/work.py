"""What each step does: take the predecessor's record and bytes, do the work, return the record that says so.

The same functions run under ``slipway run``, ``slipway step`` and both engines, inside the frame that
``pipelines.perform`` puts around each of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from components.cluster.protocol import Target
from components.core import digest, records
from components.core.clock import Clock
from components.core.errors import Bug, Rejected
from components.core.process import Limits, Progress
from components.core.records import AnyRecord, ModelBytes, Record, Stamp, Step
from components.core.release import Identity, labelled_files
from components.core.spec import ReleaseSpec
from components.core.verdict import Decision
from components.core.version import VERSION
from components.deploy import STABLE
from components.store import evidence, versions
from components.store.protocol import ObjectStore
from pipelines.steps import BY_NAME, EXPORTED_MODEL, OPTIMIZED_MODEL, SOURCE_MODEL, TRAINED_MODEL, Artifact

BUILDER = f"slipway {VERSION}"

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Work:
    """All that a step may touch.

    Attributes:
        spec: What was asked for.
        release: Release id.
        identity: What the id was computed from; only the source step knows it, later ones have the id alone.
        base_dir: Folder that relative paths of the spec start from.
        store: Where versions and evidence are kept.
        target: Where servers run.
        clock: Time.
        environment: Environment for child processes.
        progress: Is told what is being done.
        inputs: Path of each input artifact: a record's file or a model's directory.
        outputs: Path of each output artifact.
    """

    spec: ReleaseSpec
    release: str
    identity: Identity | None
    base_dir: Path
    store: ObjectStore
    target: Target
    clock: Clock
    environment: Mapping[str, str]
    progress: Progress
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]

    def read(self, kind: type[R], step: Step) -> R:
        """Return an input record."""
        path = self.inputs[step.value]
        try:
            return kind.from_json(path.read_bytes())
        except OSError as error:
            raise Rejected(
                f"the record of step {step} cannot be read: {path}",
                got=error.strerror or str(error),
                fix=f"run `slipway step {step}` first, and hand its record on with --input {step}=FILE",
                reason="RECORD",
            ) from error

    def model(self, artifact: Artifact, content: ModelBytes) -> Path:
        """Return an input model's directory, checked to hold the bytes its record speaks of."""
        path = self.inputs[artifact.name]
        digest.require(path, content.digest, what=artifact.name)
        return path

    def stamp(self, started: datetime) -> Stamp:
        """Return the stamp of a record that is finished now."""
        duration_s = (self.clock.now() - started).total_seconds()
        return Stamp(
            release=self.release,
            model=self.spec.model,
            builder=BUILDER,
            started_at=started,
            duration_s=max(0.0, duration_s),
        )


def _bytes_of(directory: Path) -> ModelBytes:
    manifest = digest.of_directory(directory)
    return ModelBytes(digest=manifest.digest, size=manifest.size, files=len(manifest.files))


def _require_unchanged(work: Work, *names: str) -> None:
    """Check files a step reads against the digests that the release is identified by.

    On an engine the spec was compiled on another machine: the files in the image must be those it was compiled with.

    Raises:
        Rejected: A file is another one.
    """
    for name in names:
        promised = work.identity.inputs.get(name) if work.identity else None
        path = work.base_dir / name
        if promised is None or not path.exists():
            continue  # a file that is not there is told by whoever reads it
        found = digest.of_directory(path).digest if path.is_dir() else digest.of_file(path).digest
        if found != promised:
            raise Rejected(
                f"{path} is not the file this release is identified by",
                expected=f"{promised}, as when the release was started or compiled",
                got=found,
                fix="compile again, or put the same file into the image; on this machine: run again",
                reason="INPUT_CHANGED",
            )


def _source(work: Work, started: datetime) -> records.SourceModel:
    from components.source.fetch import fetch  # noqa: PLC0415 - only this step needs an HTTP client
    from components.source.train import train  # noqa: PLC0415

    if work.identity is None:
        raise Bug("the source step was started without the release's identity")
    if TRAINED_MODEL.name not in work.inputs:
        _require_unchanged(work, *work.identity.inputs)
    out, source = work.outputs[SOURCE_MODEL.name], work.spec.source
    if source.train is not None and TRAINED_MODEL.name in work.inputs:
        how, origin = "train", _adopt(work.inputs[TRAINED_MODEL.name], out, source.train.command)
    elif source.train is not None:
        trained = train(
            source.train, base_dir=work.base_dir, out_dir=out, environment=work.environment, progress=work.progress
        )
        how, origin = "train", trained.origin
    elif source.fetch is not None:
        fetched = fetch(source.fetch, base_dir=work.base_dir, out_dir=out, clock=work.clock, progress=work.progress)
        how, origin = "fetch", fetched.origin
    else:
        how, origin = "version", _take_version(work, out)
    return records.SourceModel.model_validate(
        {
            "stamp": work.stamp(started),
            "parent": None,
            "how": how,
            "origin": origin,
            "inputs": dict(work.identity.inputs),
            "content": _bytes_of(out),
        }
    )


def _adopt(trained: Path, out: Path, command: tuple[str, ...]) -> str:
    """Take over what the user's own image wrote: the engine ran the command, the record is made here."""
    import shutil  # noqa: PLC0415 - only an engine's source step copies

    digest.of_directory(trained)
    shutil.copytree(trained, out, dirs_exist_ok=True)
    return " ".join(command)


def _take_version(work: Work, out: Path) -> str:
    from components.store.open import open_store  # noqa: PLC0415

    wanted = work.spec.source.version
    if wanted is None:
        raise Bug("a source of no kind")
    other = open_store(wanted.store, base_dir=work.base_dir)
    model = wanted.model or work.spec.model
    versions.pull(other, model, wanted.version, out, digest=None, progress=work.progress)
    return f"{other.uri}/{model} version {wanted.version}"


def _export(work: Work, started: datetime) -> records.ExportedModel:
    from components.export import export  # noqa: PLC0415 - only this step needs it

    source = work.read(records.SourceModel, Step.SOURCE)
    out = work.outputs[EXPORTED_MODEL.name]
    result = export(
        work.model(SOURCE_MODEL, source.content),
        out,
        work.spec.export,
        allow_ops=work.spec.validation.allow_ops,
        limits=Limits(deadline_s=BY_NAME[Step.EXPORT].timeout_s(work.spec)),
        progress=work.progress,
    )
    return records.ExportedModel(
        stamp=work.stamp(started),
        parent=source.digest,
        source_format=result.source_format,
        content=_bytes_of(out),
        contract=result.contract,
        warmup_records=result.warmup_records,
        notes=result.notes,
    )


def _optimize(work: Work, started: datetime) -> records.OptimizedModel:
    from components.optimize.pipeline import optimize  # noqa: PLC0415 - only this step needs it

    exported = work.read(records.ExportedModel, Step.EXPORT)
    out = work.outputs[OPTIMIZED_MODEL.name]
    model = work.model(EXPORTED_MODEL, exported.content)
    report = optimize(model, out, work.spec.optimize, progress=work.progress)
    return records.OptimizedModel(
        stamp=work.stamp(started), parent=exported.digest, content=_bytes_of(out), report=report
    )


def _validate(work: Work, started: datetime) -> records.ValidatedModel:
    from components.savedmodel.inspect import contract  # noqa: PLC0415 - only this step needs them
    from components.validate import validate  # noqa: PLC0415

    exported = work.read(records.ExportedModel, Step.EXPORT)
    optimized = work.read(records.OptimizedModel, Step.OPTIMIZE)
    optimized.require_parent(exported)
    candidate = work.model(OPTIMIZED_MODEL, optimized.content)
    alias = versions.alias(work.store, work.spec.model, STABLE)
    served_version = alias.version if alias else None
    _require_unchanged(work, *labelled_files(work.spec.validation))
    served = _served(work, served_version)
    report = validate(
        source_dir=work.model(EXPORTED_MODEL, exported.content),
        candidate_dir=candidate,
        served=served.contract if served else None,
        served_evaluation=served.report.evaluation if served else None,
        served_version=served_version,
        spec=work.spec.validation,
        export=work.spec.export,
        data_root=work.base_dir,
        environment=work.environment,
        progress=work.progress,
    )
    return records.ValidatedModel(
        stamp=work.stamp(started),
        parent=optimized.digest,
        content=optimized.content,
        contract=contract(candidate, frozenset(work.spec.export.tags)),
        report=report,
    )


def _served(work: Work, version: int | None) -> records.ValidatedModel | None:
    """Return what was found when the version that is served now was validated; none for a first release."""
    if version is None:
        return None
    release = versions.manifest(work.store, work.spec.model, version).release
    for found in evidence.load(work.store, work.spec.model, release):
        if isinstance(found, records.ValidatedModel):
            return found
    raise Rejected(
        f"{work.spec.model} version {version} is served, but the record of its contract is gone",
        expected=f"the validate record of release {release} in {work.store.uri}",
        fix="restore the record, or move the `stable` alias to a version that has one",
        reason="RECORD",
    )


def _publish(work: Work, started: datetime) -> records.PublishedVersion:
    from components.publish import publish  # noqa: PLC0415 - only this step needs it

    validated = work.read(records.ValidatedModel, Step.VALIDATE)
    version, reused = publish(
        work.store,
        model=work.spec.model,
        validated=validated,
        model_dir=work.model(OPTIMIZED_MODEL, validated.content),
        release=work.release,
        token=work.release,
        clock=work.clock,
        progress=work.progress,
    )
    return records.PublishedVersion(
        stamp=work.stamp(started),
        parent=validated.digest,
        content=validated.content,
        store=work.store.uri,
        version=version,
        reused=reused,
    )


def _deploy(work: Work, started: datetime) -> records.Rollout:
    from components.deploy import deploy  # noqa: PLC0415 - only this step needs it

    published = work.read(records.PublishedVersion, Step.PUBLISH)
    deployed = deploy(
        published, serving=work.spec.serving, store=work.store, target=work.target, progress=work.progress
    )
    stable = deployed.stable
    return records.Rollout(
        stamp=work.stamp(started),
        parent=published.digest,
        target=work.target.name,
        version=published.version,
        content=published.content.digest,
        candidate=deployed.candidate.endpoint,
        ready_s=deployed.candidate.ready_s,
        stable_version=stable.version if stable else None,
        stable=stable.endpoint if stable else None,
    )


def _canary(work: Work, started: datetime) -> records.Verdict:
    from components.canary.step import Contender, run_canary  # noqa: PLC0415 - only this step needs numpy and a client

    rollout = work.read(records.Rollout, Step.DEPLOY)
    _require_unchanged(work, work.spec.canary.traffic.requests)
    stable = None
    if rollout.stable is not None and rollout.stable_version not in {None, rollout.version}:
        stable = Contender(rollout.stable_version or 0, rollout.stable)
    judgement = run_canary(
        Contender(rollout.version, rollout.candidate),
        stable,
        model=work.spec.model,
        spec=work.spec.canary,
        base_dir=work.base_dir,
        version_dir=work.inputs[OPTIMIZED_MODEL.name],
        clock=work.clock,
        progress=work.progress,
    )
    return records.Verdict(
        stamp=work.stamp(started), parent=rollout.digest, version=rollout.version, judgement=judgement
    )


def _promote(work: Work, started: datetime) -> records.Promoted | records.RolledBack:
    from components.promote import promote, roll_back  # noqa: PLC0415 - only this step needs them

    rollout = work.read(records.Rollout, Step.DEPLOY)
    verdict = work.read(records.Verdict, Step.CANARY)
    verdict.require_parent(rollout)
    if verdict.judgement.decision is not Decision.PROMOTE:
        roll_back(rollout, target=work.target, progress=work.progress)
        return records.RolledBack(
            stamp=work.stamp(started),
            parent=verdict.digest,
            version=rollout.version,
            stable_version=rollout.stable_version,
            reasons=verdict.judgement.reasons,
        )
    endpoint = promote(
        rollout,
        serving=work.spec.serving,
        store=work.store,
        target=work.target,
        clock=work.clock,
        progress=work.progress,
    )
    return records.Promoted(
        stamp=work.stamp(started),
        parent=verdict.digest,
        version=rollout.version,
        previous_version=rollout.stable_version,
        endpoint=endpoint,
    )


WORK: Mapping[Step, Callable[[Work, datetime], AnyRecord]] = MappingProxyType(
    {
        Step.SOURCE: _source,
        Step.EXPORT: _export,
        Step.OPTIMIZE: _optimize,
        Step.VALIDATE: _validate,
        Step.PUBLISH: _publish,
        Step.DEPLOY: _deploy,
        Step.CANARY: _canary,
        Step.PROMOTE: _promote,
    }
)
