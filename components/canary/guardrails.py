"""What each guardrail counts, and the evidence that follows: measurements in, e-processes out, no decision yet.

Requests to one server due within one window (``event_window_s``) are one observation, the fraction of them that failed,
was slow or disagreed. A server that batches fails whole batches, so counting its requests one by one would take one
event for many; a fraction of correlated requests still has the same mean, which is all the statistics ask for. The
windows lie on the schedule, not on the answers, so that a server's behaviour cannot choose them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.canary import statistics
from components.canary.measure import Arm, Measurements
from components.canary.statistics import Floats, Indices
from components.core.spec import Budgets
from components.core.verdict import Kind

CALIBRATION_PAIRS = 50
"""First pairs, whose latencies on stable choose the bounds; the test begins after them, so it never saw its bounds."""

BOUND_QUANTILES = (0.5, 0.75, 0.9, 1.0)
"""Quantiles of stable's calibration latencies that become bounds."""

TAIL_MULTIPLES = (2.0, 4.0)
"""Further bounds, as multiples of the slowest calibration answer: where a tail that stable does not have shows up."""

Sequence = tuple[Floats, Floats, Floats]
"""Estimate and both ends of its confidence sequence, a value a look; NaN or infinite where there is none."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One statistical guardrail's evidence, a value a look.

    Args:
        name: The budget's name in the spec.
        kind: Absolute or relative.
        unit: Of budget and estimate.
        budget: Largest value that is no harm.
        margin: What safety tolerates beyond it.
        rank: Judged requests to the candidate at each look.
        log_harm: Log e-value against "within budget".
        log_safety: Log e-value against "at or beyond budget".
        sequence: Looks (by index) and confidence to estimate, low and high.
        n: Requests that could be judged.
        observations: Units they were counted as.
        observed: What was seen, in words, without a judgement.
    """

    name: str
    kind: Kind
    unit: str
    budget: float
    margin: float
    rank: Indices
    log_harm: Floats
    log_safety: Floats
    sequence: Callable[[Indices, float], Sequence]
    n: int
    observations: int
    observed: str


@dataclass(frozen=True, slots=True)
class _Units:
    """Rows grouped by window: where each group starts, its size, and the candidate requests judged by its end."""

    starts: Indices
    sizes: Floats
    rank: Indices
    at: Indices

    def fraction(self, values: npt.NDArray[np.generic]) -> Floats:
        """Return the mean of ``values`` in each unit."""
        if len(self.starts) == len(values):
            return values.astype(np.float64)
        return np.add.reduceat(values.astype(np.float64), self.starts) / self.sizes

    @property
    def ranks(self) -> Indices:
        return self.rank[self.at - 1]


def _group(time_s: Floats, rank: Indices, window_s: float) -> _Units:
    n = len(time_s)
    if n == 0:
        nothing = np.zeros(0, np.int64)
        return _Units(nothing, np.zeros(0), nothing, nothing)
    if window_s > 0:
        bins = np.floor(time_s / window_s)
        starts = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(np.diff(bins)) + 1])
    else:
        starts = np.arange(n, dtype=np.int64)
    ends = np.concatenate([starts[1:], np.array([n], np.int64)])
    return _Units(starts, (ends - starts).astype(np.float64), rank[ends - 1], statistics.looks(len(starts)))


def _ranks(measured: Measurements) -> Indices:
    """Return, for each row of the candidate, how many of its requests there are up to it; 0 on other rows."""
    rank = np.zeros(len(measured), np.int64)
    rows = measured.rows(Arm.CANDIDATE)
    rank[rows] = np.arange(1, len(rows) + 1)
    return rank


def error_rate(measured: Measurements, budgets: Budgets, window_s: float) -> Evidence:
    """Failed requests to the candidate, against the number in the spec."""
    rows = measured.rows(Arm.CANDIDATE)
    failed = measured.code[rows] > 0
    units = _group(measured.time_s[rows], _ranks(measured)[rows], window_s)
    observed = f"{np.count_nonzero(failed):,} of {len(rows):,} requests failed"
    return _mean("error_rate", Kind.ABSOLUTE, "share of requests", budgets.error_rate, units, failed, observed)


def latency_ms(measured: Measurements, budgets: Budgets, limit_ms: float, window_s: float) -> Evidence:
    """Answers of the candidate that took longer than the number in the spec."""
    rows = measured.rows(Arm.CANDIDATE)
    rows = rows[measured.code[rows] == 0]
    slow = measured.latency_s[rows] > limit_ms / 1000
    units = _group(measured.time_s[rows], _ranks(measured)[rows], window_s)
    observed = f"{np.count_nonzero(slow):,} of {len(rows):,} answers took longer than {limit_ms:g} ms"
    unit = f"share of answers over {limit_ms:g} ms"
    return _mean("latency_ms", Kind.ABSOLUTE, unit, budgets.latency_margin, units, slow, observed)


def churn(measured: Measurements, budget: float, window_s: float) -> Evidence:
    """Mean disagreement of the two answers to one request."""
    ours, _ = _both_answered(measured)
    compared = ~np.isnan(measured.disagreement[ours])
    rows = ours[compared]
    differences = measured.disagreement[rows]
    units = _group(measured.time_s[rows], _ranks(measured)[rows], window_s)
    mean = float(differences.mean()) if len(rows) else 0.0
    observed = f"the answers to {len(rows):,} requests disagree by {mean:.2%} on average"
    return _mean("churn", Kind.RELATIVE, "mean disagreement", budget, units, differences, observed)


def _both_answered(measured: Measurements) -> tuple[Indices, Indices]:
    ours, theirs = measured.pairs()
    answered = (measured.code[ours] == 0) & (measured.code[theirs] == 0)
    return ours[answered], theirs[answered]


def _mean(
    name: str, kind: Kind, unit: str, budget: float, units: _Units, values: npt.NDArray[np.generic], observed: str
) -> Evidence:
    x, at = units.fraction(values), units.at
    sums = statistics.totals(x, at) if len(at) else np.zeros(0)

    def sequence(which: Indices, confidence: float) -> Sequence:
        counts = at[which].astype(np.float64)
        low, high = statistics.mean_sequence(sums[which], counts, confidence)
        return sums[which] / counts, low, high

    def log_e(bets: tuple[Floats, Floats]) -> Floats:
        return statistics.bounded_mean(x, budget, bets, at) if len(at) else np.zeros(0)

    return Evidence(
        name=name,
        kind=kind,
        unit=unit,
        budget=budget,
        margin=0.0,
        rank=units.ranks,
        log_harm=log_e(statistics.harm_bets(budget)),
        log_safety=log_e(statistics.safety_bets(budget)),
        sequence=sequence,
        n=len(values),
        observations=len(x),
        observed=observed,
    )


def error_ratio(measured: Measurements, budget: float, margin: float, window_s: float) -> Evidence:
    """Failed requests of the candidate as a multiple of stable's, on the same requests."""
    ours, theirs = measured.pairs()
    units = _group(measured.time_s[ours], _ranks(measured)[ours], window_s)
    ours_failed, theirs_failed = measured.code[ours] > 0, measured.code[theirs] > 0
    observed = (
        f"{np.count_nonzero(ours_failed):,} of {len(ours):,} requests failed, {np.count_nonzero(theirs_failed):,} "
        "of the same requests to stable"
    )
    candidate, stable = units.fraction(ours_failed), units.fraction(theirs_failed)
    return Evidence(
        name="error_ratio",
        kind=Kind.RELATIVE,
        unit="candidate errors as a multiple of stable's",
        budget=budget,
        margin=margin,
        rank=units.ranks,
        log_harm=_if_any(units, lambda at: statistics.ratio_of_rates(candidate, stable, budget, at)),
        log_safety=_if_any(units, lambda at: statistics.not_worse(candidate, stable, budget, margin, at)),
        sequence=_ratio_sequence(candidate, stable, units.at),
        n=len(ours),
        observations=len(candidate),
        observed=observed,
    )


def _if_any(units: _Units, log_e: Callable[[Indices], Floats]) -> Floats:
    return log_e(units.at) if len(units.at) else np.zeros(0)


def _ratio_sequence(candidate: Floats, stable: Floats, at: Indices) -> Callable[[Indices, float], Sequence]:
    def sequence(which: Indices, confidence: float) -> Sequence:
        ours, theirs = (statistics.totals(side, at)[which] for side in (candidate, stable))
        low, high = statistics.ratio_sequence(ours, theirs, confidence, 0.5)
        estimate = np.divide(ours, theirs, out=np.full(len(which), np.inf), where=theirs > 0)
        return np.where(ours + theirs > 0, estimate, np.nan), low, high

    return sequence


def latency_ratio(measured: Measurements, budgets: Budgets, ratio: float, window_s: float) -> Evidence:
    """Slow answers against stable, at bounds over the whole range of stable's latencies.

    "At most r times as slow" means: at no bound b does the candidate exceed r·b (plus the slack) more often than stable
    exceeds b. Harm at any bound is harm (their e-values are averaged); safety needs every bound to be safe, up to the
    margin. Quantiles are never compared: counts are exact where a p99 is a guess. By how much a pair left late on both
    sides is taken off both: that is the sender's doing, and would drown a difference between the servers.
    """
    ours, theirs = _both_answered(measured)
    late_s = np.minimum(measured.lag_s[ours], measured.lag_s[theirs])
    ours_s, theirs_s = (measured.latency_s[rows] - late_s for rows in (ours, theirs))
    bounds = latency_bounds(theirs_s[:CALIBRATION_PAIRS]) if len(ours) > CALIBRATION_PAIRS else []
    ours, ours_s, theirs_s = ours[CALIBRATION_PAIRS:], ours_s[CALIBRATION_PAIRS:], theirs_s[CALIBRATION_PAIRS:]
    units = _group(measured.time_s[ours], _ranks(measured)[ours], window_s)
    slack_s = budgets.latency_slack_ms / 1000
    slow = [(ours_s > ratio * bound + slack_s, theirs_s > bound) for bound in bounds]
    sides = [(units.fraction(left), units.fraction(right)) for left, right in slow]
    harm = [statistics.ratio_of_rates(left, right, 1.0, units.at) for left, right in sides]
    safety = [statistics.not_worse(left, right, 1.0, budgets.latency_margin, units.at) for left, right in sides]
    worst = int(np.argmax([path[-1] for path in harm])) if harm else 0
    nothing = np.zeros(0)
    return Evidence(
        name="latency_ratio",
        kind=Kind.RELATIVE,
        unit=f"answers slower than {ratio:g} times a bound, as a multiple of stable's slower than the bound",
        budget=1.0,
        margin=budgets.latency_margin,
        rank=units.ranks,
        log_harm=statistics.average(np.stack(harm)) if harm else nothing,
        # Each bound is safe for good once it has been shown to be; the slowest of them is the guardrail.
        log_safety=np.min([statistics.latest_best(path) for path in safety], axis=0) if safety else nothing,
        sequence=_ratio_sequence(*(sides[worst] if sides else (nothing, nothing)), units.at),
        n=len(ours),
        observations=len(units.starts),
        observed=_slow_in_words(slow, bounds, worst, ratio, slack_s),
    )


def latency_bounds(calibration_s: Floats) -> list[float]:
    """Return the bounds, in seconds and ascending, that some of stable's latencies choose."""
    quantiles = np.quantile(calibration_s, BOUND_QUANTILES)
    return sorted({*quantiles.tolist(), *(float(quantiles[-1]) * multiple for multiple in TAIL_MULTIPLES)})


def _slow_in_words(
    slow: list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]],
    bounds: list[float],
    worst: int,
    ratio: float,
    slack_s: float,
) -> str:
    if not slow:
        return f"fewer than {CALIBRATION_PAIRS + 1} requests were answered by both, which latency bounds need"
    left, right = slow[worst]
    bound_s = bounds[worst]
    return (
        f"{left.mean():.1%} of the candidate's {len(left):,} answers took longer than {_ms(ratio * bound_s + slack_s)} "
        f"({ratio:g} × {_ms(bound_s)} + {_ms(slack_s)}), {right.mean():.1%} of stable's longer than {_ms(bound_s)}"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
