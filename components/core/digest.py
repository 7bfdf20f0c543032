"""A model directory as a value: a manifest of its files and one digest of the manifest.

The digest covers relative paths and contents, nothing else: not times, not modes, not the order in which a file
system lists. Two directories have the same digest exactly if a server sees the same bytes under the same names.
"""

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NewType

from components.core.errors import Rejected

Digest = NewType("Digest", str)
"""``sha256:`` and 64 hexadecimal digits."""

PREFIX = "sha256:"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a model: its size in bytes and the sha256 of its content."""

    size: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class FileManifest:
    """The files of a model by relative POSIX path, in sorted order."""

    files: Mapping[str, FileEntry]

    @property
    def digest(self) -> Digest:
        """The one digest of the directory: over the sorted (path, size, file digest) rows as canonical JSON."""
        rows = [[path, entry.size, entry.digest] for path, entry in sorted(self.files.items())]
        return of_json(rows)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())


def of_bytes(data: bytes) -> Digest:
    """Return the digest of ``data``."""
    return Digest(PREFIX + hashlib.sha256(data).hexdigest())


def of_json(value: object) -> Digest:
    """Return the digest of ``value`` as canonical JSON (sorted keys, no spaces, UTF-8)."""
    return of_bytes(canonical_json(value))


def canonical_json(value: object) -> bytes:
    """Return ``value`` as JSON that is the same for equal values, whatever order their keys were made in."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def of_file(path: Path) -> FileEntry:
    """Return the entry of one file, read in chunks so that memory stays bounded."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileEntry(size=stream.tell(), digest=Digest(PREFIX + digest))


def of_directory(root: Path) -> FileManifest:
    """Return the manifest of every file below ``root``.

    Raises:
        Rejected: ``root`` is no directory, holds no file, or holds anything but regular files and directories
            (a link can point outside the model; a device or a pipe is no model).
    """
    if not root.is_dir() or root.is_symlink():
        raise Rejected(
            f"{root} is not a directory",
            expected="a directory that holds the model's files",
            got="nothing there" if not root.exists() else "something else",
            reason="NO_DIRECTORY",
        )
    files: dict[str, FileEntry] = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        relative = PurePosixPath(path.relative_to(root)).as_posix()
        if not stat.S_ISREG(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "no regular file"
            raise Rejected(
                f"{root}: {relative} is {kind}",
                expected="regular files and directories only",
                got=kind,
                fix=f"replace {relative} by the file it stands for",
                reason="SYMLINK" if stat.S_ISLNK(mode) else "SPECIAL_FILE",
            )
        files[relative] = of_file(path)
    if not files:
        raise Rejected(f"{root} holds no file", expected="a model", got="an empty directory", reason="EMPTY_DIRECTORY")
    return FileManifest(files)


def require(root: Path, expected: Digest, *, what: str) -> FileManifest:
    """Return the manifest of ``root``, checked to have the digest that a record promised.

    Raises:
        Rejected: The bytes are not those that the record was computed from.
    """
    manifest = of_directory(root)
    if manifest.digest != expected:
        raise Rejected(
            f"{what} in {root} is not what its record describes",
            expected=expected,
            got=manifest.digest,
            fix="remove the directory and run the release again: the step before will make it anew",
            reason="DIGEST_MISMATCH",
        )
    return manifest


def short(digest: str) -> str:
    """Return the first 12 hexadecimal digits, enough for people to tell two digests apart."""
    return digest.removeprefix(PREFIX)[:12]
