"""The section ``validate``: the gates before publishing."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.core.spec.export import SignatureSpec
from components.core.spec.optimize import EXACT_TOLERANCE, Reason, Tolerance
from manifests.spec import Frozen

Metric = Literal["accuracy", "top_k", "auc", "log_loss", "mae", "rmse", "mean_iou"]
"""What labelled data can measure; docs/quality.md defines each."""


class MetricLimit(Frozen):
    """What a metric must reach."""

    minimum: float | None = Field(None, description="In the metric's unit. Default none: recorded, not required.")
    maximum: float | None = Field(None, description="In the metric's unit. Default none: recorded, not required.")
    max_regression: float | None = Field(
        None,
        ge=0,
        description="How much worse than the recorded value of the version being served, in the metric's unit; less is "
        "worse, for `log_loss`, `mae` and `rmse` more is. A first release has nothing to be compared with. Default "
        "none: not compared.",
    )
    confidence: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="Limits must be kept by the one-sided confidence bound on the bad side instead of by the value "
        "itself, so that luck with few examples is not enough. Default none: the value.",
    )
    k: int = Field(5, ge=1, description="For `top_k` alone: the label is among this many largest scores. Default 5.")

    @model_validator(mode="after")
    def _a_bound_is_of_something(self) -> "MetricLimit":
        if self.confidence is not None and (self.minimum, self.maximum, self.max_regression) == (None, None, None):
            raise ValueError("confidence says how sure a limit must be kept: give minimum, maximum or max_regression")
        return self

    @model_validator(mode="after")
    def _can_be_met(self) -> "MetricLimit":
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"nothing is at least {self.minimum} and at most {self.maximum}")
        return self


class SliceSpec(Frozen):
    """A column of the labelled data whose every value is judged by itself."""

    by: str = Field(
        min_length=1, description="The column: an array, feature or field of the data, an input or not; text, whole "
        "numbers or booleans, one an example."
    )  # fmt: skip
    metrics: dict[Metric, MetricLimit] = Field(
        {}, description="Limits that each value's examples must keep. Default: the metrics of `evaluate`, recorded."
    )
    minimum_count: int = Field(
        30, ge=1, description="Examples below which a value is recorded and not judged. Default 30."
    )
    maximum_values: int = Field(100, ge=1, le=10_000, description="Values the column may have. Default 100.")


class Evaluate(Frozen):
    """Labelled data run through a signature before anything is published."""

    data: str = Field(
        description="Labelled file: `.npz` with one array an input alias and one of labels, equal in length; "
        "`.tfrecord` of tf.train.Example; `.jsonl`, an object a line; `.csv` with a header."
    )
    labels: str = Field(
        "labels",
        description="Name of the labels: class indices, or for `mae`, `rmse` and `mean_iou` the true values. Default "
        "`labels`.",
    )
    signature: str = Field("serving_default", description="Signature key. Default `serving_default`.")
    output: str = Field(
        description="Output alias: scores of classes, one score of class 1, predicted values, or boxes."
    )
    metrics: dict[Metric, MetricLimit] = Field(
        {"accuracy": MetricLimit()}, min_length=1, description="Metrics and limits. Default: accuracy, recorded."
    )
    slices: tuple[SliceSpec, ...] = Field((), description="Columns whose values are judged each. Default none.")
    batch_size: int = Field(64, ge=1, description="Rows a request. Default 64.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap behind confidence bounds. Default 0.")


class Limits(Frozen):
    """What a version may cost."""

    size_bytes: int | None = Field(None, ge=1, description="Bytes of the version. Default none.")
    load_s: float = Field(120.0, gt=0, description="Seconds from load to first answer in the sandbox. Default 120.")
    memory_bytes: int = Field(8 * 2**30, ge=2**28, description="Memory of the sandbox. Default 8 GiB.")


class ContractSpec(Frozen):
    """What clients rely on, beside what is being served now."""

    signatures: dict[str, SignatureSpec] = Field(
        {}, description="Signatures that must be there with these aliases. Default: those of `export`."
    )
    breaking_change_waiver: Reason | None = Field(
        None,
        description="Why a change that breaks today's clients goes on all the same; written into the record. Default "
        "none.",
    )


class Validate(Frozen):
    """The gates before publishing."""

    contract: ContractSpec = Field(ContractSpec(), description="Signature contract.")
    tolerance: Tolerance = Field(
        EXACT_TOLERANCE, description="Largest difference between the version's answers and its source's."
    )
    tolerances: dict[str, Tolerance] = Field(
        {}, description="Tolerances of single outputs, by alias, instead of `tolerance`. Default none."
    )
    golden: str = Field(
        "",
        description="`.npz` file with one array an input alias: requests somebody chose, all rows in one and the first "
        "row alone, whose answers are compared with the source's. Default: the warm-up file's and generated ones only.",
    )
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 2, 32),
        min_length=1,
        description="Rows of the generated requests; the last should be the most a server batches. Default [1, 2, 32].",
    )
    serving_version: str | None = Field(
        None,
        pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$",
        description="TensorFlow release of the pinned serving image, such as `2.19`, which its digest does not tell: a "
        "graph that is newer is refused. Default none: not checked, and the record says so.",
    )
    newer_producer_waiver: Reason | None = Field(
        None,
        description="Why a graph written by a newer TensorFlow than the server's goes on all the same; written into "
        "the record. Default none.",
    )
    evaluate: Evaluate | None = Field(None, description="Labelled evaluation; none: not evaluated. Default none.")
    limits: Limits = Field(Limits(), description="Size, load time and memory.")
    allow_ops: tuple[str, ...] = Field(
        (),
        description="Ops by name that the model may hold beyond Slipway's list, such as one of your own serving image. "
        "Each that is met is noted in the record. Default none.",
    )
    timeout_s: int = Field(900, ge=1, description="Seconds the step may take. Default 900.")
