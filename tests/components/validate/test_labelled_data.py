"""The same examples in every format, and what is refused in each."""

import csv
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import Rejected
from components.core.signature import Signature, TensorSpec
from components.savedmodel.messages import message
from components.validate.labelled_data import LabelledData, read

SIGNATURE = Signature(
    {
        "x": TensorSpec("float32", (None, 2, None)),
        "word": TensorSpec("string", (None,)),
        "count": TensorSpec("int32", (None,)),
    },
    {"y": TensorSpec("float32", (None, 2))},
)
SERIALIZED = Signature({"examples": TensorSpec("string", (None,))}, {"y": TensorSpec("float32", (None, 2))})
X = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 8
WORDS, COUNTS, LABELS, REGIONS = ["käse", "b"], [3, 4], [1, 0], ["north", "south"]


def example(features: dict[str, list]) -> bytes:
    made = message("tensorflow.Example")()
    for name, values in features.items():
        kind = {str: "bytes_list", bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(values[0])]
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        getattr(made.features.feature[name], kind).value.extend(encoded)
    return made.SerializeToString(deterministic=True)


def write_tfrecord(path: Path, records: list[bytes]) -> Path:
    path.write_bytes(b"".join(struct.pack("<Q", len(data)) + b"\0" * 4 + data + b"\0" * 4 for data in records))
    return path


def rows() -> list[dict[str, object]]:
    return [
        {"x": X[i].tolist(), "word": WORDS[i], "count": COUNTS[i], "labels": LABELS[i], "region": REGIONS[i]}
        for i in range(2)
    ]


def write(path: Path) -> Path:
    if path.suffix == ".npz":
        np.savez(path, x=X, word=np.array(WORDS), count=COUNTS, labels=LABELS, region=np.array(REGIONS))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows())) + "\n\n")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            flat = [f"x[{i}]" for i in range(6)]
            writer = csv.writer(stream)
            writer.writerow(["word", "count", "labels", "region", *reversed(flat)])
            for i in range(2):
                writer.writerow([WORDS[i], COUNTS[i], LABELS[i], REGIONS[i], *X[i].ravel().tolist()[::-1]])
    else:
        flat_rows = [{k: v if isinstance(v, list) else [v] for k, v in row.items()} for row in rows()]
        write_tfrecord(path, [example({**row, "x": np.ravel(row["x"]).tolist()}) for row in flat_rows])
    return path


def load(path: Path, signature: Signature = SIGNATURE, **fields) -> LabelledData:
    return read(path, signature, **{"inputs": sorted(signature.inputs), "labels": "labels", **fields})


def refusal(path: Path, signature: Signature = SIGNATURE, **fields) -> Rejected:
    with pytest.raises(Rejected) as caught:
        load(path, signature, **fields)
    assert caught.value.reason == "EVALUATION_DATA"
    return caught.value


@pytest.mark.parametrize("ending", [".npz", ".jsonl", ".csv", ".tfrecord"])
def test_every_format_gives_the_same_examples(tmp_path, ending):
    found = load(write(tmp_path / f"data{ending}"), columns=["region"])

    assert {name: array.dtype.kind for name, array in found.inputs.items()} == {"x": "f", "word": "O", "count": "i"}
    assert found.inputs["x"].dtype == np.float32
    assert found.inputs["count"].dtype == np.int32
    np.testing.assert_array_equal(found.inputs["x"], X)
    assert found.inputs["word"].tolist() == ["käse".encode(), b"b"]
    np.testing.assert_array_equal(found.labels, LABELS)
    assert [value.decode() if isinstance(value, bytes) else value for value in found.columns["region"]] == REGIONS


def test_examples_are_handed_on_whole_to_a_model_that_parses_them_itself(tmp_path):
    records = [example({"age": [2.0], "labels": [label]}) for label in LABELS]
    found = load(write_tfrecord(tmp_path / "data.tfrecord", records), SERIALIZED, columns=["age"][:0])

    assert found.inputs["examples"].tolist() == records
    np.testing.assert_array_equal(found.labels, LABELS)


def test_bytes_in_json_are_base64_as_in_rest_bodies(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"examples": {"b64": "/wA="}, "labels": 1}\n')

    assert load(tmp_path / "d.jsonl", SERIALIZED).inputs["examples"].tolist() == [b"\xff\x00"]


def test_an_input_can_be_sliced_by_too(tmp_path):
    assert load(write(tmp_path / "d.csv"), columns=["count"]).columns["count"].tolist() == [3, 4]


@pytest.mark.parametrize("ending", [".npz", ".jsonl", ".csv", ".tfrecord"])
def test_a_name_that_is_missing_is_told(tmp_path, ending):
    assert "age" in str(refusal(write(tmp_path / f"data{ending}"), columns=["age"]))


@pytest.mark.parametrize("ending", [".npz", ".jsonl", ".csv", ".tfrecord"])
@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200))
def test_bytes_of_any_kind_are_read_or_refused(tmp_path_factory, ending, content):
    path = tmp_path_factory.mktemp("fuzz") / f"data{ending}"
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("line.jsonl", "[1]\n"),
        ("nan.jsonl", '{"examples": "a", "labels": NaN}\n'),
        ("ragged.jsonl", '{"examples": "a", "labels": [1]}\n{"examples": "a", "labels": [1, 2]}\n'),
        ("mixed.jsonl", '{"examples": "a", "labels": 1}\n{"examples": 2, "labels": 1}\n'),
        ("empty.jsonl", "\n"),
        ("base64.jsonl", '{"examples": {"b64": "?"}, "labels": 1}\n'),
        ("short.csv", "examples,labels\na\n"),
        ("long.csv", "examples,labels\na,1,2\n"),
        ("twice.csv", "examples,labels,labels\na,1,1\n"),
        ("text.csv", "examples,labels\na,one\n"),
        ("gap.csv", "examples,labels[0],labels[2]\na,1,1\n"),
        ("none.csv", "examples,labels\n"),
        ("data.parquet", "PAR1"),
    ],
)
def test_what_is_malformed_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    refusal(tmp_path / name, SERIALIZED)


def test_a_pickle_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", examples=np.array([b"a"], object), labels=[1])
    assert "allow_pickle" in refusal(tmp_path / "d.npz", SERIALIZED).got


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"labels": [1]}, "2 of x"),
        ({"labels": np.array(["a", "b"])}, "labels: numbers"),
        ({"count": [0.5, 1.0]}, "count: int32"),
        ({"count": [2**40, 1]}, "count: int32"),
        ({"word": [1, 2]}, "word: string"),
        ({"region": [0.5, 0.7]}, "region: text"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, fields, told):
    arrays = {"x": X, "word": np.array(WORDS), "count": COUNTS, "labels": LABELS, "region": np.array(REGIONS)}
    np.savez(tmp_path / "d.npz", **{**arrays, **fields})

    assert told in str(refusal(tmp_path / "d.npz", columns=["region"]))


def test_values_that_cannot_have_the_inputs_shape_are_refused(tmp_path):
    records = [example({"x": [1.0] * 5, "word": ["a"], "count": [1], "labels": [1]})]
    assert "[2, ?]" in refusal(write_tfrecord(tmp_path / "d.tfrecord", records)).expected


def test_a_float_may_be_rounded_and_a_whole_number_may_become_one(tmp_path):
    np.savez(tmp_path / "d.npz", x=X.astype(np.float64) + 0.1, word=np.array(WORDS), count=[3.0, 4.0], labels=LABELS)
    found = load(tmp_path / "d.npz")

    assert found.inputs["count"].tolist() == [3, 4]
    np.testing.assert_allclose(found.inputs["x"], X + 0.1, rtol=1e-6)
