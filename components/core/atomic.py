"""Write a small file whole or not at all: a reader, or a run after a crash, never sees half of it."""

from pathlib import Path

from components.core.process import from_os_error


def write_text(path: Path, text: str) -> None:
    """Make ``path`` hold ``text``; folders above it are made.

    Raises:
        Unavailable: The disk is full, read-only or not ours; the message names the file.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        error.filename = error.filename or str(path)
        raise from_os_error(error) from error
