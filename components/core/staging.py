"""A directory that is there whole or not at all.

What a step writes grows under a hidden name beside its place and is renamed there at the end. The hidden name is always
the same, so what a killed run left is removed by the next one. One writer at a time:
the caller holds the lock.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from components.core.process import from_os_error


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield an empty directory that becomes ``target`` when the block ends, and vanishes when it fails.

    Args:
        target: The directory to make; one that is there already is replaced, and stays untouched on failure.

    Raises:
        Unavailable: The disk is full, read-only or not ours; nothing is left behind.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        partial.mkdir()
        yield partial
        _replace(partial, target)
    except OSError as error:
        raise from_os_error(error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(partial: Path, target: Path) -> None:
    former = target.with_name(f".{target.name}.replaced")
    _remove(former)
    if target.exists():
        target.rename(former)
    partial.rename(target)
    shutil.rmtree(former, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
