"""From what a user writes to a model's files. Imports nothing heavy for a directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.savedmodel.files import DirectoryFiles, ModelFiles, no_saved_model, what_is_there

_SCHEMES = ("gs://", "file:")


@contextmanager
def open_model(where: str) -> Iterator[ModelFiles]:
    """Yield the files of the model at ``where``; what is fetched is gone afterwards.

    Args:
        where: A directory, the URI of a version (``STORE/MODEL/N``), or of a folder in a bucket.

    Raises:
        Rejected: NO_SAVED_MODEL, STORE_URI or BAD_MANIFEST.
        Unavailable: The storage.
    """
    if not where.startswith(_SCHEMES):
        path = Path(where)
        if not path.is_dir():
            raise no_saved_model(where, what_is_there(path))
        yield DirectoryFiles(path)
        return
    # 300 ms of storage clients and their models, which a directory should not pay
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from components.savedmodel.remote_files import remote  # noqa: PLC0415

    with TemporaryDirectory(prefix="slipway-") as folder:
        yield remote(where, Path(folder))
