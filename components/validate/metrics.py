"""Metrics of labelled evaluation. Pure."""

import numpy as np
import numpy.typing as npt

from components.core.errors import Rejected
from components.core.spec import MetricLimit
from components.core.validation import MetricResult

Scores = npt.NDArray[np.float64]
"""[examples, classes]."""
Labels = npt.NDArray[np.int64]
"""[examples], class indices."""


def measure(metric: str, scores: Scores, labels: Labels) -> float:
    """Return a metric.

    Args:
        metric: ``accuracy``: share of examples whose largest score is at the label. ``log_loss``: mean of -ln p(label)
            in nats, scores being probabilities that are normalised to a sum of 1 and clipped to [1e-15, 1].
        scores: [examples, classes].
        labels: [examples], class indices.

    Raises:
        Rejected: EVALUATION_DATA (labels outside the classes, or scores that are no probabilities) or EVALUATION
            (scores that are not finite).
    """
    if int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        raise Rejected(
            "labels do not fit the model's classes",
            expected=f"0 to {scores.shape[1] - 1}",
            got=f"{labels.min()} to {labels.max()}",
            reason="EVALUATION_DATA",
        )
    if not np.isfinite(scores).all():
        raise Rejected(
            "the model's scores are not finite", expected="numbers", got="NaN or infinity", reason="EVALUATION"
        )
    if metric == "accuracy":
        return float(np.mean(scores.argmax(axis=1) == labels))
    if scores.min() < 0 or (sums := scores.sum(axis=1)).min() <= 0:
        raise Rejected(
            "log_loss needs probabilities",
            expected="scores of at least 0",
            got=f"{scores.min():g}",
            reason="EVALUATION_DATA",
        )
    chosen = scores[np.arange(len(labels)), labels] / sums
    return float(-np.log(np.clip(chosen, 1e-15, 1.0)).mean())


def judge(metric: str, value: float, n: int, limit: MetricLimit) -> MetricResult:
    """Compare a metric with its limits."""
    low = limit.minimum is not None and value < limit.minimum
    high = limit.maximum is not None and value > limit.maximum
    return MetricResult(
        metric=metric, value=value, n=n, minimum=limit.minimum, maximum=limit.maximum, passed=not (low or high)
    )
