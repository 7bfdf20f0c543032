"""How often the canary's judge is right, and after how many requests: simulated, through the judge a release uses.

Run as ``python -m benchmarks.canary_characteristics [--runs N]``. Every row simulates paired requests (each one goes to
both servers), looks after every single one, and stops at the first decision. Seeds are fixed. The targets printed
beside are those of a traffic split that gives the candidate 10 %, hence nine stable requests for each of its own; a
replay has one, so it needs more candidate requests to tell rare errors and slow answers from stable's.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from components.canary.judge import judge
from components.canary.measure import Arm, Measurements
from components.core.spec import Budgets, CanaryLimits
from components.core.verdict import Judgement, Phase

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scenario:
    """How two servers behave.

    Args:
        candidate_errors: Share of the candidate's requests that fail.
        stable_errors: The same of stable.
        errors_in_batches: Requests that fail together, as one batch of the server's.
        flips: Share of answers that disagree.
        slower: Factor on the candidate's latency.
        tail: Share of the candidate's requests that take ten times as long.
        load_correlation: ρ of an AR(1) load that both servers share.
        rate_per_s: Requests a second.
    """

    candidate_errors: float = 0.0
    stable_errors: float = 0.0
    errors_in_batches: int = 1
    flips: float = 0.0
    slower: float = 1.0
    tail: float = 0.0
    load_correlation: float = 0.0
    rate_per_s: float = 100.0


def simulate(scenario: Scenario, n: int, seed: int) -> Measurements:
    """Return the measurements of ``n`` paired requests."""
    random = np.random.default_rng(seed)
    batch = scenario.errors_in_batches
    # The requests of one batch are due within a millisecond.
    due_s = np.arange(n) // batch * (batch / scenario.rate_per_s) + np.arange(n) % batch * (0.001 / batch)
    load = np.exp(0.3 * _autoregressive(random, n, scenario.load_correlation))
    latencies = []
    for factor, tail in ((scenario.slower, scenario.tail), (1.0, 0.0)):
        own = 0.02 * factor * load * np.exp(0.3 * random.standard_normal(n))
        latencies.append(own * np.where(random.random(n) < tail, 10.0, 1.0))
    failed = [_failures(random, n, rate, batch) for rate in (scenario.candidate_errors, scenario.stable_errors)]
    flips = np.where(random.random(n) < scenario.flips, 1.0, 0.0)
    return paired(due_s, latencies, failed, flips)


def paired(
    due_s: Floats, latencies: list[Floats], failed: list[npt.NDArray[np.bool_]], differences: Floats
) -> Measurements:
    """Return columns from one array a server, the candidate's first."""
    n = len(due_s)
    disagreement = np.full(2 * n, np.nan)
    disagreement[0::2] = differences
    return Measurements(
        request=np.repeat(np.arange(n), 2),
        arm=np.tile(np.array([Arm.CANDIDATE, Arm.STABLE], np.int8), n),
        time_s=np.repeat(due_s, 2),
        latency_s=np.stack(latencies, axis=1).ravel(),
        lag_s=np.zeros(2 * n),
        code=np.stack(failed, axis=1).ravel().astype(np.int32),
        fault=np.zeros(2 * n, np.int32),
        disagreement=disagreement,
        codes=("OK", "UNAVAILABLE"),
    )


def _failures(random: np.random.Generator, n: int, rate: float, batch: int) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.repeat(random.random(n // batch + 1) < rate, batch)[:n]
    return found


def _autoregressive(random: np.random.Generator, n: int, rho: float) -> Floats:
    if rho == 0:
        return np.zeros(n)
    noise = random.standard_normal(n) * np.sqrt(1 - rho**2)
    values = np.empty(n)
    value = random.standard_normal()
    for index in range(n):
        value = rho * value + noise[index]
        values[index] = value
    return values


def stopped(judgement: Judgement) -> tuple[str, int]:
    """Return what a run that looks after every request would have decided, and after how many requests.

    The judgement of the whole sample knows when each guardrail was decided, so it need not be judged again for every
    prefix: harm stops a run at once, a promotion waits for the last guardrail.
    """
    n = judgement.sample.candidate.requests
    applies = [one for one in judgement.guardrails if one.phase is not Phase.NOT_APPLICABLE]
    harm = min((one.decided_at or n for one in applies if one.phase is Phase.HARMED), default=None)
    if harm is not None:
        return "rollback", harm
    if all(one.phase is Phase.PASSED for one in applies):
        return "promote", max(judgement.min_requests, *(one.decided_at or n for one in applies))
    return "inconclusive", n


def _first_decision(measured: Measurements, budgets: Budgets, limits: CanaryLimits) -> tuple[str, int]:
    decision, at = stopped(judge(measured, budgets, limits, has_stable=True, finished=True))
    if decision != "rollback":
        return decision, at
    # Before the harm was seen, everything may have passed already: then the run had ended there.
    before = judge(_prefix(measured, at - 1), budgets, limits, has_stable=True, finished=True)
    earlier = stopped(before)
    return earlier if earlier[0] == "promote" else (decision, at)


def _prefix(measured: Measurements, requests: int) -> Measurements:
    keep = measured.request < requests
    columns = {
        name: getattr(measured, name)[keep]
        for name in ("request", "arm", "time_s", "latency_s", "lag_s", "code", "fault", "disagreement")
    }
    return Measurements(**columns, codes=measured.codes, faults=measured.faults)


def decision_of(guardrail: str) -> Callable[[Measurements, Budgets, CanaryLimits], tuple[str, int]]:
    """Return a judge of one guardrail alone, which then has the whole of alpha."""

    def decide(measured: Measurements, budgets: Budgets, limits: CanaryLimits) -> tuple[str, int]:
        found = judge(measured, budgets, limits, has_stable=True, finished=True).guardrail(guardrail)
        words = {Phase.HARMED: "rollback", Phase.PASSED: "promote"}
        return words.get(found.phase, "inconclusive"), found.decided_at or len(measured) // 2

    return decide


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    scenario: Scenario
    expected: str
    target: str
    requests: int = 5000
    guardrail: str = ""
    budgets: Budgets = field(default_factory=Budgets)


def _only(guardrail: str, **values: float) -> Budgets:
    """Return budgets of which ``guardrail`` is the only relative one."""
    off = {name: None for name in ("error_ratio", "churn", "latency_ratio") if name != guardrail}
    return Budgets.model_validate({**off, **values})


# An absolute budget that no scenario here breaks, so that the ratio alone decides.
_RATIO = _only("error_ratio", error_ratio=1.0, error_rate=0.5)
_SLOWER = _only("latency_ratio", latency_ratio=1.1, latency_slack_ms=0.0)

ROWS = (
    Row("all guardrails, healthy", Scenario(0.001, 0.001, flips=0.01), "promote", "rollback ≤ 1 %"),
    Row("  … AR(1) load ρ = 0.8", Scenario(0.001, 0.001, flips=0.01, load_correlation=0.8), "promote", "≤ 1 %"),
    Row("  … errors in batches of 8", Scenario(0.001, 0.001, 8, flips=0.01), "promote", "≤ 1 %"),
    Row("errors equal, 2 %, r0 = 1", Scenario(0.02, 0.02), "", "rollback ≤ 1 %", 20_000, "error_ratio", _RATIO),
    Row("errors ×3 of 0.1 %", Scenario(0.003, 0.001), "rollback", "≤ 4500", 40_000, "error_ratio", _RATIO),
    Row("errors ×5 of 0.1 %", Scenario(0.005, 0.001), "rollback", "≤ 1540", 20_000, "error_ratio", _RATIO),
    Row("errors ×10 of 0.1 %", Scenario(0.01, 0.001), "rollback", "≤ 480", 10_000, "error_ratio", _RATIO),
    Row("20 % slower", Scenario(slower=1.2), "rollback", "≤ 450", 5000, "latency_ratio", _SLOWER),
    Row("tail 0.5 % ten times slower", Scenario(tail=0.005), "rollback", "≤ 900", 5000, "latency_ratio", _SLOWER),
    Row("flip budget 5 %, true 1 %", Scenario(flips=0.01), "promote", "≤ 160", 5000, "churn", _only("churn")),
    Row("flip budget 5 %, true 20 %", Scenario(flips=0.2), "rollback", "≤ 55", 5000, "churn", _only("churn")),
    Row("flips at the budget, 5 %", Scenario(flips=0.05), "", "promote ≤ 5 %", 5000, "churn", _only("churn")),
    Row("1 % SLO, no errors", Scenario(), "promote", "≤ 377", 5000, "error_rate"),
    Row("1 % SLO, true 20 %", Scenario(0.2), "rollback", "13", 5000, "error_rate"),
    Row("errors at the SLO, 1 %", Scenario(0.01), "", "promote ≤ 5 %", 5000, "error_rate"),
)


def decisions(row: Row, runs: int) -> Iterator[tuple[str, int]]:
    """Yield the decision and its request number for each simulated run of a row."""
    alone = decision_of(row.guardrail) if row.guardrail else _first_decision
    # One guardrail alone: its weight in the split is given back to it.
    limits = CanaryLimits(alpha=0.01 * (_shares(row) if row.guardrail else 1.0))
    for seed in range(runs):
        yield alone(simulate(row.scenario, row.requests, seed), row.budgets, limits)


def _shares(row: Row) -> float:
    """Return how much of alpha the row's guardrail would get, inverted."""
    split = judge(simulate(row.scenario, 1, 0), row.budgets, CanaryLimits(), has_stable=True, finished=True).alpha_split
    return sum(split.values()) / split[row.guardrail]


def summary(row: Row, runs: int) -> str:
    """Return the row's line of the table."""
    outcomes = list(decisions(row, runs))
    shares = {decision: sum(found == decision for found, _ in outcomes) / runs for decision in ("promote", "rollback")}
    counts = [at for found, at in outcomes if found == row.expected]
    median = f"{np.median(counts):>7.0f} {np.quantile(counts, 0.9):>7.0f}" if counts else f"{'–':>7} {'–':>7}"
    return f"{row.name:<30} {shares['promote']:>8.1%} {shares['rollback']:>9.1%} {median}   {row.target}"


def judging_time_s(pairs: int) -> float:
    """Return the seconds that judging ``2 · pairs`` measurements takes."""
    measured = simulate(Scenario(0.001, 0.001, flips=0.01), pairs, 0)
    start = time.perf_counter()
    judge(measured, Budgets(latency_ms=80.0), CanaryLimits(), has_stable=True, finished=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=200, help="Simulated canaries a row. Default 200.")
    runs = parser.parse_args().runs
    print(f"{'scenario':<30} {'promote':>8} {'rollback':>9} {'median':>7} {'p90':>7}   target (median or share)")
    for row in ROWS:
        print(summary(row, runs), flush=True)
    print(f"judging 1,000,000 measurements: {judging_time_s(500_000):.2f} s (target: under 1 s)")


if __name__ == "__main__":
    main()
