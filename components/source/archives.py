"""Unpacks archives that somebody else made: every name, kind and size is checked before a byte is written.

``tarfile``'s data filter silently strips an absolute path and lets a later member overwrite an earlier one of the same
name; ``zipfile.extractall`` does the same. So members are only read by the library, and written by us: regular files
with plain relative names, each once, under one limit of bytes.
"""

import gzip
import lzma
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from components.core.errors import Rejected

Kind = Literal["tar", "tar.gz", "zip"]

SUFFIXES: dict[str, Kind] = {".tar.gz": "tar.gz", ".tgz": "tar.gz", ".tar": "tar", ".zip": "zip"}
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5", ".pb", ".pbtxt")
"""Files that are models themselves, though some of them begin like an archive."""

MAX_MEMBERS = 100_000
MAX_RATIO = 1100
"""Deflate cannot pack tighter than 1032:1 (zlib's documentation), so more means overlapping members."""
_CHUNK = 2**20
_MAX_HEADER = 2**26  # bytes tarfile may ask for at once: extended headers are read whole
_BLOCK = 512


def kind_of(path: Path, name: str) -> Kind | None:
    """Return what kind of archive a file is; None for a model file.

    Args:
        path: The file.
        name: The name it was given by its maker, which decides; the first bytes do where the name says nothing.
    """
    lower = name.lower()
    for suffix, kind in SUFFIXES.items():
        if lower.endswith(suffix):
            return kind
    if lower.endswith(MODEL_SUFFIXES):
        return None
    with path.open("rb") as stream:
        head = stream.read(_BLOCK)
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    return "tar" if head[257:262] == b"ustar" else None


def unpack(archive: Path, target: Path, *, kind: Kind, max_bytes: int) -> None:
    """Write the files of an archive below an empty directory.

    Args:
        archive: The file.
        target: An existing, empty directory; after an error it holds some of the files and is to be thrown away.
        kind: The archive's kind.
        max_bytes: Bytes that all members together may have.

    Raises:
        Rejected: ARCHIVE_TRAVERSAL, ARCHIVE_ABSOLUTE, ARCHIVE_LINK, ARCHIVE_SPECIAL, ARCHIVE_DUPLICATE, ARCHIVE_BOMB or
            ARCHIVE_TRUNCATED.
    """
    writer = _Writer(archive, target, max_bytes)
    try:
        if kind == "zip":
            _unpack_zip(archive, writer)
        else:
            _unpack_tar(archive, writer, compressed=kind == "tar.gz")
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        gzip.BadGzipFile,
        EOFError,
        NotImplementedError,
    ) as error:
        raise _refused(archive, "ARCHIVE_TRUNCATED", "a whole archive", f"{type(error).__name__}: {error}") from error
    if not writer.files:
        raise _refused(archive, "ARCHIVE_TRUNCATED", "an archive with at least one file", "no file in it")


class _Writer:
    """Checks each member and writes it; knows what was written before."""

    def __init__(self, archive: Path, target: Path, max_bytes: int) -> None:
        self.archive, self.target, self.max_bytes = archive, target, max_bytes
        self.files = self.members = self.written = 0
        self._spelling: dict[str, str] = {}
        self._file_keys: set[str] = set()

    def directory(self, name: str) -> None:
        path = self._admit(name)
        if path is not None:
            self._claim(path, is_file=False)
            (self.target / path).mkdir(parents=True, exist_ok=True)

    def file(self, name: str, size: int, content: IO[bytes]) -> None:
        path = self._admit(name)
        if path is None:
            raise _refused(self.archive, "ARCHIVE_TRAVERSAL", "a file's name", repr(name))
        self._claim(path, is_file=True)
        if size > self.max_bytes - self.written:
            raise self._bomb()
        place = self.target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as stream:
            got = 0
            while chunk := content.read(_CHUNK):
                got += len(chunk)
                self.written += len(chunk)
                if self.written > self.max_bytes:
                    raise self._bomb()
                stream.write(chunk)
        if got != size:
            raise _refused(self.archive, "ARCHIVE_TRUNCATED", f"{size} bytes of {name}", f"{got} bytes")
        self.files += 1

    def _admit(self, name: str) -> PurePosixPath | None:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise _refused(self.archive, "ARCHIVE_BOMB", f"at most {MAX_MEMBERS} members", "more")
        return _relative(self.archive, name)

    def _claim(self, path: PurePosixPath, *, is_file: bool) -> None:
        """Take the name and those of the directories above it, also for file systems that fold case or normalise."""
        for ancestor in list(path.parents)[:-1]:
            self._take(ancestor, is_file=False)
        self._take(path, is_file=is_file)

    def _take(self, path: PurePosixPath, *, is_file: bool) -> None:
        key = unicodedata.normalize("NFC", str(path)).casefold()
        known = key in self._spelling
        spelling = self._spelling.setdefault(key, str(path))
        if spelling != str(path) or key in self._file_keys or (is_file and known):
            raise _refused(self.archive, "ARCHIVE_DUPLICATE", "each name once, in any case", f"{path} after {spelling}")
        if is_file:
            self._file_keys.add(key)

    def _bomb(self) -> Rejected:
        return _refused(self.archive, "ARCHIVE_BOMB", f"at most {self.max_bytes} bytes unpacked", "more")


def _relative(archive: Path, name: str) -> PurePosixPath | None:
    """Return a member's place; None for the root itself (``./``)."""
    if name.startswith(("/", "\\")) or name[1:2] == ":":
        raise _refused(archive, "ARCHIVE_ABSOLUTE", "relative names", repr(name))
    path = PurePosixPath(name)
    if ".." in path.parts or "\\" in name or any(ord(character) < 32 for character in name):
        raise _refused(archive, "ARCHIVE_TRAVERSAL", "names that stay inside", repr(name))
    if any(len(part.encode(errors="surrogateescape")) > 255 for part in path.parts) or len(name) > 3000:
        raise _refused(archive, "ARCHIVE_TRAVERSAL", "names a file system can hold", repr(name[:80]) + " …")
    return path if path.parts else None


def _unpack_tar(archive: Path, writer: _Writer, *, compressed: bool) -> None:
    with archive.open("rb") as raw, gzip.open(raw) if compressed else raw as plain:
        stream = _Watched(plain, archive)
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            for member in tar:
                _unpack_member(archive, tar, member, writer)
        if stream.last_block != bytes(_BLOCK):
            raise EOFError("the end-of-archive marker is missing")
        while stream.read(_CHUNK):
            """Read to the end, where gzip keeps its checksum."""


def _unpack_member(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, writer: _Writer) -> None:
    if member.issym() or member.islnk():
        raise _refused(archive, "ARCHIVE_LINK", "files and directories only", f"{member.name} -> {member.linkname}")
    if member.isdir():
        writer.directory(member.name)
        return
    content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        raise _refused(archive, "ARCHIVE_SPECIAL", "files and directories only", f"{member.name}, a special file")
    writer.file(member.name, member.size, content)


class _Watched:
    """A stream that remembers its last block and refuses to be read in one piece: what tarfile needs, and no more."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, archive: Path) -> None:
        self._stream, self._archive = stream, archive
        self.last_block = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise _refused(self._archive, "ARCHIVE_BOMB", f"headers of at most {_MAX_HEADER} bytes", f"{size} bytes")
        data = self._stream.read(size)
        if size == _BLOCK:
            self.last_block = data
        return data

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)


def _unpack_zip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        total = sum(member.file_size for member in members)
        if total > MAX_RATIO * max(1, archive.stat().st_size):
            raise _refused(archive, "ARCHIVE_BOMB", f"a ratio of at most {MAX_RATIO}", f"{total} bytes unpacked")
        for member in members:
            _unpack_entry(archive, opened, member, writer)


def _unpack_entry(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, writer: _Writer) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where it was not made on Unix
    if kind == stat.S_IFLNK:
        raise _refused(archive, "ARCHIVE_LINK", "files and directories only", f"{member.filename}, a symbolic link")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(archive, "ARCHIVE_SPECIAL", "files and directories only", f"{member.filename}, a special file")
    if member.flag_bits & 0x1:
        raise _refused(archive, "ARCHIVE_SPECIAL", "members that are not encrypted", member.filename)
    # zipfile cuts a name at its first NUL and turns the system's separator into a slash: judge what the file says.
    if member.orig_filename.endswith("/") and not member.file_size:
        writer.directory(member.orig_filename)
        return
    if member.orig_filename.endswith("/"):
        raise _refused(archive, "ARCHIVE_SPECIAL", "directories without content", member.orig_filename)
    with opened.open(member) as content:
        writer.file(member.orig_filename, member.file_size, content)


def _refused(archive: Path, reason: str, expected: str, got: str) -> Rejected:
    return Rejected(
        f"{archive.name} is not unpacked",
        expected=expected,
        got=got,
        fix="pack the model's directory again, with `tar -czf model.tar.gz -C DIR .`",
        reason=reason,
    )
