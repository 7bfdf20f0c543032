"""What a canary found, as evidence: one decision, and behind it every guardrail with its numbers and its reason.

Only types live here, so that reading a record needs neither numpy nor the statistics that made it. The words are those
of sequential testing: an *e-value* is a bet against a hypothesis, worth at most 1 on average if the hypothesis is true,
at whatever moment one looks; an e-value of 100 therefore refutes it at a chance of error of 1 %.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from manifests.spec import Frozen

MAX_TRAJECTORY_POINTS = 120


class Decision(StrEnum):
    """What follows from the evidence so far."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    INCONCLUSIVE = "inconclusive"
    CONTINUE = "continue"


class Phase(StrEnum):
    """How far one guardrail has got."""

    NOT_APPLICABLE = "not applicable"
    UNDECIDED = "undecided"
    PASSED = "passed"
    HARMED = "harmed"


class Kind(StrEnum):
    """What a guardrail compares the candidate with."""

    DETERMINISTIC = "deterministic"
    """A rule that a single answer can break."""
    ABSOLUTE = "absolute"
    """A number in the spec."""
    RELATIVE = "relative"
    """The stable version, on the same requests."""


class Point(Frozen):
    """One guardrail at one moment."""

    n: int = Field(ge=0, description="Judged requests to the candidate by then.")
    estimate: float | None = Field(description="In the guardrail's unit; none while there is nothing to divide by.")
    low: float | None = Field(description="Lower end of the confidence sequence, in the guardrail's unit.")
    high: float | None = Field(description="Upper end; none where nothing bounds it yet.")
    log10_harm: float = Field(description="log10 of the e-value against `within budget` then.")
    log10_safety: float = Field(description="log10 of the e-value against `at or beyond budget` then.")


class GuardrailResult(Frozen):
    """What one guardrail found, and the numbers it rests on."""

    name: str = Field(description="Name, as the budget is called in the spec, or `liveness` or `contract`.")
    kind: Kind
    phase: Phase
    reason: str = Field(min_length=1, description="One sentence that a person understands.")
    unit: str = Field("", description="Unit of budget, estimate and confidence sequence, such as `share of requests`.")
    budget: float | None = Field(None, description="Largest value that is no harm, in `unit`; none for a rule.")
    margin: float = Field(
        0.0, ge=0, description="What a promotion tolerates beyond the budget, as a share of requests; 0 for none."
    )
    estimate: float | None = Field(None, description="Observed value, in `unit`; none where nothing was observed.")
    low: float | None = Field(None, description="Lower end of the confidence sequence at `confidence`, in `unit`.")
    high: float | None = Field(None, description="Upper end of the confidence sequence at `confidence`, in `unit`.")
    confidence: float | None = Field(None, description="Coverage of the confidence sequence at all moments together.")
    log10_harm: float = Field(0.0, description="log10 of the largest e-value against `within budget`.")
    log10_safety: float = Field(0.0, description="log10 of the largest e-value against `at or beyond budget`.")
    alpha: float | None = Field(None, description="This guardrail's share of alpha; harm needs an e-value of 1/alpha.")
    beta: float | None = Field(None, description="Chance to pass at the budget's edge; passing needs 1/beta.")
    n: int = Field(0, ge=0, description="Requests to the candidate that this guardrail could judge.")
    observations: int = Field(
        0, ge=0, description="Independent observations they were counted as; fewer than n where a batch counts as one."
    )
    decided_at: int | None = Field(
        None, description="Judged requests to the candidate when the phase was reached; none while undecided."
    )
    trajectory: tuple[Point, ...] = Field(
        (), max_length=MAX_TRAJECTORY_POINTS, description="How it came to this, thinned out for plots."
    )


class ArmSample(Frozen):
    """What was sent to one server."""

    requests: int = Field(ge=0, description="Requests judged.")
    errors: dict[str, int] = Field({}, description="Failed requests by code.")
    median_latency_s: float | None = Field(
        None, description="Seconds from the scheduled moment; none if none answered."
    )
    p99_latency_s: float | None = Field(None, description="Seconds from the scheduled moment; none if none answered.")


class Sample(Frozen):
    """What the judgement rests on."""

    candidate: ArmSample
    stable: ArmSample | None = Field(None, description="None for a first release.")
    warm_up_requests: int = Field(0, ge=0, description="First requests to each server, sent and not judged.")
    origin: str = Field("", description="Where the requests came from, in words.")
    origin_kind: Literal["recorded", "warm-up", "generated", "none"] = Field(
        "none", description="A file of the user's, the model's warm-up file, generated from the signature, or none."
    )
    seed: int = Field(0, description="Seed of the draw of requests and of the order of the two servers.")
    rate_declared_per_s: float = Field(0.0, ge=0, description="Requests a second to each server that were asked for.")
    rate_achieved_per_s: float = Field(0.0, ge=0, description="Requests a second to each server that were sent.")
    lag_p50_s: float = Field(0.0, ge=0, description="Median seconds by which a request left later than scheduled.")
    lag_p99_s: float = Field(0.0, ge=0, description="99th percentile of the same.")
    lag_max_s: float = Field(0.0, ge=0, description="Largest of the same.")
    duration_s: float = Field(0.0, ge=0, description="Seconds from the first request to the judgement.")


class Judgement(Frozen):
    """A decision and all that led to it."""

    decision: Decision
    reasons: tuple[str, ...] = Field(min_length=1, description="Why, in sentences; the weightiest first.")
    guardrails: tuple[GuardrailResult, ...]
    alpha: float = Field(gt=0, lt=1, description="Chance, over the whole canary, to roll back within all budgets.")
    beta: float = Field(gt=0, lt=1, description="Chance to promote at the edge of a budget.")
    alpha_split: dict[str, float] = Field({}, description="Alpha of each guardrail that applies; the sum is alpha.")
    min_requests: int = Field(ge=1, description="Requests to the candidate that a promotion needs.")
    sample: Sample
    stable_version: int | None = Field(None, description="Version compared with; none for a first release.")

    def guardrail(self, name: str) -> GuardrailResult:
        """Return the guardrail of that name.

        Raises:
            KeyError: There is none.
        """
        for found in self.guardrails:
            if found.name == name:
                return found
        raise KeyError(name)
