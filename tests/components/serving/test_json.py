"""JSON in and out: laws, fuzz, formats. The texts are in tests/contract/test_rest.py, asked of a server."""

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.core.signature import Signature, TensorSpec
from components.savedmodel.messages import message
from components.serving.json_answers import columns, decimals, rows
from components.serving.json_examples import fill_examples
from components.serving.json_requests import parse, tensors
from components.serving.status import ServingError

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool")
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3)
arrays = st.sampled_from(DTYPES).flatmap(lambda name: hnp.arrays(name, shapes))


def signature(*names: str, dtype: str = "float32") -> Signature:
    return Signature({name: TensorSpec(dtype, None, f"{name}:0") for name in names}, {})


def read(text: str, dtype: str, key: str) -> np.ndarray:
    return np.array(json.loads(text)[key], dtype)


@given(array=arrays)
def test_what_the_server_writes_it_reads_back_bit_for_bit_but_for_the_kind_of_nan(array):
    text = columns({"y": array})
    body = '{"inputs": ' + text.split(":", 1)[1]
    back = tensors(parse(body.encode()), signature("x", dtype=array.dtype.name))["x"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


@given(array=arrays.filter(lambda found: found.ndim > 0))
def test_rows_and_columns_hold_the_same_values(array):
    as_rows = read(rows({"y": array}), array.dtype.name, "predictions")
    np.testing.assert_array_equal(as_rows, read(columns({"y": array}), array.dtype.name, "outputs"))


@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_is_written_so_that_it_reads_back_and_never_as_an_integer(value: float):
    text = decimals(np.array([value], np.float32))[0]
    assert np.float32(float(text)) == np.float32(value)
    assert "." in text or "e" in text


def test_floats_are_written_as_abseil_writes_them():
    found = np.array([0.2, 1, 1e6, 3e-5, 1 / 3, 16777217, -0.0, math.nan, math.inf, -math.inf], np.float32)
    assert decimals(found) == (
        ["0.2", "1.0", "1e+06", "3e-05", "0.333333343", "16777216.0", "-0.0", "NaN", "Infinity", "-Infinity"]
    )
    assert decimals(np.array([0.1, 1 / 3])) == ["0.1", "0.33333333333333331"]


def test_the_layout_is_the_real_servers():
    assert rows({"y": np.float32([2.5, 3])}) == '{\n    "predictions": [2.5, 3.0\n    ]\n}'


def test_strings_are_base64_only_by_name_and_pass_through_what_is_no_utf_8():
    strings = np.array([b"hi", b'"\xff'], object)
    assert json.loads(columns({"a_bytes": strings}))["outputs"] == [{"b64": "aGk="}, {"b64": "Iv8="}]
    assert columns({"a": strings}).encode("utf-8", "surrogateescape").endswith(b'["hi", "\\"\xff"]\n}')


@pytest.mark.parametrize("dtype", ["float16", "complex64", "uint16"])
def test_what_rest_cannot_write_is_told(dtype: str):
    with pytest.raises(ServingError, match="Failed to write JSON value for tensor type: "):
        columns({"y": np.zeros(1, dtype)})


def test_no_outputs_are_refused():
    for write in (rows, columns):
        with pytest.raises(ServingError, match="Cannot convert empty tensor map to JSON"):
            write({})


def test_narrow_integers_are_cut_off_as_the_real_server_does():
    body = parse(b'{"inputs": [300, -1]}')
    assert tensors(body, signature("x", dtype="uint8"))["x"].tolist() == [44, 255]


def test_an_empty_column_has_the_shape_it_shows():
    assert tensors(parse(b'{"inputs": [[], []]}'), signature("x"))["x"].shape == (2, 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just({"b64": "aGk="}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "b64"]), inner, max_size=2),
    max_leaves=8,
)
documents = st.fixed_dictionaries({}, optional=dict.fromkeys(("instances", "inputs", "signature_name"), json_values))


def answered(body: bytes, wanted: Signature) -> None:
    """A body is tensors of the signature's names and dtypes, or refused with a code REST knows."""
    try:
        found = tensors(parse(body), wanted)
    except ServingError as error:
        assert error.http_status in (400, 501)  # noqa: PT017 - whether it is refused is not known before
        return
    assert found.keys() == wanted.inputs.keys()
    for alias, array in found.items():
        dtype = wanted.inputs[alias].dtype
        assert array.dtype == (object if dtype == "string" else dtype)


@given(
    document=documents,
    dtype=st.sampled_from([*DTYPES, "string", "float16"]),
    names=st.sampled_from([("x",), ("x", "y")]),
)
def test_any_json_is_answered_or_refused(document, dtype: str, names: tuple[str, ...]):
    answered(json.dumps(document).encode(), signature(*names, dtype=dtype))


@given(
    body=st.binary(max_size=80)
    | st.text(alphabet='{}[]":,0123456789.eE-+ \\ntruefalsnull', max_size=60).map(str.encode)
)
def test_any_bytes_are_answered_or_refused(body: bytes):
    answered(body, signature("x"))
    request = message("tensorflow.serving.ClassificationRequest")()
    with contextlib.suppress(ServingError):
        fill_examples(body, request)


@given(examples=json_values)
def test_any_examples_are_taken_or_refused(examples):
    request = message("tensorflow.serving.RegressionRequest")()
    with contextlib.suppress(ServingError):
        fill_examples(json.dumps({"examples": examples, "context": examples}).encode(), request)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"inputs":' + b"[" * 80 + b"1" + b"]" * 80 + b"}",
        b'{"inputs": ' + b"9" * 10_000 + b"}",
        b'{"inputs": "\xed\xa0\x80"}',
    ],
)
def test_hostile_bodies_are_refused(body: bytes):
    with pytest.raises(ServingError):
        tensors(parse(body), signature("x"))
