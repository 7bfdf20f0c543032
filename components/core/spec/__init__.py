"""What a user asks for: one YAML file, parsed once into frozen values that the rest of Slipway trusts.

Reading files, overlays and errors with line numbers is the work of ``components.core.specfile``; here is only the
vocabulary. Relative paths are relative to the folder of the spec file.
"""

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, StringConstraints, field_validator

from components.core.spec.canary import Budgets, Canary, CanaryLimits, Traffic
from components.core.spec.export import Export, Port, SignatureSpec, Warmup
from components.core.spec.optimize import EXACT_TOLERANCE, Measure, Optimize, Reason, Tolerance
from components.core.spec.source import SHA256, SOURCE_URI, Fetch, FromVersion, SecretRef, Sha256, Source, Train
from components.core.spec.validate import ContractSpec, Evaluate, Limits, Metric, MetricLimit, SliceSpec, Validate
from manifests.spec import DnsLabel, Frozen, ImageByDigest, ModelName, ServingSpec

API_VERSION = "slipway.dev/v1"
STORE_URI = r"^(file://.+|gs://.+|[^:]+)$"
CRON = r"^\S+ \S+ \S+ \S+ \S+$"

_CRON_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 7),
)
_CRON_FIELD = re.compile(r"(\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?(,(\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?)*")

Cron = Annotated[str, StringConstraints(pattern=CRON)]


class Store(Frozen):
    """Where versions and evidence are kept."""

    uri: str = Field(pattern=STORE_URI, description="A path, `file://` or `gs://bucket/prefix` URI.")


class Schedule(Frozen):
    """When an engine runs the release by itself."""

    cron: Cron = Field(description="Five fields: minute hour day-of-month month day-of-week.")
    timezone: str = Field("UTC", description="IANA time zone. Default `UTC`.")
    starting_deadline_s: int = Field(3600, ge=60, description="Seconds a missed start may be late. Default 3600.")

    @field_validator("cron")
    @classmethod
    def _is_a_time(cls, cron: str) -> str:
        for field, (name, low, high) in zip(cron.split(), _CRON_FIELDS, strict=True):
            ranges = [part.partition("/")[0] for part in field.split(",")]
            numbers = [int(number) for part in ranges for number in re.findall(r"\d+", part)]
            if not _CRON_FIELD.fullmatch(field) or any(not low <= number <= high for number in numbers):
                raise ValueError(f"{name} must be * or numbers from {low} to {high}, found {field}")
        return cron

    @field_validator("timezone")
    @classmethod
    def _is_a_place(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("must be a time zone of the IANA database, such as Europe/Berlin") from error
        return timezone


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


__all__ = [
    "API_VERSION",
    "CRON",
    "EXACT_TOLERANCE",
    "SHA256",
    "SOURCE_URI",
    "STORE_URI",
    "Budgets",
    "Canary",
    "CanaryLimits",
    "ContractSpec",
    "Cron",
    "Engine",
    "Evaluate",
    "Export",
    "Fetch",
    "FromVersion",
    "Limits",
    "Measure",
    "Metric",
    "MetricLimit",
    "Optimize",
    "Port",
    "Reason",
    "ReleaseSpec",
    "Schedule",
    "SecretRef",
    "Sha256",
    "SignatureSpec",
    "SliceSpec",
    "Source",
    "Store",
    "Tolerance",
    "Traffic",
    "Train",
    "Validate",
    "Warmup",
]
