"""The first example: its data is what it says, its trainer keeps its side of the contract, its spec is one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from components.core.spec import ReleaseSpec

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "01-digits"

# Prints the holdout accuracy of each model, then the share of rows on which the first two disagree.
JUDGE = """
import sys, keras, numpy as np
held_out = np.load(sys.argv[1])
answers = []
for path in sys.argv[2:]:
    model = keras.saving.load_model(path)
    answers.append(model.predict(held_out["image"], verbose=0).argmax(axis=1))
    kinds = {type(layer).__name__ for layer in model.layers}
    assert "BatchNormalization" in kinds, kinds
    assert [tensor.name for tensor in model.inputs] == ["image"]
    print("accuracy", (answers[-1] == held_out["labels"]).mean())
print("churn", (answers[0] != answers[1]).mean())
"""


def python(*words: object) -> str:
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", *map(str, words)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_holdout_is_remade_bit_by_bit(tmp_path: Path):
    python(EXAMPLE / "make_holdout.py", tmp_path / "again.npz")
    with np.load(EXAMPLE / "holdout.npz") as committed, np.load(tmp_path / "again.npz") as again:
        assert set(committed) == set(again) == {"image", "labels"}
        for name in committed:
            assert committed[name].dtype == again[name].dtype
            np.testing.assert_array_equal(committed[name], again[name])


def test_the_holdout_is_real_scaled_and_balanced():
    with np.load(EXAMPLE / "holdout.npz") as held_out:
        images, labels = held_out["image"], held_out["labels"]
    assert (images.dtype, images.shape) == (np.float32, (450, 8, 8))
    assert (labels.dtype, labels.shape) == (np.int64, (450,))
    assert 0.0 == images.min() < images.max() == 1.0
    assert np.bincount(labels, minlength=10).min() >= 30
    truth = {image.astype(np.float32).tobytes(): int(label) for image, label in zip(*real_digits(), strict=True)}
    assert all(truth[image.tobytes()] == label for image, label in zip(images, labels, strict=True))


def real_digits() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    return digits.images / 16.0, digits.target


def test_the_release_file_is_a_spec_whose_inputs_exist():
    spec = ReleaseSpec.model_validate(yaml.safe_load((EXAMPLE / "release.yaml").read_text()))
    assert spec.source.train is not None
    assert spec.validation.evaluate is not None
    named = {*spec.source.train.inputs, spec.validation.evaluate.data, spec.canary.traffic.requests}
    assert all((EXAMPLE / name).is_file() for name in named)


def test_the_floor_of_the_release_would_refuse_a_model_that_learned_nothing():
    spec = ReleaseSpec.model_validate(yaml.safe_load((EXAMPLE / "release.yaml").read_text()))
    assert spec.validation.evaluate is not None
    floor = spec.validation.evaluate.metrics["accuracy"].minimum
    assert floor is not None
    assert 0.3 < floor <= 0.96


@pytest.mark.slow
def test_two_trainings_are_good_and_agree_and_one_on_shuffled_labels_learns_nothing(tmp_path: Path):
    arguments = {"one": ["--seed=1"], "two": ["--seed=2", "--epochs=18"], "bad": ["--seed=1", "--shuffle-labels=true"]}
    for name, words in arguments.items():
        said = python(EXAMPLE / "train.py", "--output", tmp_path / name, *words)
        assert said.startswith("1347 rows"), "the held-out rows, and no others, are kept from the training"
    models = [tmp_path / name / "model.keras" for name in arguments]
    lines = python("-c", JUDGE, EXAMPLE / "holdout.npz", *models).splitlines()
    one, two, bad, churn = (float(line.split()[1]) for line in lines if line.startswith(("accuracy", "churn")))
    assert min(one, two) >= 0.96
    assert churn < 0.05
    assert bad < 0.3
