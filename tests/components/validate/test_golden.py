"""Golden requests and edge cases, and the parity they are judged by."""

import numpy as np
import pytest

from components.core.errors import Rejected
from components.core.signature import Contract, Signature, TensorSpec
from components.validate.golden import edge_cases, read_golden

MIXED = Signature(
    {
        "x": TensorSpec("float32", (None, None)),
        "n": TensorSpec("int64", (None,)),
        "u": TensorSpec("uint8", (None,)),
        "word": TensorSpec("string", (None,)),
        "flag": TensorSpec("bool", (None,)),
    },
    {},
)
CONTRACT = Contract({"serving_default": Signature({"x": TensorSpec("float32", (None, 2))}, {}), "mixed": MIXED})


def test_edge_cases_reach_every_edge_in_the_inputs_own_dtypes():
    cases = dict(edge_cases(MIXED, seed=1))

    for inputs in cases.values():
        assert {alias: array.dtype.name for alias, array in inputs.items()} == {
            "x": "float32", "n": "int64", "u": "uint8", "word": "object", "flag": "bool",
        }  # fmt: skip
    zero, negative, large, small, wide = cases.values()
    assert zero["word"].tolist() == [b"", b""]
    assert not zero["x"].any()
    assert (negative["x"] <= 0).all()
    assert negative["n"].tolist() == [-1, -1]
    assert len(negative["word"][0]) == 2000
    assert large["x"].max() > 1
    with pytest.raises(UnicodeDecodeError):
        large["word"][0].decode()
    assert (small["x"].shape, wide["x"].shape) == ((2, 1), (2, 17))


def test_edge_cases_that_are_equal_are_asked_once():
    fixed = Signature({"x": TensorSpec("float32", (None, 2))}, {})
    assert [origin for origin, _ in edge_cases(fixed, seed=1)] == [
        "generated, all zero and empty",
        "generated, negative and long",
        "generated, large and of any bytes",
    ]


def test_golden_requests_are_asked_of_every_signature_they_fit_whole_and_by_the_first_row(tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(tmp_path / "golden.npz", x=x, other=[1])
    found = read_golden(tmp_path / "golden.npz", CONTRACT, {})

    assert [(key, inputs["x"].tolist()) for key, _, inputs in found] == [
        ("serving_default", x.tolist()),
        ("serving_default", x[:1].tolist()),
    ]


def test_inputs_with_a_default_may_be_left_out(tmp_path):
    np.savez(tmp_path / "g.npz", n=np.array([1]), u=np.array([1], np.uint8), word=np.array(["é"]), flag=[True])
    [(key, _, inputs)] = read_golden(tmp_path / "g.npz", CONTRACT, {"mixed": {"x": np.zeros((1, 1))}})

    assert key == "mixed"
    assert inputs["word"].tolist() == ["é".encode()]


@pytest.mark.parametrize("arrays", [{"y": np.zeros(1)}, {}, {"x": np.zeros((1, 2))}])
def test_a_file_without_the_inputs_of_any_signature_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "golden.npz", **arrays)
    with pytest.raises(Rejected) as caught:
        read_golden(tmp_path / "golden.npz", CONTRACT, {})
    assert caught.value.reason == "GOLDEN"


def test_a_pickle_of_golden_requests_is_refused(tmp_path):
    np.savez(tmp_path / "golden.npz", x=np.array([{}], object))
    with pytest.raises(Rejected, match="pickle"):
        read_golden(tmp_path / "golden.npz", CONTRACT, {})
