"""The chain of a release: one frozen record a step, each accepting only its predecessor's.

Pushing a model that was not validated is therefore not a rule but a type error: ``publish`` takes a ``ValidatedModel``,
and only ``validate`` makes one. Each record names the digest of the record before it and of the bytes it speaks of; a
step checks both again before it works. Records are evidence: their released schemas only ever grow.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter

from components.core.digest import Digest, of_json
from components.core.errors import Rejected, SlipwayError
from components.core.grown import Grown
from components.core.optimization import OptimizeReport
from components.core.signature import Contract
from components.core.validation import ValidationReport
from components.core.verdict import Judgement
from manifests.spec import Frozen


class Step(StrEnum):
    """The steps that leave a record, in their order."""

    SOURCE = "source"
    EXPORT = "export"
    OPTIMIZE = "optimize"
    VALIDATE = "validate"
    PUBLISH = "publish"
    DEPLOY = "deploy"
    CANARY = "canary"
    PROMOTE = "promote"


class Stamp(Frozen):
    """When, by which program, and for which release a record was made."""

    release: str = Field(description="Release id.")
    model: str = Field(description="Model name.")
    builder: str = Field(description="Program and version that made the record, such as `slipway 0.1.0`.")
    started_at: datetime = Field(description="UTC.")
    duration_s: float = Field(description="Seconds the step worked.", ge=0)


class Record(Grown):
    """What every record says."""

    step: ClassVar[Step]

    schema_version: Literal[1] = 1
    stamp: Stamp
    parent: Digest | None = Field(description="Digest of the predecessor's record; none for the first.")

    @property
    def digest(self) -> Digest:
        """Digest of the record as canonical JSON: what its successor names as its parent."""
        return of_json(self.model_dump(mode="json"))

    def to_json(self) -> str:
        """Return the record as indented JSON with a final newline."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse one record of this kind.

        Raises:
            Rejected: It is not one.
        """
        try:
            return cls.model_validate_json(text)
        except ValueError as error:
            raise Rejected(f"this is not a {cls.__name__} record", got=str(error), reason="RECORD") from error

    def require_parent(self, parent: "Record") -> None:
        """Check that this record was computed from ``parent``.

        Raises:
            Rejected: It was computed from another record.
        """
        if self.parent != parent.digest:
            raise Rejected(
                f"{type(self).__name__} was not made from this {type(parent).__name__}",
                expected=parent.digest,
                got=str(self.parent),
                reason="BROKEN_CHAIN",
            )


class ModelBytes(Frozen):
    """Which bytes a record speaks of."""

    digest: Digest = Field(description="Digest of the directory's file manifest.")
    size: int = Field(description="Bytes of all files.", ge=0)
    files: int = Field(description="Number of files.", ge=1)


class SourceModel(Record):
    """A model as its maker left it."""

    step = Step.SOURCE
    kind: Literal["SourceModel"] = "SourceModel"
    how: Literal["train", "fetch", "version"]
    origin: str = Field(description="The command, URI or version it came from, without secrets.")
    inputs: Mapping[str, Digest] = Field(
        {}, description="Digests of the declared inputs, by path as the spec writes it."
    )
    content: ModelBytes


class ExportedModel(Record):
    """A SavedModel with the signatures the spec asks for."""

    step = Step.EXPORT
    kind: Literal["ExportedModel"] = "ExportedModel"
    source_format: str = Field(description="What was found, such as `keras-v3` or `saved-model`.")
    content: ModelBytes
    contract: Contract
    warmup_records: int = Field(ge=0)
    notes: tuple[str, ...] = Field((), description="What was left behind, and what the gate let pass.")

    ADDED: ClassVar[frozenset[str]] = frozenset({"notes"})


class OptimizedModel(Record):
    """The SavedModel that goes on: rewritten, or the export where rewriting did not pay."""

    step = Step.OPTIMIZE
    kind: Literal["OptimizedModel"] = "OptimizedModel"
    content: ModelBytes
    report: OptimizeReport


class ValidatedModel(Record):
    """A SavedModel that passed every gate."""

    step = Step.VALIDATE
    kind: Literal["ValidatedModel"] = "ValidatedModel"
    content: ModelBytes
    contract: Contract
    report: ValidationReport


class PublishedVersion(Record):
    """A version number bound to bytes, for ever."""

    step = Step.PUBLISH
    kind: Literal["PublishedVersion"] = "PublishedVersion"
    content: ModelBytes
    store: str = Field(description="URI of the store.")
    version: int = Field(ge=1)
    reused: bool = Field(description="Whether the same bytes had been published before.")


class Endpoint(Frozen):
    """Where a server answers."""

    grpc: str = Field(description="host:port of gRPC.")
    rest: str = Field(description="http://host:port of REST.")


class Rollout(Record):
    """A candidate that runs beside stable and gets no traffic of users yet."""

    step = Step.DEPLOY
    kind: Literal["Rollout"] = "Rollout"
    target: str = Field(description="`local` or `kubernetes`.")
    version: int = Field(ge=1)
    content: Digest
    candidate: Endpoint
    ready_s: float = Field(description="Seconds from start to the first answer.", ge=0)
    stable_version: int | None = Field(description="Version that serves users now; none for a first release.")
    stable: Endpoint | None


class Verdict(Record):
    """What the canary found."""

    step = Step.CANARY
    kind: Literal["Verdict"] = "Verdict"
    version: int = Field(ge=1)
    judgement: Judgement


class Promoted(Record):
    """The candidate serves users now."""

    step = Step.PROMOTE
    kind: Literal["Promoted"] = "Promoted"
    version: int = Field(ge=1)
    previous_version: int | None
    endpoint: Endpoint


class RolledBack(Record):
    """The candidate is gone; users are served as before."""

    step = Step.PROMOTE
    kind: Literal["RolledBack"] = "RolledBack"
    version: int = Field(ge=1)
    stable_version: int | None = Field(description="Version that goes on serving; none if there never was one.")
    reasons: tuple[str, ...] = Field(min_length=1)


class Rejection(Frozen):
    """A step that refused, for good: a repeated run of the same release stops here at once."""

    schema_version: Literal[1] = 1
    kind: Literal["Rejection"] = "Rejection"
    stamp: Stamp
    step: Step
    reason: str
    what: str
    expected: str
    got: str
    fix: str

    @classmethod
    def of(cls, error: SlipwayError, *, step: Step, stamp: Stamp) -> Self:
        """Return the rejection that ``error`` means."""
        return cls(
            stamp=stamp,
            step=step,
            reason=error.reason,
            what=error.what,
            expected=error.expected,
            got=error.got,
            fix=error.fix,
        )

    def as_error(self) -> Rejected:
        """Return the error to raise again."""
        return Rejected(self.what, expected=self.expected, got=self.got, fix=self.fix, reason=self.reason)

    def to_json(self) -> str:
        """Return the rejection as indented JSON with a final newline."""
        return self.model_dump_json(indent=2) + "\n"


AnyRecord = (
    SourceModel
    | ExportedModel
    | OptimizedModel
    | ValidatedModel
    | PublishedVersion
    | Rollout
    | Verdict
    | Promoted
    | RolledBack
)
Evidence = Annotated[AnyRecord | Rejection, Field(discriminator="kind")]

_EVIDENCE: TypeAdapter[AnyRecord | Rejection] = TypeAdapter(Evidence)


def parse(text: str | bytes, *, where: str) -> AnyRecord | Rejection:
    """Parse a record of any kind.

    Args:
        text: JSON.
        where: File or object the text came from, for the message.

    Raises:
        Rejected: It is no record.
    """
    try:
        return _EVIDENCE.validate_json(text)
    except ValueError as error:
        raise Rejected(
            f"{where} is not a record of a release",
            expected="JSON that a step of Slipway wrote",
            got=str(error).splitlines()[0],
            reason="RECORD",
        ) from error


class Outcome(StrEnum):
    """How a release ended, or that it has not."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    REJECTED = "rejected"


class Release(Frozen):
    """``release.json``: the join of a release's evidence."""

    schema_version: Literal[1] = 1
    kind: Literal["Release"] = "Release"
    id: str
    model: str
    spec_digest: Digest
    outcome: Outcome
    records: tuple[Evidence, ...]

    def to_json(self) -> str:
        """Return the release as indented JSON with a final newline."""
        return self.model_dump_json(indent=2) + "\n"
