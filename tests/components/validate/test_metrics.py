import math

import numpy as np
import pytest

from components.core.errors import Rejected
from components.core.spec import MetricLimit
from components.validate.metrics import measure
from components.validate.slices import keeps

LABELS = np.array([0, 1, 1])
SCORES = np.array([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]])


def test_accuracy_is_the_share_whose_largest_score_is_at_the_label():
    assert measure("accuracy", SCORES, LABELS) == pytest.approx(2 / 3)


def test_log_loss_is_the_mean_of_minus_ln_p_of_the_label():
    expected = -(math.log(0.5) + math.log(0.75) + math.log(0.1)) / 3

    assert measure("log_loss", SCORES, LABELS) == pytest.approx(expected)
    assert measure("log_loss", SCORES * 3, LABELS) == pytest.approx(expected)


def test_log_loss_of_a_certain_mistake_is_finite():
    assert measure("log_loss", np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-math.log(1e-15))


@pytest.mark.parametrize(
    ("scores", "labels", "reason"),
    [
        (SCORES, np.array([0, 1, 2]), "EVALUATION_DATA"),
        (SCORES, np.array([0, 1, -1]), "EVALUATION_DATA"),
        (SCORES * np.nan, LABELS, "EVALUATION"),
        (-SCORES, LABELS, "EVALUATION_DATA"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores, labels, reason):
    with pytest.raises(Rejected) as caught:
        measure("log_loss", scores, labels)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("limit", "passed"),
    [
        (MetricLimit(), True),
        (MetricLimit(minimum=0.5), True),
        (MetricLimit(minimum=0.51), False),
        (MetricLimit(maximum=0.5), True),
        (MetricLimit(maximum=0.49), False),
    ],
)
def test_a_limit_is_met_at_its_edge_and_missed_beyond(limit, passed):
    assert keeps("accuracy", 0.5, limit, None) is passed
