"""Downloads one file over HTTPS, resuming where the connection broke.

A part is continued only if the server says that it is still the same file (``Range`` with ``If-Range``, RFC 9110
section 13.1.5); otherwise the download starts again from its first byte.
"""

from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from components.core.clock import Clock
from components.core.errors import Rejected, Unavailable
from components.core.process import Progress, silent

_IDLE_S = 30.0
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_REDIRECTS = 10


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int,
    timeout_s: float,
    clock: Clock,
    progress: Progress = silent,
    client: httpx.Client | None = None,
) -> None:
    """Write what ``url`` holds to ``target``.

    Args:
        url: An ``https://`` URL; redirects may lead only to others of the same scheme.
        target: File to write; a partial one is continued only within this call.
        max_bytes: Bytes it may have.
        timeout_s: Seconds until it is given up, retries included.
        clock: For the deadline and the pauses.
        progress: Is told each retry.
        client: Client to use; one of our own if not given.

    Raises:
        Rejected: NOT_FOUND, FORBIDDEN, TOO_LARGE, or a redirect to another scheme.
        Unavailable: The server did not deliver it in time.
    """
    transfer = _Transfer(url, target, max_bytes, clock, clock.monotonic_s() + timeout_s)
    pause_s = 0.5
    with client or httpx.Client(timeout=_IDLE_S, max_redirects=_MAX_REDIRECTS) as session:
        while True:
            try:
                transfer.attempt(session)
            except (httpx.TransportError, _TryAgain) as error:
                if clock.monotonic_s() + pause_s > transfer.deadline:
                    raise transfer.gave_up(str(error) or type(error).__name__, timeout_s) from error
                progress(f"retrying after {transfer.written} bytes: {error}")
                clock.sleep(pause_s)
                pause_s = min(pause_s * 2, 30.0)
            else:
                return


class _TryAgain(Exception):
    """The server said that trying again may help, or ended too early."""


class _Transfer:
    """One file on its way: how much of it is here, and what tells whether it is still the same file."""

    def __init__(self, url: str, target: Path, max_bytes: int, clock: Clock, deadline: float) -> None:
        self.url, self.target, self.max_bytes = url, target, max_bytes
        self.clock, self.deadline = clock, deadline
        self.written = 0
        self._validator = ""
        target.unlink(missing_ok=True)

    def attempt(self, session: httpx.Client) -> None:
        """Ask once, and append what comes."""
        headers = {"Accept-Encoding": "identity"}
        if self.written and self._validator:
            headers |= {"Range": f"bytes={self.written}-", "If-Range": self._validator}
        url = self.url
        for _ in range(_MAX_REDIRECTS):
            with session.stream("GET", url, headers=headers, follow_redirects=False) as response:
                if not response.has_redirect_location:
                    self._receive(response)
                    return
                url = self._redirected(url, response.headers["location"])
        raise self._refused("NOT_FOUND", f"an answer within {_MAX_REDIRECTS} redirects", "more of them")

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        if urlsplit(target).scheme != urlsplit(self.url).scheme:
            raise self._refused(
                "REDIRECT", f"redirects to {urlsplit(self.url).scheme}:// only", urlsplit(target).scheme
            )
        return target

    def _receive(self, response: httpx.Response) -> None:
        self._require_success(response.status_code)
        if response.status_code != 206 or not self._continues(response):
            if response.status_code == 206:
                self.written, self._validator = 0, ""
                raise _TryAgain("the server sent another part than the one asked for")
            self.written = 0
            self._validator = _validator(response)
        length = response.headers.get("content-length", "")
        expected = self.written + int(length) if length.isdigit() else None
        if (expected or 0) > self.max_bytes:
            raise self._too_large(f"{expected} bytes")
        self._append(response)
        if expected is not None and self.written != expected:
            raise _TryAgain(f"{self.written} of {expected} bytes came")

    def _continues(self, response: httpx.Response) -> bool:
        begins: str = response.headers.get("content-range", "")
        return begins.startswith(f"bytes {self.written}-")

    def _append(self, response: httpx.Response) -> None:
        with self.target.open("r+b" if self.written else "wb") as stream:
            stream.seek(self.written)
            for chunk in response.iter_raw():
                if self.written + len(chunk) > self.max_bytes:
                    raise self._too_large("more")
                stream.write(chunk)
                self.written += len(chunk)
                if self.clock.monotonic_s() > self.deadline:
                    raise _TryAgain("the deadline passed")
            stream.truncate()

    def _require_success(self, status: int) -> None:
        if status in _RETRIED:
            raise _TryAgain(f"HTTP {status}")
        if status == 416:
            self.written, self._validator = 0, ""
            raise _TryAgain("HTTP 416: the file is shorter than before")
        if status in (401, 403):
            raise self._refused("FORBIDDEN", "a URL that needs no credentials, or a signed one", f"HTTP {status}")
        if status not in (200, 206):
            raise self._refused("NOT_FOUND", "HTTP 200", f"HTTP {status}")

    def _too_large(self, got: str) -> Rejected:
        return self._refused("TOO_LARGE", f"at most {self.max_bytes} bytes (source.fetch.max_bytes)", got)

    def _refused(self, reason: str, expected: str, got: str) -> Rejected:
        return Rejected(f"{_public(self.url)} cannot be fetched", expected=expected, got=got, reason=reason)

    def gave_up(self, why: str, timeout_s: float) -> Unavailable:
        """Return the error that says how far it came."""
        return Unavailable(
            f"{_public(self.url)} was not fetched within {timeout_s:g} s",
            expected="a server that answers",
            got=f"{why}; {self.written} bytes came",
            fix="try again later, or raise source.fetch.timeout_s",
            reason="TIMEOUT",
        )


def _validator(response: httpx.Response) -> str:
    """A strong validator, which alone may stand in If-Range; empty if there is none, and then nothing is resumed."""
    tag: str = response.headers.get("etag", "")
    modified: str = response.headers.get("last-modified", "")
    return tag if tag and not tag.startswith("W/") else modified if not tag else ""


def _public(url: str) -> str:
    """The URL without credentials or query, where signatures stand."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
