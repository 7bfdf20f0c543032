"""Released schemas are promises: every sample under ``records/`` must stay readable, whatever is added later.

A sample is never edited. A new schema version gets samples of its own beside the old ones.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.core import records
from components.core.errors import Rejected
from components.core.records import ModelBytes, Rejection, Release, SourceModel, Stamp, Step

SAMPLES = sorted(Path(__file__).with_name("records").glob("*.json"))
STAMP = Stamp(
    release="0" * 16, model="m", builder="slipway 0", started_at=datetime(2026, 1, 1, tzinfo=UTC), duration_s=1
)
CONTENT = ModelBytes(digest="sha256:" + "1" * 64, size=1, files=1)  # type: ignore[arg-type]


def source(**fields) -> SourceModel:
    return SourceModel(stamp=STAMP, parent=None, how="train", origin="python train.py", content=CONTENT, **fields)


@pytest.mark.parametrize("path", [path for path in SAMPLES if path.stem != "release"], ids=lambda path: path.stem)
def test_a_record_of_every_released_schema_is_read_and_written_unchanged(path):
    record = records.parse(path.read_bytes(), where=path.name)
    assert json.loads(record.to_json()) == json.loads(path.read_text())


def test_a_released_join_of_evidence_is_read_and_written_unchanged():
    path = next(path for path in SAMPLES if path.stem == "release")
    release = Release.model_validate_json(path.read_bytes())
    assert json.loads(release.to_json()) == json.loads(path.read_text())
    assert [record.step for record in release.records] == list(Step)


def test_there_is_a_sample_of_every_kind_of_record():
    kinds = {json.loads(path.read_text())["kind"] for path in SAMPLES}
    assert kinds == {
        "SourceModel", "ExportedModel", "OptimizedModel", "ValidatedModel", "PublishedVersion",
        "Rollout", "Verdict", "Promoted", "RolledBack", "Rejection", "Release",
    }  # fmt: skip


def test_a_record_names_its_parent_by_digest_and_notices_another_one():
    parent, other = source(), source(inputs={"a": "sha256:" + "2" * 64})
    sample = json.loads(next(path for path in SAMPLES if path.stem == "export").read_text())
    child = records.ExportedModel.model_validate({**sample, "parent": parent.digest})
    child.require_parent(parent)
    with pytest.raises(Rejected) as error:
        child.require_parent(other)
    assert error.value.reason == "BROKEN_CHAIN"


def test_the_digest_covers_every_field():
    assert source().digest != source(inputs={"a": "sha256:" + "2" * 64}).digest
    assert source().digest == SourceModel.from_json(source().to_json()).digest


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind": "Other"}', '{"kind": "SourceModel"}'])
def test_what_is_no_record_is_rejected(text):
    with pytest.raises(Rejected, match="is not a record"):
        records.parse(text, where="it")


def test_an_unknown_field_is_refused_instead_of_being_dropped():
    data = json.loads(source().to_json())
    with pytest.raises(Rejected):
        records.parse(json.dumps({**data, "more": 1}), where="it")


def test_a_rejection_is_raised_again_as_it_was():
    error = Rejected("what", expected="e", got="g", fix="f", reason="R")
    again = Rejection.of(error, step=Step.VALIDATE, stamp=STAMP).as_error()
    assert (again.what, again.expected, again.got, again.fix, again.reason) == ("what", "e", "g", "f", "R")
