"""Fields that evidence got after its first release: written only where they say something."""

import json
from pathlib import Path

from components.core import records
from components.core.validation import MetricResult, SkewCheck, SliceResult

SAMPLE = json.loads(Path(__file__).with_name("records").joinpath("validate.json").read_text())
METRIC = {"metric": "accuracy", "value": 0.9, "n": 10, "minimum": None, "maximum": None, "passed": True}


def test_a_later_field_that_says_nothing_is_not_written():
    assert MetricResult(**METRIC).model_dump(mode="json") == METRIC


def test_a_later_field_that_says_something_is_written_and_read_back():
    told = MetricResult(**METRIC, k=3, bound=0.8, confidence=0.95, served=0.9, max_regression=0.0)

    assert told.model_dump(mode="json") == METRIC | {
        "k": 3, "bound": 0.8, "confidence": 0.95, "served": 0.9, "max_regression": 0.0,
    }  # fmt: skip
    assert MetricResult.model_validate_json(told.model_dump_json()) == told


def test_a_record_with_every_later_field_is_read_and_written_unchanged():
    record = records.parse(json.dumps(SAMPLE), where="sample")
    assert isinstance(record, records.ValidatedModel)
    skew = SkewCheck(serving_version="2.19", producer=2129, min_consumer=0, consumer_at_least=2129)
    part = SliceResult(by="region", value="north", n=40, metrics=(MetricResult(**METRIC, k=3),))
    evaluation = record.report.evaluation
    assert evaluation is not None
    evaluation = evaluation.model_copy(update={"slices": (part,), "served_version": 3, "notes": ("a note",)})
    parity = record.report.parity.model_copy(update={"golden": "sha256:" + "0" * 64, "unanswered": ("x: refused",)})
    report = record.report.model_copy(update={"skew": skew, "evaluation": evaluation, "parity": parity})
    grown = record.model_copy(update={"report": report})

    assert records.parse(grown.to_json(), where="grown") == grown
    assert grown.digest != record.digest
    assert {"slices", "served_version", "notes"} <= json.loads(grown.to_json())["report"]["evaluation"].keys()
