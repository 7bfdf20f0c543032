"""Metrics against their limits, over all examples and over those with one value of a column. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.core.errors import Rejected
from components.core.spec import Evaluate, Metric, MetricLimit, SliceSpec
from components.core.validation import Evaluation, MetricResult, SliceResult
from components.validate.metrics import LOWER_IS_BETTER, Array, Undefined, bound, measure


@dataclass(frozen=True, slots=True)
class Answered:
    """Labelled examples with the model's answers: outputs and labels [examples, ...], columns of text [examples]."""

    outputs: Array
    labels: Array
    columns: Mapping[str, Array]

    def where(self, chosen: Array) -> "Answered":
        """Return the examples that a mask chooses."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        return Answered(self.outputs[chosen], self.labels[chosen], columns)


def judge(answered: Answered, spec: Evaluate, served: Evaluation | None) -> tuple[MetricResult, ...]:
    """Measure every metric over all examples and compare it with its limits.

    Args:
        answered: Examples and answers.
        spec: Metrics and limits.
        served: What the record of the version being served says; None if nothing is to be compared with.

    Raises:
        Rejected: EVALUATION_DATA: a metric these examples do not have; EVALUATION: answers that are not finite.
    """
    try:
        return tuple(
            _result(name, answered, limit, spec.seed, _served_value(name, limit, served.metrics if served else ()))
            for name, limit in sorted(spec.metrics.items())
        )
    except Undefined as error:
        raise Rejected(
            "the labelled data cannot tell a metric that is asked for",
            expected=", ".join(sorted(spec.metrics)),
            got=str(error),
            fix="add labelled examples, or leave the metric out of validate.evaluate.metrics",
            reason="EVALUATION_DATA",
        ) from error


def judge_slices(answered: Answered, spec: Evaluate, served: Evaluation | None) -> tuple[SliceResult, ...]:
    """The same for each value of each column that the spec names.

    Raises:
        Rejected: EVALUATION_DATA: a column has too many values, or none with enough examples to be judged.
    """
    return tuple(result for each in spec.slices for result in _of_column(answered, each, spec, served))


def _of_column(answered: Answered, wanted: SliceSpec, spec: Evaluate, served: Evaluation | None) -> list[SliceResult]:
    column = answered.columns[wanted.by]
    values = sorted(set(column.tolist()))
    if len(values) > wanted.maximum_values:
        raise _bad_column(wanted, f"at most {wanted.maximum_values} values", f"{len(values)} values")
    found = [_of_value(answered.where(column == value), value, wanted, spec, served) for value in values]
    if wanted.metrics and all(result.skipped for result in found):
        largest = max(result.n for result in found)
        raise _bad_column(wanted, f"a value with {wanted.minimum_count} examples", f"{largest} at most")
    return found


def _of_value(part: Answered, value: str, wanted: SliceSpec, spec: Evaluate, served: Evaluation | None) -> SliceResult:
    count = len(part.labels)
    if count < wanted.minimum_count:
        why = f"{count} examples, fewer than {wanted.minimum_count}"
        return SliceResult(by=wanted.by, value=value, n=count, skipped=why)
    before = _served_slice(served, wanted.by, value)
    limits: Mapping[Metric, MetricLimit] = wanted.metrics or {
        name: MetricLimit(k=limit.k) for name, limit in spec.metrics.items()
    }
    results, undefined = [], []
    for name, limit in sorted(limits.items()):
        try:
            results.append(_result(name, part, limit, spec.seed, _served_value(name, limit, before)))
        except Undefined as error:
            undefined.append(f"{name}: {error}")
    return SliceResult(by=wanted.by, value=value, n=count, metrics=tuple(results), skipped="; ".join(undefined))


def _result(name: Metric, part: Answered, limit: MetricLimit, seed: int, served: float | None) -> MetricResult:
    value = measure(name, part.outputs, part.labels, k=limit.k)
    sure = None
    if limit.confidence is not None:
        sure = bound(name, part.outputs, part.labels, limit=limit, value=value, seed=seed)
    return MetricResult(
        metric=name,
        value=value,
        n=len(part.labels),
        minimum=limit.minimum,
        maximum=limit.maximum,
        passed=keeps(name, value if sure is None else sure, limit, served),
        k=limit.k if name == "top_k" else None,
        bound=sure,
        confidence=limit.confidence,
        served=served,
        max_regression=limit.max_regression,
    )


def keeps(name: Metric, value: float, limit: MetricLimit, served: float | None) -> bool:
    """Return whether a value keeps its limits; at the edge it does.

    Args:
        name: The metric, which says whether more or less is better.
        value: Its value or confidence bound.
        limit: The limits.
        served: The served version's value; None: ``max_regression`` does not apply.
    """
    if limit.minimum is not None and value < limit.minimum:
        return False
    if limit.maximum is not None and value > limit.maximum:
        return False
    if served is None or limit.max_regression is None:
        return True
    worse = value - served if name in LOWER_IS_BETTER else served - value
    return worse <= limit.max_regression + 1e-12  # 0.9 - 0.89 is a little more than 0.01 in binary


def _served_slice(served: Evaluation | None, by: str, value: str) -> tuple[MetricResult, ...]:
    found = served.slices if served is not None else ()
    return next((part.metrics for part in found if part.by == by and part.value == value), ())


def _served_value(name: Metric, limit: MetricLimit, served: tuple[MetricResult, ...]) -> float | None:
    if limit.max_regression is None:
        return None
    wanted_k = limit.k if name == "top_k" else None
    return next((each.value for each in served if each.metric == name and each.k == wanted_k), None)


def as_text(column: Array) -> Array:
    """Return a column's values as text, which is what records hold: bytes as UTF-8, numbers as Python writes them."""
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in column.tolist()]
    return np.array(texts, dtype=np.object_)


def _bad_column(wanted: SliceSpec, expected: str, got: str) -> Rejected:
    return Rejected(
        f"the labelled data cannot be judged by {wanted.by}",
        expected=expected,
        got=got,
        fix="add examples, choose another column, or change this entry of validate.evaluate.slices",
        reason="EVALUATION_DATA",
    )
