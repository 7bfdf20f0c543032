"""What validation found: evidence that stays with a release.

A report exists only for a model that passed; one that did not is a ``Rejected`` with one reason code. Everything here
is finite and plain, so that it survives JSON unchanged.
"""

from enum import StrEnum

from pydantic import Field

from components.core.grown import Grown
from components.core.signature import Change, Compatibility
from components.core.spec import Tolerance
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


class Parity(Grown):
    """All rows, and the tolerance they were judged by."""

    ADDED = frozenset({"tolerances", "golden", "unanswered"})

    rows: tuple[ParityRow, ...]
    batch_sizes: tuple[int, ...] = Field(description="Rows of the generated requests.")
    absolute: float = Field(description="Tolerance in the output's own unit.", ge=0)
    relative: float = Field(description="Tolerance as a fraction of max|reference|.", ge=0)
    why: str = Field(description="Why this much is harmless.")
    skipped: tuple[str, ...] = Field((), description="Signatures that were not compared, each with its reason.")
    tolerances: dict[str, Tolerance] = Field(
        {}, description="Outputs, by alias, that were judged by a tolerance of their own."
    )
    golden: str | None = Field(
        None, description="Digest of the file of golden requests; none if there is no such file."
    )
    unanswered: tuple[str, ...] = Field(
        (), description="Generated edge cases that nothing could be learnt from, and why."
    )


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


class MetricResult(Grown):
    """One metric of the labelled evaluation."""

    ADDED = frozenset({"k", "bound", "confidence", "served", "max_regression"})

    metric: str
    value: float = Field(description="In the metric's unit: a fraction for accuracy, nats for log_loss.")
    n: int = Field(description="Labelled examples.", ge=1)
    minimum: float | None = None
    maximum: float | None = None
    passed: bool
    k: int | None = Field(None, description="How many largest scores; of top_k alone.")
    bound: float | None = Field(
        None, description="What was compared with the limits instead of the value, if asked for."
    )
    confidence: float | None = Field(None, description="Of that one-sided bound.")
    served: float | None = Field(None, description="The same metric of the version being served, as its record says.")
    max_regression: float | None = Field(None, description="How much worse than `served` it may be.")


class SliceResult(Frozen):
    """The examples with one value of a column."""

    by: str = Field(description="The column.")
    value: str
    n: int = Field(description="Labelled examples with this value.", ge=1)
    metrics: tuple[MetricResult, ...] = Field((), description="None if the value was not judged.")
    skipped: str = Field("", description="Why it was not judged; empty if it was.")


class Evaluation(Grown):
    """Labelled data run through a signature."""

    ADDED = frozenset({"slices", "served_version", "notes"})

    signature: str
    output: str
    data_digest: str = Field(description="Digest of the labelled file.")
    metrics: tuple[MetricResult, ...]
    slices: tuple[SliceResult, ...] = Field((), description="By column and value.")
    served_version: int | None = Field(
        None, description="Version that `max_regression` compared with; none if nothing."
    )
    notes: tuple[str, ...] = Field((), description="What was asked for and does not apply, each with its reason.")

    @property
    def failed(self) -> tuple[str, ...]:
        """Limits that are not kept, in words; empty if the model passes."""
        whole = [described(result) for result in self.metrics if not result.passed]
        parts = [
            f"{described(result)} where {part.by} is {part.value}"
            for part in self.slices
            for result in part.metrics
            if not result.passed
        ]
        return (*whole, *parts)


def described(result: MetricResult) -> str:
    """Return a metric, its value and its limits in words."""
    name = f"{result.metric} (k={result.k})" if result.k is not None else result.metric
    text = f"{name} {result.value:.6g} over {result.n} examples"
    if result.bound is not None and result.confidence is not None:
        text += f", {result.bound:.6g} with {result.confidence:.0%} confidence"
    limits = [
        f"{word} {limit:g}"
        for word, limit in (("at least", result.minimum), ("at most", result.maximum))
        if limit is not None
    ]
    if result.served is not None and result.max_regression is not None:
        limits.append(f"at most {result.max_regression:g} worse than the served version's {result.served:.6g}")
    return f"{text}, wanted {' and '.join(limits)}" if limits else text


class SkewCheck(Frozen):
    """The graph's format against the TensorFlow of the server that will load it."""

    serving_version: str | None = Field(description="As the spec says; none: it does not.")
    producer: int = Field(description="GraphDef version of the TensorFlow that wrote the graph.", ge=0)
    min_consumer: int = Field(description="GraphDef version that a server must have, by the graph's own word.", ge=0)
    consumer_at_least: int | None = Field(None, description="GraphDef version that this server surely has.")
    consumer_at_most: int | None = Field(None, description="GraphDef version that this server has at most.")
    producer_release: str = Field("", description="TensorFlow release that wrote the model, if it says.")
    waiver: str = Field("", description="Why a newer producer goes on; empty if none was needed.")
    notes: tuple[str, ...] = Field((), description="What could not be checked, and why.")


class SizeCheck(Frozen):
    """Bytes of the version against its limit."""

    size_bytes: int = Field(ge=0)
    limit_bytes: int | None = Field(description="None: no limit.")


class ValidationReport(Grown):
    """All gates, in the order they were passed."""

    ADDED = frozenset({"skew"})

    size: SizeCheck
    scan: Scan
    contract: ContractCheck
    probe: Probe
    parity: Parity
    evaluation: Evaluation | None = Field(description="None: the spec asks for no evaluation.")
    skew: SkewCheck | None = Field(None, description="None: made before the format was compared with the server's.")
