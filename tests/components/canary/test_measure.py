"""Columns, and how two answers are compared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from components.canary.measure import MAX_FAULT_TEXTS, Arm, Outcome, Recorder, disagreement, find_fault
from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.savedmodel.tensors import Array

SIGNATURE = Signature({}, {"scores": TensorSpec("float32", (None, 3))})


def scores(*rows: list[float]) -> dict[str, Array]:
    return {"scores": np.array(rows, np.float32)}


def test_top1_counts_the_rows_whose_largest_score_moved():
    ours, theirs = scores([1, 2, 3], [3, 2, 1]), scores([1, 2, 9], [1, 2, 3])
    assert disagreement(ours, theirs, "", "top1") == 0.5


def test_classes_as_whole_numbers_disagree_by_value():
    assert disagreement({"c": np.array([1, 2, 3])}, {"c": np.array([1, 2, 4])}, "c", "top1") == pytest.approx(1 / 3)


def test_strings_disagree_by_value():
    ours, theirs = (np.array(values, object) for values in ([b"a", b"b"], [b"a", b"c"]))
    assert disagreement({"label": ours}, {"label": theirs}, "", "top1") == 0.5


def test_a_single_score_has_no_largest_one_and_is_compared_by_relative_error():
    assert disagreement({"p": np.array([[0.9]])}, {"p": np.array([[0.5]])}, "", "top1") == pytest.approx(0.8)


def test_relative_error_is_clipped_a_row():
    ours, theirs = scores([1, 2, 4], [50, 0, 0]), scores([1, 2, 5], [1, 0, 0])
    assert disagreement(ours, theirs, "", "relative-error") == pytest.approx((0.2 + 1) / 2)


def test_another_shape_disagrees_altogether():
    assert disagreement(scores([1, 2, 3]), scores([1, 2, 3], [1, 2, 3]), "", "top1") == 1.0


def test_an_output_that_stable_does_not_have_is_refused():
    with pytest.raises(Rejected, match="scorse") as caught:
        disagreement(scores([1, 2, 3]), scores([1, 2, 3]), "scorse", "top1")
    assert "scores" in caught.value.expected


@given(
    arrays(np.float64, (4, 3), elements=st.floats(allow_nan=True, allow_infinity=True)),
    arrays(np.float64, (4, 3), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.sampled_from(["top1", "relative-error"]),
)
def test_disagreement_is_a_share_and_nothing_disagrees_with_itself(a, b, compare):
    assert disagreement({"y": a}, {"y": a}, "", compare) == 0
    assert 0 <= disagreement({"y": a}, {"y": b}, "", compare) <= 1


@pytest.mark.parametrize(
    ("candidate", "stable", "words"),
    [
        ({}, None, "missing"),
        ({"scores": np.zeros((1, 3))}, None, "float64"),
        ({"scores": np.zeros((1, 4), np.float32)}, None, "does not allow"),
        ({"scores": np.zeros(3, np.float32)}, None, "does not allow"),
        ({"scores": np.full((1, 3), np.nan, np.float32)}, None, "not finite"),
        ({"scores": np.zeros((2, 3), np.float32)}, scores([1, 2, 3]), "rows"),
        (scores([1, 2, np.inf]), scores([1, 2, 3]), "not finite where the stable"),
        (scores([1, 2, 3]), {"scores": np.zeros((1, 3), np.float64)}, "float64"),
        (scores([1, 2, 3]), {"scores": np.zeros((1, 3, 1), np.float32)}, "rank"),
        (scores([1, 2, 3]), {**scores([1, 2, 3]), "classes": np.zeros(1)}, "output classes of the stable"),
    ],
)
def test_a_breach_of_the_contract_is_named(candidate, stable, words):
    assert words in find_fault(candidate, stable, SIGNATURE, first=stable is None)


@pytest.mark.parametrize(
    ("candidate", "stable"),
    [
        (scores([1, 2, 3]), None),
        (scores([1, 2, 3]), scores([3, 2, 1])),
        (scores([1, 2, np.nan]), scores([1, 2, np.nan])),
        ({**scores([1, 2, 3]), "more": np.zeros(1)}, scores([1, 2, 3])),
    ],
)
def test_an_answer_that_keeps_the_contract_has_no_fault(candidate, stable):
    assert find_fault(candidate, stable, SIGNATURE, first=stable is None) == ""


def test_a_value_that_is_not_finite_is_no_fault_while_stable_said_nothing():
    assert find_fault(scores([1, 2, np.nan]), None, SIGNATURE, first=False) == ""


def test_without_a_signature_the_shape_must_be_stables():
    ours, theirs = scores([1, 2, 3]), {"scores": np.zeros((1, 4), np.float32)}
    assert "shape" in find_fault(ours, theirs, None, first=False)


def test_rows_of_one_request_are_paired_by_its_number():
    recorder = Recorder()
    for request, arm in ((0, Arm.CANDIDATE), (0, Arm.STABLE), (1, Arm.STABLE), (2, Arm.CANDIDATE), (2, Arm.STABLE)):
        recorder.add(request, arm, float(request), Outcome(0.1, 0.0))
    measured = recorder.measurements()
    ours, theirs = measured.pairs()
    assert measured.request[ours].tolist() == measured.request[theirs].tolist() == [0, 2]


def test_a_server_that_invents_faults_does_not_fill_the_record():
    recorder = Recorder()
    for number in range(500):
        recorder.add(number, Arm.CANDIDATE, float(number), Outcome(0.1, 0.0, fault=f"fault {number}"))
    measured = recorder.measurements()
    assert len(measured.faults) == MAX_FAULT_TEXTS
    assert (measured.fault > 0).all()


def test_no_rows_are_columns_too():
    assert len(Recorder().measurements()) == 0
