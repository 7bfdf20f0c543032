from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core import digest
from components.core.digest import FileEntry, FileManifest
from components.core.errors import Rejected

NAMES = st.text("abcdefgh", min_size=1, max_size=6)
TREES = st.dictionaries(NAMES, st.binary(max_size=64), min_size=1, max_size=6)


def write(root: Path, tree: dict[str, bytes]) -> Path:
    for name, data in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@given(TREES)
def test_equal_trees_have_equal_digests_whatever_order_they_were_written_in(tmp_path_factory, tree):
    one = write(tmp_path_factory.mktemp("one"), tree)
    two = write(tmp_path_factory.mktemp("two"), dict(reversed(tree.items())))
    assert digest.of_directory(one).digest == digest.of_directory(two).digest


@given(TREES, st.data())
def test_any_changed_byte_or_name_changes_the_digest(tmp_path_factory, tree, data):
    root = write(tmp_path_factory.mktemp("tree"), tree)
    before = digest.of_directory(root).digest
    name = data.draw(st.sampled_from(sorted(tree)))
    if data.draw(st.booleans()):
        (root / name).write_bytes(tree[name] + b"!")
    else:
        (root / name).rename(root / (name + "zz"))
    assert digest.of_directory(root).digest != before


def test_the_digest_of_a_manifest_does_not_depend_on_the_order_of_its_files():
    entry = {"a": digest.FileEntry(1, digest.of_bytes(b"a")), "b": FileEntry(1, digest.of_bytes(b"b"))}
    assert FileManifest(entry).digest == FileManifest(dict(reversed(entry.items()))).digest


def test_names_and_contents_cannot_be_shifted_into_each_other(tmp_path):
    one = write(tmp_path / "one", {"ab": b"c", "d": b""})
    two = write(tmp_path / "two", {"a": b"bc", "d": b""})
    assert digest.of_directory(one).digest != digest.of_directory(two).digest


def test_a_link_is_refused_because_it_can_point_outside_the_model(tmp_path):
    write(tmp_path, {"a": b"1"})
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(Rejected, match="link is a symbolic link") as error:
        digest.of_directory(tmp_path)
    assert error.value.reason == "SYMLINK"


def test_an_empty_or_missing_directory_is_no_model(tmp_path):
    with pytest.raises(Rejected, match="holds no file"):
        digest.of_directory(tmp_path)
    with pytest.raises(Rejected, match="is not a directory"):
        digest.of_directory(tmp_path / "missing")


def test_other_bytes_than_a_record_speaks_of_are_refused_with_both_digests(tmp_path):
    found = digest.of_directory(write(tmp_path, {"a": b"1"})).digest
    assert digest.require(tmp_path, found, what="it").size == 1
    (tmp_path / "a").write_bytes(b"2")
    with pytest.raises(Rejected) as error:
        digest.require(tmp_path, found, what="the export")
    assert error.value.reason == "DIGEST_MISMATCH"
    assert error.value.expected == found
