"""What google-cloud-storage raises, as one of our families."""

import contextlib
from collections.abc import Iterator

from components.core.errors import Bug, Rejected, Unavailable


class Missing(Exception):
    """404 for an object."""


class PreconditionFailed(Exception):
    """412."""


class Corrupt(Exception):
    """A checksum that does not fit."""


@contextlib.contextmanager
def explained(uri: str, key: str) -> Iterator[None]:
    """Turn whatever the client library raises into one of our families."""
    from google.api_core import exceptions as api  # noqa: PLC0415 - only a GCS store needs it
    from google.auth import exceptions as auth  # noqa: PLC0415 - only a GCS store needs it
    from google.cloud.storage import exceptions as media  # noqa: PLC0415 - only a GCS store needs it
    from requests import RequestException  # type: ignore[import-untyped] # noqa: PLC0415 - only a GCS store needs it

    try:
        yield
    except api.RetryError as error:
        raise _unavailable(uri, key, error.cause or error) from error
    except media.DataCorruption as error:
        raise Corrupt from error
    except media.InvalidResponse as error:
        raise _of_status(uri, key, error.response.status_code, error) from error
    except api.GoogleAPICallError as error:
        raise _of_status(uri, key, int(error.code or 0), error) from error
    except auth.GoogleAuthError as error:
        if getattr(error, "retryable", False):
            raise _unavailable(uri, key, error) from error
        raise _no_access(uri, error) from error
    except RequestException as error:
        raise _unavailable(uri, key, error) from error


def _of_status(uri: str, key: str, status: int, error: Exception) -> Exception:
    if status == 404:
        return no_bucket(uri) if "bucket does not exist" in str(error) else Missing()
    if status == 412:
        return PreconditionFailed()
    if status in (401, 403):
        return _no_access(uri, error)
    if status == 400 and ("crc32c" in str(error).lower() or "checksum" in str(error).lower()):
        return Corrupt()
    if status in (408, 429) or status >= 500:
        return _unavailable(uri, key, error)
    return _unexpected(uri, key, error)


def _unavailable(uri: str, key: str, error: BaseException) -> Unavailable:
    return Unavailable(
        f"{uri}: no answer about {key} within the retries",
        expected="an answer of Google Cloud Storage",
        got=_first_line(error),
        fix="run the same command again: finished steps are kept",
        reason="STORE_DOWN",
    )


def _no_access(uri: str, error: BaseException) -> Rejected:
    return Rejected(
        f"{uri}: access denied",
        expected="roles/storage.objectUser on the bucket (roles/storage.objectViewer to read only)",
        got=_first_line(error),
        fix="grant the role to the account that runs this, or log in with one that has it",
        reason="NO_ACCESS",
    )


def no_bucket(uri: str) -> Rejected:
    """Return the error of a bucket that does not exist."""
    return Rejected(
        f"{uri}: there is no such bucket",
        expected="a bucket that exists",
        got="404",
        fix="correct store.uri, or make the bucket",
        reason="NO_BUCKET",
    )


def _unexpected(uri: str, key: str, error: BaseException) -> Bug:
    return Bug(
        f"{uri}: Google Cloud Storage refused what was asked about {key}",
        got=_first_line(error),
        reason="STORE_REFUSED",
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
