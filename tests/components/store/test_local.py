"""What only a directory has: a disk that fills up, leftovers of a crash, a clock that goes back, files in the way."""

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from components.core.clock import ManualClock
from components.core.errors import Rejected, Unavailable
from components.store.local import TEMPORARY_TTL_S, LocalStore
from components.store.open import open_store
from components.store.protocol import Generation
from tests.components.store import children


def _all_files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_objects_lie_where_a_server_finds_them(tmp_path: Path):
    LocalStore(tmp_path / "store").create("m/1/saved_model.pb", b"graph")
    assert (tmp_path / "store/m/1/saved_model.pb").read_bytes() == b"graph"


def test_a_deleted_version_leaves_no_empty_directory_for_a_server_to_find(tmp_path: Path):
    store = LocalStore(tmp_path / "store")
    store.create("m/2/a", b"")
    store.delete("m/1/variables/a", store.create("m/1/variables/a", b""))
    assert [path.name for path in (tmp_path / "store/m").iterdir()] == ["2"]


def test_reading_makes_no_directory(tmp_path: Path):
    store = LocalStore(tmp_path / "store")
    assert store.read("m/a") is None
    assert list(store.list("")) == []
    assert list(store.folders("")) == []
    assert not (tmp_path / "store").exists()


def test_a_full_disk_is_unavailable_names_the_object_and_leaves_nothing(tmp_path: Path):
    store = LocalStore(tmp_path / "store")
    generation = store.create("m/small", b"x")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(Unavailable) as created:
            store.create("m/big", b"x" * (1 << 17))
        with pytest.raises(Unavailable):
            store.replace("m/small", b"x" * (1 << 17), generation)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert created.value.reason == "DISK"
    assert str(tmp_path / "store/m/big") in created.value.what
    assert _all_files(tmp_path / "store") == ["m/small"]
    assert (tmp_path / "store/m/small").read_bytes() == b"x"


def test_a_store_that_cannot_be_written_is_unavailable_and_named():
    with pytest.raises(Unavailable) as caught:  # procfs refuses even root
        LocalStore(Path("/proc/slipway-store")).create("m/a", b"")
    assert caught.value.reason == "DISK"
    assert "/proc/slipway-store" in caught.value.what


def test_a_file_in_the_way_of_the_store_is_refused(tmp_path: Path):
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(Rejected) as caught:
        LocalStore(tmp_path / "store").create("m/a", b"")
    assert caught.value.reason == "NO_DIRECTORY"


def test_an_object_in_the_way_of_a_key_is_refused(tmp_path: Path):
    store = LocalStore(tmp_path / "store")
    store.create("m/a", b"")
    with pytest.raises(Rejected) as caught:
        store.create("m/a/b", b"")
    assert caught.value.reason == "NO_DIRECTORY"
    assert store.read("m/a/b") is None


def test_the_stores_own_files_are_no_objects(tmp_path: Path):
    store = LocalStore(tmp_path / "store")
    store.replace("m/a", b"b", store.create("m/a", b"a"))
    assert [row.key for row in store.list("")] == ["m/a"]
    assert list(store.folders("")) == ["m"]
    with pytest.raises(Rejected) as caught:
        store.read(".slipway/lock")
    assert caught.value.reason == "BAD_KEY"


def test_leftovers_of_a_crash_are_swept_after_their_time_and_not_before(tmp_path: Path):
    clock = ManualClock()
    LocalStore(tmp_path, clock=clock).create("m/a", b"")
    leftover = tmp_path / ".slipway/tmp/0123"
    leftover.write_bytes(b"half")
    written = clock.now().timestamp()
    os.utime(leftover, (written, written))
    clock.sleep(TEMPORARY_TTL_S - 1)
    LocalStore(tmp_path, clock=clock).create("m/b", b"")
    assert leftover.exists()
    clock.sleep(2)
    store = LocalStore(tmp_path, clock=clock)
    store.create("m/c", b"")
    assert not leftover.exists()
    assert [row.key for row in store.list("")] == ["m/a", "m/b", "m/c"]


def test_generations_grow_even_if_the_clock_goes_back(tmp_path: Path):
    store = LocalStore(tmp_path)
    store.create("m/a", b"0")
    tomorrow = time.time() + 86_400
    os.utime(tmp_path / "m/a", (tomorrow, tomorrow))
    generations = [store.read("m/a").generation]
    for number in range(1, 6):
        generations.append(store.replace("m/a", str(number).encode(), generations[-1]))
    assert generations == sorted(set(generations))


def test_a_file_that_goes_away_during_a_listing_is_left_out(tmp_path: Path):
    store = LocalStore(tmp_path)
    for name in "abc":
        store.create(f"m/{name}", b"")
    rows = store.list("m/")
    assert next(rows).key == "m/a"
    (tmp_path / "m/b").unlink()
    assert [row.key for row in rows] == ["m/c"]


@pytest.mark.parametrize("delay_s", [0.05, 0.08, 0.13, 0.21])
def test_a_writer_killed_at_any_moment_leaves_whole_objects_only(tmp_path: Path, delay_s: float):
    writer = subprocess.Popen(children.command("write", tmp_path), cwd=children.ROOT)
    deadline = time.monotonic() + 30
    while not (tmp_path / "m/1").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay_s)
    writer.kill()
    assert writer.wait() == -signal.SIGKILL
    store = LocalStore(tmp_path)
    rows = list(store.list("m/"))
    assert len(rows) >= 2
    for row in rows:
        found = store.read(row.key)
        assert len(set(found.data.replace(row.key.removeprefix("m/").encode(), b"0"))) == 1
        assert len(found.data) >= 200_000
    store.replace("m/1", b"the lock is free", store.read("m/1").generation)


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        ("store", "{base}/store"),
        ("./a/../store", "{base}/a/../store"),
        ("/var/models", "/var/models"),
        ("file:///var/my%20models", "/var/my models"),
        ("file://localhost/var/models", "/var/models"),
    ],
)
def test_a_path_or_file_uri_is_a_local_store(tmp_path: Path, uri: str, root: str):
    assert open_store(uri, base_dir=tmp_path).uri == root.format(base=tmp_path)


@pytest.mark.parametrize(
    "uri",
    ["", " ", "s3://bucket/x", "http://host/x", "gs://", "gs:///x", "gs://UPPER", "file://host/x", "file:x", "a\0b"],
)
def test_what_is_no_store_is_refused_with_the_forms_that_are(tmp_path: Path, uri: str):
    with pytest.raises(Rejected) as caught:
        open_store(uri, base_dir=tmp_path)
    assert caught.value.reason == "STORE_URI"
    assert "gs://BUCKET/PREFIX" in caught.value.expected


def test_a_prefix_cannot_climb(tmp_path: Path):
    with pytest.raises(Rejected):
        open_store("gs://bucket/a/../../b", base_dir=tmp_path)
    store = LocalStore(tmp_path / "store")
    (tmp_path / "secret").write_bytes(b"")
    with pytest.raises(Rejected):
        store.delete("../secret", Generation(1))
