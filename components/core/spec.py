"""What a user asks for: one YAML file, parsed once into frozen values that the rest of Slipway trusts.

Reading files, overlays and errors with line numbers is the work of ``components.core.specfile``; here is only the
vocabulary. Relative paths are relative to the folder of the spec file.
"""

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from manifests.spec import DnsLabel, Frozen, ImageByDigest, ModelName, Resources, ServingSpec

API_VERSION = "slipway.dev/v1"

SHA256 = r"^(sha256:)?[0-9a-f]{64}$"
CRON = r"^\S+ \S+ \S+ \S+ \S+$"
SOURCE_URI = r"^(file://|https://|gs://|\.{0,2}/|[\w.\-]+/|[\w.\-]+$)"

Sha256 = Annotated[str, StringConstraints(pattern=SHA256)]
Cron = Annotated[str, StringConstraints(pattern=CRON)]
Reason = Annotated[str, StringConstraints(min_length=8)]

_SECRET_NAME = re.compile(r"(?i)(secret|token|passw|credential|api[-_]?key|private[-_]?key|access[-_]?key)")


class SecretRef(Frozen):
    """A reference to a secret; the value never stands in a spec, a record or a log."""

    secret: str = Field(
        description="Name of the Kubernetes Secret. Locally the environment variable of the same name as the entry is "
        "handed on."
    )
    key: str = Field(description="Key within the Secret.")


class Train(Frozen):
    """A training command: the user's own program, run as a child process or in the user's own image."""

    command: tuple[str, ...] = Field(
        min_length=1,
        description="Program and arguments. `{output}` becomes the directory to write the model to, `{inputs}` the "
        "folder the inputs are relative to; `python` is this interpreter where Slipway runs it itself.",
    )
    args: dict[str, str | int | float | bool] = Field(
        {},
        description="Further arguments, appended as `--name=value`; one entry is easily overridden by `--set`. "
        "Default none.",
    )
    inputs: tuple[str, ...] = Field(
        (),
        description="Files and folders the result depends on. They enter the release's identity, so an unchanged "
        "release is a no-op; without any, every run trains anew. Default none.",
    )
    env: dict[str, str | SecretRef] = Field(
        {}, description="Environment variables: plain values, or references to secrets. Default none."
    )
    image: str = Field(
        "",
        description="On an engine: the user's image, in which Slipway need not be installed. Default: Slipway's "
        "`model` image.",
    )
    resources: Resources = Field(
        Resources(cpu="2", memory="4Gi"), description="On an engine: what the training pod asks for."
    )
    timeout_s: int = Field(3600, ge=1, description="Seconds the command may take. Default 3600.")

    @field_validator("env")
    @classmethod
    def _secrets_are_references(cls, env: dict[str, str | SecretRef]) -> dict[str, str | SecretRef]:
        for name, value in env.items():
            if isinstance(value, str) and value and _SECRET_NAME.search(name):
                raise ValueError(
                    f"{name} looks like a secret: give a reference ({{secret: NAME, key: KEY}}), not its value"
                )
        return env


class Fetch(Frozen):
    """A model somebody else made, by URI."""

    uri: str = Field(
        pattern=SOURCE_URI,
        description="A path, `file://`, `https://` or `gs://` URI of a model directory, model file or archive (.tar, "
        ".tar.gz, .tgz, .zip).",
    )
    sha256: Sha256 | None = Field(
        None,
        description="Digest the fetched file must have (of a directory: its manifest's digest). Default none: "
        "recorded, not required.",
    )
    timeout_s: int = Field(1800, ge=1, description="Seconds the fetch may take. Default 1800.")
    max_bytes: int = Field(20 * 2**30, ge=1, description="Bytes the model may have, unpacked. Default 20 GiB.")


class FromVersion(Frozen):
    """A version already published in another store: released as it is, never rebuilt."""

    store: str = Field(description="URI of the other store.")
    model: ModelName | None = Field(None, description="Model name there. Default: this model's name.")
    version: int = Field(ge=1, description="Version number there.")


class Source(Frozen):
    """Where the model comes from: exactly one of the three."""

    train: Train | None = Field(None, description="Train it by a command. Default none.")
    fetch: Fetch | None = Field(None, description="Fetch it. Default none.")
    version: FromVersion | None = Field(None, description="Take a published version of another store. Default none.")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Source":
        given = [name for name in ("train", "fetch", "version") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of train, fetch, version is needed, found {' and '.join(given) or 'none'}")
        return self


class Port(Frozen):
    """One input or output of an exported signature."""

    source: str = Field(
        "",
        description="What it is in the model: an argument, output or tensor name. Default: the alias itself, or the "
        "only one there is.",
    )
    dtype: str = Field("", description="Expected TensorFlow dtype, such as `float32`. Default: the model's own.")
    shape: tuple[int | None, ...] | None = Field(
        None, description="Expected shape, `null` for a dimension that may vary. Default: the model's own."
    )


class SignatureSpec(Frozen):
    """One signature to export: aliases that clients use."""

    inputs: dict[str, Port] = Field(description="Inputs by alias.", min_length=1)
    outputs: dict[str, Port] = Field(description="Outputs by alias.", min_length=1)


class Warmup(Frozen):
    """Requests a server replays before it says it is ready (`assets.extra/tf_serving_warmup_requests`)."""

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1,), description="Rows of each generated request. Default [1]."
    )
    seed: int = Field(0, ge=0, description="Seed of the generated values. Default 0.")


class Export(Frozen):
    """How the SavedModel is written."""

    signatures: dict[str, SignatureSpec] = Field(
        {}, description="Signatures by key, such as `serving_default`. Default: the model's own."
    )
    tags: tuple[str, ...] = Field(("serve",), min_length=1, description="The meta graph's tags. Default [serve].")
    further_tag_sets: tuple[tuple[str, ...], ...] = Field(
        (),
        description="Further tag sets under which a server may load the model, such as [[serve, gpu]]: each is a meta "
        "graph of its own, and all share one set of variables. Default none.",
    )
    up_to: str = Field(
        "",
        description="Of a Keras model: the layer whose output the export ends at, for a piece of a model. Default: "
        "the whole model.",
    )
    reusable: bool = Field(
        default=False,
        description="Whether Python code must be able to load, call and train the model further (TF Hub's interface: "
        "`__call__`, variables, trainable_variables, regularization_losses). Made of a Keras model, demanded of a "
        "SavedModel. Such a model is not optimized, which would drop its objects. Default false.",
    )
    warmup: Warmup | None = Field(
        Warmup(), description="Warm-up requests; `null` for none. Default: one of batch size 1 a signature."
    )

    @model_validator(mode="after")
    def _distinct_tag_sets(self) -> "Export":
        sets = [frozenset(tags) for tags in (self.tags, *self.further_tag_sets)]
        if len(set(sets)) < len(sets) or not all(sets):
            raise ValueError("tag sets must differ from each other, and none may be empty")
        if self.reusable and self.further_tag_sets:
            raise ValueError("tf.saved_model.load gives no objects of a model with several tag sets: reusable needs one")
        return self


class Tolerance(Frozen):
    """How far an output may be from the original's: |a − b| ≤ absolute + relative · max|b|, and why that is right."""

    absolute: float = Field(ge=0, description="In the output's own unit.")
    relative: float = Field(ge=0, description="As a fraction of the output's largest magnitude.")
    why: Reason = Field(description="Why this much is harmless; written into the record.")


EXACT_TOLERANCE = Tolerance(absolute=1e-6, relative=2e-4, why="reordered float32 arithmetic of folded constants")


class Measure(Frozen):
    """How original and optimized model are timed against each other."""

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 32), min_length=1, description="Rows a request. Default [1, 32]."
    )
    pairs: int = Field(60, ge=10, le=10_000, description="Interleaved pairs a batch size. Default 60.")


class Optimize(Frozen):
    """Which graph passes run, and how close their result must stay."""

    profile: Literal["exact", "none"] = Field(
        "exact", description="`exact`: float32, same answers. `none`: the export is served as it is. Default `exact`."
    )
    passes: tuple[str, ...] = Field((), description="Passes by name, instead of the profile's. Default: the profile's.")
    tolerance: Tolerance = Field(EXACT_TOLERANCE, description="Largest difference from the original's answers.")
    required: bool = Field(
        default=False,
        description="Whether a release without any pass that fired is rejected. Default false: the original goes on.",
    )
    measure: Measure = Field(Measure(), description="How the gain is measured.")
    timeout_s: int = Field(900, ge=1, description="Seconds the step may take. Default 900.")


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


class Store(Frozen):
    """Where versions and evidence are kept."""

    uri: str = Field(description="A path, `file://` or `gs://bucket/prefix` URI.")


class Traffic(Frozen):
    """The requests of the canary: the same ones to stable and candidate."""

    protocol: Literal["grpc", "rest"] = Field("grpc", description="Protocol of the replay. Default `grpc`.")
    signature: str = Field("serving_default", description="Signature that is asked. Default `serving_default`.")
    requests: str = Field(
        "",
        description="`.npz` file with one array an input alias; a request is `batch_size` rows. Default: the warm-up "
        "file's requests.",
    )
    batch_size: int = Field(1, ge=1, description="Rows a request. Default 1.")
    rate_per_s: float = Field(
        100.0, gt=0, le=100_000, description="Requests a second to each server, open loop. Default 100."
    )
    max_in_flight: int = Field(32, ge=1, le=10_000, description="Requests that may be unanswered at once. Default 32.")
    request_timeout_s: float = Field(
        5.0, gt=0, description="Seconds after which a request counts as an error. Default 5."
    )
    seed: int = Field(0, ge=0, description="Seed of the order in which requests are drawn. Default 0.")


class Budgets(Frozen):
    """How much harm is too much. Each one is a guardrail; one that is null is not applied, and the record says so."""

    error_rate: float = Field(
        0.01, gt=0, lt=1, description="Absolute: share of candidate requests that may fail. Default 0.01."
    )
    error_ratio: float | None = Field(
        1.5, ge=1, description="Against stable: candidate errors a request, as a multiple of stable's. Default 1.5."
    )
    error_margin: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Share of requests: a promotion proves that candidate errors stay below `error_ratio` times "
        "stable's plus this, since no number of requests without an error proves a ratio. Default 0.01.",
    )
    churn: float | None = Field(
        0.05,
        gt=0,
        lt=1,
        description="Against stable: mean disagreement between both answers to one request, in [0, 1]. Default 0.05.",
    )
    compare: Literal["top1", "relative-error"] = Field(
        "top1",
        description="How two answers are compared. `top1`: another largest score; whole numbers and strings: another "
        "value; one float score a row has no largest one and is compared as `relative-error`: largest difference of a "
        "row over stable's largest magnitude, at most 1. Default `top1`.",
    )
    output: str = Field("", description="Output alias that is compared. Default: the first in alphabetical order.")
    latency_ratio: float | None = Field(
        1.25,
        gt=1,
        description="Against stable: how much slower the candidate may be at any quantile that matters. Default 1.25.",
    )
    latency_slack_ms: float = Field(
        1.0, ge=0, description="Against stable: milliseconds that are no harm on top of `latency_ratio`. Default 1."
    )
    latency_margin: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Share of requests whose latency may exceed `latency_ratio` or `latency_ms` in a promoted "
        "candidate. Default 0.01.",
    )
    latency_ms: float | None = Field(
        None,
        gt=0,
        description="Absolute: milliseconds that all but `latency_margin` of candidate requests must stay below. "
        "Default none.",
    )


class CanaryLimits(Frozen):
    """When the canary has seen enough."""

    min_requests: int = Field(
        100, ge=1, description="Requests to the candidate before it may be promoted. Default 100."
    )
    max_requests: int = Field(
        5000, ge=1, description="Requests to the candidate after which no verdict means rollback. Default 5000."
    )
    max_duration_s: float = Field(
        900.0, gt=0, description="Seconds after which no verdict means rollback. Default 900."
    )
    alpha: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="Chance, over the whole canary, to roll back a candidate within all budgets. Default 0.01.",
    )
    beta: float = Field(
        0.05, gt=0, lt=0.5, description="Chance to promote a candidate at the edge of a budget. Default 0.05."
    )
    warm_up_requests: int = Field(
        20, ge=0, description="First requests to each server that are sent and not judged. Default 20."
    )
    event_window_s: float = Field(
        0.005,
        ge=0,
        le=60,
        description="Requests to one server due within this many seconds count as one observation, because what a "
        "server batches fails or lags together; 0: each request is one. Default 0.005.",
    )


class Canary(Frozen):
    """How a candidate proves itself against stable."""

    traffic: Traffic = Field(Traffic(), description="Requests.")
    budgets: Budgets = Field(Budgets(), description="Guardrails.")
    limits: CanaryLimits = Field(CanaryLimits(), description="Sample sizes and error rates.")


class Schedule(Frozen):
    """When an engine runs the release by itself."""

    cron: Cron = Field(description="Five fields: minute hour day-of-month month day-of-week.")
    timezone: str = Field("UTC", description="IANA time zone. Default `UTC`.")
    starting_deadline_s: int = Field(3600, ge=60, description="Seconds a missed start may be late. Default 3600.")


class Engine(Frozen):
    """How the release runs as a pipeline on Kubeflow or Argo."""

    model_image: ImageByDigest | None = Field(
        None,
        description="Slipway's `model` image by digest, for the steps that need TensorFlow. Required by `compile`. "
        "Default none.",
    )
    namespace: DnsLabel = Field(
        "pipelines", description="Namespace of the pipeline's own pods (Argo). Default `pipelines`."
    )
    service_account: DnsLabel = Field(
        "slipway", description="ServiceAccount of the pipeline's own pods (Argo). Default `slipway`."
    )
    base_dir: str = Field(
        "/workspace",
        description="Folder in the images that relative paths of this spec start from. Default `/workspace`.",
    )


class ReleaseSpec(Frozen):
    """One model's release, from its source to its place in production."""

    apiVersion: Literal["slipway.dev/v1"] = Field(description="Always `slipway.dev/v1`.")  # noqa: N815 - the field's name in YAML
    model: ModelName = Field(description="Model name: lower-case letters, digits and dashes, at most 40.")
    source: Source = Field(description="Where the model comes from.")
    export: Export = Field(Export(), description="How the SavedModel is written.")
    optimize: Optimize = Field(Optimize(), description="Graph optimization.")
    # `validate` would hide pydantic's old method of that name, hence the alias.
    validation: Validate = Field(Validate(), alias="validate", description="Gates before publishing.")
    store: Store = Field(description="Where versions and evidence are kept.")
    serving: ServingSpec = Field(ServingSpec(), description="How versions are served.")
    canary: Canary = Field(Canary(), description="How a candidate proves itself.")
    engine: Engine = Field(Engine(), description="How it runs as a pipeline.")
    schedule: Schedule | None = Field(None, description="When an engine runs it by itself. Default none.")
