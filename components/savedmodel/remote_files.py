"""The files of a SavedModel in object storage: listed without being fetched, and fetched one by one when asked for.

A published version is what its manifest says, and every fetched byte is compared with it. Any other folder of a bucket
that holds a SavedModel is taken as it is.
"""

from collections.abc import Mapping
from pathlib import Path

from components.core import digest as digests
from components.core.errors import Rejected
from components.savedmodel.files import ModelFiles, no_saved_model
from components.store import layout, versions
from components.store.open import open_store
from components.store.protocol import ObjectStore
from components.store.versions import VersionManifest


def remote(where: str, folder: Path) -> ModelFiles:
    """Return the files of a model in a store.

    Args:
        where: URI of a version (``STORE/MODEL/N``), or of any folder in a store.
        folder: An empty directory for what is fetched.

    Raises:
        Rejected: NO_SAVED_MODEL, STORE_URI or BAD_MANIFEST; CORRUPT_VERSION when a file is asked for.
        Unavailable: The storage.
    """
    return _published(where, folder) or _folder(where, folder)


class _Fetched:
    """Files of a store, each downloaded at most once."""

    def __init__(self, name: str, store: ObjectStore, prefix: str, sizes: Mapping[str, int], folder: Path) -> None:
        self.name = name
        self._store, self._prefix, self._sizes, self._folder = store, prefix, sizes, folder

    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def local(self, path: str) -> Path:
        target = self._folder / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._store.download(self._prefix + path, target)
        return target


class _Verified(_Fetched):
    """Files of a published version, each compared with the version's manifest."""

    def __init__(self, name: str, store: ObjectStore, manifest: VersionManifest, folder: Path) -> None:
        sizes = {path: file.size for path, file in sorted(manifest.files.items())}
        super().__init__(name, store, layout.files(manifest.model, manifest.version), sizes, folder)
        self._manifest = manifest

    def local(self, path: str) -> Path:
        target = super().local(path)
        found, promised = digests.of_file(target), self._manifest.content.files[path]
        if found != promised:
            raise Rejected(
                f"{self.name}: {path} is not what the version's manifest says",
                expected=f"{promised.size} bytes, {promised.digest}",
                got=f"{found.size} bytes, {found.digest}",
                fix="do not serve this version; find out who wrote over it",
                reason="CORRUPT_VERSION",
            )
        return target


def _published(where: str, folder: Path) -> ModelFiles | None:
    rest, _, number = where.rstrip("/").rpartition("/")
    store_uri, _, model = rest.rpartition("/")
    if not (number.isascii() and number.isdigit() and layout.is_model(model) and store_uri.rstrip("/:")):
        return None
    if store_uri in ("gs:/", "gs:"):  # gs://BUCKET/N: no room for a model's name
        return None
    store = open_store(store_uri, base_dir=Path.cwd())
    manifest = versions.find(store, model, int(number))
    return _Verified(where, store, manifest, folder) if manifest else None


def _folder(where: str, folder: Path) -> ModelFiles:
    store = open_store(where.rstrip("/"), base_dir=Path.cwd())
    sizes = {row.key: row.size for row in store.list("")}
    if not sizes:
        raise no_saved_model(where, "nothing: no published version, and no folder with files")
    return _Fetched(where, store, "", sizes, folder)
