"""Limits over all examples and over each value of a column."""

import numpy as np
import pytest
from pydantic import ValidationError

from components.core.errors import Rejected
from components.core.spec import Evaluate, MetricLimit, SliceSpec
from components.core.validation import Evaluation
from components.validate.slices import Answered, as_text, judge, judge_slices, keeps

RIGHT, WRONG = [0.0, 1.0], [1.0, 0.0]


def answered(*groups: tuple[str, int, int]) -> Answered:
    """Examples of class 1: (region, right answers, wrong answers)."""
    outputs = [row for _, right, wrong in groups for row in [RIGHT] * right + [WRONG] * wrong]
    regions = [name for name, right, wrong in groups for _ in range(right + wrong)]
    return Answered(np.array(outputs), np.ones(len(outputs), np.int64), {"region": np.array(regions, np.object_)})


def spec(*slices: SliceSpec, **metrics: MetricLimit) -> Evaluate:
    return Evaluate(data="d.npz", output="y", metrics=metrics or {"accuracy": MetricLimit()}, slices=slices)


def recorded(data: Answered, wanted: Evaluate, served: Evaluation | None = None) -> Evaluation:
    metrics, slices = judge(data, wanted, served), judge_slices(data, wanted, served)
    return Evaluation(signature="s", output="y", data_digest="sha256:0", metrics=metrics, slices=slices)


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


@pytest.mark.parametrize(
    ("metric", "value", "passed"),
    [
        ("accuracy", 0.89, True),
        ("accuracy", 0.88, False),
        ("accuracy", 1.0, True),
        ("mae", 0.91, True),
        ("mae", 0.92, False),
        ("mae", 0.1, True),
    ],
)
def test_a_regression_is_a_loss_of_what_is_better(metric, value, passed):
    assert keeps(metric, value, MetricLimit(max_regression=0.01), 0.9) is passed


def test_a_regression_without_anything_served_does_not_apply():
    assert keeps("accuracy", 0.0, MetricLimit(max_regression=0.0), None)


def test_a_limit_with_a_confidence_asks_more_of_few_examples_than_of_many():
    limit = MetricLimit(minimum=0.9, confidence=0.95)
    [few] = judge(answered(("a", 19, 1)), spec(accuracy=limit), None)
    [many] = judge(answered(("a", 1900, 100)), spec(accuracy=limit), None)

    assert few.value == many.value == 0.95
    assert (few.passed, many.passed) == (False, True)
    assert few.bound is not None
    assert few.bound < 0.9 < (many.bound or 0) < 0.95


def test_a_good_whole_does_not_hide_a_bad_slice():
    data = answered(("north", 900, 0), ("south", 20, 30))
    found = recorded(data, spec(SliceSpec(by="region", metrics={"accuracy": MetricLimit(minimum=0.8)})))

    assert found.metrics[0].passed
    assert [(part.value, part.n, part.metrics[0].passed) for part in found.slices] == [
        ("north", 900, True),
        ("south", 50, False),
    ]
    assert found.failed == ("accuracy 0.4 over 50 examples, wanted at least 0.8 where region is south",)


def test_a_slice_of_too_few_examples_is_recorded_and_not_judged():
    data = answered(("north", 100, 0), ("south", 0, 29))
    wanted = SliceSpec(by="region", metrics={"accuracy": MetricLimit(minimum=0.8)}, minimum_count=30)
    [_, south] = judge_slices(data, spec(wanted), None)

    assert (south.metrics, south.skipped) == ((), "29 examples, fewer than 30")


def test_slices_of_which_none_can_be_judged_are_refused():
    wanted = SliceSpec(by="region", metrics={"accuracy": MetricLimit(minimum=0.8)})
    with pytest.raises(Rejected) as caught:
        judge_slices(answered(("north", 20, 0)), spec(wanted), None)
    assert (caught.value.reason, caught.value.got) == ("EVALUATION_DATA", "20 at most")


def test_a_column_of_too_many_values_is_refused():
    with pytest.raises(Rejected) as caught:
        judge_slices(answered(("a", 1, 0), ("b", 1, 0)), spec(SliceSpec(by="region", maximum_values=1)), None)
    assert caught.value.got == "2 values"


def test_a_slice_is_compared_with_the_same_slice_of_the_served_version():
    wanted = spec(SliceSpec(by="region", metrics={"accuracy": MetricLimit(max_regression=0.05)}))
    served = recorded(answered(("north", 100, 0), ("south", 80, 20)), wanted)
    found = recorded(answered(("north", 90, 10), ("south", 80, 20), ("west", 0, 50)), wanted, served)

    assert {part.value: (part.metrics[0].served, part.metrics[0].passed) for part in found.slices} == {
        "north": (1.0, False),
        "south": (0.8, True),
        "west": (None, True),
    }


def test_a_metric_that_a_slice_does_not_have_is_told_and_the_others_are_judged():
    limits = {"auc": MetricLimit(minimum=0.5), "accuracy": MetricLimit(minimum=0.5)}
    data = answered(("one class", 40, 0), ("two classes", 40, 0))
    data.labels[40:60] = 0
    one, two = judge_slices(data, spec(SliceSpec(by="region", metrics=limits)), None)

    assert [result.metric for result in one.metrics] == ["accuracy"]
    assert "auc" in one.skipped
    assert [result.metric for result in two.metrics] == ["accuracy", "auc"]
    assert two.skipped == ""


def test_a_metric_that_all_examples_do_not_have_is_refused():
    with pytest.raises(Rejected) as caught:
        judge(answered(("a", 3, 0)), spec(auc=MetricLimit()), None)
    assert caught.value.reason == "EVALUATION_DATA"


def test_top_k_of_another_k_is_no_comparison():
    served = recorded(answered(("a", 40, 0)), spec(top_k=MetricLimit(k=1)))
    [result] = judge(answered(("a", 40, 0)), spec(top_k=MetricLimit(k=2, max_regression=0.0)), served)

    assert (result.k, result.served) == (2, None)


def test_values_of_columns_are_told_as_text():
    assert as_text(np.array([b"a\xff", b"b"], np.object_)).tolist() == ["a�", "b"]
    assert as_text(np.array([1, 2])).tolist() == ["1", "2"]
    assert as_text(np.array([True])).tolist() == ["True"]


def test_a_confidence_without_a_limit_is_refused():
    with pytest.raises(ValidationError, match="confidence"):
        MetricLimit(confidence=0.95)
