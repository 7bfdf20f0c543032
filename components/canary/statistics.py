"""Evidence that may be looked at after every request: e-processes and confidence sequences, in NumPy.

An *e-process* for a hypothesis is a sequence E_1, E_2, … ≥ 0 with E[E_τ] ≤ 1 at every stopping time τ if the hypothesis
is true. By Ville's inequality the chance that it ever reaches 1/alpha is then at most alpha, so nobody needs to say in
advance how many requests will be seen or how often somebody looks. Everything here works in natural logarithms.

Observations are numbers in a bounded interval, one for each independent *unit* (a request, or the requests that a
server may have put into one batch). Nothing is assumed about their distribution but its conditional mean; so fractions
of a batch are as good as zeros and ones.

Sources:
    [WSR] Waudby-Smith, Ramdas: Estimating means of bounded random variables by betting, JRSS-B 86 (2024),
        arXiv:2010.09686.
    [LM] Lindon, Malek: Anytime-valid inference for multinomial count data, NeurIPS 2022, arXiv:2011.03567.
    [HRMS] Howard, Ramdas, McAuliffe, Sekhon: Time-uniform, nonparametric, nonasymptotic confidence sequences,
        Ann. Statist. 49 (2021), arXiv:1810.08240.
    [VW] Vovk, Wang: E-values: calibration, combination and applications, Ann. Statist. 49 (2021), arXiv:1912.06116.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

DENSE_LOOKS = 2048
"""Up to here every observation is looked at; beyond, each look is 1/1024 later than the one before."""

HARM_MULTIPLES = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""How many times the budget's odds a harmful mean may have: the alternatives that harm is bet on."""

SAFE_MULTIPLES = (0.0, 0.1, 0.25, 0.45, 0.65, 0.8)
"""How many times the budget a safe mean may be: the alternatives that safety is bet on."""

RATIO_MULTIPLES = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""How many times the allowed ratio a harmful one may be."""

_FEW_LEVELS = 4


def looks(n: int) -> Indices:
    """Return the numbers of observations at which evidence is computed: ascending, the last one is ``n``.

    All of them up to ``DENSE_LOOKS``, then geometrically, on a grid that does not depend on ``n``. Looking less often
    is always valid, and makes a million observations as cheap as a few thousand.
    """
    if n <= DENSE_LOOKS:
        return np.arange(1, n + 1, dtype=np.int64)
    beyond = math.ceil(math.log(n / DENSE_LOOKS) / math.log1p(1 / 1024)) + 1
    grid = np.floor(DENSE_LOOKS * np.exp(np.arange(1, beyond) * math.log1p(1 / 1024))).astype(np.int64)
    dense = np.arange(1, DENSE_LOOKS + 1, dtype=np.int64)
    return np.concatenate([dense, np.unique(grid[grid < n]), np.array([n], dtype=np.int64)])


def totals(values: npt.NDArray[np.generic], at: Indices) -> Floats:
    """Return the sum of the first ``k`` values for each ``k`` in ``at`` (ascending, each at least 1)."""
    starts = np.concatenate([np.zeros(1, np.int64), at[:-1]])
    segments = np.add.reduceat(values[: at[-1]], starts, dtype=np.float64)
    return np.cumsum(segments)


def harm_bets(mean: float) -> tuple[Floats, Floats]:
    """Return bets that win when observations in [0, 1] have a larger mean than ``mean``, and their weights.

    A bet λ on the alternative mean q multiplies the wealth by 1 + λ(x - mean) with λ = (q - mean)/(mean(1 - mean));
    for zeros and ones that is the likelihood ratio of q against ``mean``. The alternatives are multiples of the odds.
    """
    odds = np.array(HARM_MULTIPLES) * mean / (1 - mean)
    alternatives = odds / (1 + odds)
    return (alternatives - mean) / (mean * (1 - mean)), np.full(len(alternatives), 1 / len(alternatives))


def safety_bets(mean: float) -> tuple[Floats, Floats]:
    """Return bets (negative) that win when observations in [0, 1] have a smaller mean than ``mean``, and their weights.

    Half of the money is on "it never happens", because that is what a healthy candidate looks like.
    """
    alternatives = np.array(SAFE_MULTIPLES) * mean
    rest = 0.5 / (len(alternatives) - 1)
    return (alternatives - mean) / (mean * (1 - mean)), np.array([0.5, *[rest] * (len(alternatives) - 1)])


def bounded_mean(x: Floats, mean: float, bets: tuple[Floats, Floats], at: Indices) -> Floats:
    """Return the log of an e-process against "the conditional mean is on the side of ``mean`` that the bets lose on".

    The wealth of fixed bets, averaged: E_t = Σ_k w_k Π_{i≤t} (1 + λ_k (x_i - mean)). Each product is a non-negative
    supermartingale if E[x_i | past] ≤ mean and λ_k ≥ 0 (or ≥ and ≤ 0), and so is their average: "diversified Kelly
    betting" of [WSR]. With zeros and ones it is the Bernoulli mixture likelihood ratio. It does not depend on the order
    of the observations.

    Args:
        x: Observations of a unit each; every 1 + λ(x - mean) must be non-negative (so in [0, 1] for the bets above).
        mean: Budget, in the unit of ``x``.
        bets: λ and weights; the weights sum to 1.
        at: Numbers of observations to look at, from :func:`looks`.

    Returns:
        One log e-value a look, float64.
    """
    sizes, weights = bets
    levels = np.unique(x[:256])
    # Zeros and ones, mostly: counting each level once is cheaper than a logarithm an observation and bet.
    if len(levels) <= _FEW_LEVELS:
        masks = [x == level for level in levels]
        if int(sum(np.count_nonzero(mask) for mask in masks)) == len(x):
            counts = np.stack([totals(mask, at) for mask in masks])
            return _mix(_log_payoffs(sizes[:, None] * (levels - mean)), counts, weights)
    logs = np.stack([totals(_log_payoffs(size * (x - mean)), at) for size in sizes])
    return _log_mean(logs, weights)


def _log_payoffs(gains: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log1p(np.maximum(gains, -1.0))


def _mix(payoffs: Floats, counts: Floats, weights: Floats) -> Floats:
    # 0 · -inf (a ruinous outcome that has not happened) is no loss.
    with np.errstate(invalid="ignore"):
        terms = np.where(counts[None] == 0, 0.0, payoffs[:, :, None] * counts[None])
    return _log_mean(terms.sum(axis=1), weights)


def _log_mean(logs: Floats, weights: Floats) -> Floats:
    """Return log Σ_k w_k exp(logs_k), along the first axis."""
    largest = np.max(logs, axis=0)
    safe = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        found: Floats = safe + np.log(np.tensordot(weights, np.exp(logs - safe), axes=1))
    return found


def ratio_of_rates(
    candidate: Floats, stable: Floats, ratio: float, at: Indices, *, share: npt.ArrayLike = 0.5
) -> Floats:
    """Return the log of an e-process against "candidate events are at most ``ratio`` times as frequent as stable ones".

    Given that an event happened, it is the candidate's with probability at most θ0 = w r/(w r + 1 - w), w being the
    candidate's share of the requests: a conditional binomial test, with a mixture over larger ratios ([LM], section 3).

        E_t = mean_k Π_{i≤t} (θ_k/θ0)^{c_i} ((1 - θ_k)/(1 - θ0))^{s_i},   θ_k for the ratio r·m_k

    Common changes of load cancel, since both servers share them. It stays valid when one request fails on both: with
    L1 = θ_k/θ0 > 1 > L0 = (1 - θ_k)/(1 - θ0), probabilities p_c ≤ r p_s and any probability a of both failing,
    E[L1^c L0^s] = 1 + p_c(L1 - 1) + p_s(L0 - 1) + a(L1 - 1)(L0 - 1), where the first two terms cancel at p_c = r p_s
    and the last is never positive. For fractions in [0, 1] of a batch, L^c ≤ 1 + c(L - 1) gives the same.

    Args:
        candidate: Events of the candidate in a unit, in [0, 1].
        stable: Events of stable in the same unit, in [0, 1].
        ratio: Largest ratio that is no harm.
        at: Numbers of units to look at.
        share: The candidate's share of the requests in each unit; 0.5 where both get every request.
    """
    w = np.asarray(share, np.float64)
    theta = w * ratio / (w * ratio + 1 - w)
    logs = []
    for multiple in RATIO_MULTIPLES:
        other = w * ratio * multiple / (w * ratio * multiple + 1 - w)
        won, lost = np.log(other / theta), np.log((1 - other) / (1 - theta))
        logs.append(totals(candidate * won + stable * lost, at))
    return _log_mean(np.stack(logs), np.full(len(logs), 1 / len(logs)))


def not_worse(candidate: Floats, stable: Floats, ratio: float, margin: float, at: Indices) -> Floats:
    """Return the log of an e-process against "candidate events exceed ``ratio`` times stable's by ``margin`` or more".

    The unit's d = c - ratio·s lies in [-ratio, 1]; mapped to [0, 1] it is a bounded mean ([WSR]). The margin is what
    makes a promotion possible when nothing fails at all: no number of requests without an event proves a ratio. Bets
    are fractions of the largest that cannot go bankrupt, 1/(1 - margin).

    Args:
        candidate: Events of the candidate in a unit, in [0, 1].
        stable: Events of stable in the same unit, in [0, 1].
        ratio: Factor that is no harm.
        margin: Share of requests that is no harm on top, in (0, 1).
        at: Numbers of units to look at.
    """
    fractions = np.array([0.99, 0.8, 0.55, 0.3, 0.15, 0.07, 0.03])
    weights = np.array([0.4, *[0.1] * 6])
    return bounded_mean(candidate - ratio * stable, margin, (-fractions / (1 - margin), weights), at)


def average(logs: Floats) -> Floats:
    """Return the log of the average of e-processes (first axis), which is one again however they depend ([VW])."""
    return _log_mean(logs, np.full(len(logs), 1 / len(logs)))


def latest_best(log_e: Floats) -> Floats:
    """Return the running maximum: a process that has reached 1/alpha has decided, whatever comes later (Ville)."""
    return np.maximum.accumulate(log_e) if len(log_e) else log_e


def first_reach(log_e: Floats, threshold: float) -> int | None:
    """Return the index of the first look at which the e-value is at least ``threshold``; none if never."""
    reached = np.flatnonzero(log_e >= math.log(threshold))
    return int(reached[0]) if len(reached) else None


def mean_sequence(total: Floats, n: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return a confidence sequence for the mean of observations in [0, 1], from their sums.

    All m that the beta-binomial mixture with a Beta(1/2, 1/2) prior does not refute,
    B(S + 1/2, n - S + 1/2)/B(1/2, 1/2) < m^S (1 - m)^(n - S)/alpha: [HRMS] proposition 7 (Robbins 1970), which holds
    for fractions as well, since q^x (1-q)^(1-x) ≤ x q + (1 - x)(1 - q) after division by the same of m. The process is
    convex in m, so both ends are found by bisection to 1e-9.

    Args:
        total: Sum of the observations at each look.
        n: Number of observations at each look.
        confidence: Chance that the mean lies within at all looks together.

    Returns:
        Low and high end at each look.
    """
    center = np.divide(total, n, out=np.full(len(n), 0.5), where=n > 0)
    limit = _log_beta(total + 0.5, n - total + 0.5) - _log_beta(np.full(1, 0.5), np.full(1, 0.5))
    limit = limit + math.log(1 / (1 - confidence)) * -1.0

    def refuted(m: Floats) -> npt.NDArray[np.bool_]:
        with np.errstate(divide="ignore", invalid="ignore"):
            below = np.where(total > 0, total * np.log(m), 0.0)
            above = np.where(n - total > 0, (n - total) * np.log1p(-m), 0.0)
        found: npt.NDArray[np.bool_] = limit >= below + above
        return found

    return _bisect(refuted, np.zeros(len(n)), center), _bisect(refuted, np.ones(len(n)), center)


def _bisect(refuted: Callable[[Floats], npt.NDArray[np.bool_]], outside: Floats, inside: Floats) -> Floats:
    """Return the border between what is refuted (``outside``) and what is not, on the refuted side."""
    open_end = ~refuted(outside)
    out, into = outside.copy(), inside.copy()
    for _ in range(32):
        middle = (out + into) / 2
        no = refuted(middle)
        out, into = np.where(no, middle, out), np.where(no, into, middle)
    return np.where(open_end, outside, out)


def _log_beta(a: Floats, b: Floats) -> Floats:
    both = zip(a.tolist(), b.tolist(), strict=True)
    return np.array([math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q) for p, q in both])


def ratio_sequence(candidate: Floats, stable: Floats, confidence: float, share: float) -> tuple[Floats, Floats]:
    """Return a confidence sequence for the ratio of two rates, from sums of events at each look.

    The conditional probability θ that an event is the candidate's has one by :func:`mean_sequence`; the ratio is
    θ/(1 - θ) · (1 - w)/w. Infinity where θ may be 1.
    """
    low, high = mean_sequence(candidate, candidate + stable, confidence)
    factor = (1 - share) / share
    with np.errstate(divide="ignore"):
        return low / (1 - low) * factor, np.where(high >= 1, np.inf, high / np.maximum(1 - high, 1e-300)) * factor
