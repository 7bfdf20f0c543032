"""Google Cloud Storage through google-cloud-storage: every write carries a generation, every transfer a crc32c.

What the client does by itself, and what it must not be left to do:

* It retries within a deadline. A retried write whose first answer was lost reports 412 for its own write, so a 412 is
  settled by reading back: equal bytes are success.
* It raises DataCorruption for a flipped byte and does not try again: we do, a few times. It does not look at all once a
  download went on after an interruption: we do.
* It checks a resumable upload only after it was committed, and then deletes it without a precondition: we give the
  server the checksum beforehand, so that damaged bytes are never committed.

``STORAGE_EMULATOR_HOST`` is read by the client library itself.
"""

import base64
import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from components.core.errors import Conflict, Rejected, Unavailable
from components.core.process import from_os_error
from components.store.gcs_errors import Corrupt, Missing, PreconditionFailed, explained, no_bucket
from components.store.protocol import Generation, ObjectInfo, Stored, check_key, check_prefix, no_object

_T = TypeVar("_T")

_CHECKED_BY_CLIENT_BYTES = 8 * 1024 * 1024
"""Up to this size the client sends one request with the checksum in it (its ``_MAX_MULTIPART_SIZE``)."""


@dataclass(frozen=True, slots=True)
class GcsSettings:
    """How patient the client is.

    Args:
        connect_timeout_s: Seconds to open a connection.
        read_timeout_s: Seconds without a byte after which a request is given up.
        first_delay_s: Seconds before the first retry; each further one waits twice as long, with jitter.
        longest_delay_s: Seconds between two retries at most.
        deadline_s: Seconds after which one call is not retried any more.
        transfers: Times that a transfer whose checksum is wrong is made.
        chunk_bytes: Bytes of a resumable upload that are in memory at once, a multiple of 256 KiB.
        page_size: Rows of one page of a listing.
    """

    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    first_delay_s: float = 0.5
    longest_delay_s: float = 20.0
    deadline_s: float = 120.0
    transfers: int = 5
    chunk_bytes: int = 8 * 1024 * 1024
    page_size: int = 1000


class GcsStore:
    """A bucket, or what lies below a prefix of it. Make it with :meth:`connect`."""

    def __init__(self, client: Any, bucket: str, prefix: str, settings: GcsSettings) -> None:  # noqa: ANN401 - untyped library
        from google.cloud.storage.retry import DEFAULT_RETRY  # noqa: PLC0415 - half a second that a local store does without

        self._client = client
        self._bucket = client.bucket(bucket)
        self._prefix = f"{prefix}/" if prefix else ""
        self._settings = settings
        delays = DEFAULT_RETRY.with_delay(settings.first_delay_s, settings.longest_delay_s, 2.0)
        self._patience = {
            "timeout": (settings.connect_timeout_s, settings.read_timeout_s),
            "retry": delays.with_timeout(settings.deadline_s),
        }

    @classmethod
    def connect(cls, bucket: str, prefix: str, settings: GcsSettings) -> "GcsStore":
        """Return the store, with the credentials that Google's libraries find by themselves.

        Raises:
            Rejected: The library is not installed, or there are no credentials.
        """
        try:
            from google.auth.exceptions import DefaultCredentialsError  # noqa: PLC0415 - see above
            from google.cloud.storage import Client  # noqa: PLC0415 - see above
        except ImportError as error:
            raise Rejected(
                f"gs://{bucket} needs google-cloud-storage",
                expected="the extra `gcs`",
                got=str(error),
                fix="pip install 'slipway[gcs]'",
                reason="MISSING_EXTRA",
            ) from error
        try:
            # The project is only billed for making buckets, which Slipway never does.
            return cls(Client(project="none"), bucket, prefix, settings)
        except DefaultCredentialsError as error:
            raise Rejected(
                f"gs://{bucket}: no Google credentials",
                expected="application default credentials",
                got=str(error).splitlines()[0],
                fix="gcloud auth application-default login, or run under a service account",
                reason="NO_CREDENTIALS",
            ) from error

    @property
    def uri(self) -> str:
        """``gs://BUCKET/PREFIX``."""
        return f"gs://{self._bucket.name}/{self._prefix}".rstrip("/")

    def read(self, key: str) -> Stored | None:
        """Return a small object, or None if there is none."""
        try:
            return self._transfer(key, lambda: self._get(key))
        except Missing:
            return None

    def download(self, key: str, path: Path) -> None:
        """Write an object to the new file ``path`` in chunks, checked by crc32c."""
        try:
            path.touch(exist_ok=False)
            self._transfer(key, lambda: self._get_file(key, path))
        except Missing:
            raise no_object(self.uri, key) from None
        except OSError as error:
            raise from_os_error(error) from error

    def create(self, key: str, data: bytes | Path) -> Generation:
        """Write an object that does not exist, or find there exactly these bytes."""
        return self._write(key, data, generation=0, reason="EXISTS")

    def replace(self, key: str, data: bytes | Path, generation: Generation) -> Generation:
        """Write over exactly one generation of an object, or find there exactly these bytes."""
        return self._write(key, data, generation=generation, reason="CHANGED")

    def delete(self, key: str, generation: Generation) -> None:
        """Remove exactly one generation of an object; an object that is gone is no error."""
        blob = self._blob(key)
        try:
            with explained(self.uri, key):
                blob.delete(if_generation_match=generation, **self._patience)
        except Missing:
            return
        except PreconditionFailed:
            raise self._conflict(key, "CHANGED") from None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with ``prefix``, in key order, a page at a time as they are asked for."""
        for page in self._pages(prefix, delimiter=None):
            for blob in page:
                key = blob.name.removeprefix(self._prefix)
                yield ObjectInfo(key, int(blob.size), Generation(int(blob.generation)), blob.updated)

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield each name that stands between ``prefix`` and a following ``/``, once."""
        start = len(self._prefix) + len(prefix)
        for page in self._pages(prefix, delimiter="/"):
            for found in sorted(page.prefixes):
                yield found[start:].rstrip("/")

    def _pages(self, prefix: str, *, delimiter: str | None) -> Iterator[Any]:
        check_prefix(prefix)
        wanted = "prefixes,nextPageToken" if delimiter else "items(name,size,generation,updated),nextPageToken"
        pages = self._client.list_blobs(
            self._bucket,
            prefix=self._prefix + prefix,
            delimiter=delimiter,
            page_size=self._settings.page_size,
            fields=wanted,
            **self._patience,
        ).pages
        while True:
            try:
                with explained(self.uri, prefix or "/"):
                    page = next(pages, None)
            except Missing:
                raise no_bucket(self.uri) from None
            if page is None:
                return
            yield page

    def _blob(self, key: str, *, chunk_size: int | None = None) -> Any:  # noqa: ANN401 - untyped library
        return self._bucket.blob(self._prefix + check_key(key), chunk_size=chunk_size)

    # A blob object remembers the generation it met, so every attempt has one of its own.

    def _get(self, key: str) -> Stored:
        blob = self._blob(key)
        data: bytes = blob.download_as_bytes(raw_download=True, checksum="crc32c", **self._patience)
        _require_checksum(blob, data)
        return Stored(data, Generation(int(blob.generation)))

    def _get_file(self, key: str, path: Path) -> None:
        blob = self._blob(key)
        with path.open("wb") as stream:
            blob.download_to_file(stream, raw_download=True, checksum="crc32c", **self._patience)
        _require_checksum(blob, path)

    def _write(self, key: str, data: bytes | Path, *, generation: int, reason: str) -> Generation:
        try:
            return self._transfer(key, lambda: self._put(key, data, generation))
        except PreconditionFailed:
            return self._same_or_conflict(key, data, reason)
        except Missing:
            # A write meets 404 if there is no bucket; if the object is gone a precondition fails instead.
            raise no_bucket(self.uri) from None

    def _put(self, key: str, data: bytes | Path, generation: int) -> Generation:
        small = (len(data) if isinstance(data, bytes) else data.stat().st_size) <= _CHECKED_BY_CLIENT_BYTES
        blob = self._blob(key, chunk_size=None if small else self._settings.chunk_bytes)
        with _opened(data) as (stream, size):
            blob.upload_from_file(
                stream,
                size=size,
                content_type="application/octet-stream",
                if_generation_match=generation,
                # Either way the server knows the checksum before it commits, and refuses other bytes.
                checksum="crc32c" if small else None,
                crc32c_checksum_value=None if small else _crc32c(data),
                **self._patience,
            )
        return Generation(int(blob.generation))

    def _same_or_conflict(self, key: str, data: bytes | Path, reason: str) -> Generation:
        """Settle a failed precondition: our own write whose answer was lost, or somebody else's."""
        if isinstance(data, bytes):
            found = self.read(key)
            if found is not None and found.data == data:
                return found.generation
            raise self._conflict(key, reason)
        blob = self._blob(key)
        try:
            with explained(self.uri, key):
                blob.reload(**self._patience)
        except Missing:
            raise self._conflict(key, reason) from None
        if blob.size != data.stat().st_size or blob.crc32c != _crc32c(data):
            raise self._conflict(key, reason)
        return Generation(int(blob.generation))

    def _transfer(self, key: str, attempt: Callable[[], _T]) -> _T:
        """Make a transfer, and make it again if bytes were damaged on the way."""
        for _ in range(self._settings.transfers):
            with contextlib.suppress(Corrupt), explained(self.uri, key):
                return attempt()
        raise Unavailable(
            f"{self.uri}/{key}: bytes are damaged on the way or in the store",
            expected="the checksum that goes with them",
            got=f"another one, {self._settings.transfers} times",
            reason="CORRUPT_TRANSFER",
        )

    def _conflict(self, key: str, reason: str) -> Conflict:
        got = "other bytes are there" if reason == "EXISTS" else "it was changed or removed in between"
        return Conflict(f"{self.uri}: {key} was written by somebody else", got=got, reason=reason)


@contextlib.contextmanager
def _opened(data: bytes | Path) -> Iterator[tuple[IO[bytes], int]]:
    if isinstance(data, bytes):
        yield io.BytesIO(data), len(data)
        return
    with data.open("rb") as stream:
        yield stream, data.stat().st_size


def _require_checksum(blob: Any, data: bytes | Path) -> None:  # noqa: ANN401 - untyped library
    """Check a download as a whole: the client does not, once it went on after an interruption."""
    if blob.crc32c is not None and blob.crc32c != _crc32c(data):
        raise Corrupt


def _crc32c(data: bytes | Path) -> str:
    """Return the crc32c as Google Cloud Storage writes it: base64 of four bytes, most significant first."""
    import google_crc32c  # noqa: PLC0415 - comes with google-cloud-storage

    checksum: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    with _opened(data) as (stream, _):
        while chunk := stream.read(1 << 20):
            checksum.update(chunk)
    return base64.b64encode(checksum.digest()).decode()
