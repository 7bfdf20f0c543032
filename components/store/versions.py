"""Versions as a reader sees them: a number exists once its manifest does, and its bytes are what the manifest says."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from components.core import digest as digests
from components.core.clock import Clock
from components.core.digest import Digest, FileEntry, FileManifest
from components.core.errors import Conflict, Rejected, Unavailable
from components.core.process import Progress, from_os_error, silent
from components.store import layout
from components.store.parallel import each
from components.store.protocol import Generation, ObjectStore, check_key
from manifests.spec import Frozen


class StoredFile(Frozen):
    """One file of a version."""

    size: int = Field(ge=0, description="Bytes.")
    digest: Digest = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="sha256 of its content.")


class VersionManifest(Frozen):
    """The object that commits a version: which bytes the number stands for, for ever."""

    schema_version: Literal[1] = 1
    kind: Literal["Version"] = "Version"
    model: str
    version: int = Field(ge=1)
    digest: Digest = Field(description="Digest of the file manifest: the one digest of the model directory.")
    size: int = Field(description="Bytes of all files.", ge=0)
    files: Mapping[str, StoredFile] = Field(description="By path below the version's directory.", min_length=1)
    release: str = Field(description="Id of the release that published it.")
    created_at: datetime = Field(description="UTC.")

    @property
    def content(self) -> FileManifest:
        """The files as the core knows them."""
        return FileManifest({path: FileEntry(file.size, file.digest) for path, file in self.files.items()})

    @model_validator(mode="after")
    def _is_about_its_files(self) -> Self:
        for path in self.files:
            try:
                check_key(path)
            except Rejected as error:
                raise ValueError(error.what) from error
        if self.content.digest != self.digest or self.content.size != self.size:
            raise ValueError("digest and size are not those of the files listed")
        return self

    @classmethod
    def of(cls, content: FileManifest, *, model: str, version: int, release: str, created_at: datetime) -> Self:
        """Return the manifest that commits ``content`` as ``version``."""
        return cls(
            model=model,
            version=version,
            digest=content.digest,
            size=content.size,
            files={path: StoredFile(size=file.size, digest=file.digest) for path, file in content.files.items()},
            release=release,
            created_at=created_at,
        )

    def to_json(self) -> bytes:
        """Return the manifest as indented JSON with a final newline."""
        return (self.model_dump_json(indent=2) + "\n").encode()


class Alias(Frozen):
    """A name that stands for a version until it is changed."""

    schema_version: Literal[1] = 1
    kind: Literal["Alias"] = "Alias"
    name: str
    version: int = Field(ge=1)
    previous: int | None = Field(description="Version it stood for before; none if it is new.")
    release: str = Field(description="Id of the release that set it.")
    set_at: datetime = Field(description="UTC.")


def committed(store: ObjectStore, model: str) -> list[VersionManifest]:
    """Return the manifests of all versions of a model that a reader may see, in ascending order.

    A manifest that does not verify commits nothing, so its number is not among them; :func:`manifest` says why.
    """
    prefix = layout.manifests(model)
    names = (row.key.removeprefix(prefix).removesuffix(".json") for row in store.list(prefix))
    found = each(
        lambda number: _verifying(store, model, number), sorted(int(name) for name in names if _is_number(name))
    )
    return [manifest for manifest in found if manifest is not None]


def manifest(store: ObjectStore, model: str, version: int) -> VersionManifest:
    """Return the manifest of a committed version.

    Raises:
        Rejected: The version does not exist (``NO_VERSION``), or its manifest does not verify (``BAD_MANIFEST``).
    """
    found = find(store, model, version)
    if found is None:
        raise Rejected(
            f"{store.uri} has no version {version} of {model}",
            expected="a committed version",
            got="no manifest: never published, or not to the end",
            reason="NO_VERSION",
        )
    return found


def find(store: ObjectStore, model: str, version: int) -> VersionManifest | None:
    """Return the manifest of a version, or None if it is not committed.

    Raises:
        Rejected: There is a manifest, and it does not verify (``BAD_MANIFEST``).
    """
    stored = store.read(layout.manifest(model, version))
    if stored is None:
        return None
    try:
        found = VersionManifest.model_validate_json(stored.data)
    except ValueError as error:
        raise _bad_manifest(store, model, version, str(error).splitlines()[-1].strip()) from error
    if (found.model, found.version) != (model, version):
        raise _bad_manifest(store, model, version, f"it is about {found.model} {found.version}")
    return found


def pull(
    store: ObjectStore,
    model: str,
    version: int,
    out_dir: Path,
    *,
    digest: Digest | None,
    progress: Progress = silent,
) -> VersionManifest:
    """Fill ``out_dir`` with a version, every byte verified, or leave nothing behind.

    Files are fetched into a directory beside ``out_dir``, which takes that name when it is complete. An ``out_dir``
    that holds exactly this version already is left as it is.

    Args:
        store: Where the version is.
        model: Model name.
        version: Its number.
        out_dir: Directory to make; it must not exist, or be empty, or hold this version.
        digest: Digest the version must have; None trusts the manifest.
        progress: Is told what is fetched.

    Raises:
        Rejected: No such version (``NO_VERSION``), another digest than asked for (``DIGEST_MISMATCH``), bytes that are
            not those of the manifest (``CORRUPT_VERSION``), or ``out_dir`` holds something else (``NOT_EMPTY``).
        Unavailable: The store or the disk fails.
    """
    out_dir = out_dir.absolute()
    wanted = manifest(store, model, version)
    if digest is not None and wanted.digest != digest:
        raise Rejected(
            f"version {version} of {model} in {store.uri} is not the one asked for",
            expected=digest,
            got=wanted.digest,
            reason="DIGEST_MISMATCH",
        )
    try:
        if _is_there(out_dir, wanted):
            progress(f"{model} {version} is there already")
            return wanted
        with _staging(out_dir) as staging:
            progress(f"fetching {model} {version}: {len(wanted.files)} files, {wanted.size} bytes")
            _fetch(store, wanted, staging)
            _take_place(staging, out_dir, wanted)
    except OSError as error:
        raise from_os_error(error) from error
    return wanted


def alias(store: ObjectStore, model: str, name: str) -> Alias | None:
    """Return what an alias stands for, or None if it was never set.

    Raises:
        Rejected: The object is no alias (``BAD_ALIAS``).
    """
    current, _ = _alias(store, model, name)
    return current


def set_alias(
    store: ObjectStore, model: str, name: str, version: int, *, expected: int | None, release: str, clock: Clock
) -> Alias:
    """Make an alias stand for a committed version. Setting what this release has set already changes nothing.

    Args:
        store: Where the versions are.
        model: Model name.
        name: Such as ``stable``.
        version: A committed version.
        expected: Version it stands for now, as the caller believes; None if it does not exist.
        release: Id of the release on whose behalf.
        clock: For the stamp.

    Raises:
        Conflict: It stands for another version than ``expected`` (``ALIAS_MOVED``), or was set at the same time.
        Rejected: The version is not committed.
    """
    manifest(store, model, version)
    current, generation = _alias(store, model, name)
    if current is not None and (current.version, current.release) == (version, release):
        return current
    if (current.version if current else None) != expected:
        raise Conflict(
            f"{name} of {model} is not what it was",
            expected=f"version {expected}" if expected else "no version",
            got=f"version {current.version}, set by release {current.release}" if current else "no version",
            reason="ALIAS_MOVED",
        )
    made = Alias(name=name, version=version, previous=expected, release=release, set_at=clock.now())
    data = (made.model_dump_json(indent=2) + "\n").encode()
    key = layout.alias(model, name)
    if generation is None:
        store.create(key, data)
    else:
        store.replace(key, data, generation)
    return made


def _alias(store: ObjectStore, model: str, name: str) -> tuple[Alias | None, Generation | None]:
    stored = store.read(layout.alias(model, name))
    if stored is None:
        return None, None
    try:
        return Alias.model_validate_json(stored.data), stored.generation
    except ValueError as error:
        raise Rejected(
            f"{store.uri}/{layout.alias(model, name)} is no alias", got=str(error).splitlines()[-1], reason="BAD_ALIAS"
        ) from error


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and name[0] != "0"


def _verifying(store: ObjectStore, model: str, version: int) -> VersionManifest | None:
    try:
        return find(store, model, version)
    except Rejected:
        return None


def _bad_manifest(store: ObjectStore, model: str, version: int, got: str) -> Rejected:
    return Rejected(
        f"{store.uri}: the manifest of {model} {version} does not verify",
        expected="the manifest that publish wrote",
        got=got,
        fix="do not serve this version; find out who wrote over it",
        reason="BAD_MANIFEST",
    )


def _is_there(out_dir: Path, wanted: VersionManifest) -> bool:
    if not out_dir.exists() and not out_dir.is_symlink():
        return False
    if out_dir.is_dir() and not out_dir.is_symlink() and not any(out_dir.iterdir()):
        return False
    try:
        if digests.of_directory(out_dir).digest == wanted.digest:
            return True
    except Rejected:
        pass
    raise Rejected(
        f"{out_dir} holds something else",
        expected=f"an empty or missing directory, or version {wanted.version} of {wanted.model}",
        got="other files",
        fix="name another directory, or remove this one",
        reason="NOT_EMPTY",
    )


def _take_place(staging: Path, out_dir: Path, wanted: VersionManifest) -> None:
    try:
        staging.rename(out_dir)
    except OSError:
        if not _is_there(out_dir, wanted):  # another process may have pulled the same version meanwhile
            raise


@contextlib.contextmanager
def _staging(out_dir: Path) -> Iterator[Path]:
    """Make a directory beside ``out_dir``; remove it on the way out, and those that a killed process left."""
    parent = out_dir.parent
    parent.mkdir(parents=True, exist_ok=True)
    start = f".{out_dir.name}.pulling-"
    for leftover in parent.glob(f"{start}*"):
        with contextlib.suppress(OSError), _held(leftover):
            shutil.rmtree(leftover, ignore_errors=True)
    with contextlib.ExitStack() as held:
        staging = _new_and_held(parent, start, held)
        try:
            staging.chmod(0o755)
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _new_and_held(parent: Path, start: str, held: contextlib.ExitStack) -> Path:
    for _ in range(100):  # another process may take a directory for a leftover in the moment before it is held
        path = Path(tempfile.mkdtemp(prefix=start, dir=parent))
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            held.enter_context(_held(path))
            path.stat()
            return path
    raise Unavailable(f"{parent}: directories go away as soon as they are made", reason="DISK")


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock that says somebody is filling ``folder``; the kernel lets go of it when that process ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _fetch(store: ObjectStore, wanted: VersionManifest, staging: Path) -> None:
    prefix = layout.files(wanted.model, wanted.version)
    content = wanted.content.files
    for path in content:
        (staging / path).parent.mkdir(parents=True, exist_ok=True)

    def fetch(path: str) -> None:
        store.download(prefix + path, staging / path)
        found, promised = digests.of_file(staging / path), content[path]
        if found != promised:
            raise Rejected(
                f"{store.uri}: {prefix}{path} is not what the manifest of version {wanted.version} says",
                expected=f"{promised.size} bytes, {promised.digest}",
                got=f"{found.size} bytes, {found.digest}",
                fix="do not serve this version; find out who wrote over it",
                reason="CORRUPT_VERSION",
            )

    each(fetch, sorted(content))
