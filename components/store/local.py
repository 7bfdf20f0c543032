"""A directory as object storage, safe for several processes on one machine.

A new object is written to a temporary file, flushed to disk, and linked to its name: the link fails if the name is
taken, so neither a reader nor a crash ever sees half an object. Replacing and deleting happen under one lock of the
store. What belongs to the store itself lies in ``.slipway/`` below its root, where no key can point.
"""

import contextlib
import errno
import fcntl
import io
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from components.core import digest
from components.core.clock import Clock, SystemClock
from components.core.errors import Conflict, Rejected, Unavailable
from components.core.process import from_os_error
from components.store.protocol import Generation, ObjectInfo, Stored, check_key, check_prefix, no_object

TEMPORARY_TTL_S = 3600.0
"""Seconds after which a temporary file is a leftover of a crash: no single object takes that long to write."""

_OWN = ".slipway"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EMLINK, errno.ENOSYS)


class LocalStore:
    """An object store in a directory, made on the first write.

    Args:
        root: The directory.
        clock: Decides when a temporary file is old enough to be swept.
    """

    def __init__(self, root: Path, *, clock: Clock | None = None) -> None:
        self._root = root
        self._clock = clock or SystemClock()
        self._ready = False

    @property
    def uri(self) -> str:
        """The directory's path."""
        return str(self._root)

    def read(self, key: str) -> Stored | None:
        """Return a small object, or None if there is none."""
        path = self._path(key)
        with _naming(path):
            try:
                with path.open("rb") as stream:
                    return Stored(stream.read(), _generation(os.fstat(stream.fileno())))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def download(self, key: str, path: Path) -> None:
        """Copy an object to the new file ``path``."""
        try:
            source = self._path(key).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise no_object(self.uri, key) from None
        except OSError as error:
            raise from_os_error(error) from error
        with source, _naming(path), path.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def create(self, key: str, data: bytes | Path) -> Generation:
        """Write an object that does not exist, or find there exactly these bytes."""
        path = self._path(key)
        with self._temporary(path, data) as temporary, _naming(path):
            made = _generation(temporary.stat())
            if not self._link(temporary, path):
                return self._same_or_conflict(key, data, reason="EXISTS")
            _flush(path.parent)
            return made

    def replace(self, key: str, data: bytes | Path, generation: Generation) -> Generation:
        """Write over exactly one generation of an object, or find there exactly these bytes."""
        path = self._path(key)
        with self._temporary(path, data, above=generation) as temporary, self._locked(), _naming(path):
            if self._now_at(path) != generation:
                return self._same_or_conflict(key, data, reason="CHANGED")
            made = _generation(temporary.stat())
            temporary.replace(path)
            _flush(path.parent)
            return made

    def delete(self, key: str, generation: Generation) -> None:
        """Remove exactly one generation of an object; an object that is gone is no error."""
        path = self._path(key)
        if self._now_at(path) is None:
            return
        with self._locked(), _naming(path):
            found = self._now_at(path)
            if found is None:
                return
            if found != generation:
                raise _conflict(self.uri, key, reason="CHANGED")
            path.unlink()
            _flush(path.parent)
            self._remove_empty_folders(path.parent)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with ``prefix``, in key order."""
        for key, path in self._walk(self._folder(prefix)):
            if key.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    updated = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield ObjectInfo(key, status.st_size, _generation(status), updated)

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield each name that stands between ``prefix`` and a following ``/``, once."""
        folder = self._folder(prefix)
        for name, is_folder in self._entries(folder):
            if is_folder and next(self._walk(f"{folder}/{name}" if folder else name), None):
                yield name

    def _path(self, key: str) -> Path:
        return self._root / _not_ours(check_key(key))

    def _folder(self, prefix: str) -> str:
        return _not_ours(check_prefix(prefix))

    def _entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Yield the names in a folder, sorted as whole keys sort, where a folder's name goes on with ``/``."""
        path = self._root / folder
        try:
            with os.scandir(path) as found:
                rows = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise from_os_error(error) from error
        own = _OWN if not folder else ""
        yield from sorted((row for row in rows if row[0] != own), key=lambda row: row[0] + "/" * row[1])

    def _walk(self, folder: str) -> Iterator[tuple[str, Path]]:
        for name, is_folder in self._entries(folder):
            key = f"{folder}/{name}" if folder else name
            if is_folder:
                yield from self._walk(key)
            else:
                yield key, self._root / key

    def _now_at(self, path: Path) -> Generation | None:
        try:
            return _generation(path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _same_or_conflict(self, key: str, data: bytes | Path, *, reason: str) -> Generation:
        path = self._path(key)
        wanted = digest.of_file(data).digest if isinstance(data, Path) else digest.of_bytes(data)
        try:
            status = path.stat()
            same = digest.of_file(path).digest == wanted
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            same = False
        if not same:
            raise _conflict(self.uri, key, reason=reason)
        return _generation(status)

    @contextlib.contextmanager
    def _temporary(self, path: Path, data: bytes | Path, *, above: int = 0) -> Iterator[Path]:
        self._prepare()
        temporary = self._root / _OWN / "tmp" / f"{secrets.token_hex(8)}"
        try:
            with _source(data) as source, _naming(path), temporary.open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            _stamp(temporary, above=above)
            yield temporary
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._prepare()
        lock = self._root / _OWN / "lock"
        with _naming(lock), lock.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _prepare(self) -> None:
        if self._ready:
            return
        temporaries = self._root / _OWN / "tmp"
        with _naming(self._root):
            _make_folder(temporaries)
            self._sweep(temporaries)
        self._ready = True

    def _sweep(self, temporaries: Path) -> None:
        oldest = self._clock.now().timestamp() - TEMPORARY_TTL_S
        for path in temporaries.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _link(self, temporary: Path, path: Path) -> bool:
        """Give the temporary file its name; False if the name is taken."""
        for _ in range(3):  # another process may remove an empty folder between its making and its use
            _make_folder(path.parent)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise _no_links(path.parent, error) from error
                raise
            return True
        raise Unavailable(f"{path}: its folder goes away again and again", reason="DISK")

    def _remove_empty_folders(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise Rejected(
            f"{folder} cannot be made",
            expected="a directory, or a path where one can be made",
            got="a file is in the way",
            reason="NO_DIRECTORY",
        ) from error


def _no_links(folder: Path, error: OSError) -> Rejected:
    return Rejected(
        f"{folder}: this file system cannot link files",
        expected="a file system with hard links: without them two writers could overwrite each other",
        got=error.strerror or "",
        fix="put the store on a local disk",
        reason="NO_HARD_LINKS",
    )


def _not_ours(key: str) -> str:
    if key.split("/", 1)[0] == _OWN:
        raise Rejected(f"{key} is the store's own", expected=f"a key outside {_OWN}/", reason="BAD_KEY")
    return key


def _generation(status: os.stat_result) -> Generation:
    return Generation(status.st_mtime_ns)


def _stamp(path: Path, *, above: int) -> None:
    """Set the time of ``path``: finer than the kernel does, and above ``above`` even if the clock went back."""
    for step_ns in (1, 1_000, 1_000_000_000, 2_000_000_000):
        # The system's own time: a generation is an identity, not a time that anybody reads.
        wanted = max(time.time_ns(), above + step_ns)
        os.utime(path, ns=(wanted, wanted))
        if path.stat().st_mtime_ns > above:  # a file system may round
            return


def _flush(folder: Path) -> None:
    """Make a new name in ``folder`` survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _source(data: bytes | Path) -> IO[bytes]:
    if isinstance(data, bytes):
        return io.BytesIO(data)
    try:
        return data.open("rb")
    except OSError as error:
        raise from_os_error(error) from error


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into ours, naming the path a person knows."""
    try:
        yield
    except OSError as error:
        raise from_os_error(OSError(error.errno, error.strerror, str(path))) from error


def _conflict(uri: str, key: str, *, reason: str) -> Conflict:
    got = "other bytes are there" if reason == "EXISTS" else "it was changed or removed in between"
    return Conflict(f"{uri}: {key} was written by somebody else", got=got, reason=reason)
