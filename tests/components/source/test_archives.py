"""Archives somebody else made: what is refused, and that nothing but the members' bytes comes out."""

import contextlib
import gzip
import io
import stat
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.core.errors import Rejected
from components.source import archives
from components.source.archives import Kind, kind_of, unpack

KINDS: tuple[Kind, ...] = ("tar", "tar.gz", "zip")


def pack(path: Path, kind: Kind, members: list[tuple[str, bytes]]) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                archive.writestr(zipfile.ZipInfo(name), data)
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for name, data in members:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def refusal(path: Path, target: Path, kind: Kind, *, max_bytes: int = 10**6) -> str:
    target.mkdir()
    with pytest.raises(Rejected) as caught:
        unpack(path, target, kind=kind, max_bytes=max_bytes)
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["../evil"], "ARCHIVE_TRAVERSAL"),
        (["a/../../evil"], "ARCHIVE_TRAVERSAL"),
        (["a\\..\\evil"], "ARCHIVE_TRAVERSAL"),
        (["a\nb"], "ARCHIVE_TRAVERSAL"),
        (["a" * 300], "ARCHIVE_TRAVERSAL"),
        (["/etc/evil"], "ARCHIVE_ABSOLUTE"),
        (["C:/evil"], "ARCHIVE_ABSOLUTE"),
        (["\\\\host\\evil"], "ARCHIVE_ABSOLUTE"),
        (["saved_model.pb", "Saved_Model.pb"], "ARCHIVE_DUPLICATE"),
        (["saved_model.pb", "./saved_model.pb"], "ARCHIVE_DUPLICATE"),
        (["a", "a/b"], "ARCHIVE_DUPLICATE"),
        (["a/b", "a"], "ARCHIVE_DUPLICATE"),
        (["A/b", "a/c"], "ARCHIVE_DUPLICATE"),
        (["caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")], "ARCHIVE_DUPLICATE"),
    ],
)
def test_a_hostile_name_is_refused_and_writes_nothing_outside(tmp_path, kind, names, reason):
    archive = pack(tmp_path / "a", kind, [(name, b"x") for name in names])

    assert refusal(archive, tmp_path / "out", kind) == reason
    assert {path.name for path in tmp_path.iterdir()} == {"a", "out"}


def test_a_name_that_is_there_twice_is_refused_in_a_zip(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("m", b"good")
        with pytest.warns(UserWarning, match="Duplicate"):
            opened.writestr("m", b"evil")

    assert refusal(archive, tmp_path / "out", "zip") == "ARCHIVE_DUPLICATE"


@pytest.mark.parametrize(
    ("member_type", "reason"),
    [
        (tarfile.SYMTYPE, "ARCHIVE_LINK"),
        (tarfile.LNKTYPE, "ARCHIVE_LINK"),
        (tarfile.FIFOTYPE, "ARCHIVE_SPECIAL"),
        (tarfile.CHRTYPE, "ARCHIVE_SPECIAL"),
        (tarfile.BLKTYPE, "ARCHIVE_SPECIAL"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, member_type, reason):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as opened:
        member = tarfile.TarInfo("variables")
        member.type, member.linkname = member_type, "/etc"
        opened.addfile(member)

    assert refusal(archive, tmp_path / "out", "tar") == reason


@pytest.mark.parametrize(("mode", "reason"), [(stat.S_IFLNK, "ARCHIVE_LINK"), (stat.S_IFIFO, "ARCHIVE_SPECIAL")])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, mode, reason):
    archive = tmp_path / "a.zip"
    member = zipfile.ZipInfo("variables")
    member.external_attr = (mode | 0o644) << 16
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(member, "/etc")

    assert refusal(archive, tmp_path / "out", "zip") == reason


@pytest.mark.parametrize("kind", KINDS)
def test_more_bytes_than_allowed_are_a_bomb(tmp_path, kind):
    archive = pack(tmp_path / "a", kind, [("a", bytes(600)), ("b", bytes(600))])

    assert refusal(archive, tmp_path / "out", kind, max_bytes=1000) == "ARCHIVE_BOMB"


def test_a_zip_that_unpacks_to_more_than_deflate_can_is_a_bomb(tmp_path):
    archive = pack(tmp_path / "a.zip", "zip", [("a", bytes(10**6))])
    data = bytearray(archive.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24  # the size in the central directory
    data[at : at + 4] = (4 * 10**9).to_bytes(4, "little")
    archive.write_bytes(data)

    assert refusal(archive, tmp_path / "out", "zip", max_bytes=10**12) == "ARCHIVE_BOMB"


def test_a_huge_extended_header_is_a_bomb(tmp_path):
    archive = tmp_path / "a.tar"
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = tarfile.XHDTYPE, 2**33
    archive.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))

    assert refusal(archive, tmp_path / "out", "tar") == "ARCHIVE_BOMB"


def test_too_many_members_are_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 10)
    archive = pack(tmp_path / "a.tar", "tar", [(str(number), b"") for number in range(11)])

    assert refusal(archive, tmp_path / "out", "tar") == "ARCHIVE_BOMB"


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_archive_is_refused(tmp_path, kind):
    assert refusal(pack(tmp_path / "a", kind, []), tmp_path / "out", kind) == "ARCHIVE_TRUNCATED"


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_an_archive_cut_anywhere_is_refused(tmp_path_factory, kind, share):
    folder = tmp_path_factory.mktemp("cut")
    whole = pack(folder / "whole", kind, [("a/saved_model.pb", bytes(range(256)) * 8), ("b", b"y" * 700)]).read_bytes()
    # tar pads its end with zeros to 10 KiB: a cut there loses nothing
    end = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole) - 1
    (folder / "cut").write_bytes(whole[: int(share * end)])

    assert refusal(folder / "cut", folder / "out", kind) == "ARCHIVE_TRUNCATED"


def test_a_flipped_byte_in_a_compressed_archive_is_refused(tmp_path):
    archive = pack(tmp_path / "a", "tar.gz", [("a", bytes(range(256)) * 50)])
    data = bytearray(archive.read_bytes())
    data[-6] ^= 1  # within gzip's own checksum
    archive.write_bytes(data)

    assert refusal(archive, tmp_path / "out", "tar.gz") == "ARCHIVE_TRUNCATED"


NAMES = st.lists(
    st.lists(
        st.sampled_from(["a", "B", "..", ".", "", "/", "C:", "c", "é", "\0", "\\", "x" * 256]), min_size=1, max_size=4
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(parts=NAMES)
def test_whatever_the_names_only_what_was_packed_comes_out_and_only_inside(tmp_path_factory, kind, parts):
    folder = tmp_path_factory.mktemp("any")
    names = ["/".join(part) for part in parts]
    try:
        archive = pack(folder / "a", kind, [(name, str(number).encode()) for number, name in enumerate(names)])
    except (ValueError, UserWarning):
        return
    out = folder / "out"
    out.mkdir()
    with contextlib.suppress(Rejected):
        unpack(archive, out, kind=kind, max_bytes=10**6)
        files = [path for path in out.rglob("*") if path.is_file()]
        assert sorted(file.read_bytes() for file in files) == sorted(str(n).encode() for n in range(len(names)))
    assert {path.name for path in folder.iterdir()} == {"a", "out"}


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=3000), kind=st.sampled_from(KINDS))
def test_any_bytes_are_refused_with_a_reason(tmp_path_factory, data, kind):
    folder = tmp_path_factory.mktemp("noise")
    (folder / "a").write_bytes(gzip.compress(data) if kind == "tar.gz" else data)

    assert refusal(folder / "a", folder / "out", kind).startswith("ARCHIVE_")


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("model.tar.gz", b"", "tar.gz"),
        ("model.TGZ", b"", "tar.gz"),
        ("m.tar", b"", "tar"),
        ("m.zip", b"", "zip"),
        ("m.keras", b"PK\x03\x04", None),
        ("m.h5", b"\x89HDF", None),
        ("1?tf-hub-format=compressed", b"\x1f\x8b\x08", "tar.gz"),
        ("download", b"PK\x03\x04", "zip"),
        ("download", bytes(257) + b"ustar", "tar"),
        ("download", b"text", None),
    ],
)
def test_the_name_says_what_an_archive_is_and_the_first_bytes_where_it_does_not(tmp_path, name, head, kind):
    file = tmp_path / "file"
    file.write_bytes(head)

    assert kind_of(file, name) == kind
