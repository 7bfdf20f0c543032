"""Requests for any signature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.savedmodel.generate_inputs import IMAGE_SIDE, SEQUENCE_LENGTH, generate

DTYPES = ["float16", "float32", "float64", "bfloat16", "int8", "int32", "int64", "uint8", "bool", "string", "complex64"]
SHAPES = st.none() | st.lists(st.none() | st.integers(0, 4), max_size=3).map(tuple)


@given(st.dictionaries(st.text("xyz", min_size=1), st.tuples(st.sampled_from(DTYPES), SHAPES)), st.integers(0, 2**32))
def test_every_array_has_the_dtype_and_a_shape_that_the_signature_accepts(ports, seed):
    signature = Signature({alias: TensorSpec(*port) for alias, port in ports.items()}, {})
    request = generate(signature, batch_size=3, seed=seed)
    assert request.keys() == ports.keys()
    for alias, (dtype, shape) in ports.items():
        array = request[alias]
        assert array.dtype.name == ("object" if dtype == "string" else dtype)
        assert shape is None or len(shape) == array.ndim
        assert all(wanted in (None, size) for wanted, size in zip(shape or (), array.shape, strict=False))


@given(st.integers(0, 2**63), st.integers(1, 5))
def test_the_same_seed_gives_the_same_request(seed, batch_size):
    signature = Signature({"a": TensorSpec("float32", (None, 2)), "s": TensorSpec("string", (None,))}, {})
    first, second = (generate(signature, batch_size=batch_size, seed=seed) for _ in range(2))
    assert all(np.array_equal(first[alias], second[alias]) for alias in first)


def test_another_seed_gives_another_request_and_another_input_changes_none():
    x = TensorSpec("float32", (None, 8))
    alone = generate(Signature({"x": x}, {}), batch_size=2, seed=1)["x"]
    beside = generate(Signature({"a": x, "x": x}, {}), batch_size=2, seed=1)
    assert np.array_equal(alone, beside["x"])
    assert not np.array_equal(beside["a"], beside["x"])
    assert not np.array_equal(alone, generate(Signature({"x": x}, {}), batch_size=2, seed=2)["x"])


def test_sizes_that_are_not_known():
    ports = {
        "unknown_rank": TensorSpec("float32", None),
        "sequence": TensorSpec("float32", (None, None)),
        "image": TensorSpec("float32", (None, None, None, 3)),
        "fixed_batch": TensorSpec("float32", (1, 2)),
    }
    request = generate(Signature(ports, {}), batch_size=5, seed=0)
    assert {alias: array.shape for alias, array in request.items()} == {
        "unknown_rank": (5,),
        "sequence": (5, SEQUENCE_LENGTH),
        "image": (5, IMAGE_SIDE, IMAGE_SIDE, 3),
        "fixed_batch": (1, 2),
    }


def test_values_are_such_that_most_models_accept_them():
    ports = {dtype: TensorSpec(dtype, (200,)) for dtype in ("float32", "int64", "string")}
    request = generate(Signature(ports, {}), batch_size=1, seed=0)
    assert 0 <= request["float32"].min() < 0.2
    assert 0.8 < request["float32"].max() < 1
    assert set(request["int64"]) == {0, 1}
    assert all(isinstance(text, bytes) and 1 <= len(text) <= 4 and text.isalpha() for text in request["string"])


def test_what_no_client_can_send_is_refused():
    with pytest.raises(Rejected) as caught:
        generate(Signature({"x": TensorSpec("resource", ())}, {}), batch_size=1, seed=0)
    assert caught.value.reason == "DTYPE_UNSUPPORTED"
