"""Arrays and TensorProto: round trips, TensorFlow's rules for short fields, refusals."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.core.errors import Rejected
from components.savedmodel.messages import message
from components.savedmodel.tensors import dtype_name, dtype_number, from_proto, numpy_dtype, short_name, to_proto

NUMBERS = (
    "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "complex64", "complex128", "float16",
)  # fmt: skip

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
numbers = st.sampled_from(NUMBERS).flatmap(lambda name: hnp.arrays(name, shapes))
texts = shapes.flatmap(lambda shape: hnp.arrays(object, shape, elements=st.binary(max_size=5)))


def sent(proto):
    """What arrives after the wire."""
    return message("tensorflow.TensorProto").FromString(proto.SerializeToString())


@given(array=numbers, typed=st.booleans())
def test_numbers_come_back_bit_for_bit_in_both_encodings(array, typed: bool):
    back = from_proto(sent(to_proto(array, typed_fields=typed)))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


@given(array=texts, typed=st.booleans())
def test_strings_come_back_as_bytes(array, typed: bool):
    back = from_proto(sent(to_proto(array, typed_fields=typed)))
    assert back.shape == array.shape
    assert back.tolist() == array.tolist()


@pytest.mark.parametrize("typed", [False, True])
def test_bfloat16_comes_back(typed: bool):
    array = np.array([1.5, -0.25, 3e38], ml_dtypes.bfloat16)
    back = from_proto(sent(to_proto(array, typed_fields=typed)))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def test_text_is_sent_as_utf_8():
    assert from_proto(to_proto(np.array(["ü", "b"]))).tolist() == ["ü".encode(), b"b"]


def test_big_endian_arrays_are_sent_little_endian():
    assert from_proto(to_proto(np.arange(3, dtype=">f4"))).tolist() == [0, 1, 2]


def test_our_bytes_are_what_tensorflow_serving_answers_with():
    proto = to_proto(np.float32([1, 2]), typed_fields=True)
    assert list(proto.float_val) == [1, 2]
    assert to_proto(np.float32([1, 2])).tensor_content == np.float32([1, 2]).tobytes()


def tensor(dtype: int, shape: list[int], **fields: object):
    proto = message("tensorflow.TensorProto")(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    return proto


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"float_val": [4.0]}, [4, 4, 4]),
        ({"float_val": [1.0, 2.0]}, [1, 2, 2]),
        ({"float_val": [1.0, 2.0, 3.0, 9.0]}, [1, 2, 3]),
        ({}, [0, 0, 0]),
    ],
)
def test_short_fields_repeat_the_last_value_and_surplus_is_ignored(fields, expected):
    assert from_proto(tensor(1, [3], **fields)).tolist() == expected
    as_ints = {"int_val": [int(value) for value in fields["float_val"]]} if fields else {}
    assert from_proto(tensor(3, [3], **as_ints)).tolist() == expected


def test_short_strings_repeat_the_last():
    assert from_proto(tensor(7, [3], string_val=[b"a", b"b"])).tolist() == [b"a", b"b", b"b"]
    assert from_proto(tensor(7, [2])).tolist() == [b"", b""]


def test_strings_as_content_are_lengths_then_bytes():
    assert from_proto(tensor(7, [2], tensor_content=b"\x01\x02abb")).tolist() == [b"a", b"bb"]
    with pytest.raises(Rejected):
        from_proto(tensor(7, [2], tensor_content=b"\x01\x02ab"))


@pytest.mark.parametrize(
    "proto",
    [
        tensor(1, [3], tensor_content=b"\0" * 11),
        tensor(1, [3], tensor_content=b"\0" * 16),
        tensor(1, [-1], float_val=[1.0]),
        tensor(1, [2**40], float_val=[1.0]),
        tensor(1, [2**40, 2**40], float_val=[1.0]),
        tensor(7, [2**40], string_val=[b"a"]),
        tensor(20, [1]),
        tensor(0, [1]),
        tensor(7, [1], tensor_content=b"\xff"),
    ],
    ids=["short", "long", "negative", "padded", "overflow", "strings", "resource", "no dtype", "cut length"],
)
def test_what_disagrees_with_its_shape_or_would_fill_memory_is_refused(proto):
    with pytest.raises(Rejected) as caught:
        from_proto(proto)
    assert caught.value.reason == "TENSOR"


def test_an_unknown_rank_is_refused():
    proto = to_proto(np.float32(1))
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(Rejected):
        from_proto(proto)


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["2026-01-01"], "datetime64[D]"), np.array([1], "O")])
def test_what_no_tensor_carries_is_refused(array):
    with pytest.raises(Rejected) as caught:
        to_proto(array)
    assert caught.value.reason == "TENSOR"


@given(data=st.binary(max_size=60))
def test_any_bytes_are_a_tensor_or_refused(data: bytes):
    from google.protobuf.message import DecodeError

    try:
        from_proto(message("tensorflow.TensorProto").FromString(data))
    except (DecodeError, Rejected):
        return


def test_names_of_dtypes_agree():
    for name in (*NUMBERS, "bfloat16", "string"):
        assert dtype_name(dtype_number(name)) == name
        assert numpy_dtype(name) == (np.dtype(object) if name == "string" else np.dtype(name))
    assert [short_name(name) for name in ("float32", "float16", "int8")] == ["float", "half", "int8"]
    for name in ("object", "float8", ""):
        with pytest.raises(Rejected):
            dtype_number(name)
