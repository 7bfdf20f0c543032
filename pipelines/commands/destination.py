"""Where a command writes a directory: never over one that is there, unless told so."""

from pathlib import Path

from components.core.errors import Rejected


def require_free(target: Path, *, overwrite: bool) -> None:
    """Refuse before any work what would replace something.

    Raises:
        Rejected: FILE_EXISTS.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise Rejected(
            f"{target} is no directory",
            expected="a path where nothing is, or a directory with --overwrite",
            got="a link" if target.is_symlink() else "a file",
            reason="FILE_EXISTS",
        )
    if target.exists() and not overwrite and any(target.iterdir()):
        raise Rejected(
            f"{target} is there already",
            expected="a path where nothing is",
            got="a directory that is not empty",
            fix="--overwrite replaces it",
            reason="FILE_EXISTS",
        )
