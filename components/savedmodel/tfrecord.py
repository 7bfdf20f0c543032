"""The framing of TFRecord files, read without tensorflow (tensorflow/core/lib/io/record_reader.cc)."""

from collections.abc import Iterator
from pathlib import Path

from components.core.errors import Rejected

_HEADER, _FOOTER = 12, 4  # uint64 length and its crc32, the data, its crc32


def records(file: Path) -> Iterator[bytes]:
    """Yield the records of a file; checksums are not compared.

    Raises:
        Rejected: CORRUPT_WARMUP: a record is cut short, which would fail every load of a version that it warms up.
    """
    with file.open("rb") as stream:
        for at, length in _frames(file):
            stream.seek(at)
            yield stream.read(length)


def count(file: Path) -> int:
    """Return how many records a file has, without reading their data.

    Raises:
        Rejected: CORRUPT_WARMUP.
    """
    return sum(1 for _ in _frames(file))


def _frames(file: Path) -> Iterator[tuple[int, int]]:
    """Where the data of each record begins, and its bytes."""
    size, at = file.stat().st_size, 0
    with file.open("rb") as stream:
        while at < size:
            stream.seek(at)
            length = int.from_bytes(stream.read(_HEADER)[:8], "little")
            end = at + _HEADER + length + _FOOTER
            if end > size:
                raise Rejected(
                    f"{file}: the record at byte {at} is cut short",
                    expected="a TFRecord file of PredictionLog messages",
                    got=f"{size} bytes",
                    fix="write the warm-up requests again: a server refuses a version whose warm-up cannot be read",
                    reason="CORRUPT_WARMUP",
                )
            yield at + _HEADER, length
            at = end
