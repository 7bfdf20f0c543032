"""From measurements to a decision: a pure function, so that a verdict can be computed again from its record.

Promotion is an intersection of evidence: every guardrail that applies must have shown on its own that the candidate is
within its budget, so no correction is needed and nothing is promoted because nothing failed. Rollback is a union: one
guardrail with evidence of harm is enough, so alpha is divided among them. Both hold however often this is called.
"""

import math
from collections.abc import Sequence

import numpy as np

from components.canary import guardrails, statistics
from components.canary.guardrails import Evidence
from components.canary.measure import Arm, Measurements
from components.canary.statistics import Floats, Indices
from components.core.spec import Budgets, CanaryLimits
from components.core.verdict import (
    MAX_TRAJECTORY_POINTS,
    ArmSample,
    Decision,
    GuardrailResult,
    Judgement,
    Kind,
    Phase,
    Point,
    Sample,
)

ALPHA_WEIGHTS = {"error_rate": 2.0, "error_ratio": 2.0, "churn": 2.0, "latency_ratio": 1.0, "latency_ms": 1.0}
"""How alpha is divided: errors and wrong answers get twice the share of slow ones."""

LIVENESS_REQUESTS = 20
"""Requests in a row from the start without any answer after which a candidate counts as dead."""

_LOG10_LIMIT = 300.0
"""log10 of an e-value is cut off here, both ways: beyond it nothing changes, and JSON has no infinity."""

_FIRST_RELEASE = "There is no stable version to compare with: this is a first release."
_NULL_BUDGET = "The spec gives no budget for it."


def judge(
    measurements: Measurements, budgets: Budgets, limits: CanaryLimits, *, has_stable: bool, finished: bool
) -> Judgement:
    """Decide on what was measured so far.

    Args:
        measurements: All judged requests, warm-up excluded.
        budgets: The guardrails.
        limits: Alpha, beta, the least sample, and the window that makes one observation.
        has_stable: Whether there is a stable version; if not, relative guardrails do not apply.
        finished: Whether no more requests will come, so that "not yet" becomes inconclusive.

    Returns:
        PROMOTE, ROLLBACK, CONTINUE or INCONCLUSIVE, with the evidence of every guardrail. What the measurements do not
        know (origin of the requests, declared rate, stable's version) is left at its default.
    """
    applicable, skipped = _collect(measurements, budgets, limits.event_window_s, has_stable=has_stable)
    split = split_alpha([evidence.name for evidence in applicable], limits.alpha)
    results = (
        _liveness(measurements),
        _contract(measurements, has_stable=has_stable),
        *(_result(evidence, split[evidence.name], limits.beta) for evidence in applicable),
        *skipped,
    )
    requests = len(measurements.rows(Arm.CANDIDATE))
    decision, reasons = decide(results, requests, limits.min_requests, finished=finished)
    return Judgement(
        decision=decision,
        reasons=reasons,
        guardrails=results,
        alpha=limits.alpha,
        beta=limits.beta,
        alpha_split=split,
        min_requests=limits.min_requests,
        sample=_sample(measurements, has_stable=has_stable),
    )


def split_alpha(names: Sequence[str], alpha: float) -> dict[str, float]:
    """Divide alpha among the guardrails that apply, by ``ALPHA_WEIGHTS``; by the union bound the whole keeps alpha."""
    total = sum(ALPHA_WEIGHTS[name] for name in names)
    return {name: alpha * ALPHA_WEIGHTS[name] / total for name in names}


def decide(
    results: Sequence[GuardrailResult], requests: int, min_requests: int, *, finished: bool
) -> tuple[Decision, tuple[str, ...]]:
    """Return the decision that guardrails add up to, and why.

    Args:
        results: Every guardrail, those that do not apply included.
        requests: Judged requests to the candidate.
        min_requests: Fewest of them that a promotion needs.
        finished: Whether no more will come.
    """
    harmed = [result for result in results if result.phase is Phase.HARMED]
    if harmed:
        return Decision.ROLLBACK, tuple(f"{result.name}: {result.reason}" for result in harmed)
    if requests == 0:
        waiting: tuple[str, ...] = ("Nothing was measured.",)
    else:
        waiting = tuple(f"{result.name}: {result.reason}" for result in results if result.phase is Phase.UNDECIDED)
        if requests < min_requests:
            waiting += (f"Only {requests:,} requests were judged; a promotion needs {min_requests:,}.",)
    passed = [result.name for result in results if result.phase is Phase.PASSED]
    if not waiting and passed:
        names = ", ".join(passed)
        return Decision.PROMOTE, (f"Each guardrail that applies has evidence of its own: {names}.",)
    return (Decision.INCONCLUSIVE if finished else Decision.CONTINUE), waiting or ("No guardrail applies.",)


def _collect(
    measured: Measurements, budgets: Budgets, window_s: float, *, has_stable: bool
) -> tuple[list[Evidence], list[GuardrailResult]]:
    found = [guardrails.error_rate(measured, budgets, window_s)]
    skipped = []
    relative = (
        ("error_ratio", budgets.error_ratio),
        ("churn", budgets.churn),
        ("latency_ratio", budgets.latency_ratio),
    )
    for name, budget in relative:
        if budget is None or not has_stable:
            skipped.append(_not_applicable(name, Kind.RELATIVE, _NULL_BUDGET if budget is None else _FIRST_RELEASE))
        elif name == "error_ratio":
            found.append(guardrails.error_ratio(measured, budget, budgets.error_margin, window_s))
        elif name == "churn":
            found.append(guardrails.churn(measured, budget, window_s))
        else:
            found.append(guardrails.latency_ratio(measured, budgets, budget, window_s))
    if budgets.latency_ms is None:
        skipped.append(_not_applicable("latency_ms", Kind.ABSOLUTE, _NULL_BUDGET))
    else:
        found.append(guardrails.latency_ms(measured, budgets, budgets.latency_ms, window_s))
    return found, skipped


def _not_applicable(name: str, kind: Kind, reason: str) -> GuardrailResult:
    return GuardrailResult(name=name, kind=kind, phase=Phase.NOT_APPLICABLE, reason=reason)


def _liveness(measured: Measurements) -> GuardrailResult:
    """Judge whether the candidate answers at all."""
    codes = measured.code[measured.rows(Arm.CANDIDATE)]
    answered = np.flatnonzero(codes == 0)
    phase, at = Phase.UNDECIDED, None
    reason = f"No answer to {len(codes):,} requests yet." if len(codes) else "Nothing was sent yet."
    if len(answered):
        phase, at = Phase.PASSED, int(answered[0]) + 1
        reason = f"The candidate answered {len(answered):,} of {len(codes):,} requests."
    elif len(codes) >= LIVENESS_REQUESTS:
        phase, at = Phase.HARMED, LIVENESS_REQUESTS
        reason = f"The candidate answered none of {len(codes):,} requests."
    return GuardrailResult(
        name="liveness", kind=Kind.DETERMINISTIC, phase=phase, reason=reason, n=len(codes), decided_at=at
    )


def _contract(measured: Measurements, *, has_stable: bool) -> GuardrailResult:
    """Judge whether every answer has the outputs, dtypes, shapes and finite numbers that it must have."""
    rows = measured.rows(Arm.CANDIDATE)
    answered = measured.code[rows] == 0
    broken = np.flatnonzero(measured.fault[rows] > 0)
    n = int(np.count_nonzero(answered))
    phase, at, reason = Phase.UNDECIDED, None, "No answer could be checked yet."
    if len(broken):
        phase, at = Phase.HARMED, int(broken[0]) + 1
        first = measured.faults[measured.fault[rows[broken[0]]]]
        reason = f"{len(broken):,} of {n:,} answers break the contract; the first: {first}."
    elif n:
        phase, at = Phase.PASSED, int(np.flatnonzero(answered)[0]) + 1
        against = "the signature and the stable version's answers" if has_stable else "the signature"
        reason = f"All {n:,} answers agree with {against} in outputs, dtypes and shapes, and are finite."
    return GuardrailResult(name="contract", kind=Kind.DETERMINISTIC, phase=phase, reason=reason, n=n, decided_at=at)


def _result(evidence: Evidence, alpha: float, beta: float) -> GuardrailResult:
    # Wealth begins at 1, hence the largest value is at least that.
    best_harm = max(0.0, float(evidence.log_harm.max(initial=0.0)))
    best_safety = max(0.0, float(evidence.log_safety.max(initial=0.0)))
    harmed = statistics.first_reach(evidence.log_harm, 1 / alpha)
    passed = statistics.first_reach(evidence.log_safety, 1 / beta)
    decided = harmed if harmed is not None else passed
    phase = Phase.HARMED if harmed is not None else Phase.PASSED if passed is not None else Phase.UNDECIDED
    points = _trajectory(evidence, decided, 1 - beta)
    last = points[-1] if points else None
    return GuardrailResult(
        name=evidence.name,
        kind=evidence.kind,
        phase=phase,
        reason=_reason(evidence, phase, last, best_harm=best_harm, best_safety=best_safety, alpha=alpha, beta=beta),
        unit=evidence.unit,
        budget=evidence.budget,
        margin=evidence.margin,
        estimate=last.estimate if last else None,
        low=last.low if last else None,
        high=last.high if last else None,
        confidence=1 - beta,
        log10_harm=_log10(best_harm),
        log10_safety=_log10(best_safety),
        alpha=alpha,
        beta=beta,
        n=evidence.n,
        observations=evidence.observations,
        decided_at=None if decided is None else int(evidence.rank[decided]),
        trajectory=points,
    )


def _log10(log_e: float) -> float:
    return float(np.clip(log_e / math.log(10), -_LOG10_LIMIT, _LOG10_LIMIT))


def _trajectory(evidence: Evidence, decided: int | None, confidence: float) -> tuple[Point, ...]:
    """Thin the looks out, keeping the deciding and the last one; ends are intersected over time, which stays valid."""
    if not len(evidence.rank):
        return ()
    even = np.linspace(0, len(evidence.rank) - 1, MAX_TRAJECTORY_POINTS - 1).round().astype(np.int64)
    which: Indices = np.unique(even if decided is None else np.append(even, decided))
    estimate, low, high = evidence.sequence(which, confidence)
    low, high = np.maximum.accumulate(low), np.minimum.accumulate(high)
    return tuple(
        Point(
            n=int(evidence.rank[look]),
            estimate=_finite(estimate, position),
            low=_finite(low, position),
            high=_finite(high, position),
            log10_harm=_rounded(_log10(float(evidence.log_harm[look]))),
            log10_safety=_rounded(_log10(float(evidence.log_safety[look]))),
        )
        for position, look in enumerate(which.tolist())
    )


def _finite(values: Floats, position: int) -> float | None:
    value = float(values[position])
    return _rounded(value) if math.isfinite(value) else None


def _rounded(value: float) -> float:
    """Keep six digits: more than a plot or a person needs, and half the record."""
    return float(f"{value:.6g}")


def _reason(
    evidence: Evidence,
    phase: Phase,
    last: Point | None,
    *,
    best_harm: float,
    best_safety: float,
    alpha: float,
    beta: float,
) -> str:
    if last is None:
        return f"Nothing to judge yet: {evidence.observed}."
    seen = evidence.observed[0].upper() + evidence.observed[1:]
    budget = f"the budget of {_budget(evidence)}"
    if phase is Phase.HARMED:
        return f"{seen}: more than {budget}, at a chance of error of {alpha:.2g}."
    if evidence.margin:
        budget += f" (and {evidence.margin:.3g} of the requests)"
    if phase is Phase.PASSED:
        return f"{seen}: within {budget}, at a chance of error of {beta:.2g}."
    outlook = _outlook(evidence, best_harm, best_safety, alpha, beta)
    return f"{seen}: not enough to tell from {budget}{outlook}."


def _budget(evidence: Evidence) -> str:
    relative_count = evidence.name in ("error_ratio", "latency_ratio")
    return f"{evidence.budget:.3g} times stable's" if relative_count else f"{evidence.budget * 100:.3g} %"


def _outlook(evidence: Evidence, best_harm: float, best_safety: float, alpha: float, beta: float) -> str:
    """Say how many more requests like these would decide, if the evidence went on growing as it did."""
    n = int(evidence.rank[-1])
    needs = [
        n * (math.log(1 / chance) / best - 1)
        for best, chance in ((best_harm, alpha), (best_safety, beta))
        if best > math.log(1.5)
    ]
    return f"; about {max(1, math.ceil(min(needs))):,} more requests like these would decide" if needs else ""


def _sample(measured: Measurements, *, has_stable: bool) -> Sample:
    rows = measured.rows(Arm.CANDIDATE)
    lag = measured.lag_s if len(measured) else np.zeros(1)
    span = float(np.ptp(measured.time_s[rows])) if len(rows) > 1 else 0.0
    sent = measured.time_s[rows] + measured.lag_s[rows]
    sent_span = float(np.ptp(sent)) if len(rows) > 1 else 0.0
    return Sample(
        candidate=_arm(measured, rows),
        stable=_arm(measured, measured.rows(Arm.STABLE)) if has_stable else None,
        rate_achieved_per_s=(len(rows) - 1) / max(sent_span, span, 1e-9) if len(rows) > 1 else 0.0,
        lag_p50_s=float(np.quantile(lag, 0.5)),
        lag_p99_s=float(np.quantile(lag, 0.99)),
        lag_max_s=float(lag.max()),
        duration_s=float((measured.time_s + measured.latency_s).max()) if len(measured) else 0.0,
    )


def _arm(measured: Measurements, rows: Indices) -> ArmSample:
    codes, counts = np.unique(measured.code[rows], return_counts=True)
    latency = measured.latency_s[rows[measured.code[rows] == 0]]
    return ArmSample(
        requests=len(rows),
        errors={
            measured.codes[code]: int(count)
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
            if code
        },
        median_latency_s=float(np.quantile(latency, 0.5)) if len(latency) else None,
        p99_latency_s=float(np.quantile(latency, 0.99)) if len(latency) else None,
    )
