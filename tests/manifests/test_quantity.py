"""Kubernetes quantities as numbers."""

from fractions import Fraction

import pytest
from hypothesis import given

from manifests.quantity import amount, total_mebibytes, whole_cores
from tests.manifests.strategies import cpus, quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("0.5", Fraction(1, 2)), ("1500m", Fraction(3, 2)), ("2k", 2000), ("3M", 3 * 10**6),
        ("4G", 4 * 10**9), ("5T", 5 * 10**12), ("2Ki", 2048), ("2Mi", 2**21), ("1.5Gi", 3 * 2**29), ("1Ti", 2**40),
        ("0", 0),
    ],
)  # fmt: skip
def test_a_quantity_is_its_number_times_its_suffix(text, value):
    assert amount(text) == value


def test_bytes_are_added_and_rounded_up_to_whole_mebibytes():
    assert total_mebibytes("1Gi", "256Mi") == "1280Mi"
    assert total_mebibytes("1") == "1Mi"


@given(quantities, quantities)
def test_a_total_is_enough_and_less_than_a_mebibyte_too_much(left, right):
    exact = amount(left) + amount(right)
    assert exact <= amount(total_mebibytes(left, right)) < exact + 2**20


@given(cpus)
def test_whole_cores_are_enough_and_less_than_one_too_many(cpu):
    assert amount(cpu) <= whole_cores(cpu) < amount(cpu) + 1
