"""Evidence: one object a step, written once, and the chain that its parents' digests make."""

from itertools import permutations
from pathlib import Path

import pytest

from components.core import digest
from components.core.errors import Conflict, Rejected
from components.core.records import AnyRecord, Outcome, Rejection, Release, Step
from components.store import evidence
from components.store.protocol import ObjectStore
from tests.components.store import samples
from tests.components.store.samples import MODEL, RELEASE

FOLDER = f"{MODEL}/.releases/{RELEASE}/"


def _rejection(step: Step, what: str = "no") -> Rejection:
    return Rejection.of(Rejected(what, reason="SOMETHING"), step=step, stamp=samples.stamp())


def _attempt(tmp_path: Path, name: str) -> list[AnyRecord]:
    """All the records of one attempt up to publish."""
    source = samples.source(what=name)
    exported = samples.exported(source)
    optimized = samples.optimized(exported)
    validated = samples.validated(samples.model_dir(tmp_path / name), parent=optimized.digest)
    return [source, exported, optimized, validated, samples.published(validated, 1)]


def _release(outcome: Outcome = Outcome.PROMOTED, records: tuple[AnyRecord, ...] = ()) -> Release:
    return Release(id=RELEASE, model=MODEL, spec_digest=digest.of_bytes(b"spec"), outcome=outcome, records=records)


def test_what_is_recorded_is_loaded_in_the_order_of_the_steps(store: ObjectStore, tmp_path: Path):
    records = _attempt(tmp_path, "a")
    for item in reversed(records):
        evidence.record(store, item)
    assert evidence.load(store, MODEL, RELEASE) == records


def test_a_record_lies_under_its_steps_name(store: ObjectStore):
    assert evidence.record(store, samples.source()) == FOLDER + "source.json"
    assert evidence.record(store, _rejection(Step.EXPORT)) == FOLDER + "export.json"


def test_recording_the_same_again_changes_nothing(store: ObjectStore):
    first = evidence.record(store, samples.source())
    assert evidence.record(store, samples.source()) == first
    assert len(evidence.load(store, MODEL, RELEASE)) == 1


def test_another_attempts_record_stands_beside_the_first(store: ObjectStore):
    keys = [evidence.record(store, samples.source(what=what)) for what in "abcabc"]
    assert keys == [FOLDER + name for name in ["source.json", "source.2.json", "source.3.json"] * 2]
    assert evidence.load(store, MODEL, RELEASE) == [samples.source(what=what) for what in "abc"]


def test_attempts_are_loaded_in_their_order_not_in_that_of_their_names(store: ObjectStore):
    whats = [str(number) for number in range(12)]
    for what in whats:
        evidence.record(store, samples.source(what=what))
    assert evidence.load(store, MODEL, RELEASE) == [samples.source(what=what) for what in whats]


def test_a_loop_that_records_something_else_each_time_is_stopped(store: ObjectStore):
    for number in range(evidence.MOST_ATTEMPTS):
        store.create(FOLDER + f"source{f'.{number + 1}' if number else ''}.json", b"{}")
    with pytest.raises(Rejected) as caught:
        evidence.record(store, samples.source())
    assert caught.value.reason == "TOO_MANY_ATTEMPTS"


def test_a_release_that_recorded_nothing_has_no_evidence(store: ObjectStore):
    assert evidence.load(store, MODEL, RELEASE) == []
    assert evidence.chain([]) == ()
    assert evidence.outcome(store, MODEL, RELEASE) is None
    assert evidence.spec(store, MODEL, RELEASE) is None


def test_what_is_no_record_is_refused_by_name(store: ObjectStore):
    store.create(FOLDER + "source.json", b"{}")
    with pytest.raises(Rejected) as caught:
        evidence.load(store, MODEL, RELEASE)
    assert caught.value.reason == "RECORD"
    assert FOLDER + "source.json" in caught.value.what


def test_a_record_of_another_release_is_refused(store: ObjectStore):
    store.create(FOLDER + "source.json", samples.source("fedcba9876543210").to_json().encode())
    with pytest.raises(Rejected) as caught:
        evidence.load(store, MODEL, RELEASE)
    assert caught.value.reason == "FOREIGN_RECORD"


def test_other_objects_beside_the_records_are_none(store: ObjectStore):
    evidence.put_spec(store, MODEL, RELEASE, b"model: digits\n")
    evidence.finish(store, _release())
    store.create(FOLDER + "source.0.json", b"{}")
    store.create(FOLDER + "report.html", b"")
    evidence.record(store, samples.source())
    assert evidence.load(store, MODEL, RELEASE) == [samples.source()]


def test_the_chain_is_the_records_that_name_each_other(tmp_path: Path):
    records = _attempt(tmp_path, "a")
    assert evidence.chain(records) == tuple(records)


def test_the_chain_does_not_mix_attempts(tmp_path: Path):
    first, second = _attempt(tmp_path, "a"), _attempt(tmp_path, "b")
    assert evidence.chain([*first[:2], *second]) == tuple(second)
    assert evidence.chain([*first, *second[:3]]) == tuple(first)


def test_of_two_attempts_that_came_equally_far_the_later_is_the_chain(tmp_path: Path):
    first, second = _attempt(tmp_path, "a")[:3], _attempt(tmp_path, "b")[:3]
    by_step = [item for pair in zip(first, second, strict=True) for item in pair]
    assert evidence.chain(by_step) == tuple(second)


def test_a_chain_ends_where_a_record_is_missing(tmp_path: Path):
    records = _attempt(tmp_path, "a")
    assert evidence.chain([records[0], *records[2:]]) == (records[0],)
    assert evidence.chain(records[1:]) == ()


def test_the_order_in_which_evidence_comes_does_not_matter(tmp_path: Path):
    records = _attempt(tmp_path, "a")[:4]
    for order in permutations(records):
        assert evidence.chain(order) == tuple(records)


def test_a_rejection_ends_the_chain_it_comes_next_in(tmp_path: Path):
    records = _attempt(tmp_path, "a")[:3]
    rejection = _rejection(Step.VALIDATE)
    assert evidence.chain([*records, rejection]) == (*records, rejection)
    assert evidence.chain([rejection]) == ()
    assert evidence.chain([_rejection(Step.SOURCE)]) == (_rejection(Step.SOURCE),)


def test_a_rejection_that_a_later_attempt_got_past_is_no_end(tmp_path: Path):
    records = _attempt(tmp_path, "a")
    assert evidence.chain([*records, _rejection(Step.OPTIMIZE)]) == tuple(records)


def test_a_rollback_ends_the_chain_although_the_canary_has_no_verdict(tmp_path: Path):
    records = _attempt(tmp_path, "a")
    rollout = samples.rollout(records[-1])
    rolled_back = samples.rolled_back(rollout)
    rejection = _rejection(Step.CANARY)
    for known in permutations([rollout, rolled_back, rejection]):
        assert evidence.chain([*records, *known]) == (*records, rollout, rejection, rolled_back)
    assert evidence.chain([*records, rollout, rolled_back]) == (*records, rollout, rolled_back)


def test_of_two_rejections_the_later_is_the_end(tmp_path: Path):
    records = _attempt(tmp_path, "a")[:3]
    earlier, later = _rejection(Step.VALIDATE, "first"), _rejection(Step.VALIDATE, "second")
    assert evidence.chain([*records, earlier, later])[-1] == later


def test_a_release_ends_once(store: ObjectStore):
    release = _release(records=(samples.source(),))
    evidence.finish(store, release)
    evidence.finish(store, release)
    assert evidence.outcome(store, MODEL, RELEASE) == release
    with pytest.raises(Conflict):
        evidence.finish(store, _release(Outcome.ROLLED_BACK))
    assert evidence.outcome(store, MODEL, RELEASE) == release


def test_a_torn_join_is_refused(store: ObjectStore):
    store.create(FOLDER + "release.json", b"{")
    with pytest.raises(Rejected) as caught:
        evidence.outcome(store, MODEL, RELEASE)
    assert caught.value.reason == "RECORD"


def test_a_releases_spec_is_kept_once(store: ObjectStore):
    evidence.put_spec(store, MODEL, RELEASE, b"one")
    evidence.put_spec(store, MODEL, RELEASE, b"one")
    assert evidence.spec(store, MODEL, RELEASE) == b"one"
    with pytest.raises(Conflict):
        evidence.put_spec(store, MODEL, RELEASE, b"two")


def test_releases_and_models_are_found_by_name(store: ObjectStore):
    for release in ("b", "a", "c"):
        evidence.record(store, samples.source(release))
    store.create("other-model/.claims/1", b"")
    store.create("No-Model/.releases/x/source.json", b"")
    store.create("scratch/file", b"")
    assert list(evidence.releases(store, MODEL)) == ["a", "b", "c"]
    assert list(evidence.models(store)) == [MODEL, "other-model"]


@pytest.mark.parametrize("release", ["", "..", "a/b", ".hidden"])
def test_a_release_id_cannot_leave_its_folder(store: ObjectStore, release: str):
    with pytest.raises(Rejected):
        evidence.load(store, MODEL, release)
