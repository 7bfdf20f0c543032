"""Where requests come from, and that a wrong file is refused with its reason."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from components.canary.requests import GENERATED_REQUESTS, from_npz, open_requests
from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.core.spec import Traffic
from components.savedmodel import warmup
from components.savedmodel.tensors import Array

SIGNATURE = Signature({"x": TensorSpec("float32", (None, 4)), "name": TensorSpec("string", (None,))}, {})


def saved(path: Path, **arrays: Array) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.fixture
def data(tmp_path):
    names = np.array([f"n{row}" for row in range(50)])
    x = np.arange(200, dtype=np.float64).reshape(50, 4)
    return saved(tmp_path / "pool.npz", x=x, name=names, labels=np.zeros(50))


def test_rows_of_a_file_are_drawn_together_and_cast(data):
    pool = from_npz(data, SIGNATURE, 3, name="pool.npz")
    for inputs in islice(pool.stream(0), 20):
        assert inputs["x"].shape == (3, 4)
        assert inputs["x"].dtype == np.float32
        assert inputs["name"].tolist() == [f"n{int(row[0]) // 4}" for row in inputs["x"]]
    assert pool.origin == "50 rows of pool.npz, 3 a request"


def test_labels_and_other_arrays_are_left_alone(data):
    assert next(from_npz(data, SIGNATURE, 1, name="pool.npz").stream(0)).keys() == {"x", "name"}


def test_the_same_seed_draws_the_same_requests_and_another_one_others(data):
    pool = from_npz(data, SIGNATURE, 1, name="pool.npz")
    drawn = [[inputs["name"][0] for inputs in islice(pool.stream(seed), 40)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_drawing_is_uniform_whatever_the_order_of_the_file(data):
    pool = from_npz(data, SIGNATURE, 1, name="pool.npz")
    names = [inputs["name"][0] for inputs in islice(pool.stream(3), 5000)]
    _, counts = np.unique(names, return_counts=True)
    assert len(counts) == 50
    assert counts.min() > 60
    assert counts.max() < 150


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((5, 4))}, "no array for the input name"),
        ({"x": np.zeros((5, 3)), "name": np.array(["a"] * 5)}, "does not fit"),
        ({"x": np.array(5.0), "name": np.array(["a"] * 5)}, "does not fit"),
        ({"x": np.zeros((5, 4)), "name": np.array(["a"] * 4)}, "equally long"),
        ({"x": np.zeros((0, 4)), "name": np.array([], "U1")}, "not empty"),
        ({"x": np.zeros((5, 4), "U1"), "name": np.array(["a"] * 5)}, "wrong dtype"),
        ({"x": np.zeros((5, 4), complex), "name": np.array(["a"] * 5)}, "wrong dtype"),
        ({"x": np.zeros((5, 4)), "name": np.zeros(5)}, "holds no text"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, arrays, words):
    with pytest.raises(Rejected, match=words) as caught:
        from_npz(saved(tmp_path / "bad.npz", **arrays), SIGNATURE, 1, name="bad.npz")
    assert caught.value.reason == "CANARY_REQUESTS"


@pytest.mark.parametrize("content", [None, b"", b"not an archive", b"PK\x03\x04cut off"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content):
    path = tmp_path / "bad.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Rejected, match="cannot be read"):
        from_npz(path, SIGNATURE, 1, name="bad.npz")


def test_pickles_in_a_file_are_not_loaded(tmp_path):
    path = saved(tmp_path / "bad.npz", x=np.zeros((5, 4)), name=np.array(["a"] * 5, object))
    with pytest.raises(Rejected, match="cannot be read"):
        from_npz(path, SIGNATURE, 1, name="bad.npz")


def test_the_file_of_the_spec_comes_first(tmp_path, data):
    warmup.write(tmp_path, "m", [warmup.WarmupRecord("serving_default", {"x": np.zeros((1, 4), np.float32)})])
    traffic = Traffic(requests="pool.npz")
    assert open_requests(traffic, SIGNATURE, spec_dir=tmp_path, version_dir=tmp_path).kind == "recorded"


def test_then_the_warm_up_file_of_the_same_signature(tmp_path):
    records = [
        warmup.WarmupRecord("serving_default", {"x": np.full((1, 4), 7, np.float32)}),
        warmup.WarmupRecord("other", {"x": np.zeros((1, 4), np.float32)}),
    ]
    warmup.write(tmp_path, "m", records)
    source = open_requests(Traffic(), SIGNATURE, spec_dir=tmp_path, version_dir=tmp_path)
    assert source.kind == "warm-up"
    assert {float(inputs["x"][0, 0]) for inputs in islice(source.stream(0), 20)} == {7.0}


@pytest.mark.parametrize("at_hand", [True, False])
def test_and_made_up_ones_as_a_last_resort_which_the_origin_says(tmp_path, at_hand):
    source = open_requests(
        Traffic(batch_size=2), SIGNATURE, spec_dir=tmp_path, version_dir=tmp_path if at_hand else None
    )
    assert source.kind == "generated"
    assert "random" in source.origin
    seen = {inputs["x"].tobytes() for inputs in islice(source.stream(0), 1000)}
    assert len(seen) == GENERATED_REQUESTS
