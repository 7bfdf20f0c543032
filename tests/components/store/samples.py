"""Small model directories and the records that go with them."""

from datetime import UTC, datetime
from pathlib import Path

from components.core import digest
from components.core.digest import Digest
from components.core.optimization import OptimizeReport
from components.core.records import (
    Endpoint,
    ExportedModel,
    ModelBytes,
    OptimizedModel,
    PublishedVersion,
    RolledBack,
    Rollout,
    SourceModel,
    Stamp,
    ValidatedModel,
)
from components.core.signature import Compatibility, Contract
from components.core.validation import ContractCheck, Parity, Probe, Scan, SizeCheck, ValidationReport

RELEASE = "0123456789abcdef"
MODEL = "digits"


def model_dir(path: Path, *, weights: bytes = b"weights") -> Path:
    """Write the files of a SavedModel, as far as a store cares."""
    (path / "variables").mkdir(parents=True)
    (path / "assets").mkdir()
    (path / "saved_model.pb").write_bytes(b"graph")
    (path / "variables" / "variables.index").write_bytes(b"index")
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(weights)
    (path / "assets" / "some words.txt").write_bytes(b"")
    return path


def stamp(release: str = RELEASE, *, duration_s: float = 1.0) -> Stamp:
    return Stamp(
        release=release,
        model=MODEL,
        builder="slipway 0",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration_s=duration_s,
    )


def content(directory: Path) -> ModelBytes:
    manifest = digest.of_directory(directory)
    return ModelBytes(digest=manifest.digest, size=manifest.size, files=len(manifest.files))


def _bytes(what: str) -> ModelBytes:
    return ModelBytes(digest=digest.of_bytes(what.encode()), size=len(what), files=1)


def source(release: str = RELEASE, *, what: str = "source") -> SourceModel:
    return SourceModel(stamp=stamp(release), parent=None, how="fetch", origin="a file", content=_bytes(what))


def exported(parent: SourceModel) -> ExportedModel:
    return ExportedModel(
        stamp=stamp(parent.stamp.release),
        parent=parent.digest,
        source_format="saved-model",
        content=_bytes("exported"),
        contract=Contract({}),
        warmup_records=0,
    )


def optimized(parent: ExportedModel) -> OptimizedModel:
    return OptimizedModel(
        stamp=stamp(parent.stamp.release),
        parent=parent.digest,
        content=_bytes("optimized"),
        report=OptimizeReport(profile="none", chosen="original", why="nothing to do", size_before=1, size_after=1),
    )


def validated(directory: Path, release: str = RELEASE, *, parent: Digest | None = None) -> ValidatedModel:
    return ValidatedModel(
        stamp=stamp(release),
        parent=parent,
        content=content(directory),
        contract=Contract({}),
        report=ValidationReport(
            size=SizeCheck(size_bytes=1, limit_bytes=None),
            scan=Scan(ops=0, distinct_ops=0, functions=0),
            contract=ContractCheck(served_version=None, compatibility=Compatibility.IDENTICAL),
            probe=Probe(load_s=0, first_answer_s=0, peak_memory_bytes=0, answered=()),
            parity=Parity(rows=(), batch_sizes=(), absolute=0, relative=0, why="exact"),
            evaluation=None,
        ),
    )


def published(parent: ValidatedModel, version: int) -> PublishedVersion:
    return PublishedVersion(
        stamp=stamp(parent.stamp.release),
        parent=parent.digest,
        content=parent.content,
        store="store",
        version=version,
        reused=False,
    )


def rollout(parent: PublishedVersion) -> Rollout:
    return Rollout(
        stamp=stamp(parent.stamp.release),
        parent=parent.digest,
        target="local",
        version=parent.version,
        content=parent.content.digest,
        candidate=Endpoint(grpc="127.0.0.1:1", rest="http://127.0.0.1:2"),
        ready_s=1,
        stable_version=None,
        stable=None,
    )


def rolled_back(parent: Rollout) -> RolledBack:
    return RolledBack(
        stamp=stamp(parent.stamp.release),
        parent=parent.digest,
        version=parent.version,
        stable_version=None,
        reasons=("no verdict was reached",),
    )
