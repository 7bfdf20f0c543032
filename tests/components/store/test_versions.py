"""Versions as readers see them."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core import digest
from components.core.clock import ManualClock
from components.core.digest import Digest
from components.core.errors import Conflict, Rejected, Unavailable
from components.core.process import silent
from components.publish import publish
from components.store import versions
from components.store.local import LocalStore
from components.store.protocol import ObjectStore
from tests.components.store import samples
from tests.components.store.fixtures import Opener
from tests.components.store.samples import MODEL, RELEASE

CLOCK = ManualClock()


def _publish(store: ObjectStore, directory: Path, release: str = RELEASE) -> int:
    version, _ = publish(
        store,
        model=MODEL,
        validated=samples.validated(directory, release),
        model_dir=directory,
        release=release,
        token=release,
        clock=CLOCK,
        progress=silent,
    )
    return version


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return samples.model_dir(tmp_path / "model")


def test_a_pulled_version_is_the_published_directory(store: ObjectStore, model: Path, tmp_path: Path):
    wanted = digest.of_directory(model)
    said: list[str] = []
    manifest = versions.pull(
        store, MODEL, _publish(store, model), tmp_path / "out/1", digest=wanted.digest, progress=said.append
    )
    assert digest.of_directory(tmp_path / "out/1") == wanted == manifest.content
    assert (manifest.release, manifest.created_at) == (RELEASE, CLOCK.now())
    assert _names(tmp_path / "out") == ["1"]
    assert "4 files" in said[0]


def test_a_version_without_a_manifest_does_not_exist(store: ObjectStore, tmp_path: Path):
    store.create(f"{MODEL}/1/saved_model.pb", b"graph")
    assert versions.committed(store, MODEL) == []
    with pytest.raises(Rejected) as caught:
        versions.pull(store, MODEL, 1, tmp_path / "out", digest=None)
    assert caught.value.reason == "NO_VERSION"
    assert not (tmp_path / "out").exists()


def test_committed_versions_come_in_the_order_of_their_numbers(store: ObjectStore, tmp_path: Path):
    for number in range(11):
        directory = samples.model_dir(tmp_path / str(number), weights=str(number).encode())
        assert _publish(store, directory) == number + 1
    assert [manifest.version for manifest in versions.committed(store, MODEL)] == list(range(1, 12))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"size": 7', b'"size": 8', 1),
        lambda text: text.replace(b'"version": 1', b'"version": 2'),
        lambda text: text.replace(b'"digits"', b'"other"'),
        lambda text: text.replace(b"saved_model.pb", b"saved_model.px"),
        lambda text: text.replace(b"saved_model.pb", b"../../../evil"),
        lambda text: text[: len(text) // 2],
        lambda _: b"[]",
        lambda text: text.replace(b'"schema_version": 1', b'"schema_version": 2'),
    ],
    ids=["size", "number", "model", "renamed", "climbing", "torn", "list", "schema"],
)
def test_a_manifest_that_does_not_verify_commits_nothing(store: ObjectStore, model: Path, tmp_path: Path, change):
    _publish(store, model)
    key = f"{MODEL}/.versions/1.json"
    stored = store.read(key)
    changed = change(stored.data)
    assert changed != stored.data
    store.replace(key, changed, stored.generation)
    assert versions.committed(store, MODEL) == []
    with pytest.raises(Rejected) as caught:
        versions.pull(store, MODEL, 1, tmp_path / "out", digest=None)
    assert caught.value.reason == "BAD_MANIFEST"
    assert not (tmp_path / "out").exists()


def test_a_manifest_cannot_name_files_outside_even_if_its_digest_fits(store: ObjectStore, tmp_path: Path):
    entry = digest.FileEntry(1, digest.of_bytes(b"x"))
    content = digest.FileManifest({"../../evil": entry, "saved_model.pb": entry})
    with pytest.raises(ValueError, match="cannot be an object's key"):
        versions.VersionManifest.of(content, model=MODEL, version=1, release=RELEASE, created_at=CLOCK.now())


@pytest.mark.parametrize("damage", [b"weightz", b"weights!", b""], ids=["flipped", "longer", "empty"])
def test_a_changed_byte_is_refused_and_nothing_is_left(store: ObjectStore, model: Path, tmp_path: Path, damage: bytes):
    _publish(store, model)
    key = f"{MODEL}/1/variables/variables.data-00000-of-00001"
    stored = store.read(key)
    store.replace(key, damage, stored.generation)
    with pytest.raises(Rejected) as caught:
        versions.pull(store, MODEL, 1, tmp_path / "out" / "1", digest=None)
    assert caught.value.reason == "CORRUPT_VERSION"
    assert _names(tmp_path / "out") == []


def test_a_missing_file_is_refused_and_nothing_is_left(store: ObjectStore, model: Path, tmp_path: Path):
    _publish(store, model)
    key = f"{MODEL}/1/variables/variables.index"
    store.delete(key, store.read(key).generation)
    with pytest.raises(Rejected) as caught:
        versions.pull(store, MODEL, 1, tmp_path / "out" / "1", digest=None)
    assert caught.value.reason == "NO_OBJECT"
    assert _names(tmp_path / "out") == []


def test_an_object_that_no_manifest_names_is_not_pulled(store: ObjectStore, model: Path, tmp_path: Path):
    _publish(store, model)
    store.create(f"{MODEL}/1/assets/extra", b"")
    versions.pull(store, MODEL, 1, tmp_path / "out", digest=None)
    assert not (tmp_path / "out/assets/extra").exists()


def test_another_digest_than_asked_for_is_refused(store: ObjectStore, model: Path, tmp_path: Path):
    with pytest.raises(Rejected) as caught:
        versions.pull(store, MODEL, _publish(store, model), tmp_path / "out", digest=digest.of_bytes(b"other"))
    assert caught.value.reason == "DIGEST_MISMATCH"
    assert not (tmp_path / "out").exists()


def test_a_version_that_is_there_already_is_left_alone(store: ObjectStore, model: Path, tmp_path: Path):
    version = _publish(store, model)
    versions.pull(store, MODEL, version, tmp_path / "out", digest=None)
    inode = (tmp_path / "out").stat().st_ino
    versions.pull(store, MODEL, version, tmp_path / "out", digest=None)
    assert (tmp_path / "out").stat().st_ino == inode


def test_a_relative_directory_is_filled(
    store: ObjectStore, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    versions.pull(store, MODEL, _publish(store, model), Path("out"), digest=None)
    assert (tmp_path / "out/saved_model.pb").exists()


def test_an_empty_directory_is_filled(store: ObjectStore, model: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    versions.pull(store, MODEL, _publish(store, model), tmp_path / "out", digest=None)
    assert (tmp_path / "out/saved_model.pb").exists()


@pytest.mark.parametrize("what", ["file", "other model", "link"])
def test_something_else_in_the_way_is_refused_and_kept(store: ObjectStore, model: Path, tmp_path: Path, what: str):
    version, out = _publish(store, model), tmp_path / "out"
    if what == "file":
        out.write_bytes(b"mine")
    elif what == "link":
        (tmp_path / "empty").mkdir()
        out.symlink_to(tmp_path / "empty")
    else:
        samples.model_dir(out, weights=b"mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Rejected) as caught:
        versions.pull(store, MODEL, version, out, digest=None)
    assert caught.value.reason == "NOT_EMPTY"
    assert sorted(tmp_path.rglob("*")) == before


def test_leftovers_of_a_killed_pull_are_removed_by_the_next_one(store: ObjectStore, model: Path, tmp_path: Path):
    leftover = tmp_path / "here/.out.pulling-abc"
    samples.model_dir(leftover)
    versions.pull(store, MODEL, _publish(store, model), tmp_path / "here/out", digest=None)
    assert _names(tmp_path / "here") == ["out"]


def test_two_pulls_to_one_place_do_not_disturb_each_other(opener: Opener, model: Path, tmp_path: Path):
    version = _publish(opener(), model)

    def pull(_: int) -> None:
        versions.pull(opener(), MODEL, version, tmp_path / "here/out", digest=None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pull, range(16)))
    assert digest.of_directory(tmp_path / "here/out") == digest.of_directory(model)
    assert _names(tmp_path / "here") == ["out"]


def test_a_pull_to_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path, model: Path):
    store = LocalStore(tmp_path / "store")
    with pytest.raises(Unavailable) as caught:
        versions.pull(store, MODEL, _publish(store, model), Path("/proc/slipway/out"), digest=None)
    assert caught.value.reason == "DISK"


def test_an_alias_that_was_never_set_is_none(store: ObjectStore):
    assert versions.alias(store, MODEL, "stable") is None


def _set(store: ObjectStore, version: int, expected: int | None, release: str = RELEASE) -> versions.Alias:
    return versions.set_alias(store, MODEL, "stable", version, expected=expected, release=release, clock=CLOCK)


@pytest.fixture
def two(store: ObjectStore, tmp_path: Path) -> ObjectStore:
    for weights in (b"1", b"2"):
        _publish(store, samples.model_dir(tmp_path / weights.decode(), weights=weights))
    return store


def test_an_alias_moves_from_the_version_that_was_expected(two: ObjectStore):
    assert _set(two, 1, None).previous is None
    moved = _set(two, 2, 1)
    assert (moved.version, moved.previous) == (2, 1)
    assert versions.alias(two, MODEL, "stable") == moved


@pytest.mark.parametrize("expected", [None, 2])
def test_an_alias_that_moved_meanwhile_is_a_conflict(two: ObjectStore, expected: int | None):
    _set(two, 1, None, release="first")
    with pytest.raises(Conflict) as caught:
        _set(two, 2, expected, release="second")
    assert caught.value.reason == "ALIAS_MOVED"
    assert versions.alias(two, MODEL, "stable").version == 1


def test_an_alias_is_not_made_where_one_was_expected(two: ObjectStore):
    with pytest.raises(Conflict):
        _set(two, 2, 1)
    assert versions.alias(two, MODEL, "stable") is None


def test_setting_an_alias_again_for_the_same_release_changes_nothing(two: ObjectStore):
    first = _set(two, 1, None)
    CLOCK.sleep(60)
    assert _set(two, 1, None) == first


def test_an_alias_stands_for_committed_versions_only(two: ObjectStore):
    with pytest.raises(Rejected) as caught:
        _set(two, 3, None)
    assert caught.value.reason == "NO_VERSION"


def test_of_two_releases_that_move_an_alias_at_once_one_wins(opener: Opener, two: ObjectStore):
    _set(two, 1, None, release="first")

    def move(number: int) -> bool:
        try:
            versions.set_alias(
                opener(), MODEL, "stable", 2, expected=1, release=f"release-{number}", clock=ManualClock()
            )
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(move, range(4))) == 1


def test_an_object_that_is_no_alias_is_refused(store: ObjectStore):
    store.create(f"{MODEL}/.aliases/stable", b"1")
    with pytest.raises(Rejected) as caught:
        versions.alias(store, MODEL, "stable")
    assert caught.value.reason == "BAD_ALIAS"


@pytest.mark.parametrize("name", ["", "..", "a/b", ".x", "x" * 129, "é"])
def test_names_that_could_leave_their_folder_are_refused(store: ObjectStore, name: str):
    with pytest.raises(Rejected):
        versions.alias(store, MODEL, name)
    with pytest.raises(Rejected):
        versions.manifest(store, name, 1)


_PATHS = st.lists(
    st.sampled_from(["saved_model.pb", "assets/a b", "variables/v", "é/ü", "a.b-c_d"]), min_size=1, unique=True
)


@given(paths=_PATHS, data=st.data())
def test_whatever_a_directory_holds_its_manifest_says_the_same_after_a_round_trip(paths: list[str], data):
    files = {path: data.draw(st.binary(max_size=20)) for path in paths}
    content = digest.FileManifest(
        {path: digest.FileEntry(len(one), digest.of_bytes(one)) for path, one in sorted(files.items())}
    )
    made = versions.VersionManifest.of(content, model=MODEL, version=1, release=RELEASE, created_at=CLOCK.now())
    again = versions.VersionManifest.model_validate_json(made.to_json())
    assert again == made
    assert again.content.digest == Digest(content.digest)


def test_a_stored_version_can_be_removed_and_published_again_under_its_number(tmp_path: Path, model: Path):
    store = LocalStore(tmp_path / "store")
    version = _publish(store, model)
    key = f"{MODEL}/.versions/{version}.json"
    store.delete(key, store.read(key).generation)
    shutil.rmtree(tmp_path / "store" / MODEL / str(version))
    assert versions.committed(store, MODEL) == []
    assert _publish(store, model) == version
