"""What every store promises, asked of each of them."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from components.core.errors import Conflict, Rejected, SlipwayError
from components.store.protocol import Generation, ObjectStore
from tests.components.store.fixtures import BUCKET_URI, Opener


def test_a_key_that_was_never_written_reads_as_none(store: ObjectStore):
    assert store.read("m/a") is None


def test_what_was_created_is_read_back_with_its_generation(store: ObjectStore):
    generation = store.create("m/a", b"one")
    found = store.read("m/a")
    assert found is not None
    assert (found.data, found.generation) == (b"one", generation)
    assert generation > 0


def test_an_empty_object_is_an_object(store: ObjectStore):
    store.create("m/a", b"")
    found = store.read("m/a")
    assert found is not None
    assert found.data == b""


def test_creating_over_other_bytes_is_a_conflict_and_changes_nothing(store: ObjectStore):
    generation = store.create("m/a", b"one")
    with pytest.raises(Conflict) as caught:
        store.create("m/a", b"two")
    assert caught.value.reason == "EXISTS"
    found = store.read("m/a")
    assert found is not None
    assert (found.data, found.generation) == (b"one", generation)


def test_creating_the_same_bytes_again_finds_the_first(store: ObjectStore):
    assert store.create("m/a", b"one") == store.create("m/a", b"one")


def test_a_file_is_created_as_its_bytes(store: ObjectStore, tmp_path: Path):
    (tmp_path / "f").write_bytes(b"one")
    assert store.create("m/a", tmp_path / "f") == store.create("m/a", b"one")
    (tmp_path / "f").write_bytes(b"two")
    with pytest.raises(Conflict):
        store.create("m/a", tmp_path / "f")


def test_a_file_larger_than_one_request_comes_back_whole(store: ObjectStore, tmp_path: Path):
    data = os.urandom(9 * 1024 * 1024 + 17)
    (tmp_path / "f").write_bytes(data)
    generation = store.create("m/a", tmp_path / "f")
    assert store.create("m/a", tmp_path / "f") == generation
    store.download("m/a", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    (tmp_path / "f").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Conflict):
        store.create("m/a", tmp_path / "f")


def test_replacing_takes_the_generation_that_was_read(store: ObjectStore):
    first = store.create("m/a", b"one")
    second = store.replace("m/a", b"two", first)
    assert second != first
    found = store.read("m/a")
    assert found is not None
    assert (found.data, found.generation) == (b"two", second)


def test_replacing_a_former_generation_is_a_conflict_and_changes_nothing(store: ObjectStore):
    first = store.create("m/a", b"one")
    store.replace("m/a", b"two", first)
    with pytest.raises(Conflict) as caught:
        store.replace("m/a", b"three", first)
    assert caught.value.reason == "CHANGED"
    assert (found := store.read("m/a")) is not None
    assert found.data == b"two"


def test_replacing_again_with_the_same_bytes_finds_the_own_write(store: ObjectStore):
    first = store.create("m/a", b"one")
    assert store.replace("m/a", b"two", first) == store.replace("m/a", b"two", first)


def test_replacing_what_is_gone_is_a_conflict(store: ObjectStore):
    first = store.create("m/a", b"one")
    store.delete("m/a", first)
    with pytest.raises(Conflict):
        store.replace("m/a", b"two", first)
    assert store.read("m/a") is None


def test_deleting_takes_the_generation_that_was_read(store: ObjectStore):
    first = store.create("m/a", b"one")
    second = store.replace("m/a", b"two", first)
    with pytest.raises(Conflict):
        store.delete("m/a", first)
    store.delete("m/a", second)
    assert store.read("m/a") is None
    store.delete("m/a", second)


def test_a_key_that_is_made_anew_never_has_a_former_generation(store: ObjectStore):
    seen = set()
    for _ in range(100):
        generation = store.create("m/a", b"same")
        assert generation not in seen
        seen.add(generation)
        store.delete("m/a", generation)


def test_a_listing_is_in_key_order_and_keeps_to_its_prefix(store: ObjectStore):
    keys = ["m/1/v/a", "m/1/v.b", "m/1/v-c", "m/10/a", "m/1/é", "n/1", "m/.claims/1"]
    for key in keys:
        store.create(key, key.encode())
    assert [row.key for row in store.list("")] == sorted(keys)
    assert [row.key for row in store.list("m/1/")] == ["m/1/v-c", "m/1/v.b", "m/1/v/a", "m/1/é"]
    assert [row.key for row in store.list("m/1")] == ["m/1/v-c", "m/1/v.b", "m/1/v/a", "m/1/é", "m/10/a"]
    assert list(store.list("x/")) == []


def test_a_row_of_a_listing_tells_size_generation_and_time(store: ObjectStore):
    generation = store.create("m/a", b"four")
    (row,) = store.list("m/")
    assert (row.key, row.size, row.generation) == ("m/a", 4, generation)
    assert row.updated.tzinfo is not None


def test_folders_are_named_once(store: ObjectStore):
    for key in ["m/1/a", "m/1/b", "m/10/a", "m/2/a", "m/3/a", "m/4/a", "m/file", "n/1/a"]:
        store.create(key, b"")
    assert list(store.folders("m/")) == ["1", "10", "2", "3", "4"]
    assert list(store.folders("")) == ["m", "n"]
    assert list(store.folders("x/")) == []


def test_a_folder_whose_last_object_is_deleted_is_gone(store: ObjectStore):
    store.delete("m/1/a", store.create("m/1/a", b""))
    assert list(store.folders("m/")) == []


def test_a_download_is_the_object(store: ObjectStore, tmp_path: Path):
    store.create("m/a", b"one")
    store.download("m/a", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"one"


def test_a_download_of_nothing_is_refused(store: ObjectStore, tmp_path: Path):
    with pytest.raises(Rejected) as caught:
        store.download("m/a", tmp_path / "f")
    assert caught.value.reason == "NO_OBJECT"


def test_a_download_never_overwrites_a_file(store: ObjectStore, tmp_path: Path):
    store.create("m/a", b"one")
    (tmp_path / "f").write_bytes(b"mine")
    with pytest.raises(SlipwayError):
        store.download("m/a", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        "a/.",
        ".",
        "a\0b",
        "a\nb",
        "a\\b",
        "x" * 256,
        "x/" * 600 + "x",
        "\ud800",
    ],
)
def test_a_malformed_key_is_refused_by_every_operation(store: ObjectStore, key: str, tmp_path: Path):
    one = Generation(1)
    for use in (
        lambda: store.read(key),
        lambda: store.create(key, b""),
        lambda: store.replace(key, b"", one),
        lambda: store.delete(key, one),
        lambda: store.download(key, tmp_path / "f"),
    ):
        with pytest.raises(Rejected) as caught:
            use()
        assert caught.value.reason == "BAD_KEY"


@pytest.mark.parametrize("prefix", ["../", "/", "m//", "m/../../", "./"])
def test_a_listing_cannot_climb(store: ObjectStore, prefix: str):
    for use in (store.list, store.folders):
        with pytest.raises(Rejected) as caught:
            list(use(prefix))
        assert caught.value.reason == "BAD_KEY"


def test_of_many_creators_of_one_key_one_wins(opener: Opener):
    stores = [opener() for _ in range(4)]

    def attempt(number: int) -> bool:
        try:
            stores[number % 4].create("m/claim", f"token {number}".encode())
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(16)))
    assert sum(won) == 1
    found = stores[0].read("m/claim")
    assert found is not None
    assert found.data == f"token {won.index(True)}".encode()


def test_a_counter_under_compare_and_swap_loses_no_step(opener: Opener):
    opener().create("m/counter", b"0")

    def count(worker: int) -> None:
        store, done = opener(), 0
        while done < 5:
            found = store.read("m/counter")
            assert found is not None
            total = int(found.data.split()[0]) + 1
            try:  # the worker's name makes its bytes its own: equal bytes would count as its own write
                store.replace("m/counter", f"{total} {worker}".encode(), found.generation)
            except Conflict:
                continue
            done += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    found = opener().read("m/counter")
    assert found is not None
    assert found.data.split()[0] == b"20"


def test_a_listing_is_read_a_page_at_a_time(bucket: ObjectStore, gcs):
    for number in range(9):
        bucket.create(f"m/{number}", b"")
    gcs.log.clear()
    assert [row.key for row in islice(bucket.list("m/"), 2)] == ["m/0", "m/1"]
    assert len([path for _, path in gcs.log if "prefix=" in path]) == 1
    assert len(list(bucket.list("m/"))) == 9


def test_the_uri_is_what_a_user_would_write(bucket: ObjectStore):
    assert bucket.uri == BUCKET_URI
