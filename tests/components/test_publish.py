"""Publishing: one number, one digest, for ever, whoever dies or races."""
# ruff: noqa: F811 - a test names its fixtures, and these are imported

import gc
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.core import digest
from components.core.clock import ManualClock
from components.core.errors import Rejected, SlipwayError, Unavailable
from components.core.process import silent
from components.publish import publish
from components.store import versions
from components.store.local import LocalStore
from components.store.protocol import Generation, ObjectStore
from tests.components.store import children, samples
from tests.components.store.fixtures import BUCKET_URI, Opener, bucket, connect, gcs, opener, store  # noqa: F401
from tests.components.store.memory import Around, MemoryStore, Turns
from tests.components.store.samples import MODEL, RELEASE

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""The client library leaves a streamed answer with an error status open until it is collected."""

OTHER = "fedcba9876543210"
FILES = [
    "assets/some words.txt",
    "saved_model.pb",
    "variables/variables.data-00000-of-00001",
    "variables/variables.index",
]
WRITES = len(FILES) + 3
"""Of one publication: proposal, claim, the files, the manifest."""


@pytest.fixture(scope="module", autouse=True)
def _abandoned_sockets_are_collected_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return samples.model_dir(tmp_path / "model")


def _publish(
    store: ObjectStore, directory: Path, release: str = RELEASE, *, record_of: Path | None = None
) -> tuple[int, bool]:
    return publish(
        store,
        model=MODEL,
        validated=samples.validated(record_of or directory, release),
        model_dir=directory,
        release=release,
        token=release,
        clock=ManualClock(),
        progress=silent,
    )


def _require_sound(store: ObjectStore, *directories: Path) -> None:
    """Each directory has one committed version, numbered without gaps, whose objects are its files; no other claims."""
    wanted = {digest.of_directory(directory).digest for directory in directories}
    committed = versions.committed(store, MODEL)
    assert [manifest.version for manifest in committed] == list(range(1, len(wanted) + 1))
    assert {manifest.digest for manifest in committed} == wanted
    assert len(list(store.list(f"{MODEL}/.claims/"))) == len(wanted)
    for manifest in committed:
        prefix = f"{MODEL}/{manifest.version}/"
        there = {row.key.removeprefix(prefix): digest.of_bytes(store.read(row.key).data) for row in store.list(prefix)}
        assert there == {path: file.digest for path, file in manifest.files.items()}


def test_the_first_model_is_version_one(store: ObjectStore, model: Path):
    assert _publish(store, model) == (1, False)
    manifest = versions.manifest(store, MODEL, 1)
    assert (manifest.content, manifest.release) == (digest.of_directory(model), RELEASE)
    assert sorted(manifest.files) == FILES
    _require_sound(store, model)


def test_other_bytes_are_the_next_version(store: ObjectStore, tmp_path: Path):
    directories = [samples.model_dir(tmp_path / name, weights=name.encode()) for name in "abcde"]
    assert [_publish(store, directory) for directory in directories] == [(n, False) for n in range(1, 6)]
    _require_sound(store, *directories)


def test_the_same_bytes_of_another_release_are_the_same_version(store: ObjectStore, model: Path):
    _publish(store, model)
    writes = len(list(store.list("")))
    assert _publish(store, model, OTHER) == (1, True)
    assert len(list(store.list(""))) == writes
    assert versions.manifest(store, MODEL, 1).release == RELEASE


def test_the_same_release_again_finds_its_own_version(store: ObjectStore, model: Path):
    assert _publish(store, model) == _publish(store, model) == (1, False)


def test_the_graph_goes_up_after_everything_else_and_before_the_manifest(model: Path):
    keys: list[str] = []
    memory = MemoryStore()

    class Noting(Around):
        def create(self, key: str, data: bytes | Path) -> Generation:
            keys.append(key)
            return super().create(key, data)

    _publish(Noting(memory, lambda write: write()), model)
    assert keys[0].startswith(f"{MODEL}/.digests/")
    assert keys[1] == f"{MODEL}/.claims/1"
    assert sorted(keys[2:5]) == [f"{MODEL}/1/{path}" for path in FILES if path != "saved_model.pb"]
    assert keys[5:] == [f"{MODEL}/1/saved_model.pb", f"{MODEL}/.versions/1.json"]


def test_a_directory_that_is_not_what_was_validated_is_refused(store: ObjectStore, model: Path, tmp_path: Path):
    tampered = samples.model_dir(tmp_path / "tampered", weights=b"weightz")
    with pytest.raises(Rejected) as caught:
        _publish(store, tampered, record_of=model)
    assert caught.value.reason == "DIGEST_MISMATCH"
    assert list(store.list("")) == []


def test_a_record_about_another_model_is_refused(store: ObjectStore, model: Path):
    with pytest.raises(Rejected) as caught:
        publish(
            store,
            model="other",
            validated=samples.validated(model),
            model_dir=model,
            release=RELEASE,
            token=RELEASE,
            clock=ManualClock(),
            progress=silent,
        )
    assert caught.value.reason == "OTHER_MODEL"


@pytest.mark.parametrize("change", ["byte", "same size and time", "added", "removed"])
def test_a_directory_that_changes_while_it_is_published_commits_nothing(model: Path, change: str):
    memory = MemoryStore()

    class Meddled(Around):
        def create(self, key: str, data: bytes | Path) -> Generation:
            made = super().create(key, data)
            if key.endswith("saved_model.pb"):
                _meddle(model, change)
            return made

    with pytest.raises(Rejected) as caught:
        _publish(Meddled(memory, lambda write: write()), model)
    assert caught.value.reason == "CHANGED_MEANWHILE"
    assert versions.committed(memory, MODEL) == []


def _meddle(model: Path, change: str) -> None:
    index = model / "variables/variables.index"
    if change == "byte":
        index.write_bytes(b"INDEX!")
    elif change == "added":
        (model / "new").write_bytes(b"")
    elif change == "removed":
        index.unlink()
    else:
        other = model.parent / "other"
        other.write_bytes(b"INDEX")
        shutil.copystat(index, other)
        other.replace(index)


def test_a_file_whose_name_no_store_can_hold_is_refused_before_anything_is_written(store: ObjectStore, model: Path):
    (model / "assets" / "a\\b").write_bytes(b"")
    with pytest.raises(Rejected) as caught:
        _publish(store, model)
    assert caught.value.reason == "BAD_KEY"
    assert list(store.list("")) == []


def test_a_number_whose_directory_somebody_else_filled_is_left_to_them(store: ObjectStore, model: Path):
    store.create(f"{MODEL}/1/saved_model.pb", b"copied here by hand")
    assert _publish(store, model) == (2, False)
    assert store.read(f"{MODEL}/1/saved_model.pb").data == b"copied here by hand"
    assert json.loads(store.read(f"{MODEL}/.claims/1").data)["digest"] is None
    assert [manifest.version for manifest in versions.committed(store, MODEL)] == [2]
    assert _publish(store, model, OTHER) == (2, True)


def test_an_object_that_does_not_belong_to_the_version_stops_its_commit(store: ObjectStore, model: Path):
    def meddle(key: str) -> None:
        if key.endswith(".pb"):
            store.create(f"{MODEL}/1/assets/extra", b"")

    class Meddled(Around):
        def create(self, key: str, data: bytes | Path) -> Generation:
            made = super().create(key, data)
            meddle(key)
            return made

    with pytest.raises(Rejected) as caught:
        _publish(Meddled(store, lambda write: write()), model)
    assert caught.value.reason == "FOREIGN_OBJECTS"
    assert "assets/extra" in caught.value.got
    assert versions.committed(store, MODEL) == []


def test_a_damaged_object_of_an_unfinished_version_is_written_again(store: ObjectStore, model: Path, tmp_path: Path):
    _publish(store, model)
    manifest = store.read(f"{MODEL}/.versions/1.json")
    store.delete(f"{MODEL}/.versions/1.json", manifest.generation)
    key = f"{MODEL}/1/variables/variables.index"
    store.replace(key, b"dam", store.read(key).generation)
    assert _publish(store, model) == (1, False)
    _require_sound(store, model)


def test_a_committed_version_that_lost_a_file_is_not_called_published(store: ObjectStore, model: Path):
    _publish(store, model)
    key = f"{MODEL}/1/variables/variables.index"
    store.delete(key, store.read(key).generation)
    with pytest.raises(Rejected) as caught:
        _publish(store, model, OTHER)
    assert caught.value.reason == "FOREIGN_OBJECTS"


def test_a_claim_that_is_none_is_refused(store: ObjectStore, model: Path):
    _publish(store, model)
    claim = store.read(f"{MODEL}/.claims/1")
    store.replace(f"{MODEL}/.claims/1", b"mine!", claim.generation)
    with pytest.raises(Rejected) as caught:
        _publish(store, model)
    assert caught.value.reason == "BAD_CLAIM"


def test_finding_the_next_number_takes_few_reads_among_many_versions(model: Path):
    memory = MemoryStore()
    claim = json.dumps({"token": "t", "digest": digest.of_bytes(b"x")}).encode()
    for number in range(1, 100_001):
        memory.create(f"{MODEL}/.claims/{number}", claim)
    reads = 0

    def count(operation: Callable[[], object]) -> object:
        nonlocal reads
        reads += 1
        return operation()

    assert _publish(Around(memory, count, reads=True), model) == (100_001, False)
    assert reads < 80


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(WRITES))
def test_a_publisher_killed_at_any_write_is_continued_by_the_next_run(tmp_path: Path, model: Path, at: int, when: str):
    uri = str(tmp_path / "store")
    killed = subprocess.run(
        children.command("publish", uri, model, RELEASE, at, when), cwd=children.ROOT, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    store = LocalStore(Path(uri))
    committed = len(versions.committed(store, MODEL))
    assert committed == (1 if (at, when) == (WRITES - 1, "after") else 0)
    other = samples.model_dir(tmp_path / "other", weights=b"other")
    assert _publish(store, model) == (1, False)
    assert _publish(store, other, OTHER) == (2, False)
    _require_sound(store, model, other)


@pytest.mark.slow
@pytest.mark.parametrize("at", range(WRITES))
def test_another_release_goes_before_one_that_was_killed(tmp_path: Path, model: Path, at: int):
    uri = str(tmp_path / "store")
    subprocess.run(children.command("publish", uri, model, RELEASE, at, "after"), cwd=children.ROOT, check=False)
    store = LocalStore(Path(uri))
    other = samples.model_dir(tmp_path / "other", weights=b"other")
    theirs, _ = _publish(store, other, OTHER)
    mine, _ = _publish(store, model)
    assert {mine, theirs} == {1, 2}
    _require_sound(store, model, other)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 3, WRITES - 1])
def test_a_publisher_to_the_cloud_killed_at_any_write_is_continued(bucket, gcs, model: Path, at: int):
    killed = subprocess.run(
        children.command("publish", BUCKET_URI, model, RELEASE, at, "after"), cwd=children.ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert _publish(bucket, model) == (1, False)
    _require_sound(bucket, model)


@pytest.mark.parametrize("publishers", [2, 8])
@pytest.mark.parametrize("same", [True, False], ids=["same bytes", "other bytes"])
def test_racing_publishers_share_a_number_exactly_if_their_bytes_are_equal(
    opener: Opener, tmp_path: Path, publishers: int, same: bool
):
    directories = [
        samples.model_dir(tmp_path / str(number), weights=b"same" if same else str(number).encode())
        for number in range(publishers)
    ]
    with ThreadPoolExecutor(publishers) as pool:
        found = list(pool.map(lambda n: _publish(opener(), directories[n], f"release-{n}"), range(publishers)))
    assert sorted({version for version, _ in found}) == list(range(1, 2 if same else publishers + 1))
    assert [reused for _, reused in found].count(False) == (1 if same else publishers)
    _require_sound(opener(), *directories)


@pytest.mark.slow
def test_racing_publishers_stay_unique_and_gapless_while_answers_are_lost(gcs, tmp_path: Path):
    directories = [samples.model_dir(tmp_path / str(number), weights=str(number // 2).encode()) for number in range(12)]
    for path in (r"\.claims", r"\.digests", r"uploadType=multipart"):
        for skip in range(0, 30, 3):
            gcs.fault("reset", method="POST", path=path, after=True, skip=skip)
            gcs.fault(503, method="GET", path="alt=media", skip=skip)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda n: _publish(connect(), directories[n], f"release-{n}"), range(12)))
    assert sorted({version for version, _ in found}) == [1, 2, 3, 4, 5, 6]
    assert all(found[n][0] == found[n + 1][0] for n in range(0, 12, 2))
    _require_sound(connect(), *directories)


FATES = st.sampled_from(["done", "done", "done", "fails before", "answer lost"])


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models of two files each, so that a publisher does one thing at a time."""
    made = []
    for name in "abc":
        directory = tmp_path_factory.mktemp(name)
        (directory / "saved_model.pb").write_bytes(b"graph")
        (directory / "weights").write_bytes(name.encode())
        made.append(directory)
    return made


def _race(contents: list[Path], publishes: list[int], schedule: list[tuple[int, str]]) -> None:
    memory = MemoryStore()
    turns = Turns(memory)
    for actor, content in enumerate(publishes):
        turns.start(
            actor, lambda mine, actor=actor, content=content: _publish(mine, contents[content], f"release-{actor}")
        )
    for choice, fate in schedule:
        if not turns.give(choice, fate):
            break
    while turns.give(0, "done"):
        pass
    errors = [result for result in turns.results.values() if isinstance(result, SlipwayError)]
    assert errors == []
    numbers = {
        content: {turns.results[actor][0] for actor, c in enumerate(publishes) if c == content} for content in publishes
    }
    assert all(len(of_one) == 1 for of_one in numbers.values())
    _require_sound(memory, *[contents[content] for content in publishes])


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    publishes=st.lists(st.integers(0, 2), min_size=2, max_size=4),
    schedule=st.lists(st.tuples(st.integers(0, 3), FATES), max_size=60),
)
def test_any_order_of_steps_crashes_and_lost_answers_ends_sound(contents, publishes, schedule):
    _race(contents, publishes, schedule)


@pytest.mark.nightly
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    publishes=st.lists(st.integers(0, 2), min_size=2, max_size=8),
    schedule=st.lists(st.tuples(st.integers(0, 7), FATES), max_size=200),
)
def test_a_thousand_schedules_of_up_to_eight_publishers_end_sound(contents, publishes, schedule):
    _race(contents, publishes, schedule)


def test_a_full_disk_ends_publishing_without_a_version_and_a_repeated_run_goes_on(tmp_path: Path, model: Path):
    store = LocalStore(tmp_path / "store")
    left = 3

    def full(write: Callable[[], object]) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise Unavailable("no space left on device", reason="DISK")
        return write()

    with pytest.raises(Unavailable):
        _publish(Around(store, full), model)
    assert versions.committed(store, MODEL) == []
    assert _publish(store, model) == (1, False)
    _require_sound(store, model)
