"""What Slipway asks of object storage. Every write is conditional: nothing can be overwritten by accident.

The two writes settle by content when an answer was lost. ``create`` succeeds exactly if afterwards the key holds these
bytes and did not hold others before; ``replace`` succeeds exactly if it wrote, or finds its own bytes already there.
Whoever must be the only winner therefore writes bytes of its own (a token), and whoever repeats itself after a crash
writes the same bytes again and goes on.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NewType, Protocol

from components.core.errors import Rejected

Generation = NewType("Generation", int)
"""Names one state of one key: any write gives the key another one. Always above 0."""

_LONGEST_KEY = 1024
_LONGEST_PART = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Stored:
    """An object's content in bytes and the generation that it was read at."""

    data: bytes
    generation: Generation


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One row of a listing: key, size in bytes, generation, and when it was written (UTC)."""

    key: str
    size: int
    generation: Generation
    updated: datetime


class ObjectStore(Protocol):
    """A flat space of keys such as ``digits/1/saved_model.pb``.

    Every method raises Unavailable if the storage is down, full or too slow within its bounded retries, and Rejected if
    the bucket does not exist, access is denied, or a key is malformed (see :func:`check_key`).
    """

    @property
    def uri(self) -> str:
        """Where the store is, as a user writes it."""
        ...

    def read(self, key: str) -> Stored | None:
        """Return a small object, or None if there is none."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Write an object to the new file ``path`` in chunks, checked against the store's own checksum if it has one.

        Raises:
            Rejected: There is no such object (``NO_OBJECT``).
        """
        ...

    def create(self, key: str, data: bytes | Path) -> Generation:
        """Write an object that does not exist, or find there exactly these bytes.

        Args:
            key: Its key.
            data: Its content, or the file that holds it.

        Raises:
            Conflict: The key holds other bytes (``EXISTS``).
        """
        ...

    def replace(self, key: str, data: bytes | Path, generation: Generation) -> Generation:
        """Write over exactly one generation of an object, or find there exactly these bytes.

        Raises:
            Conflict: The object is not at ``generation`` any more (``CHANGED``).
        """
        ...

    def delete(self, key: str, generation: Generation) -> None:
        """Remove exactly one generation of an object; an object that is gone is no error.

        Raises:
            Conflict: The object is not at ``generation`` any more (``CHANGED``).
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with ``prefix``, in key order, a page at a time as they are asked for."""
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield each name that stands between ``prefix`` (empty, or ending in ``/``) and a following ``/``, once."""
        ...


def check_key(key: str) -> str:
    """Return ``key`` if it is one that every store can hold and that cannot leave its folder.

    Raises:
        Rejected: It is empty, too long, absolute, has an empty, ``.`` or ``..`` part, or control characters.
    """
    parts = key.split("/")
    wrong = (
        len(key.encode(errors="replace")) > _LONGEST_KEY
        or any(part in ("", ".", "..") or len(part.encode(errors="replace")) > _LONGEST_PART for part in parts)
        or _CONTROL.search(key)
        or "\\" in key
        or any("\ud800" <= letter <= "\udfff" for letter in key)
    )
    if wrong:
        raise Rejected(
            f"{key[:200]!r} cannot be an object's key",
            expected=f"parts joined by /, none of them empty, . or .., at most {_LONGEST_KEY} bytes of UTF-8 "
            f"({_LONGEST_PART} a part), no control character or backslash",
            fix="rename the file",
            reason="BAD_KEY",
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return the folder part of ``prefix`` (up to its last ``/``, without it), checked as a key is."""
    folder, slash, _ = prefix.rpartition("/")
    return check_key(folder) if slash else ""


def no_object(uri: str, key: str) -> Rejected:
    """Return the error of reading what is not there."""
    return Rejected(f"{uri} has no object {key}", expected="an object", got="none", reason="NO_OBJECT")
