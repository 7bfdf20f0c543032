"""E-processes against their closed forms, and against their promise: whoever looks always, errs at most at alpha."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from components.canary import statistics as s

FRACTIONS = st.lists(st.floats(0, 1), min_size=1, max_size=60)


def every(n: int) -> s.Indices:
    return s.looks(n)


def test_one_observation_pays_the_likelihood_ratio():
    bets = (np.array([(0.5 - 0.1) / (0.1 * 0.9)]), np.array([1.0]))
    paid = np.exp(s.bounded_mean(np.array([1.0, 0.0]), 0.1, bets, every(2)))
    assert_allclose(paid, [0.5 / 0.1, (0.5 / 0.1) * (0.5 / 0.9)])


def test_the_mixture_is_the_average_of_its_likelihood_ratios():
    x, mean = np.array([0.0, 1.0, 0.0, 0.0, 1.0]), 0.05
    odds = np.array(s.HARM_MULTIPLES) * mean / (1 - mean)
    alternatives = odds / (1 + odds)
    expected = np.mean((alternatives / mean) ** 2 * ((1 - alternatives) / (1 - mean)) ** 3)
    assert_allclose(np.exp(s.bounded_mean(x, mean, s.harm_bets(mean), every(5))[-1]), expected)


def test_safety_without_an_event_grows_as_the_chance_of_none():
    path = np.exp(s.bounded_mean(np.zeros(300), 0.01, s.safety_bets(0.01), every(300)))
    assert path[-1] >= 0.5 * 0.99**-300
    assert path[-1] <= 0.99**-300


def test_an_event_ruins_only_the_bet_that_there_is_none():
    path = s.bounded_mean(np.array([1.0, 0.0]), 0.01, s.safety_bets(0.01), every(2))
    assert np.isfinite(path).all()


@pytest.mark.parametrize("mean", [0.001, 0.01, 0.05, 0.5])
@given(q=st.floats(0, 1))
def test_a_bet_never_wins_on_average_within_the_budget(mean, q):
    harm, weights = s.harm_bets(mean)
    inside = q * mean
    assert float(weights @ (1 + harm * (inside - mean))) <= 1 + 1e-12
    safe, weights = s.safety_bets(mean)
    outside = mean + q * (1 - mean)
    assert float(weights @ (1 + safe * (outside - mean))) <= 1 + 1e-12


@pytest.mark.parametrize("mean", [0.001, 0.01, 0.05, 0.5])
def test_no_bet_can_lose_more_than_there_is(mean):
    for x in (0.0, 1.0):
        for sizes, weights in (s.harm_bets(mean), s.safety_bets(mean)):
            assert (1 + sizes * (x - mean) >= -1e-12).all()
            assert_allclose(weights.sum(), 1)


@given(FRACTIONS, st.randoms(use_true_random=False))
def test_the_order_of_the_observations_does_not_matter_in_the_end(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    first, second = (s.bounded_mean(np.array(x), 0.1, s.harm_bets(0.1), every(len(x)))[-1] for x in (values, shuffled))
    assert first == pytest.approx(second, abs=1e-9)


@given(FRACTIONS)
def test_few_levels_and_many_are_computed_alike(values):
    binary = np.round(np.array(values))
    counted = s.bounded_mean(binary, 0.1, s.safety_bets(0.1), every(len(binary)))
    # An added speck makes too many levels for counting.
    speck = np.linspace(0, 1e-13, len(binary) + 5)
    summed = s.bounded_mean(np.concatenate([binary, np.zeros(5)]) + speck, 0.1, s.safety_bets(0.1), every(len(speck)))
    finite = np.isfinite(counted)
    assert_allclose(counted[finite], summed[: len(counted)][finite], atol=1e-6)


def test_the_ratio_is_the_conditional_binomial():
    found = np.exp(s.ratio_of_rates(np.array([1.0, 1.0]), np.array([0.0, 1.0]), 1.5, every(2)))
    theta0 = 1.5 / 2.5
    thetas = np.array([1.5 * m / (1.5 * m + 1) for m in s.RATIO_MULTIPLES])
    assert_allclose(found, [np.mean(thetas / theta0), np.mean((thetas / theta0) ** 2 * (1 - thetas) / (1 - theta0))])


@given(
    stable=st.floats(0, 0.6),
    ratio=st.floats(1, 3),
    both=st.floats(0, 1),
    harm=st.floats(0, 1),
    share=st.floats(0.05, 0.95),
)
def test_the_ratio_never_wins_on_average_within_the_budget_however_failures_depend(stable, ratio, both, harm, share):
    w = 0.5  # pairs: each request goes to both
    ours = min(1.0, stable * ratio) * harm
    together = max(0.0, ours + stable - 1) + both * (min(ours, stable) - max(0.0, ours + stable - 1))
    chances = [together, ours - together, stable - together]
    outcomes = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)]
    paid = 1 - sum(chances)
    for chance, (c, t) in zip(chances, outcomes, strict=True):
        paid += chance * math.exp(s.ratio_of_rates(np.array([c]), np.array([t]), ratio, every(1), share=w)[0])
    assert paid <= 1 + 1e-9


def test_a_smaller_share_makes_each_candidate_event_tell_more():
    one, none = np.ones(1), np.zeros(1)
    tells = [s.ratio_of_rates(one, none, 1.0, every(1), share=share)[0] for share in (0.1, 0.5, 0.9)]
    assert tells == sorted(tells, reverse=True)


@given(ours=st.floats(0, 1), stable=st.floats(0, 1), ratio=st.floats(1, 3), margin=st.floats(0.001, 0.2))
def test_not_worse_never_wins_on_average_beyond_the_margin(ours, stable, ratio, margin):
    mean = ours - ratio * stable
    if mean < margin:
        return
    # Independent failures; the bets are linear, so only the mean counts.
    paid = 0.0
    for c, pc in ((1.0, ours), (0.0, 1 - ours)):
        for t, pt in ((1.0, stable), (0.0, 1 - stable)):
            paid += pc * pt * math.exp(s.not_worse(np.array([c]), np.array([t]), ratio, margin, every(1))[0])
    assert paid <= 1 + 1e-9


def test_an_average_of_e_values_is_their_average():
    assert_allclose(np.exp(s.average(np.log(np.array([[1.0, 4.0], [3.0, 2.0]])))), [2.0, 3.0])


def test_evidence_that_was_reached_is_not_lost_again():
    path = np.log(np.array([1.0, 50.0, 2.0]))
    assert s.first_reach(path, 20) == 1
    assert s.first_reach(path, 100) is None
    assert_allclose(np.exp(s.latest_best(path)), [1, 50, 50])


@given(st.integers(1, 3_000_000), st.integers(1, 3_000_000))
def test_looks_do_not_depend_on_how_many_will_come(n, m):
    few, many = s.looks(min(n, m)), s.looks(max(n, m))
    assert few[-1] == min(n, m)
    assert (np.diff(few) > 0).all()
    assert np.isin(few[:-1], many).all()


@given(FRACTIONS)
def test_totals_are_cumulative_sums(values):
    x = np.array(values)
    assert_allclose(s.totals(x, every(len(x))), np.cumsum(x), atol=1e-9)


@pytest.mark.parametrize("n", [0, 1, 100, 10_000])
def test_the_confidence_sequence_contains_its_estimate_and_shrinks(n):
    low, high = s.mean_sequence(np.array([0.1 * n]), np.array([float(n)]), 0.95)
    assert 0 <= low[0] <= 0.1 <= high[0] <= 1
    if n == 0:
        assert (low[0], high[0]) == (0, 1)
    if n == 10_000:
        assert high[0] - low[0] < 0.03


def test_the_end_of_the_confidence_sequence_is_where_the_mixture_refutes():
    total, n, alpha = 3.0, 40.0, 0.05
    low, high = s.mean_sequence(np.array([total]), np.array([n]), 1 - alpha)
    for m in (low[0], high[0]):
        log_beta = math.lgamma(3.5) + math.lgamma(37.5) - math.lgamma(41) - 2 * math.lgamma(0.5) + math.lgamma(1)
        assert log_beta - total * math.log(m) - (n - total) * math.log1p(-m) == pytest.approx(math.log(20), abs=1e-4)


def test_the_ratio_of_no_events_is_unbounded():
    low, high = s.ratio_sequence(np.array([0.0]), np.array([0.0]), 0.95, 0.5)
    assert low[0] == 0
    assert math.isinf(high[0])


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.01, 0.05])
def test_looking_always_raises_a_false_alarm_at_most_as_often_as_promised(mean):
    random, runs, alpha = np.random.default_rng(7), 1000, 0.05
    alarms = passes = 0
    for _ in range(runs):
        x = (random.random(1500) < mean).astype(np.float64)
        alarms += s.first_reach(s.bounded_mean(x, mean, s.harm_bets(mean), every(1500)), 1 / alpha) is not None
        passes += s.first_reach(s.bounded_mean(x, mean, s.safety_bets(mean), every(1500)), 1 / alpha) is not None
    # Three standard deviations of the binomial above alpha.
    limit = runs * alpha + 3 * math.sqrt(runs * alpha * (1 - alpha))
    assert alarms <= limit
    assert passes <= limit


@pytest.mark.slow
def test_the_confidence_sequence_covers_the_mean_at_all_times_together():
    random, runs, missed = np.random.default_rng(8), 400, 0
    counts = np.arange(1, 1001, dtype=np.float64)
    which = np.unique(np.geomspace(1, 1000, 60).astype(int)) - 1
    for _ in range(runs):
        total = np.cumsum(random.random(1000) < 0.1).astype(np.float64)
        low, high = s.mean_sequence(total[which], counts[which], 0.95)
        missed += bool(((low > 0.1) | (high < 0.1)).any())
    assert missed <= runs * 0.05 + 3 * math.sqrt(runs * 0.05 * 0.95)
