import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.core.spec import Tolerance
from components.validate.difference import difference

TOLERANCE = Tolerance(absolute=1e-3, relative=1e-2, why="a round number")
FLOATS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=4), elements=st.floats(width=32, allow_nan=True))


def floats(*values: float):
    return np.array(values, np.float32)


@given(array=FLOATS)
def test_an_array_never_differs_from_itself_nan_and_infinity_included(array):
    found = difference(array, array, Tolerance(absolute=0, relative=0, why="the same array"))

    assert found.passed
    assert found.max_abs == 0


def test_the_tolerance_is_absolute_plus_relative_to_the_largest_reference():
    reference = floats(10, 0)

    assert difference(floats(10, 0.1009), reference, TOLERANCE).passed
    assert not difference(floats(10, 0.1020), reference, TOLERANCE).passed
    assert difference(floats(10, 0.05), reference, TOLERANCE).allowed == pytest.approx(0.101)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(np.nan, 1.0), (1.0, np.nan), (np.inf, 1.0), (np.nan, np.inf), (np.inf, -np.inf), (1.0, np.inf)],
)
def test_nan_and_infinity_must_stand_in_the_same_places(ours, theirs):
    assert not difference(floats(1, ours), floats(1, theirs), TOLERANCE).passed


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.object_])
def test_exact_dtypes_must_be_equal(dtype):
    reference = np.array([b"a", b"b"], dtype) if dtype is np.object_ else np.array([0, 1], dtype)

    assert difference(reference.copy(), reference, TOLERANCE).passed
    assert not difference(reference[::-1], reference, TOLERANCE).passed


def test_another_shape_or_dtype_is_a_difference():
    assert not difference(floats(1), floats(1, 2), TOLERANCE).passed
    assert not difference(floats(1).astype(np.float64), floats(1), TOLERANCE).passed


def test_complex_numbers_are_compared_by_distance():
    reference = np.array([1 + 1j], np.complex64)

    assert difference(reference + np.complex64(1e-3), reference, TOLERANCE).passed
    assert not difference(reference + np.complex64(1j), reference, TOLERANCE).passed
