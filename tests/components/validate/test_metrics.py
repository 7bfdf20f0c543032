"""Metrics beside scikit-learn and scipy asked directly, and the laws each must obey."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.core.errors import Rejected
from components.core.spec import MetricLimit
from components.validate.metrics import Undefined, bound, measure, wilson_lower

LABELS = np.array([0, 1, 1])
SCORES = np.array([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]])


@st.composite
def classified(draw, fewest: int = 2, most: int = 5):
    """Scores in multiples of 1/8, so that ties are frequent and sums are exact, with labels."""
    shape = (draw(st.integers(2, 30)), draw(st.integers(fewest, most)))
    scores = draw(arrays.arrays(np.int64, shape, elements=st.integers(1, 8))) / 8
    labels = draw(arrays.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    return scores, labels


LAW = settings(deadline=None, max_examples=30)
"""No deadline for one example: the first imports scikit-learn."""

EIGHTHS = st.integers(-8000, 8000).map(lambda number: number / 8)  # squares neither overflow nor underflow
VALUES = st.integers(1, 20).flatmap(
    lambda rows: st.tuples(*[arrays.arrays(np.float64, (rows, 3), elements=EIGHTHS)] * 2)
)


def test_accuracy_is_the_share_whose_largest_score_is_at_the_label():
    assert measure("accuracy", SCORES, LABELS) == pytest.approx(2 / 3)


def test_log_loss_is_the_mean_of_minus_ln_p_of_the_label():
    expected = -(math.log(0.5) + math.log(0.75) + math.log(0.1)) / 3

    assert measure("log_loss", SCORES, LABELS) == pytest.approx(expected)
    assert measure("log_loss", SCORES * 3, LABELS) == pytest.approx(expected)


def test_log_loss_of_a_certain_mistake_is_finite():
    assert measure("log_loss", np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-math.log(1e-15))


@LAW
@given(classified())
def test_top_1_is_accuracy_and_top_k_only_grows_until_it_is_all(data):
    scores, labels = data
    found = [measure("top_k", scores, labels, k=k) for k in range(1, scores.shape[1] + 2)]

    assert found[0] == measure("accuracy", scores, labels)
    assert all(low <= high for low, high in pairwise(found))
    assert found[-2:] == [1.0, 1.0]


@LAW
@given(classified(fewest=3))
def test_top_k_without_ties_is_scikit_learns(data):
    from sklearn.metrics import top_k_accuracy_score

    scores, labels = data
    scores = scores + np.arange(scores.shape[1]) / 64
    expected = top_k_accuracy_score(labels, scores, k=2, labels=np.arange(scores.shape[1]))

    assert measure("top_k", scores, labels, k=2) == pytest.approx(expected)


@LAW
@given(classified(most=2))
def test_auc_is_the_share_of_pairs_in_the_right_order_ties_counting_half(data):
    scores, labels = data
    assume(len(set(labels.tolist())) == 2)
    positive, negative = scores[labels == 1, 1], scores[labels == 0, 1]
    right = (positive[:, None] > negative).sum() + (positive[:, None] == negative).sum() / 2

    assert measure("auc", scores, labels) == pytest.approx(right / (len(positive) * len(negative)))


def test_auc_of_two_logits_ranks_by_their_difference():
    logits = np.array([[0.0, 5.0], [9.0, 6.0], [-9.0, -8.0], [3.0, 2.0]])

    assert measure("auc", logits, np.array([1, 0, 1, 0])) == 1.0


def test_auc_of_probabilities_near_0_and_1_loses_no_order():
    tiny = np.array([1e-30, 2e-30, 3e-30, 4e-30])

    assert measure("auc", tiny, np.array([0, 0, 1, 1])) == 1.0


def test_auc_of_several_classes_is_the_mean_over_those_that_occur():
    scores = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.8, 0.1, 0.0], [0.5, 0.3, 0.2, 0.0], [0.6, 0.3, 0.1, 0.0]])

    assert measure("auc", scores, np.array([0, 1, 2, 1])) == pytest.approx((1.0 + 0.875 + 1.0) / 3)


def test_an_auc_of_one_class_is_undefined():
    with pytest.raises(Undefined):
        measure("auc", SCORES, np.array([1, 1, 1]))


@LAW
@given(VALUES)
def test_mae_and_rmse_are_distances_and_mae_is_never_the_larger(pair):
    ours, theirs = pair
    mae, rmse = (measure(name, ours, theirs) for name in ("mae", "rmse"))

    assert mae == pytest.approx(np.abs(ours - theirs).mean())
    assert rmse == pytest.approx(math.sqrt(np.square(ours - theirs).mean()))
    assert mae <= rmse * (1 + 1e-9)
    assert measure("mae", theirs, ours) == pytest.approx(mae)
    assert measure("rmse", ours, ours) == 0.0


def test_axes_of_size_1_behind_the_first_say_nothing():
    assert measure("mae", np.array([[1.0], [2.0]]), np.array([1, 4])) == 1.0
    assert measure("accuracy", np.array([[0.4], [0.6]]), np.array([[0], [1]])) == 1.0


BOXES = arrays.arrays(np.int64, (4, 4), elements=st.integers(0, 9)).map(
    lambda corners: np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1], axis=1).astype(np.float64)
)


@LAW
@given(BOXES, BOXES, st.floats(0.1, 10), st.integers(-5, 5))
def test_mean_iou_is_symmetric_within_0_and_1_and_blind_to_scale_and_place(ours, theirs, scale, shift):
    found = measure("mean_iou", ours, theirs)

    assert 0 <= found <= 1
    assert found == pytest.approx(measure("mean_iou", theirs, ours))
    assert found == pytest.approx(measure("mean_iou", ours * scale + shift, theirs * scale + shift))
    assert measure("mean_iou", ours, ours) == pytest.approx(1.0)


def test_mean_iou_of_known_boxes():
    ours = np.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
    theirs = np.array([[1.0, 1.0, 3.0, 3.0], [5.0, 5.0, 6.0, 6.0], [0.0, 0.0, 1.0, 1.0]])

    assert measure("mean_iou", ours, theirs) == pytest.approx((1 / 7 + 0 + 0) / 3)


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "reason"),
    [
        ("log_loss", SCORES, np.array([0, 1, 2]), "EVALUATION_DATA"),
        ("accuracy", SCORES, np.array([0, 1, -1]), "EVALUATION_DATA"),
        ("accuracy", SCORES, np.array([0.0, 1.0, 1.0]), "EVALUATION_DATA"),
        ("log_loss", SCORES * np.nan, LABELS, "EVALUATION"),
        ("mae", np.array([np.inf]), np.array([1.0]), "EVALUATION"),
        ("mae", np.array([1.0]), np.array([np.nan]), "EVALUATION_DATA"),
        ("log_loss", -SCORES, LABELS, "EVALUATION_DATA"),
        ("accuracy", np.array([2.0, -1.0, 0.0]), LABELS, "EVALUATION_DATA"),
        ("rmse", np.zeros((2, 3)), np.zeros((3, 2)), "EVALUATION_DATA"),
        ("mean_iou", np.zeros((2, 4)), np.zeros((2, 4)), "EVALUATION_DATA"),
        ("mean_iou", np.zeros((2, 3)), np.zeros((2, 3)), "EVALUATION_DATA"),
    ],
)
def test_what_cannot_be_measured_is_refused(metric, outputs, labels, reason):
    with pytest.raises(Rejected) as caught:
        measure(metric, outputs, labels)
    assert caught.value.reason == reason


@LAW
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.6, 0.999))
def test_the_bound_of_a_proportion_is_wilsons(counts, confidence):
    from scipy.stats import binomtest

    hits, n = counts
    expected = binomtest(hits, n).proportion_ci(2 * confidence - 1, method="wilson").low

    assert wilson_lower(hits / n, n, confidence) == pytest.approx(max(expected, 0), abs=1e-9)


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(VALUES, st.integers(0, 99))
def test_a_bootstrap_bound_is_on_the_bad_side_and_the_same_for_the_same_seed(pair, seed):
    ours, theirs = pair
    value, limit = measure("mae", ours, theirs), MetricLimit(maximum=1.0, confidence=0.95)
    found = bound("mae", ours, theirs, limit=limit, value=value, seed=seed)

    assert found >= value
    assert found == bound("mae", ours, theirs, limit=limit, value=value, seed=seed)


@pytest.mark.slow
def test_a_bootstrap_bound_covers_as_often_as_it_says():
    """Of 20 samples whose true mean error is 1, about 19 bounds at 95 % must lie above it; 16 is 3 sigma away."""
    random, limit = np.random.default_rng(5), MetricLimit(maximum=1.0, confidence=0.95)
    covered = 0
    for _ in range(20):
        errors = random.exponential(1.0, 200)
        value = measure("mae", errors, np.zeros(200))
        covered += bound("mae", errors, np.zeros(200), limit=limit, value=value, seed=1) >= 1.0
    assert covered >= 16
