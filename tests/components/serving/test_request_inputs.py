"""The inputs of one request, from the command line's words to arrays."""

import pickle

import numpy as np
import pytest

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.savedmodel.messages import message
from components.serving import request_inputs

FLOATS = Signature({"x": TensorSpec("float32", (None, 2))}, {})


def refused(call, *args) -> Rejected:
    with pytest.raises(Rejected) as caught:
        call(*args)
    return caught.value


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.savez(tmp_path / "one.npz", only=np.ones(2))
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.ones(1))
    return tmp_path


def test_npy_and_npz_files_are_read(files):
    words = [f"x={files}/a.npy;y={files}/one.npz", f"z={files}/two.npz[b]", f" w = {files}/one.npz[only];"]
    found = request_inputs.from_files(words)
    assert {name: array.tolist() for name, array in found.items()} == {
        "x": [0, 1, 2],
        "y": [1.0, 1.0],
        "z": [1.0],
        "w": [1.0, 1.0],
    }


@pytest.mark.parametrize(
    ("word", "reason", "said"),
    [
        ("x={}/two.npz", "INPUT_FILE", "a, b"),
        ("x={}/two.npz[c]", "INPUT_FILE", "a, b"),
        ("x={}/none.npy", "INPUT_FILE", "readable|npy"),
        ("x={}/text.npy", "INPUT_PICKLE", "np.save"),
        ("x={}/pickled.pkl", "INPUT_PICKLE", "np.save"),
        ("x={}/objects.npy", "INPUT_PICKLE", "np.save"),
        ("x={}/objects.npz", "INPUT_PICKLE", "np.save"),
        ("x={}/cut.npz", "INPUT_FILE", "npz"),
        ("x={}/cut.npy", "INPUT_FILE", "npy"),
        ("x", "INPUT_FORMAT", "NAME=VALUE"),
        ("=f.npy", "INPUT_FORMAT", "NAME=VALUE"),
        ("x={0}/a.npy;x={0}/a.npy", "INPUT_TWICE", "once"),
    ],
)
def test_a_file_that_is_no_array_is_refused(files, word, reason, said):
    (files / "text.npy").write_text("nothing that numpy wrote")
    (files / "pickled.pkl").write_bytes(pickle.dumps([1, 2]))
    np.save(files / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(files / "objects.npz", x=np.array([{}], object))
    (files / "cut.npz").write_bytes((files / "two.npz").read_bytes()[:100])
    (files / "cut.npy").write_bytes((files / "a.npy").read_bytes()[:-4])
    error = refused(request_inputs.from_files, [word.format(files)])
    assert error.reason == reason
    assert any(part in str(error) for part in said.split("|"))


def test_a_pickle_is_never_executed(files):
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (files.joinpath("sprung").touch, ())

    (files / "trap.npy").write_bytes(pickle.dumps(Trap()))
    np.save(files / "trap2.npy", np.array([Trap()], object), allow_pickle=True)
    for name in ("trap.npy", "trap2.npy"):
        assert refused(request_inputs.from_files, [f"x={files}/{name}"]).reason == "INPUT_PICKLE"
    assert not (files / "sprung").exists()


def test_expressions_are_joined_by_semicolons_outside_of_quotes():
    found = request_inputs.from_expressions(["a=['x;y', \"it's;\"];b=np.ones(1);", "c=['\\';']"])
    assert {name: array.tolist() for name, array in found.items()} == {
        "a": ["x;y", "it's;"],
        "b": [1.0],
        "c": ["';"],
    }


def test_an_input_is_given_once_over_all_options():
    assert refused(request_inputs.from_expressions, ["a=1", "a=2"]).reason == "INPUT_TWICE"
    assert refused(request_inputs.joined, {"a": np.ones(1)}, {"a": np.ones(1)}).reason == "INPUT_TWICE"


def test_examples_are_serialized_as_tensorflow_reads_them():
    word = "x=[{'age': [3.5, 1], 'name': ['ü', b'b'], 'n': [1, 2], 'none': []}, {}]"
    first, second = request_inputs.from_examples([word])["x"]
    features = message("tensorflow.Example").FromString(first).features.feature
    assert list(features["age"].float_list.value) == [3.5, 1.0]
    assert list(features["name"].bytes_list.value) == ["ü".encode(), b"b"]
    assert list(features["n"].int64_list.value) == [1, 2]
    assert "none" in features
    assert message("tensorflow.Example").FromString(second).ByteSize() == 0


@pytest.mark.parametrize("text", ["{}", "[1]", "[{'a': 1}]", "[{1: [1]}]", "[{'a': [1, 'b']}]", "[{'a': [2**70]}]"])
def test_what_is_no_list_of_examples_is_refused(text):
    assert refused(request_inputs.from_examples, [f"x={text}"]).reason in {"EXAMPLE", "EXPRESSION"}


@pytest.mark.parametrize(
    "body", [b'{"inputs": {"x": [[1, 2]]}}', b'{"inputs": [[1, 2]]}', b'{"instances": [[1, 2]]}', b'{"x": [[1, 2]]}']
)
def test_a_rest_body_in_any_form_is_read(body):
    found = request_inputs.from_json(body, FLOATS)
    assert found["x"].tolist() == [[1.0, 2.0]]
    assert found["x"].dtype == np.float32


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"instances": 3}', b'{"y": 1}', b"[" * 100_000])
def test_json_that_is_no_request_is_refused(body):
    assert refused(request_inputs.from_json, body, FLOATS).reason == "INPUT_JSON"
    assert request_inputs.signature_in_json(body) == ""


def test_the_signature_of_a_body_is_found():
    assert request_inputs.signature_in_json(b'{"signature_name": "count", "inputs": 1}') == "count"
    assert request_inputs.signature_in_json(b'{"signature_name": 5}') == ""


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1.5]), "float32"),
        (np.array([1, 2]), "float32"),
        (np.array([1, 2]), "uint8"),
        (np.array([1.0, 2.0]), "int64"),
        (np.array([True]), "int32"),
        (np.array(["a"], object), "string"),
        (np.array(["a"]), "string"),
        (np.array([2.5], np.float32), "float64"),
        (np.array([0.1]), "float16"),
    ],
)
def test_values_take_the_signatures_dtype_where_they_stay_what_they_are(array, dtype):
    found = request_inputs.fit({"x": array, "other": array}, Signature({"x": TensorSpec(dtype, None)}, {}))
    assert found["other"] is array
    if dtype == "string":
        assert found["x"].tolist() == ["a"]
    else:
        assert found["x"].dtype == dtype
        np.testing.assert_allclose(found["x"].astype(float), array.astype(float), rtol=1e-3)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1.5]), "int64"),
        (np.array([300]), "uint8"),
        (np.array([-1]), "uint64"),
        (np.array([2**40]), "int32"),
        (np.array([2]), "bool"),
        (np.array([1]), "bool"),
        (np.array([1.0]), "string"),
        (np.array(["a"], object), "float32"),
        (np.array([1 + 2j]), "float32"),
        (np.array([np.nan]), "int64"),
    ],
)
def test_values_that_would_become_others_are_refused(array, dtype):
    error = refused(request_inputs.fit, {"x": array}, Signature({"x": TensorSpec(dtype, None)}, {}))
    assert error.reason == "INPUT_DTYPE"
