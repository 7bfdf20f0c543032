"""From a store's URI to the store."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.core.errors import Rejected
from components.store.gcs import GcsSettings, GcsStore
from components.store.local import LocalStore
from components.store.protocol import ObjectStore, check_key

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")
_BUCKET = re.compile(r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$")


def open_store(uri: str, *, base_dir: Path, settings: GcsSettings | None = None) -> ObjectStore:
    """Return the store at ``uri``. Nothing is read or written yet.

    Args:
        uri: ``gs://BUCKET`` or ``gs://BUCKET/PREFIX``, ``file:///PATH``, or a path.
        base_dir: Directory that a relative path starts from: the spec's.
        settings: Timeouts and retries of Google Cloud Storage; the defaults if not given.

    Raises:
        Rejected: It is none of these (``STORE_URI``), or no credentials are found (``NO_CREDENTIALS``).
    """
    if uri.startswith("gs://"):
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        prefix = prefix.strip("/")
        if not _BUCKET.match(bucket):
            raise _bad(uri, "no bucket name of 3 to 222 lower-case letters, digits, dashes, dots, underscores")
        return GcsStore.connect(bucket, check_key(prefix) if prefix else "", settings or GcsSettings())
    if uri.startswith("file:"):
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise _bad(uri, "a file URI of another host, or one without an absolute path")
        return LocalStore(Path(unquote(parts.path)))
    if not uri.strip() or "\0" in uri or _SCHEME.match(uri):
        raise _bad(uri, "an unknown scheme" if uri.strip() else "nothing")
    return LocalStore(base_dir / Path(uri).expanduser())


def _bad(uri: str, got: str) -> Rejected:
    return Rejected(
        f"{uri!r} is not a store",
        expected="a path, file:///PATH, or gs://BUCKET/PREFIX",
        got=got,
        fix="correct store.uri",
        reason="STORE_URI",
    )
