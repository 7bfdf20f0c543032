"""The section ``canary``: how a candidate proves itself."""

from typing import Literal

from pydantic import Field, model_validator

from manifests.spec import Frozen


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

    @model_validator(mode="after")
    def _enough_may_be_asked(self) -> "CanaryLimits":
        if self.min_requests > self.max_requests:
            raise ValueError(f"min_requests can never be reached: max_requests is only {self.max_requests}")
        return self


class Canary(Frozen):
    """How a candidate proves itself against stable."""

    traffic: Traffic = Field(Traffic(), description="Requests.")
    budgets: Budgets = Field(Budgets(), description="Guardrails.")
    limits: CanaryLimits = Field(CanaryLimits(), description="Sample sizes and error rates.")
