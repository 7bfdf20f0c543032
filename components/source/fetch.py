"""Fetches a model that somebody else made, and proves that it is the one that was asked for.

Whatever the scheme, the bytes land in a staging directory, are digested there, and only then get their place: a wrong
digest leaves nothing behind. What is fetched is not loaded, run or parsed here.
"""

import contextlib
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from components.core import digest
from components.core.clock import Clock
from components.core.digest import Digest
from components.core.errors import Rejected, Unavailable
from components.core.process import Progress, silent
from components.core.spec import Fetch
from components.core.staging import staged
from components.source import archives
from components.source.download import download
from components.store.open import open_store
from components.store.protocol import check_key


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """What was fetched: its URI without credentials or query, and the digest that the spec may pin."""

    origin: str
    sha256: Digest


def fetch(spec: Fetch, *, base_dir: Path, out_dir: Path, clock: Clock, progress: Progress = silent) -> FetchedModel:
    """Fetch a model directory, model file or archive into ``out_dir``.

    Archives are unpacked; a model file lies in ``out_dir`` under its own name.

    Args:
        spec: What to fetch, with its limits.
        base_dir: Directory that a relative path is relative to.
        out_dir: Directory to make; it is there whole or not at all.
        clock: For the deadline.
        progress: Is told what is being done.

    Raises:
        Rejected: NOT_FOUND, DIGEST_MISMATCH, TOO_LARGE, an ARCHIVE_… code, or a scheme that cannot be fetched.
        Unavailable: The server or the disk, within the spec's deadline.
    """
    scheme = urlsplit(spec.uri).scheme
    with staged(out_dir) as folder:
        if scheme == "https":
            origin, found = _fetch_https(spec, folder, clock, progress)
        elif scheme == "gs":
            origin, found = _fetch_gs(spec, folder, clock, progress)
        else:
            path = Path(unquote(urlsplit(spec.uri).path)) if scheme == "file" else Path(spec.uri)
            origin, found = _fetch_path(spec, base_dir / path, folder, clock, progress)
    return FetchedModel(origin, found)


def _fetch_gs(spec: Fetch, folder: Path, clock: Clock, progress: Progress) -> tuple[str, Digest]:
    """Fetch one object, or all objects of a folder; an object of exactly that name goes first."""
    bucket, _, path = spec.uri.removeprefix("gs://").partition("/")
    store, path = open_store(f"gs://{bucket}", base_dir=Path()), path.strip("/")
    origin = f"gs://{bucket}/{path}"
    first = next(store.list(path), None) if path else None
    if first is not None and first.key == path:
        if first.size > spec.max_bytes:
            raise _too_large(origin, first.size, spec.max_bytes)
        with _held(folder) as held:
            store.download(path, held)
            return origin, _take_file(spec, origin, held, PurePosixPath(path).name, folder, progress)
    prefix = f"{path}/" if path else ""
    objects = {each.key.removeprefix(prefix): each for each in store.list(prefix) if not each.key.endswith("/")}
    _require_a_tree(origin, objects)
    if (size := sum(each.size for each in objects.values())) > spec.max_bytes:
        raise _too_large(origin, size, spec.max_bytes)
    deadline = clock.monotonic_s() + spec.timeout_s
    for name, each in objects.items():
        _require_time(spec, clock, deadline, name)
        progress(f"fetching {name}")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        store.download(each.key, folder / name)
    found = digest.of_directory(folder)
    if found.size > spec.max_bytes:  # an object was replaced by a larger one while it was fetched
        raise _too_large(origin, found.size, spec.max_bytes)
    _require(spec, origin, found.digest)
    return origin, found.digest


def _require_a_tree(origin: str, names: Collection[str]) -> None:
    """A bucket is flat: it can hold nothing under a name, and both ``a`` and ``a/b``, which no directory can."""
    if not names:
        raise Rejected(
            f"{origin} is not there",
            expected="an object, or a folder of them",
            got="no object of that name or below it",
            fix="correct source.fetch.uri",
            reason="NOT_FOUND",
        )
    for name in names:
        check_key(name)
        if both := [str(parent) for parent in PurePosixPath(name).parents if str(parent) in names]:
            raise Rejected(
                f"{origin} cannot be a directory", got=f"both {both[0]} and {name} are objects", reason="BAD_KEY"
            )


def _fetch_https(spec: Fetch, folder: Path, clock: Clock, progress: Progress) -> tuple[str, Digest]:
    parts = urlsplit(spec.uri)
    origin = f"https://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
    name = PurePosixPath(unquote(parts.path)).name
    name = name if name not in ("", "..") and "/" not in name and "\0" not in name else "model"
    with _held(folder) as held:
        download(spec.uri, held, max_bytes=spec.max_bytes, timeout_s=spec.timeout_s, clock=clock, progress=progress)
        return origin, _take_file(spec, origin, held, name, folder, progress)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Path]:
    """A place for one file beside the others, never among them: an archive may hold a member of any name."""
    held = folder.with_name(folder.name + ".download")
    held.unlink(missing_ok=True)
    try:
        yield held
    finally:
        held.unlink(missing_ok=True)


def _take_file(spec: Fetch, origin: str, file: Path, name: str, folder: Path, progress: Progress) -> Digest:
    found = digest.of_file(file).digest
    _require(spec, origin, found)
    _place(file, name, folder, spec, progress)
    return found


def _fetch_path(spec: Fetch, path: Path, folder: Path, clock: Clock, progress: Progress) -> tuple[str, Digest]:
    if path.is_dir():
        progress(f"copying {path.name}")
        found = _copy_directory(spec, path, folder, clock)
    elif path.is_file():
        found = _take_file(spec, spec.uri, path, path.name, folder, progress)
    else:
        raise Rejected(
            f"{path} is not there",
            expected="a model directory, a model file, or an archive of one",
            got="no such file or directory",
            fix="correct source.fetch.uri; a relative path is relative to the spec's folder",
            reason="NOT_FOUND",
        )
    return spec.uri, found


def _copy_directory(spec: Fetch, source: Path, folder: Path, clock: Clock) -> Digest:
    """Copy a directory and return the digest of the copy: of what goes on, whatever the source does meanwhile."""
    manifest = digest.of_directory(source)
    if manifest.size > spec.max_bytes:
        raise _too_large(source.name, manifest.size, spec.max_bytes)
    deadline = clock.monotonic_s() + spec.timeout_s
    for name in manifest.files:
        _require_time(spec, clock, deadline, name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name, follow_symlinks=False)
    found = digest.of_directory(folder).digest
    _require(spec, spec.uri, found)
    return found


def _require_time(spec: Fetch, clock: Clock, deadline: float, name: str) -> None:
    if clock.monotonic_s() > deadline:
        raise Unavailable(
            f"{spec.uri} was not fetched within {spec.timeout_s} s",
            got=f"stopped at {name}",
            fix="raise source.fetch.timeout_s",
            reason="TIMEOUT",
        )


def _place(file: Path, name: str, folder: Path, spec: Fetch, progress: Progress) -> None:
    kind = archives.kind_of(file, name)
    if kind is not None:
        progress(f"unpacking {name}")
        archives.unpack(file, folder, kind=kind, max_bytes=spec.max_bytes)
    elif (size := file.stat().st_size) > spec.max_bytes:
        raise _too_large(name, size, spec.max_bytes)
    else:
        shutil.copyfile(file, folder / name)


def _too_large(name: str, size: int, limit: int) -> Rejected:
    return Rejected(
        f"{name} is too large",
        expected=f"at most {limit} bytes",
        got=f"{size} bytes",
        fix="raise source.fetch.max_bytes if that much is right",
        reason="TOO_LARGE",
    )


def _require(spec: Fetch, origin: str, found: Digest) -> None:
    if spec.sha256 is None:
        return
    wanted = digest.PREFIX + spec.sha256.removeprefix(digest.PREFIX)
    if found != wanted:
        raise Rejected(
            f"{origin} is not the model that was asked for",
            expected=wanted,
            got=found,
            fix="find out why it changed before you change source.fetch.sha256",
            reason="DIGEST_MISMATCH",
        )
