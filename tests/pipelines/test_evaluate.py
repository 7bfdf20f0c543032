"""``slipway evaluate``: real models, real files, the exit code and what is printed."""

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result

from components.core.errors import Rejected
from pipelines.cli import Session
from pipelines.commands.evaluate import evaluate_command, parse_metric
from tests import models

saved_model = models.saved_model


def evaluate(*words: object) -> Result:
    session = Session(state=None, environment={}, debug=False)  # type: ignore[arg-type]
    result = CliRunner().invoke(evaluate_command, [str(word) for word in words], obj=session)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Labels that the model gives itself cannot be had without it: these are by chance right for about one in ten."""
    path = tmp_path_factory.mktemp("data") / "holdout.npz"
    random = np.random.default_rng(7)
    rows = 120
    region = np.array(["north", "south"])[np.arange(rows) % 2]
    region[:5] = "rare"
    np.savez(path, pixels=random.random((rows, 64), np.float32), labels=random.integers(0, 10, rows), region=region)
    return path


@pytest.mark.slow
def test_a_kept_limit_ends_with_0_and_every_slice_is_told(saved_model, data):
    words = ["--metric", "accuracy>=0", "--metric", "top_k:10>=1", "--slice", "region", "--json"]
    result = evaluate(saved_model("keras_mlp"), data, *words)
    told = json.loads(result.stdout)

    assert result.exit_code == 0
    assert told["accepted"]
    assert {(each["metric"], each.get("k")) for each in told["metrics"]} == {("accuracy", None), ("top_k", 10)}
    assert {part["value"]: (part["n"], part["skipped"]) for part in told["slices"]} == {
        "north": (57, ""),
        "rare": (5, "5 examples, fewer than 30"),
        "south": (58, ""),
    }


@pytest.mark.slow
def test_a_missed_limit_ends_with_10_and_says_by_how_much(saved_model, data):
    result = evaluate(saved_model("keras_mlp"), data, "--metric", "accuracy>=0.9", "--confidence", "0.95")

    assert result.exit_code == 10
    assert "missed  accuracy" in result.stdout
    assert "with 95% confidence, wanted at least 0.9" in result.stdout


@pytest.mark.slow
def test_a_model_is_no_worse_than_itself(saved_model, data):
    model = saved_model("keras_mlp")
    result = evaluate(model, data, "--against", model, "--metric", "log_loss~0", "--json")
    [metric] = json.loads(result.stdout)["metrics"]

    assert result.exit_code == 0
    assert metric["served"] == metric["value"]


def test_what_is_not_there_is_refused_before_anything_is_loaded(saved_model, data, tmp_path):
    for words in ((tmp_path / "none", data), (tmp_path, data), (tmp_path, tmp_path / "none.npz")):
        with pytest.raises(Rejected):
            evaluate(*words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("--metric", "mae~0.1"), ("--against", "."), ("--confidence", "0.9"), ("--set", "a=b"), ("--metric", "f1")],
)
def test_words_that_contradict_each_other_are_bad_arguments(saved_model, data, words):
    assert evaluate(saved_model("keras_mlp"), data, *words).exit_code == 2


def test_a_metric_is_written_with_its_limits():
    name, limit = parse_metric("top_k:3 >= 0.9 ~ 0.01", 0.95)

    assert (name, limit.k, limit.minimum, limit.maximum) == ("top_k", 3, 0.9, None)
    assert (limit.max_regression, limit.confidence) == (0.01, 0.95)
    assert parse_metric("auc", 0.95)[1].confidence is None
