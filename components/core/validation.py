"""What validation found: evidence that stays with a release.

A report exists only for a model that passed; one that did not is a ``Rejected`` with one reason code. Everything here
is finite and plain, so that it survives JSON unchanged.
"""

from enum import StrEnum

from pydantic import Field

from components.core.signature import Change, Compatibility
from manifests.spec import Frozen


class ContractCheck(Frozen):
    """How the candidate's contract stands to what is being served."""

    served_version: int | None = Field(description="Version it was compared with; none for a first release.")
    compatibility: Compatibility = Field(description="IDENTICAL for a first release: there is no client yet.")
    changes: tuple[Change, ...] = Field((), description="Every difference.")
    waiver: str = Field("", description="Why a breaking change goes on; empty if none was needed.")
    required: tuple[str, ...] = Field((), description="Signature keys the spec demands, all of them there.")


class ParityRow(Frozen):
    """One output of one signature: the candidate's answers against those of the exported source model."""

    signature: str
    output: str
    cases: int = Field(description="Requests compared.", ge=1)
    values: int = Field(description="Single values compared.", ge=0)
    max_abs: float = Field(description="Largest absolute difference, in the output's unit; 0 for exact dtypes.", ge=0)
    max_rel: float = Field(
        description="Largest difference as a fraction of the request's largest reference magnitude.", ge=0
    )
    allowed: float = Field(description="Difference allowed where `max_abs` was found; 0 for exact dtypes.", ge=0)
    passed: bool


class Parity(Frozen):
    """All rows, and the tolerance they were judged by."""

    rows: tuple[ParityRow, ...]
    batch_sizes: tuple[int, ...] = Field(description="Rows of the generated requests.")
    absolute: float = Field(description="Tolerance in the output's own unit.", ge=0)
    relative: float = Field(description="Tolerance as a fraction of max|reference|.", ge=0)
    why: str = Field(description="Why this much is harmless.")
    skipped: tuple[str, ...] = Field((), description="Signatures that were not compared, each with its reason.")


class Severity(StrEnum):
    """What a finding of the static gate means."""

    NOTE = "note"
    REJECT = "reject"


class Finding(Frozen):
    """One thing the static gate has to say."""

    reason: str = Field(description="Stable code, such as `OP_FILE_READ`.")
    where: str = Field(description="Graph or function, node and op, or the file.")
    detail: str = Field("", description="What was found there.")
    severity: Severity = Severity.REJECT


class Scan(Frozen):
    """The static gate: what the graphs hold."""

    ops: int = Field(description="Nodes in all graphs and functions.", ge=0)
    distinct_ops: int = Field(description="Distinct op names.", ge=0)
    functions: int = Field(description="Functions in the library.", ge=0)
    stateful_ops: tuple[str, ...] = Field((), description="Ops with state or side effects that the allow-list knows.")
    notes: tuple[Finding, ...] = Field((), description="Findings that do not reject.")


class Probe(Frozen):
    """The candidate, loaded and asked in a process of its own, as TensorFlow Serving does."""

    load_s: float = Field(description="Seconds until the session was restored and initialised.", ge=0)
    first_answer_s: float = Field(description="Seconds the first request took.", ge=0)
    peak_memory_bytes: int = Field(description="Largest resident size of the process, TensorFlow included.", ge=0)
    answered: tuple[str, ...] = Field(description="Signatures that answered.")
    warmup_records: int = Field(0, description="Warm-up requests replayed.", ge=0)


class MetricResult(Frozen):
    """One metric of the labelled evaluation."""

    metric: str
    value: float = Field(description="In the metric's unit: a fraction for accuracy, nats for log_loss.")
    n: int = Field(description="Labelled examples.", ge=1)
    minimum: float | None = None
    maximum: float | None = None
    passed: bool


class Evaluation(Frozen):
    """Labelled data run through a signature."""

    signature: str
    output: str
    data_digest: str = Field(description="Digest of the labelled file.")
    metrics: tuple[MetricResult, ...]


class SizeCheck(Frozen):
    """Bytes of the version against its limit."""

    size_bytes: int = Field(ge=0)
    limit_bytes: int | None = Field(description="None: no limit.")


class ValidationReport(Frozen):
    """All gates, in the order they were passed."""

    size: SizeCheck
    scan: Scan
    contract: ContractCheck
    probe: Probe
    parity: Parity
    evaluation: Evaluation | None = Field(description="None: the spec asks for no evaluation.")
