"""The whole step: every gate in its child process, with real candidates that are good, bad, or never end."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import Rejected
from components.core.signature import Contract, Signature, TensorSpec
from components.core.spec import Evaluate, Export, Limits, MetricLimit, SliceSpec, Tolerance, Validate
from components.core.validation import Evaluation, ValidationReport
from components.savedmodel.inspect import contract as contract_of
from components.savedmodel.inspect import read_proto
from components.validate import validate

pytestmark = pytest.mark.slow

SERVE = frozenset({"serve"})


def run(source: Path, candidate: Path, *, served: Contract | None = None, **fields: object) -> ValidationReport:
    return validate(
        source_dir=source,
        candidate_dir=candidate,
        served=served,
        served_version=None if served is None else 3,
        spec=Validate(**fields),
        export=Export(),
        data_root=candidate.parent,
    )


def reason(source: Path, candidate: Path, *, served: Contract | None = None, **fields: object) -> Rejected:
    with pytest.raises(Rejected) as caught:
        run(source, candidate, served=served, **fields)
    return caught.value


def made(path: Path, function, signature: tuple[object, ...], weights) -> Path:
    """Write a model y = function(weights, x)."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(weights, name="weights")
    module.answer = tf.function(
        lambda x: {"y": function(module.weights, x)},
        input_signature=[tf.TensorSpec(signature, tf.float32, name="x")],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(path), signatures={"serving_default": module.answer})
    return path


def softmax(weights, x):
    import tensorflow as tf

    return tf.nn.softmax(x @ weights)


def forever(weights, x):
    import tensorflow as tf

    return tf.while_loop(lambda value: tf.reduce_sum(value) > -1.0, lambda value: [tf.abs(value)], [x @ weights])[0]


WEIGHTS = np.eye(4, 3, dtype=np.float32) * 5


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("candidates")
    made(root / "good", softmax, (None, 4), WEIGHTS)
    made(root / "other", softmax, (None, 4), WEIGHTS * 1.01)
    made(root / "forever", forever, (None, 4), WEIGHTS)
    nan = WEIGHTS.copy()
    nan[3, 2] = np.nan
    made(root / "nan", softmax, (None, 4), nan)
    return root


def test_a_good_candidate_passes_every_gate_and_the_report_says_by_how_much(models):
    labels = np.arange(30) % 3
    np.savez(models / "data.npz", x=np.eye(3, 4, dtype=np.float32)[labels], labels=labels)
    metrics = {"accuracy": MetricLimit(minimum=0.99), "log_loss": MetricLimit(maximum=0.1)}
    served = contract_of(models / "good", SERVE)
    report = run(
        models / "good", models / "good", served=served, evaluate=Evaluate(data="data.npz", output="y", metrics=metrics)
    )

    assert report.contract.served_version == 3
    assert report.probe.answered == ("serving_default",)
    assert report.probe.peak_memory_bytes > 2**26
    [row] = report.parity.rows
    assert (row.output, row.cases, row.passed, row.max_abs) == ("y", 6, True, 0.0)
    assert report.parity.why
    assert report.evaluation is not None
    assert {result.metric: result.passed for result in report.evaluation.metrics} == {
        "accuracy": True,
        "log_loss": True,
    }
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report


def test_answers_that_are_not_the_sources_are_refused(models):
    assert reason(models / "good", models / "other").reason == "PARITY"


def test_a_candidate_that_never_ends_is_stopped_and_named(models):
    error = reason(models / "good", models / "forever", timeout_s=25)

    assert error.reason == "PROBE_CRASHED"
    assert error.what.startswith("the candidate")
    assert "no end within its deadline" in error.got


def test_variables_that_are_nan_are_refused(models):
    assert reason(models / "good", models / "nan").reason == "NAN_WEIGHTS"


def test_a_flipped_bit_in_the_variables_is_refused(models, tmp_path):
    shutil.copytree(models / "good", tmp_path / "model")
    [data] = (tmp_path / "model" / "variables").glob("*.data-*")
    flipped = bytearray(data.read_bytes())
    flipped[3] ^= 0x40
    data.write_bytes(flipped)

    assert reason(models / "good", tmp_path / "model").reason == "CORRUPT_VARIABLES"


def test_a_breaking_change_is_refused_before_anything_is_loaded(models):
    served = Contract(
        {
            "serving_default": Signature(
                {"x": TensorSpec("float32", (None, 4))}, {"scores": TensorSpec("float32", (None, 3))}
            )
        }
    )

    assert reason(models / "good", models / "good", served=served).reason == "CONTRACT_BREAKING"


def test_a_hostile_graph_is_refused_before_anything_is_loaded(models, tmp_path):
    shutil.copytree(models / "good", tmp_path / "model")
    model = read_proto(tmp_path / "model")
    model.meta_graphs[0].graph_def.node.add(name="evil", op="ReadFile")
    (tmp_path / "model" / "saved_model.pb").write_bytes(model.SerializeToString())

    assert reason(models / "good", tmp_path / "model").reason == "OP_FILE_READ"


def test_a_model_that_answers_badly_is_refused(models):
    labels = np.arange(30) % 3
    np.savez(models / "shuffled.npz", x=np.eye(3, 4, dtype=np.float32)[labels], labels=(labels + 1) % 3)
    wanted = Evaluate(data="shuffled.npz", output="y", metrics={"accuracy": MetricLimit(minimum=0.9)})
    error = reason(models / "good", models / "good", evaluate=wanted)

    assert error.reason == "EVALUATION"
    assert "accuracy 0 over 30 examples" in error.got


def test_too_many_bytes_and_missing_data_are_refused_without_a_child(models):
    assert reason(models / "good", models / "good", limits=Limits(size_bytes=10)).reason == "SIZE"
    absent = Evaluate(data="nowhere.npz", output="y")
    assert reason(models / "good", models / "good", evaluate=absent).reason == "EVALUATION_DATA"


def rejected_evaluation(models: Path, metrics: dict[str, MetricLimit], served: Evaluation | None, **fields) -> Rejected:
    with pytest.raises(Rejected) as caught:
        evaluated(models, metrics, served, **fields)
    return caught.value


def evaluated(models: Path, metrics: dict[str, MetricLimit], served: Evaluation | None, **fields) -> ValidationReport:
    labels = np.arange(40) % 3
    x = np.eye(3, 4, dtype=np.float32)[np.where(np.arange(40) < 4, (labels + 1) % 3, labels)]
    np.savez(models / "mostly.npz", x=x, labels=labels, half=np.arange(40) // 20)
    return validate(
        source_dir=models / "good",
        candidate_dir=models / "good",
        served=contract_of(models / "good", SERVE) if served is not None else None,
        served_version=7 if served is not None else None,
        served_evaluation=served,
        spec=Validate(evaluate=Evaluate(data="mostly.npz", output="y", metrics=metrics, **fields)),
        export=Export(),
        data_root=models,
    )


def test_a_first_release_is_judged_by_absolute_limits_alone_and_later_ones_by_what_is_served(models):
    limit = {"accuracy": MetricLimit(minimum=0.85, max_regression=0.01)}
    first = evaluated(models, limit, None).evaluation
    assert first is not None
    assert (first.metrics[0].value, first.metrics[0].served, first.served_version) == (0.9, None, None)
    assert "first release" in first.notes[0]

    again = evaluated(models, limit, first).evaluation
    assert again is not None
    assert (again.metrics[0].served, again.served_version, again.notes) == (0.9, 7, ())

    better = first.model_copy(update={"metrics": (first.metrics[0].model_copy(update={"value": 0.95}),)})
    error = rejected_evaluation(models, limit, better)
    assert error.reason == "EVALUATION"
    assert "at most 0.01 worse than the served version's 0.95" in error.got


def test_a_bad_first_release_is_refused_by_its_worst_slice(models):
    halves = SliceSpec(by="half", minimum_count=20, metrics={"accuracy": MetricLimit(minimum=0.85)})
    error = rejected_evaluation(models, {"accuracy": MetricLimit(minimum=0.85)}, None, slices=(halves,))

    assert error.reason == "EVALUATION"
    assert error.got == "accuracy 0.8 over 20 examples, wanted at least 0.85 where half is 0"


def test_golden_requests_and_a_tolerance_for_one_output_decide_parity(models):
    np.savez(models / "golden.npz", x=np.full((3, 4), 0.5, np.float32))
    lax = Tolerance(absolute=1.0, relative=0.0, why="probabilities are compared by eye")
    report = run(models / "good", models / "other", golden="golden.npz", tolerances={"y": lax})

    assert report.parity.golden is not None
    assert report.parity.tolerances == {"y": lax}
    assert report.parity.rows[0].cases == 8
    assert reason(models / "good", models / "good", tolerances={"z": lax}).reason == "TOLERANCE_UNUSED"
    assert reason(models / "good", models / "good", golden="nowhere.npz").reason == "GOLDEN"


def test_a_graph_newer_than_the_pinned_server_is_refused_before_it_is_loaded(models):
    assert reason(models / "good", models / "good", serving_version="2.16").reason == "SKEW_PRODUCER"
    why = "its ops are all in 2.16"
    report = run(models / "good", models / "good", serving_version="2.16", newer_producer_waiver=why)
    assert report.skew is not None
    assert (report.skew.waiver, report.skew.consumer_at_most) == (why, 1766)
