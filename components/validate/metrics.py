"""What labelled examples say of a model: one number a metric, and how sure it is. Pure.

The values are scikit-learn's; here is what they are asked, which inputs have no answer, and the confidence bounds.
"""

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from components.core.errors import Rejected
from components.core.spec import Metric, MetricLimit

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[np.generic]

RESAMPLES = 1000
"""Of the bootstrap: the bound's own error is then about 1/30 of the interval's width."""

OF_CLASSES: frozenset[Metric] = frozenset({"accuracy", "top_k", "auc", "log_loss"})
"""Metrics whose labels are class indices."""
PROPORTIONS: frozenset[Metric] = frozenset({"accuracy", "top_k"})
"""Metrics that are a share of examples, each right or wrong."""
LOWER_IS_BETTER: frozenset[Metric] = frozenset({"log_loss", "mae", "rmse"})


class Undefined(Exception):
    """These examples have no such metric; the text says why."""


def measure(metric: Metric, outputs: Array, labels: Array, *, k: int = 5) -> float:
    """Return a metric.

    Args:
        metric: Its name. ``accuracy``, ``top_k``, ``auc``, ``log_loss``: ``outputs`` are scores [examples, classes],
            or the probability of class 1 [examples] or [examples, 1], and ``labels`` class indices [examples].
            ``mae``, ``rmse``: both [examples, ...] of one shape but for axes of size 1. ``mean_iou``: both
            [examples, 4] or [examples, boxes, 4], two opposite corners a box.
        outputs: The model's.
        labels: The truth.
        k: Of ``top_k``.

    Raises:
        Rejected: EVALUATION_DATA (labels that do not fit the outputs) or EVALUATION (outputs that are not finite).
        Undefined: These examples have no such metric, as the AUC of one class.
    """
    values = outputs.astype(np.float64)
    if not np.isfinite(values).all():
        raise Rejected(
            "the model's answers are not finite", expected="numbers", got="NaN or infinity", reason="EVALUATION"
        )
    if metric in OF_CLASSES:
        scores, classes = _scores(values, len(labels)), _classes(labels)
        _require_known_classes(classes, scores)
        return _top_k(scores, classes, k) if metric == "top_k" else _OF_CLASSES[metric](scores, classes)
    truth = labels.astype(np.float64)
    if not np.isfinite(truth).all():
        raise _unfit("labels that are numbers", "NaN or infinity")
    return _OF_VALUES[metric](*_alike(values, truth))


def bound(metric: Metric, outputs: Array, labels: Array, *, limit: MetricLimit, value: float, seed: int) -> float:
    """Return the one-sided confidence bound of a metric on its bad side: the lower one where more is better.

    Proportions: Wilson's score bound (E. B. Wilson, JASA 22, 1927; recommended by Brown, Cai, DasGupta, Statistical
    Science 16, 2001). Others: the percentile bootstrap over examples (B. Efron, R. Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13), never better than the value itself.

    Args:
        metric: Its name.
        outputs: As in :func:`measure`.
        labels: As in :func:`measure`.
        limit: Says the confidence, and ``k``.
        value: What :func:`measure` said.
        seed: Of the resampling.

    Raises:
        Undefined: No resample has the metric.
    """
    confidence = 0.5 if limit.confidence is None else limit.confidence
    if metric in PROPORTIONS:
        return wilson_lower(value, len(labels), confidence)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        chosen = random.integers(0, len(labels), len(labels))
        try:
            found.append(measure(metric, outputs[chosen], labels[chosen], k=limit.k))
        except Undefined:
            continue
    if not found:
        raise Undefined("no resample of the examples has this metric")
    if metric in LOWER_IS_BETTER:
        return max(value, float(np.quantile(found, confidence)))
    return min(value, float(np.quantile(found, 1 - confidence)))


def wilson_lower(share: float, n: int, confidence: float) -> float:
    """Return Wilson's lower bound of a proportion.

    Args:
        share: Successes / n.
        n: Trials, at least 1.
        confidence: One-sided, such as 0.95.
    """
    z = NormalDist().inv_cdf(confidence)
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n))


def _scores(values: Floats, examples: int) -> Floats:
    """One column a class. A single score is the probability of class 1."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and len(values) == examples:
        return values
    if values.ndim != 1 or len(values) != examples:
        raise _unfit(f"scores of shape [{examples}, classes] or [{examples}]", f"{list(values.shape)}")
    if values.min() < 0 or values.max() > 1:
        raise _unfit("a single score that is the probability of class 1", f"{values.min():g} to {values.max():g}")
    return np.stack([1 - values, values], axis=1)


def _classes(labels: Array) -> npt.NDArray[np.int64]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        raise _unfit("labels that are class indices, one an example", f"{labels.dtype}{list(labels.shape)}")
    return labels.astype(np.int64)


def _require_known_classes(labels: npt.NDArray[np.int64], scores: Floats) -> None:
    if int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        raise _unfit(f"labels from 0 to {scores.shape[1] - 1}", f"{labels.min()} to {labels.max()}")


def _accuracy(scores: Floats, labels: npt.NDArray[np.int64]) -> float:
    from sklearn.metrics import accuracy_score  # noqa: PLC0415 - a second to import

    return float(accuracy_score(labels, scores.argmax(axis=1)))


def _top_k(scores: Floats, labels: npt.NDArray[np.int64], k: int) -> float:
    """Of equal scores the lower class index comes first, as in ``accuracy``.

    scikit-learn's ``top_k_accuracy_score`` puts the higher index first, so that its k=1 is another accuracy; with k not
    less than the number of classes it warns.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((order == labels[:, np.newaxis]).any(axis=1).mean())


def _auc(scores: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Area under the ROC curve; of more than two classes the mean over those that occur, each against the rest.

    Two probabilities are ranked by the second, two logits by their difference, which is what their softmax ranks by.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - as above

    if len(np.unique(labels)) < 2:
        raise Undefined("an AUC needs examples of two classes")
    if scores.shape[1] == 2:
        probabilities = scores.min() >= 0 and scores.max() <= 1
        return float(roc_auc_score(labels, scores[:, 1] if probabilities else scores[:, 1] - scores[:, 0]))
    return float(np.mean([roc_auc_score(labels == each, scores[:, each]) for each in np.unique(labels)]))


def _log_loss(scores: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Mean of -ln p(label) in nats; rows are normalised to a sum of 1 and clipped to [1e-15, 1]."""
    from sklearn.metrics import log_loss  # noqa: PLC0415 - as above

    if scores.min() < 0 or (sums := scores.sum(axis=1, keepdims=True)).min() <= 0:
        raise _unfit("probabilities for log_loss, at least 0 and not all 0", f"{scores.min():g}")
    if scores.shape[1] == 1:
        return 0.0
    return float(log_loss(labels, np.clip(scores / sums, 1e-15, 1.0), labels=np.arange(scores.shape[1])))


def _mae(values: Floats, truth: Floats) -> float:
    from sklearn.metrics import mean_absolute_error  # noqa: PLC0415 - as above

    return float(mean_absolute_error(truth.ravel(), values.ravel()))


def _rmse(values: Floats, truth: Floats) -> float:
    """Root of the mean over all values, not the mean of a root for each column."""
    from sklearn.metrics import root_mean_squared_error  # noqa: PLC0415 - as above

    return float(root_mean_squared_error(truth.ravel(), values.ravel()))


def _mean_iou(values: Floats, truth: Floats) -> float:
    """Mean over boxes of intersection / union, box k of an answer against box k of its label.

    Jaccard's index of two rectangles (P. Jaccard, 1912), as in PASCAL VOC (Everingham et al., IJCV 88, 2010, §4.2).
    """
    if truth.ndim not in {2, 3} or truth.shape[-1] != 4:
        raise _unfit("boxes: [examples, 4] or [examples, boxes, 4]", f"{list(truth.shape)}")
    ours, theirs = values.reshape(-1, 4), truth.reshape(-1, 4)
    union_of_one = _area(theirs)
    if union_of_one.min() <= 0:
        raise _unfit("label boxes with an area, [low, low, high, high]", "a box whose corners are not in that order")
    low, high = np.maximum(ours[:, :2], theirs[:, :2]), np.minimum(ours[:, 2:], theirs[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    return float(np.mean(shared / (_area(ours) + union_of_one - shared)))


def _area(boxes: Floats) -> Floats:
    found: Floats = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return found


def _alike(values: Floats, truth: Floats) -> tuple[Floats, Floats]:
    """Both in one shape: axes of size 1 behind the first say nothing."""
    plain = [tuple(size for size in array.shape[1:] if size != 1) for array in (values, truth)]
    if len(values) != len(truth) or plain[0] != plain[1]:
        raise _unfit(f"labels of the output's shape {list(values.shape)}", f"{list(truth.shape)}")
    return values.reshape(truth.shape), truth


def _unfit(expected: str, got: str) -> Rejected:
    return Rejected(
        "labels and answers do not fit each other",
        expected=expected,
        got=got,
        fix="see docs/quality.md for what each metric takes",
        reason="EVALUATION_DATA",
    )


_OF_CLASSES: Mapping[str, Callable[[Floats, npt.NDArray[np.int64]], float]] = MappingProxyType(
    {"accuracy": _accuracy, "auc": _auc, "log_loss": _log_loss}
)
_OF_VALUES: Mapping[str, Callable[[Floats, Floats], float]] = MappingProxyType(
    {"mae": _mae, "rmse": _rmse, "mean_iou": _mean_iou}
)
